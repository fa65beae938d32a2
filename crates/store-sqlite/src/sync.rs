//! What the committer waits with. In its place a test puts a scheduler that tries many orders of the same events.

pub use std::sync::atomic::AtomicBool;
pub use std::sync::mpsc::sync_channel as channel;
pub use std::sync::{Arc, Weak};
pub use std::thread;

pub use parking_lot::{Condvar, Mutex};
pub use tokio::task::yield_now;
pub use tokio::time::sleep;

/// Runs a task that nobody waits for.
pub fn detach(task: impl Future<Output = ()> + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "whoever waits is told by the task itself")]
    tokio::spawn(task);
}
