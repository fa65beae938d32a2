//! What every engine must do, told once: an engine's own tests run [`check`] on it.
//!
//! Each chapter opens a database of its own and asks it through the traits alone, before and after it was opened again.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a suite of tests: what does not conform panics")]

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::task::JoinSet;
use tollgate_domain::credential::{CredentialId, Terms, TermsChange, TermsRefused};
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::key::{CallLimits, KeyChange, KeyRejected, NewKey, Powers};
use tollgate_domain::ledger::{Amounts, Fee, RefusalReason, Tariff};
use tollgate_domain::model::{Endpoint, PriceVersion};
use tollgate_domain::oauth::{
    Challenge, ChallengeMethod, CodeHash, ExchangeRefused, Grant, Proof, VerifierHash, WRONG_VERIFIERS_MAX,
};
use tollgate_domain::pricing::{Bound, Cost, OutputCap, PriceList};
use tollgate_domain::time::LimitReset;
use tollgate_domain::usage::{Metered, TokenUsage};
use tollgate_domain::workspace::{NewWorkspace, Preferences, WorkspaceId};
use tollgate_domain::{KeyHash, KeyId, Price, Timestamp, Usd};
use uuid::Uuid;

use crate::{
    Actor, AdjustRefused, Admission, Attempt, CatalogueStore, Credential, CredentialChange, CredentialQuery,
    CredentialRefused, CredentialStore, CredentialView, KeyQuery, KeyStore, KeyView, Ledger, ManagementStore, NewCode,
    NewCredential, NewManagementKey, NewSecret, OAuthStore, Outcome, PageQuery, PricedEndpoint, Raise, Reservation,
    Reserve, SealedSecret, Settlement, SettlementFacts, Store, StoreError, WorkspaceRef, WorkspaceStore,
};

/// A database of an engine, which the suite opens, closes and opens again. Its clock moves when it is told to.
pub trait Engine: Sized {
    /// The engine.
    type Store: Store + Clone + 'static;
    /// Whether a process may be alive that is taken for dead, and settle what was booked as lost.
    const OUTLIVES_ITS_LEASE: bool;

    /// A database that nobody used yet; its clock stands at `at`.
    fn new(at: Timestamp) -> impl Future<Output = Self>;
    /// Opens the database.
    fn open(&self) -> impl Future<Output = Self::Store>;
    /// Closes it, whatever is in flight, so that it can be opened again.
    fn close(&self, store: Self::Store) -> impl Future<Output = ()>;
    /// Lets time pass.
    fn advance(&self, by: Duration);
}

/// Runs every chapter.
pub async fn check<E: Engine>() {
    keys_live_and_die::<E>().await;
    a_race_for_one_budget_ends_exactly_at_it::<E>().await;
    a_generation_settles_once::<E>().await;
    a_hold_is_raised_within_its_budget::<E>().await;
    what_was_in_flight_is_lost_and_adjustable::<E>().await;
    windows_follow_the_clock::<E>().await;
    a_generation_is_remembered_as_it_was::<E>().await;
    management_keys_bootstrap_once::<E>().await;
    prices_are_versioned::<E>().await;
    a_code_buys_one_key::<E>().await;
    a_code_dies_of_guesses_and_of_age::<E>().await;
    credentials_are_kept_sealed_and_in_order::<E>().await;
    credentials_go_with_their_workspace::<E>().await;
    both_kinds_of_money_are_held_and_lost::<E>().await;
}

const START: &str = "2026-03-31T12:00:00Z";

struct Db<E: Engine> {
    engine: E,
    store: E::Store,
}

impl<E: Engine> Db<E> {
    async fn new() -> Self {
        let engine = E::new(Timestamp::parse_utc(START).unwrap()).await;
        let store = engine.open().await;
        Self { engine, store }
    }

    async fn reopened(self) -> Self {
        self.engine.close(self.store).await;
        let store = self.engine.open().await;
        Self { engine: self.engine, store }
    }

    async fn workspace(&self) -> WorkspaceId {
        self.store.workspace(&WorkspaceRef::Default).await.unwrap().unwrap().id
    }

    async fn key(&self, name: &str, limit: Option<i64>, limit_reset: Option<LimitReset>) -> KeyView {
        let key = NewKey {
            hash: KeyHash::of(name),
            name: name.to_owned(),
            label: format!("{name}..."),
            workspace: self.workspace().await,
            limit: limit.map(Usd::from_nanos),
            limit_reset,
            include_byok_in_limit: false,
            expires_at: None,
            creator: None,
            external_user: Some("someone".to_owned()),
            call_limits: CallLimits { requests_per_minute: NonZeroU32::new(60), calls_in_flight_max: None },
            allowed_models: None,
        };
        self.store.create_keys(vec![key], Actor::Operator.into()).await.unwrap().unwrap().remove(0)
    }

