//! Whether a file is whole, found without writing to it.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Result};

use crate::backup::named;
use crate::engine::OpenError;

/// What SQLite finds wrong with a file, the first few of it. Nothing, where a process has it open: that one is asked itself.
///
/// # Errors
/// It cannot be opened.
pub fn damage(path: &Path) -> std::result::Result<Vec<String>, OpenError> {
    found(path, |db| lines(db, "PRAGMA integrity_check(10)"))
}

/// The same, of keys, rules, balances and all else that does not grow with every call: that would take too long at a start.
///
/// # Errors
/// It cannot be opened.
pub fn damage_at_start(path: &Path) -> std::result::Result<Vec<String>, OpenError> {
    found(path, |db| {
        let mut found = Vec::new();
        for table in lines(db, TABLES)? {
            found.extend(lines(db, &format!("PRAGMA quick_check('{table}')"))?);
        }
        Ok(found)
    })
}

/// The first thing that SQLite finds wrong with the pages of a database that is open; `None` where they are sound.
pub fn first_damage(db: &Connection) -> Result<Option<String>> {
    Ok(lines(db, "PRAGMA quick_check(1)")?.into_iter().find(|line| line != "ok"))
}

const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
    AND name NOT IN ('reservations', 'settlements', 'corrections', 'rollups', 'audit', 'kept_answers')";

fn lines(db: &Connection, sql: &str) -> Result<Vec<String>> {
    db.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

fn found(
    path: &Path,
    look: impl FnOnce(&Connection) -> Result<Vec<String>>,
) -> std::result::Result<Vec<String>, OpenError> {
    // Its log is beside the file, and not beside a link to it.
    let path = std::fs::canonicalize(path)?;
    let log = named(&path, "-wal").exists();
    let db = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    db.busy_timeout(Duration::ZERO)?;
    // Not every file system has the memory that processes share a log with.
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    // What a process left in its log goes into the file when the next one opens it, and not before it is known to be whole.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, log)?;
    match look(&db) {
        Ok(lines) => Ok(lines.into_iter().filter(|line| line != "ok").collect()),
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Ok(Vec::new()),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Ok(vec![error.to_string()]),
            _ => Err(error.into()),
        },
    }
}
