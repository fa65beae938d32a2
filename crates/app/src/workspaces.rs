//! Workspaces and their budgets.

use tollgate_domain::Usd;
use tollgate_domain::time::WindowKind;
use tollgate_domain::workspace::{NewWorkspace, Preferences, Workspace, WorkspaceChange, WorkspaceId};
use tollgate_store::{Act, Actor, Page, PageQuery, StoreError, WorkspaceRef, WorkspaceRefused};
use uuid::{Builder, Uuid};

use crate::{App, RandomError};

/// Characters of a workspace's name.
const NAME_MAX: usize = 100;
/// Characters of a slug.
const SLUG_MAX: usize = 50;
/// Characters of a description.
const DESCRIPTION_MAX: usize = 500;

/// How providers can be sorted.
const SORTS: [&str; 4] = ["price", "throughput", "latency", "exacto"];

/// Why a workspace was not changed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// Something that was given cannot be.
    #[error("{0}")]
    Invalid(&'static str),
    /// The rules are against it.
    #[error("the workspace cannot be changed so")]
    Refused(WorkspaceRefused),
    /// No randomness.
    #[error("no id could be made")]
    Random(#[from] RandomError),
    /// The store failed.
    #[error("the workspace could not be stored")]
    Store(#[from] StoreError),
}

impl From<WorkspaceRefused> for WorkspaceError {
    fn from(refused: WorkspaceRefused) -> Self {
        Self::Refused(refused)
    }
}

impl App {
    /// One workspace, if there is one of that name.
    ///
    /// # Errors
    /// The store failed.
    pub async fn workspace(&self, which: &WorkspaceRef) -> Result<Option<Workspace>, StoreError> {
        self.store().workspace(which).await
    }

    /// The workspace that a path names.
    ///
    /// # Errors
    /// [`WorkspaceRefused::Unknown`], or the store failed.
    pub async fn known_workspace(&self, which: &WorkspaceRef) -> Result<Workspace, WorkspaceError> {
        Ok(self.store().workspace(which).await?.ok_or(WorkspaceRefused::Unknown)?)
    }

    /// All workspaces, oldest first, or the one that `within` names.
    ///
    /// # Errors
    /// The store failed.
    pub async fn workspaces(
        &self,
        within: Option<WorkspaceId>,
        page: PageQuery,
    ) -> Result<Page<Workspace>, StoreError> {
        if let Some(id) = within {
            let own = self.store().workspace(&WorkspaceRef::Row(id)).await?;
            return Ok(Page::of(own, page));
        }
        self.store().workspaces(page).await
    }

    /// Creates a workspace: `change` must say a name and a slug.
    ///
    /// # Errors
    /// [`WorkspaceError`].
    pub async fn create_workspace(
        &self,
        change: WorkspaceChange,
        act: Act<Workspace>,
    ) -> Result<Workspace, WorkspaceError> {
        check(&change)?;
        let mut preferences = Preferences::default();
        change.apply_to(&mut preferences);
        let new = NewWorkspace {
            uuid: self.new_uuid()?,
            name: change.name.ok_or(WorkspaceError::Invalid("`name` is required"))?,
            slug: change.slug.ok_or(WorkspaceError::Invalid("`slug` is required"))?,
            description: change.description.flatten(),
            preferences,
        };
        let workspace = self.store().create_workspace(new, act).await??;
        tracing::info!(workspace.id = %workspace.uuid, slug = workspace.slug, "workspace created");
        Ok(workspace)
    }

    /// Changes a workspace. In force when this returns.
    ///
    /// # Errors
    /// [`WorkspaceError`].
    pub async fn update_workspace(
        &self,
        which: &WorkspaceRef,
        change: WorkspaceChange,
        by: &Actor,
    ) -> Result<Workspace, WorkspaceError> {
        if change.is_empty() {
            return Err(WorkspaceError::Invalid("No update fields provided"));
        }
        check(&change)?;
        let workspace = self.known_workspace(which).await?;
        Ok(self.store().update_workspace(workspace.id, change, by).await??)
    }

    /// Deletes a workspace that holds no keys.
    ///
    /// # Errors
    /// [`WorkspaceError`].
    pub async fn delete_workspace(&self, which: &WorkspaceRef, by: &Actor) -> Result<(), WorkspaceError> {
        let workspace = self.known_workspace(which).await?;
        self.store().delete_workspace(workspace.id, by).await??;
        tracing::info!(workspace.id = %workspace.uuid, "workspace deleted");
        Ok(())
    }

    /// Sets the budget of one kind of window. In force when this returns.
    ///
    /// # Errors
    /// [`WorkspaceError`].
    pub async fn put_budget(
        &self,
        which: &WorkspaceRef,
        window: WindowKind,
        limit: Usd,
        include_byok: Option<bool>,
        by: &Actor,
    ) -> Result<Workspace, WorkspaceError> {
        if limit <= Usd::ZERO {
            return Err(WorkspaceError::Invalid("`limit_usd` must be more than zero"));
        }
        let workspace = self.known_workspace(which).await?;
        let uuid = self.new_uuid()?;
        Ok(self.store().put_budget(workspace.id, window, limit, uuid, include_byok, by).await??)
    }

    /// Removes the budget of one kind of window, if there is one.
    ///
    /// # Errors
    /// [`WorkspaceError`].
    pub async fn delete_budget(
        &self,
        which: &WorkspaceRef,
        window: WindowKind,
        by: &Actor,
    ) -> Result<(), WorkspaceError> {
        let workspace = self.known_workspace(which).await?;
        self.store().delete_budget(workspace.id, window, by).await??;
        Ok(())
    }

    /// A public id that nobody can guess.
    pub(crate) fn new_uuid(&self) -> Result<Uuid, RandomError> {
        let bytes = self.random.bytes()?;
        let half = bytes.first_chunk::<16>().copied().unwrap_or_default();
        Ok(Builder::from_random_bytes(half).into_uuid())
    }
}

fn check(change: &WorkspaceChange) -> Result<(), WorkspaceError> {
    let long = |text: &Option<String>, most: usize| text.as_ref().is_some_and(|text| text.chars().count() > most);
    if change.name.as_ref().is_some_and(|name| name.trim().is_empty()) || long(&change.name, NAME_MAX) {
        return Err(WorkspaceError::Invalid("`name` must be 1 to 100 characters long"));
    }
    if change.slug.as_deref().is_some_and(|slug| !is_slug(slug)) {
        return Err(WorkspaceError::Invalid("`slug` must be up to 50 of a-z, 0-9 and single hyphens between them"));
    }
    if change.description.as_ref().is_some_and(|description| long(description, DESCRIPTION_MAX)) {
        return Err(WorkspaceError::Invalid("`description` must be 500 characters long at the most"));
    }
    if change.io_logging_sampling.is_some_and(|part| !(1..=10_000).contains(&part)) {
        return Err(WorkspaceError::Invalid("`io_logging_sampling_rate` must be 0.0001 to 1"));
    }
    let sort = change.default_provider_sort.as_ref().and_then(Option::as_deref);
    if sort.is_some_and(|sort| !SORTS.contains(&sort)) {
        return Err(WorkspaceError::Invalid(
            "`default_provider_sort` must be price, throughput, latency, exacto or null",
        ));
    }
    Ok(())
}

/// `^[a-z0-9]+(?:-[a-z0-9]+)*$`, within its length (contract section 8).
fn is_slug(text: &str) -> bool {
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    // Text that reads as an id would name another workspace, or none.
    text.len() <= SLUG_MAX && text.split('-').all(word) && Uuid::try_parse(text).is_err()
}

#[cfg(test)]
mod tests {
    use super::is_slug;

    #[test]
    fn slugs_are_words_joined_by_hyphens() {
        for good in ["a", "team-1", "0-0-0", &"x".repeat(50)] {
            assert!(is_slug(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a--b", "A", "a b", "ä", "a/b", &"x".repeat(51), &"0".repeat(32)] {
            assert!(!is_slug(bad), "{bad}");
        }
    }
}
