//! A workspace: the group of keys that a team shares, and its budgets.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::time::WindowKind;
use crate::{Timestamp, Usd};

/// The row number of a workspace inside one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkspaceId(pub i64);

/// The slug of the workspace that exists from the first start and takes every key without another one.
pub const DEFAULT_WORKSPACE_SLUG: &str = "default";

/// The name space of the ids of default guardrails: a workspace's is derived from its own id.
const DEFAULT_GUARDRAILS: Uuid = Uuid::from_u128(0x746f_6c6c_6761_7465_5f64_6775_6172_6473);

/// A workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// The row number, never shown.
    pub id: WorkspaceId,
    /// The public id.
    pub uuid: Uuid,
    /// The name people see.
    pub name: String,
    /// The name in URLs, unique.
    pub slug: String,
    /// What it is for.
    pub description: Option<String>,
    /// What is kept for clients and has no effect here.
    pub preferences: Preferences,
    /// Its budgets, at most one for each kind of window.
    pub budgets: WorkspaceBudgets,
    /// The member who created it.
    pub created_by: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed, if ever.
    pub updated_at: Option<Timestamp>,
}

/// Settings of a workspace that are stored and returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preferences {
    /// The model of requests that name none.
    pub default_text_model: Option<String>,
    /// The same for images.
    pub default_image_model: Option<String>,
    /// How providers are sorted.
    pub default_provider_sort: Option<String>,
    /// Tools of the hosted service that are switched off.
    pub disabled_server_tools: Option<Vec<String>>,
    /// Whether inputs and outputs are logged.
    pub io_logging: bool,
    /// Whether traces are broadcast.
    pub broadcast: bool,
    /// Whether logging earns a discount.
    pub discount_logging: bool,
    /// The part of calls that is logged, in ten-thousandths: 1 to 10,000.
    pub io_logging_sampling: u16,
    /// Whose calls are logged; `None` is everybody's.
    pub io_logging_keys: Option<Vec<i64>>,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            default_text_model: None,
            default_image_model: None,
            default_provider_sort: None,
            disabled_server_tools: None,
            io_logging: false,
            broadcast: false,
            discount_logging: false,
            io_logging_sampling: 10_000,
            io_logging_keys: None,
        }
    }
}

/// A budget of a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkspaceBudget {
    /// The public id.
    pub uuid: Uuid,
    /// The most that all its keys may spend in a window.
    pub limit: Usd,
    /// When it was set up.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// The budgets of a workspace, one for each kind of window at the most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkspaceBudgets {
    /// Whether BYOK usage eats into them.
    pub include_byok: bool,
    /// By [`breadth`]: the broadest first.
    by_breadth: BTreeMap<u8, WorkspaceBudget>,
}

/// Why a set of budgets makes no sense: the broader one must be the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotDecreasing {
    /// The broader window and its limit.
    pub broad: (WindowKind, Usd),
    /// The narrower window and its limit.
    pub narrow: (WindowKind, Usd),
}

/// How broad a window is: zero is the broadest.
const fn breadth(window: WindowKind) -> u8 {
    match window {
        WindowKind::Lifetime => 0,
        WindowKind::Monthly => 1,
        WindowKind::Weekly => 2,
        WindowKind::Daily => 3,
    }
}

const BY_BREADTH: [WindowKind; 4] = [WindowKind::Lifetime, WindowKind::Monthly, WindowKind::Weekly, WindowKind::Daily];

impl WorkspaceBudgets {
    /// No budgets.
    pub fn new(include_byok: bool) -> Self {
        Self { include_byok, by_breadth: BTreeMap::new() }
    }

    /// The budgets with their windows, the broadest first: the order in which they are enforced.
    pub fn iter(&self) -> impl Iterator<Item = (WindowKind, &WorkspaceBudget)> {
        BY_BREADTH.into_iter().filter_map(|window| self.get(window).map(|budget| (window, budget)))
    }

    /// The budget of a window.
    pub fn get(&self, window: WindowKind) -> Option<&WorkspaceBudget> {
        self.by_breadth.get(&breadth(window))
    }

    /// These with another limit for `window`: a new budget with id `uuid`, or the one that is there with a new limit.
    ///
    /// # Errors
    /// [`NotDecreasing`]: a broader window must have a greater limit (contract section 8).
    pub fn with(&self, window: WindowKind, limit: Usd, uuid: Uuid, now: Timestamp) -> Result<Self, NotDecreasing> {
        let mut changed = self.clone();
        let budget = match self.get(window) {
            Some(before) => WorkspaceBudget { limit, updated_at: now, ..*before },
            None => WorkspaceBudget { uuid, limit, created_at: now, updated_at: now },
        };
        changed.by_breadth.insert(breadth(window), budget);
        let limits: Vec<_> = changed.iter().map(|(window, budget)| (window, budget.limit)).collect();
        for (broad, narrow) in limits.iter().zip(limits.iter().skip(1)) {
            if broad.1 <= narrow.1 {
                return Err(NotDecreasing { broad: *broad, narrow: *narrow });
            }
        }
        Ok(changed)
    }

    /// These without the budget of `window`.
    #[must_use]
    pub fn without(&self, window: WindowKind) -> Self {
        let mut changed = self.clone();
        changed.by_breadth.remove(&breadth(window));
        changed
    }

