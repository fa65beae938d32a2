//! The ledger's rules: what is spent, what is held, and whether more may be.

mod balance;
mod book;
mod budget;
mod closed;
mod decide;
mod rules;
mod tariff;

pub use balance::{Amounts, Balance, Counter, MoneyKind};
pub use book::{Book, Closed, Correction, KeyAccount, Open, ReserveOutcome, Scope, Spender};
pub use budget::{Budget, BudgetScope, BudgetState};
pub use decide::{Decision, Refusal, RefusalReason, decide};
pub use rules::Rules;
pub use tariff::{Fee, NotAPercentage, Tariff};
