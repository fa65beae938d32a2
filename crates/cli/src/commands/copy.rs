//! `tollgate copy --to postgres://…`: the embedded ledger, whole, into an empty database on a server.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use tollgate_domain::ledger::MoneyKind;
use tollgate_engine::doctor::Report;
use tollgate_engine::{Engine, Ground, Row, SOURCES, Source, Value, kind, window};
use tollgate_store_postgres::{Import, Options, Sql, array};

use crate::boot::Parts;
use crate::cli::ConfigFile;
use crate::config::{Config, Place};
use crate::failure::{Failure, Kind};
use crate::output;
use crate::storage::{self, Storage};

/// Rows that are read and sent together.
const ROWS_A_PAGE: i64 = 2_000;

/// `tollgate copy --to URL`
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// The empty database to fill; its password may stand in the environment instead
    #[arg(long, value_name = "postgres://…", env = "TOLLGATE_COPY_TO", hide_env_values = true)]
    to: String,
}

/// A table that is copied: its name, its columns there, and the query here, a page behind the row whose first columns are the first
/// values.
struct Table {
    name: &'static str,
    columns: &'static str,
    query: &'static str,
    /// Before the first row.
    before: fn() -> Vec<Value>,
}

fn before_row() -> Vec<Value> {
    vec![Value::from(i64::MIN)]
}

/// Those that no node keeps in memory.
const TABLES: &[Table] = &[
    Table {
        name: "settlements",
        columns: "row, outcome, key, workspace, member, admitted_at, hold_credits, hold_byok, credits, byok, price,
            cost_total, cost_prompt, metered, prompt, cached, cache_write, prompt_audio, completion, reasoning,
            completion_audio, completion_image, streamed, cancelled, finish_reason, native_finish, upstream_id,
            latency_ms, generation_ms, user_agent, http_referer, session_id, attempts, credential",
        query: "SELECT s.row, s.outcome, s.key, s.workspace, k.creator, s.admitted_at, coalesce(r.credits, 0),
                coalesce(r.byok, 0), s.credits, s.byok, s.price, s.cost_total, s.cost_prompt, s.metered, s.prompt, s.cached,
                s.cache_write, s.prompt_audio, s.completion, s.reasoning, s.completion_audio, s.completion_image,
                s.streamed, s.cancelled, s.finish_reason, s.native_finish, s.upstream_id, s.latency_ms, s.generation_ms,
                s.user_agent, s.http_referer, s.session_id, s.attempts, s.credential
            FROM settlements s LEFT JOIN reservations r ON r.row = s.row LEFT JOIN keys k ON k.id = s.key
            WHERE s.row > ?1 ORDER BY s.row LIMIT ?2",
        before: before_row,
    },
    Table {
        name: "corrections",
        columns: "id, row, key, workspace, member, admitted_at, credits, byok, reason, created_at",
        query: "SELECT c.id, c.row, c.key, c.workspace, k.creator, c.admitted_at, c.credits, c.byok, c.reason, c.created_at
            FROM corrections c LEFT JOIN keys k ON k.id = c.key WHERE c.id > ?1 ORDER BY c.id LIMIT ?2",
        before: before_row,
    },
    Table {
        name: "audit",
        columns: "id, at, actor, actor_id, actor_name, kind, action, target, workspace, before, after",
        query: "SELECT id, at, actor, actor_id, actor_name, kind, action, target, workspace, before, after FROM audit
            WHERE id > ?1 ORDER BY id LIMIT ?2",
        before: before_row,
    },
    Table {
        name: "kept_answers",
        columns: "id, request, sealed, created_at",
        query: "SELECT id, request, sealed, created_at FROM kept_answers WHERE id > ?1 ORDER BY id LIMIT ?2",
        before: || vec![Value::from(Vec::new())],
    },
    Table {
        name: "rollups",
        columns: "hour, key, workspace, price, node, requests, prompt, cached, completion, reasoning, credits, byok",
        query: "SELECT hour, key, workspace, price, 0, requests, prompt, cached, completion, reasoning, credits, byok
            FROM rollups WHERE (hour, key, workspace, price) > (?1, ?2, ?3, ?4)
            ORDER BY hour, key, workspace, price LIMIT ?5",
        before: || vec![Value::from(i64::MIN); 4],
    },
];

const BALANCES: &str = "SELECT b.scope, b.id, b.kind, b.span, b.number, b.spent, u.last_used_at
FROM balances b LEFT JOIN key_use u ON b.scope = 'key' AND u.key = b.id ORDER BY b.scope, b.id";

const PUT_BALANCE: &str = "INSERT INTO balances (scope, id, node, number, spent, used_at)
VALUES ($1, $2, 0, CAST(CAST($3 AS TEXT) AS BIGINT[]), CAST(CAST($4 AS TEXT) AS BIGINT[]), $5)";

/// A table that nodes keep in memory, whole: with the columns that they do not read.
fn whole(source: &Source) -> (String, String) {
    let more = match source.table {
        "credits" => ", note, created_at",
        "price_versions" => ", created_at",
        _ => "",
    };
    let columns = format!("{}{more}", source.columns);
    // The rest of `meta` is about the file.
    let only = if source.table == "meta" { " WHERE name IN ('id_key', 'vault', 'closed')" } else { "" };
    let query = format!("SELECT {columns} FROM {}{only}", source.table);
    (columns, query)
}

