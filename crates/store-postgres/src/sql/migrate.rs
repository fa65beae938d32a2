//! Brings a database to the newest schema, one node at a time: numbered scripts, each remembered by its checksum.

use deadpool_postgres::Object;
use tollgate_domain::workspace::DEFAULT_WORKSPACE_SLUG;
use tollgate_domain::{KeyHash, Timestamp};

use super::CONFIG_LOCK;
use super::session::OpenError;

const MIGRATIONS: &[(i64, &str)] = &[(1, include_str!("../../migrations/0001_initial.sql"))];

const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS migrations (number BIGINT PRIMARY KEY, checksum TEXT NOT NULL)";

/// Applies what is missing, and gives a new database its workspace and its id key, which it returns.
///
/// # Errors
/// [`OpenError::Newer`]: a later release wrote it. [`OpenError::Altered`]: a script is not the one that was applied.
pub async fn migrate(session: &mut Object, seed: &[u8; 32], now: Timestamp) -> Result<[u8; 16], OpenError> {
    let tx = session.transaction().await?;
    // No batch of any node is under way while the schema changes.
    tx.execute("SELECT pg_advisory_xact_lock($1)", &[&CONFIG_LOCK]).await?;
    tx.batch_execute(CREATE_TABLE).await?;
    let applied = tx.query("SELECT number, checksum FROM migrations", &[]).await?;
    let applied: Vec<(i64, String)> = applied
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, tokio_postgres::Error>>()?;
    let known = MIGRATIONS.last().map_or(0, |(number, _)| *number);
    if applied.iter().any(|(number, _)| *number > known) {
        return Err(OpenError::Newer);
    }
    for (number, script) in MIGRATIONS.iter().copied() {
        let checksum = KeyHash::of(script).to_string();
        match applied.iter().find(|(applied, _)| *applied == number) {
            Some((_, before)) if *before == checksum => {}
            Some(_) => return Err(OpenError::Altered(number)),
            None => {
                tx.batch_execute(script).await?;
                tx.execute("INSERT INTO migrations (number, checksum) VALUES ($1, $2)", &[&number, &checksum]).await?;
            }
        }
    }
    let (id_key, uuid_bytes) = seed.split_at(16);
    let uuid = uuid::Builder::from_random_bytes(<[u8; 16]>::try_from(uuid_bytes).unwrap_or_default()).into_uuid();
    tx.execute(
        "INSERT INTO workspaces (id, uuid, name, slug, created_at) SELECT 1, $1, 'Default', $2, $3
         WHERE NOT EXISTS (SELECT FROM workspaces)",
        &[&uuid.to_string(), &DEFAULT_WORKSPACE_SLUG, &now.micros()],
    )
    .await?;
    tx.execute("INSERT INTO meta (name, value) VALUES ('id_key', $1) ON CONFLICT (name) DO NOTHING", &[&id_key])
        .await?;
    let kept = tx.query_one("SELECT value FROM meta WHERE name = 'id_key'", &[]).await?;
    let kept: Vec<u8> = kept.try_get(0)?;
    tx.commit().await?;
    kept.try_into().map_err(|_| OpenError::Damaged("the key of generation ids is not of its length".to_owned()))
}
