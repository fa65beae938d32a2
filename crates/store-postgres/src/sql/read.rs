//! What is read: balances, holds, news, and whatever the shared logic asks.

use std::sync::LazyLock;

use deadpool_postgres::Object;
use tokio_postgres::{Error, Row as PgRow};
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::key::KeyId;
use tollgate_domain::ledger::{Amounts, Balance, Counter, MoneyKind, Open, Scope, Spender};
use tollgate_domain::member::MemberId;
use tollgate_domain::model::PriceVersion;
use tollgate_domain::time::{WindowId, WindowKind};
use tollgate_domain::workspace::WorkspaceId;
use tollgate_domain::{Timestamp, Usd};
use tollgate_engine::{Row, SOURCES, Value, scope, scope_columns};

use super::PROTOCOL;
use super::values::{self, Bound, broken};
use crate::seam::{Broken, Glimpse, Hold, News, Time};

/// The version of what management knows, the clock, and the latest that any node wrote by it.
pub const NOW: &str =
    "SELECT version, ledger_clock(), (SELECT coalesce(max(seen), 0) FROM nodes), protocol FROM config";

/// All rows of some balances.
pub const SUMS: &str = "SELECT b.scope, b.id, b.number, b.spent, b.held, b.used_at
FROM unnest($1::text[], $2::bigint[]) AS w (scope, id) JOIN balances b ON b.scope = w.scope AND b.id = w.id";

const REMOVED: &str = "SELECT source, old FROM removed WHERE changed > $1 ORDER BY changed";

/// [`NOW`] beside every row of [`SUMS`], as of one moment.
static GLIMPSE: LazyLock<String> =
    LazyLock::new(|| format!("SELECT sums.*, now.* FROM ({NOW}) AS now LEFT JOIN ({SUMS}) AS sums ON true"));

/// Reads [`NOW`].
pub fn now(rows: &[PgRow]) -> Result<(i64, Time), Broken> {
    now_from(rows, 0)
}

/// The same, from this column on.
fn now_from(rows: &[PgRow], column: usize) -> Result<(i64, Time), Broken> {
    let row = rows.first().ok_or_else(|| Broken("the database has lost its configuration".to_owned()))?;
    let read = || {
        let at = |place| row.try_get(column + place).map(Timestamp::from_micros);
        Ok::<_, Error>((row.try_get(column)?, Time { clock: at(1)?, seen: at(2)? }, row.try_get::<_, i64>(column + 3)?))
    };
    let (version, now, protocol) = read().map_err(|error| broken(&error))?;
    if protocol != PROTOCOL {
        return Err(Broken(format!("the nodes count by protocol {protocol} now, and this release by {PROTOCOL}")));
    }
    Ok((version, now))
}

/// Scopes as columns.
pub fn columns(scopes: impl Iterator<Item = Scope>) -> (Vec<&'static str>, Vec<i64>) {
    scopes.map(scope_columns).unzip()
}

/// Reads a balance from its three arrays, the first of which stands in this column.
pub fn balance(row: &PgRow, column: usize) -> Result<Balance, Error> {
    let numbers: Vec<i64> = row.try_get(column)?;
    let spent: Vec<i64> = row.try_get(column + 1)?;
    let held: Vec<i64> = row.try_get(column + 2)?;
    let mut balance = Balance::default();
    for (place, (kind, window)) in places().enumerate() {
        let at = |array: &[i64]| array.get(place).copied().unwrap_or(0);
        let counter = Counter {
            window: WindowId(at(&numbers)),
            spent: Usd::from_nanos(at(&spent)),
            held: Usd::from_nanos(at(&held)),
        };
        balance.put(kind, window, counter);
    }
    Ok(balance)
}

/// The order of the sums in an array.
pub fn places() -> impl Iterator<Item = (MoneyKind, WindowKind)> {
    MoneyKind::ALL.into_iter().flat_map(|kind| WindowKind::ALL.into_iter().map(move |window| (kind, window)))
}

/// Reads a hold: `row, key, workspace, member, admitted_at, credits, byok, price`.
pub fn hold(row: &PgRow) -> Result<(GenerationRow, Hold), Error> {
    Ok((GenerationRow(row.try_get(0)?), Hold { open: open(row)?, price: PriceVersion(row.try_get(7)?) }))
}