    async fn view(&self, name: &str) -> Option<KeyView> {
        self.store.key(&KeyHash::of(name)).await.unwrap()
    }

    async fn who(&self, name: &str) -> Option<Credential> {
        self.store.authenticate(&KeyHash::of(name)).await.unwrap()
    }

    async fn names(&self, offset: u64, limit: usize, include_disabled: bool) -> Vec<String> {
        let workspace = self.workspace().await;
        let query = KeyQuery { workspace, include_disabled, include_expired: true, offset, limit };
        self.store.keys(query).await.unwrap().into_iter().map(|view| view.key.name).collect()
    }

    async fn reserve(&self, key: KeyId, nanos: i64) -> Admission {
        self.store.reserve(want(self.store.next_generation(), key, nanos)).await.unwrap()
    }

    async fn granted(&self, key: KeyId, nanos: i64) -> Reservation {
        match self.reserve(key, nanos).await {
            Admission::Granted(reservation) => reservation,
            other => panic!("{other:?}"),
        }
    }

    /// Spent and held of the key's own limit.
    async fn balance(&self, name: &str) -> (i64, i64) {
        let budget = self.view(name).await.unwrap().budgets[0];
        (budget.spent.nanos(), budget.held.nanos())
    }
}

fn want(row: GenerationRow, key: KeyId, nanos: i64) -> Reserve {
    let (fixed_picos, cap) = (Usd::from_nanos(nanos).picos(), OutputCap::Asked(1));
    let bound = Bound { prompt_tokens: 0, fixed_picos, completion: Price::ZERO, choices: 1, cap, open_ended: false };
    Reserve { row, key, secret: None, price: PriceVersion(1), bound, tariff: Tariff::Credits }
}

fn raise(row: GenerationRow, to: Amounts) -> Raise {
    Raise { row, to, open_ended: false, price: PriceVersion(1) }
}

fn settlement(row: GenerationRow, nanos: i64) -> Settlement {
    let total = Usd::from_nanos(nanos);
    Settlement {
        row,
        outcome: Outcome::Settled,
        charge: Amounts::credits(total),
        cost: Cost { total, prompt: Usd::ZERO, completion: total },
        metered: Some(Metered::Known(TokenUsage { prompt: 3, completion: 4, cached: 1, ..TokenUsage::default() })),
        price: PriceVersion(1),
        facts: SettlementFacts::default(),
    }
}

async fn keys_live_and_die<E: Engine>() {
    let mut db = Db::<E>::new().await;
    for name in ["a", "b", "c"] {
        db.key(name, Some(100), None).await;
    }
    let change = KeyChange {
        name: Some("b2".to_owned()),
        disabled: Some(true),
        limit: Some(Some(Usd::from_nanos(7))),
        limit_reset: Some(Some(LimitReset::Weekly)),
        calls_in_flight_max: Some(NonZeroU32::new(2)),
        ..KeyChange::default()
    };
    let changed = db.store.update_key(&KeyHash::of("b"), change.clone(), &Actor::Operator).await.unwrap().unwrap();
    assert_eq!((changed.key.name.as_str(), changed.key.disabled), ("b2", true));
    let limits = changed.key.call_limits;
    assert_eq!([limits.requests_per_minute, limits.calls_in_flight_max], [60, 2].map(NonZeroU32::new));
    assert!(db.store.delete_key(&KeyHash::of("c"), &Actor::Operator).await.unwrap());
    assert!(!db.store.delete_key(&KeyHash::of("c"), &Actor::Operator).await.unwrap());
    assert_eq!(db.store.update_key(&KeyHash::of("c"), change, &Actor::Operator).await.unwrap(), None);
    for _ in 0..2 {
        assert_eq!(db.view("b").await.unwrap(), changed);
        assert_eq!(db.view("c").await, None);
        assert_eq!(db.names(0, 100, true).await, ["b2", "a"], "newest first");
        assert_eq!(db.names(0, 100, false).await, ["a"]);
        assert_eq!(db.names(1, 1, true).await, ["a"]);
        assert_eq!(db.names(5, 100, true).await, Vec::<String>::new());
        let Some(Credential::Inference(key)) = db.who("a").await else { panic!("a lives") };
        assert_eq!(key.hash, KeyHash::of("a"));
        let limits = key.call_limits;
        assert_eq!((limits.requests_per_minute, limits.calls_in_flight_max), (NonZeroU32::new(60), None));
        for dead in ["b", "c", "nobody"] {
            assert!(db.who(dead).await.is_none(), "{dead} is of no use");
        }
        let disabled = db.reserve(changed.key.id, 1).await;
        assert!(matches!(disabled, Admission::Rejected(KeyRejected::Disabled)), "{disabled:?}");
        db = db.reopened().await;
    }
    // A number is never given twice: entries of a deleted key would become another's.
    let deleted = changed.key.id.0 + 1;
    assert!(db.key("d", None, None).await.key.id.0 > deleted);
    db.engine.close(db.store).await;
}

