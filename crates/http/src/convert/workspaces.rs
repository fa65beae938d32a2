//! Workspaces, their budgets and members; credits.

use tollgate_app::members::MemberRequest;
use tollgate_domain::Usd;
use tollgate_domain::member::{Member, Role};
use tollgate_domain::money::{Excess, MoneyError};
use tollgate_domain::time::{LimitReset, WindowKind};
use tollgate_domain::workspace::{self as domain, Workspace, WorkspaceChange};
use tollgate_store::{Credits, Page, WorkspaceMember, WorkspaceRef};
use tollgate_wire as wire;
use tollgate_wire::{Amount, CreateMember, ListPage, OrganizationMember, RawAmount, WorkspaceRequest};
use uuid::Uuid;

use crate::error::ApiError;

/// Ten-thousandths of a sampling rate of 1.
const SAMPLING_ALL: f64 = 10_000.0;

/// The workspace that a path names: by its id or by its slug.
pub fn workspace_ref(text: &str) -> WorkspaceRef {
    Uuid::parse_str(text).map_or_else(|_| WorkspaceRef::Slug(text.to_owned()), WorkspaceRef::Id)
}

/// What a body asks for.
pub fn workspace_change(body: WorkspaceRequest) -> Result<WorkspaceChange, ApiError> {
    Ok(WorkspaceChange {
        name: body.name,
        slug: body.slug,
        description: body.description,
        default_text_model: body.default_text_model,
        default_image_model: body.default_image_model,
        default_provider_sort: body.default_provider_sort,
        disabled_server_tools: body.disabled_server_tools,
        io_logging: body.is_observability_io_logging_enabled,
        broadcast: body.is_observability_broadcast_enabled,
        discount_logging: body.is_data_discount_logging_enabled,
        io_logging_sampling: body.io_logging_sampling_rate.map(sampling).transpose()?,
        io_logging_keys: body.io_logging_api_key_ids,
    })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
fn sampling(rate: f64) -> Result<u16, ApiError> {
    let part = (rate * SAMPLING_ALL).round();
    if (1.0..=SAMPLING_ALL).contains(&part) {
        Ok(part as u16)
    } else {
        Err(ApiError::bad_request("`io_logging_sampling_rate` must be 0.0001 to 1"))
    }
}

/// A workspace.
pub fn workspace(workspace: Workspace) -> wire::Workspace {
    let preferences = &workspace.preferences;
    wire::Workspace {
        id: workspace.uuid.to_string(),
        default_guardrail_id: workspace.default_guardrail().to_string(),
        default_text_model: preferences.default_text_model.clone(),
        default_image_model: preferences.default_image_model.clone(),
        default_provider_sort: preferences.default_provider_sort.clone(),
        disabled_server_tools: preferences.disabled_server_tools.clone(),
        is_observability_io_logging_enabled: preferences.io_logging,
        is_observability_broadcast_enabled: preferences.broadcast,
        is_data_discount_logging_enabled: preferences.discount_logging,
        io_logging_sampling_rate: f64::from(preferences.io_logging_sampling) / SAMPLING_ALL,
        io_logging_api_key_ids: preferences.io_logging_keys.clone(),
        include_byok_in_budgets: workspace.budgets.include_byok,
        created_at: workspace.created_at.to_string(),
        updated_at: workspace.updated_at.map(|at| at.to_string()),
        created_by: workspace.created_by,
        name: workspace.name,
        slug: workspace.slug,
        description: workspace.description,
    }
}

/// A part of a list.
pub fn page<T, U>(page: Page<T>, into: impl FnMut(T) -> U) -> ListPage<U> {
    let Page { items, total } = page.map(into);
    ListPage { data: items, total_count: total }
}

/// The interval that a path names.
pub fn interval(word: &str) -> Result<WindowKind, ApiError> {
    match word {
        "lifetime" => Ok(WindowKind::Lifetime),
        _ => LimitReset::from_word(word).map(|reset| WindowKind::of(Some(reset))).ok_or_else(|| {
            ApiError::bad_request("The interval of a budget must be daily, weekly, monthly or lifetime")
        }),
    }
}

/// All budgets of a workspace, the broadest first.
pub fn budgets(workspace: &Workspace) -> wire::WorkspaceBudgets<Vec<wire::WorkspaceBudget>> {
    let data = workspace.budgets.iter().map(|(window, one)| self::one_budget(workspace, window, one)).collect();
    wire::WorkspaceBudgets { data, include_byok_in_budgets: workspace.budgets.include_byok }
}

/// The budget of one kind of window, if there is one.
pub fn budget(workspace: &Workspace, window: WindowKind) -> Option<wire::WorkspaceBudgets<wire::WorkspaceBudget>> {
    let data = one_budget(workspace, window, workspace.budgets.get(window)?);
    Some(wire::WorkspaceBudgets { data, include_byok_in_budgets: workspace.budgets.include_byok })
}

fn one_budget(workspace: &Workspace, window: WindowKind, budget: &domain::WorkspaceBudget) -> wire::WorkspaceBudget {
    wire::WorkspaceBudget {
        id: budget.uuid.to_string(),
        workspace_id: workspace.uuid.to_string(),
        limit_usd: Amount(budget.limit),
        reset_interval: window.reset().map(|reset| reset.as_str().to_owned()),
        created_at: budget.created_at.to_string(),
        updated_at: budget.updated_at.to_string(),
    }
}

/// A limit in USD; digits beyond the ninth decimal are dropped.
pub fn limit(name: &str, raw: &RawAmount) -> Result<Usd, ApiError> {
    amount(name, raw, Excess::RoundDown)
}

/// Money that changes hands, in USD: nine decimals at the most.
pub fn exact(name: &str, raw: &RawAmount) -> Result<Usd, ApiError> {
    amount(name, raw, Excess::Refuse)
}

/// Money that changes hands in either direction.
pub fn signed(name: &str, raw: &RawAmount) -> Result<Usd, ApiError> {
    in_words(name, raw.parse_signed(Excess::Refuse))
}

/// Money in USD, zero or more.
pub fn amount(name: &str, raw: &RawAmount, excess: Excess) -> Result<Usd, ApiError> {
    in_words(name, raw.parse(excess))
}

fn in_words(name: &str, amount: Result<Usd, MoneyError>) -> Result<Usd, ApiError> {
    amount.map_err(|error| {
        let problem = match error {
            MoneyError::NotANumber => "must be a number".to_owned(),
            MoneyError::Negative | MoneyError::TooLarge | MoneyError::TooPrecise => error.to_string(),
        };
        ApiError::bad_request(format!("`{name}` {problem}"))
    })
}

/// A member's place in a workspace.
pub fn workspace_member(workspace: &Workspace, member: WorkspaceMember) -> wire::WorkspaceMember {
    wire::WorkspaceMember {
        id: member.membership.uuid.to_string(),
        workspace_id: workspace.uuid.to_string(),
        user_id: member.user_id,
        role: member.membership.role.as_str().to_owned(),
        created_at: member.membership.created_at.to_string(),
    }
}

/// A member of the organisation.
pub fn member(member: Member) -> OrganizationMember {
    OrganizationMember {
        id: member.user_id,
        email: member.email,
        first_name: member.first_name,
        last_name: member.last_name,
        role: format!("org:{}", member.role.as_str()),
    }
}

/// Who is to be added.
pub fn member_request(body: CreateMember) -> Result<MemberRequest, ApiError> {
    let role = match body.role.as_deref() {
        None => Role::default(),
        Some(word) => {
            Role::from_word(word).ok_or_else(|| ApiError::bad_request("`role` must be org:admin or org:member"))?
        }
    };
    Ok(MemberRequest { email: body.email, first_name: body.first_name, last_name: body.last_name, role })
}

/// The account's credits.
pub fn credits(credits: Credits) -> wire::Credits {
    wire::Credits {
        total_credits: Amount(credits.total.unwrap_or_default()),
        total_usage: Amount(credits.used),
        unlimited: credits.total.is_none(),
        held: Amount(credits.held),
    }
}
