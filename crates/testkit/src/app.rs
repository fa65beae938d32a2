//! The real server on port 0, in this process, with its own database.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tollgate::boot::{Parts, boot};
use tollgate::config::Config;
use tollgate_app::App;
use tollgate_client::{Client, RawAnswer};
use tollgate_domain::Usd;
use tollgate_domain::money::Excess;
use tollgate_gateway::{Limits, NoSteps, Steps};
use tollgate_wire::{CreateKey, RawAmount};

use crate::clock::ManualClock;
use crate::provider::Provider;

/// The priced model: one nano-dollar a prompt token, ten a completion token.
pub const MODEL: &str = "test/priced";
/// Its price, as the configuration says it.
pub const PRICING: &str = "{ prompt = \"0.000000001\", completion = \"0.00000001\" }";

/// A JSON number of dollars in nano-dollars, exactly.
pub fn nanos(amount: &Value) -> i64 {
    Usd::parse(&amount.to_string(), Excess::Refuse).unwrap().nanos()
}

/// A server in this process.
pub struct TestApp {
    /// The provider it forwards to.
    pub provider: Provider,
    /// Its clock.
    pub clock: Arc<ManualClock>,
    /// While true its disk refuses every commit.
    pub broken_disk: Arc<AtomicBool>,
    /// Where it listens.
    pub address: SocketAddr,
    /// A client with its management key.
    pub manager: Client,
    /// Its database.
    pub database: PathBuf,
    /// The product inside it.
    pub app: App,
    stop: Option<oneshot::Sender<()>>,
    ended: Option<tokio::task::JoinHandle<()>>,
    folder: Option<TempDir>,
}

/// A key under test, with its secret.
pub struct TestKey {
    /// The SHA-256 of its secret.
    pub hash: String,
    /// Its secret.
    pub secret: String,
    /// A client with it.
    pub client: Client,
}

/// A key to be.
pub struct KeyBuilder<'a> {
    app: &'a TestApp,
    request: CreateKey,
}

/// The management key of every server under test.
pub const MANAGEMENT_KEY: &str = "sk-or-v1-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

impl TestApp {
    /// A server with everything at its defaults.
    pub async fn start() -> Self {
        Self::with(|_| {}, Limits::default()).await
    }

    /// A server with a changed configuration.
    pub async fn with(change: impl FnOnce(&mut Config), limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let provider = Provider::start().await;
        let clock = Arc::new(ManualClock::at("2026-01-15T12:00:00Z"));
        Self::boot(folder, provider, clock, change, limits, Arc::new(NoSteps)).await
    }

    /// A server whose calls tell `steps` how far they are.
    pub async fn watched(steps: Arc<dyn Steps>) -> Self {
        let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start().await);
        let clock = Arc::new(ManualClock::at("2026-01-15T12:00:00Z"));
        Self::boot(folder, provider, clock, |_| {}, Limits::default(), steps).await
    }

    /// A server whose clock starts at an instant.
    pub async fn at(instant: &str) -> Self {
        let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start().await);
        Self::boot(folder, provider, Arc::new(ManualClock::at(instant)), |_| {}, Limits::default(), Arc::new(NoSteps))
            .await
    }

    async fn boot(
        folder: TempDir,
        provider: Provider,
        clock: Arc<ManualClock>,
        change: impl FnOnce(&mut Config),
        limits: Limits,
        steps: Arc<dyn Steps>,
    ) -> Self {
        let database = folder.path().join("tollgate.db");
        let broken_disk = Arc::new(AtomicBool::new(false));
        let mut config = config(&provider, &database);
        change(&mut config);
        let parts = Parts {
            clock: Arc::clone(&clock) as _,
            steps,
            refuse_commits: Some(Arc::clone(&broken_disk)),
            without_fsync: true,
            limits,
        };
        let environment = |name: &str| (name == "TOLLGATE_BOOTSTRAP_MANAGEMENT_KEY").then(|| MANAGEMENT_KEY.to_owned());
        let booted = boot(&config, parts, environment).await.unwrap_or_else(|failure| panic!("{}", failure.fact));
        let (address, app) = (booted.address, booted.app.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        #[expect(clippy::disallowed_methods, reason = "the server under test runs beside the test")]
        let ended = tokio::spawn(async move {
            let stopping = async {
                let _ = stopped.await;
            };
            if let Err(failure) = booted.run(stopping).await {
                panic!("the server failed: {}", failure.fact);
            }
        });
        let manager = Client::new(&format!("http://{address}"), MANAGEMENT_KEY);
        Self {
            provider,
            clock,
            broken_disk,
            address,
            manager,
            database,
            app,
            stop: Some(stop),
            ended: Some(ended),
            folder: Some(folder),
        }
    }

    /// Stops the server, and starts it again on the same database.
    pub async fn restart(self) -> Self {
        self.restart_with(|_| {}).await
    }

    /// The same, with a changed configuration.
    pub async fn restart_with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        self.shut_down().await;
        self.start_again_with(change).await
    }

    /// Starts a server that was stopped again, on the same database.
    pub async fn start_again(self) -> Self {
        self.start_again_with(|_| {}).await
    }

    async fn start_again_with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        let (folder, provider, clock) = (self.folder.take().unwrap(), self.provider.clone(), Arc::clone(&self.clock));
        Self::boot(folder, provider, clock, change, Limits::default(), Arc::new(NoSteps)).await
    }

    /// Stops the server as SIGTERM would.
    pub async fn shut_down(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        self.ended.take().unwrap().await.unwrap();
    }

    /// Makes every commit fail, or stops doing so.
    pub fn break_disk(&self, broken: bool) {
        self.broken_disk.store(broken, Ordering::SeqCst);
    }

    /// A key to be.
    pub fn key(&self) -> KeyBuilder<'_> {
        KeyBuilder { app: self, request: CreateKey { name: "test".to_owned(), ..CreateKey::default() } }
    }

    /// The URL of the server.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// The configuration of a server under test.
