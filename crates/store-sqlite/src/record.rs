//! What goes into the commit queue, and how each record is written.

use std::num::NonZeroU32;

use rusqlite::types::Value;
use rusqlite::{CachedStatement, Connection, params, params_from_iter};
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::key::{Key, KeyId, ManagementKey, ManagementKeyId};
use tollgate_domain::ledger::MoneyKind;
use tollgate_domain::ledger::{Amounts, Open, Scope, Spender};
use tollgate_domain::model::PriceVersion;
use tollgate_domain::time::{LimitReset, WindowId, WindowKind};
use tollgate_domain::usage::{Metered, TokenUsage};
use tollgate_domain::{Timestamp, Usd};
use tollgate_store::{Activity, Attempt, Settlement};

use crate::activity::RollupKey;
use crate::rows;

/// One thing that was decided and is to be written, in the order of decisions.
#[derive(Debug)]
pub enum Record {
    Reserve {
        row: GenerationRow,
        open: Open,
        price: PriceVersion,
    },
    Settle {
        epoch: i64,
        open: Open,
        settlement: Box<Settlement>,
    },
    Correct(Box<Correct>),
    CreateKey(Box<Key>),
    UpdateKey(Box<Key>),
    DeleteKey {
        id: KeyId,
        at: Timestamp,
    },
    CreateManagementKey(Box<ManagementKey>),
    RevokeManagementKey {
        id: ManagementKeyId,
        at: Timestamp,
    },
    PublishPrice {
        version: PriceVersion,
        model: String,
        provider: String,
        content: String,
        at: Timestamp,
    },
    /// What management changed: statements that belong together.
    Run(Vec<Statement>),
    Fold(Box<Fold>),
    /// Nothing: whoever waits for it waits for what is ahead of it.
    Barrier,
}

/// A statement with its values. The SQL stands beside the method that changes what it writes.
#[derive(Clone, Debug)]
pub struct Statement {
    sql: &'static str,
    values: Vec<Value>,
}

/// A statement with its values.
pub const fn statement(sql: &'static str, values: Vec<Value>) -> Statement {
    Statement { sql, values }
}

#[derive(Debug)]
pub struct Correct {
    pub id: i64,
    pub epoch: i64,
    pub row: GenerationRow,
    pub spender: Spender,
    pub admitted_at: Timestamp,
    pub by: Amounts,
    pub reason: String,
    pub at: Timestamp,
}

/// Balances as they were when the fold entered the queue: everything before it is in them, nothing behind it is.
#[derive(Debug)]
pub struct Fold {
    /// The epoch that records behind this fold carry.
    pub epoch: i64,
    /// No generation below this row is open, and none below it settles behind this fold.
    pub low_row: GenerationRow,
    /// No correction below this id is behind this fold.
    pub low_correction: i64,
    /// The latest time that the ledger has seen.
    pub seen: Timestamp,
    pub balances: Vec<(Scope, MoneyKind, WindowKind, WindowId, Usd)>,
    pub rollups: Vec<(RollupKey, Activity)>,
    pub key_use: Vec<(KeyId, Timestamp)>,
}

const RESERVE: &str = "INSERT OR REPLACE INTO reservations (row, key, workspace, admitted_at, credits, byok, price)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

const SETTLE: &str = "INSERT INTO settlements (row, epoch, outcome, key, workspace, admitted_at, credits, byok, price,
    cost_total, cost_prompt, metered, prompt, cached, cache_write, prompt_audio, completion, reasoning,
    completion_audio, completion_image, streamed, cancelled, finish_reason, native_finish, upstream_id, latency_ms,
    generation_ms, user_agent, http_referer, session_id, attempts, credential)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24,
    ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32)";

const CORRECT: &str =
    "INSERT INTO corrections (id, epoch, row, key, workspace, admitted_at, credits, byok, reason, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

const CREATE_KEY: &str = "INSERT INTO keys (id, hash, name, label, workspace, disabled, credit_limit, limit_reset,
    include_byok_in_limit, expires_at, creator, external_user, created_at, updated_at,
    requests_per_minute, calls_in_flight_max, allowed_models)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)";

const UPDATE_KEY: &str =
    "UPDATE keys SET name = ?2, workspace = ?3, disabled = ?4, credit_limit = ?5, limit_reset = ?6,
    include_byok_in_limit = ?7, updated_at = ?8, label = ?9, secret = ?10, previous_secret = ?11, previous_until = ?12,
    requests_per_minute = ?13, calls_in_flight_max = ?14, allowed_models = ?15, raise_amount = ?16, raise_until = ?17
