//! Guardrails and their assignments.

use tollgate_domain::guardrail::{GuardrailChange, GuardrailRules, IncompleteBudget};
use tollgate_domain::workspace::Workspace;
use tollgate_store::{
    Act, Actor, AssigneeKind, Assignees, AssignmentView, GuardrailRefused, GuardrailView, Page, PageQuery, StoreError,
};
use uuid::Uuid;

use crate::{App, RandomError};

/// Characters of a guardrail's name.
const NAME_MAX: usize = 200;
/// Characters of a description.
const DESCRIPTION_MAX: usize = 1_000;

/// Why a guardrail was not changed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum GuardrailError {
    /// Something that was given cannot be.
    #[error("{0}")]
    Invalid(&'static str),
    /// The rules are against it.
    #[error("the guardrail cannot be changed so")]
    Refused(GuardrailRefused),
    /// No randomness.
    #[error("no id could be made")]
    Random(#[from] RandomError),
    /// The store failed.
    #[error("the guardrail could not be stored")]
    Store(#[from] StoreError),
}

impl From<GuardrailRefused> for GuardrailError {
    fn from(refused: GuardrailRefused) -> Self {
        Self::Refused(refused)
    }
}

impl From<IncompleteBudget> for GuardrailError {
    fn from(incomplete: IncompleteBudget) -> Self {
        Self::Refused(GuardrailRefused::Budget(incomplete))
    }
}

impl App {
    /// One guardrail.
    ///
    /// # Errors
    /// [`GuardrailRefused::Unknown`], or the store failed.
    pub async fn guardrail(&self, uuid: Uuid) -> Result<GuardrailView, GuardrailError> {
        Ok(self.store().guardrail(uuid).await?.ok_or(GuardrailRefused::Unknown)?)
    }

    /// The guardrails of a workspace, or all, oldest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn guardrails(
        &self,
        workspace: Option<&Workspace>,
        page: PageQuery,
    ) -> Result<Page<GuardrailView>, StoreError> {
        self.store().guardrails(workspace.map(|workspace| workspace.id), page).await
    }

    /// Creates a guardrail: `change` must say a name. It applies to nobody before it is assigned.
    ///
    /// # Errors
    /// [`GuardrailError`].
    pub async fn create_guardrail(
        &self,
        workspace: &Workspace,
        change: GuardrailChange,
        act: Act<GuardrailView>,
    ) -> Result<GuardrailView, GuardrailError> {
        check(&change)?;
        if change.name.is_none() {
            return Err(GuardrailError::Invalid("`name` is required"));
        }
        let rules = GuardrailRules::default().apply(change)?;
        let view = self.store().create_guardrail(self.new_uuid()?, workspace.id, rules, act).await?;
        tracing::info!(guardrail.id = %view.guardrail.uuid, "guardrail created");
        Ok(view)
    }

    /// Changes a guardrail. In force when this returns.
    ///
    /// # Errors
    /// [`GuardrailError`].
    pub async fn update_guardrail(
        &self,
        uuid: Uuid,
        change: GuardrailChange,
        by: &Actor,
    ) -> Result<GuardrailView, GuardrailError> {
        if change == GuardrailChange::default() {
            return Err(GuardrailError::Invalid("No update fields provided"));
        }
        check(&change)?;
        Ok(self.store().update_guardrail(uuid, change, by).await??)
    }

    /// Deletes a guardrail with its assignments; `false` where there is none.
    ///
    /// # Errors
    /// The store failed.
    pub async fn delete_guardrail(&self, uuid: Uuid, by: &Actor) -> Result<bool, StoreError> {
        let deleted = self.store().delete_guardrail(uuid, by).await?;
        if deleted {
            tracing::info!(guardrail.id = %uuid, "guardrail deleted");
        }
        Ok(deleted)
    }

    /// Assigns a guardrail to all of them or to none. How many did not have it.
    ///
    /// # Errors
    /// [`GuardrailError`].
    pub async fn assign(&self, uuid: Uuid, assignees: Assignees, act: Act<usize>) -> Result<usize, GuardrailError> {
        Ok(self.store().assign(uuid, some(assignees)?, act).await??)
    }

    /// Takes a guardrail away from all of them. How many had it.
    ///
    /// # Errors
    /// [`GuardrailError`].
    pub async fn unassign(&self, uuid: Uuid, assignees: Assignees, act: Act<usize>) -> Result<usize, GuardrailError> {
        Ok(self.store().unassign(uuid, some(assignees)?, act).await??)
    }

    /// The assignments of one guardrail, or of all, oldest first.
    ///
    /// # Errors
    /// [`GuardrailRefused::Unknown`], or the store failed.
    pub async fn assignments(
        &self,
        uuid: Option<Uuid>,
        kind: AssigneeKind,
        page: PageQuery,
    ) -> Result<Page<AssignmentView>, GuardrailError> {
        if let Some(uuid) = uuid {
            self.guardrail(uuid).await?;
        }
        Ok(self.store().assignments(uuid, kind, page).await?)
    }
}

fn some(assignees: Assignees) -> Result<Assignees, GuardrailError> {
    match &assignees {
        Assignees::Keys(hashes) if hashes.is_empty() => Err(GuardrailError::Invalid("`key_hashes` must not be empty")),
        Assignees::Members(ids) if ids.is_empty() => {
            Err(GuardrailError::Invalid("`member_user_ids` must not be empty"))
        }
        Assignees::Keys(_) | Assignees::Members(_) => Ok(assignees),
    }
}

fn check(change: &GuardrailChange) -> Result<(), GuardrailError> {
    let long = |text: &String, most: usize| text.chars().count() > most;
    if change.name.as_ref().is_some_and(|name| name.trim().is_empty() || long(name, NAME_MAX)) {
        return Err(GuardrailError::Invalid("`name` must be 1 to 200 characters long"));
    }
    if change.description.iter().flatten().any(|description| long(description, DESCRIPTION_MAX)) {
        return Err(GuardrailError::Invalid("`description` must be 1000 characters long at the most"));
    }
    let lists = [
        &change.allowed_models,
        &change.ignored_models,
        &change.allowed_providers,
        &change.ignored_providers,
        &change.allowed_data_regions,
    ];
    if lists.into_iter().flatten().flatten().any(Vec::is_empty) {
        return Err(GuardrailError::Invalid(
            "a list of models, providers or regions must name one at least, or be null",
        ));
    }
    Ok(())
}
