//! The same stories on the pure book, on the engine, and on the server over HTTP.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on panics")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use testkit::scenario::{Subject, tell_all};
use testkit::{ManualClock, Script, TestApp, TestKey};
use tokio::task::JoinHandle;
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::key::{CallLimits, KeyChange, NewKey};
use tollgate_domain::ledger::{Amounts, Book, Closed, MoneyKind, Refusal, RefusalReason, ReserveOutcome, Tariff};
use tollgate_domain::model::PriceVersion;
use tollgate_domain::pricing::{Bound, Cost, OutputCap};
use tollgate_domain::time::{LimitReset, WindowKind, Windows};
use tollgate_domain::workspace::WorkspaceId;
use tollgate_domain::{Key, KeyHash, KeyId, Price, Timestamp, Usd};
use tollgate_store::{Actor, Admission, Outcome, Reserve, Settlement, SettlementFacts, Store};
use tollgate_store_sqlite::{Durability, Options, SqliteStore};

use crate::postgres::Database;

fn stories() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../scenarios")
}

fn bound(amount: Usd) -> Bound {
    Bound {
        prompt_tokens: 0,
        fixed_picos: amount.picos(),
        completion: Price::ZERO,
        choices: 1,
        cap: OutputCap::Asked(1),
        open_ended: false,
    }
}

fn word(refusal: &Refusal) -> &'static str {
    match refusal.reason {
        RefusalReason::Unbounded => "unbounded",
        RefusalReason::Spent => "spent",
        RefusalReason::NeverFits { .. } => "never",
        RefusalReason::InFlight => "in-flight",
    }
}

fn new_key(name: &str, limit: Option<Usd>, limit_reset: Option<LimitReset>) -> NewKey {
    NewKey {
        hash: KeyHash::of(name),
        name: name.to_owned(),
        label: name.to_owned(),
        workspace: WorkspaceId(1),
        limit,
        limit_reset,
        include_byok_in_limit: false,
        expires_at: None,
        creator: None,
        external_user: None,
        call_limits: CallLimits::default(),
        allowed_models: None,
    }
}

struct PureBook {
    book: Book,
    now: Timestamp,
    keys: HashMap<String, KeyId>,
    rows: HashMap<String, GenerationRow>,
}

impl PureBook {
    fn change(&mut self, key: &str, change: KeyChange) {
        self.book.change_key(self.keys[key], change, self.now).unwrap();
    }

    fn held(key: &Key, book: &Book, now: Timestamp) -> (Usd, Usd) {
        let (window, windows) = (WindowKind::of(key.limit_reset), Windows::at(now));
        let balance = &book.key(key.id).unwrap().balance;
        let kind = MoneyKind::Credits;
        (balance.spent(kind, window, &windows), balance.held(kind, window, &windows))
    }
}

impl Subject for PureBook {
    async fn new(now: Timestamp) -> Self {
        Self { book: Book::default(), now, keys: HashMap::new(), rows: HashMap::new() }
    }
    async fn key(&mut self, name: &str, limit: Option<Usd>, reset: Option<LimitReset>) {
        let id = KeyId(i64::try_from(self.keys.len()).unwrap());
        self.keys.insert(name.to_owned(), id);
        self.book.insert_key(new_key(name, limit, reset).into_key(id, self.now));
    }
    async fn reserve(&mut self, name: &str, key: &str, amount: Usd) -> &'static str {
        let row = GenerationRow(i64::try_from(self.rows.len()).unwrap());
        self.rows.insert(name.to_owned(), row);
        match self.book.reserve(row, self.keys[key], &bound(amount), Tariff::Credits, self.now).unwrap() {
            ReserveOutcome::Granted { .. } => "granted",
            ReserveOutcome::Refused(refusal) => word(&refusal),
            ReserveOutcome::Rejected(_) | ReserveOutcome::AlreadyClosed => "rejected",
        }
    }
    async fn settle(&mut self, name: &str, amount: Usd) -> Option<&'static str> {
        match self.book.settle(self.rows[name], Amounts::credits(amount)) {
            Closed::Now(_) => Some("ok"),
            Closed::NotOpen => Some("repeat"),
        }
    }
    async fn release(&mut self, name: &str) {
        self.settle(name, Usd::ZERO).await;
    }
    async fn limit(&mut self, key: &str, limit: Option<Usd>) {
        self.change(key, KeyChange { limit: Some(limit), ..KeyChange::default() });
    }
    async fn reset(&mut self, key: &str, reset: Option<LimitReset>) {
        self.change(key, KeyChange { limit_reset: Some(reset), ..KeyChange::default() });
    }
    async fn disable(&mut self, key: &str, disabled: bool) {
        self.change(key, KeyChange { disabled: Some(disabled), ..KeyChange::default() });
    }
    async fn tick(&mut self, seconds: u64) {
        self.now = self.now.plus_micros(i64::try_from(seconds).unwrap() * 1_000_000);
    }
    async fn balance(&mut self, key: &str) -> (Usd, Option<Usd>) {
        let key = self.book.key(self.keys[key]).unwrap().key.clone();
        let (spent, held) = Self::held(&key, &self.book, self.now);
        (spent, Some(held))
    }
}

