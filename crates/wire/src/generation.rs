//! `GET /generation` (contract section 12). Every nullable field is present.

use serde::{Deserialize, Serialize};

use crate::money::Amount;

/// A generation that ended.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Generation {
    /// Its id.
    pub id: String,
    /// The provider's id of the answer.
    pub upstream_id: Option<String>,
    /// What it cost, USD.
    pub total_cost: Amount,
    /// What the provider credential's owner paid the provider, USD; 0 unless BYOK.
    pub upstream_inference_cost: Option<Amount>,
    /// The same as `total_cost`, USD: under an own provider credential, the fee.
    pub usage: Amount,
    /// RFC 3339, UTC: when it was admitted.
    pub created_at: String,
    /// `author/slug`.
    pub model: String,
    /// The app that called.
    pub app_id: Option<i64>,
    /// Whether it was streamed.
    pub streamed: Option<bool>,
    /// Whether the caller left before its end.
    pub cancelled: Option<bool>,
    /// The provider's slug.
    pub provider_name: Option<String>,
    /// Milliseconds until the first byte.
    pub latency: Option<u64>,
    /// Always null: nothing is moderated here.
    pub moderation_latency: Option<u64>,
    /// Milliseconds until the last byte.
    pub generation_time: Option<u64>,
    /// Why the model stopped; null for a stream that was cut.
    pub finish_reason: Option<String>,
    /// Why the model stopped, in the provider's words.
    pub native_finish_reason: Option<String>,
    /// Prompt tokens.
    pub tokens_prompt: Option<u64>,
    /// Completion tokens.
    pub tokens_completion: Option<u64>,
    /// Prompt tokens by the model's own tokenizer; what is billed.
    pub native_tokens_prompt: Option<u64>,
    /// Completion tokens by the model's own tokenizer; what is billed.
    pub native_tokens_completion: Option<u64>,
    /// Completion tokens of images.
    pub native_tokens_completion_images: Option<u64>,
    /// Completion tokens spent on reasoning.
    pub native_tokens_reasoning: Option<u64>,
    /// Prompt tokens read from a cache.
    pub native_tokens_cached: Option<u64>,
    /// Media in the prompt; not counted.
    pub num_media_prompt: Option<u64>,
    /// Audio in the prompt; not counted.
    pub num_input_audio_prompt: Option<u64>,
    /// Media in the completion; not counted.
    pub num_media_completion: Option<u64>,
    /// Search results; there is no search here.
    pub num_search_results: Option<u64>,
    /// Fetches; there are none here.
    pub num_fetches: Option<u64>,
    /// `HTTP-Referer`, or empty.
    pub origin: String,
    /// Whether a workspace's own provider credential was used.
    pub is_byok: bool,
    /// `global`.
    pub data_region: String,
    /// What a cache saved, USD; not computed.
    pub cache_discount: Option<Amount>,
    /// The kind of call.
    pub api_type: Option<String>,
    /// The partner's user.
    pub external_user: Option<String>,
    /// `HTTP-Referer` of the caller.
    pub http_referer: Option<String>,
    /// The preset that was used; there are none here.
    pub preset_id: Option<String>,
    /// Every try, in order.
    pub provider_responses: Option<Vec<ProviderResponse>>,
    /// The router that chose; there is none here.
    pub router: Option<String>,
    /// The tier that was served.
    pub service_tier: Option<String>,
    /// `User-Agent` of the caller.
    pub user_agent: Option<String>,
    /// The search engine; there is none here.
    pub web_search_engine: Option<String>,
    /// The UUID of the workspace that was charged.
    pub workspace_id: Option<String>,
    /// The caller's name for a conversation.
    pub session_id: Option<String>,
    /// The caller's id of the request; not kept.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required))]
    pub request_id: Option<String>,
    /// The generation whose answer was served again; there is no response cache here.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required))]
    pub response_cache_source_id: Option<String>,
    /// How its bill was found: `settled`, `estimated`, `implausible`, `released`, `lost`. Ours.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required))]
    pub settlement: String,
    /// What it cost in USD beyond all that was reserved for it: the provider broke its word. Ours.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required))]
    pub overrun: Amount,
}

/// One try at one provider.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProviderResponse {
    /// Its HTTP status; null where it never answered.
    pub status: Option<u16>,
    /// Its slug.
    pub provider_name: String,
    /// Milliseconds until it answered or failed.
    pub latency: u64,
    /// Whether a workspace's own provider credential was used.
    pub is_byok: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the strictest decoder demands (contract section 12), nullable or not.
    const REQUIRED: [&str; 42] = [
        "api_type",
        "app_id",
        "cache_discount",
        "cancelled",
        "created_at",
        "data_region",
        "external_user",
        "finish_reason",
        "generation_time",
        "http_referer",
        "id",
        "is_byok",
        "latency",
        "model",
        "moderation_latency",
        "native_finish_reason",
        "native_tokens_cached",
        "native_tokens_completion",
        "native_tokens_completion_images",
        "native_tokens_prompt",
        "native_tokens_reasoning",
        "num_fetches",
        "num_input_audio_prompt",
        "num_media_completion",
        "num_media_prompt",
        "num_search_results",
        "origin",
        "preset_id",
        "provider_name",
        "provider_responses",
        "router",
        "service_tier",
        "streamed",
        "tokens_completion",
        "tokens_prompt",
        "total_cost",
        "upstream_id",
        "upstream_inference_cost",
        "usage",
        "user_agent",
        "web_search_engine",
        "workspace_id",
    ];

    #[test]
    fn every_required_field_is_there_even_where_nothing_is_known() {
        let json = serde_json::to_value(Generation::default()).unwrap();
        for field in REQUIRED {
            assert!(json.get(field).is_some(), "{field}");
        }
        for field in ["created_at", "data_region", "id", "is_byok", "model", "origin", "total_cost", "usage"] {
            assert!(!json[field].is_null(), "{field}");
        }
    }
}