/// Reads what such a row and those of settlements have in common.
pub fn open(row: &PgRow) -> Result<Open, Error> {
    Ok(Open {
        spender: Spender {
            key: KeyId(row.try_get(1)?),
            workspace: WorkspaceId(row.try_get(2)?),
            member: row.try_get::<_, Option<i64>>(3)?.map(MemberId),
        },
        admitted_at: Timestamp::from_micros(row.try_get(4)?),
        hold: Amounts { credits: Usd::from_nanos(row.try_get(5)?), byok: Usd::from_nanos(row.try_get(6)?) },
    })
}

/// Sums [`SUMS`] by scope.
pub fn sums(rows: &[PgRow], scopes: &[Scope]) -> Result<Vec<(Balance, Option<Timestamp>)>, Broken> {
    let mut sums = vec![(Balance::default(), None); scopes.len()];
    for row in rows {
        let read = || {
            let Some(word) = row.try_get::<_, Option<&str>>(0)? else { return Ok(None) };
            let whose = scope(word, row.try_get(1)?);
            let used_at = row.try_get::<_, Option<i64>>(5)?.map(Timestamp::from_micros);
            Ok::<_, Error>(Some((whose, balance(row, 2)?, used_at)))
        };
        let Some((whose, part, used_at)) = read().map_err(|error| broken(&error))? else { continue };
        let sum = scopes.iter().position(|scope| Some(*scope) == whose).and_then(|place| sums.get_mut(place));
        if let Some(sum) = sum {
            *sum = (sum.0.plus(&part), sum.1.max(used_at));
        }
    }
    Ok(sums)
}

pub async fn glimpse(session: &Object, scopes: &[Scope]) -> Result<Glimpse, Broken> {
    let (words, ids) = columns(scopes.iter().copied());
    let rows = async { session.query(&session.prepare_cached(&GLIMPSE).await?, &[&words, &ids]).await };
    let rows = rows.await.map_err(|error| broken(&error))?;
    let (version, time) = now_from(&rows, 6)?;
    Ok(Glimpse { time, version, balances: sums(&rows, scopes)? })
}

/// Answers to questions of one moment. They may take as long as they take.
pub async fn snapshot(session: &Object, questions: &[(String, Vec<Value>)]) -> Result<Vec<Vec<Row>>, Broken> {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0;
        SET LOCAL enable_hashjoin = on; SET LOCAL enable_seqscan = on";
    session.batch_execute(begin).await.map_err(|error| broken(&error))?;
    let mut answers = Vec::with_capacity(questions.len());
    for (sql, values) in questions {
        answers.push(query(session, sql, values).await?);
    }
    session.batch_execute("COMMIT").await.map_err(|error| broken(&error))?;
    Ok(answers)
}

/// What is new since a version, as of one moment.
pub async fn news(session: &Object, since: i64) -> Result<News, Broken> {
    let read = async {
        session.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let version = session.query_one("SELECT version FROM config", &[]).await?.try_get(0)?;
        Ok::<_, Error>(version)
    };
    let version = read.await.map_err(|error| broken(&error))?;
    let news = news_within(session, since, version).await;
    session.batch_execute("COMMIT").await.map_err(|error| broken(&error))?;
    news
}

/// The same inside a transaction in which nothing changes.
pub async fn news_within(session: &Object, since: i64, version: i64) -> Result<News, Broken> {
    let mut news = News { since, version, ..News::default() };
    if since == version {
        return Ok(news);
    }
    for (place, source) in SOURCES.iter().enumerate() {
        let sql = if since == 0 { source.all() } else { source.since() };
        let since = [Value::Integer(since)];
        let values = if sql.contains('?') { since.as_slice() } else { &[] };
        let rows = query(session, &sql, values).await?;
        news.rows.extend(rows.into_iter().map(|row| (place, row)));
    }
    if since > 0 {
        let removed = session.query(REMOVED, &[&since]).await.map_err(|error| broken(&error))?;
        for row in removed {
            let read = || Ok::<_, Error>((row.try_get(0)?, row.try_get::<_, String>(1)?));
            let (table, old) = read().map_err(|error| broken(&error))?;
            news.removed.push((table, serde_json::from_str(&old).unwrap_or_default()));
        }
    }
    Ok(news)
}

pub async fn query(session: &Object, sql: &str, values: &[Value]) -> Result<Vec<Row>, Broken> {
    let asked = async {
        let statement = session.prepare_cached(&values::dialect(sql)).await?;
        let bound: Vec<Bound<&Value>> = values.iter().map(Bound).collect();
        let parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
            bound.iter().map(|it| -> &(dyn tokio_postgres::types::ToSql + Sync) { it }).collect();
        session.query(&statement, &parameters).await
    };
    let found = asked.await.map_err(|error| broken(&error))?;
    found.iter().map(values::row).collect()
}