/// What an engine stands on: a database, and its clock.
trait Base: Sized {
    async fn new(at: Timestamp) -> (Self, Arc<dyn Store>);
    async fn tick(&self, by: Duration);
}

/// The embedded engine on a file of its own in `folder`.
pub fn embedded(folder: &Path, clock: &Arc<ManualClock>) -> SqliteStore {
    let store = tollgate_store_sqlite::open(Options {
        path: folder.join("tollgate.db"),
        durability: Durability::Process,
        clock: Arc::clone(clock) as _,
        seed: [7; 32],
        token: [8; 32],
        refuse_commits: None,
    });
    store.unwrap()
}

struct File {
    clock: Arc<ManualClock>,
    _folder: tempfile::TempDir,
}

impl Base for File {
    async fn new(at: Timestamp) -> (Self, Arc<dyn Store>) {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(&at.to_string()));
        let store = embedded(folder.path(), &clock);
        (Self { clock, _folder: folder }, Arc::new(store))
    }

    async fn tick(&self, by: Duration) {
        self.clock.advance(by);
    }
}

impl Base for Database {
    async fn new(at: Timestamp) -> (Self, Arc<dyn Store>) {
        let database = Self::new(at).await;
        let store = database.open().await;
        (database, Arc::new(store))
    }

    async fn tick(&self, by: Duration) {
        self.tick(by).await;
    }
}

struct Engine<B> {
    base: B,
    store: Arc<dyn Store>,
    keys: HashMap<String, KeyId>,
    rows: HashMap<String, GenerationRow>,
}

impl<B: Base> Engine<B> {
    async fn change(&self, key: &str, change: KeyChange) {
        self.store.update_key(&KeyHash::of(key), change, &Actor::Operator).await.unwrap().unwrap();
    }

    async fn end(&self, name: &str, outcome: Outcome, amount: Usd) -> bool {
        let settlement = Settlement {
            row: self.rows[name],
            outcome,
            charge: Amounts::credits(amount),
            cost: Cost { total: amount, ..Cost::default() },
            metered: None,
            price: PriceVersion(1),
            facts: SettlementFacts::default(),
        };
        self.store.settle(settlement).await.unwrap().first
    }
}

impl<B: Base> Subject for Engine<B> {
    async fn new(at: Timestamp) -> Self {
        let (base, store) = B::new(at).await;
        Self { base, store, keys: HashMap::new(), rows: HashMap::new() }
    }
    async fn key(&mut self, name: &str, limit: Option<Usd>, reset: Option<LimitReset>) {
        let view = self.store.create_keys(vec![new_key(name, limit, reset)], Actor::Operator.into()).await.unwrap();
        self.keys.insert(name.to_owned(), view.unwrap()[0].key.id);
    }
    async fn reserve(&mut self, name: &str, key: &str, amount: Usd) -> &'static str {
        let row = self.store.next_generation();
        self.rows.insert(name.to_owned(), row);
        let (key, tariff) = (self.keys[key], Tariff::Credits);
        let want = Reserve { row, key, secret: None, price: PriceVersion(1), bound: bound(amount), tariff };
        match self.store.reserve(want).await.unwrap() {
            Admission::Granted(_) => "granted",
            Admission::Refused(refusal) => word(&refusal),
            Admission::Rejected(_) => "rejected",
        }
    }
    async fn settle(&mut self, name: &str, amount: Usd) -> Option<&'static str> {
        Some(if self.end(name, Outcome::Settled, amount).await { "ok" } else { "repeat" })
    }
    async fn release(&mut self, name: &str) {
        self.end(name, Outcome::Released, Usd::ZERO).await;
    }
    async fn limit(&mut self, key: &str, limit: Option<Usd>) {
        self.change(key, KeyChange { limit: Some(limit), ..KeyChange::default() }).await;
    }
    async fn reset(&mut self, key: &str, reset: Option<LimitReset>) {
        self.change(key, KeyChange { limit_reset: Some(reset), ..KeyChange::default() }).await;
    }
    async fn disable(&mut self, key: &str, disabled: bool) {
        self.change(key, KeyChange { disabled: Some(disabled), ..KeyChange::default() }).await;
    }
    async fn tick(&mut self, seconds: u64) {
        self.base.tick(Duration::from_secs(seconds)).await;
    }
    async fn balance(&mut self, key: &str) -> (Usd, Option<Usd>) {
        let view = self.store.key(&KeyHash::of(key)).await.unwrap().unwrap();
        let spent = view.spend.credits[WindowKind::of(view.key.limit_reset).index()];
        (spent, view.budgets.first().map(|state| state.held))
    }
}

