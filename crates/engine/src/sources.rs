//! The tables that a node keeps in memory, and how a row of each enters what it knows.
//!
//! A start reads all rows that count. Where other nodes change them too, catching up reads the rows that changed, also those that
//! count no more, and is told of those that were deleted.

use tollgate_domain::Timestamp;

use crate::state::State;
use crate::value::{Row, Unreadable};
use crate::{catalogue, credentials, credits, guardrails, keys, management, members, oauth, workspaces};

/// A table that is kept in memory.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Its name.
    pub table: &'static str,
    /// The columns that `put` reads.
    pub columns: &'static str,
    /// Which rows a start need not read.
    pub but: Option<&'static str>,
    /// Makes a row known, in the place of what was known of it; the same row twice is the same as once.
    pub put: fn(&mut State, &Row, Timestamp) -> Result<(), Unreadable>,
    /// Forgets a row that was deleted, which comes as a JSON object.
    pub remove: fn(&mut State, &serde_json::Value) -> Option<()>,
}

/// All of them, in an order in which each finds what it builds on.
pub const SOURCES: &[Source] = &[
    workspaces::SOURCE,
    workspaces::BUDGETS,
    members::SOURCE,
    members::PLACES,
    guardrails::SOURCE,
    keys::SOURCE,
    guardrails::OF_KEYS,
    guardrails::OF_MEMBERS,
    credentials::SOURCE,
    credits::SOURCE,
    management::SOURCE,
    management::META,
    oauth::SOURCE,
    catalogue::SOURCE,
];

/// Of tables whose rows are never deleted.
pub const fn kept(_: &mut State, _: &serde_json::Value) -> Option<()> {
    None
}

impl Source {
    /// The query of a node that knows what there was at version `?1`.
    pub fn since(&self) -> String {
        let Self { table, columns, .. } = self;
        format!("SELECT {columns} FROM {table} WHERE changed > ?1 ORDER BY 1")
    }

    /// The query of a start.
    pub fn all(&self) -> String {
        let Self { table, columns, .. } = self;
        let but = self.but.map_or_else(String::new, |but| format!(" WHERE NOT ({but})"));
        format!("SELECT {columns} FROM {table}{but} ORDER BY 1")
    }
}
