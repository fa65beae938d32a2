//! From tokens to money.
//!
//! The cost of a call is summed in pico-dollars and rounded up once, to a nano-dollar. The bound of a call is computed by
//! the same prices, each token at the dearest price of its class, so that a known cost is never above a known bound.

use crate::money::MoneyError;
use crate::usage::TokenUsage;
use crate::{Price, Usd};

/// Prices of one endpoint, in pico-dollars per unit (contract section 13, `pricing`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PriceList {
    /// Per prompt token.
    pub prompt: Price,
    /// Per completion token.
    pub completion: Price,
    /// Per request.
    pub request: Price,
    /// Per image of the prompt.
    pub image: Price,
    /// Per prompt token read from a cache; `None` costs as `prompt`.
    pub input_cache_read: Option<Price>,
    /// Per prompt token written to a cache; `None` costs as `prompt`.
    pub input_cache_write: Option<Price>,
    /// Per reasoning token where it differs from `completion`; `None` or zero costs as `completion`.
    pub internal_reasoning: Option<Price>,
}

/// The cost of a call, each figure in USD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// All of it, rounded up once.
    pub total: Usd,
    /// The prompt's part, rounded down, so that the parts sum to the total.
    pub prompt: Usd,
    /// The total less the prompt's part.
    pub completion: Usd,
}

/// What a call carries that is billed besides tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediaUnits {
    /// Images in the prompt.
    pub images: u64,
}

impl PriceList {
    /// What `tokens` cost (contract section 17.2).
    ///
    /// # Errors
    /// [`MoneyError::TooLarge`] where the cost does not fit.
    pub fn cost(&self, tokens: &TokenUsage, media: MediaUnits) -> Result<Cost, MoneyError> {
        let (prompt, completion) = self.picos(tokens, media);
        let total = Usd::from_picos_up(prompt.saturating_add(completion))?;
        let prompt_floor = i64::try_from(prompt.div_euclid(1_000)).map_err(|_| MoneyError::TooLarge)?;
        // A completion that costs nothing leaves its part at zero; the rounding then belongs to the prompt.
        let prompt = if completion == 0 { total } else { Usd::from_nanos(prompt_floor) };
        Ok(Cost { total, prompt, completion: total.minus(prompt)? })
    }

    /// The same before it is rounded, in pico-dollars.
    pub fn list_picos(&self, tokens: &TokenUsage, media: MediaUnits) -> i128 {
        let (prompt, completion) = self.picos(tokens, media);
        prompt.saturating_add(completion)
    }

    /// Prompt and completion, in pico-dollars.
    fn picos(&self, tokens: &TokenUsage, media: MediaUnits) -> (i128, i128) {
        let plain = tokens.prompt.saturating_sub(tokens.cached).saturating_sub(tokens.cache_write);
        let prompt = [
            self.prompt.times(plain),
            self.input_cache_read.unwrap_or(self.prompt).times(tokens.cached),
            self.input_cache_write.unwrap_or(self.prompt).times(tokens.cache_write),
            self.image.times(media.images),
            self.request.times(1),
        ]
        .into_iter()
        .fold(0_i128, i128::saturating_add);
        let spoken = tokens.completion.saturating_sub(tokens.reasoning);
        let completion = self.completion.times(spoken).saturating_add(self.reasoning_price().times(tokens.reasoning));
        (prompt, completion)
    }

    /// The dearest that one prompt token can be.
    pub fn dearest_prompt(&self) -> Price {
        [self.input_cache_read, self.input_cache_write].into_iter().flatten().fold(self.prompt, Price::max)
    }

    /// The dearest that one completion token can be.
    pub fn dearest_completion(&self) -> Price {
        self.completion.max(self.reasoning_price())
    }

    fn reasoning_price(&self) -> Price {
        match self.internal_reasoning {
            Some(price) if price > Price::ZERO => price,
            _ => self.completion,
        }
    }
}

/// How many completion tokens a call may produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputCap {
    /// The caller's own cap: never lowered.
    Asked(u64),
    /// The caller set none: as many as the tightest budget affords, at most `most`, at least `least`.
    Open {
        /// The model's own maximum.
        most: u64,
        /// Fewer are no use: the call is refused instead.
        least: u64,
    },
}

impl OutputCap {
    /// The most tokens per choice that this cap lets through.
    pub const fn most(self) -> u64 {
        match self {
            Self::Asked(cap) => cap,
            Self::Open { most, .. } => most,
        }
    }

    /// The fewest tokens per choice that the call makes sense with.
    pub fn least(self) -> u64 {
        match self {
            Self::Asked(cap) => cap,
            Self::Open { most, least } => least.min(most),
        }
    }
}

/// The bound of a call: what it can cost at most, as a function of its output cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The most prompt tokens that the call can be counted as.
    pub prompt_tokens: u64,
    /// What the prompt, the request and its media cost at most, in pico-dollars.
    pub fixed_picos: i128,
    /// The dearest price of a completion token.
    pub completion: Price,
    /// How many choices are asked for; each may use the whole cap.
    pub choices: u64,
    /// The cap on completion tokens of each choice.
    pub cap: OutputCap,
    /// Whether something in the call can change its price in a way that the price list does not know: then this is no
    /// bound, and no budget admits the call.
    pub open_ended: bool,
}

