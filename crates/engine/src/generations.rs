//! Reading generations back.

use serde_json::Value;
use tollgate_domain::credential::CredentialId;
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::key::KeyId;
use tollgate_domain::ledger::{Amounts, Balance, Correction, Scope, Spender};
use tollgate_domain::member::MemberId;
use tollgate_domain::model::PriceVersion;
use tollgate_domain::money::MoneyError;
use tollgate_domain::pricing::Cost;
use tollgate_domain::usage::{Metered, TokenUsage};
use tollgate_domain::workspace::WorkspaceId;
use tollgate_domain::{Timestamp, Usd};
use tollgate_store::{Act, AdjustRefused, Attempt, Change, Facts, Outcome, Settlement, SettlementFacts};

use crate::audit::finish;
use crate::ground::{Corrected, Statement};
use crate::state::State;
use crate::value::{Row, Unreadable};

/// A generation that has ended, without its public ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Who was charged.
    pub spender: Spender,
    /// When it was admitted.
    pub admitted_at: Timestamp,
    /// The public id of the model.
    pub model: String,
    /// The provider's slug.
    pub provider: String,
    /// What was held for it at the end.
    pub hold: Amounts,
    /// How it ended, with corrections added to its charge.
    pub settlement: Settlement,
}

/// What [`Found::read`] reads of a settlement `s`, its price version `p` and its key `k`. Behind it stand: what was held, in
/// credits and at list price, and what was charged, corrections included.
pub const FOUND_COLUMNS: &str = "s.outcome, s.key, s.workspace, s.admitted_at, s.price, s.cost_total, s.cost_prompt,
    s.metered, s.prompt, s.cached, s.cache_write, s.prompt_audio, s.completion, s.reasoning, s.completion_audio,
    s.completion_image, s.streamed, s.cancelled, s.finish_reason, s.native_finish, s.upstream_id, s.latency_ms,
    s.generation_ms, s.user_agent, s.http_referer, s.session_id, s.attempts, coalesce(p.model, ''),
    coalesce(p.provider, ''), k.creator, s.credential";

impl Found {
    /// Reads a row of [`crate::Ground::find_generation`].
    pub fn read(row: GenerationRow, found: &Row) -> Result<Self, Unreadable> {
        read(row, found)
    }
}

/// The end of a generation whose process died: it is charged at its hold.
pub fn lost(row: GenerationRow, hold: Amounts, price: PriceVersion) -> Settlement {
    // The list price: under an own provider credential, the credits are the fee.
    let total = if hold.byok == Usd::ZERO { hold.credits } else { hold.byok };
    Settlement {
        row,
        outcome: Outcome::Lost,
        charge: hold,
        cost: Cost { total, prompt: total, completion: Usd::ZERO },
        metered: None,
        price,
        facts: SettlementFacts::default(),
    }
}

/// The end of a generation that cost nothing.
pub fn released(row: GenerationRow, price: PriceVersion) -> Settlement {
    Settlement {
        row,
        outcome: Outcome::Released,
        charge: Amounts::default(),
        cost: Cost::default(),
        metered: None,
        price,
        facts: SettlementFacts::default(),
    }
}

/// Corrects what a generation is charged, and says what is booked and written.
#[expect(clippy::too_many_arguments, reason = "what an adjustment is made of")]
pub fn adjusted(
    state: &State,
    now: Timestamp,
    row: GenerationRow,
    id: &str,
    found: &Found,
    amounts: Amounts,
    reason: &str,
    act: Act<Amounts>,
) -> Result<(Amounts, Corrected, Vec<Statement>), AdjustRefused> {
    let charge = match found.settlement.charge.corrected(amounts) {
        Ok(charge) => charge,
        Err(MoneyError::Negative) => return Err(AdjustRefused::BelowZero),
        Err(_) => return Err(AdjustRefused::TooLarge),
    };
    let spender = found.spender;
    let spent = state.book.balance(Scope::Account).map(Balance::spent_for_life).unwrap_or_default();
    if spent.corrected(amounts) == Err(MoneyError::TooLarge) {
        return Err(AdjustRefused::TooLarge);
    }
    let facts = |charge: Amounts| Facts::default().with("usage", charge.credits).with("byok_usage", charge.byok);
    let change = Change::new("generation.adjust", id)
        .turned(&facts(found.settlement.charge), &facts(charge).with("reason", reason));
    let change = Change { workspace: state.workspace_uuid(spender.workspace), ..change };
    let corrected = Corrected {
        row,
        correction: Correction { spender, admitted_at: found.admitted_at, amounts },
        price: found.settlement.price,
        reason: reason.to_owned(),
    };
    Ok((charge, corrected, finish(act, &charge, now, [&change])))
}

fn read(row: GenerationRow, found: &Row) -> Result<Found, Unreadable> {
    let amounts = |column: usize| {
        Ok::<_, Unreadable>(Amounts {
            credits: Usd::from_nanos(found.get(column)?),
            byok: Usd::from_nanos(found.get(column + 1)?),
        })
    };
    let (hold, charge) = (amounts(31)?, amounts(33)?);
    let count = |column| found.get::<Option<i64>>(column).map(|n| n.map(i64::unsigned_abs));
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
            .get::<Option<bool>>(7)?
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
            credential: found.get::<Option<i64>>(30)?.map(CredentialId),
            attempts: found.get::<Option<String>>(26)?.as_deref().map(attempts).unwrap_or_default(),
        },
    };
    Ok(Found {
        spender: Spender {
            key: KeyId(found.get(1)?),
            workspace: WorkspaceId(found.get(2)?),
            member: found.get::<Option<i64>>(29)?.map(MemberId),
        },
        admitted_at: Timestamp::from_micros(found.get(3)?),
        model: found.get(27)?,
        provider: found.get(28)?,
        hold,
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

/// Attempts as JSON text: `[[provider, status, latency_ms], …]`, each with its credential where one has any.
pub fn attempts_text(attempts: &[Attempt]) -> Option<String> {
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