/// Runs the command.
///
/// # Errors
/// One of the databases cannot be opened, the other is not empty, or they do not add up.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = Config::load(arguments.file.config.as_deref(), std::env::vars())?;
    let no_file = || Failure::new(Kind::Usage, "database.url is not the file that is to be copied");
    if !matches!(config.database.place()?, Place::File(_)) {
        return Err(no_file());
    }
    let parts = Parts::default();
    let from = Storage::open_existing(&config, &parts).await.map_err(|failure| match failure.kind {
        Kind::Unreachable => failure.next("stop the server: nothing may be spent while the ledger moves"),
        _ => failure,
    })?;
    let Storage::Embedded(store, _) = &from else { return Err(no_file()) };
    let copied = copy(store, &parts, arguments.to).await;
    from.close().await.map_err(failed)?;
    let (here, there) = copied?;
    output::note(&format!("here: {} generations, ${} charged, adds up", here.generations, here.charged.credits));
    output::note(&format!("there: {} generations, ${} charged, adds up", there.generations, there.charged.credits));
    output::note("set database.url to the server's; the file stays as it is, and must not be served any more");
    Ok(())
}

async fn copy<G: Ground>(store: &Engine<G>, parts: &Parts, url: String) -> Result<(Report, Report), Failure> {
    let here = store.examine().await.map_err(failed)?;
    if !here.findings.is_empty() {
        let failure = Failure::new(Kind::Failed, "the ledger here does not add up, and was not copied");
        return Err(failure.next("`tollgate doctor` shows what does not"));
    }
    let now = parts.clock.read().wall;
    let options = Options { url, seed: [0; 32], now, without_fsync: parts.without_fsync };
    let sql = Sql::open(options.clone()).await.map_err(|error| storage::refused(&error))?;
    let import = Import::begin(&sql).await.map_err(failed)?.ok_or_else(|| {
        let failure = Failure::new(Kind::Failed, "there is something in the database to fill");
        failure.next("give one that is empty; nothing was changed")
    })?;
    pour(store, &import, here.generations).await?;
    import.finish().await.map_err(failed)?;
    drop(sql);
    let node = tollgate_store_postgres::open(options, Arc::clone(&parts.clock))
        .await
        .map_err(|error| storage::refused(&error))?;
    let there = node.examine().await;
    node.close().await.map_err(failed)?;
    let there = there.map_err(failed)?;
    if !there.findings.is_empty() || (there.generations, there.charged) != (here.generations, here.charged) {
        let failure = Failure::new(Kind::Failed, "the copy does not add up to what is here");
        return Err(failure.next("drop that database and try again; the file here is as it was"));
    }
    Ok((here, there))
}

async fn pour<G: Ground>(store: &Engine<G>, import: &Import, generations: u64) -> Result<(), Failure> {
    let bar = output::progress("copying");
    bar.set_length(generations);
    for source in SOURCES {
        let (columns, query) = whole(source);
        let rows = store.query(&query, Vec::new()).await.map_err(failed)?;
        import.add(source.table, &columns, &rows).await.map_err(failed)?;
    }
    for table in TABLES {
        let mut last = (table.before)();
        loop {
            let values = last.iter().cloned().chain([Value::from(ROWS_A_PAGE)]).collect();
            let rows = store.query(table.query, values).await.map_err(failed)?;
            let Some(newest) = rows.last() else { break };
            last = newest.values().iter().take(last.len()).cloned().collect();
            import.add(table.name, table.columns, &rows).await.map_err(failed)?;
            if table.name == "settlements" {
                bar.inc(u64::try_from(rows.len()).unwrap_or(0));
            }
        }
    }
    let balances = store.query(BALANCES, Vec::new()).await.map_err(failed)?;
    import.run(PUT_BALANCE, &in_arrays(&balances)?).await.map_err(failed)?;
    bar.finish_and_clear();
    Ok(())
}

/// Numbers of windows, what was spent in them, and when a key was last used.
type Counters = ([i64; 8], [i64; 8], Option<i64>);

/// Balances of one row a counter, as balances of one row a scope.
fn in_arrays(rows: &[Row]) -> Result<Vec<Row>, Failure> {
    let mut by_scope: BTreeMap<(String, i64), Counters> = BTreeMap::new();
    for row in rows {
        let scope = (row.get(0).map_err(failed)?, row.get(1).map_err(failed)?);
        let money = kind(&row.get::<String>(2).map_err(failed)?).ok_or_else(|| failed("an unknown kind of money"))?;
        let span = window(&row.get::<String>(3).map_err(failed)?).ok_or_else(|| failed("an unknown window"))?;
        let place = usize::from(money == MoneyKind::Byok) * 4 + span.index();
        let (numbers, spent, used_at) = by_scope.entry(scope).or_default();
        numbers[place] = row.get(4).map_err(failed)?;
        spent[place] = row.get(5).map_err(failed)?;
        *used_at = row.get(6).map_err(failed)?;
    }
    let row = |((word, id), (numbers, spent, used_at)): ((String, i64), Counters)| {
        Row::new(vec![word.into(), id.into(), array(numbers), array(spent), used_at.into()])
    };
    Ok(by_scope.into_iter().map(row).collect())
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(Kind::Failed, error.to_string())
}
