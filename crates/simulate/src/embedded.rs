//! The embedded engine on a database in memory that outlives its process, and what became durable in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use rusqlite::Connection;
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::{Amounts, Balance, Open, Scope, Spender};
use tollgate_domain::member::MemberId;
use tollgate_domain::workspace::WorkspaceId;
use tollgate_domain::{KeyId, Timestamp, Usd};
use tollgate_engine::{Ground, Row, Value};
use tollgate_store::{Clock, Outcome};
use tollgate_store_sqlite::{Durability, Options, SqliteStore, open_on};

use crate::bugs::Bug;
use crate::oracle::{Durable, RollupPlace};
use crate::rules::Rules;

/// A row that a statement touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Touched {
    Reservation(i64),
    Settlement(i64),
    Correction(i64),
    Rules,
}

/// See the module.
#[derive(Default)]
pub struct Disk {
    /// The database, while no process has it.
    pub connection: Option<Connection>,
    log: Arc<Mutex<Vec<Touched>>>,
    pub refuse: Arc<AtomicBool>,
}

const RESERVATION: &str = "SELECT r.key, r.workspace, k.creator, r.admitted_at, r.credits, r.byok, r.price
FROM reservations r LEFT JOIN keys k ON k.id = r.key WHERE r.row = ?1";
const SETTLEMENT: &str = "SELECT r.key, r.workspace, k.creator, r.admitted_at, r.credits, r.byok, s.price, s.outcome,
    s.credits, s.byok
FROM settlements s JOIN reservations r ON r.row = s.row LEFT JOIN keys k ON k.id = r.key WHERE s.row = ?1";
const CORRECTION: &str = "SELECT row, credits, byok FROM corrections WHERE id = ?1";

impl Disk {
    pub fn new() -> rusqlite::Result<Self> {
        Ok(Self { connection: Some(Connection::open_in_memory()?), ..Self::default() })
    }

    /// Starts a process on it.
    pub fn open(&mut self, clock: Arc<dyn Clock>, seed: [u8; 32], bug: Option<Bug>) -> Result<SqliteStore, String> {
        let mut connection = self.connection.take().ok_or("a process has it")?;
        connection.set_prepared_statement_cache_capacity(64);
        let log = Arc::clone(&self.log);
        let hook = move |_, _: &str, table: &str, row: i64| {
            let touched = match table {
                "reservations" => Touched::Reservation(row),
                "settlements" => Touched::Settlement(row),
                "corrections" => Touched::Correction(row),
                // Written with every act of management.
                "audit" => Touched::Rules,
                _ => return,
            };
            log.lock().push(touched);
        };
        connection.update_hook(Some(hook)).map_err(|error| error.to_string())?;
        bend(&connection, bug).map_err(|error| error.to_string())?;
        let options = Options {
            path: PathBuf::new(),
            durability: Durability::Process,
            clock,
            seed,
            token: [8; 32],
            refuse_commits: Some(Arc::clone(&self.refuse)),
        };
        open_on(connection, options).map_err(|error| error.to_string())
    }

    /// What became durable since this was last asked, if anything did.
    pub fn written(&self, store: &SqliteStore, now: Timestamp) -> Option<Durable> {
        let log = std::mem::take(&mut *self.log.lock());
        if log.is_empty() {
            return None;
        }
        let edits = log.iter().filter(|touched| matches!(touched, Touched::Rules)).count();
        let touched: BTreeSet<Touched> = log.into_iter().collect();
        let mut durable = Durable { now, edits, ..Durable::default() };
        let one = |sql: &str, row: i64| query(store, sql, vec![row.into()]).into_iter().next();
        for touched in touched {
            match touched {
                Touched::Reservation(row) => {
                    let found = one(RESERVATION, row);
                    durable.holds.extend(found.map(|it| (GenerationRow(row), open(&it), number(&it, 6))));
                }
                Touched::Settlement(row) => {
                    let found = one(SETTLEMENT, row);
                    durable.ends.extend(found.map(|it| {
                        let outcome = match it.values().get(7) {
                            Some(Value::Text(word)) => Outcome::from_word(word),
                            _ => None,
                        };
                        let outcome = outcome.unwrap_or(Outcome::Lost);
                        (GenerationRow(row), open(&it), outcome, amounts(&it, 8), number(&it, 6))
                    }));
                }
                Touched::Correction(id) => {
                    let found = one(CORRECTION, id);
                    let correction = |it: Row| (GenerationRow(number(&it, 0)), amounts(&it, 1));
                    durable.corrections.extend(found.map(correction));
                }
                Touched::Rules => durable.rules = Some(Rules::read(|sql| query(store, sql, Vec::new()))),
            }
        }
        // A reservation that ended stays where it is.
        Some(durable)
    }
}

