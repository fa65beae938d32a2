//! A batch in one transaction and two round trips: lock and load, then write and commit.

use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row as PgRow};
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::{Amounts, Balance, Open, Scope};
use tollgate_domain::model::PriceVersion;
use tollgate_domain::usage::{Metered, TokenUsage};
use tollgate_domain::{Timestamp, Usd};
use tollgate_engine::{Corrected, attempts_text, scope};
use tollgate_store::{Outcome, Settlement};

use super::values::{self, Together, broken, text};
use super::{CONFIG_LOCK, Held, VERSIONS_BEHIND_MAX, read};
use crate::seam::{Broken, Committed, Ended, Identity, Loaded, Parts, Share, Wanted, Writes};

const OWNER: &str = "SELECT boot FROM nodes WHERE number = $1 FOR UPDATE";

const CREATE: &str = "INSERT INTO balances (scope, id, node)
SELECT scope, id, node FROM unnest($1::text[], $2::bigint[], $3::integer[]) AS w (scope, id, node)
ORDER BY scope, id, node
ON CONFLICT (scope, id, node) DO NOTHING";

const LOCK: &str = "SELECT b.scope, b.id, b.number, b.spent, b.held, b.used_at
FROM unnest($1::text[], $2::bigint[], $3::integer[]) AS w (scope, id, node)
    JOIN balances b ON b.scope = w.scope AND b.id = w.id AND b.node = w.node
ORDER BY b.scope, b.id, b.node
FOR UPDATE OF b";

// Nobody writes these while a budget limits the scope.
const REST: &str = "SELECT b.scope, b.id, b.number, b.spent, b.held
FROM unnest($1::text[], $2::bigint[]) AS w (scope, id) JOIN balances b ON b.scope = w.scope AND b.id = w.id
WHERE b.node <> 0";

const HOLDS: &str = "SELECT row, key, workspace, member, admitted_at, credits, byok, price FROM holds
WHERE row = ANY ($1) ORDER BY row FOR UPDATE";

const ENDED: &str = "SELECT s.row, s.key, s.workspace, s.member, s.admitted_at, s.hold_credits, s.hold_byok, s.price,
    s.outcome, s.credits + coalesce((SELECT CAST(sum(c.credits) AS BIGINT) FROM corrections c WHERE c.row = s.row), 0),
    s.byok + coalesce((SELECT CAST(sum(c.byok) AS BIGINT) FROM corrections c WHERE c.row = s.row), 0), s.late
FROM settlements s WHERE s.row = ANY ($1)";

/// One row of a balance, made where it is missing.
pub const TAKE: &str = "INSERT INTO balances (scope, id, node) VALUES ($1, $2, $3)
ON CONFLICT (scope, id, node) DO UPDATE SET used_at = balances.used_at
RETURNING number, spent, held";

/// Writes it.
pub const PUT_ONE: &str = "UPDATE balances SET number = $4, spent = $5, held = $6
WHERE scope = $1 AND id = $2 AND node = $3";

const SEEN: &str = "UPDATE nodes SET seen = $2, beats = beats + 1 WHERE number = $1";

const PUT: &str = "UPDATE balances b SET number = ($5::bigint[])[w.o * 8 - 7 : w.o * 8],
    spent = ($6::bigint[])[w.o * 8 - 7 : w.o * 8], held = ($7::bigint[])[w.o * 8 - 7 : w.o * 8], used_at = w.used_at
FROM unnest($1::text[], $2::bigint[], $3::integer[], $4::bigint[]) WITH ORDINALITY AS w (scope, id, node, used_at, o)
WHERE b.scope = w.scope AND b.id = w.id AND b.node = w.node";

const HOLD: &str = "INSERT INTO holds (row, key, workspace, member, admitted_at, credits, byok, price)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::bigint[])
ON CONFLICT (row) DO UPDATE SET credits = excluded.credits, byok = excluded.byok, price = excluded.price";

const UNHOLD: &str = "DELETE FROM holds WHERE row = ANY ($1)";

