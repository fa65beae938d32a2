//! May a call spend? The whole rule; storage engines record the answer and never find it themselves.

use super::{BudgetState, MoneyKind};
use crate::Usd;
use crate::money::MoneyError;
use crate::pricing::{Bound, OutputCap};

/// The answer to a call that wants to spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may, up to `hold`.
    Granted {
        /// What is held until the call settles: its bound at `cap`.
        hold: Usd,
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

/// May a call with this bound be admitted? `budgets` are those that apply, in the contract's enforcement order.
///
/// A call without a bound is for keys without a budget. Then three passes over that order: a budget already spent refuses, then one that the call could never fit, then one that it
/// fits only after others settle. The first hit names the layer. A call that can cost nothing passes unless a budget is
/// overspent.
///
/// # Errors
/// [`MoneyError::TooLarge`]: the bound itself does not fit an amount of money, whatever the budgets.
pub fn decide(budgets: &[BudgetState], bound: &Bound, kind: MoneyKind) -> Result<Decision, MoneyError> {
    let applying = || budgets.iter().filter(|state| state.counts(kind));
    let least = bound.cap.least();
    let least_cost = bound.at(least)?;
    let refuse = |state: &BudgetState, reason| Ok(Decision::Refused(Refusal { state: *state, reason }));

    if let Some(state) = applying().next().filter(|_| bound.open_ended) {
        return refuse(state, RefusalReason::Unbounded);
    }
    let spent = |state: &&BudgetState| {
        let left = state.remaining();
        left < Usd::ZERO || (left == Usd::ZERO && least_cost > Usd::ZERO)
    };
    if let Some(state) = applying().find(spent) {
        return refuse(state, RefusalReason::Spent);
    }
    if let Some(state) = applying().find(|state| least_cost > state.remaining()) {
        let reason = RefusalReason::NeverFits {
            wanted: least,
            affordable: bound.cap_within(state.remaining()),
            prompt_tokens: bound.prompt_tokens,
            affordable_prompt: bound.prompt_within(state.remaining()),
        };
        return refuse(state, reason);
    }
    if let Some(state) = applying().find(|state| least_cost > Usd::ZERO && least_cost > state.free()) {
        return refuse(state, RefusalReason::InFlight);
    }
    let cap = match bound.cap {
        OutputCap::Asked(cap) => cap,
        OutputCap::Open { most, .. } => {
            applying().filter_map(|state| bound.cap_within(state.free())).fold(most, u64::min).max(least)
        }
    };
    let hold = bound.at(cap)?;
    debug_assert!(hold == Usd::ZERO || applying().all(|state| hold <= state.free()), "a grant fits every budget");
    Ok(Decision::Granted { hold, cap })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Price;
    use crate::ledger::{Budget, BudgetScope};
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
        match decide(budgets, bound, MoneyKind::Credits) {
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
        assert!(matches!(decide(&[], &call, MoneyKind::Credits), Ok(Decision::Granted { .. })));
        // Money of this kind does not count against that budget.
        assert!(matches!(decide(&[state(100, 0, 0)], &call, MoneyKind::Byok), Ok(Decision::Granted { .. })));
    }

    #[test]
    fn an_open_cap_takes_what_the_tightest_budget_affords() {
        let open = OutputCap::Open { most: 1_000, least: 16 };
        let budgets = [state(500, 0, 0), state(100, 20, 30)];
        let granted = Decision::Granted { hold: Usd::from_nanos(50), cap: 40 };
        assert_eq!(decide(&budgets, &bound(10, open), MoneyKind::Credits), Ok(granted));
        assert_eq!(reason(&[state(100, 20, 60)], &bound(10, open)), RefusalReason::InFlight);
    }

    #[test]
    fn a_call_that_costs_nothing_passes_unless_the_budget_is_overspent() {
        let free = Bound::new(&PriceList::default(), 10, MediaUnits::default(), 1, OutputCap::Asked(5));
        let granted = Decision::Granted { hold: Usd::ZERO, cap: 5 };
        assert_eq!(decide(&[state(0, 0, 0)], &free, MoneyKind::Credits), Ok(granted));
        assert_eq!(reason(&[state(10, 11, 0)], &free), RefusalReason::Spent);
        assert_eq!(reason(&[state(0, 0, 0)], &bound(1, OutputCap::Asked(1))), RefusalReason::Spent);
    }

    proptest! {
        #[test]
        fn a_grant_never_exceeds_what_is_free_and_a_refusal_is_never_needless(
            limits in proptest::collection::vec((0_i64..1_000, 0_i64..1_000, 0_i64..1_000), 0..4),
            prompt in 0_u64..200, asked in 1_u64..500, open in any::<bool>(),
        ) {
            let budgets: Vec<_> = limits.iter().map(|(l, s, h)| state(*l, *s, *h)).collect();
            let cap = if open { OutputCap::Open { most: asked, least: 16 } } else { OutputCap::Asked(asked) };
            let bound = bound(prompt, cap);
            let least = bound.at(cap.least()).unwrap();
            match decide(&budgets, &bound, MoneyKind::Credits).unwrap() {
                Decision::Granted { hold, cap: granted } => {
                    prop_assert!(budgets.iter().all(|b| hold <= b.free()));
                    prop_assert!(granted >= cap.least() && granted <= cap.most());
                    prop_assert_eq!(hold, bound.at(granted).unwrap());
                }
                Decision::Refused(_) => prop_assert!(budgets.iter().any(|b| least > b.free())),
            }
        }
    }
}
