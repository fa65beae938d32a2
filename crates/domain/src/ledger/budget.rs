//! A budget: a limit, and where it comes from.

use uuid::Uuid;

use super::{Balance, MoneyKind};
use crate::time::{LimitReset, WindowKind, Windows, window_end};
use crate::{Timestamp, Usd};

/// Where a budget comes from. The order of enforcement is the order of the list that [`super::decide`] is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BudgetScope {
    /// The default guardrail of a workspace, on all that the key's creator spends.
    WorkspaceDefaultMember,
    /// The default guardrail of a workspace, on what the key spends.
    WorkspaceDefaultKey,
    /// The guardrail of the key's creator, on all that they spend.
    Member,
    /// The key's guardrail.
    ApiKey,
    /// A budget of the key's workspace.
    Workspace,
    /// The key's own limit.
    Key,
    /// What the account was topped up by.
    Credits,
}

impl BudgetScope {
    /// The word on the wire (contract section 4); credits are no budget there.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WorkspaceDefaultMember => "workspace_default_member",
            Self::WorkspaceDefaultKey => "workspace_default_key",
            Self::Member => "member",
            Self::ApiKey => "api_key",
            Self::Workspace => "workspace",
            Self::Key => "key_limit",
            Self::Credits => "credits",
        }
    }
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
    /// The public id of the guardrail or workspace budget that it is.
    pub source: Option<Uuid>,
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
    /// When the window ends; `None` for life.
    pub resets_at: Option<Timestamp>,
}

impl BudgetState {
    /// A budget at `now`, on the balance of the scope whose spending counts.
    pub fn of(budget: Budget, balance: &Balance, now: Timestamp, windows: &Windows) -> Self {
        let window = WindowKind::of(budget.reset);
        let sum = |read: fn(&Balance, MoneyKind, WindowKind, &Windows) -> Usd| -> Usd {
            MoneyKind::ALL
                .into_iter()
                .filter(|kind| *kind == MoneyKind::Credits || budget.include_byok)
                .map(|kind| read(balance, kind, window, windows))
                .sum()
        };
        Self { budget, spent: sum(Balance::spent), held: sum(Balance::held), resets_at: window_end(window, now) }
    }

    /// The limit less what was spent: `limit_remaining` on the wire. Negative after the limit was lowered below it.
    pub fn remaining(&self) -> Usd {
        Usd::left_of(self.budget.limit, self.spent)
    }

    /// The limit less what was spent and is held: what a new call may take.
    pub fn free(&self) -> Usd {
        Usd::left_of(self.remaining(), self.held)
    }
}
