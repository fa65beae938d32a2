//! Authorization codes.

use async_trait::async_trait;
use tollgate_domain::key::Key;
use tollgate_domain::oauth::{AuthCode, Challenge, CodeHash, ExchangeRefused, Grant, Proof};
use tollgate_domain::{KeyHash, KeySecret};

use crate::{Act, StoreError};

/// A code to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCode {
    /// The SHA-256 of its text.
    pub hash: CodeHash,
    /// What its verifier must answer to.
    pub challenge: Challenge,
    /// What it is good for.
    pub grant: Grant,
}

/// What is kept of the secret of a key to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSecret {
    /// Its SHA-256.
    pub hash: KeyHash,
    /// Its mask.
    pub label: String,
}

impl From<&KeySecret> for NewSecret {
    fn from(secret: &KeySecret) -> Self {
        Self { hash: secret.hash(), label: secret.label() }
    }
}

/// Authorization codes, by intent.
#[async_trait]
pub trait OAuthStore: Send + Sync {
    /// Remembers a code; `None` where its workspace is gone. Durable when this returns.
    async fn create_code(&self, code: NewCode, act: Act<AuthCode>) -> Result<Option<AuthCode>, StoreError>;

    /// Exchanges a code for the key with this secret: the code is gone and the key is there, or neither. Of those who
    /// present a code at once one gets a key. A wrong verifier is counted. In force, and durable, when this returns.
    async fn exchange_code(
        &self,
        code: &CodeHash,
        proof: Proof,
        secret: NewSecret,
        act: Act<Key>,
    ) -> Result<Result<Key, ExchangeRefused>, StoreError>;
}