async fn a_race_for_one_budget_ends_exactly_at_it<E: Engine>() {
    const CALLERS: usize = 64;
    const ROOM: i64 = 80;
    let db = Db::<E>::new().await;
    let key = db.key("racer", Some(ROOM * 10), None).await.key.id;
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let store = db.store.clone();
        callers.spawn(async move {
            let mut granted = 0;
            // Every other one spends less than it holds, and so makes room for more.
            loop {
                let row = store.next_generation();
                match store.reserve(want(row, key, 10)).await.unwrap() {
                    Admission::Granted(reservation) => {
                        tokio::task::yield_now().await;
                        let cost = if caller % 2 == 0 { 10 } else { 5 };
                        store.settle(settlement(reservation.row, cost)).await.unwrap();
                        granted += cost;
                    }
                    Admission::Refused(refusal) if refusal.reason == RefusalReason::InFlight => {
                        tokio::task::yield_now().await;
                    }
                    Admission::Refused(_) => return granted,
                    Admission::Rejected(why) => panic!("{why}"),
                }
            }
        });
    }
    let spent: i64 = callers.join_all().await.into_iter().sum();
    assert!((ROOM * 10 - 9..=ROOM * 10).contains(&spent), "{spent} is all that fits and not more");
    assert_eq!(db.balance("racer").await, (spent, 0));
    let db = db.reopened().await;
    assert_eq!(db.balance("racer").await, (spent, 0));
    db.engine.close(db.store).await;
}

async fn a_generation_settles_once<E: Engine>() {
    let db = Db::<E>::new().await;
    let key = db.key("once", Some(100), None).await.key.id;
    let held = db.granted(key, 60).await;
    let again = db.store.reserve(want(held.row, key, 60)).await.unwrap();
    assert_eq!(again, Admission::Granted(held.clone()), "a repeat holds nothing more");
    assert_eq!(db.balance("once").await, (0, 60));
    let refused = db.reserve(key, 50).await;
    assert!(
        matches!(&refused, Admission::Refused(refusal) if refusal.reason == RefusalReason::InFlight),
        "{refused:?}"
    );
    let first = db.store.settle(settlement(held.row, 40)).await.unwrap();
    assert_eq!((first.charge, first.first), (Amounts::credits(Usd::from_nanos(40)), true));
    let repeat = db.store.settle(settlement(held.row, 99)).await.unwrap();
    assert_eq!((repeat.charge, repeat.first), (first.charge, false), "the first answer stands");
    assert_eq!(db.balance("once").await, (40, 0));

    let released = db.granted(key, 60).await;
    let nothing = Settlement { outcome: Outcome::Released, ..settlement(released.row, 0) };
    assert!(db.store.settle(nothing).await.unwrap().first);
    assert_eq!(db.balance("once").await, (40, 0));

    // Two ends at once, the first of them not on disk yet.
    let twice = db.granted(key, 10).await;
    let (first, second) =
        tokio::join!(db.store.settle(settlement(twice.row, 0)), db.store.settle(settlement(twice.row, 9)));
    assert_eq!((first.unwrap().first, second.unwrap().first), (true, false));
    let late = db.store.reserve(want(twice.row, key, 10)).await;
    assert!(late.is_err(), "what has ended does not begin again: {late:?}");
    assert_eq!(db.balance("once").await, (40, 0));

    // An end that overtakes its beginning leaves nothing held.
    let row = db.store.next_generation();
    let early = db.store.settle(Settlement { outcome: Outcome::Released, ..settlement(row, 0) }).await;
    assert!(matches!(early, Err(StoreError::Corrupt(_))), "{early:?}");
    assert!(db.store.reserve(want(row, key, 10)).await.is_err());
    assert_eq!(db.balance("once").await, (40, 0));

    // More than was held is recorded whole.
    let over = db.granted(key, 10).await;
    db.store.settle(settlement(over.row, 75)).await.unwrap();
    let db = db.reopened().await;
    assert_eq!(db.balance("once").await, (115, 0));
    let spent = db.reserve(key, 0).await;
    assert!(matches!(&spent, Admission::Refused(refusal) if refusal.reason == RefusalReason::Spent), "{spent:?}");
    db.engine.close(db.store).await;
}

