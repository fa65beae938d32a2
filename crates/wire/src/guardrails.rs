//! `/guardrails` and their assignments (contract section 10).

use serde::{Deserialize, Serialize};

use crate::keys::nullable;
use crate::money::{Amount, RawAmount};
use crate::object;

/// A guardrail.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Guardrail {
    /// UUID.
    pub id: String,
    /// The name people see.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The UUID of its workspace.
    pub workspace_id: Option<String>,
    /// USD in a window, for each key and each member it is assigned to.
    pub limit_usd: Option<Amount>,
    /// `daily`, `weekly` or `monthly`, with a limit.
    pub reset_interval: Option<String>,
    /// Whether BYOK usage eats into the budget.
    pub include_byok_in_budgets: bool,
    /// The only models that may be called.
    pub allowed_models: Option<Vec<String>>,
    /// Models that may not be called.
    pub ignored_models: Option<Vec<String>>,
    /// The only providers that may answer.
    pub allowed_providers: Option<Vec<String>>,
    /// Providers that may not answer.
    pub ignored_providers: Option<Vec<String>>,
    /// `global`, `europe`, `us`: the only regions where data may be processed, as providers declare them.
    pub allowed_data_regions: Option<Vec<String>>,
    /// What calls may not say, by patterns; null is nothing.
    pub content_filters: Option<Vec<ContentFilter>>,
    /// The same, by filters that come with the server.
    pub content_filter_builtins: Option<Vec<BuiltinFilter>>,
    /// Switches: see [`Switches`].
    #[serde(flatten)]
    pub switches: Switches,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// RFC 3339, UTC; null until the first change.
    pub updated_at: Option<String>,
}

/// A filter with a pattern of its own, which reads the text of calls.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContentFilter {
    /// A regular expression in the syntax of Rust's `regex`: without look-around, back-references and nested quantifiers.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 1000))]
    pub pattern: String,
    /// `redact`, `block` or `flag`.
    #[cfg_attr(feature = "openapi", schema(pattern = "^(redact|block|flag)$"))]
    pub action: String,
    /// What takes the place of a match, in brackets, and is named in refusals. Without one that is `[REDACTED]` and
    /// `[BLOCKED]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 100))]
    pub label: Option<String>,
}

/// A filter that comes with the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BuiltinFilter {
    /// `email`, `phone`, `ssn`, `credit-card`, `ip-address` or `regex-prompt-injection`.
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = "^(email|phone|ssn|credit-card|ip-address|regex-prompt-injection)$")
    )]
    pub slug: String,
    /// `redact`, `block` or `flag`.
    #[cfg_attr(feature = "openapi", schema(pattern = "^(redact|block|flag)$"))]
    pub action: String,
    /// What takes the place of a match, such as `[EMAIL]`: follows from the slug, and is ignored in requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 100, nullable = false))]
    pub label: Option<String>,
    /// `user_only` or `all_messages` (default): whose messages `regex-prompt-injection` reads. Others read all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(pattern = "^(user_only|all_messages)$", nullable = false))]
    pub scan_scope: Option<String>,
}

/// Switches. Those of ZDR leave the providers that declare to keep nothing; the others are stored and returned.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Switches {
    /// Of all models. Deprecated.
    pub enforce_zdr: Option<bool>,
    /// Of Anthropic's models.
    pub enforce_zdr_anthropic: Option<bool>,
    /// Of Google's models.
    pub enforce_zdr_google: Option<bool>,
    /// Of OpenAI's models.
    pub enforce_zdr_openai: Option<bool>,
    /// Of all others.
    pub enforce_zdr_other: Option<bool>,
    /// Of xAI's models.
    pub enforce_zdr_xai: Option<bool>,
    /// Whether free models may publish prompts.
    pub enable_free_model_publication: Option<bool>,
    /// Whether free models may train on prompts.
    pub enable_free_model_training: Option<bool>,
    /// Whether paid models may train on prompts.
    pub enable_paid_model_training: Option<bool>,
    /// Whether Google may keep prompts for safety.
    pub allow_safety_retention_google: Option<bool>,
    /// Whether others may.
    pub allow_safety_retention_other: Option<bool>,
}

