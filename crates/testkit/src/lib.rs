//! Boots the real server against a scriptable provider, with a clock and a disk that tests hold in their hands.
#![expect(clippy::missing_panics_doc, reason = "a test that cannot go on panics")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

mod app;
mod clock;
mod link;
pub mod postgres;
mod process;
pub mod properties;
mod provider;
pub mod scenario;

pub use app::{KeyBuilder, MANAGEMENT_KEY, MODEL, PRICING, TestApp, TestKey, nanos};
pub use clock::ManualClock;
pub use link::Link;
pub use process::{ServerProcess, free_folder, stop_at_step_binary, tollgate_binary};
pub use provider::{Provider, Script};