    /// Puts back a budget that was stored.
    pub fn restore(&mut self, window: WindowKind, budget: WorkspaceBudget) {
        self.by_breadth.insert(breadth(window), budget);
    }
}

/// What is chosen when a workspace is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewWorkspace {
    /// As [`Workspace::uuid`].
    pub uuid: Uuid,
    /// As [`Workspace::name`], not empty.
    pub name: String,
    /// As [`Workspace::slug`].
    pub slug: String,
    /// As [`Workspace::description`].
    pub description: Option<String>,
    /// As [`Workspace::preferences`].
    pub preferences: Preferences,
}

impl NewWorkspace {
    /// The workspace as it stands right after its creation.
    pub fn into_workspace(self, id: WorkspaceId, now: Timestamp) -> Workspace {
        Workspace {
            id,
            uuid: self.uuid,
            name: self.name,
            slug: self.slug,
            description: self.description,
            preferences: self.preferences,
            budgets: WorkspaceBudgets::default(),
            created_by: None,
            created_at: now,
            updated_at: None,
        }
    }
}

/// A change to a workspace: `None` leaves a field as it is, `Some(None)` clears it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkspaceChange {
    /// A new name, not empty.
    pub name: Option<String>,
    /// A new slug.
    pub slug: Option<String>,
    /// A new description, or none.
    pub description: Option<Option<String>>,
    /// As [`Preferences::default_text_model`].
    pub default_text_model: Option<Option<String>>,
    /// As [`Preferences::default_image_model`].
    pub default_image_model: Option<Option<String>>,
    /// As [`Preferences::default_provider_sort`].
    pub default_provider_sort: Option<Option<String>>,
    /// As [`Preferences::disabled_server_tools`].
    pub disabled_server_tools: Option<Option<Vec<String>>>,
    /// As [`Preferences::io_logging`].
    pub io_logging: Option<bool>,
    /// As [`Preferences::broadcast`].
    pub broadcast: Option<bool>,
    /// As [`Preferences::discount_logging`].
    pub discount_logging: Option<bool>,
    /// As [`Preferences::io_logging_sampling`].
    pub io_logging_sampling: Option<u16>,
    /// As [`Preferences::io_logging_keys`].
    pub io_logging_keys: Option<Option<Vec<i64>>>,
}

impl WorkspaceChange {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Puts what it says of preferences into them.
    pub fn apply_to(&self, preferences: &mut Preferences) {
        fn set<T: Clone>(field: &mut T, change: Option<&T>) {
            if let Some(value) = change {
                field.clone_from(value);
            }
        }
        set(&mut preferences.default_text_model, self.default_text_model.as_ref());
        set(&mut preferences.default_image_model, self.default_image_model.as_ref());
        set(&mut preferences.default_provider_sort, self.default_provider_sort.as_ref());
        set(&mut preferences.disabled_server_tools, self.disabled_server_tools.as_ref());
        set(&mut preferences.io_logging, self.io_logging.as_ref());
        set(&mut preferences.broadcast, self.broadcast.as_ref());
        set(&mut preferences.discount_logging, self.discount_logging.as_ref());
        set(&mut preferences.io_logging_sampling, self.io_logging_sampling.as_ref());
        set(&mut preferences.io_logging_keys, self.io_logging_keys.as_ref());
    }
}

impl Workspace {
    /// The id of the guardrail that applies to all its traffic, whether there is one or not.
    pub fn default_guardrail(&self) -> Uuid {
        Uuid::new_v5(&DEFAULT_GUARDRAILS, self.uuid.as_bytes())
    }

    /// Whether it is the one that exists from the first start.
    pub fn is_default(&self) -> bool {
        self.id == WorkspaceId(1)
    }

    /// The workspace after `change`, with a fresh `updated_at`.
    #[must_use]
    pub fn apply(&self, change: WorkspaceChange, now: Timestamp) -> Self {
        let mut old = self.clone();
        change.apply_to(&mut old.preferences);
        Self {
            name: change.name.unwrap_or(old.name),
            slug: change.slug.unwrap_or(old.slug),
            description: change.description.unwrap_or(old.description),
            updated_at: Some(now),
            ..old
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broader_windows_must_have_greater_limits() {
        let (usd, now) = (Usd::from_nanos, Timestamp::default());
        let none = WorkspaceBudgets::default();
        let monthly = none.with(WindowKind::Monthly, usd(500), Uuid::nil(), now).unwrap();
        let refused = monthly.with(WindowKind::Weekly, usd(500), Uuid::nil(), now);
        let narrow = (WindowKind::Weekly, usd(500));
        assert_eq!(refused, Err(NotDecreasing { broad: (WindowKind::Monthly, usd(500)), narrow }));
        let both = monthly.with(WindowKind::Daily, usd(499), Uuid::nil(), now).unwrap();
        assert!(both.with(WindowKind::Lifetime, usd(400), Uuid::nil(), now).is_err());
        let windows: Vec<_> = both.iter().map(|(window, _)| window).collect();
        assert_eq!(windows, [WindowKind::Monthly, WindowKind::Daily], "the broadest first");
        assert_eq!(both.without(WindowKind::Daily), monthly);
    }
}
