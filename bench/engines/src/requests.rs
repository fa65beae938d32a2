//! The peer of the engine on PostgreSQL: a limit as most would write it, in one transaction a request.
//!
//! `UPDATE … WHERE spent + cost <= lim RETURNING spent` decides, an `INSERT` records. Two round trips, since what is recorded
//! depends on what was decided: `BEGIN` goes with the first, `COMMIT` with the second.

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_postgres::{Client, NoTls, Statement};

use crate::table::median;
use crate::window::{Tally, Window};

const SCHEMA: &str = "
    DROP TABLE IF EXISTS entries, accounts;
    CREATE TABLE accounts (id bigint PRIMARY KEY, spent bigint NOT NULL, lim bigint NOT NULL);
    CREATE TABLE entries (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account bigint NOT NULL, at timestamptz NOT NULL
        DEFAULT now(), cost bigint NOT NULL, spent bigint NOT NULL);
    INSERT INTO accounts (id, spent, lim) VALUES (1, 0, 1000000000000000)";
const DECIDE: &str = "UPDATE accounts SET spent = spent + $1 WHERE id = $2 AND spent + $1 <= lim RETURNING spent";
const RECORD: &str = "INSERT INTO entries (account, cost, spent) VALUES ($1, $2, $3)";
const ACCOUNT: i64 = 1;
const COST: i64 = 150_000;
const COMMITS: usize = 101;

/// A connection with what a request needs.
pub struct Caller {
    client: Client,
    decide: Statement,
    record: Statement,
}

/// Tables without a row of ours, and connections.
pub async fn open(url: &str, connections: usize) -> Result<Vec<Caller>> {
    connect(url).await?.batch_execute(SCHEMA).await?;
    let mut callers = Vec::new();
    for _ in 0..connections {
        let client = connect(url).await?;
        let (decide, record) = (client.prepare(DECIDE).await?, client.prepare(RECORD).await?);
        callers.push(Caller { client, decide, record });
    }
    Ok(callers)
}

#[expect(clippy::disallowed_methods, reason = "a connection ends with its client")]
async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

pub async fn measure(callers: Vec<Caller>, url: &str, window: Window) -> Result<Tally> {
    let mut running = JoinSet::new();
    for caller in callers {
        running.spawn(ask(caller, window));
    }
    let mut sum = Tally::default();
    while let Some(tally) = running.join_next().await {
        sum = sum.and(tally??);
    }
    let sql = "SELECT count(*), (SELECT spent FROM accounts) FROM entries";
    let row = connect(url).await?.query_one(sql, &[]).await?;
    let (entries, spent): (i64, i64) = (row.get(0), row.get(1));
    let total = i64::try_from(sum.total)?;
    ensure!((entries, spent) == (total, total * COST), "{total} requests left {entries} entries of {spent}");
    Ok(sum)
}

async fn ask(caller: Caller, window: Window) -> Result<Tally> {
    let Caller { client, decide, record } = caller;
    let mut tally = Tally::default();
    while !window.is_over() {
        let (begin, spend) = (client.batch_execute("BEGIN"), client.query_opt(&decide, &[&COST, &ACCOUNT]));
        let ((), spent) = tokio::try_join!(biased; begin, spend)?;
        let spent: i64 = spent.context("the limit is reached")?.get(0);
        let values = [&ACCOUNT as _, &COST as _, &spent as _];
        let (entry, commit) = (client.execute(&record, &values), client.batch_execute("COMMIT"));
        tokio::try_join!(biased; entry, commit)?;
        tally.add(1, &window);
    }
    Ok(tally)
}

/// The median time of a commit that nobody else is in the way of, in microseconds: about a flush.
pub async fn commit_us(url: &str) -> Result<f64> {
    let client = connect(url).await?;
    client.batch_execute("CREATE TABLE IF NOT EXISTS commits (id int)").await?;
    let insert = client.prepare("INSERT INTO commits VALUES (1)").await?;
    let mut times = Vec::new();
    for _ in 0..COMMITS {
        let start = Instant::now();
        client.execute(&insert, &[]).await?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(times))
}

/// Its version, as it says itself.
pub async fn version(url: &str) -> Result<String> {
    let row = connect(url).await?.query_one("SHOW server_version", &[]).await?;
    let version: &str = row.get(0);
    Ok(version.split(' ').next().unwrap_or_default().to_owned())
}
