//! May a call spend? The whole rule; storage engines record the answer and never find it themselves.

use super::{Amounts, BudgetState, Tariff};
use crate::Usd;
use crate::money::MoneyError;
use crate::pricing::{Bound, OutputCap};

/// The answer to a call that wants to spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may, up to `hold`.
    Granted {
        /// What is held until the call settles: what its bound at `cap` costs.
        hold: Amounts,
        /// The output cap, in tokens a choice, that the provider is told.
        cap: u64,
    },
    /// It may not.
    Refused(Refusal),
}

/// The budget that refuses a call, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The budget, with what it has spent and holds.
    pub state: BudgetState,
    /// Why.
    pub reason: RefusalReason,
}

/// Why a budget refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// Something in the call leaves the price list, so that nobody knows what it can cost.
    Unbounded,
    /// All of it is spent.
    Spent,
    /// Something is left, but never enough for this call.
    NeverFits {
        /// Completion tokens a choice that were wanted at least.
        wanted: u64,
        /// Completion tokens a choice that would fit; `None` where the prompt alone does not.
        affordable: Option<u64>,
        /// The bound on prompt tokens.
        prompt_tokens: u64,
        /// Prompt tokens at most that would fit.
        affordable_prompt: u64,
    },
    /// It would fit if calls in flight cost nothing: worth trying again when they have settled.
    InFlight,
}

