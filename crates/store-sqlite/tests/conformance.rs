//! The conformance suite, with both durabilities, and what only this engine can do wrong.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;
use tollgate_domain::Timestamp;
use tollgate_store::conformance::{Engine, check};
use tollgate_store::{Clock, Reading};
use tollgate_store_sqlite::{Durability, OpenError, Options, SqliteStore};

struct TestClock(Mutex<Reading>);

impl Clock for TestClock {
    fn read(&self) -> Reading {
        *self.0.lock()
    }
}

/// A database file in a folder of its own.
struct File<const POWER: bool> {
    folder: TempDir,
    clock: Arc<TestClock>,
}

impl<const POWER: bool> File<POWER> {
    fn path(&self) -> PathBuf {
        self.folder.path().join("tollgate.db")
    }

    fn try_open(&self) -> Result<SqliteStore, OpenError> {
        self.open_on(None)
    }

    fn open_on(&self, refuse_commits: Option<Arc<AtomicBool>>) -> Result<SqliteStore, OpenError> {
        let durability = if POWER { Durability::Power } else { Durability::Process };
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        tollgate_store_sqlite::open(Options {
            path: self.path(),
            durability,
            clock,
            seed: [7; 32],
            token: [8; 32],
            refuse_commits,
        })
    }

    fn change(&self, sql: &str) {
        rusqlite::Connection::open(self.path()).unwrap().execute_batch(sql).unwrap();
    }
}

impl<const POWER: bool> Engine for File<POWER> {
    type Store = SqliteStore;
    const OUTLIVES_ITS_LEASE: bool = false;

    async fn new(at: Timestamp) -> Self {
        let clock = Arc::new(TestClock(Mutex::new(Reading { wall: at, progress: Duration::ZERO })));
        Self { folder: TempDir::new().unwrap(), clock }
    }

    async fn open(&self) -> SqliteStore {
        self.try_open().unwrap()
    }

    async fn close(&self, store: SqliteStore) {
        store.close().await.unwrap();
    }

    fn advance(&self, by: Duration) {
        let mut reading = self.clock.0.lock();
        reading.progress += by;
        reading.wall = reading.wall.plus_micros(i64::try_from(by.as_micros()).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_engine_conforms_when_it_survives_loss_of_power() {
    check::<File<true>>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_engine_conforms_when_it_survives_the_process() {
    check::<File<false>>().await;
}

async fn opened_once() -> File<false> {
    let file = File::<false>::new(Timestamp::parse_utc("2026-01-01T00:00:00Z").unwrap()).await;
    file.close(file.open().await).await;
    file
}

#[tokio::test]
async fn a_second_owner_is_refused_and_the_first_goes_on() {
    let file = opened_once().await;
    let store = file.open().await;
    assert!(matches!(file.try_open(), Err(OpenError::InUse)));
    file.close(store).await;
    file.close(file.open().await).await;
}

#[tokio::test]
async fn a_store_whose_disk_refuses_can_still_be_closed() {
    let power = File::<true>::new(Timestamp::parse_utc("2026-01-01T00:00:00Z").unwrap()).await;
    let process = opened_once().await;
    let refuse = || Some(Arc::new(AtomicBool::new(true)));
    for store in [power.open_on(refuse()).unwrap(), process.open_on(refuse()).unwrap()] {
        assert!(store.close().await.is_err(), "the last fold is not written");
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let file = opened_once().await;
    std::fs::write(file.path(), "my diary, which is longer than the header of a database").unwrap();
    assert!(matches!(file.try_open(), Err(OpenError::Damaged(_))));
    assert!(std::fs::read_to_string(file.path()).unwrap().starts_with("my diary"));
}

#[tokio::test]
async fn a_database_of_another_release_is_refused() {
    let file = opened_once().await;
    file.change("UPDATE migrations SET checksum = 'another'");
    assert!(matches!(file.try_open(), Err(OpenError::Altered(1))));
    let file = opened_once().await;
    file.change("INSERT INTO migrations (number, checksum) VALUES (9999, 'x')");
    assert!(matches!(file.try_open(), Err(OpenError::Newer)));
}
