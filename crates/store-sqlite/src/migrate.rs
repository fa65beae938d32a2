//! Brings a database to the newest schema: numbered scripts, each in one transaction, each remembered by its checksum.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use tollgate_domain::KeyHash;

use crate::engine::OpenError;

const MIGRATIONS: &[(i64, &str)] = &[
    (1, include_str!("../migrations/0001_initial.sql")),
    (2, include_str!("../migrations/0002_organization.sql")),
    (3, include_str!("../migrations/0003_rotation.sql")),
    (4, include_str!("../migrations/0004_rollups.sql")),
    (5, include_str!("../migrations/0005_oauth.sql")),
    (6, include_str!("../migrations/0006_management_keys.sql")),
    (7, include_str!("../migrations/0007_content_filters.sql")),
    (8, include_str!("../migrations/0008_call_limits.sql")),
    (9, include_str!("../migrations/0009_audit.sql")),
    (10, include_str!("../migrations/0010_credentials.sql")),
    (11, include_str!("../migrations/0011_limited_management_keys.sql")),
    (12, include_str!("../migrations/0012_key_models_and_raises.sql")),
];

const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS migrations (
    number   INTEGER PRIMARY KEY,
    checksum TEXT NOT NULL
) STRICT";

/// Whether a release was here before.
pub fn is_migrated(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) > 0 FROM sqlite_schema WHERE name = 'meta'", [], |row| row.get(0))
}

/// Applies what is missing.
///
/// # Errors
/// [`OpenError::Newer`]: a later release wrote the file. [`OpenError::Altered`]: a script is not the one that was applied.
pub fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(CREATE_TABLE)?;
    let newest: Option<i64> = tx.query_row("SELECT max(number) FROM migrations", [], |row| row.get(0))?;
    let known = MIGRATIONS.last().map_or(0, |(number, _)| *number);
    if newest.is_some_and(|newest| newest > known) {
        return Err(OpenError::Newer);
    }
    for (number, script) in MIGRATIONS.iter().copied() {
        let checksum = KeyHash::of(script).to_string();
        let applied: Option<String> =
            tx.query_row("SELECT checksum FROM migrations WHERE number = ?1", [number], |row| row.get(0)).optional()?;
        match applied {
            Some(before) if before == checksum => {}
            Some(_) => return Err(OpenError::Altered(number)),
            None => {
                tx.execute_batch(script)?;
                tx.execute("INSERT INTO migrations (number, checksum) VALUES (?1, ?2)", (number, checksum))?;
            }
        }
    }
    tx.commit()?;
    Ok(())
}