/// Asks a database in memory, which answers at once.
pub fn query(store: &SqliteStore, sql: &str, values: Vec<Value>) -> Vec<Row> {
    let mut asked = Box::pin(Ground::query(&**store, sql, values));
    match asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(rows)) => rows,
        Poll::Ready(Err(_)) | Poll::Pending => Vec::new(),
    }
}

/// What is durably held for a generation.
pub fn held(store: &SqliteStore, row: GenerationRow) -> Option<Amounts> {
    let rows = query(store, "SELECT credits, byok FROM reservations WHERE row = ?1", vec![row.0.into()]);
    rows.first().map(|row| amounts(row, 0))
}

/// A balance as the process has it in memory.
pub fn balance(store: &SqliteStore, scope: Scope) -> Option<Balance> {
    Ground::glance(&**store, |state, _| state.book.balance(scope).cloned())
}

/// The sums by hour on disk.
pub fn rollups(store: &SqliteStore) -> BTreeMap<RollupPlace, [i64; 3]> {
    let rows = query(store, "SELECT hour, key, workspace, price, requests, credits, byok FROM rollups", Vec::new());
    let at = |row: &Row| (number(row, 0), number(row, 1), number(row, 2), number(row, 3));
    rows.iter().map(|row| (at(row), [number(row, 4), number(row, 5), number(row, 6)])).collect()
}

fn number(row: &Row, column: usize) -> i64 {
    row.get(column).unwrap_or(0)
}

fn amounts(row: &Row, column: usize) -> Amounts {
    let part = |column| Usd::from_nanos(number(row, column));
    Amounts { credits: part(column), byok: part(column + 1) }
}

fn open(row: &Row) -> Open {
    let member = row.get::<Option<i64>>(2).ok().flatten().map(MemberId);
    Open {
        spender: Spender { key: KeyId(number(row, 0)), workspace: WorkspaceId(number(row, 1)), member },
        admitted_at: Timestamp::from_micros(number(row, 3)),
        hold: amounts(row, 4),
    }
}

/// What a bug makes of the file between two processes.
fn bend(db: &Connection, bug: Option<Bug>) -> rusqlite::Result<()> {
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'", [], |row| row.get(0))?;
    if tables == 0 {
        return Ok(());
    }
    match bug {
        Some(Bug::ForgottenTail) => db.execute_batch("UPDATE meta SET value = value + 1 WHERE name = 'epoch'"),
        Some(Bug::TailTwice) => db.execute_batch("UPDATE meta SET value = max(value - 1, 0) WHERE name = 'epoch'"),
        Some(Bug::LostAtNothing) => db.execute_batch(
            "CREATE TRIGGER IF NOT EXISTS lost AFTER INSERT ON settlements WHEN NEW.outcome = 'lost'
BEGIN UPDATE settlements SET credits = 0 WHERE row = NEW.row; END",
        ),
        Some(Bug::OverrunCutOnDisk) => db.execute_batch(
            "CREATE TRIGGER IF NOT EXISTS cut AFTER INSERT ON settlements
WHEN NEW.credits > (SELECT credits FROM reservations WHERE row = NEW.row)
BEGIN UPDATE settlements SET credits = (SELECT credits FROM reservations WHERE row = NEW.row) WHERE row = NEW.row; END",
        ),
        Some(Bug::CommitThatWasNone) => db.execute_batch(
            "CREATE TRIGGER IF NOT EXISTS none AFTER INSERT ON settlements WHEN NEW.row % 40 = 0
BEGIN DELETE FROM settlements WHERE row = NEW.row; END",
        ),
        _ => Ok(()),
    }
}
