//! Keys: their secrets and their life.

mod lifecycle;
mod secret;

pub use lifecycle::{
    CallLimits, Key, KeyChange, KeyId, KeyRejected, LimitRaise, ManagementKey, ManagementKeyId, NewKey, Powers, Secrets,
};
pub(crate) use secret::same_bytes;
pub use secret::{KeyHash, KeySecret, SECRET_HEX_DIGITS};