const SETTLE: &str =
    "INSERT INTO settlements (row, outcome, key, workspace, member, admitted_at, hold_credits, hold_byok,
    credits, byok, price, cost_total, cost_prompt, metered, prompt, cached, cache_write, prompt_audio, completion,
    reasoning, completion_audio, completion_image, streamed, cancelled, finish_reason, native_finish, upstream_id,
    latency_ms, generation_ms, user_agent, http_referer, session_id, attempts, credential)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::boolean[],
    $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[],
    $22::bigint[], $23::boolean[], $24::boolean[], $25::text[], $26::text[], $27::text[], $28::bigint[], $29::bigint[],
    $30::text[], $31::text[], $32::text[], $33::text[], $34::bigint[])";

const LATE: &str = "UPDATE settlements SET late = true WHERE row = $1";

const CORRECT: &str =
    "INSERT INTO corrections (row, key, workspace, member, admitted_at, credits, byok, reason, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

const ROLLUP: &str = "INSERT INTO rollups AS r
    (hour, key, workspace, price, node, requests, prompt, cached, completion, reasoning, credits, byok)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::integer[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[])
ON CONFLICT (hour, key, workspace, price, node) DO UPDATE SET requests = r.requests + excluded.requests,
    prompt = least(r.prompt::numeric + excluded.prompt, 9223372036854775807)::bigint,
    cached = least(r.cached::numeric + excluded.cached, 9223372036854775807)::bigint,
    completion = least(r.completion::numeric + excluded.completion, 9223372036854775807)::bigint,
    reasoning = least(r.reasoning::numeric + excluded.reasoning, 9223372036854775807)::bigint,
    credits = r.credits + excluded.credits, byok = r.byok + excluded.byok";

/// A transaction that has begun.
pub struct Batch {
    session: Held,
    node: Identity,
    /// Rows of balances that it made.
    fresh: Vec<(Scope, i32)>,
}

/// The node whose row a share is in.
pub const fn place(share: Share, node: Identity) -> i32 {
    match share {
        Share::Common => 0,
        Share::Own => node.number.0,
    }
}

/// Locks and loads.
pub async fn begin(session: Held, wanted: &Wanted, missing: Vec<(Scope, i32)>) -> Result<(Batch, Loaded), Broken> {
    let mut together = Together::default();
    together.add("BEGIN", vec![]);
    together.add("SELECT FROM (SELECT pg_advisory_xact_lock_shared($1)) AS locked", vec![Box::new(CONFIG_LOCK)]);
    together.add(OWNER, vec![Box::new(wanted.node.number.0)]);
    if !missing.is_empty() {
        let (words, ids) = read::columns(missing.iter().map(|(scope, _)| *scope));
        let nodes: Vec<i32> = missing.iter().map(|(_, node)| *node).collect();
        together.add(CREATE, vec![Box::new(words), Box::new(ids), Box::new(nodes)]);
    }
    let (words, ids) = read::columns(wanted.scopes.iter().map(|(scope, _)| *scope));
    let nodes: Vec<i32> = wanted.scopes.iter().map(|(_, share)| place(*share, wanted.node)).collect();
    together.add(LOCK, vec![Box::new(words), Box::new(ids), Box::new(nodes)]);
    let common = wanted.scopes.iter().filter(|(_, share)| *share == Share::Common).map(|(scope, _)| *scope);
    let (words, ids) = read::columns(common);
    together.add(REST, vec![Box::new(words), Box::new(ids)]);
    let rows: Vec<i64> = wanted.rows.iter().map(|row| row.0).collect();
    together.add(HOLDS, vec![Box::new(rows.clone())]);
    together.add(ENDED, vec![Box::new(rows)]);
    together.add(read::NOW, vec![]);
    let batch = Batch { session, node: wanted.node, fresh: missing };
    let answers = together.send(batch.session.get()?).await;
    let mut answers = answers.into_iter().collect::<Result<Vec<_>, _>>().map_err(|error| broken(&error))?.into_iter();
    let mut next = || answers.next().unwrap_or_default();
    let (_begin, _lock, owner) = (next(), next(), next());
    let boot: Option<i64> = owner.first().and_then(|row| row.try_get(0).ok().flatten());
    if boot != Some(wanted.node.boot.0) {
        return Ok((batch, Loaded::default()));
    }
    if !batch.fresh.is_empty() {
        next();
    }
    let read = |locked: &[PgRow], rest: &[PgRow], holds: &[PgRow], ended: &[PgRow]| {
        Ok::<_, Error>(Loaded {
            owner: true,
            balances: parts(wanted, locked, rest)?,
            holds: holds.iter().map(read::hold).collect::<Result<_, _>>()?,
            ended: ended.iter().map(self::ended).collect::<Result<_, _>>()?,
            ..Loaded::default()
        })
    };
    let (locked, rest, holds, ended) = (next(), next(), next(), next());
    if locked.len() != wanted.scopes.len() {
        return Err(Broken("rows of balances are missing".to_owned()));
    }
    let mut loaded = read(&locked, &rest, &holds, &ended).map_err(|error| broken(&error))?;
    let (version, now) = read::now(&next())?;
    (loaded.time, loaded.version) = (now, version);
    let behind = version.saturating_sub(wanted.known);
    if wanted.known > 0 && behind > 0 && behind <= VERSIONS_BEHIND_MAX {
        loaded.news = Some(read::news_within(batch.session.get()?, wanted.known, version).await?);
    }
    Ok((batch, loaded))
}

