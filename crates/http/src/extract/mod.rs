//! What handlers take as arguments. Each refuses in the contract's envelope.

mod credential;
mod json;
mod path;
mod query;

pub use credential::{AnyKey, Caller, Manager};
pub use json::{Json, read_body};
pub use path::Path;
pub use query::QueryPairs;
