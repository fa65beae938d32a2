//! Puts a server together and runs it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::net::TcpListener;
use tollgate_app::{App, OsRandom, Random, Settings, StartError};
use tollgate_domain::KeySecret;
use tollgate_domain::model::Endpoint;
use tollgate_domain::web::Site;
use tollgate_gateway::{Gateway, Limits, NoSteps, ProviderSettings, Steps, Tasks};
use tollgate_http::{Api, HttpLimits, Server, tls_config};
use tollgate_store::{Clock, SystemClock};

use crate::admin;
use crate::config::Config;
use crate::failure::{Failure, Kind};
use crate::storage::Storage;
use crate::vault;

/// What a test puts in the place of the real thing.
pub struct Parts {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Who is told each step of a call.
    pub steps: Arc<dyn Steps>,
    /// While true every commit fails as on a broken disk.
    pub refuse_commits: Option<Arc<AtomicBool>>,
    /// Whether a PostgreSQL server that does not flush will do.
    pub without_fsync: bool,
    /// Limits of the data path that the configuration does not name.
    pub limits: Limits,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            steps: Arc::new(NoSteps),
            refuse_commits: None,
            without_fsync: false,
            limits: Limits::default(),
        }
    }
}

/// A server, bound and ready to run.
pub struct Booted {
    /// The address it listens on.
    pub address: SocketAddr,
    /// Where people and clients reach it.
    pub public_url: String,
    /// The product.
    pub app: App,
    /// The first management key, if this start made it.
    pub first_management_key: Option<KeySecret>,
    storage: Storage,
    server: Server,
    grace: Duration,
    settle_wait: Duration,
    admin: Option<admin::Listener>,
}

/// The product on a store.
///
/// # Errors
/// The store does not answer.
pub async fn open_app(
    config: &Config,
    storage: &Storage,
    public_url: String,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<App, Failure> {
    let store = storage.store();
    let oauth_default_limit = config.oauth.default_limit()?;
    let vault = vault::open(storage.file(), store.as_ref(), environment).await?;
    let providers = config.providers.iter().map(|provider| (provider.slug.clone(), provider.declared())).collect();
    let (key_prefix, byok_fee) = (config.keys.prefix.clone(), config.byok.fee()?);
    let settings = Settings { key_prefix, public_url, oauth_default_limit, vault, providers, byok_fee };
    App::new(store, Arc::new(OsRandom), settings).await.map_err(|error| match error {
        StartError::OtherVault => vault::other_key(),
        StartError::Vault(error) => failed(error),
        StartError::Store(error) => failed(error),
    })
}

/// Binds, opens, recovers and publishes; nothing is served until [`Booted::run`].
///
/// # Errors
/// Something in the configuration or on the machine prevents it.
pub async fn boot(
    config: &Config,
    parts: Parts,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Booted, Failure> {
    let endpoints = config.endpoints()?;
    let providers = config.provider_settings(&environment)?;
    let listen = &config.server.listen;
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        let fact = format!("cannot listen on {listen}: {error}");
        Failure::new(Kind::Failed, fact).next("stop what listens there, or set server.listen to another address")
    })?;
    let address = listener.local_addr().map_err(failed)?;
    let public_url = config.public_url(&address.to_string());
    let site = config.consent_site(&public_url)?;
    let storage = Storage::open(config, &parts).await?;
    let bound = Bound { listener, address, public_url, site };
    let booted = put_together(config, parts, environment, bound, providers, endpoints, storage.clone()).await;
    if booted.is_err() {
        // It is free again for whoever starts with what was wrong put right.
        let _ = storage.close().await;
    }
    booted
}

/// Where a server listens, and what it calls itself.
struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    public_url: String,
    site: Option<Site>,
}