fn parts(wanted: &Wanted, locked: &[PgRow], rest: &[PgRow]) -> Result<Vec<Parts>, Error> {
    let mut parts = vec![Parts::default(); wanted.scopes.len()];
    let place = |row: &PgRow| {
        let whose = scope(row.try_get(0)?, row.try_get(1)?);
        Ok::<_, Error>(wanted.scopes.iter().position(|(scope, _)| Some(*scope) == whose))
    };
    for row in locked {
        if let Some(part) = place(row)?.and_then(|place| parts.get_mut(place)) {
            part.locked = read::balance(row, 2)?;
            part.used_at = row.try_get::<_, Option<i64>>(5)?.map(Timestamp::from_micros);
        }
    }
    for row in rest {
        if let Some(part) = place(row)?.and_then(|place| parts.get_mut(place)) {
            part.rest = part.rest.plus(&read::balance(row, 2)?);
        }
    }
    Ok(parts)
}

fn ended(row: &PgRow) -> Result<(GenerationRow, Ended), Error> {
    let outcome: &str = row.try_get(8)?;
    let ended = Ended {
        open: read::open(row)?,
        price: PriceVersion(row.try_get(7)?),
        outcome: Outcome::from_word(outcome).unwrap_or(Outcome::Settled),
        charge: Amounts { credits: Usd::from_nanos(row.try_get(9)?), byok: Usd::from_nanos(row.try_get(10)?) },
        late: row.try_get(11)?,
    };
    Ok((GenerationRow(row.try_get(0)?), ended))
}

/// Balances as flat arrays of eight numbers each.
pub fn arrays<'a>(balances: impl Iterator<Item = &'a Balance>) -> [Vec<i64>; 3] {
    let [mut numbers, mut spent, mut held] = [const { Vec::new() }; 3];
    for balance in balances {
        for (kind, window) in read::places() {
            let counter = balance.counter(kind, window);
            numbers.push(counter.window.0);
            spent.push(counter.spent.nanos());
            held.push(counter.held.nanos());
        }
    }
    [numbers, spent, held]
}

