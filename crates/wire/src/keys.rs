//! `/keys` (contract section 5).

use serde::{Deserialize, Deserializer, Serialize};

use crate::money::{Amount, RawAmount};
use crate::object;

/// What every answer but the OAuth exchange is wrapped in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Data<T> {
    /// The payload.
    pub data: T,
}

/// A key, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Key {
    /// The SHA-256 of the first secret, 64 lowercase hex digits: the key's id for life.
    pub hash: String,
    /// Free text chosen by the owner.
    pub name: String,
    /// The mask of the newest secret.
    pub label: String,
    /// Whether it is refused.
    pub disabled: bool,
    /// The most it may spend in a window, USD; null is no limit.
    pub limit: Option<Amount>,
    /// The limit less what was spent in its window, USD; negative after the limit was lowered below that.
    pub limit_remaining: Option<Amount>,
    /// What calls in flight hold of the limit, USD. Ours.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required))]
    pub limit_held: Option<Amount>,
    /// `daily`, `weekly`, `monthly`, or null for a limit for life.
    pub limit_reset: Option<String>,
    /// Whether BYOK usage eats into the limit.
    pub include_byok_in_limit: bool,
    /// Spent since creation, USD.
    pub usage: Amount,
    /// Spent this UTC day, USD.
    pub usage_daily: Amount,
    /// Spent this ISO week, USD.
    pub usage_weekly: Amount,
    /// Spent this month, USD.
    pub usage_monthly: Amount,
    /// BYOK usage at list price since creation, USD.
    pub byok_usage: Amount,
    /// BYOK usage this UTC day, USD.
    pub byok_usage_daily: Amount,
    /// BYOK usage this ISO week, USD.
    pub byok_usage_weekly: Amount,
    /// BYOK usage this month, USD.
    pub byok_usage_monthly: Amount,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// RFC 3339, UTC; null until the first change.
    pub updated_at: Option<String>,
    /// RFC 3339, UTC; null never expires.
    pub expires_at: Option<String>,
    /// Admission of the newest settled call, RFC 3339, UTC.
    pub last_used_at: Option<String>,
    /// The member who created it.
    pub creator_user_id: Option<String>,
    /// A partner's own name for whoever uses it.
    pub external_user: Option<String>,
    /// The UUID of its workspace.
    pub workspace_id: String,
    /// Calls a minute, and at once; null is no limit. Ours.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required, minimum = 1))]
    pub requests_per_minute: Option<u32>,
    /// Calls in flight at a time; null is no limit. Ours.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required, minimum = 1))]
    pub calls_in_flight_max: Option<u32>,
    /// The only models that it may call; null is all of them. Ours.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required))]
    pub allowed_models: Option<Vec<String>>,
    /// What it may spend beyond `limit`, for a while; in `limit_remaining` while it is in force. Ours.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required))]
    pub limit_raise: Option<LimitRaise>,
}

/// What a key may spend beyond its limit, in each window, until an instant. Ours.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LimitRaise {
    /// How much more, USD, above zero.
    pub amount_usd: RawAmount,
    /// From this instant on the limit is as it was; RFC 3339, UTC.
    #[cfg_attr(feature = "openapi", schema(format = "date-time"))]
    pub until: String,
}

/// The answer to `POST /keys`: the only one that ever holds the secret.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedKey {
    /// The key.
    pub data: Key,
    /// Its secret, shown this once.
    pub key: String,
}

/// The answer to a deletion.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Deleted {
    /// Always true.
    pub deleted: bool,
}

/// The body of `POST /keys`. Unknown fields are ignored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateKey {
    /// Free text, not empty.
    #[cfg_attr(feature = "openapi", schema(min_length = 1))]
    pub name: String,
    /// USD; null or absent is no limit; digits beyond the ninth decimal are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<RawAmount>,
    /// `daily`, `weekly`, `monthly`, or null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(pattern = "^(daily|weekly|monthly)$"))]
    pub limit_reset: Option<String>,
    /// Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_byok_in_limit: Option<bool>,
    /// RFC 3339 in UTC with seconds, in the future.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(format = "date-time"))]
    pub expires_at: Option<String>,
    /// A member of the organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1))]
    pub creator_user_id: Option<String>,
    /// The UUID of a workspace; default is the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(format = "uuid"))]
    pub workspace_id: Option<String>,
    /// A partner's identity for the key.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub external: Option<External>,
    /// Calls a minute, and at once; null or absent is no limit. Ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub requests_per_minute: Option<u32>,
    /// Calls in flight at a time; null or absent is no limit. Ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub calls_in_flight_max: Option<u32>,
    /// The only models that it may call; null or absent is all of them. Ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_items = 1))]
    pub allowed_models: Option<Vec<String>>,
}

/// The body of `POST /keys/bulk`. Ours.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateKeys {
    /// 1 to 1,000 of them.
    #[serde(deserialize_with = "object::list")]
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 1000))]
    pub keys: Vec<CreateKey>,
}

/// The body of `POST /keys/{hash}/rotate`. Ours.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RotateKey {
    /// How long the old secret works on, 30 days at the most; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 2_592_000))]
    pub grace_period_seconds: Option<u64>,
}

/// A partner's identity for a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct External {
    /// The partner's own name for whoever uses the key.
    pub user: String,
}

