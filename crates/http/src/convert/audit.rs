//! The audit log, and corrections.

use serde_json::value::RawValue;
use tollgate_app::Adjustment;
use tollgate_domain::Usd;
use tollgate_domain::ledger::Amounts;
use tollgate_store::{Actor, AuditEntry};
use tollgate_wire::{Adjust, Adjusted, Amount, AuditActor, RawAmount};

use super::workspaces::signed;
use crate::error::ApiError;

/// An entry as it is shown.
pub fn entry(entry: AuditEntry) -> tollgate_wire::AuditEntry {
    let kind = entry.by.word();
    let (id, name) = match entry.by {
        Actor::Management { id, name, .. } => (Some(id.0), Some(name)),
        Actor::Operator | Actor::Config | Actor::App => (None, None),
    };
    let facts = |text: Option<String>| text.and_then(|text| RawValue::from_string(text).ok());
    tollgate_wire::AuditEntry {
        id: entry.id,
        created_at: entry.at.to_string(),
        actor: AuditActor { r#type: kind.to_owned(), id, name },
        action: entry.action,
        target: entry.target,
        workspace_id: entry.workspace.map(|uuid| uuid.to_string()),
        before: facts(entry.before),
        after: facts(entry.after),
    }
}

/// What a body of `POST /generation/adjust` asks for.
pub fn adjustment(body: Adjust) -> Result<Adjustment, ApiError> {
    let amount = |name: &str, amount: Option<&RawAmount>| amount.map_or(Ok(Usd::ZERO), |amount| signed(name, amount));
    let credits = amount("amount_usd", body.amount_usd.as_ref())?;
    let byok = amount("byok_amount_usd", body.byok_amount_usd.as_ref())?;
    Ok(Adjustment { generation: body.id, amounts: Amounts { credits, byok }, reason: body.reason })
}

/// What a generation is charged now.
pub fn adjusted(id: &str, charge: &Amounts) -> Adjusted {
    Adjusted { id: id.to_owned(), usage: Amount(charge.credits), byok_usage: Amount(charge.byok) }
}
