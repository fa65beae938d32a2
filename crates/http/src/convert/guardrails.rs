//! Guardrails and their assignments.

use std::collections::BTreeMap;

use tollgate_domain::filter::{
    Builtin, BuiltinFilter, ContentFilter, FILTERS_MAX, FilterAction, LABEL_CHARACTERS_MAX, Pattern, ScanScope,
};
use tollgate_domain::guardrail::GuardrailChange;
use tollgate_domain::time::LimitReset;
use tollgate_store::{Assignee, AssignmentView, GuardrailView};
use tollgate_wire::{self as wire, Amount, Guardrail, GuardrailRequest, KeyAssignment, MemberAssignment, Switches};
use uuid::Uuid;

use crate::convert::workspaces::limit;
use crate::error::ApiError;

/// Where data may go.
const REGIONS: [&str; 3] = ["global", "europe", "us"];

/// What a body asks for, but for the workspace.
pub fn guardrail_change(body: GuardrailRequest) -> Result<GuardrailChange, ApiError> {
    if body.allowed_data_regions.iter().flatten().flatten().any(|region| !REGIONS.contains(&region.as_str())) {
        return Err(ApiError::bad_request("`allowed_data_regions` must be of global, europe and us"));
    }
    let switches = switches(&body);
    let content_filters = body.content_filters.map(|given| filters(given, "content_filters", own_filter));
    let builtins = body.content_filter_builtins.map(|given| filters(given, "content_filter_builtins", builtin_filter));
    let reset = |word: String| {
        LimitReset::from_word(&word)
            .ok_or_else(|| ApiError::bad_request("`reset_interval` must be daily, weekly, monthly or null"))
    };
    Ok(GuardrailChange {
        name: body.name,
        description: body.description,
        limit: body.limit_usd.map(|given| given.map(|raw| limit("limit_usd", &raw)).transpose()).transpose()?,
        reset: body.reset_interval.map(|given| given.map(reset).transpose()).transpose()?,
        include_byok: body.include_byok_in_budgets,
        allowed_models: body.allowed_models,
        ignored_models: body.ignored_models,
        allowed_providers: body.allowed_providers,
        ignored_providers: body.ignored_providers,
        allowed_data_regions: body.allowed_data_regions,
        content_filters: content_filters.transpose()?,
        content_filter_builtins: builtins.transpose()?,
        switches,
    })
}

/// Reads a list of filters; the place of one that cannot be goes before what is wrong with it.
fn filters<W, T>(given: Option<Vec<W>>, list: &str, read: fn(W) -> Result<T, ApiError>) -> Result<Vec<T>, ApiError> {
    let given = given.unwrap_or_default();
    if given.len() > FILTERS_MAX {
        return Err(ApiError::bad_request(format!("`{list}` must have {FILTERS_MAX} filters at the most")));
    }
    let at = |(index, filter)| read(filter).map_err(|error| error.within(&format!("{list}[{index}]")));
    given.into_iter().enumerate().map(at).collect()
}

fn own_filter(filter: wire::ContentFilter) -> Result<ContentFilter, ApiError> {
    let action = action(&filter.action)?;
    if filter.label.as_ref().is_some_and(|label| label.is_empty() || label.chars().count() > LABEL_CHARACTERS_MAX) {
        return Err(ApiError::bad_request(format!("`label` must be 1 to {LABEL_CHARACTERS_MAX} characters long")));
    }
    let pattern = Pattern::parse(&filter.pattern).map_err(|refused| ApiError::invalid_regex_pattern(&refused))?;
    Ok(ContentFilter { pattern, action, label: filter.label })
}

fn builtin_filter(filter: wire::BuiltinFilter) -> Result<BuiltinFilter, ApiError> {
    let kind = Builtin::from_slug(&filter.slug).ok_or_else(|| {
        ApiError::bad_request(match filter.slug.as_str() {
            slug @ ("person-name" | "address") => format!(
                "`{slug}` cannot be told by patterns, and this server has no model for it; leave it out, or use \
                 `content_filters` for what you know"
            ),
            _ => format!("`slug` must be one of {}", Builtin::ALL.map(Builtin::slug).join(", ")),
        })
    })?;
    let scope = |word: String| {
        ScanScope::from_word(&word)
            .ok_or_else(|| ApiError::bad_request("`scan_scope` must be user_only or all_messages"))
    };
    let scan_scope = filter.scan_scope.map(scope).transpose()?;
    Ok(BuiltinFilter { kind, action: action(&filter.action)?, scan_scope })
}

fn action(word: &str) -> Result<FilterAction, ApiError> {
    FilterAction::from_word(word).ok_or_else(|| ApiError::bad_request("`action` must be redact, block or flag"))
}

