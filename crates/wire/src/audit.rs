//! The audit log, and corrections of charges: ours.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::money::{Amount, RawAmount};

/// Who changed something.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditActor {
    /// `management_key`, `operator` (a command on the database itself), `config` (a start of the server) or `app` (with an
    /// authorization code).
    pub r#type: String,
    /// The number of the management key.
    pub id: Option<i64>,
    /// The name of the management key at the time.
    pub name: Option<String>,
}

/// An act of management.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// Its number: the greater, the later.
    pub id: i64,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// Who.
    pub actor: AuditActor,
    /// What was done, such as `key.update`.
    pub action: String,
    /// The public id of what it was done to.
    pub target: String,
    /// The UUID of the workspace that it is in.
    pub workspace_id: Option<String>,
    /// How it was; of an update only what changed.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Map<String, serde_json::Value>>))]
    pub before: Option<Box<RawValue>>,
    /// How it is; of an update only what changed.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Map<String, serde_json::Value>>))]
    pub after: Option<Box<RawValue>>,
}

/// The body of `POST /generation/adjust`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Adjust {
    /// The id of the generation.
    pub id: String,
    /// USD to add to its charge; negative gives back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>))]
    pub amount_usd: Option<RawAmount>,
    /// USD to add to its BYOK usage; negative gives back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>))]
    pub byok_amount_usd: Option<RawAmount>,
    /// Why, 1 to 1000 characters.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 1000))]
    pub reason: String,
}

/// What a generation is charged after a correction.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Adjusted {
    /// The id of the generation.
    pub id: String,
    /// USD, all corrections included.
    pub usage: Amount,
    /// USD at list price under own credentials, all corrections included.
    pub byok_usage: Amount,
}
