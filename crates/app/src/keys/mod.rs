//! Keys, one file per use case.

mod change;
mod create;
mod current;
mod rotate;

pub use change::UpdateKeyError;
pub use create::{CreateKeyError, KeyRequest};
pub use current::Current;
pub use rotate::{GRACE_SECONDS_MAX, RotateKeyError};