async fn a_hold_is_raised_within_its_budget<E: Engine>() {
    let db = Db::<E>::new().await;
    let key = db.key("raised", Some(100), None).await.key.id;
    let (first, second) = (db.granted(key, 40).await, db.granted(key, 30).await);
    let raise = |row, nanos| db.store.raise(raise(row, Amounts::credits(Usd::from_nanos(nanos))));
    assert!(!raise(first.row, 71).await.unwrap(), "the other one holds 30 of 100");
    assert_eq!(db.balance("raised").await, (0, 70), "a refusal changes nothing");
    assert!(raise(first.row, 70).await.unwrap());
    assert!(raise(first.row, 10).await.unwrap(), "more than that is held");
    assert_eq!(db.balance("raised").await, (0, 100));
    db.store.settle(settlement(second.row, 5)).await.unwrap();
    assert!(!raise(second.row, 1).await.unwrap(), "it is closed");
    // What was raised is what is lost.
    let db = db.reopened().await;
    assert_eq!(db.balance("raised").await, (75, 0));
    db.engine.close(db.store).await;
}

async fn what_was_in_flight_is_lost_and_adjustable<E: Engine>() {
    let db = Db::<E>::new().await;
    let key = db.key("lost", Some(100), Some(LimitReset::Monthly)).await.key.id;
    let held = db.granted(key, 60).await;
    let id = held.id.as_str();
    assert_eq!(db.store.generation(id).await.unwrap(), None, "it has not ended");
    let db = db.reopened().await;
    let lost = db.store.generation(id).await.unwrap().unwrap();
    assert_eq!((lost.settlement.outcome, lost.settlement.charge.credits.nanos()), (Outcome::Lost, 60));
    assert_eq!(db.balance("lost").await, (60, 0));

    let adjust =
        |nanos| db.store.adjust(id, Amounts::credits(Usd::from_nanos(nanos)), "it was less", Actor::Operator.into());
    assert_eq!(adjust(-25).await.unwrap(), Ok(Amounts::credits(Usd::from_nanos(35))));
    assert_eq!(adjust(-36).await.unwrap(), Err(AdjustRefused::BelowZero));
    assert_eq!(adjust(i64::MAX).await.unwrap(), Err(AdjustRefused::TooLarge));
    assert_eq!(adjust(5).await.unwrap(), Ok(Amounts::credits(Usd::from_nanos(40))));
    assert_eq!(db.balance("lost").await, (40, 0));
    assert_eq!(
        db.store
            .adjust("gen-1-00000000000000000000", Amounts::default(), "nobody", Actor::Operator.into())
            .await
            .unwrap(),
        Err(AdjustRefused::Unknown)
    );
    // Such a settlement is a correction to the true cost, once; elsewhere whoever could settle is gone.
    let late = db.store.settle(settlement(held.row, 1)).await.unwrap();
    assert_eq!(late.first, E::OUTLIVES_ITS_LEASE);
    let charged = if late.first { 1 } else { 40 };
    assert!(!db.store.settle(settlement(held.row, 2)).await.unwrap().first, "it was settled");
    let db = db.reopened().await;
    assert_eq!(db.balance("lost").await, (charged, 0));
    let recorded = db.store.generation(id).await.unwrap().unwrap();
    assert_eq!(recorded.settlement.charge.credits.nanos(), charged);
    db.engine.close(db.store).await;
}

async fn windows_follow_the_clock<E: Engine>() {
    let db = Db::<E>::new().await;
    let key = db.key("daily", Some(100), Some(LimitReset::Daily)).await.key.id;
    let first = db.granted(key, 70).await;
    db.store.settle(settlement(first.row, 70)).await.unwrap();
    let across = db.granted(key, 30).await;
    assert_eq!(db.balance("daily").await, (70, 30));
    db.engine.advance(Duration::from_hours(12));
    assert_eq!(db.balance("daily").await, (0, 0), "a new day and a new month");
    // It belongs to the day on which it was admitted.
    db.store.settle(settlement(across.row, 30)).await.unwrap();
    let db = db.reopened().await;
    assert_eq!(db.balance("daily").await, (0, 0));
    let spend = db.view("daily").await.unwrap().spend.credits.map(Usd::nanos);
    assert_eq!(spend, [100, 0, 100, 0], "lifetime, day, week, month");
    let today = db.granted(key, 100).await;
    db.store.settle(settlement(today.row, 100)).await.unwrap();
    assert_eq!(db.view("daily").await.unwrap().spend.credits.map(Usd::nanos), [200, 100, 200, 100]);
    db.engine.close(db.store).await;
}