async fn put_together(
    config: &Config,
    parts: Parts,
    environment: impl Fn(&str) -> Option<String>,
    bound: Bound,
    providers: Vec<ProviderSettings>,
    endpoints: Vec<Endpoint>,
    storage: Storage,
) -> Result<Booted, Failure> {
    let Bound { listener, address, public_url, site } = bound;
    let app = open_app(config, &storage, public_url.clone(), &environment).await?;
    app.publish(endpoints).await.map_err(failed)?;
    let tasks = Tasks::default();
    let limits = Limits {
        min_output_tokens: config.limits.min_output_tokens,
        head_timeout: Duration::from_secs(config.limits.head_timeout_seconds),
        idle_timeout: Duration::from_secs(config.limits.idle_timeout_seconds),
        ..parts.limits
    };
    let gateway = Gateway::new(app.clone(), providers, limits, tasks.clone(), parts.steps)
        .map_err(|error| Failure::new(Kind::Usage, error.to_string()))?;
    let http_limits = HttpLimits {
        body_bytes_max: config.limits.body_bytes_max,
        header_timeout: Duration::from_secs(config.limits.header_timeout_seconds),
        body_timeout: Duration::from_secs(config.limits.body_timeout_seconds),
        write_timeout: Duration::from_secs(config.limits.write_timeout_seconds),
        ..HttpLimits::default()
    };
    let tls = match &config.server.tls {
        None => None,
        Some(tls) => Some(tls_config(&tls.certificate_file, &tls.key_file).map_err(|error| {
            Failure::new(Kind::Usage, format!("server.tls: {error}")).next("certificate_file and key_file must be PEM")
        })?),
    };
    let boot_bytes = OsRandom.bytes().map_err(failed)?;
    let boot_id = boot_bytes.iter().take(4).fold(0_u32, |id, byte| (id << 8) | u32::from(*byte));
    let api = Api::new(app.clone(), gateway, http_limits, config.guard()?, boot_id, site);
    let admin = storage.file().map(admin::Listener::bind).transpose()?;
    // Last: once it is made, nothing may fail before it is handed over.
    let first_management_key = bootstrap(config, &app, &environment).await?;
    Ok(Booted {
        address,
        public_url,
        app,
        first_management_key,
        storage,
        server: Server::new(listener, tls, api, tasks),
        settle_wait: limits.settle_wait,
        grace: Duration::from_secs(config.server.grace_seconds),
        admin,
    })
}

async fn bootstrap(
    config: &Config,
    app: &App,
    environment: &impl Fn(&str) -> Option<String>,
) -> Result<Option<KeySecret>, Failure> {
    const NAME: &str = "TOLLGATE_BOOTSTRAP_MANAGEMENT_KEY";
    let given = match environment(NAME) {
        None => None,
        Some(text) => {
            let secret = KeySecret::parse(&config.keys.prefix, &text).ok_or_else(|| {
                let fact = format!("{NAME} is not `{}` followed by 64 lowercase hex digits", config.keys.prefix);
                Failure::new(Kind::Usage, fact).next("unset it to have a key made")
            })?;
            Some(secret)
        }
    };
    app.bootstrap_management_key(given).await.map_err(failed)
}

impl Booted {
    /// Serves until `stop` resolves, then settles what is under way and closes the database.
    ///
    /// # Errors
    /// The last of the ledger could not be written.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), Failure> {
        let storage = self.storage.clone();
        let admin = self.admin.take();
        let (app, grace) = (self.app.clone(), self.grace);
        let administered = storage.clone();
        let background = async {
            let administering = async {
                match admin {
                    Some(admin) => admin.serve(app, administered).await,
                    None => std::future::pending().await,
                }
            };
            tokio::join!(storage.keep(), administering)
        };
        let settled = tokio::select! {
            settled = self.server.run(stop, grace, self.settle_wait) => settled,
            _ = background => false,
        };
        if !settled {
            tracing::warn!("calls were still under way at the end; they are booked as lost at the next start");
        }
        self.storage.close().await.map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(Kind::Failed, error.to_string())
}
