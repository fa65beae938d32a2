//! `/auth/keys` (contract section 7).

use serde::{Deserialize, Serialize};

use crate::money::RawAmount;

/// The body of `POST /auth/keys/code`. Unknown fields are ignored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateAuthCode {
    /// Where the app gets the code: https, or http on this machine.
    pub callback_url: String,
    /// What the verifier must answer to; required here, though the contract leaves it open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_challenge: Option<String>,
    /// `S256` (the default) or `plain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_challenge_method: Option<String>,
    /// When the key stops working, RFC 3339 in UTC with seconds, in the future.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// The name of the key, 100 characters at the most; default is the callback's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_label: Option<String>,
    /// USD; default is the operator's; digits beyond the ninth decimal are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<RawAmount>,
    /// `daily`, `weekly`, `monthly`; default is a limit for life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_limit_type: Option<String>,
    /// The UUID of a workspace; default is the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<String>,
}

/// The answer to `POST /auth/keys/code`: the only one that ever holds the code.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuthCode {
    /// The code.
    pub id: String,
    /// A number for the app: the same for the same host of its callback.
    pub app_id: u32,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// The body of `POST /auth/keys`. Unknown fields are ignored.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExchangeAuthCode {
    /// The code.
    pub code: String,
    /// What its challenge was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_verifier: Option<String>,
    /// `S256` or `plain`, as when the code was made; null or absent says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_challenge_method: Option<String>,
}

/// The answer to `POST /auth/keys`, not wrapped in `data`: the only one that ever holds the secret.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExchangedKey {
    /// The secret of the key, shown this once.
    pub key: String,
    /// The member who allowed it; null where that was a management key.
    pub user_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchanged_key_always_says_whose_it_is() {
        let key = ExchangedKey { key: "sk-or-v1-0".to_owned(), user_id: None };
        assert_eq!(serde_json::to_string(&key).unwrap(), r#"{"key":"sk-or-v1-0","user_id":null}"#);
    }

    #[test]
    fn null_is_as_good_as_absent() {
        let body: ExchangeAuthCode = serde_json::from_str(r#"{"code":"c","code_challenge_method":null}"#).unwrap();
        assert_eq!((body.code_verifier, body.code_challenge_method), (None, None));
        let body = r#"{"callback_url":"u","limit":null,"expires_at":null,"spawn_agent":"x"}"#;
        let body: CreateAuthCode = serde_json::from_str(body).unwrap();
        assert!(body.limit.is_none() && body.expires_at.is_none());
    }
}