async fn a_generation_is_remembered_as_it_was<E: Engine>() {
    let db = Db::<E>::new().await;
    let [offer] = db.store.publish(vec![endpoint("a/b", 5)]).await.unwrap().try_into().unwrap();
    let key = db.key("facts", None, None).await;
    let held = db.granted(key.key.id, 60).await;
    let facts = SettlementFacts {
        streamed: true,
        cancelled: true,
        finish_reason: Some("stop".to_owned()),
        native_finish_reason: Some("end_turn".to_owned()),
        upstream_id: Some("up-1".to_owned()),
        latency_ms: Some(12),
        generation_ms: Some(34),
        user_agent: Some("agent/1".to_owned()),
        http_referer: Some("https://example.org".to_owned()),
        session_id: Some("s".to_owned()),
        credential: Some(CredentialId(3)),
        attempts: vec![
            Attempt { provider: "p".to_owned(), status: Some(503), latency_ms: 7, credential: None },
            Attempt { provider: "p".to_owned(), status: None, latency_ms: 8, credential: Some(CredentialId(3)) },
        ],
    };
    let settled = Settlement { facts, price: offer.version, ..settlement(held.row, 12) };
    db.store.settle(settled.clone()).await.unwrap();
    let db = db.reopened().await;
    let found = db.store.generation(held.id.as_str()).await.unwrap().unwrap();
    assert_eq!((found.settlement, found.hold.credits.nanos()), (settled, 60));
    assert_eq!((found.spender.key, found.workspace), (key.key.id, key.workspace));
    assert_eq!((found.model.as_str(), found.provider.as_str()), ("a/b", "p"));
    assert_eq!((found.id, found.admitted_at), (held.id, held.admitted_at));
    assert_eq!(db.view("facts").await.unwrap().last_used_at, Some(held.admitted_at));
    for other in ["gen-0-00000000000000000000", "gen-", "", "nonsense"] {
        assert_eq!(db.store.generation(other).await.unwrap(), None, "{other}");
    }
    db.engine.close(db.store).await;
}

async fn management_keys_bootstrap_once<E: Engine>() {
    let db = Db::<E>::new().await;
    let new = |name: &str| NewManagementKey {
        hash: KeyHash::of(name),
        name: name.to_owned(),
        label: name.to_owned(),
        powers: Powers::default(),
    };
    let first = db.store.bootstrap_management_key(new("first"), &Actor::Operator).await.unwrap().unwrap();
    assert_eq!(db.store.bootstrap_management_key(new("second"), &Actor::Operator).await.unwrap(), None);
    let third = db.store.create_management_key(new("third"), &Actor::Operator).await.unwrap();
    let end = Timestamp::parse_utc(START).unwrap().plus_micros(3_600_000_000);
    let powers = Powers { read_only: true, expires_at: Some(end), workspace: None };
    let weak = NewManagementKey { powers, ..new("weak") };
    let weak = db.store.create_management_key(weak, &Actor::Operator).await.unwrap();
    assert_eq!(weak.powers, powers);
    assert!(db.store.revoke_management_key(first.id, &Actor::Operator).await.unwrap());
    assert!(!db.store.revoke_management_key(first.id, &Actor::Operator).await.unwrap());
    let db = db.reopened().await;
    assert_eq!(db.store.management_keys().await.unwrap(), [third, weak.clone()]);
    assert_eq!(db.who("weak").await, Some(Credential::Management(weak)));
    db.engine.advance(Duration::from_hours(1));
    assert!(db.who("weak").await.is_none(), "its time is over");
    assert!(db.who("first").await.is_none());
    assert!(matches!(db.who("third").await, Some(Credential::Management(_))));
    // One existed, though it was revoked.
    assert_eq!(db.store.bootstrap_management_key(new("fourth"), &Actor::Operator).await.unwrap(), None);
    db.engine.close(db.store).await;
}

fn endpoint(model: &str, picos: i64) -> Endpoint {
    Endpoint {
        model: model.to_owned(),
        name: model.to_owned(),
        provider: "p".to_owned(),
        upstream_id: "up".to_owned(),
        context_length: 1000,
        max_output_tokens: 100,
        max_image_tokens: None,
        prices: Some(PriceList { prompt: Price::from_picos(picos), ..PriceList::default() }),
    }
}

