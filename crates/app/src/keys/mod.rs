//! Keys, one file per use case.

mod change;
mod create;
mod current;

pub use change::UpdateKeyError;
pub use create::{CreateKeyError, KeyRequest};
pub use current::Current;
