//! What the audit log tells of each thing.

use std::num::NonZeroU32;

use tollgate_domain::filter::{BuiltinFilter, ContentFilter};
use tollgate_domain::key::ManagementKey;
use tollgate_domain::member::Member;
use tollgate_domain::oauth::Grant;
use tollgate_domain::time::LimitReset;
use tollgate_domain::workspace::Workspace;

use crate::{Audited, CredentialView, Fact, Facts, GuardrailView, KeyView};

fn word(reset: Option<LimitReset>) -> Option<&'static str> {
    reset.map(LimitReset::as_str)
}

fn count(limit: Option<NonZeroU32>) -> Option<i64> {
    limit.map(|limit| limit.get().into())
}

/// None is null, as people see it.
fn some(words: &Vec<String>) -> Option<&Vec<String>> {
    (!words.is_empty()).then_some(words)
}

impl Audited for KeyView {
    fn facts(&self) -> Facts {
        let key = &self.key;
        Facts::default()
            .with("name", &key.name)
            .with("label", &key.label)
            .with("workspace_id", &self.workspace.to_string())
            .with("disabled", key.disabled)
            .with("limit", key.limit)
            .with("limit_reset", word(key.limit_reset))
            .with("include_byok_in_limit", key.include_byok_in_limit)
            .with("expires_at", key.expires_at)
            .with("creator_user_id", self.creator_user_id.as_ref())
            .with("external_user", key.external_user.as_ref())
            .with("allowed_models", key.allowed_models.as_ref().map(|models| Fact::List(models.to_vec())))
            .with("limit_raise_usd", key.limit_raise.map(|raise| raise.amount))
            .with("limit_raise_until", key.limit_raise.map(|raise| raise.until))
            .with("requests_per_minute", count(key.call_limits.requests_per_minute))
            .with("calls_in_flight_max", count(key.call_limits.calls_in_flight_max))
    }
}

impl Audited for ManagementKey {
    fn facts(&self) -> Facts {
        Facts::default()
            .with("name", &self.name)
            .with("label", &self.label)
            .with("read_only", self.powers.read_only)
            .with("expires_at", self.powers.expires_at)
    }
}

impl Audited for Member {
    fn facts(&self) -> Facts {
        Facts::default()
            .with("email", &self.email)
            .with("first_name", self.first_name.as_ref())
            .with("last_name", self.last_name.as_ref())
            .with("role", self.role.as_str())
    }
}

impl Audited for Workspace {
    fn facts(&self) -> Facts {
        let kept = &self.preferences;
        Facts::default()
            .with("name", &self.name)
            .with("slug", &self.slug)
            .with("description", self.description.as_ref())
            .with("default_text_model", kept.default_text_model.as_ref())
            .with("default_image_model", kept.default_image_model.as_ref())
            .with("default_provider_sort", kept.default_provider_sort.as_ref())
            .with("disabled_server_tools", kept.disabled_server_tools.as_ref())
            .with("is_observability_io_logging_enabled", kept.io_logging)
            .with("is_observability_broadcast_enabled", kept.broadcast)
            .with("is_data_discount_logging_enabled", kept.discount_logging)
            .with("io_logging_sampling_rate", format!("{}/10000", kept.io_logging_sampling).as_str())
            .with(
                "io_logging_api_key_ids",
                kept.io_logging_keys.as_ref().map(|ids| Fact::List(ids.iter().map(i64::to_string).collect())),
            )
            .with("include_byok_in_budgets", self.budgets.include_byok)
    }
}

impl Audited for GuardrailView {
    fn facts(&self) -> Facts {
        let rules = &self.guardrail.rules;
        let own = |filter: &ContentFilter| {
            let label = filter.label.as_ref().map(|label| format!(" as {label}")).unwrap_or_default();
            format!("{} {}{label}", filter.action.as_str(), filter.pattern.as_str())
        };
        let builtin = |filter: &BuiltinFilter| {
            let scope = filter.scan_scope.map(|scope| format!(" in {}", scope.as_str())).unwrap_or_default();
            format!("{} {}{scope}", filter.action.as_str(), filter.kind.slug())
        };
        let content_filters: Vec<String> = rules.content_filters.iter().map(own).collect();
        let builtins: Vec<String> = rules.content_filter_builtins.iter().map(builtin).collect();
        let facts = Facts::default()
            .with("name", &rules.name)
            .with("description", rules.description.as_ref())
            .with("limit_usd", rules.budget.map(|budget| budget.limit))
            .with("reset_interval", word(rules.budget.map(|budget| budget.reset)))
            .with("include_byok_in_budgets", rules.include_byok)
            .with("allowed_models", rules.allowed_models.as_ref())
            .with("ignored_models", rules.ignored_models.as_ref())
            .with("allowed_providers", rules.allowed_providers.as_ref())
            .with("ignored_providers", rules.ignored_providers.as_ref())
            .with("allowed_data_regions", rules.allowed_data_regions.as_ref())
            .with("content_filters", some(&content_filters))
            .with("content_filter_builtins", some(&builtins));
        rules.switches.iter().fold(facts, |facts, (name, on)| facts.with(name.clone(), *on))
    }
}

impl Audited for CredentialView {
    fn facts(&self) -> Facts {
        let credential = &self.credential;
        let terms = &credential.terms;
        let keys = terms.allowed_keys.as_ref().map(|keys| keys.iter().map(ToString::to_string).collect::<Vec<_>>());
        Facts::default()
            .with("provider", &credential.provider)
            .with("name", terms.name.as_ref())
            .with("label", &credential.label)
            .with("disabled", terms.disabled)
            .with("is_fallback", terms.is_fallback)
            .with("is_required", terms.is_required)
            .with("is_byok_only", terms.is_byok_only)
            .with("allowed_api_key_hashes", keys.as_ref())
            .with("allowed_models", terms.allowed_models.as_ref())
            .with("allowed_user_ids", terms.allowed_users.as_ref())
            .with("declared_region", terms.declared.region.map(tollgate_domain::guardrail::Region::as_str))
            .with("declared_zdr", terms.declared.zero_data_retention)
            .with("sort_order", credential.sort_order)
    }
}

impl Audited for Grant {
    fn facts(&self) -> Facts {
        Facts::default()
            .with("name", &self.name)
            .with("limit", self.limit)
            .with("limit_reset", word(self.limit_reset))
            .with("expires_at", self.expires_at)
    }
}
