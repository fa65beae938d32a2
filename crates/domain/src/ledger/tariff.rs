//! What a call costs in each kind of money, as a function of its price in the list.
//!
//! A call on the account's own capacity costs its list price in credits. One under a workspace's own provider credential
//! costs the account a fee, and its list price counts as BYOK usage. Fee and list price round apart, each up once.

use super::{Amounts, MoneyKind};
use crate::Usd;
use crate::money::{Excess, MoneyError, PICOS_PER_NANO};

/// All of a list price, in the unit of fees.
const WHOLE: i128 = 1_000_000_000;
/// Nano-units of one percent in a billionth of the whole.
const NANOS_PER_PART: i64 = 100;
/// How far apart, in pico-dollars, two amounts that are each rounded up to a nano-dollar can be from their exact sum.
const ROUNDED_TWICE: i128 = 2 * PICOS_PER_NANO;

/// The part of its list price that a call under an own provider credential costs in credits, in billionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fee(u32);

/// The text is no percentage that is kept exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a percentage from 0 to 100 with seven decimals at the most")]
pub struct NotAPercentage;

impl Fee {
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// Parses a percentage such as `5` or `0.25`.
    ///
    /// # Errors
    /// [`NotAPercentage`].
    pub fn percent(text: &str) -> Result<Self, NotAPercentage> {
        let nanos = Usd::parse(text, Excess::Refuse).map_err(|_| NotAPercentage)?.nanos();
        let exact = nanos.checked_rem(NANOS_PER_PART) == Some(0);
        let parts = nanos.checked_div(NANOS_PER_PART).and_then(|parts| u32::try_from(parts).ok());
        parts.filter(|parts| exact && i128::from(*parts) <= WHOLE).map(Self).ok_or(NotAPercentage)
    }

    /// The fee on a list price, rounded up to a nano-dollar.
    fn of(self, picos: i128) -> Result<Usd, MoneyError> {
        i64::try_from(self.nanos_of(picos)).map(Usd::from_nanos).map_err(|_| MoneyError::TooLarge)
    }

    fn nanos_of(self, picos: i128) -> i128 {
        up(picos.saturating_mul(i128::from(self.0)), WHOLE.saturating_mul(PICOS_PER_NANO))
    }
}

/// `amount` in whole `units`, rounded up. Neither is negative.
fn up(amount: i128, units: i128) -> i128 {
    amount.saturating_add(units.saturating_sub(1)).checked_div(units).unwrap_or(i128::MAX)
}

/// Who pays for a call, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tariff {
    /// The account: the list price, in credits.
    Credits,
    /// The owner of a provider credential pays the provider: the list price is BYOK usage, and the fee is in credits.
    Byok(Fee),
}

impl Tariff {
    /// What a call at a list price of `picos` pico-dollars costs.
    ///
    /// # Errors
    /// [`MoneyError::TooLarge`] where that does not fit.
    pub fn charge(self, picos: i128) -> Result<Amounts, MoneyError> {
        let list = Usd::from_picos_up(picos)?;
        match self {
            Self::Credits => Ok(Amounts::credits(list)),
            Self::Byok(fee) => Ok(Amounts { credits: fee.of(picos)?, byok: list }),
        }
    }

    /// The kind of money that the list price is in.
    pub const fn list_kind(self) -> MoneyKind {
        match self {
            Self::Credits => MoneyKind::Credits,
            Self::Byok(_) => MoneyKind::Byok,
        }
    }

    /// Whether anything that a call costs counts in a budget that includes BYOK usage, or does not.
    pub const fn counts(self, include_byok: bool) -> bool {
        match self {
            Self::Credits => true,
            Self::Byok(Fee(parts)) => include_byok || parts > 0,
        }
    }

