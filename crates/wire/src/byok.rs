//! `/byok`: provider credentials that workspaces bring (contract section 9).

use serde::{Deserialize, Serialize};

use crate::keys::nullable;

/// A provider credential. Its secret is written and never read.
#[expect(clippy::struct_excessive_bools, reason = "the contract has them")]
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ByokKey {
    /// UUID.
    pub id: String,
    /// The slug of the provider that it opens.
    pub provider: String,
    /// The mask of its secret, such as `sk-...AbCd`.
    pub label: String,
    /// The name people see.
    pub name: Option<String>,
    /// The UUID of the workspace whose calls may use it; null is every workspace.
    pub workspace_id: Option<String>,
    /// Whether it is not used.
    pub disabled: bool,
    /// Whether it is tried after the account's own capacity instead of before.
    pub is_fallback: bool,
    /// Whether the models that it is for run on own credentials only.
    pub is_required: bool,
    /// Whether everything at its provider runs on own credentials only.
    pub is_byok_only: bool,
    /// Where it stands among those of its provider: the lowest is tried first.
    pub sort_order: i64,
    /// The only keys that may use it, by their hashes; null is all.
    pub allowed_api_key_hashes: Option<Vec<String>>,
    /// The only models that it is used for; null is all.
    pub allowed_models: Option<Vec<String>>,
    /// The only members whose keys may use it; null is all.
    pub allowed_user_ids: Option<Vec<String>>,
    /// Where data is processed under it: `global`, `europe` or `us`; null where nobody says.
    pub declared_region: Option<String>,
    /// Whether nothing of it is kept there; null where nobody says.
    pub declared_zdr: Option<bool>,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// The body of `POST /byok`. It does not print.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateByokKey {
    /// The slug of a provider that is configured.
    pub provider: String,
    /// The provider's key, printable ASCII. Never shown again.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 4096, write_only))]
    pub key: String,
    /// The UUID of a workspace; null is every workspace, and absent the default one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    #[cfg_attr(feature = "openapi", schema(format = "uuid"))]
    pub workspace_id: Option<Option<String>>,
    /// See [`ByokTerms`].
    #[serde(flatten)]
    pub terms: ByokTerms,
}

/// The body of `PATCH /byok/{id}`: an absent field stays as it is, null clears. It does not print.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UpdateByokKey {
    /// Another key of the provider, in the place of the one that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 4096, write_only))]
    pub key: Option<String>,
    /// See [`ByokTerms`].
    #[serde(flatten)]
    pub terms: ByokTerms,
}

/// What is chosen of a provider credential.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ByokTerms {
    /// 255 characters at the most.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    #[cfg_attr(feature = "openapi", schema(max_length = 255))]
    pub name: Option<Option<String>>,
    /// Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Default false; not with `is_required` or `is_byok_only`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_fallback: Option<bool>,
    /// Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_required: Option<bool>,
    /// Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_byok_only: Option<bool>,
    /// Zero or more; default is behind the others. Ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 2_147_483_647))]
    pub sort_order: Option<u32>,
    /// 1 to 100 hashes of keys of the account, or null.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 100))]
    pub allowed_api_key_hashes: Option<Option<Vec<String>>>,
    /// 1 to 100 ids of models, or null.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 100))]
    pub allowed_models: Option<Option<Vec<String>>>,
    /// 1 to 100 ids of members, or null.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 100))]
    pub allowed_user_ids: Option<Option<Vec<String>>>,
    /// `global`, `europe` or `us`, in the place of what the configuration declares of the provider; null takes that.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    #[cfg_attr(feature = "openapi", schema(pattern = "^(global|europe|us)$"))]
    pub declared_region: Option<Option<String>>,
    /// Whether nothing is kept, in the place of what the configuration declares of the provider; null takes that.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub declared_zdr: Option<Option<bool>>,
}