WHERE id = ?1";

const DELETE_KEY: &str = "UPDATE keys SET deleted_at = ?2 WHERE id = ?1 AND deleted_at IS NULL";

const CREATE_MANAGEMENT_KEY: &str =
    "INSERT INTO management_keys (id, hash, name, label, created_at, read_only, expires_at, workspace)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

pub const REVOKE_MANAGEMENT_KEY: &str = "UPDATE management_keys SET revoked_at = ?2 WHERE id = ?1";

const PUBLISH_PRICE: &str =
    "INSERT INTO price_versions (id, model, provider, content, created_at) VALUES (?1, ?2, ?3, ?4, ?5)";

const FOLD_BALANCE: &str = "INSERT INTO balances (scope, id, kind, span, number, spent) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (scope, id, kind, span) DO UPDATE SET number = excluded.number, spent = excluded.spent";

pub const FOLD_KEY_USE: &str = "INSERT INTO key_use (key, last_used_at) VALUES (?1, ?2)
ON CONFLICT (key) DO UPDATE SET last_used_at = max(last_used_at, excluded.last_used_at)";

pub const SET_META: &str = "INSERT INTO meta (name, value) VALUES (?1, ?2)
ON CONFLICT (name) DO UPDATE SET value = excluded.value";

/// The statements of the data path, prepared once for a whole group.
pub struct Writer<'db> {
    db: &'db Connection,
    reserve: CachedStatement<'db>,
    settle: CachedStatement<'db>,
}

impl<'db> Writer<'db> {
    /// A writer into the open transaction of `db`.
    pub fn new(db: &'db Connection) -> rusqlite::Result<Self> {
        Ok(Self { db, reserve: db.prepare_cached(RESERVE)?, settle: db.prepare_cached(SETTLE)? })
    }
}

impl Record {
    /// Writes the record.
    pub fn write(&self, writer: &mut Writer<'_>) -> rusqlite::Result<()> {
        let db = writer.db;
        match self {
            Self::Reserve { row, open, price } => writer.reserve.execute(params![
                row.0,
                open.spender.key.0,
                open.spender.workspace.0,
                open.admitted_at.micros(),
                open.hold.credits.nanos(),
                open.hold.byok.nanos(),
                price.0,
            ]),
            Self::Settle { epoch, open, settlement } => write_settlement(&mut writer.settle, *epoch, open, settlement),
            Self::Correct(correct) => db.prepare_cached(CORRECT)?.execute(params![
                correct.id,
                correct.epoch,
                correct.row.0,
                correct.spender.key.0,
                correct.spender.workspace.0,
                correct.admitted_at.micros(),
                correct.by.credits.nanos(),
                correct.by.byok.nanos(),
                correct.reason,
                correct.at.micros(),
            ]),
            Self::CreateKey(key) => db.prepare_cached(CREATE_KEY)?.execute(params![
                key.id.0,
                key.hash.as_bytes(),
                key.name,
                key.label,
                key.workspace.0,
                key.disabled,
                key.limit.map(Usd::nanos),
                key.limit_reset.map(LimitReset::as_str),
                key.include_byok_in_limit,
                key.expires_at.map(Timestamp::micros),
                key.creator.map(|member| member.0),
                key.external_user,
                key.created_at.micros(),
                key.updated_at.map(Timestamp::micros),
                key.call_limits.requests_per_minute.map(NonZeroU32::get),
                key.call_limits.calls_in_flight_max.map(NonZeroU32::get),
                rows::models_text(key.allowed_models.as_deref()),
            ]),
            Self::UpdateKey(key) => db.prepare_cached(UPDATE_KEY)?.execute(params![
                key.id.0,
                key.name,
                key.workspace.0,
                key.disabled,
                key.limit.map(Usd::nanos),
                key.limit_reset.map(LimitReset::as_str),
                key.include_byok_in_limit,
                key.updated_at.map(Timestamp::micros),
                key.label,
                key.secrets.current.as_bytes(),
                key.secrets.previous.as_ref().map(|(hash, _)| hash.as_bytes()),
                key.secrets.previous.map(|(_, until)| until.micros()),
                key.call_limits.requests_per_minute.map(NonZeroU32::get),
                key.call_limits.calls_in_flight_max.map(NonZeroU32::get),
                rows::models_text(key.allowed_models.as_deref()),
                key.limit_raise.map(|raise| raise.amount.nanos()),
                key.limit_raise.map(|raise| raise.until.micros()),
            ]),
            Self::DeleteKey { id, at } => db.prepare_cached(DELETE_KEY)?.execute(params![id.0, at.micros()]),
            Self::CreateManagementKey(key) => db.prepare_cached(CREATE_MANAGEMENT_KEY)?.execute(params![
                key.id.0,
                key.hash.as_bytes(),
                key.name,
                key.label,
                key.created_at.micros(),
                key.powers.read_only,
                key.powers.expires_at.map(Timestamp::micros),
                key.powers.workspace.map(|workspace| workspace.0),
            ]),
            Self::RevokeManagementKey { id, at } => {
                db.prepare_cached(REVOKE_MANAGEMENT_KEY)?.execute(params![id.0, at.micros()])
            }
            Self::PublishPrice { version, model, provider, content, at } => {
                db.prepare_cached(PUBLISH_PRICE)?.execute(params![version.0, model, provider, content, at.micros()])
            }
            Self::Run(statements) => {
                for Statement { sql, values } in statements {
                    db.prepare_cached(sql)?.execute(params_from_iter(values))?;
                }
                Ok(statements.len())
            }
            Self::Fold(fold) => fold.write(db).map(|()| 1),
            Self::Barrier => Ok(0),
        }
        .map(|_| ())
    }
}