fn shown_filter(filter: ContentFilter) -> wire::ContentFilter {
    let pattern = filter.pattern.as_str().to_owned();
    wire::ContentFilter { pattern, action: filter.action.as_str().to_owned(), label: filter.label }
}

fn shown_builtin(filter: BuiltinFilter) -> wire::BuiltinFilter {
    wire::BuiltinFilter {
        slug: filter.kind.slug().to_owned(),
        action: filter.action.as_str().to_owned(),
        label: Some(filter.kind.label().to_owned()),
        scan_scope: filter.scan_scope.map(|scope| scope.as_str().to_owned()),
    }
}

/// A list as it is shown: none is null.
fn shown<T, W>(filters: Vec<T>, show: fn(T) -> W) -> Option<Vec<W>> {
    (!filters.is_empty()).then(|| filters.into_iter().map(show).collect())
}

fn switches(body: &GuardrailRequest) -> BTreeMap<String, Option<bool>> {
    let given = [
        ("enforce_zdr", body.enforce_zdr),
        ("enforce_zdr_anthropic", body.enforce_zdr_anthropic),
        ("enforce_zdr_google", body.enforce_zdr_google),
        ("enforce_zdr_openai", body.enforce_zdr_openai),
        ("enforce_zdr_other", body.enforce_zdr_other),
        ("enforce_zdr_xai", body.enforce_zdr_xai),
        ("enable_free_model_publication", body.enable_free_model_publication),
        ("enable_free_model_training", body.enable_free_model_training),
        ("enable_paid_model_training", body.enable_paid_model_training),
        ("allow_safety_retention_google", body.allow_safety_retention_google),
        ("allow_safety_retention_other", body.allow_safety_retention_other),
    ];
    given.into_iter().filter_map(|(name, given)| Some((name.to_owned(), given?))).collect()
}

/// A guardrail.
pub fn guardrail(view: GuardrailView) -> Guardrail {
    let rules = view.guardrail.rules;
    let switch = |name: &str| rules.switches.get(name).copied();
    Guardrail {
        id: view.guardrail.uuid.to_string(),
        workspace_id: Some(view.workspace.to_string()),
        limit_usd: rules.budget.map(|budget| Amount(budget.limit)),
        reset_interval: rules.budget.map(|budget| budget.reset.as_str().to_owned()),
        include_byok_in_budgets: rules.include_byok,
        content_filters: shown(rules.content_filters, shown_filter),
        content_filter_builtins: shown(rules.content_filter_builtins, shown_builtin),
        switches: Switches {
            enforce_zdr: switch("enforce_zdr"),
            enforce_zdr_anthropic: switch("enforce_zdr_anthropic"),
            enforce_zdr_google: switch("enforce_zdr_google"),
            enforce_zdr_openai: switch("enforce_zdr_openai"),
            enforce_zdr_other: switch("enforce_zdr_other"),
            enforce_zdr_xai: switch("enforce_zdr_xai"),
            enable_free_model_publication: switch("enable_free_model_publication"),
            enable_free_model_training: switch("enable_free_model_training"),
            enable_paid_model_training: switch("enable_paid_model_training"),
            allow_safety_retention_google: switch("allow_safety_retention_google"),
            allow_safety_retention_other: switch("allow_safety_retention_other"),
        },
        created_at: view.guardrail.created_at.to_string(),
        updated_at: view.guardrail.updated_at.map(|at| at.to_string()),
        name: rules.name,
        description: rules.description,
        allowed_models: rules.allowed_models,
        ignored_models: rules.ignored_models,
        allowed_providers: rules.allowed_providers,
        ignored_providers: rules.ignored_providers,
        allowed_data_regions: rules.allowed_data_regions,
    }
}

/// An assignment to a key; `None` for one to a member.
pub fn key_assignment(view: AssignmentView) -> Option<KeyAssignment> {
    let Assignee::Key { hash, name, label } = view.assignment.to else { return None };
    Some(KeyAssignment {
        id: view.assignment.uuid.to_string(),
        guardrail_id: view.guardrail.to_string(),
        key_hash: hash.to_string(),
        key_name: name,
        key_label: label,
        assigned_by: None,
        created_at: view.assignment.created_at.to_string(),
    })
}

/// An assignment to a member of the organisation whose default workspace is `organization`; `None` for one to a key.
pub fn member_assignment(view: AssignmentView, organization: Uuid) -> Option<MemberAssignment> {
    let Assignee::Member { user_id } = view.assignment.to else { return None };
    let digits = organization.simple().to_string();
    Some(MemberAssignment {
        id: view.assignment.uuid.to_string(),
        guardrail_id: view.guardrail.to_string(),
        user_id,
        organization_id: format!("org_{}", digits.get(..27).unwrap_or(&digits)),
        assigned_by: None,
        created_at: view.assignment.created_at.to_string(),
    })
}
