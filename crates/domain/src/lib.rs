//! What is true about money, keys, budgets and the ledger.
//!
//! Pure: no clock, no I/O, no async, no serde. Every rule that decides whether money may be spent, and how much was,
//! lives here once; storage engines call it, and SQL stores the answer.
#![cfg_attr(not(test), deny(clippy::float_arithmetic, clippy::arithmetic_side_effects, clippy::as_conversions))]
#![warn(missing_docs)]

pub mod credential;
pub mod filter;
pub mod generation;
pub mod guardrail;
pub mod key;
pub mod ledger;
pub mod member;
pub mod model;
pub mod money;
pub mod oauth;
pub mod pricing;
pub mod rate;
pub mod session;
pub mod time;
pub mod usage;
pub mod web;
pub mod workspace;

pub use generation::{GenerationId, IdCipher};
pub use key::{Key, KeyHash, KeyId, KeySecret};
pub use money::{Price, Usd};
pub use time::Timestamp;
