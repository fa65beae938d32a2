//! What was spent, by day and model: read from sums that are kept, never from the log.

use async_trait::async_trait;
use tollgate_domain::{KeyHash, Usd};
use uuid::Uuid;

use crate::StoreError;

/// Which part of the activity to sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActivityQuery {
    /// The first day, counted from 1970-01-01 UTC.
    pub first_day: i64,
    /// The last day.
    pub last_day: i64,
    /// Of this key.
    pub key: Option<KeyHash>,
    /// Of the keys of this member, by their public id.
    pub member: Option<String>,
    /// Of this workspace.
    pub workspace: Option<Uuid>,
    /// A row for each workspace.
    pub by_workspace: bool,
    /// A row for each key.
    pub by_key: bool,
}

/// What was used, by one key or by many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Generations that were charged, or could have been.
    pub requests: u64,
    /// Prompt tokens.
    pub prompt: u64,
    /// Those of them that were cached.
    pub cached: u64,
    /// Completion tokens.
    pub completion: u64,
    /// Those of them that were reasoning.
    pub reasoning: u64,
    /// Credits that were charged.
    pub credits: Usd,
    /// BYOK usage at list price.
    pub byok: Usd,
}

/// The activity of one day at one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActivityRow {
    /// The day, counted from 1970-01-01 UTC.
    pub day: i64,
    /// The public id of the model.
    pub model: String,
    /// The provider's slug.
    pub provider: String,
    /// The workspace, where it was asked for.
    pub workspace: Option<Uuid>,
    /// The key, where it was asked for and is not deleted.
    pub key: Option<KeyHash>,
    /// The sums.
    pub activity: Activity,
}

/// Activity, by intent.
#[async_trait]
pub trait ActivityStore: Send + Sync {
    /// The sums of the days that are asked for, exact at once: by day, then model, then provider.
    async fn activity(&self, query: ActivityQuery) -> Result<Vec<ActivityRow>, StoreError>;
}