/// May a call with this bound be admitted? `budgets` are those that apply, in the contract's enforcement order; `tariff`
/// says what the call costs in each kind of money, and so what of it counts in each of them.
///
/// Budgets in which nothing of it counts do not apply to it. A call without a bound is for keys without a budget. Then
/// three passes over that order: a budget already spent refuses, then one that the call could never fit, then one that it
/// fits only after others settle. The first hit names the layer. A call that can cost nothing passes unless a budget is
/// overspent.
///
/// # Errors
/// [`MoneyError::TooLarge`]: the bound itself does not fit an amount of money, whatever the budgets.
pub fn decide(budgets: &[BudgetState], bound: &Bound, tariff: Tariff) -> Result<Decision, MoneyError> {
    let applying = || budgets.iter().filter(|state| tariff.counts(state.budget.include_byok));
    let least = bound.cap.least();
    let least_cost = tariff.charge(bound.picos_at(least))?;
    let cost = |state: &BudgetState| least_cost.counted(state.budget.include_byok);
    let list_within = |state: &BudgetState, room: Usd| tariff.list_within(room, state.budget.include_byok);
    let refuse = |state: &BudgetState, reason| Ok(Decision::Refused(Refusal { state: *state, reason }));

    if let Some(state) = applying().next().filter(|_| bound.open_ended) {
        return refuse(state, RefusalReason::Unbounded);
    }
    let spent = |state: &&BudgetState| {
        let left = state.remaining();
        left < Usd::ZERO || (left == Usd::ZERO && cost(state) > Usd::ZERO)
    };
    if let Some(state) = applying().find(spent) {
        return refuse(state, RefusalReason::Spent);
    }
    if let Some(state) = applying().find(|state| cost(state) > state.remaining()) {
        let left = list_within(state, state.remaining());
        let reason = RefusalReason::NeverFits {
            wanted: least,
            affordable: bound.cap_within(left),
            prompt_tokens: bound.prompt_tokens,
            affordable_prompt: bound.prompt_within(left),
        };
        return refuse(state, reason);
    }
    if let Some(state) = applying().find(|state| cost(state) > Usd::ZERO && cost(state) > state.free()) {
        return refuse(state, RefusalReason::InFlight);
    }
    let cap = match bound.cap {
        OutputCap::Asked(cap) => cap,
        OutputCap::Open { most, .. } => {
            let fits = |state: &BudgetState| bound.cap_within(list_within(state, state.free()));
            applying().filter_map(fits).fold(most, u64::min).max(least)
        }
    };
    let hold = tariff.charge(bound.picos_at(cap))?;
    Ok(Decision::Granted { hold, cap })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Price;
    use crate::ledger::{Budget, BudgetScope, Fee};
    use crate::pricing::{MediaUnits, PriceList};
    use proptest::prelude::*;

    fn state(limit: i64, spent: i64, held: i64) -> BudgetState {
        let budget = Budget {
            scope: BudgetScope::Key,
            limit: Usd::from_nanos(limit),
            reset: None,
            include_byok: false,
            source: None,
        };
        BudgetState { budget, spent: Usd::from_nanos(spent), held: Usd::from_nanos(held), resets_at: None }
    }

    /// One nano-dollar a token, `prompt` tokens.
    fn bound(prompt: u64, cap: OutputCap) -> Bound {
        let price = Price::from_picos(1_000);
        let prices = PriceList { prompt: price, completion: price, ..PriceList::default() };
        Bound::new(&prices, prompt, MediaUnits::default(), 1, cap)
    }

    fn reason(budgets: &[BudgetState], bound: &Bound) -> RefusalReason {
        match decide(budgets, bound, Tariff::Credits) {
            Ok(Decision::Refused(refusal)) => refusal.reason,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[test]
    fn a_spent_budget_refuses_before_a_tight_one() {
        let budgets = [state(100, 95, 0), state(50, 50, 0)];
        assert_eq!(reason(&budgets, &bound(5, OutputCap::Asked(10))), RefusalReason::Spent);
    }

    #[test]
    fn a_call_that_never_fits_learns_how_many_tokens_would() {
        let never =
            RefusalReason::NeverFits { wanted: 90, affordable: Some(70), prompt_tokens: 10, affordable_prompt: 10 };
        assert_eq!(reason(&[state(100, 20, 0)], &bound(10, OutputCap::Asked(90))), never);
        let prompt =
            RefusalReason::NeverFits { wanted: 1, affordable: None, prompt_tokens: 200, affordable_prompt: 80 };
        assert_eq!(reason(&[state(100, 20, 0)], &bound(200, OutputCap::Asked(1))), prompt);
    }

    #[test]
    fn a_call_that_fits_after_others_settle_is_told_to_come_back() {
        assert_eq!(reason(&[state(100, 20, 50)], &bound(10, OutputCap::Asked(30))), RefusalReason::InFlight);
    }

    #[test]
    fn a_call_without_a_bound_needs_a_key_without_a_budget() {
        let call = Bound { open_ended: true, ..bound(1, OutputCap::Asked(1)) };
        assert_eq!(reason(&[state(100, 0, 0)], &call), RefusalReason::Unbounded);
        assert!(matches!(decide(&[], &call, Tariff::Credits), Ok(Decision::Granted { .. })));
        // Nothing of it counts in that budget; a fee would.
        assert!(matches!(decide(&[state(100, 0, 0)], &call, Tariff::Byok(Fee::NONE)), Ok(Decision::Granted { .. })));
        let fee = Tariff::Byok(Fee::percent("5").unwrap());
        assert!(matches!(decide(&[state(100, 0, 0)], &call, fee), Ok(Decision::Refused(_))));
    }

    #[test]
    fn an_open_cap_takes_what_the_tightest_budget_affords() {
        let open = OutputCap::Open { most: 1_000, least: 16 };
        let budgets = [state(500, 0, 0), state(100, 20, 30)];
        let granted = Decision::Granted { hold: Amounts::credits(Usd::from_nanos(50)), cap: 40 };
        assert_eq!(decide(&budgets, &bound(10, open), Tariff::Credits), Ok(granted));
        assert_eq!(reason(&[state(100, 20, 60)], &bound(10, open)), RefusalReason::InFlight);
    }

    #[test]
    fn a_call_that_costs_nothing_passes_unless_the_budget_is_overspent() {
        let free = Bound::new(&PriceList::default(), 10, MediaUnits::default(), 1, OutputCap::Asked(5));
        let granted = Decision::Granted { hold: Amounts::default(), cap: 5 };
        assert_eq!(decide(&[state(0, 0, 0)], &free, Tariff::Credits), Ok(granted));
        assert_eq!(reason(&[state(10, 11, 0)], &free), RefusalReason::Spent);
        assert_eq!(reason(&[state(0, 0, 0)], &bound(1, OutputCap::Asked(1))), RefusalReason::Spent);
    }

    #[test]
    fn under_an_own_credential_the_fee_counts_everywhere_and_the_list_price_where_byok_is_included() {
        let five = Tariff::Byok(Fee::percent("5").unwrap());
        let including = |limit| BudgetState {
            budget: Budget { include_byok: true, ..state(limit, 0, 0).budget },
            ..state(limit, 0, 0)
        };
        let call = bound(0, OutputCap::Asked(100));
        let hold = Amounts { credits: Usd::from_nanos(5), byok: Usd::from_nanos(100) };
        let granted = Ok(Decision::Granted { hold, cap: 100 });
        assert_eq!(decide(&[state(5, 0, 0), including(105)], &call, five), granted);
        assert!(matches!(decide(&[state(4, 0, 0)], &call, five), Ok(Decision::Refused(_))));
        assert!(matches!(decide(&[including(104)], &call, five), Ok(Decision::Refused(_))));
        // An open cap is the largest that fits both: 19 tokens and their fee, rounded up, are 20.
        let open = bound(0, OutputCap::Open { most: 1_000, least: 1 });
        let hold = Amounts { credits: Usd::from_nanos(1), byok: Usd::from_nanos(19) };
        let granted = Ok(Decision::Granted { hold, cap: 19 });
        assert_eq!(decide(&[state(5, 0, 0), including(20)], &open, five), granted);
        // What costs the account nothing passes where BYOK usage does not count, overspent or not.
        assert!(matches!(decide(&[state(10, 11, 0)], &call, Tariff::Byok(Fee::NONE)), Ok(Decision::Granted { .. })));
    }

    fn tariffs() -> impl Strategy<Value = Tariff> {
        let fee = prop_oneof![Just("0"), Just("0.0000001"), Just("5"), Just("33.3"), Just("100")];
        prop_oneof![Just(Tariff::Credits), fee.prop_map(|percent| Tariff::Byok(Fee::percent(percent).unwrap()))]
    }

    proptest! {
        #[test]
        fn a_grant_never_exceeds_what_is_free_and_a_refusal_is_never_needless(
            limits in proptest::collection::vec((0_i64..1_000, 0_i64..1_000, 0_i64..1_000, any::<bool>()), 0..4),
            prompt in 0_u64..200, asked in 1_u64..500, open in any::<bool>(), tariff in tariffs(), picos in 1_i64..3_000,
        ) {
            let budgets: Vec<_> = limits.iter().map(|(l, s, h, include_byok)| {
                let state = state(*l, *s, *h);
                BudgetState { budget: Budget { include_byok: *include_byok, ..state.budget }, ..state }
            }).collect();
            let cap = if open { OutputCap::Open { most: asked, least: 16 } } else { OutputCap::Asked(asked) };
            let price = Price::from_picos(picos);
            let prices = PriceList { prompt: price, completion: price, ..PriceList::default() };
            let bound = Bound::new(&prices, prompt, MediaUnits::default(), 1, cap);
            let counted = |cap: u64, state: &BudgetState| {
                tariff.charge(bound.picos_at(cap)).unwrap().counted(state.budget.include_byok)
            };
            let fits = |cap: u64| budgets.iter().all(|state| !tariff.counts(state.budget.include_byok) || counted(cap, state) <= state.free());
            match decide(&budgets, &bound, tariff).unwrap() {
                Decision::Granted { hold, cap: granted } => {
                    prop_assert!(fits(granted));
                    prop_assert!(granted >= cap.least() && granted <= cap.most());
                    prop_assert_eq!(hold, tariff.charge(bound.picos_at(granted)).unwrap());
                    prop_assert!(granted == cap.most() || !fits(granted + 1), "{} tokens would fit as well", granted + 1);
                }
                Decision::Refused(_) => prop_assert!(!fits(cap.least())),
            }
        }
    }
}
