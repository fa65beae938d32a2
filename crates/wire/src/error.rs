//! The error envelope (contract section 1.2).

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `{"error":{…}}`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorEnvelope {
    /// What went wrong.
    pub error: ErrorBody,
    /// The member whose key it was; present after authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
}

/// What went wrong.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// A sentence for people.
    pub message: String,
    /// The HTTP status.
    pub code: u16,
    /// Details for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
}