/// A column of a statement that writes many rows.
fn column<'a, T, R>(rows: &'a [R], read: impl Fn(&'a R) -> T) -> Box<dyn ToSql + Sync + Send>
where
    Vec<T>: ToSql + Sync + Send + 'static,
{
    Box::new(rows.iter().map(read).collect::<Vec<T>>())
}

impl Batch {
    /// Gives the locks back, and the session to the others.
    pub async fn leave(self) {
        if let Ok(session) = self.session.get()
            && session.batch_execute("ROLLBACK").await.is_ok()
        {
            self.session.rest();
        }
    }

    /// Writes and commits. Also the rows of balances that it made.
    pub async fn commit(self, writes: &Writes) -> (Committed, Vec<(Scope, i32)>) {
        let together = self.statements(writes);
        let Ok(session) = self.session.get() else {
            return (Committed::Failed("the batch has ended".to_owned()), Vec::new());
        };
        let mut answers = together.send(session).await;
        let commit = answers.pop();
        let failed = answers.into_iter().find_map(Result::err);
        let committed = match (failed, commit) {
            // What follows an error in a transaction is not done, and its commit is a rollback.
            (Some(error), _) if error.as_db_error().is_some() => values::refused(&error),
            (None, Some(Ok(_))) => {
                self.session.rest();
                return (Committed::Done, self.fresh);
            }
            (None, None) => Committed::Failed("nothing was sent".to_owned()),
            // Without an answer, nobody knows.
            (Some(error), _) | (None, Some(Err(error))) => Committed::Unknown(broken(&error).0),
        };
        (committed, Vec::new())
    }

    fn statements(&self, writes: &Writes) -> Together {
        let mut together = Together::default();
        together.add(SEEN, vec![Box::new(self.node.number.0), Box::new(writes.now.micros())]);
        if !writes.balances.is_empty() {
            let (words, ids) = read::columns(writes.balances.iter().map(|(scope, ..)| *scope));
            let nodes = column(&writes.balances, |(_, share, ..)| place(*share, self.node));
            let used = column(&writes.balances, |(.., used_at)| used_at.map(Timestamp::micros));
            let [numbers, spent, held] = arrays(writes.balances.iter().map(|(_, _, balance, _)| balance));
            let sums: [Box<dyn ToSql + Sync + Send>; 3] = [Box::new(numbers), Box::new(spent), Box::new(held)];
            let mut parameters: Vec<Box<dyn ToSql + Sync + Send>> = vec![Box::new(words), Box::new(ids), nodes, used];
            parameters.extend(sums);
            together.add(PUT, parameters);
        }
        if !writes.holds.is_empty() {
            let rows = writes.holds.as_slice();
            together.add(
                HOLD,
                vec![
                    column(rows, |(row, _)| row.0),
                    column(rows, |(_, hold)| hold.open.spender.key.0),
                    column(rows, |(_, hold)| hold.open.spender.workspace.0),
                    column(rows, |(_, hold)| hold.open.spender.member.map(|member| member.0)),
                    column(rows, |(_, hold)| hold.open.admitted_at.micros()),
                    column(rows, |(_, hold)| hold.open.hold.credits.nanos()),
                    column(rows, |(_, hold)| hold.open.hold.byok.nanos()),
                    column(rows, |(_, hold)| hold.price.0),
                ],
            );
        }
        if !writes.settlements.is_empty() {
            together.add(UNHOLD, vec![column(&writes.settlements, |(settlement, _)| settlement.row.0)]);
            together.add(SETTLE, settlement_columns(&writes.settlements));
        }
        for (settlement, corrected) in &writes.late {
            together.add(LATE, vec![Box::new(settlement.row.0)]);
            add_correction(&mut together, corrected, writes.now);
        }
        if !writes.rollups.is_empty() {
            together.add(ROLLUP, rollup_columns(&writes.rollups, self.node));
        }
        together.add("COMMIT", vec![]);
        together
    }
}

fn rollup_columns(
    rows: &[(tollgate_engine::RollupKey, tollgate_store::Activity)],
    node: Identity,
) -> Vec<Box<dyn ToSql + Sync + Send>> {
    vec![
        column(rows, |(place, _)| place.hour),
        column(rows, |(place, _)| place.key),
        column(rows, |(place, _)| place.workspace),
        column(rows, |(place, _)| place.price),
        column(rows, |_| node.number.0),
        column(rows, |(_, sum)| count(sum.requests)),
        column(rows, |(_, sum)| count(sum.prompt)),
        column(rows, |(_, sum)| count(sum.cached)),
        column(rows, |(_, sum)| count(sum.completion)),
        column(rows, |(_, sum)| count(sum.reasoning)),
        column(rows, |(_, sum)| sum.credits.nanos()),
        column(rows, |(_, sum)| sum.byok.nanos()),
    ]
}

/// The row of a correction.
pub fn add_correction(together: &mut Together, corrected: &Corrected, at: Timestamp) {
    let Corrected { row, correction, reason, .. } = corrected;
    let spender = correction.spender;
    together.add(
        CORRECT,
        vec![
            Box::new(row.0),
            Box::new(spender.key.0),
            Box::new(spender.workspace.0),
            Box::new(spender.member.map(|member| member.0)),
            Box::new(correction.admitted_at.micros()),
            Box::new(correction.amounts.credits.nanos()),
            Box::new(correction.amounts.byok.nanos()),
            Box::new(text(Some(reason))),
            Box::new(at.micros()),
        ],
    );
}

/// What a correction adds to the sums by hour.
pub fn add_correction_rollup(together: &mut Together, corrected: &Corrected, node: Identity) {
    let mut rollups = tollgate_engine::Rollups::default();
    let correction = &corrected.correction;
    rollups.correct(&correction.spender, correction.admitted_at, corrected.price, correction.amounts);
    together.add(ROLLUP, rollup_columns(&rollups.take(), node));
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn settlement_columns(rows: &[(Settlement, Open)]) -> Vec<Box<dyn ToSql + Sync + Send>> {
    let token = |read: fn(&TokenUsage) -> u64| {
        column(rows, move |(settlement, _)| settlement.metered.as_ref().map(|metered| count(read(metered.tokens()))))
    };
    vec![
        column(rows, |(settlement, _)| settlement.row.0),
        column(rows, |(settlement, _)| settlement.outcome.as_str()),
        column(rows, |(_, open)| open.spender.key.0),
        column(rows, |(_, open)| open.spender.workspace.0),
        column(rows, |(_, open)| open.spender.member.map(|member| member.0)),
        column(rows, |(_, open)| open.admitted_at.micros()),
        column(rows, |(_, open)| open.hold.credits.nanos()),
        column(rows, |(_, open)| open.hold.byok.nanos()),
        column(rows, |(settlement, _)| settlement.charge.credits.nanos()),
        column(rows, |(settlement, _)| settlement.charge.byok.nanos()),
        column(rows, |(settlement, _)| settlement.price.0),
        column(rows, |(settlement, _)| settlement.cost.total.nanos()),
        column(rows, |(settlement, _)| settlement.cost.prompt.nanos()),
        column(rows, |(settlement, _)| settlement.metered.as_ref().map(|it| matches!(it, Metered::Known(_)))),
        token(|tokens| tokens.prompt),
        token(|tokens| tokens.cached),
        token(|tokens| tokens.cache_write),
        token(|tokens| tokens.prompt_audio),
        token(|tokens| tokens.completion),
        token(|tokens| tokens.reasoning),
        token(|tokens| tokens.completion_audio),
        token(|tokens| tokens.completion_image),
        column(rows, |(settlement, _)| settlement.facts.streamed),
        column(rows, |(settlement, _)| settlement.facts.cancelled),
        column(rows, |(settlement, _)| text(settlement.facts.finish_reason.as_deref())),
        column(rows, |(settlement, _)| text(settlement.facts.native_finish_reason.as_deref())),
        column(rows, |(settlement, _)| text(settlement.facts.upstream_id.as_deref())),
        column(rows, |(settlement, _)| settlement.facts.latency_ms.map(count)),
        column(rows, |(settlement, _)| settlement.facts.generation_ms.map(count)),
        column(rows, |(settlement, _)| text(settlement.facts.user_agent.as_deref())),
        column(rows, |(settlement, _)| text(settlement.facts.http_referer.as_deref())),
        column(rows, |(settlement, _)| text(settlement.facts.session_id.as_deref())),
        column(rows, |(settlement, _)| text(attempts_text(&settlement.facts.attempts).as_deref())),
        column(rows, |(settlement, _)| settlement.facts.credential.map(|credential| credential.0)),
    ]
}