async fn prices_are_versioned<E: Engine>() {
    let db = Db::<E>::new().await;
    let before = db.store.publish(vec![endpoint("a/b", 1), endpoint("c/d", 2)]).await.unwrap();
    let db = db.reopened().await;
    let after = db.store.publish(vec![endpoint("c/d", 2), endpoint("a/b", 3)]).await.unwrap();
    let versions = |offers: &[PricedEndpoint]| -> BTreeMap<String, PriceVersion> {
        offers.iter().map(|offer| (offer.endpoint.model.clone(), offer.version)).collect()
    };
    assert_eq!(after.iter().map(|offer| offer.endpoint.model.as_str()).collect::<Vec<_>>(), ["c/d", "a/b"]);
    let (before, after) = (versions(&before), versions(&after));
    assert_eq!(before["c/d"], after["c/d"], "nothing changed");
    assert!(before["a/b"] < after["a/b"], "a new price is a new version");
    db.engine.close(db.store).await;
}

impl<E: Engine> Db<E> {
    /// A code with this text, for the verifier `right`.
    async fn code(&self, text: &str) {
        let grant = Grant {
            name: text.to_owned(),
            workspace: self.workspace().await,
            limit: Some(Usd::from_nanos(7)),
            limit_reset: Some(LimitReset::Weekly),
            expires_at: Some(self.store.now().await.unwrap().plus_micros(86_400_000_000)),
        };
        let challenge = Challenge::new(ChallengeMethod::Plain, "right").unwrap();
        let made = self
            .store
            .create_code(NewCode { hash: CodeHash::of(text), challenge, grant }, Actor::Operator.into())
            .await
            .unwrap();
        assert_eq!(made.unwrap().created_at, self.store.now().await.unwrap());
    }

    /// The name of the key that the code with this text buys, its secret being `secret`.
    async fn exchange(&self, text: &str, verifier: &str, secret: &str) -> Result<String, ExchangeRefused> {
        exchange(&self.store, text, verifier, secret).await
    }
}

async fn exchange(
    store: &impl OAuthStore,
    text: &str,
    verifier: &str,
    secret: &str,
) -> Result<String, ExchangeRefused> {
    let proof = Proof { method: None, verifier: Some(VerifierHash::of(verifier)) };
    let secret = NewSecret { hash: KeyHash::of(secret), label: format!("{secret}...") };
    store.exchange_code(&CodeHash::of(text), proof, secret, Actor::App.into()).await.unwrap().map(|key| key.name)
}

async fn a_code_buys_one_key<E: Engine>() {
    let mut db = Db::<E>::new().await;
    db.code("first").await;
    db.code("second").await;
    assert_eq!(db.exchange("third", "right", "k").await, Err(ExchangeRefused::Invalid));
    assert_eq!(db.exchange("first", "right", "k1").await.as_deref(), Ok("first"));
    db = db.reopened().await;
    assert_eq!(db.exchange("first", "right", "k").await, Err(ExchangeRefused::Invalid), "it was used up");
    let bought = db.view("k1").await.unwrap().key;
    assert_eq!((bought.limit, bought.limit_reset), (Some(Usd::from_nanos(7)), Some(LimitReset::Weekly)));
    assert!(bought.expires_at.is_some() && matches!(db.who("k1").await, Some(Credential::Inference(_))));
    let mut racers = JoinSet::new();
    for racer in 0..16 {
        let store = db.store.clone();
        racers.spawn(async move { exchange(&store, "second", "right", &format!("r{racer}")).await });
    }
    let won = racers.join_all().await.into_iter().flatten().count();
    assert_eq!(won, 1);
    db = db.reopened().await;
    assert_eq!(db.names(0, 10, true).await, ["second", "first"]);
    let (workspace, challenge) = (WorkspaceId(99), Challenge::new(ChallengeMethod::Plain, "right").unwrap());
    let grant = Grant { name: "x".to_owned(), workspace, limit: None, limit_reset: None, expires_at: None };
    let made = db
        .store
        .create_code(NewCode { hash: CodeHash::of("x"), challenge, grant }, Actor::Operator.into())
        .await
        .unwrap();
    assert_eq!(made, None, "there is no such workspace");
}

async fn a_code_dies_of_guesses_and_of_age<E: Engine>() {
    let mut db = Db::<E>::new().await;
    for text in ["guessed", "nearly", "old"] {
        db.code(text).await;
    }
    for guess in 1..=WRONG_VERIFIERS_MAX {
        assert_eq!(db.exchange("guessed", "wrong", "k").await, Err(ExchangeRefused::Invalid));
        if guess < WRONG_VERIFIERS_MAX {
            assert_eq!(db.exchange("nearly", "wrong", "k").await, Err(ExchangeRefused::Invalid));
        }
        // Guesses are counted over a restart.
        db = db.reopened().await;
    }
    assert_eq!(db.exchange("guessed", "right", "k").await, Err(ExchangeRefused::Invalid));
    assert_eq!(db.exchange("nearly", "right", "n").await.as_deref(), Ok("nearly"));
    db.engine.advance(Duration::from_mins(10));
    assert_eq!(db.exchange("old", "right", "k").await, Err(ExchangeRefused::Expired));
    db = db.reopened().await;
    assert_eq!(db.exchange("old", "right", "k").await, Err(ExchangeRefused::Expired));
    db.engine.advance(Duration::from_hours(1));
    db.code("new").await;
    assert_eq!(db.exchange("old", "right", "k").await, Err(ExchangeRefused::Invalid), "it is forgotten");
    assert_eq!(db.names(0, 10, true).await, ["nearly"]);
}

