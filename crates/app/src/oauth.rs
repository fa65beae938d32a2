//! Keys for apps: a code is made for an app, and the app exchanges it for a key of its own.

use tollgate_domain::key::Key;
use tollgate_domain::oauth::{AuthCode, Callback, Challenge, Code, CodeHash, ExchangeRefused, Grant, Proof};
use tollgate_domain::time::LimitReset;
use tollgate_domain::workspace::Workspace;
use tollgate_domain::{KeySecret, Timestamp, Usd};
use tollgate_store::{Act, NewCode, NewSecret, StoreError, WorkspaceRef};
use uuid::Uuid;

use crate::{App, RandomError};

/// Characters of a key's label, as the one who asks for a code may give it.
const LABEL_MAX: usize = 100;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeRequest {
    /// Where the app gets the code.
    pub callback: Callback,
    /// What the app's verifier answers to.
    pub challenge: Challenge,
    /// The name of the key; `None` is the callback's host.
    pub key_label: Option<String>,
    /// The limit of the key, USD; `None` is the operator's default.
    pub limit: Option<Usd>,
    /// The window of the limit; `None` is for life.
    pub limit_reset: Option<LimitReset>,
    /// When the key stops working.
    pub expires_at: Option<Timestamp>,
    /// The workspace of the key; `None` is the default one.
    pub workspace: Option<Uuid>,
}

/// Why a code was not made. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum CreateCodeError {
    /// The label is too long.
    #[error("`key_label` must have {LABEL_MAX} characters at the most")]
    LabelTooLong,
    /// The expiry is not in the future.
    #[error("`expires_at` must be in the future")]
    Expired,
    /// There is no such workspace.
    #[error("Workspace not found")]
    UnknownWorkspace,
    /// No randomness.
    #[error("no code could be made")]
    Random(#[from] RandomError),
    /// The store failed.
    #[error("the code could not be stored")]
    Store(#[from] StoreError),
}

/// Why a code was not exchanged. No key was made.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeCodeError {
    /// The code, or what came with it, is not good.
    #[error("the code is not good for a key")]
    Refused(ExchangeRefused),
    /// No randomness.
    #[error("no secret could be made")]
    Random(#[from] RandomError),
    /// The store failed.
    #[error("the key could not be stored")]
    Store(#[from] StoreError),
}

impl App {
    /// Makes a code, shown this once.
    ///
    /// # Errors
    /// [`CreateCodeError`].
    pub async fn create_code(
        &self,
        request: CodeRequest,
        act: Act<(AuthCode, Code)>,
    ) -> Result<(AuthCode, Code), CreateCodeError> {
        let (grant, _) = self.grant(&request).await?;
        let code = Code::new(self.random.bytes()?);
        let new = NewCode { hash: code.hash(), challenge: request.challenge, grant };
        let shown = code.clone();
        let act = act.over(move |created: &AuthCode| Some((created.clone(), shown)));
        let created = self.store().create_code(new, act).await?.ok_or(CreateCodeError::UnknownWorkspace)?;
        tracing::info!(callback.host = request.callback.host(), "authorization code created");
        Ok((created, code))
    }

    /// The key that a code for `request` would be good for, and the workspace it would spend in. Nothing is written.
    ///
    /// # Errors
    /// [`CreateCodeError`].
    pub async fn grant(&self, request: &CodeRequest) -> Result<(Grant, Workspace), CreateCodeError> {
        let host = request.callback.host();
        let label = request.key_label.as_deref().unwrap_or_default();
        if label.chars().count() > LABEL_MAX {
            return Err(CreateCodeError::LabelTooLong);
        }
        let now = self.store().now().await?;
        if request.expires_at.is_some_and(|end| end <= now) {
            return Err(CreateCodeError::Expired);
        }
        let which = request.workspace.map_or(WorkspaceRef::Default, WorkspaceRef::Id);
        let workspace = self.store().workspace(&which).await?.ok_or(CreateCodeError::UnknownWorkspace)?;
        let grant = Grant {
            name: if label.trim().is_empty() { host.to_owned() } else { label.to_owned() },
            workspace: workspace.id,
            limit: request.limit.or(self.settings().oauth_default_limit),
            limit_reset: request.limit_reset,
            expires_at: request.expires_at,
        };
        Ok((grant, workspace))
    }

    /// Exchanges a code for a key, whose secret is shown this once.
    ///
    /// # Errors
    /// [`ExchangeCodeError`].
    pub async fn exchange_code(
        &self,
        code: &CodeHash,
        proof: Proof,
        act: Act<KeySecret>,
    ) -> Result<KeySecret, ExchangeCodeError> {
        let secret = KeySecret::new(&self.settings().key_prefix, self.random.bytes()?);
        let shown = secret.clone();
        let act = act.over(move |_: &Key| Some(shown));
        let exchanged = self.store().exchange_code(code, proof, NewSecret::from(&secret), act).await?;
        let key = exchanged.map_err(ExchangeCodeError::Refused)?;
        tracing::info!(key.hash = %key.hash, "authorization code exchanged for a key");
        Ok(secret)
    }
}
