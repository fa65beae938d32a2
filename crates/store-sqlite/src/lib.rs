//! The embedded engine: one SQLite file, owned by one process.
//!
//! Balances live in memory, in the domain's [`Book`], under one short lock. What was decided enters the commit queue under
//! the lock that decided it, so the order on disk is the order of decisions. A committer writes the queue in groups; an
//! intent returns when its group is durable. If commits fail, admission closes, the same group is retried unchanged, and
//! admission opens again by itself.
//!
//! [`Book`]: tollgate_domain::ledger::Book

mod activity;
mod assignments;
mod audit;
mod catalogue;
mod clock;
mod committer;
mod credentials;
mod credits;
mod engine;
mod fold;
mod generations;
mod guardrails;
mod keys;
mod ledger;
mod listing;
mod management;
mod members;
mod migrate;
mod oauth;
mod record;
mod recover;
mod rows;
mod workspaces;

pub use clock::CLOCK_JUMP_MAX;
pub use engine::{Durability, OpenError, Options, SqliteStore};
