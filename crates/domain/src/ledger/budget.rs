//! A budget: a limit, and where it comes from.

use super::{Balance, MoneyKind};
use crate::key::Key;
use crate::time::{LimitReset, WindowKind, Windows, window_end};
use crate::{Timestamp, Usd};

/// Where a budget comes from. The order of enforcement is the order of the list that [`super::decide`] is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BudgetScope {
    /// The key's own limit: `key_limit` on the wire.
    Key,
}

/// A limit in USD and the window that it counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Where it comes from.
    pub scope: BudgetScope,
    /// The most that may be spent in a window.
    pub limit: Usd,
    /// How often it starts afresh; `None` counts for life.
    pub reset: Option<LimitReset>,
    /// Whether BYOK usage eats into it.
    pub include_byok: bool,
    /// When the current window ends; `None` for life.
    pub resets_at: Option<Timestamp>,
}

/// A budget with what its scope has spent and holds in the current window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetState {
    /// The limit.
    pub budget: Budget,
    /// Settled in the window.
    pub spent: Usd,
    /// Reserved in the window by calls in flight.
    pub held: Usd,
}

impl BudgetState {
    /// The budget of a key's own limit at `now`, if it has one.
    pub fn of_key(key: &Key, balance: &Balance, now: Timestamp, windows: &Windows) -> Option<Self> {
        let window = WindowKind::of(key.limit_reset);
        let sum = |read: fn(&Balance, MoneyKind, WindowKind, &Windows) -> Usd| -> Usd {
            MoneyKind::ALL
                .into_iter()
                .filter(|kind| *kind == MoneyKind::Credits || key.include_byok_in_limit)
                .map(|kind| read(balance, kind, window, windows))
                .sum()
        };
        Some(Self {
            budget: Budget {
                scope: BudgetScope::Key,
                limit: key.limit?,
                reset: key.limit_reset,
                include_byok: key.include_byok_in_limit,
                resets_at: window_end(window, now),
            },
            spent: sum(Balance::spent),
            held: sum(Balance::held),
        })
    }

    /// The limit less what was spent: `limit_remaining` on the wire. Negative after the limit was lowered below it.
    pub fn remaining(&self) -> Usd {
        Usd::left_of(self.budget.limit, self.spent)
    }

    /// The limit less what was spent and is held: what a new call may take.
    pub fn free(&self) -> Usd {
        Usd::left_of(self.remaining(), self.held)
    }

    /// Whether money of `kind` counts here.
    pub fn counts(&self, kind: MoneyKind) -> bool {
        kind == MoneyKind::Credits || self.budget.include_byok
    }
}