fn sealed(text: &str) -> SealedSecret {
    SealedSecret { label: format!("{text}..."), sealed: text.as_bytes().to_vec() }
}

impl<E: Engine> Db<E> {
    async fn create_credential(
        &self,
        name: &str,
        workspace: Option<WorkspaceId>,
        terms: Terms,
    ) -> Result<CredentialView, CredentialRefused> {
        let uuid = Uuid::new_v5(&Uuid::nil(), name.as_bytes());
        let terms = Terms { name: Some(name.to_owned()), ..terms };
        let (provider, secret) = ("p".to_owned(), sealed(name));
        let new = NewCredential { uuid, workspace, provider, secret, terms, sort_order: None };
        self.store.create_credential(new, Actor::Operator.into()).await.unwrap()
    }

    /// What the key with this name may use, and the sealed secrets.
    async fn usable(&self, key: &str) -> Vec<(String, Vec<u8>)> {
        let Some(Credential::Inference(key)) = self.who(key).await else { panic!("the key lives") };
        let held = key.credentials.iter().flat_map(|held| held.iter());
        held.map(|held| (held.credential.terms.name.clone().unwrap_or_default(), held.sealed.clone())).collect()
    }

    async fn change_credential(
        &self,
        view: &CredentialView,
        terms: TermsChange,
        secret: Option<SealedSecret>,
        sort_order: Option<i64>,
    ) -> Result<CredentialView, CredentialRefused> {
        let change = CredentialChange { terms, secret, sort_order };
        self.store.update_credential(view.credential.uuid, change, &Actor::Operator).await.unwrap()
    }
}

async fn credentials_are_kept_sealed_and_in_order<E: Engine>() {
    let mut db = Db::<E>::new().await;
    let home = db.workspace().await;
    let (mine, _other) = (db.key("mine", None, None).await, db.key("other", None, None).await);
    assert_eq!(db.usable("mine").await, []);
    let first = db.create_credential("first", Some(home), Terms::default()).await.unwrap();
    let only = Terms { allowed_keys: Some(vec![mine.key.hash]), ..Terms::default() };
    let second = db.create_credential("second", Some(home), only).await.unwrap();
    let everywhere = db.create_credential("everywhere", None, Terms::default()).await.unwrap();
    assert_eq!((first.credential.sort_order, second.credential.sort_order), (0, 1));
    assert_eq!((everywhere.workspace, everywhere.credential.sort_order), (None, 0));
    let nowhere = db.create_credential("nowhere", Some(WorkspaceId(99)), Terms::default()).await;
    assert_eq!(nowhere, Err(CredentialRefused::UnknownWorkspace));
    let (stranger, nobody) = (KeyHash::of("stranger"), "user_nobody".to_owned());
    let foreign = Terms { allowed_keys: Some(vec![stranger]), ..Terms::default() };
    let foreign = db.create_credential("foreign", Some(home), foreign).await;
    assert_eq!(foreign, Err(CredentialRefused::UnknownKey(stranger.to_string())));
    let users = TermsChange { allowed_users: Some(Some(vec![nobody.clone()])), ..TermsChange::default() };
    assert_eq!(
        db.change_credential(&first, users, None, None).await,
        Err(CredentialRefused::UnknownMember(nobody)),
        "nobody has this id"
    );
    let empty = TermsChange { allowed_models: Some(Some(Vec::new())), ..TermsChange::default() };
    assert_eq!(
        db.change_credential(&first, empty, None, None).await,
        Err(CredentialRefused::Terms(TermsRefused::List("allowed_models")))
    );
    // Another secret in its place, and another order.
    let rotated = db.change_credential(&first, TermsChange::default(), Some(sealed("new")), Some(7)).await.unwrap();
    assert_eq!((rotated.credential.label.as_str(), rotated.credential.sort_order), ("new...", 7));
    assert_eq!(rotated.credential.uuid, first.credential.uuid);
    let entry = |name: &str, secret: &str| (name.to_owned(), secret.as_bytes().to_vec());
    let query = CredentialQuery { workspace: home, provider: Some("p".to_owned()) };
    for _ in 0..2 {
        let (seen, other) = (db.usable("mine").await, db.usable("other").await);
        assert_eq!(seen, [entry("everywhere", "everywhere"), entry("second", "second"), entry("first", "new")]);
        assert_eq!(other, [entry("everywhere", "everywhere"), entry("first", "new")]);
        let listed = db.store.credentials(&query, PageQuery { offset: 1, limit: 1 }).await.unwrap();
        assert_eq!((listed.items, listed.total), (vec![second.clone()], 3));
        assert_eq!(db.store.credential(first.credential.uuid).await.unwrap(), Some(rotated.clone()));
        db = db.reopened().await;
    }
    let elsewhere = CredentialQuery { provider: Some("q".to_owned()), ..query };
    assert_eq!(db.store.credentials(&elsewhere, PageQuery { offset: 0, limit: 9 }).await.unwrap().total, 0);
    // A key that is gone leaves the list as it is: nobody else may use what was for it alone.
    db.store.delete_key(&mine.key.hash, &Actor::Operator).await.unwrap();
    let off = TermsChange { disabled: Some(true), ..TermsChange::default() };
    db.change_credential(&everywhere, off, None, None).await.unwrap();
    assert!(db.store.delete_credential(first.credential.uuid, &Actor::Operator).await.unwrap());
    assert!(!db.store.delete_credential(first.credential.uuid, &Actor::Operator).await.unwrap());
    for _ in 0..2 {
        assert_eq!(db.usable("other").await, []);
        assert_eq!(db.store.credential(first.credential.uuid).await.unwrap(), None);
        let left = db.store.credential(second.credential.uuid).await.unwrap().unwrap();
        assert_eq!(left.credential.terms.allowed_keys, Some(vec![mine.key.hash]));
        db = db.reopened().await;
    }
    db.engine.close(db.store).await;
}

