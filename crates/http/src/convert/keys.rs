//! Keys.

use std::num::NonZeroU32;

use tollgate_app::keys::{Current, KeyRequest};
use tollgate_domain::key::{CallLimits, KeyChange, LimitRaise, ManagementKey};
use tollgate_domain::ledger::{BudgetScope, BudgetState};
use tollgate_domain::money::{Excess, MoneyError};
use tollgate_domain::time::LimitReset;
use tollgate_domain::{KeySecret, Timestamp, Usd};
use tollgate_store::KeyView;
use tollgate_wire as wire;
use tollgate_wire::{
    Amount, CreateKey, CreatedKey, CurrentKey, FreeModelDailyRequests, Key, KeyBudget, RateLimit, RawAmount, UpdateKey,
};
use uuid::Uuid;

use super::workspaces::amount;
use crate::error::ApiError;

/// There is no quota on free models here, and clients demand a number.
const NO_QUOTA: u32 = 0x7fff_ffff;

/// What a body of `POST /keys` asks for.
pub fn key_request(body: CreateKey) -> Result<KeyRequest, ApiError> {
    if body.creator_user_id.as_deref() == Some("") {
        return Err(ApiError::bad_request("`creator_user_id` must not be empty"));
    }
    Ok(KeyRequest {
        name: body.name,
        limit: body.limit.as_ref().map(limit).transpose()?,
        limit_reset: body.limit_reset.as_deref().map(limit_reset).transpose()?,
        include_byok_in_limit: body.include_byok_in_limit.unwrap_or(false),
        expires_at: body.expires_at.as_deref().map(expires_at).transpose()?,
        creator_user_id: body.creator_user_id,
        workspace: body.workspace_id.as_deref().map(workspace_id).transpose()?,
        external_user: body.external.map(|external| external.user),
        call_limits: CallLimits {
            requests_per_minute: body.requests_per_minute.map(requests_per_minute).transpose()?,
            calls_in_flight_max: body.calls_in_flight_max.map(calls_in_flight_max).transpose()?,
        },
        allowed_models: body.allowed_models,
    })
}

/// What a body of `PATCH /keys/{hash}` asks for, but for the workspace.
pub fn key_change(body: &UpdateKey) -> Result<KeyChange, ApiError> {
    Ok(KeyChange {
        name: body.name.clone(),
        disabled: body.disabled,
        limit: body.limit.as_ref().map(|given| given.as_ref().map(limit).transpose()).transpose()?,
        limit_reset: body
            .limit_reset
            .as_ref()
            .map(|given| given.as_deref().map(limit_reset).transpose())
            .transpose()?,
        include_byok_in_limit: body.include_byok_in_limit,
        workspace: None,
        requests_per_minute: body
            .requests_per_minute
            .map(|given| given.map(requests_per_minute).transpose())
            .transpose()?,
        calls_in_flight_max: body
            .calls_in_flight_max
            .map(|given| given.map(calls_in_flight_max).transpose())
            .transpose()?,
        allowed_models: body.allowed_models.clone().map(|given| given.map(Into::into)),
        limit_raise: body.limit_raise.as_ref().map(|given| given.as_ref().map(limit_raise).transpose()).transpose()?,
    })
}

/// A workspace's id.
pub fn workspace_id(text: &str) -> Result<Uuid, ApiError> {
    Uuid::parse_str(text).map_err(|_| ApiError::bad_request("`workspace_id` must be a UUID"))
}

/// The limit of a key.
pub fn limit(raw: &RawAmount) -> Result<Usd, ApiError> {
    raw.parse(Excess::RoundDown).map_err(|error| {
        let problem = match error {
            MoneyError::NotANumber => "must be a number or null".to_owned(),
            MoneyError::Negative | MoneyError::TooLarge | MoneyError::TooPrecise => error.to_string(),
        };
        ApiError::bad_request(format!("`limit` {problem}"))
    })
}

