//! What the product does, one file per use case. Knows no HTTP and no SQL.

pub mod activity;
mod adjust;
mod catalogue;
pub mod credentials;
pub mod credits;
pub mod guardrails;
pub mod keys;
pub mod management_keys;
pub mod members;
pub mod oauth;
mod once;
mod random;
mod selection;
pub mod sessions;
pub mod vault;
pub mod workspaces;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tollgate_domain::guardrail::Declared;
use tollgate_domain::ledger::Fee;
use tollgate_domain::model::Endpoint;
use tollgate_domain::session::Sessions;
use tollgate_domain::{Timestamp, Usd};
use tollgate_store::{Store, StoreError};

pub use adjust::{AdjustError, Adjustment};
pub use catalogue::{Catalogue, Model, Offer};
pub use once::{Kept, Slot};
pub use random::{OsRandom, Random, RandomError};
pub use selection::{Order, PriceRange, Selection};
pub use vault::Vault;

/// What an operator decides about the whole server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What new keys begin with.
    pub key_prefix: String,
    /// Where people and clients reach the server, without a trailing slash.
    pub public_url: String,
    /// The limit of keys that apps get for a code, where none is asked for.
    pub oauth_default_limit: Option<Usd>,
    /// What secrets are sealed with; without it none are kept.
    pub vault: Option<Vault>,
    /// The providers that are configured, by slug, and what is declared of them.
    pub providers: BTreeMap<String, Declared>,
    /// What a call under an own provider credential costs.
    pub byok_fee: Fee,
}

/// Why the product does not start on a database.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What is sealed in the database was sealed with another key.
    #[error("the database belongs to another encryption key")]
    OtherVault,
    /// The encryption key cannot be used.
    #[error(transparent)]
    Vault(#[from] vault::SealError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The product: everything a handler, a page or a command may ask for.
#[derive(Clone)]
pub struct App {
    store: Arc<dyn Store>,
    random: Arc<dyn Random>,
    settings: Arc<Settings>,
    catalogue: Arc<ArcSwap<Catalogue>>,
    sessions: Arc<Mutex<Sessions>>,
    started_at: Timestamp,
}

impl App {
    /// The product on a storage engine, with a catalogue still empty.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn new(store: Arc<dyn Store>, random: Arc<dyn Random>, settings: Settings) -> Result<Self, StartError> {
        let started_at = store.now().await?;
        if let Some(vault) = &settings.vault
            && !store.same_vault(vault.check()?).await?
        {
            return Err(StartError::OtherVault);
        }
        let catalogue = Arc::new(ArcSwap::from_pointee(Catalogue::default()));
        let sessions = Arc::default();
        Ok(Self { store, random, settings: Arc::new(settings), catalogue, sessions, started_at })
    }

    /// Makes these endpoints the ones that calls can use.
    ///
    /// # Errors
    /// The prices could not be written down.
    pub async fn publish(&self, endpoints: Vec<Endpoint>) -> Result<(), StoreError> {
        let priced = self.store.publish(endpoints).await?;
        self.catalogue.store(Arc::new(Catalogue::new(priced)));
        Ok(())
    }

    /// The storage engine.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The models that can be called now.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.load_full()
    }

    /// What the operator decided.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What is declared of a provider.
    pub fn declared(&self, provider: &str) -> Declared {
        self.settings.providers.get(provider).copied().unwrap_or_default()
    }

    /// When this process started, by the ledger's clock.
    pub const fn started_at(&self) -> Timestamp {
        self.started_at
    }
}
