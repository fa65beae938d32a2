//! What was spent, by day and model.

use tollgate_domain::KeyHash;
use tollgate_domain::time::{WindowKind, Windows};
use tollgate_store::{ActivityQuery, ActivityRow, StoreError, WorkspaceRef};
use uuid::Uuid;

use crate::App;

/// Completed days that can be asked for.
const DAYS: i64 = 30;

/// How rows are told apart, besides by day, model and provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupBy {
    /// Not at all.
    #[default]
    Nothing,
    /// By workspace.
    Workspace,
    /// By key.
    Key,
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActivityRequest {
    /// One day, counted from 1970-01-01 UTC; `None` is all that can be asked for.
    pub day: Option<i64>,
    /// Whether the day that is not over counts too.
    pub include_today: bool,
    /// Of this key.
    pub key: Option<KeyHash>,
    /// Of this member's keys.
    pub member: Option<String>,
    /// Of this workspace.
    pub workspace: Option<Uuid>,
    /// How rows are told apart.
    pub group_by: GroupBy,
}

/// Why there is no activity to show.
#[derive(Debug, thiserror::Error)]
pub enum ActivityError {
    /// The day is not over, or was too long ago.
    #[error("Date must be within the last {DAYS} completed UTC days")]
    Date,
    /// There is no such key.
    #[error("API key not found")]
    UnknownKey,
    /// There is no such workspace.
    #[error("Workspace not found")]
    UnknownWorkspace,
    /// The store failed.
    #[error("the activity could not be read")]
    Store(#[from] StoreError),
}

impl App {
    /// The activity of the last 30 completed UTC days, or of one of them: the newest day first.
    ///
    /// # Errors
    /// [`ActivityError`].
    pub async fn activity(&self, request: ActivityRequest) -> Result<Vec<ActivityRow>, ActivityError> {
        let today = Windows::at(self.store().now().await?).of(WindowKind::Daily).0;
        let (oldest, newest) = (today.saturating_sub(DAYS), today.saturating_sub(i64::from(!request.include_today)));
        if request.day.is_some_and(|day| !(oldest..=newest).contains(&day)) {
            return Err(ActivityError::Date);
        }
        if let Some(hash) = &request.key {
            self.store().key(hash).await?.ok_or(ActivityError::UnknownKey)?;
        }
        if let Some(uuid) = request.workspace {
            self.store().workspace(&WorkspaceRef::Id(uuid)).await?.ok_or(ActivityError::UnknownWorkspace)?;
        }
        let query = ActivityQuery {
            first_day: request.day.unwrap_or(oldest),
            last_day: request.day.unwrap_or(newest),
            key: request.key,
            member: request.member,
            workspace: request.workspace,
            by_workspace: request.group_by == GroupBy::Workspace,
            by_key: request.group_by == GroupBy::Key,
        };
        Ok(self.store().activity(query).await?)
    }
}