fn limit_raise(raise: &wire::LimitRaise) -> Result<LimitRaise, ApiError> {
    let until = Timestamp::parse_utc(&raise.until);
    Ok(LimitRaise {
        amount: amount("limit_raise.amount_usd", &raise.amount_usd, Excess::RoundDown)?,
        until: until.map_err(|error| ApiError::bad_request(format!("`limit_raise.until` {error}")))?,
    })
}

fn limit_reset(word: &str) -> Result<LimitReset, ApiError> {
    LimitReset::from_word(word)
        .ok_or_else(|| ApiError::bad_request("`limit_reset` must be daily, weekly, monthly or null"))
}

fn requests_per_minute(count: u32) -> Result<NonZeroU32, ApiError> {
    at_least_one("requests_per_minute", count)
}

fn calls_in_flight_max(count: u32) -> Result<NonZeroU32, ApiError> {
    at_least_one("calls_in_flight_max", count)
}

fn at_least_one(field: &str, count: u32) -> Result<NonZeroU32, ApiError> {
    NonZeroU32::new(count).ok_or_else(|| ApiError::bad_request(format!("`{field}` must be 1 or more, or null")))
}

/// When a key stops working.
pub fn expires_at(text: &str) -> Result<Timestamp, ApiError> {
    Timestamp::parse_utc(text).map_err(|error| ApiError::bad_request(format!("`expires_at` {error}")))
}

/// A key with its secret, shown this once.
pub fn created((view, secret): &(KeyView, KeySecret)) -> CreatedKey {
    CreatedKey { data: key(view.clone()), key: secret.reveal().to_owned() }
}

/// A key as it is shown to those who manage it.
pub fn key(view: KeyView) -> Key {
    let own = own_limit(&view);
    let [usage, usage_daily, usage_weekly, usage_monthly] = view.spend.credits.map(Amount);
    let [byok_usage, byok_usage_daily, byok_usage_weekly, byok_usage_monthly] = view.spend.byok.map(Amount);
    Key {
        limit_remaining: own.map(|state| Amount(state.remaining())),
        limit_held: own.map(|state| Amount(state.held)),
        hash: view.key.hash.to_string(),
        name: view.key.name,
        label: view.key.label,
        disabled: view.key.disabled,
        limit: view.key.limit.map(Amount),
        limit_reset: view.key.limit_reset.map(word),
        include_byok_in_limit: view.key.include_byok_in_limit,
        usage,
        usage_daily,
        usage_weekly,
        usage_monthly,
        byok_usage,
        byok_usage_daily,
        byok_usage_weekly,
        byok_usage_monthly,
        created_at: view.key.created_at.to_string(),
        updated_at: view.key.updated_at.map(text),
        expires_at: view.key.expires_at.map(text),
        last_used_at: view.last_used_at.map(text),
        creator_user_id: view.creator_user_id,
        external_user: view.key.external_user,
        workspace_id: view.workspace.to_string(),
        requests_per_minute: view.key.call_limits.requests_per_minute.map(NonZeroU32::get),
        calls_in_flight_max: view.key.call_limits.calls_in_flight_max.map(NonZeroU32::get),
        allowed_models: view.key.allowed_models.map(|models| models.to_vec()),
        limit_raise: view.key.limit_raise.map(|raise| wire::LimitRaise {
            amount_usd: RawAmount::from(raise.amount),
            until: raise.until.to_string(),
        }),
    }
}

/// A key as it is shown to itself.
pub fn current_key(current: Current) -> CurrentKey {
    match current {
        Current::Inference(view) => inference_key(*view),
        Current::Management { key, workspace } => management_key(key, workspace),
    }
}

