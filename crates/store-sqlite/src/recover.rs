//! What happens at start: load what was folded, replay the tail behind it, and book what was in flight as lost.

use foldhash::HashMap;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::key::KeyId;
use tollgate_domain::ledger::{Amounts, Book, Correction, Open, Spender};
use tollgate_domain::member::MemberId;
use tollgate_domain::model::PriceVersion;
use tollgate_domain::time::WindowId;
use tollgate_domain::usage::TokenUsage;
use tollgate_domain::workspace::{DEFAULT_WORKSPACE_SLUG, WorkspaceId};
use tollgate_domain::{IdCipher, Timestamp, Usd};
use tollgate_engine::{GuardedClock, Rollups, SET_META, SOURCES, State, kind, lost, scope, window};

use crate::committer::Queue;
use crate::engine::{Live, OpenError};
use crate::record::{FOLD_KEY_USE, Record, Writer};

/// What a start finds.
pub struct Recovered {
    pub live: Live,
    pub next_row: GenerationRow,
    pub cipher: IdCipher,
}

const TAIL: &str =
    "SELECT r.row, r.key, r.workspace, r.admitted_at, r.credits, r.byok, r.price, s.epoch, s.credits, s.byok,
    s.outcome = 'released', k.creator, coalesce(s.price, r.price), coalesce(s.prompt, 0), coalesce(s.cached, 0),
    coalesce(s.completion, 0), coalesce(s.reasoning, 0)
FROM reservations r LEFT JOIN settlements s ON s.row = r.row LEFT JOIN keys k ON k.id = r.key
WHERE r.row >= ?1                            -- nothing below was open at the last fold
    AND (s.row IS NULL OR s.epoch >= ?2)     -- still open, or settled behind the fold
ORDER BY r.row";

const CORRECTIONS: &str = "SELECT c.key, c.workspace, c.admitted_at, c.credits, c.byok, k.creator, s.price
FROM corrections c JOIN settlements s ON s.row = c.row LEFT JOIN keys k ON k.id = c.key
WHERE c.id >= ?1      -- nothing below is behind the last fold
    AND c.epoch >= ?2";

/// Reads everything, books what is lost, and writes both in one transaction.
pub fn recover(connection: &mut Connection, seed: &[u8; 32], now: Timestamp) -> Result<Recovered, OpenError> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    initialise(&tx, seed, now)?;
    let epoch = meta(&tx, "epoch")?;
    let low_row = meta(&tx, "low_row")?;
    let low_correction = meta(&tx, "low_correction")?;
    let seen = Timestamp::from_micros(meta(&tx, "seen")?);

    let mut state = State::default();
    for source in SOURCES {
        for row in crate::database::query(&tx, &source.all(), &[])? {
            (source.put)(&mut state, &row, now)?;
        }
    }
    load_balances(&tx, &mut state.book)?;
    let mut rollups = Rollups::default();
    let newest = replay(&tx, &mut state.book, &mut rollups, epoch, low_row, low_correction)?;
    let next_row = next(&tx, "SELECT max(row) FROM reservations")?;
    let id_key: [u8; 16] = tx.query_row("SELECT value FROM meta WHERE name = 'id_key'", [], |row| row.get(0))?;
    let live = Live {
        state,
        next_correction: next(&tx, "SELECT max(id) FROM corrections")?,
        queue: Queue::default(),
        clock: GuardedClock::new(seen.max(newest)),
        epoch,
        // Everything before this start has ended.
        low_row: next_row,
        rollups,
        used: HashMap::default(),
    };
    tx.commit()?;
    Ok(Recovered { live, next_row: GenerationRow(next_row), cipher: IdCipher::new(id_key) })
}

/// Gives a new database its workspace, its id key and its first fold.
fn initialise(db: &Connection, seed: &[u8; 32], now: Timestamp) -> Result<(), OpenError> {
    let known: Option<i64> =
        db.query_row("SELECT value FROM meta WHERE name = 'epoch'", [], |row| row.get(0)).optional()?;
    if known.is_some() {
        return Ok(());
    }
    let (id_key, uuid_bytes) = seed.split_at(16);
    let uuid = uuid::Builder::from_random_bytes(<[u8; 16]>::try_from(uuid_bytes).unwrap_or_default()).into_uuid();
    db.execute(
        "INSERT INTO workspaces (id, uuid, name, slug, created_at) VALUES (1, ?1, 'Default', ?2, ?3)",
        params![uuid.to_string(), DEFAULT_WORKSPACE_SLUG, now.micros()],
    )?;
    db.execute(SET_META, params!["id_key", id_key])?;
    for name in ["epoch", "low_row", "low_correction", "seen"] {
        db.execute(SET_META, params![name, 0])?;
    }
    Ok(())
}

