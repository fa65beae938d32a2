//! Whether a file is whole, found without writing to it.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::backup::named;
use crate::engine::OpenError;

/// What SQLite finds wrong with a file, the first few of it. Nothing, where a process has it open: that one is asked itself.
///
/// # Errors
/// It cannot be opened.
pub fn damage(path: &Path) -> Result<Vec<String>, OpenError> {
    let log = named(path, "-wal").exists();
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    db.busy_timeout(Duration::ZERO)?;
    // What a process left in its log goes into the file when the next one opens it, and not before it is known to be whole.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, log)?;
    let read = || {
        let mut check = db.prepare("PRAGMA integrity_check(10)")?;
        check.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
    };
    match read() {
        Ok(lines) => Ok(lines.into_iter().filter(|line| line != "ok").collect()),
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Ok(Vec::new()),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Ok(vec![error.to_string()]),
            _ => Err(error.into()),
        },
    }
}