fn inference_key(view: KeyView) -> CurrentKey {
    // Credits are no budget on the wire.
    let shown = |state: &&BudgetState| state.budget.scope != BudgetScope::Credits;
    let budgets: Vec<BudgetState> = view.budgets.iter().filter(shown).copied().collect();
    let own = own_limit(&view);
    let [usage, usage_daily, usage_weekly, usage_monthly] = view.spend.credits.map(Amount);
    let [byok_usage, byok_usage_daily, byok_usage_weekly, byok_usage_monthly] = view.spend.byok.map(Amount);
    CurrentKey {
        // What is in force now, so that it is what is left and what is spent.
        limit: own.map(|state| Amount(state.budget.limit)),
        limit_remaining: own.map(|state| Amount(state.remaining())),
        limit_held: own.map(|state| Amount(state.held)),
        limit_reset: view.key.limit_reset.map(word),
        include_byok_in_limit: view.key.include_byok_in_limit,
        usage,
        usage_daily,
        usage_weekly,
        usage_monthly,
        byok_usage,
        byok_usage_daily,
        byok_usage_weekly,
        byok_usage_monthly,
        expires_at: view.key.expires_at.map(text),
        workspace_id: Some(view.workspace.to_string()),
        effective_budget: effective(&budgets).map(budget),
        budgets: budgets.iter().map(budget).collect(),
        creator_user_id: view.creator_user_id,
        ..nobody(view.key.label)
    }
}

fn management_key(key: ManagementKey, workspace: Option<Uuid>) -> CurrentKey {
    let expires_at = key.powers.expires_at.map(text);
    let workspace_id = workspace.map(|uuid| uuid.to_string());
    let nobody = nobody(key.label);
    CurrentKey { is_management_key: true, is_provisioning_key: true, expires_at, workspace_id, ..nobody }
}

/// A key that never spent anything and may spend everything.
fn nobody(label: String) -> CurrentKey {
    let zero = Amount::default();
    CurrentKey {
        label,
        limit: None,
        limit_remaining: None,
        limit_held: None,
        limit_reset: None,
        include_byok_in_limit: false,
        usage: zero,
        usage_daily: zero,
        usage_weekly: zero,
        usage_monthly: zero,
        byok_usage: zero,
        byok_usage_daily: zero,
        byok_usage_weekly: zero,
        byok_usage_monthly: zero,
        is_free_tier: false,
        is_management_key: false,
        is_provisioning_key: false,
        creator_user_id: None,
        expires_at: None,
        workspace_id: None,
        organization_id: None,
        allowed_data_regions: vec!["global".to_owned()],
        free_model_daily_requests: FreeModelDailyRequests { used: 0, limit: NO_QUOTA, remaining: NO_QUOTA },
        budgets: Vec::new(),
        effective_budget: None,
        rate_limit: RateLimit::default(),
    }
}

fn own_limit(view: &KeyView) -> Option<BudgetState> {
    view.budgets.iter().find(|state| state.budget.scope == BudgetScope::Key).copied()
}

/// The budget that blocks first: the first one already spent, else the one with the least left (contract section 4).
fn effective(budgets: &[BudgetState]) -> Option<&BudgetState> {
    let spent = budgets.iter().find(|state| state.remaining() <= Usd::ZERO);
    spent.or_else(|| budgets.iter().min_by_key(|state| state.remaining()))
}

fn budget(state: &BudgetState) -> KeyBudget {
    let source = state.budget.source.map(|uuid| uuid.to_string());
    let (guardrail_id, budget_id) = match state.budget.scope {
        BudgetScope::Workspace => (None, source),
        BudgetScope::WorkspaceDefaultMember
        | BudgetScope::WorkspaceDefaultKey
        | BudgetScope::Member
        | BudgetScope::ApiKey
        | BudgetScope::Key
        | BudgetScope::Credits => (source, None),
    };
    KeyBudget {
        scope: state.budget.scope.as_str().to_owned(),
        limit_usd: Amount(state.budget.limit),
        spend_usd: Amount(state.spent),
        held_usd: Amount(state.held),
        remaining_usd: Amount(state.remaining()),
        reset_interval: state.budget.reset.map(word),
        resets_at: state.resets_at.map(text),
        include_byok: state.budget.include_byok,
        guardrail_id,
        budget_id,
    }
}

fn word(reset: LimitReset) -> String {
    reset.as_str().to_owned()
}

fn text(at: Timestamp) -> String {
    at.to_string()
}