/// The body of `POST /guardrails` and `PATCH /guardrails/{id}`: an absent field stays as it is, null clears.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GuardrailRequest {
    /// 1 to 200 characters; required to create.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 200))]
    pub name: Option<String>,
    /// 1,000 characters at the most.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    #[cfg_attr(feature = "openapi", schema(max_length = 1000))]
    pub description: Option<Option<String>>,
    /// The UUID of a workspace, at creation; default is the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(format = "uuid"))]
    pub workspace_id: Option<String>,
    /// USD; set together with `reset_interval`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub limit_usd: Option<Option<RawAmount>>,
    /// `daily`, `weekly` or `monthly`; set together with `limit_usd`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    #[cfg_attr(feature = "openapi", schema(pattern = "^(daily|weekly|monthly)$"))]
    pub reset_interval: Option<Option<String>>,
    /// Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_byok_in_budgets: Option<bool>,
    /// One at least, or null.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    #[cfg_attr(feature = "openapi", schema(min_items = 1))]
    pub allowed_models: Option<Option<Vec<String>>>,
    /// One at least, or null.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    #[cfg_attr(feature = "openapi", schema(min_items = 1))]
    pub ignored_models: Option<Option<Vec<String>>>,
    /// One at least, or null.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    #[cfg_attr(feature = "openapi", schema(min_items = 1))]
    pub allowed_providers: Option<Option<Vec<String>>>,
    /// One at least, or null.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    #[cfg_attr(feature = "openapi", schema(min_items = 1))]
    pub ignored_providers: Option<Option<Vec<String>>>,
    /// `global`, `europe` or `us`; one at least, or null.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    #[cfg_attr(feature = "openapi", schema(min_items = 1))]
    pub allowed_data_regions: Option<Option<Vec<String>>>,
    /// 100 at the most; null or an empty list is none. The list is replaced whole.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object::nullable_list")]
    #[cfg_attr(feature = "openapi", schema(max_items = 100))]
    pub content_filters: Option<Option<Vec<ContentFilter>>>,
    /// 100 at the most; null or an empty list is none. The list is replaced whole.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object::nullable_list")]
    #[cfg_attr(feature = "openapi", schema(max_items = 100))]
    pub content_filter_builtins: Option<Option<Vec<BuiltinFilter>>>,
    /// See [`Switches`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub enforce_zdr: Option<Option<bool>>,
    /// See [`Switches`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub enforce_zdr_anthropic: Option<Option<bool>>,
    /// See [`Switches`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub enforce_zdr_google: Option<Option<bool>>,
    /// See [`Switches`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub enforce_zdr_openai: Option<Option<bool>>,
    /// See [`Switches`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub enforce_zdr_other: Option<Option<bool>>,
    /// See [`Switches`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub enforce_zdr_xai: Option<Option<bool>>,
    /// See [`Switches`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub enable_free_model_publication: Option<Option<bool>>,
    /// See [`Switches`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub enable_free_model_training: Option<Option<bool>>,
    /// See [`Switches`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub enable_paid_model_training: Option<Option<bool>>,
    /// See [`Switches`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub allow_safety_retention_google: Option<Option<bool>>,
    /// See [`Switches`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub allow_safety_retention_other: Option<Option<bool>>,
}

/// The body of `POST /guardrails/{id}/assignments/keys` and `…/remove`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyHashes {
    /// One at least.
    #[cfg_attr(feature = "openapi", schema(min_items = 1))]
    pub key_hashes: Vec<String>,
}

/// The body of `POST /guardrails/{id}/assignments/members` and `…/remove`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MemberUserIds {
    /// One at least.
    #[cfg_attr(feature = "openapi", schema(min_items = 1))]
    pub member_user_ids: Vec<String>,
}

/// How many were assigned.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Assigned {
    /// Those that did not have it before.
    pub assigned_count: usize,
}

/// How many were taken away.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Unassigned {
    /// Those that had it.
    pub unassigned_count: usize,
}

/// A guardrail's assignment to a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyAssignment {
    /// UUID.
    pub id: String,
    /// The UUID of the guardrail.
    pub guardrail_id: String,
    /// The key's hash.
    pub key_hash: String,
    /// The key's name.
    pub key_name: String,
    /// The key's mask.
    pub key_label: String,
    /// Always null: management keys act for nobody in particular.
    pub assigned_by: Option<String>,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// A guardrail's assignment to a member.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MemberAssignment {
    /// UUID.
    pub id: String,
    /// The UUID of the guardrail.
    pub guardrail_id: String,
    /// `user_…`
    pub user_id: String,
    /// `org_…`
    pub organization_id: String,
    /// Always null: management keys act for nobody in particular.
    pub assigned_by: Option<String>,
    /// RFC 3339, UTC.
    pub created_at: String,
}
