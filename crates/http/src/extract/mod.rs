//! What handlers take as arguments. Each refuses in the contract's envelope.

mod bulk;
mod credential;
mod json;
mod once;
mod page;
mod path;
mod query;
mod visit;

pub use bulk::Bulk;
pub use credential::{
    Accountant, AnyKey, Caller, LimitedAccountant, LimitedManager, Manager, actor, may_change, workspace_within,
};
pub use json::{Json, read_body};
pub use once::{InProgress, Once, once};
pub use path::Path;
pub use query::QueryPairs;
pub use visit::{Form, Pairs, Visit, cookie};
