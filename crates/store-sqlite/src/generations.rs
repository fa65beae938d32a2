//! Reading generations back.

use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::Value;
use tollgate_domain::credential::CredentialId;
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::key::KeyId;
use tollgate_domain::ledger::{Amounts, Spender};
use tollgate_domain::member::MemberId;
use tollgate_domain::model::PriceVersion;
use tollgate_domain::pricing::Cost;
use tollgate_domain::usage::{Metered, TokenUsage};
use tollgate_domain::workspace::WorkspaceId;
use tollgate_domain::{Timestamp, Usd};
use tollgate_store::{Attempt, Outcome, Settlement, SettlementFacts};

/// A generation without its public ids.
pub struct Found {
    pub spender: Spender,
    pub admitted_at: Timestamp,
    pub model: String,
    pub provider: String,
    pub hold: Amounts,
    pub settlement: Settlement,
}

const FIND: &str = "SELECT s.outcome, s.key, s.workspace, s.admitted_at, s.price, s.cost_total, s.cost_prompt, s.metered,
    s.prompt, s.cached, s.cache_write, s.prompt_audio, s.completion, s.reasoning, s.completion_audio, s.completion_image,
    s.streamed, s.cancelled, s.finish_reason, s.native_finish, s.upstream_id, s.latency_ms, s.generation_ms,
    s.user_agent, s.http_referer, s.session_id, s.attempts, coalesce(p.model, ''), coalesce(p.provider, ''),
    r.credits, r.byok, k.creator, s.credential
FROM settlements s JOIN reservations r ON r.row = s.row LEFT JOIN price_versions p ON p.id = s.price
    LEFT JOIN keys k ON k.id = s.key
WHERE s.row = ?1";

const CHARGE: &str = "SELECT s.credits + coalesce(sum(c.credits), 0), s.byok + coalesce(sum(c.byok), 0)
FROM settlements s LEFT JOIN corrections c ON c.row = s.row
WHERE s.row = ?1
GROUP BY s.row";

/// What a settled generation is charged, corrections included.
pub fn charge(db: &Connection, row: GenerationRow) -> rusqlite::Result<Option<Amounts>> {
    db.prepare_cached(CHARGE)?
        .query_row([row.0], |found| {
            Ok(Amounts { credits: Usd::from_nanos(found.get(0)?), byok: Usd::from_nanos(found.get(1)?) })
        })
        .optional()
}

/// A settled generation.
pub fn find(db: &Connection, row: GenerationRow) -> rusqlite::Result<Option<Found>> {
    let Some(charge) = charge(db, row)? else { return Ok(None) };
    db.prepare_cached(FIND)?.query_row([row.0], |found| read(row, charge, found)).optional()
}

fn read(row: GenerationRow, charge: Amounts, found: &Row<'_>) -> rusqlite::Result<Found> {
    let count = |column| found.get::<_, Option<i64>>(column).map(|n| n.map(i64::unsigned_abs));
    let tokens = TokenUsage {
        prompt: count(8)?.unwrap_or(0),
        cached: count(9)?.unwrap_or(0),
        cache_write: count(10)?.unwrap_or(0),
        prompt_audio: count(11)?.unwrap_or(0),
        completion: count(12)?.unwrap_or(0),
        reasoning: count(13)?.unwrap_or(0),
        completion_audio: count(14)?.unwrap_or(0),
        completion_image: count(15)?.unwrap_or(0),
    };
    let (total, prompt) = (Usd::from_nanos(found.get(5)?), Usd::from_nanos(found.get(6)?));
    let outcome: String = found.get(0)?;
    let settlement = Settlement {
        row,
        outcome: Outcome::from_word(&outcome).unwrap_or(Outcome::Lost),
        charge,
        cost: Cost { total, prompt, completion: Usd::left_of(total, prompt) },
        metered: found
            .get::<_, Option<bool>>(7)?
            .map(|known| if known { Metered::Known(tokens) } else { Metered::Estimated(tokens) }),
        price: PriceVersion(found.get(4)?),
        facts: SettlementFacts {
            streamed: found.get(16)?,
            cancelled: found.get(17)?,
            finish_reason: found.get(18)?,
            native_finish_reason: found.get(19)?,
            upstream_id: found.get(20)?,
            latency_ms: count(21)?,
            generation_ms: count(22)?,
            user_agent: found.get(23)?,
            http_referer: found.get(24)?,
            session_id: found.get(25)?,
            credential: found.get::<_, Option<i64>>(32)?.map(CredentialId),
            attempts: found.get::<_, Option<String>>(26)?.as_deref().map(attempts).unwrap_or_default(),
        },
    };
    Ok(Found {
        spender: Spender {
            key: KeyId(found.get(1)?),
            workspace: WorkspaceId(found.get(2)?),
            member: found.get::<_, Option<i64>>(31)?.map(MemberId),
        },
        admitted_at: Timestamp::from_micros(found.get(3)?),
        model: found.get(27)?,
        provider: found.get(28)?,
        hold: Amounts { credits: Usd::from_nanos(found.get(29)?), byok: Usd::from_nanos(found.get(30)?) },
        settlement,
    })
}

fn attempts(text: &str) -> Vec<Attempt> {
    let rows: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    let attempt = |row: Value| {
        Some(Attempt {
            provider: row[0].as_str()?.to_owned(),
            status: row[1].as_u64().and_then(|status| u16::try_from(status).ok()),
            latency_ms: row[2].as_u64()?,
            credential: row[3].as_i64().map(CredentialId),
        })
    };
    rows.into_iter().filter_map(attempt).collect()
}
