//! Giving a key a new secret.

use tollgate_domain::{KeyHash, KeySecret};
use tollgate_store::{Act, KeyView, Rotation, StoreError};

use crate::{App, RandomError};

/// The longest that an old secret may live on: 30 days.
pub const GRACE_SECONDS_MAX: u64 = 30 * 24 * 60 * 60;

/// Why a key was not rotated. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum RotateKeyError {
    /// The old secret would live too long.
    #[error("`grace_period_seconds` must be {GRACE_SECONDS_MAX} (30 days) at the most")]
    Grace,
    /// There is no such key.
    #[error("API key not found")]
    UnknownKey,
    /// No randomness.
    #[error("no secret could be made")]
    Random(#[from] RandomError),
    /// The store failed.
    #[error("the key could not be changed")]
    Store(#[from] StoreError),
}

impl App {
    /// Gives a key a new secret, shown this once; the old one works for `grace_seconds` more.
    ///
    /// # Errors
    /// [`RotateKeyError`].
    pub async fn rotate_key(
        &self,
        hash: &KeyHash,
        grace_seconds: u64,
        act: Act<(KeyView, KeySecret)>,
    ) -> Result<(KeyView, KeySecret), RotateKeyError> {
        if grace_seconds > GRACE_SECONDS_MAX {
            return Err(RotateKeyError::Grace);
        }
        let secret = KeySecret::new(&self.settings().key_prefix, self.random.bytes()?);
        let grace_micros = i64::try_from(grace_seconds).unwrap_or(0).saturating_mul(1_000_000);
        let rotation = Rotation { secret: secret.hash(), label: secret.label(), grace_micros };
        let shown = secret.clone();
        let act = act.over(move |view: &KeyView| Some((view.clone(), shown)));
        let view = self.store().rotate_key(hash, rotation, act).await?.ok_or(RotateKeyError::UnknownKey)?;
        tracing::info!(key.hash = %view.key.hash, grace_seconds, "key rotated");
        Ok((view, secret))
    }
}
