//! The engine for many nodes on a server of its own: the conformance suite, and what only this engine can do wrong.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use testkit::ManualClock;
use testkit::postgres::Cluster;
use tokio_postgres::{Client, NoTls};
use tollgate_domain::ledger::Tariff;
use tollgate_domain::model::PriceVersion;
use tollgate_domain::pricing::{Bound, OutputCap};
use tollgate_domain::{KeyId, Price, Timestamp};
use tollgate_engine::Ground;
use tollgate_store::conformance::{Engine, check};
use tollgate_store::{Admission, KeyStore, Reserve, StoreError};
use tollgate_store_postgres::{OpenError, Options, PostgresStore};

/// A database of the shared server, whose clock moves when it is told to.
pub struct Database {
    pub url: String,
    clock: Arc<ManualClock>,
    client: Client,
}

impl Database {
    pub async fn new(at: Timestamp) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tollgate_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let url = Cluster::shared().create_database(&name).await;
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "it ends with its client")]
        tokio::spawn(connection);
        let database = Self { url, clock: Arc::new(ManualClock::at(&at.to_string())), client };
        database.open().await.close().await.unwrap();
        let script = "CREATE TABLE test_clock (at BIGINT NOT NULL); INSERT INTO test_clock VALUES (0);
            CREATE OR REPLACE FUNCTION ledger_clock() RETURNS BIGINT LANGUAGE sql VOLATILE AS $$ SELECT at FROM test_clock $$";
        database.client.batch_execute(script).await.unwrap();
        database.tell_time().await;
        database
    }

    pub async fn try_open(&self) -> Result<PostgresStore, OpenError> {
        let now = Timestamp::default();
        let options = Options { url: self.url.clone(), seed: [7; 32], now, without_fsync: true };
        tollgate_store_postgres::open(options, Arc::clone(&self.clock) as _).await
    }

    pub async fn open(&self) -> PostgresStore {
        self.try_open().await.unwrap()
    }

    pub async fn tick(&self, by: Duration) {
        self.clock.advance(by);
        self.tell_time().await;
    }

    /// The database's clock alone moves, as no clock does.
    pub async fn jump(&self, micros: i64) {
        self.client.execute("UPDATE test_clock SET at = at + $1", &[&micros]).await.unwrap();
    }

    /// Time goes on, and the database's clock does not.
    pub fn advance_progress(&self, by: Duration) {
        self.clock.advance(by);
    }

    async fn tell_time(&self) {
        let at = tollgate_store::Clock::read(&*self.clock).wall.micros();
        self.client.execute("UPDATE test_clock SET at = $1", &[&at]).await.unwrap();
    }
}

impl Engine for Database {
    type Store = PostgresStore;
    const OUTLIVES_ITS_LEASE: bool = true;

    async fn new(at: Timestamp) -> Self {
        Self::new(at).await
    }

    async fn open(&self) -> PostgresStore {
        self.open().await
    }

    async fn close(&self, store: PostgresStore) {
        store.close().await.unwrap();
    }

    fn advance(&self, by: Duration) {
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(self.tick(by)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_engine_conforms_on_postgresql() {
    check::<Database>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_flush_is_refused() {
    let database = Database::new(Timestamp::parse_utc("2026-01-01T00:00:00Z").unwrap()).await;
    let options = Options { url: database.url.clone(), seed: [7; 32], now: Timestamp::default(), without_fsync: false };
    let opened = tollgate_store_postgres::open(options, Arc::clone(&database.clock) as _).await;
    assert!(matches!(opened, Err(OpenError::Unsafe(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_keep_every_text_is_refused() {
    let (client, connection) = tokio_postgres::connect(&Cluster::shared().url(), NoTls).await.unwrap();
    let create = "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    let create = async {
        client.batch_execute(create).await.unwrap();
        drop(client);
    };
    let ((), ended) = tokio::join!(create, connection);
    ended.unwrap();
    let url = Cluster::shared().url_of("latin");
    let options = Options { url, seed: [7; 32], now: Timestamp::default(), without_fsync: true };
    let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z"));
    let opened = tollgate_store_postgres::open(options, clock).await;
    assert!(matches!(opened, Err(OpenError::Encoding(encoding)) if encoding == "LATIN1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_release_is_refused_on_postgresql() {
    let database = Database::new(Timestamp::parse_utc("2026-01-01T00:00:00Z").unwrap()).await;
    database.client.batch_execute("INSERT INTO migrations (number, checksum) VALUES (9999, 'x')").await.unwrap();
    assert!(matches!(database.try_open().await, Err(OpenError::Newer)));
    database.client.batch_execute("DELETE FROM migrations WHERE number = 9999").await.unwrap();
    database.client.batch_execute("UPDATE migrations SET checksum = 'another'").await.unwrap();
    assert!(matches!(database.try_open().await, Err(OpenError::Altered(1))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_one_node_accepts_is_accepted_by_all() {
    const DAY: i64 = 24 * 3_600_000_000;
    let database = Database::new(Timestamp::parse_utc("2026-01-10T12:00:00Z").unwrap()).await;
    let (one, other) = (database.open().await, database.open().await);
    for days in [2, -3] {
        for node in [&one, &other] {
            node.ready().await.unwrap();
        }
        database.jump(days * DAY).await;
        // Whoever looks every second notices it as soon as whoever looks once in ten minutes.
        for _ in 0..3 {
            for node in [&one, &other] {
                assert!(matches!(node.ready().await, Err(StoreError::ClockJumped { .. })), "{days}");
            }
            database.advance_progress(Duration::from_secs(1));
            database.jump(1_000_000).await;
        }
        for node in [&one, &other] {
            assert!(matches!(node.ready().await, Err(StoreError::ClockJumped { .. })), "{days}");
            assert!(matches!(reserve(node).await, Err(StoreError::ClockJumped { .. })), "{days}");
        }
        let now = one.accept_clock().await.unwrap();
        for node in [&other, &one] {
            assert!(
                matches!(reserve(node).await, Ok(Admission::Rejected(_))),
                "the clock is no reason any more: {days}"
            );
            node.ready().await.unwrap();
            assert_eq!(node.now().await.unwrap(), now);
        }
    }
    assert_eq!(one.now().await.unwrap().to_string(), "2026-01-09T12:00:06.000Z");
}

/// A call of a key that there is not.
async fn reserve(node: &PostgresStore) -> Result<Admission, StoreError> {
    let (prompt_tokens, fixed_picos, completion) = (0, 1, Price::ZERO);
    let cap = OutputCap::Asked(1);
    let bound = Bound { prompt_tokens, fixed_picos, completion, choices: 1, cap, open_ended: false };
    let (row, key, price) = (node.next_generation(), KeyId(99), PriceVersion(1));
    node.reserve(Reserve { row, key, secret: None, price, bound, tariff: Tariff::Credits }).await
}
