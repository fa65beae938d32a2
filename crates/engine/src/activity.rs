//! Rollups: what settles is added up in memory, folded with the balances, and read back by day.

use async_trait::async_trait;
use foldhash::HashMap;
use tollgate_domain::ledger::{Amounts, Spender};
use tollgate_domain::model::PriceVersion;
use tollgate_domain::usage::TokenUsage;
use tollgate_domain::{KeyHash, Timestamp, Usd};
use tollgate_store::{Activity, ActivityQuery, ActivityRow, ActivityStore, StoreError};

use crate::ground::{Engine, Ground};
use crate::rows;
use crate::value::{Row, Unreadable, Value};

const HOUR_MICROS: i64 = 3_600_000_000;
const HOURS_A_DAY: i64 = 24;

/// What a rollup sums up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RollupKey {
    /// Of admission, counted from 1970 UTC.
    pub hour: i64,
    /// The key.
    pub key: i64,
    /// The workspace that it was in.
    pub workspace: i64,
    /// The price version, which names model and provider.
    pub price: i64,
}

/// What was added up since the last fold.
#[derive(Debug, Default)]
pub struct Rollups(HashMap<RollupKey, Activity>);

// Columns that are not asked for are one and the same in all rows, and so group nothing.
const READ: &str = "SELECT r.hour / 24, p.model, p.provider,
    CASE WHEN ?6 THEN w.uuid END, CASE WHEN ?7 THEN k.hash END,
    CAST(sum(r.requests) AS BIGINT), CAST(sum(r.prompt) AS BIGINT), CAST(sum(r.cached) AS BIGINT),
    CAST(sum(r.completion) AS BIGINT), CAST(sum(r.reasoning) AS BIGINT), CAST(sum(r.credits) AS BIGINT),
    CAST(sum(r.byok) AS BIGINT)
FROM rollups r JOIN price_versions p ON p.id = r.price JOIN workspaces w ON w.id = r.workspace
    JOIN keys k ON k.id = r.key LEFT JOIN members m ON m.id = k.creator
WHERE r.hour BETWEEN ?1 AND ?2
    AND (?3 IS NULL OR k.hash = ?3)        -- one key
    AND (?4 IS NULL OR m.user_id = ?4)     -- one member's keys
    AND (?5 IS NULL OR w.uuid = ?5)        -- one workspace
GROUP BY 1, 2, 3, 4, 5
ORDER BY 1 DESC, 2, 3, 4, 5";

#[async_trait]
impl<G: Ground> ActivityStore for Engine<G> {
    async fn activity(&self, query: ActivityQuery) -> Result<Vec<ActivityRow>, StoreError> {
        self.summed_up().await?;
        let first = query.first_day.saturating_mul(HOURS_A_DAY);
        let last = query.last_day.saturating_add(1).saturating_mul(HOURS_A_DAY).saturating_sub(1);
        let values = vec![
            Value::from(first),
            Value::from(last),
            Value::from(query.key.as_ref().map(KeyHash::as_bytes)),
            Value::from(query.member),
            Value::from(query.workspace.map(|uuid| uuid.to_string())),
            Value::from(query.by_workspace),
            Value::from(query.by_key),
        ];
        let rows = self.query(READ, values).await?;
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }
}

fn read(row: &Row) -> Result<ActivityRow, Unreadable> {
    let count = |column| row.get::<i64>(column).map(|count| u64::try_from(count).unwrap_or(0));
    let workspace = match row.get::<Option<String>>(3)? {
        None => None,
        Some(_) => Some(rows::uuid(row, 3)?),
    };
    Ok(ActivityRow {
        day: row.get(0)?,
        model: row.get(1)?,
        provider: row.get(2)?,
        workspace,
        key: row.get::<Option<[u8; 32]>>(4)?.map(KeyHash::from_bytes),
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

    /// Whether nothing was added since it was taken.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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
