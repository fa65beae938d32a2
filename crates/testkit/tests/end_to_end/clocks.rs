//! A clock that went back, and was accepted as it is: limits of the day that is current again hold for all that was spent in it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::Arc;

use testkit::ManualClock;
use tollgate_domain::key::{CallLimits, Key, NewKey};
use tollgate_domain::ledger::{Amounts, Tariff};
use tollgate_domain::model::PriceVersion;
use tollgate_domain::pricing::{Bound, Cost, OutputCap};
use tollgate_domain::time::LimitReset;
use tollgate_domain::{KeyHash, Price, Timestamp, Usd};
use tollgate_engine::{Engine, Ground};
use tollgate_store::{
    Actor, Admission, KeyStore, Outcome, Reserve, Settlement, SettlementFacts, StoreError, WorkspaceRef, WorkspaceStore,
};

use crate::postgres::Database;
use crate::scenarios::embedded;

const DAY: i64 = 24 * 3_600_000_000;
const START: &str = "2026-01-10T12:00:00Z";

async fn daily_key<G: Ground>(store: &Engine<G>) -> Key {
    let workspace = store.workspace(&WorkspaceRef::Default).await.unwrap().unwrap();
    let key = NewKey {
        hash: KeyHash::of("daily"),
        name: "daily".to_owned(),
        label: "daily".to_owned(),
        workspace: workspace.id,
        limit: Some(Usd::from_nanos(100)),
        limit_reset: Some(LimitReset::Daily),
        include_byok_in_limit: false,
        expires_at: None,
        creator: None,
        external_user: None,
        call_limits: CallLimits::default(),
        allowed_models: None,
    };
    store.create_keys(vec![key], Actor::Operator.into()).await.unwrap().unwrap().remove(0).key
}

/// Holds so much.
async fn reserve<G: Ground>(store: &Engine<G>, key: &Key, nanos: i64) -> Result<(Reserve, Admission), StoreError> {
    let (fixed_picos, cap) = (Usd::from_nanos(nanos).picos(), OutputCap::Asked(1));
    let bound = Bound { prompt_tokens: 0, fixed_picos, completion: Price::ZERO, choices: 1, cap, open_ended: false };
    let (row, price) = (store.next_generation(), PriceVersion(1));
    let want = Reserve { row, key: key.id, secret: None, price, bound, tariff: Tariff::Credits };
    Ok((want, store.reserve(want).await?))
}

async fn settle<G: Ground>(store: &Engine<G>, want: &Reserve, nanos: i64) {
    let settlement = Settlement {
        row: want.row,
        outcome: Outcome::Settled,
        charge: Amounts::credits(Usd::from_nanos(nanos)),
        cost: Cost::default(),
        metered: None,
        price: PriceVersion(1),
        facts: SettlementFacts::default(),
    };
    store.settle(settlement).await.unwrap();
}

async fn spend<G: Ground>(store: &Engine<G>, key: &Key, nanos: i64) {
    let (want, admission) = reserve(store, key, nanos).await.unwrap();
    assert!(matches!(admission, Admission::Granted(_)), "{admission:?}");
    settle(store, &want, nanos).await;
}

async fn spent<G: Ground>(store: &Engine<G>, key: &Key) -> (i64, i64) {
    let view = store.key(&key.hash).await.unwrap().unwrap();
    let budget = view.budgets.first().unwrap();
    (budget.spent.nanos(), budget.held.nanos())
}

/// `jump` moves the calendar alone.
async fn goes_back<G: Ground>(store: &Engine<G>, jump: impl AsyncFn(i64)) {
    let key = daily_key(store).await;
    spend(store, &key, 60).await;
    jump(2 * DAY).await;
    store.accept_clock().await.unwrap();
    assert_eq!(spent(store, &key).await, (0, 0), "another day");
    spend(store, &key, 30).await;
    let (flying, _) = reserve(store, &key, 5).await.unwrap();
    jump(-2 * DAY).await;
    let refused = store.accept_clock().await;
    assert!(matches!(&refused, Err(StoreError::Unavailable(why)) if why.contains("in flight")), "{refused:?}");
    settle(store, &flying, 5).await;
    store.accept_clock().await.unwrap();
    assert_eq!(spent(store, &key).await, (60, 0), "what was spent on the day that is current again");
    spend(store, &key, 15).await;
    let (held, admission) = reserve(store, &key, 20).await.unwrap();
    assert!(matches!(admission, Admission::Granted(_)), "{admission:?}");
    assert_eq!(spent(store, &key).await, (75, 20));
    let (_, refused) = reserve(store, &key, 6).await.unwrap();
    assert!(matches!(refused, Admission::Refused(_)), "{refused:?}");
    settle(store, &held, 20).await;
    let report = store.examine().await.unwrap();
    assert_eq!(report.findings, [], "and it adds up");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_after_a_clock_went_back_on_the_embedded_engine() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let store = embedded(folder.path(), &clock);
    goes_back(&store, async |micros| {
        clock.step(micros);
        assert!(matches!(store.ready().await, Err(StoreError::ClockJumped { .. })));
    })
    .await;
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_after_a_clock_went_back_on_postgresql() {
    let database = Database::new(Timestamp::parse_utc(START).unwrap()).await;
    let store = database.open().await;
    goes_back(&store, async |micros| {
        database.jump(micros).await;
        assert!(matches!(store.ready().await, Err(StoreError::ClockJumped { .. })));
    })
    .await;
    store.close().await.unwrap();
}
