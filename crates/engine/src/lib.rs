//! What both storage engines share: everything a node knows, and what management does to it.
//!
//! A node has in memory what management knows ([`State`]): keys, workspaces, guardrails, credentials, prices. Each act is
//! written once, as a function of that state which answers with the statements to write. An engine is a [`Ground`]: it
//! says how such a change becomes durable, and where money is counted.

mod activity;
mod assignments;
mod audit;
mod catalogue;
mod clock;
mod credentials;
mod credits;
pub mod doctor;
mod generations;
mod ground;
mod guardrails;
mod keys;
mod listing;
mod management;
mod members;
mod oauth;
mod rows;
mod sources;
mod state;
mod value;
mod workspaces;

pub use activity::{RollupKey, Rollups};
pub use audit::forget;
pub use clock::{CLOCK_JUMP_MAX, GuardedClock};
pub use generations::{FOUND_COLUMNS, Found, attempts_text, lost, released};
pub use ground::{Changed, Corrected, Engine, Ground, Statement, no_sums, statement};
pub use management::{CLOCK, CLOSED, SET_META};
pub use rows::{kind, kind_word, scope, scope_columns, window, window_word};
pub use sources::{SOURCES, Source};
pub use state::State;
pub use value::{FromValue, Row, Unreadable, Value};