fn config(provider: &Provider, database: &std::path::Path) -> Config {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\ngrace_seconds = 5\n[database]\nurl = \"sqlite://{}\"\ndurability = \"process\"\n\
         [[providers]]\nslug = \"scripted\"\nkind = \"openai\"\nbase_url = \"http://{}/v1\"\n\
         [[models]]\nid = \"{MODEL}\"\nprovider = \"scripted\"\nupstream_id = \"upstream-model\"\ncontext_length = 10000\n\
         max_output_tokens = 1000\npricing = {PRICING}\n\
         [[models]]\nid = \"test/cent\"\nprovider = \"scripted\"\ncontext_length = 1000000\n\
         pricing = {{ prompt = \"0\", completion = \"0.01\" }}\n\
         [[models]]\nid = \"test/unpriced\"\nprovider = \"scripted\"\ncontext_length = 10000\n",
        database.display(),
        provider.address
    );
    let file = database.with_extension("toml");
    std::fs::write(&file, text).unwrap();
    Config::load(Some(&file), std::iter::empty()).unwrap_or_else(|failure| panic!("{}", failure.fact))
}

impl KeyBuilder<'_> {
    /// With a limit in USD.
    #[must_use]
    pub fn limit(mut self, usd: &str) -> Self {
        self.request.limit = Some(RawAmount::from(Usd::parse(usd, Excess::Refuse).unwrap()));
        self
    }

    /// With a limit in nano-dollars.
    #[must_use]
    pub fn limit_nanos(mut self, nanos: i64) -> Self {
        self.request.limit = Some(RawAmount::from(Usd::from_nanos(nanos)));
        self
    }

    /// With a reset.
    #[must_use]
    pub fn reset(mut self, word: &str) -> Self {
        self.request.limit_reset = Some(word.to_owned());
        self
    }

    /// With an expiry.
    #[must_use]
    pub fn expires_at(mut self, text: &str) -> Self {
        self.request.expires_at = Some(text.to_owned());
        self
    }

    /// With a limit on calls a minute.
    #[must_use]
    pub fn requests_per_minute(mut self, count: u32) -> Self {
        self.request.requests_per_minute = Some(count);
        self
    }

    /// With a limit on calls in flight.
    #[must_use]
    pub fn calls_in_flight_max(mut self, count: u32) -> Self {
        self.request.calls_in_flight_max = Some(count);
        self
    }

    /// Creates it.
    pub async fn create(self) -> TestKey {
        let created = self.app.manager.create_key(&self.request).await.unwrap();
        let client = self.app.manager.with_key(&created.key);
        TestKey { hash: created.data.hash, secret: created.key, client }
    }
}

impl TestKey {
    /// A call with an output cap; the body may be extended.
    pub async fn chat(&self, max_tokens: u64, extra: Value) -> RawAnswer {
        let mut body =
            json!({"model": MODEL, "max_tokens": max_tokens, "messages": [{"role": "user", "content": "hi"}]});
        if let (Some(body), Value::Object(extra)) = (body.as_object_mut(), extra) {
            body.extend(extra);
        }
        self.client.chat(body.to_string().into_bytes()).await.unwrap()
    }

    /// What `GET /key` says it spent, in nano-dollars.
    pub async fn usage_nanos(&self) -> i64 {
        self.client.current_key().await.unwrap().usage.0.nanos()
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}
