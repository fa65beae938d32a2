//! The data path: admit, reserve, forward, meter, settle.
//!
//! Nothing goes upstream before its bound is held durably, and no final usage reaches a client before it is settled.
//! `exchange` is the life of a request; everything else is a part of it.

mod answer;
mod bound;
mod decoder;
mod error;
mod exchange;
mod filter;
mod flight;
#[doc(hidden)]
pub mod fuzzing;
mod json;
mod limits;
mod meter;
mod price_fields;
mod rates;
mod request;
mod sse;
mod steps;
mod stream;
mod tasks;
mod upstream;
mod usage;

pub use error::{ChatError, FailureKind, ProviderFailure};
pub use exchange::{Answer, Caller, Gateway};
pub use json::{Malformed, MalformedReason};
pub use limits::Limits;
pub use rates::{CallLimit, TooSoon};
pub use request::Invalid;
pub use steps::{NoSteps, Step, Steps};
pub use stream::AnswerBody;
pub use tasks::Tasks;
#[cfg(feature = "scripted")]
pub use upstream::{Broken, Connecting, Head, Script, ScriptedCall, Unreachable};
pub use upstream::{OutputCapField, Provider, ProviderError, ProviderKind, ProviderSettings};