impl Bound {
    /// The bound of a call to an endpoint with `prices`.
    pub fn new(prices: &PriceList, prompt_tokens: u64, media: MediaUnits, choices: u64, cap: OutputCap) -> Self {
        let fixed_picos = prices
            .dearest_prompt()
            .times(prompt_tokens)
            .saturating_add(prices.image.times(media.images))
            .saturating_add(prices.request.times(1));
        Self { prompt_tokens, fixed_picos, completion: prices.dearest_completion(), choices, cap, open_ended: false }
    }

    /// The highest list price of the call with `cap` completion tokens a choice, in pico-dollars.
    pub fn picos_at(&self, cap: u64) -> i128 {
        self.fixed_picos.saturating_add(self.per_cap_token().saturating_mul(i128::from(cap)))
    }

    /// The same in USD.
    ///
    /// # Errors
    /// [`MoneyError::TooLarge`] where that does not fit.
    pub fn at(&self, cap: u64) -> Result<Usd, MoneyError> {
        Usd::from_picos_up(self.picos_at(cap))
    }

    /// The largest cap whose bound is a list price of `picos` pico-dollars at the most; `None` where not even the prompt is.
    pub fn cap_within(&self, picos: i128) -> Option<u64> {
        let left = picos.saturating_sub(self.fixed_picos);
        if left < 0 {
            return None;
        }
        match left.checked_div(self.per_cap_token()) {
            None => Some(u64::MAX),
            Some(tokens) => Some(u64::try_from(tokens).unwrap_or(u64::MAX)),
        }
    }

    /// How many of the prompt's tokens fit into a list price of `picos` pico-dollars, when none is left for an answer.
    pub fn prompt_within(&self, picos: i128) -> u64 {
        let room = picos.max(0).min(self.fixed_picos);
        let tokens = room.saturating_mul(i128::from(self.prompt_tokens)).checked_div(self.fixed_picos);
        tokens.and_then(|tokens| u64::try_from(tokens).ok()).unwrap_or(self.prompt_tokens)
    }

    fn per_cap_token(&self) -> i128 {
        self.completion.times(self.choices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prices() -> PriceList {
        PriceList {
            prompt: Price::from_picos(150_000),
            completion: Price::from_picos(600_000),
            input_cache_read: Some(Price::from_picos(75_000)),
            ..PriceList::default()
        }
    }

    #[test]
    fn the_cost_is_rounded_up_once_and_its_parts_add_up() {
        let odd = PriceList { prompt: Price::from_picos(37), completion: Price::from_picos(1), ..PriceList::default() };
        let tokens = TokenUsage { prompt: 3, completion: 2, ..TokenUsage::default() };
        let cost = odd.cost(&tokens, MediaUnits::default()).unwrap();
        assert_eq!(cost.total, Usd::from_nanos(1));
        assert_eq!(cost.prompt.plus(cost.completion), Ok(cost.total));
    }

    #[test]
    fn a_cached_token_costs_its_own_price() {
        let tokens = TokenUsage { prompt: 10, cached: 4, completion: 5, ..TokenUsage::default() };
        let cost = prices().cost(&tokens, MediaUnits::default()).unwrap();
        assert_eq!(cost.total, Usd::from_nanos(6 * 150 + 4 * 75 + 5 * 600));
    }

    proptest! {
        #[test]
        fn a_plausible_cost_is_never_above_the_bound(
            p in 0_i64..10_000_000, c in 0_i64..10_000_000, r in proptest::option::of(0_i64..10_000_000),
            w in proptest::option::of(0_i64..10_000_000), i in proptest::option::of(0_i64..10_000_000),
            prompt in 0_u64..200_000, cap in 0_u64..100_000, split in 0_u64..=100,
        ) {
            let list = PriceList {
                prompt: Price::from_picos(p), completion: Price::from_picos(c), request: Price::from_picos(7),
                input_cache_read: r.map(Price::from_picos), input_cache_write: w.map(Price::from_picos),
                internal_reasoning: i.map(Price::from_picos), ..PriceList::default()
            };
            let cached = prompt * split / 100;
            let tokens = TokenUsage {
                prompt, cached, cache_write: (prompt - cached) / 2, completion: cap, reasoning: cap * split / 100,
                ..TokenUsage::default()
            };
            let bound = Bound::new(&list, prompt, MediaUnits::default(), 1, OutputCap::Asked(cap));
            prop_assert!(list.cost(&tokens, MediaUnits::default()).unwrap().total <= bound.at(cap).unwrap());
        }

        #[test]
        fn the_cap_within_a_room_is_the_largest_that_fits(room in 0_i64..1_000_000, price in 1_i64..100_000, fixed in 0_u64..500) {
            let list = PriceList { prompt: Price::from_picos(price), completion: Price::from_picos(price), ..PriceList::default() };
            let bound = Bound::new(&list, fixed, MediaUnits::default(), 2, OutputCap::Asked(1));
            let room = Usd::from_nanos(room);
            match bound.cap_within(room.picos()) {
                None => prop_assert!(bound.at(0).unwrap() > room),
                Some(cap) => {
                    prop_assert!(bound.at(cap).unwrap() <= room);
                    prop_assert!(bound.at(cap + 1).unwrap() > room);
                }
            }
        }
    }
}
