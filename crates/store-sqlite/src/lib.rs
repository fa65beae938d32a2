//! The embedded engine: one SQLite file, owned by one process.
//!
//! Balances live in memory, in the domain's [`Book`], under one short lock. What was decided enters the commit queue under
//! the lock that decided it, so the order on disk is the order of decisions. A committer writes the queue in groups; an
//! intent returns when its group is durable. If commits fail, admission closes, the same group is retried unchanged, and
//! admission opens again by itself.
//!
//! [`Book`]: tollgate_domain::ledger::Book

mod backup;
mod committer;
mod damage;
mod database;
mod engine;
mod fold;
mod ledger;
mod migrate;
mod owner;
mod record;
mod recover;
mod sight;
mod sync;

pub use backup::{BackupError, restore};
pub use damage::damage;
pub use engine::{Durability, Embedded, OpenError, Options, SqliteStore, open, open_on};
pub use owner::accept as accept_copy;
pub use tollgate_engine::CLOCK_JUMP_MAX;