/// The body of `PATCH /keys/{hash}`: an absent field stays as it is, null clears. Unknown fields are ignored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UpdateKey {
    /// Free text, not empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1))]
    pub name: Option<String>,
    /// Refuse it, or take that back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// USD; null is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub limit: Option<Option<RawAmount>>,
    /// `daily`, `weekly`, `monthly`; null for life.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    #[cfg_attr(feature = "openapi", schema(pattern = "^(daily|weekly|monthly)$"))]
    pub limit_reset: Option<Option<String>>,
    /// Whether BYOK usage counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_byok_in_limit: Option<bool>,
    /// The UUID of the workspace to move to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(format = "uuid"))]
    pub workspace_id: Option<String>,
    /// Calls a minute, and at once; null is no limit. Ours.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub requests_per_minute: Option<Option<u32>>,
    /// Calls in flight at a time; null is no limit. Ours.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub calls_in_flight_max: Option<Option<u32>>,
    /// The only models that it may call; null is all of them. Ours.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    #[cfg_attr(feature = "openapi", schema(min_items = 1))]
    pub allowed_models: Option<Option<Vec<String>>>,
    /// More than the limit for a while; null ends that. Ours.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object::nullable")]
    pub limit_raise: Option<Option<LimitRaise>>,
}

/// Tells null from absent: the outer `Option` is presence.
#[expect(clippy::option_option, reason = "absent, null and a value are three things")]
pub fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_domain::Usd;

    #[test]
    fn absent_and_null_are_told_apart() {
        let absent: UpdateKey = serde_json::from_str("{\"later\":1}").unwrap();
        assert!(absent.limit.is_none() && absent.limit_reset.is_none());
        let null: UpdateKey = serde_json::from_str(r#"{"limit":null,"limit_reset":null}"#).unwrap();
        assert!(matches!((null.limit, null.limit_reset), (Some(None), Some(None))));
        let set: UpdateKey = serde_json::from_str(r#"{"limit":1.50,"limit_reset":"daily"}"#).unwrap();
        assert_eq!(set.limit_reset, Some(Some("daily".to_owned())));
        assert!(matches!(set.limit, Some(Some(_))));
    }

    /// The key object of contract section 21.
    const REFERENCE: &str = concat!(
        r#"{"hash":"<64 hex>","name":"ci","label":"sk-or-v1-726...f5c","disabled":false,"limit":100,"#,
        r#""limit_remaining":92.634926647,"limit_reset":"monthly","include_byok_in_limit":false,"#,
        r#""usage":224.808602387,"usage_daily":0.5,"usage_weekly":3.25,"usage_monthly":7.365073353,"#,
        r#""byok_usage":0,"byok_usage_daily":0,"byok_usage_weekly":0,"byok_usage_monthly":0,"#,
        r#""created_at":"2026-09-08T10:30:00.123Z","updated_at":null,"expires_at":null,"#,
        r#""last_used_at":null,"creator_user_id":null,"external_user":null,"#,
        r#""workspace_id":"0df9e665-d932-5740-b2c7-b52af166bc11"}"#,
    );

    #[test]
    fn the_reference_key_is_written_as_it_was_read_but_for_our_own_fields() {
        let key: Key = serde_json::from_str(REFERENCE).unwrap();
        let ours = REFERENCE.replace(r#","limit_reset""#, r#","limit_held":null,"limit_reset""#);
        let ours = ours.replace(
            '}',
            r#","requests_per_minute":null,"calls_in_flight_max":null,"allowed_models":null,"limit_raise":null}"#,
        );
        assert_eq!(serde_json::to_string(&key).unwrap(), ours);
    }

    #[test]
    fn a_request_says_only_what_was_given() {
        let key = CreateKey { name: "ci".to_owned(), ..CreateKey::default() };
        assert_eq!(serde_json::to_string(&key).unwrap(), r#"{"name":"ci"}"#);
        let change = UpdateKey { limit: Some(None), disabled: Some(true), ..UpdateKey::default() };
        assert_eq!(serde_json::to_string(&change).unwrap(), r#"{"disabled":true,"limit":null}"#);
        let raised = UpdateKey { limit: Some(Some(Usd::from_nanos(25_500_000_000).into())), ..UpdateKey::default() };
        assert_eq!(serde_json::to_string(&raised).unwrap(), r#"{"limit":25.5}"#);
        let paced =
            UpdateKey { requests_per_minute: Some(None), calls_in_flight_max: Some(Some(2)), ..UpdateKey::default() };
        let text = serde_json::to_string(&paced).unwrap();
        assert_eq!(text, r#"{"requests_per_minute":null,"calls_in_flight_max":2}"#);
        let read: UpdateKey = serde_json::from_str(&text).unwrap();
        assert_eq!((read.requests_per_minute, read.calls_in_flight_max), (Some(None), Some(Some(2))));
    }

    #[test]
    fn a_created_key_has_its_secret_beside_its_data() {
        let text = format!(r#"{{"data":{REFERENCE},"key":"sk-or-v1-0"}}"#);
        let created: CreatedKey = serde_json::from_str(&text).unwrap();
        let json = serde_json::to_string(&created).unwrap();
        assert!(json.ends_with(r#"},"key":"sk-or-v1-0"}"#), "{json}");
    }
}
