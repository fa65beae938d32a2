//! `/api/v1/keys` (contract section 5).

mod bulk;
mod create;
mod delete;
mod get;
mod list;
mod rotate;
mod update;

pub use bulk::*;
pub use create::*;
pub use delete::*;
pub use get::*;
pub use list::*;
pub use rotate::*;
pub use update::*;

use tollgate_domain::KeyHash;

use crate::error::ApiError;

/// The key that a path names; text that is no hash names none.
fn hash(text: &str) -> Result<KeyHash, ApiError> {
    KeyHash::parse(text).ok_or_else(not_found)
}

pub fn not_found() -> ApiError {
    ApiError::not_found("API key not found")
}
