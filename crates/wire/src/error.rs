//! The error envelope (contract section 1.2).

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `{"error":{…}}`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorEnvelope {
    /// What went wrong.
    pub error: ErrorBody,
    /// The member whose key it was; present after authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub user_id: Option<String>,
}

/// What went wrong.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// A sentence for people.
    pub message: String,
    /// The HTTP status.
    pub code: u16,
    /// Details for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<Object>))]
    pub metadata: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_comes_before_the_code_and_nothing_is_null() {
        for text in [
            r#"{"error":{"message":"API key not found","code":404}}"#,
            r#"{"error":{"message":"Spent","code":403,"metadata":{"limit_usd":1}},"user_id":"user_1"}"#,
        ] {
            let envelope: ErrorEnvelope = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&envelope).unwrap(), text);
        }
        let null = r#"{"error":{"message":"m","code":500,"metadata":null},"user_id":null}"#;
        let envelope: ErrorEnvelope = serde_json::from_str(null).unwrap();
        assert!(envelope.error.metadata.is_none() && envelope.user_id.is_none());
    }
}
