//! Creating a key.

use tollgate_domain::key::{CallLimits, NewKey};
use tollgate_domain::time::LimitReset;
use tollgate_domain::{KeySecret, Timestamp, Usd};
use tollgate_store::{Act, KeyView, StoreError, WorkspaceRef};
use uuid::Uuid;

use crate::{App, RandomError};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRequest {
    /// Free text.
    pub name: String,
    /// USD in a window; `None` is no limit.
    pub limit: Option<Usd>,
    /// The window; `None` is for life.
    pub limit_reset: Option<LimitReset>,
    /// Whether BYOK usage counts.
    pub include_byok_in_limit: bool,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// The member who creates it.
    pub creator_user_id: Option<String>,
    /// The workspace; `None` is the default one.
    pub workspace: Option<Uuid>,
    /// A partner's own name for whoever uses it.
    pub external_user: Option<String>,
    /// How often it may call.
    pub call_limits: CallLimits,
    /// The only models that it may call; `None` is all of them.
    pub allowed_models: Option<Vec<String>>,
}

/// Why a key was not created. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum CreateKeyError {
    /// A list of models without one.
    #[error("`allowed_models` must name one model at least, or be null")]
    NoModels,
    /// The name is empty.
    #[error("`name` must not be empty")]
    EmptyName,
    /// The expiry is not in the future.
    #[error("`expires_at` must be in the future")]
    Expired,
    /// There is no such workspace.
    #[error("Workspace not found")]
    UnknownWorkspace,
    /// There is no such member.
    #[error("`creator_user_id` names no member of the organization")]
    UnknownMember,
    /// Too few or too many at once.
    #[error("`keys` must be 1 to {BULK_MAX} keys")]
    Count,
    /// One of many.
    #[error("keys[{0}]: {1}")]
    At(usize, Box<Self>),
    /// No randomness.
    #[error("no secret could be made")]
    Random(#[from] RandomError),
    /// The store failed.
    #[error("the key could not be stored")]
    Store(#[from] StoreError),
}

/// Keys in one request at the most.
const BULK_MAX: usize = 1_000;

impl App {
    /// Creates a key; its secret is shown this once.
    ///
    /// # Errors
    /// [`CreateKeyError`].
    pub async fn create_key(
        &self,
        request: KeyRequest,
        act: Act<(KeyView, KeySecret)>,
    ) -> Result<(KeyView, KeySecret), CreateKeyError> {
        let (new, secret) = self.new_key(request).await?;
        let shown = secret.clone();
        let act = act.over(move |views: &Vec<KeyView>| Some((views.first()?.clone(), shown)));
        let created = self.store().create_keys(vec![new], act).await?;
        let view = created.and_then(|mut views| views.pop()).ok_or(CreateKeyError::UnknownWorkspace)?;
        tracing::info!(key.hash = %view.key.hash, "key created");
        Ok((view, secret))
    }

    /// Creates all of them or none; their secrets are shown this once.
    ///
    /// # Errors
    /// [`CreateKeyError`]; which of them it is for stands in [`CreateKeyError::At`].
    pub async fn create_keys(
        &self,
        requests: Vec<KeyRequest>,
        act: Act<Vec<(KeyView, KeySecret)>>,
    ) -> Result<Vec<(KeyView, KeySecret)>, CreateKeyError> {
        if !(1..=BULK_MAX).contains(&requests.len()) {
            return Err(CreateKeyError::Count);
        }
        let (mut new, mut secrets) = (Vec::new(), Vec::new());
        for (index, request) in requests.into_iter().enumerate() {
            let made = self.new_key(request).await.map_err(|error| CreateKeyError::At(index, Box::new(error)));
            let (key, secret) = made?;
            new.push(key);
            secrets.push(secret);
        }
        let shown = secrets.clone();
        let act = act.over(move |views: &Vec<KeyView>| Some(views.iter().cloned().zip(shown).collect()));
        let views = self.store().create_keys(new, act).await?.ok_or(CreateKeyError::UnknownWorkspace)?;
        tracing::info!(keys = views.len(), "keys created");
        Ok(views.into_iter().zip(secrets).collect())
    }

    async fn new_key(&self, request: KeyRequest) -> Result<(NewKey, KeySecret), CreateKeyError> {
        if request.name.trim().is_empty() {
            return Err(CreateKeyError::EmptyName);
        }
        if request.allowed_models.as_ref().is_some_and(Vec::is_empty) {
            return Err(CreateKeyError::NoModels);
        }
        let creator = match &request.creator_user_id {
            None => None,
            Some(user_id) => Some(self.store().member(user_id).await?.ok_or(CreateKeyError::UnknownMember)?.id),
        };
        let now = self.store().now().await?;
        if request.expires_at.is_some_and(|end| end <= now) {
            return Err(CreateKeyError::Expired);
        }
        let which = request.workspace.map_or(WorkspaceRef::Default, WorkspaceRef::Id);
        let workspace = self.store().workspace(&which).await?.ok_or(CreateKeyError::UnknownWorkspace)?;
        let secret = KeySecret::new(&self.settings().key_prefix, self.random.bytes()?);
        let key = NewKey {
            hash: secret.hash(),
            name: request.name,
            label: secret.label(),
            workspace: workspace.id,
            limit: request.limit,
            limit_reset: request.limit_reset,
            include_byok_in_limit: request.include_byok_in_limit,
            expires_at: request.expires_at,
            creator,
            external_user: request.external_user,
            call_limits: request.call_limits,
            allowed_models: request.allowed_models.map(Into::into),
        };
        Ok((key, secret))
    }
}
