//! Rollups: what settles is added up in memory, folded with the balances, and read back by day.

use async_trait::async_trait;
use foldhash::HashMap;
use rusqlite::{Connection, params};
use tollgate_domain::ledger::{Amounts, Spender};
use tollgate_domain::model::PriceVersion;
use tollgate_domain::usage::TokenUsage;
use tollgate_domain::{KeyHash, Timestamp, Usd};
use tollgate_store::{Activity, ActivityQuery, ActivityRow, ActivityStore, StoreError};

use crate::engine::SqliteStore;
use crate::rows;

const HOUR_MICROS: i64 = 3_600_000_000;
const HOURS_A_DAY: i64 = 24;

/// What a rollup sums up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RollupKey {
    hour: i64,
    key: i64,
    workspace: i64,
    price: i64,
}

/// What was added up since the last fold.
#[derive(Debug, Default)]
pub struct Rollups(HashMap<RollupKey, Activity>);

const FOLD: &str = "INSERT INTO rollups
    (hour, key, workspace, price, requests, prompt, cached, completion, reasoning, credits, byok)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
ON CONFLICT (hour, key, workspace, price) DO UPDATE SET requests = requests + excluded.requests,
    prompt = prompt + excluded.prompt, cached = cached + excluded.cached,
    completion = completion + excluded.completion, reasoning = reasoning + excluded.reasoning,
    credits = credits + excluded.credits, byok = byok + excluded.byok";

// Columns that are not asked for are one and the same in all rows, and so group nothing.
const READ: &str = "SELECT r.hour / 24, p.model, p.provider,
    CASE WHEN ?6 THEN w.uuid END, CASE WHEN ?7 THEN k.hash END,
    sum(r.requests), sum(r.prompt), sum(r.cached), sum(r.completion), sum(r.reasoning), sum(r.credits), sum(r.byok)
FROM rollups r JOIN price_versions p ON p.id = r.price JOIN workspaces w ON w.id = r.workspace
    JOIN keys k ON k.id = r.key LEFT JOIN members m ON m.id = k.creator
WHERE r.hour BETWEEN ?1 AND ?2
    AND (?3 IS NULL OR k.hash = ?3)        -- one key
    AND (?4 IS NULL OR m.user_id = ?4)     -- one member's keys
    AND (?5 IS NULL OR w.uuid = ?5)        -- one workspace
GROUP BY 1, 2, 3, 4, 5
ORDER BY 1 DESC, 2, 3, 4, 5";

#[async_trait]
impl ActivityStore for SqliteStore {
    async fn activity(&self, query: ActivityQuery) -> Result<Vec<ActivityRow>, StoreError> {
        self.check_writable()?;
        let ticket = {
            let mut state = self.state.lock();
            self.fold_waited(&mut state)
        };
        self.wait(ticket).await?;
        self.read(move |db| read(db, &query)).await
    }
}

fn read(db: &Connection, query: &ActivityQuery) -> rusqlite::Result<Vec<ActivityRow>> {
    let first = query.first_day.saturating_mul(HOURS_A_DAY);
    let last = query.last_day.saturating_add(1).saturating_mul(HOURS_A_DAY).saturating_sub(1);
    let key = query.key.map(|hash| *hash.as_bytes());
    let workspace = query.workspace.map(|uuid| uuid.to_string());
    let mut statement = db.prepare_cached(READ)?;
    let asked = params![first, last, key, query.member, workspace, query.by_workspace, query.by_key];
    statement
        .query_map(asked, |row| {
            let count = |column| row.get::<_, i64>(column).map(|count| u64::try_from(count).unwrap_or(0));
            let workspace = match row.get::<_, Option<String>>(3)? {
                None => None,
                Some(_) => Some(rows::uuid(row, 3)?),
            };
            Ok(ActivityRow {
                day: row.get(0)?,
                model: row.get(1)?,
                provider: row.get(2)?,
                workspace,
                key: row.get::<_, Option<[u8; 32]>>(4)?.map(KeyHash::from_bytes),
                activity: Activity {
                    requests: count(5)?,
                    prompt: count(6)?,
                    cached: count(7)?,
                    completion: count(8)?,
                    reasoning: count(9)?,
                    credits: Usd::from_nanos(row.get(10)?),
                    byok: Usd::from_nanos(row.get(11)?),
                },
            })
        })?
        .collect()
}

/// Adds what was summed since the last fold to what was written before.
pub fn fold(db: &Connection, rollups: &[(RollupKey, Activity)]) -> rusqlite::Result<()> {
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let mut statement = db.prepare_cached(FOLD)?;
    for (key, sum) in rollups {
        statement.execute(params![
            key.hour,
            key.key,
            key.workspace,
            key.price,
            count(sum.requests),
            count(sum.prompt),
            count(sum.cached),
            count(sum.completion),
            count(sum.reasoning),
            sum.credits.nanos(),
            sum.byok.nanos(),
        ])?;
    }
    Ok(())
}

impl Rollups {
    /// Adds a generation that was charged.
    pub fn charge(
        &mut self,
        spender: &Spender,
        admitted_at: Timestamp,
        price: PriceVersion,
        tokens: &TokenUsage,
        charge: Amounts,
    ) {
        let sum = self.0.entry(rollup_key(spender, admitted_at, price)).or_default();
        sum.requests = sum.requests.saturating_add(1);
        sum.prompt = sum.prompt.saturating_add(tokens.prompt);
        sum.cached = sum.cached.saturating_add(tokens.cached);
        sum.completion = sum.completion.saturating_add(tokens.completion);
        sum.reasoning = sum.reasoning.saturating_add(tokens.reasoning);
        add(sum, charge);
    }

    /// Adds a correction of one that was charged before, in the hour of its admission.
    pub fn correct(&mut self, spender: &Spender, admitted_at: Timestamp, price: PriceVersion, amounts: Amounts) {
        add(self.0.entry(rollup_key(spender, admitted_at, price)).or_default(), amounts);
    }

    /// What was added since this was last asked.
    pub fn take(&mut self) -> Vec<(RollupKey, Activity)> {
        self.0.drain().collect()
    }
}

fn add(sum: &mut Activity, amounts: Amounts) {
    sum.credits = [sum.credits, amounts.credits].into_iter().sum();
    sum.byok = [sum.byok, amounts.byok].into_iter().sum();
}

fn rollup_key(spender: &Spender, admitted_at: Timestamp, price: PriceVersion) -> RollupKey {
    let hour = admitted_at.micros().div_euclid(HOUR_MICROS);
    RollupKey { hour, key: spender.key.0, workspace: spender.workspace.0, price: price.0 }
}
