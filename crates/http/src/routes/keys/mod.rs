//! `/api/v1/keys` (contract section 5).

mod bulk;
mod create;
mod delete;
mod get;
mod list;
mod rotate;
mod update;

pub use bulk::bulk;
pub use create::create;
pub use delete::delete;
pub use get::get;
pub use list::list;
pub use rotate::rotate;
pub use update::update;

use tollgate_domain::KeyHash;

use crate::error::ApiError;

/// The key that a path names; text that is no hash names none.
fn hash(text: &str) -> Result<KeyHash, ApiError> {
    KeyHash::parse(text).ok_or_else(not_found)
}

fn not_found() -> ApiError {
    ApiError::not_found("API key not found")
}