async fn credentials_go_with_their_workspace<E: Engine>() {
    let db = Db::<E>::new().await;
    let new = NewWorkspace {
        uuid: Uuid::from_u128(1),
        name: "w".to_owned(),
        slug: "w".to_owned(),
        description: None,
        preferences: Preferences::default(),
    };
    let away = db.store.create_workspace(new, Actor::Operator.into()).await.unwrap().unwrap().id;
    let view = db.create_credential("away", Some(away), Terms::default()).await.unwrap();
    db.key("home", None, None).await;
    assert_eq!(db.usable("home").await, [], "it is another workspace's");
    db.store.delete_workspace(away, &Actor::Operator).await.unwrap().unwrap();
    let db = db.reopened().await;
    assert_eq!(db.store.credential(view.credential.uuid).await.unwrap(), None);
    db.engine.close(db.store).await;
}

async fn both_kinds_of_money_are_held_and_lost<E: Engine>() {
    let db = Db::<E>::new().await;
    let key = db.key("own", Some(100), None).await.key.id;
    let five = Tariff::Byok(Fee::percent("5").unwrap());
    let own = Reserve { tariff: five, ..want(db.store.next_generation(), key, 1_000) };
    let Admission::Granted(held) = db.store.reserve(own).await.unwrap() else { panic!("the fee fits") };
    assert_eq!(held.hold, Amounts { credits: Usd::from_nanos(50), byok: Usd::from_nanos(1_000) });
    assert_eq!(db.store.reserve(own).await.unwrap(), Admission::Granted(held.clone()), "a repeat holds nothing more");
    assert_eq!(db.balance("own").await, (0, 50));
    // From one kind of money to another and back, where the budget has room.
    let raise = |to| db.store.raise(raise(held.row, to));
    assert!(!raise(Amounts::credits(Usd::from_nanos(101))).await.unwrap());
    assert!(raise(Amounts::credits(Usd::from_nanos(90))).await.unwrap());
    assert_eq!(db.balance("own").await, (0, 90));
    let last = Amounts { credits: Usd::from_nanos(30), byok: Usd::from_nanos(600) };
    assert!(raise(last).await.unwrap());
    assert_eq!(db.balance("own").await, (0, 30));
    let db = db.reopened().await;
    let lost = db.store.generation(held.id.as_str()).await.unwrap().unwrap();
    assert_eq!((lost.settlement.outcome, lost.settlement.charge, lost.hold), (Outcome::Lost, last, last));
    assert!(lost.settlement.is_byok());
    assert_eq!(lost.settlement.cost.total, last.byok, "what the provider asks for it");
    let spend = db.view("own").await.unwrap().spend;
    assert_eq!((spend.credits[0].nanos(), spend.byok[0].nanos()), (30, 600));
    db.engine.close(db.store).await;
}
