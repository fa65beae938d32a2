//! The audit log and kept answers: written with the change that they tell of, read from the file.

use async_trait::async_trait;
use tollgate_domain::Timestamp;
use tollgate_domain::key::ManagementKeyId;
use tollgate_domain::time::MICROS_PER_SECOND;
use tollgate_store::{Act, Actor, AuditEntry, AuditQuery, AuditStore, Change, KeptAnswer, Page, StoreError};

use crate::ground::{Engine, Ground, Statement, statement};
use crate::rows;
use crate::value::{Row, Unreadable, Value};

/// How long an answer is kept.
const KEPT_MICROS: i64 = 24 * 3_600 * MICROS_PER_SECOND;

const ADD: &str =
    "INSERT INTO audit (id, at, actor, actor_id, actor_name, kind, action, target, workspace, before, after)
VALUES ((SELECT coalesce(max(id), 0) + 1 FROM audit), ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

// Where another node answered the same request meanwhile, this fails, and with it all that it is written with.
const KEEP: &str = "INSERT INTO kept_answers (id, request, sealed, created_at) VALUES (?1, ?2, ?3, ?4)";
const FORGET: &str = "DELETE FROM kept_answers WHERE created_at <= ?1";
const FIND: &str = "SELECT request, sealed FROM kept_answers WHERE id = ?1 AND created_at > ?2";

// Entries are numbered without gaps and never removed.
const COUNT_ALL: &str = "SELECT coalesce(max(id), 0) FROM audit";
const COUNT: &str = "SELECT count(*) FROM audit";
const LIST: &str = "SELECT id, at, actor, actor_id, actor_name, action, target, workspace, before, after FROM audit";

/// An entry.
pub fn entry(by: &Actor, at: Timestamp, change: &Change) -> Statement {
    let (id, name) = match by {
        Actor::Management { id, name, .. } => (Some(id.0), Some(name.clone())),
        Actor::Operator | Actor::Config | Actor::App => (None, None),
    };
    let kind = change.action.split('.').next().unwrap_or_default();
    statement(
        ADD,
        vec![
            Value::from(at.micros()),
            Value::from(by.word().to_owned()),
            Value::from(id),
            Value::from(name),
            Value::from(kind.to_owned()),
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
        statements.push(forget(at));
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

/// Forgets answers that nobody may ask for any more.
pub fn forget(now: Timestamp) -> Statement {
    statement(FORGET, vec![Value::from(now.plus_micros(-KEPT_MICROS).micros())])
}

#[async_trait]
impl<G: Ground> AuditStore for Engine<G> {
    async fn audit(&self, query: AuditQuery) -> Result<Page<AuditEntry>, StoreError> {
        let (limit, offset) = (query.page.limit, query.page.offset);
        let (conditions, mut values) = conditions(query);
        let count = if values.is_empty() { COUNT_ALL.to_owned() } else { format!("{COUNT}{conditions}") };
        let counted = self.query(&count, values.clone()).await?;
        let total: i64 = counted.first().map_or(Ok(0), |row| row.get(0))?;
        values.push(Value::from(i64::try_from(limit).unwrap_or(i64::MAX)));
        values.push(Value::from(i64::try_from(offset).unwrap_or(i64::MAX)));
        let page = format!("ORDER BY id DESC LIMIT ?{} OFFSET ?{}", values.len() - 1, values.len());
        let found = self.query(&format!("{LIST}{conditions} {page}"), values).await?;
        let items = found.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Page { items, total: usize::try_from(total).unwrap_or_default() })
    }

    async fn kept_answer(&self, id: [u8; 32]) -> Result<Option<KeptAnswer>, StoreError> {
        // One that was made a moment ago may still be on its way.
        self.written().await?;
        let since = self.glance(|_, now| now.plus_micros(-KEPT_MICROS).micros());
        let found = self.query(FIND, vec![Value::from(id.to_vec()), Value::from(since)]).await?;
        let kept = |row: &Row| Ok::<_, Unreadable>(KeptAnswer { id, request: row.get(0)?, sealed: row.get(1)? });
        Ok(found.first().map(kept).transpose()?)
    }
}

/// What is asked for, each of it served by an index of its own.
fn conditions(query: AuditQuery) -> (String, Vec<Value>) {
    let AuditQuery { workspace, target, action, page: _ } = query;
    // `key` is all of its kind, `key.create` is itself.
    let (kind, action) = match action {
        Some(action) => (Some(action.split('.').next().unwrap_or_default().to_owned()), Some(action)),
        None => (None, None),
    };
    let action = action.filter(|action| action.contains('.'));
    let asked =
        [("workspace", workspace.map(|uuid| uuid.to_string())), ("target", target), ("kind", kind), ("action", action)];
    let (mut conditions, mut values) = (String::new(), Vec::new());
    for (column, value) in asked {
        if let Some(value) = value {
            conditions += if values.is_empty() { " WHERE " } else { " AND " };
            conditions += column;
            values.push(Value::from(value));
            conditions += " = ?";
            conditions += &values.len().to_string();
        }
    }
    (conditions, values)
}

fn read(row: &Row) -> Result<AuditEntry, Unreadable> {
    let key = row.get::<Option<i64>>(3)?.map(ManagementKeyId).zip(row.get(4)?);
    let by = Actor::from_word(&row.get::<String>(2)?, key)
        .ok_or_else(|| Unreadable::new(2, "nobody acts under this word"))?;
    let workspace = match row.get::<Option<String>>(7)? {
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
