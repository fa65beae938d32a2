//! The audit log and kept answers: written with the change that they tell of, read from the file.

use async_trait::async_trait;
use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Row, params};
use tollgate_domain::Timestamp;
use tollgate_domain::key::ManagementKeyId;
use tollgate_domain::time::MICROS_PER_SECOND;
use tollgate_store::{Act, Actor, AuditEntry, AuditQuery, AuditStore, Change, KeptAnswer, Page, StoreError};

use crate::engine::SqliteStore;
use crate::record::{Record, Statement, statement};
use crate::rows;

/// How long an answer is kept.
const KEPT_MICROS: i64 = 24 * 3_600 * MICROS_PER_SECOND;

const ADD: &str = "INSERT INTO audit (at, actor, actor_id, actor_name, action, target, workspace, before, after)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

const KEEP: &str = "INSERT OR REPLACE INTO kept_answers (id, request, sealed, created_at) VALUES (?1, ?2, ?3, ?4)";
const FORGET: &str = "DELETE FROM kept_answers WHERE created_at <= ?1";
const FIND: &str = "SELECT request, sealed FROM kept_answers WHERE id = ?1 AND created_at > ?2";

const COUNT: &str = "SELECT count(*) FROM audit
WHERE (?1 IS NULL OR workspace = ?1)
    AND (?2 IS NULL OR target = ?2)
    AND (?3 IS NULL OR action = ?3 OR substr(action, 1, length(?3) + 1) = ?3 || '.')";

const LIST: &str = "SELECT id, at, actor, actor_id, actor_name, action, target, workspace, before, after FROM audit
WHERE (?1 IS NULL OR workspace = ?1)
    AND (?2 IS NULL OR target = ?2)
    AND (?3 IS NULL OR action = ?3 OR substr(action, 1, length(?3) + 1) = ?3 || '.')   -- `key` is `key.create`, too
ORDER BY id DESC LIMIT ?4 OFFSET ?5";

/// An entry.
pub fn entry(by: &Actor, at: Timestamp, change: &Change) -> Statement {
    let (actor, id, name) = match by {
        Actor::Management { id, name, .. } => ("management_key", Some(id.0), Some(name.clone())),
        Actor::Operator => ("operator", None, None),
        Actor::Config => ("config", None, None),
        Actor::App => ("app", None, None),
    };
    statement(
        ADD,
        vec![
            Value::from(at.micros()),
            Value::from(actor.to_owned()),
            Value::from(id),
            Value::from(name),
            Value::from(change.action.to_owned()),
            Value::from(change.target.clone()),
            Value::from(change.workspace.map(|uuid| uuid.to_string())),
            Value::from(change.before.as_ref().map(tollgate_store::Facts::json)),
            Value::from(change.after.as_ref().map(tollgate_store::Facts::json)),
        ],
    )
}

/// What is written beside something that was created: an entry for each change, and the answer, if it is kept.
pub fn finish<'a, T>(
    act: Act<T>,
    value: &T,
    at: Timestamp,
    changes: impl IntoIterator<Item = &'a Change>,
) -> Vec<Statement> {
    let mut statements: Vec<_> = changes.into_iter().map(|change| entry(&act.by, at, change)).collect();
    if let Some(kept) = act.keep.and_then(|keep| keep(value)) {
        let KeptAnswer { id, request, sealed } = kept;
        statements.push(statement(FORGET, vec![Value::from(at.plus_micros(-KEPT_MICROS).micros())]));
        statements.push(statement(
            KEEP,
            vec![
                Value::from(id.to_vec()),
                Value::from(request.to_vec()),
                Value::from(sealed),
                Value::from(at.micros()),
            ],
        ));
    }
    statements
}

#[async_trait]
impl AuditStore for SqliteStore {
    async fn audit(&self, query: AuditQuery) -> Result<Page<AuditEntry>, StoreError> {
        self.read(move |db| {
            let AuditQuery { workspace, target, action, page } = query;
            let workspace = workspace.map(|uuid| uuid.to_string());
            let total: i64 =
                db.prepare_cached(COUNT)?.query_row(params![workspace, target, action], |row| row.get(0))?;
            let limit = i64::try_from(page.limit).unwrap_or(i64::MAX);
            let offset = i64::try_from(page.offset).unwrap_or(i64::MAX);
            let items = db
                .prepare_cached(LIST)?
                .query_map(params![workspace, target, action, limit, offset], read)?
                .collect::<Result<_, _>>()?;
            Ok(Page { items, total: usize::try_from(total).unwrap_or_default() })
        })
        .await
    }

    async fn kept_answer(&self, id: [u8; 32]) -> Result<Option<KeptAnswer>, StoreError> {
        let (ticket, now) = {
            let (mut state, now) = self.lock_seen();
            // One that was made a moment ago may still be ahead in the queue.
            (Self::enqueue(&mut state, Record::Barrier), now)
        };
        self.wait(ticket).await?;
        let since = now.plus_micros(-KEPT_MICROS).micros();
        let found = self.read(move |db| {
            let kept = |row: &Row<'_>| Ok(KeptAnswer { id, request: row.get(0)?, sealed: row.get(1)? });
            db.prepare_cached(FIND)?.query_row(params![id, since], kept).optional()
        });
        found.await
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    let by = match row.get::<_, String>(2)?.as_str() {
        "management_key" => Actor::Management {
            id: ManagementKeyId(row.get(3)?),
            name: row.get::<_, Option<String>>(4)?.unwrap_or_default(),
            within: None,
        },
        "config" => Actor::Config,
        "app" => Actor::App,
        _ => Actor::Operator,
    };
    let workspace = match row.get::<_, Option<String>>(7)? {
        None => None,
        Some(_) => Some(rows::uuid(row, 7)?),
    };
    Ok(AuditEntry {
        id: row.get(0)?,
        at: Timestamp::from_micros(row.get(1)?),
        by,
        action: row.get(5)?,
        target: row.get(6)?,
        workspace,
        before: row.get(8)?,
        after: row.get(9)?,
    })
}