struct OverHttp {
    app: TestApp,
    keys: HashMap<String, Arc<TestKey>>,
    calls: HashMap<String, JoinHandle<u16>>,
}

impl OverHttp {
    async fn patch(&self, key: &str, change: serde_json::Value) {
        self.app.manager.update_key(&self.keys[key].hash, &serde_json::from_value(change).unwrap()).await.unwrap();
    }

    fn cents(amount: Usd) -> u64 {
        u64::try_from(amount.nanos() / 10_000_000).unwrap()
    }
}

impl Subject for OverHttp {
    async fn new(at: Timestamp) -> Self {
        let app = TestApp::at(&at.to_string()).await;
        app.provider.script(Script::Named);
        Self { app, keys: HashMap::new(), calls: HashMap::new() }
    }
    async fn key(&mut self, name: &str, limit: Option<Usd>, reset: Option<LimitReset>) {
        let mut key = self.app.key();
        if let Some(limit) = limit {
            key = key.limit_nanos(limit.nanos());
        }
        if let Some(reset) = reset {
            key = key.reset(reset.as_str());
        }
        self.keys.insert(name.to_owned(), Arc::new(key.create().await));
    }
    async fn reserve(&mut self, name: &str, key: &str, amount: Usd) -> &'static str {
        let (key, arrived) = (Arc::clone(&self.keys[key]), self.app.provider.calls());
        let extra = json!({"model": "test/cent", "user": name});
        #[expect(clippy::disallowed_methods, reason = "the call goes on while the story does")]
        let mut call = tokio::spawn(async move { key.chat(Self::cents(amount), extra).await });
        let answer = tokio::select! {
            () = self.app.provider.arrived(arrived + 1) => {
                #[expect(clippy::disallowed_methods, reason = "the call goes on while the story does")]
                let status = tokio::spawn(async move { call.await.unwrap().status.as_u16() });
                self.calls.insert(name.to_owned(), status);
                return "granted";
            }
            answer = &mut call => answer.unwrap(),
        };
        match (answer.status.as_u16(), answer.headers.contains_key("retry-after")) {
            (403, _) => "spent",
            (402, true) => "in-flight",
            (402, false) => "never",
            (401, _) => "rejected",
            (status, _) => panic!("{status}: {:?}", answer.body),
        }
    }
    async fn settle(&mut self, name: &str, amount: Usd) -> Option<&'static str> {
        // A provider answers once: over HTTP there is no settling twice.
        let call = self.calls.remove(name)?;
        self.app.provider.finish(name, Some(Self::cents(amount)));
        assert_eq!(call.await.unwrap(), 200);
        Some("ok")
    }
    async fn release(&mut self, name: &str) {
        self.app.provider.finish(name, None);
        assert_eq!(self.calls.remove(name).unwrap().await.unwrap(), 502);
    }
    async fn limit(&mut self, key: &str, limit: Option<Usd>) {
        let limit: serde_json::Value =
            limit.map_or(json!(null), |limit| serde_json::from_str(&limit.to_string()).unwrap());
        self.patch(key, json!({"limit": limit})).await;
    }
    async fn reset(&mut self, key: &str, reset: Option<LimitReset>) {
        self.patch(key, json!({"limit_reset": reset.map(LimitReset::as_str)})).await;
    }
    async fn disable(&mut self, key: &str, disabled: bool) {
        self.patch(key, json!({"disabled": disabled})).await;
    }
    async fn tick(&mut self, seconds: u64) {
        self.app.clock.advance(Duration::from_secs(seconds));
    }
    async fn balance(&mut self, key: &str) -> (Usd, Option<Usd>) {
        let key = self.app.manager.key(&self.keys[key].hash).await.unwrap();
        let spent = match key.limit_reset.as_deref() {
            Some("daily") => key.usage_daily,
            Some("weekly") => key.usage_weekly,
            Some("monthly") => key.usage_monthly,
            _ => key.usage,
        };
        (spent.0, key.limit_held.map(|held| held.0))
    }
}

#[tokio::test]
async fn the_stories_hold_on_the_pure_book() {
    tell_all::<PureBook>(&stories()).await;
}

#[tokio::test]
async fn the_stories_hold_on_the_engine() {
    tell_all::<Engine<File>>(&stories()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stories_hold_on_postgresql() {
    tell_all::<Engine<Database>>(&stories()).await;
}

#[tokio::test]
async fn the_stories_hold_over_http() {
    tell_all::<OverHttp>(&stories()).await;
}
