//! What goes into the commit queue, and how each record is written.

use rusqlite::{CachedStatement, Connection, params};
use tollgate_domain::Timestamp;
use tollgate_domain::Usd;
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::key::KeyId;
use tollgate_domain::ledger::{Correction, MoneyKind, Open, Scope};
use tollgate_domain::model::PriceVersion;
use tollgate_domain::time::{WindowId, WindowKind};
use tollgate_domain::usage::{Metered, TokenUsage};
use tollgate_engine::{RollupKey, SET_META, Statement, attempts_text, kind_word, scope_columns, window_word};
use tollgate_store::{Activity, Settlement};

use crate::database::run;

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
    /// What management changed: statements that belong together.
    Run(Vec<Statement>),
    Fold(Box<Fold>),
    /// Nothing: whoever waits for it waits for what is ahead of it.
    Barrier,
}

#[derive(Debug)]
pub struct Correct {
    pub id: i64,
    pub epoch: i64,
    pub row: GenerationRow,
    pub correction: Correction,
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

pub const FOLD_ROLLUP: &str = "INSERT INTO rollups
    (hour, key, workspace, price, requests, prompt, cached, completion, reasoning, credits, byok)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
ON CONFLICT (hour, key, workspace, price) DO UPDATE SET requests = requests + excluded.requests,
    prompt = prompt + excluded.prompt, cached = cached + excluded.cached,
    completion = completion + excluded.completion, reasoning = reasoning + excluded.reasoning,
    credits = credits + excluded.credits, byok = byok + excluded.byok";

const FOLD_BALANCE: &str = "INSERT INTO balances (scope, id, kind, span, number, spent) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (scope, id, kind, span) DO UPDATE SET number = excluded.number, spent = excluded.spent";

pub const FOLD_KEY_USE: &str = "INSERT INTO key_use (key, last_used_at) VALUES (?1, ?2)
ON CONFLICT (key) DO UPDATE SET last_used_at = max(last_used_at, excluded.last_used_at)";

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
                correct.correction.spender.key.0,
                correct.correction.spender.workspace.0,
                correct.correction.admitted_at.micros(),
                correct.correction.amounts.credits.nanos(),
                correct.correction.amounts.byok.nanos(),
                correct.reason,
                correct.at.micros(),
            ]),
            Self::Run(statements) => {
                for statement in statements {
                    run(db, statement)?;
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
            let (word, id) = scope_columns(*scope);
            balance.execute(params![word, id, kind_word(*kind), window_word(*window), number.0, spent.nanos()])?;
        }
        let mut rollup = db.prepare_cached(FOLD_ROLLUP)?;
        for (place, sum) in &self.rollups {
            rollup.execute(params![
                place.hour,
                place.key,
                place.workspace,
                place.price,
                count(sum.requests),
                count(sum.prompt),
                count(sum.cached),
                count(sum.completion),
                count(sum.reasoning),
                sum.credits.nanos(),
                sum.byok.nanos(),
            ])?;
        }
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

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