    /// The highest list price, in pico-dollars, of which no more than `room` counts in a budget. Negative where not even a
    /// call that costs nothing fits.
    pub fn list_within(self, room: Usd, include_byok: bool) -> i128 {
        let Self::Byok(fee) = self else { return room.picos() };
        if room < Usd::ZERO {
            return room.picos();
        }
        let scaled = room.picos().saturating_mul(WHOLE);
        let parts = i128::from(fee.0);
        if !include_byok {
            return scaled.checked_div(parts).unwrap_or(i128::MAX);
        }
        // Both parts are rounded up, so the exact quotient may be a little too high, by less than two nano-dollars.
        let counted = |picos: i128| fee.nanos_of(picos).saturating_add(up(picos, PICOS_PER_NANO));
        let most = i128::from(room.nanos());
        let mut high = scaled.checked_div(WHOLE.saturating_add(parts)).unwrap_or(i128::MAX);
        let mut low = high.saturating_sub(ROUNDED_TWICE).max(0);
        while low < high {
            let middle = high.saturating_sub(high.saturating_sub(low) >> 1);
            if counted(middle) <= most {
                low = middle;
            } else {
                high = middle.saturating_sub(1);
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_percentage_is_exact_or_refused() {
        for (text, parts) in [
            ("0", 0),
            ("5", 50_000_000),
            ("0.0000001", 1),
            ("100", 1_000_000_000),
            ("5e-1", 5_000_000),
            ("2.50", 25_000_000),
        ] {
            assert_eq!(Fee::percent(text), Ok(Fee(parts)), "{text}");
        }
        for bad in ["-1", "100.0000001", "0.00000001", "5%", "", "much", "1e300"] {
            assert_eq!(Fee::percent(bad), Err(NotAPercentage), "{bad}");
        }
    }

    #[test]
    fn fee_and_list_price_round_apart() {
        let five = Tariff::Byok(Fee::percent("5").unwrap());
        // 1.001 nano-dollars: the list price is 2, five percent of it are 0.05005 and cost 1.
        assert_eq!(five.charge(1_001), Ok(Amounts { credits: Usd::from_nanos(1), byok: Usd::from_nanos(2) }));
        // 40 percent of 2.4 are less than 1; of the 3 that 2.4 is rounded up to, they would be more.
        let forty = Tariff::Byok(Fee::percent("40").unwrap());
        assert_eq!(forty.charge(2_400), Ok(Amounts { credits: Usd::from_nanos(1), byok: Usd::from_nanos(3) }));
        assert_eq!(five.charge(0), Ok(Amounts::default()));
        let all = Tariff::Byok(Fee::percent("100").unwrap());
        assert_eq!(all.charge(1_500), Ok(Amounts { credits: Usd::from_nanos(2), byok: Usd::from_nanos(2) }));
        assert_eq!(Tariff::Credits.charge(1_500), Ok(Amounts::credits(Usd::from_nanos(2))));
        assert_eq!(Tariff::Byok(Fee::NONE).charge(1_500).unwrap().credits, Usd::ZERO);
        assert_eq!(all.charge(i128::MAX), Err(MoneyError::TooLarge));
    }

    proptest! {
        #[test]
        fn the_list_price_within_a_room_is_the_highest_that_fits(
            room in prop_oneof![0_i64..5_000, 0..=i64::MAX / 4], include in any::<bool>(), own in any::<bool>(),
            parts in prop_oneof![Just(0_u32), Just(1), Just(50_000_000), Just(1_000_000_000), 0_u32..=1_000_000_000],
        ) {
            let tariff = if own { Tariff::Byok(Fee(parts)) } else { Tariff::Credits };
            let room = Usd::from_nanos(room);
            let most = tariff.list_within(room, include);
            if !tariff.counts(include) {
                prop_assert_eq!(most, i128::MAX);
                return Ok(());
            }
            let counted = |picos: i128| {
                let all = tariff.charge(picos).unwrap();
                i128::from(all.credits.nanos()) + if include { i128::from(all.byok.nanos()) } else { 0 }
            };
            // A fee of next to nothing leaves room for more than an amount can say.
            if most < i128::from(i64::MAX) * PICOS_PER_NANO {
                prop_assert!(counted(most) <= i128::from(room.nanos()));
                prop_assert!(counted(most + 1) > i128::from(room.nanos()));
            }
            prop_assert!(tariff.list_within(Usd::from_nanos(-1), include) < 0);
        }
    }
}
