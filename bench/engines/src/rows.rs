//! The peer of the embedded engine: one thread that inserts rows, many a transaction, and decides nothing.

use std::path::Path;

use anyhow::{Result, ensure};
use rusqlite::{Connection, params};

use crate::window::{Tally, Window};

const ROWS_A_TRANSACTION: u64 = 64;
/// About what the engine writes of a call besides numbers.
const TEXT: &str = "chat.completion stop simulated tollgate/simulated bench 2026-01-01";

/// A file as the engine opens its own, in `folder`.
pub fn open(folder: &Path, synchronous: &str) -> Result<Connection> {
    let connection = Connection::open(folder.join("rows.db"))?;
    for (pragma, value) in [("locking_mode", "EXCLUSIVE"), ("journal_mode", "WAL"), ("synchronous", synchronous)] {
        connection.pragma_update(None, pragma, value)?;
    }
    connection.execute_batch(
        "CREATE TABLE rows (id INTEGER PRIMARY KEY, key INTEGER NOT NULL, at INTEGER NOT NULL, held INTEGER NOT NULL,
         charged INTEGER NOT NULL, prompt INTEGER NOT NULL, completion INTEGER NOT NULL, text TEXT NOT NULL) STRICT",
    )?;
    Ok(connection)
}

pub fn measure(connection: &Connection, window: Window) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut insert = connection.prepare(
        "INSERT INTO rows (id, key, at, held, charged, prompt, completion, text) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    while !window.is_over() {
        let first = i64::try_from(tally.total)?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for id in first..first + i64::try_from(ROWS_A_TRANSACTION)? {
            insert.execute(params![id, 1, 1_767_225_600_000_000 + id, 400_000, 150_000, 300, 100, TEXT])?;
        }
        connection.execute_batch("COMMIT")?;
        tally.add(ROWS_A_TRANSACTION, &window);
    }
    let rows: i64 = connection.query_row("SELECT count(*) FROM rows", [], |row| row.get(0))?;
    ensure!(u64::try_from(rows)? == tally.total, "{} rows were inserted, {rows} are there", tally.total);
    Ok(tally)
}