impl Fold {
    fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        let mut balance = db.prepare_cached(FOLD_BALANCE)?;
        for (scope, kind, window, number, spent) in &self.balances {
            let (word, id) = rows::scope_columns(*scope);
            balance.execute(params![
                word,
                id,
                rows::kind_word(*kind),
                rows::window_word(*window),
                number.0,
                spent.nanos()
            ])?;
        }
        crate::activity::fold(db, &self.rollups)?;
        let mut used = db.prepare_cached(FOLD_KEY_USE)?;
        for (key, at) in &self.key_use {
            used.execute(params![key.0, at.micros()])?;
        }
        let mut meta = db.prepare_cached(SET_META)?;
        meta.execute(params!["epoch", self.epoch])?;
        meta.execute(params!["low_row", self.low_row.0])?;
        meta.execute(params!["low_correction", self.low_correction])?;
        meta.execute(params!["seen", self.seen.micros()])?;
        Ok(())
    }
}

fn write_settlement(
    statement: &mut CachedStatement<'_>,
    epoch: i64,
    open: &Open,
    settlement: &Settlement,
) -> rusqlite::Result<usize> {
    let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let tokens = settlement.metered.as_ref().map(Metered::tokens);
    let token = |read: fn(&TokenUsage) -> u64| tokens.map(|tokens| count(read(tokens)));
    let facts = &settlement.facts;
    statement.execute(params![
        settlement.row.0,
        epoch,
        settlement.outcome.as_str(),
        open.spender.key.0,
        open.spender.workspace.0,
        open.admitted_at.micros(),
        settlement.charge.credits.nanos(),
        settlement.charge.byok.nanos(),
        settlement.price.0,
        settlement.cost.total.nanos(),
        settlement.cost.prompt.nanos(),
        settlement.metered.as_ref().map(|metered| matches!(metered, Metered::Known(_))),
        token(|t| t.prompt),
        token(|t| t.cached),
        token(|t| t.cache_write),
        token(|t| t.prompt_audio),
        token(|t| t.completion),
        token(|t| t.reasoning),
        token(|t| t.completion_audio),
        token(|t| t.completion_image),
        facts.streamed,
        facts.cancelled,
        facts.finish_reason,
        facts.native_finish_reason,
        facts.upstream_id,
        facts.latency_ms.map(count),
        facts.generation_ms.map(count),
        facts.user_agent,
        facts.http_referer,
        facts.session_id,
        attempts_text(&facts.attempts),
        facts.credential.map(|credential| credential.0),
    ])
}

/// Attempts as JSON text: `[[provider, status, latency_ms], …]`, each with its credential where one has any.
fn attempts_text(attempts: &[Attempt]) -> Option<String> {
    if attempts.is_empty() {
        return None;
    }
    if attempts.iter().all(|a| a.credential.is_none()) {
        let rows: Vec<_> = attempts.iter().map(|a| (&a.provider, a.status, a.latency_ms)).collect();
        return serde_json::to_string(&rows).ok();
    }
    let own = |a: &Attempt| a.credential.map(|credential| credential.0);
    let rows: Vec<_> = attempts.iter().map(|a| (&a.provider, a.status, a.latency_ms, own(a))).collect();
    serde_json::to_string(&rows).ok()
}