fn meta(db: &Connection, name: &str) -> Result<i64, OpenError> {
    let value: Option<i64> =
        db.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()?;
    value.ok_or_else(|| OpenError::Damaged(format!("`{name}` is missing")))
}

fn next(db: &Connection, max: &str) -> Result<i64, OpenError> {
    let max: Option<i64> = db.query_row(max, [], |row| row.get(0))?;
    Ok(max.unwrap_or(0).saturating_add(1))
}

fn load_balances(db: &Connection, book: &mut Book) -> Result<(), OpenError> {
    let mut statement = db.prepare("SELECT scope, id, kind, span, number, spent FROM balances")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let (whose, money, span): (String, String, String) = (row.get(0)?, row.get(2)?, row.get(3)?);
        let parsed = scope(&whose, row.get(1)?).zip(kind(&money)).zip(window(&span));
        let Some(((scope, kind), window)) = parsed else {
            return Err(OpenError::Damaged(format!("unknown balance `{whose} {money} {span}`")));
        };
        // Balances of deleted keys stay on disk for the history and have no place in memory.
        if let Some(balance) = book.balance_mut(scope) {
            balance.restore(kind, window, WindowId(row.get(4)?), Usd::from_nanos(row.get(5)?));
        }
    }
    let mut statement = db.prepare("SELECT key, last_used_at FROM key_use")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        book.touch_key(KeyId(row.get(0)?), Timestamp::from_micros(row.get(1)?));
    }
    Ok(())
}

fn spender(key: i64, workspace: i64, member: Option<i64>) -> Spender {
    Spender { key: KeyId(key), workspace: WorkspaceId(workspace), member: member.map(MemberId) }
}

/// Books what was settled behind the last fold, and what was open as lost. Returns the newest admission among them.
fn replay(
    db: &Connection,
    book: &mut Book,
    rollups: &mut Rollups,
    epoch: i64,
    low_row: i64,
    low_correction: i64,
) -> Result<Timestamp, OpenError> {
    let mut newest = Timestamp::default();
    let mut in_flight = Vec::new();
    let mut used = db.prepare(FOLD_KEY_USE)?;
    let mut statement = db.prepare(TAIL)?;
    let mut tail = statement.query(params![low_row, epoch])?;
    while let Some(row) = tail.next()? {
        let open = Open {
            spender: spender(row.get(1)?, row.get(2)?, row.get(11)?),
            admitted_at: Timestamp::from_micros(row.get(3)?),
            hold: Amounts { credits: Usd::from_nanos(row.get(4)?), byok: Usd::from_nanos(row.get(5)?) },
        };
        newest = newest.max(open.admitted_at);
        let settled: Option<i64> = row.get(7)?;
        let charge = if settled.is_some() {
            Amounts { credits: Usd::from_nanos(row.get(8)?), byok: Usd::from_nanos(row.get(9)?) }
        } else {
            in_flight.push((GenerationRow(row.get(0)?), open.clone(), PriceVersion(row.get(6)?)));
            open.hold
        };
        let Open { spender, admitted_at, .. } = open;
        let key = spender.key;
        book.correct(&Correction { spender, admitted_at, amounts: charge });
        if row.get::<_, Option<bool>>(10)? != Some(true) {
            let count = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
            let (prompt, cached, completion, reasoning) = (count(13)?, count(14)?, count(15)?, count(16)?);
            let tokens = TokenUsage { prompt, cached, completion, reasoning, ..TokenUsage::default() };
            rollups.charge(&spender, admitted_at, PriceVersion(row.get(12)?), &tokens, charge);
            book.touch_key(key, admitted_at);
            // The next fold only knows of what is used from now on.
            used.execute(params![key.0, admitted_at.micros()])?;
        }
    }
    let mut statement = db.prepare(CORRECTIONS)?;
    let mut found = statement.query(params![low_correction, epoch])?;
    while let Some(row) = found.next()? {
        let correction = Correction {
            spender: spender(row.get(0)?, row.get(1)?, row.get(5)?),
            admitted_at: Timestamp::from_micros(row.get(2)?),
            amounts: Amounts { credits: Usd::from_nanos(row.get(3)?), byok: Usd::from_nanos(row.get(4)?) },
        };
        book.correct(&correction);
        let Correction { spender, admitted_at, amounts } = correction;
        rollups.correct(&spender, admitted_at, PriceVersion(row.get(6)?), amounts);
    }
    if !in_flight.is_empty() {
        tracing::warn!(
            generations = in_flight.len(),
            "calls were in flight when the last process ended; they are booked as lost"
        );
    }
    let mut writer = Writer::new(db)?;
    for (row, open, price) in in_flight {
        let settlement = lost(row, open.hold, price);
        Record::Settle { epoch, open, settlement: Box::new(settlement) }.write(&mut writer)?;
    }
    Ok(newest)
}
