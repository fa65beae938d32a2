//! The `usage` object of chat answers and of a stream's last chunk (contract section 17.1).
//!
//! Every details object is complete: decoders refuse one that lacks a part.

use serde::{Deserialize, Serialize};

use crate::money::Amount;

/// What one call consumed and what it cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChatUsage {
    /// All prompt tokens, by the model's own tokenizer.
    pub prompt_tokens: u64,
    /// All completion tokens, by the model's own tokenizer.
    pub completion_tokens: u64,
    /// Prompt and completion tokens together.
    pub total_tokens: u64,
    /// What was charged, USD.
    pub cost: Amount,
    /// Whether a workspace's own provider credential was used.
    pub is_byok: bool,
    /// Kinds of prompt tokens.
    pub prompt_tokens_details: PromptTokensDetails,
    /// What the provider charges.
    pub cost_details: CostDetails,
    /// Kinds of completion tokens.
    pub completion_tokens_details: CompletionTokensDetails,
}

/// Tokens that are part of `prompt_tokens`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PromptTokensDetails {
    /// Tokens read from a cache.
    pub cached_tokens: u64,
    /// Tokens written to a cache.
    pub cache_write_tokens: u64,
    /// Tokens of audio.
    pub audio_tokens: u64,
    /// Tokens of video.
    pub video_tokens: u64,
}

/// What the provider charges for the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CostDetails {
    /// In all, USD.
    pub upstream_inference_cost: Amount,
    /// For the prompt, USD.
    pub upstream_inference_prompt_cost: Amount,
    /// For the completion, USD.
    pub upstream_inference_completions_cost: Amount,
}

/// Tokens that are part of `completion_tokens`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CompletionTokensDetails {
    /// Tokens spent on reasoning.
    pub reasoning_tokens: u64,
    /// Tokens of images.
    pub image_tokens: u64,
    /// Tokens of audio.
    pub audio_tokens: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `usage` of the final chunk in contract section 21.
    const REFERENCE: &str = concat!(
        r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"cost":1.2e-7,"is_byok":false,"#,
        r#""prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":0,"audio_tokens":0,"video_tokens":0},"#,
        r#""cost_details":{"upstream_inference_cost":1.2e-7,"upstream_inference_prompt_cost":1e-7,"#,
        r#""upstream_inference_completions_cost":2e-8},"#,
        r#""completion_tokens_details":{"reasoning_tokens":0,"image_tokens":0,"audio_tokens":0}}"#,
    );

    #[test]
    fn the_reference_usage_is_read_and_written_in_its_order_with_plain_decimals() {
        let usage: ChatUsage = serde_json::from_str(REFERENCE).unwrap();
        let plain =
            REFERENCE.replace("1.2e-7", "0.00000012").replace("1e-7", "0.0000001").replace("2e-8", "0.00000002");
        assert_eq!(serde_json::to_string(&usage).unwrap(), plain);
    }

    #[test]
    fn a_details_object_is_complete_even_when_nothing_was_used() {
        let text = serde_json::to_string(&ChatUsage::default()).unwrap();
        assert!(!text.contains("null"), "{text}");
        let incomplete = REFERENCE.replace(r#""cached_tokens":0,"#, "");
        assert!(serde_json::from_str::<ChatUsage>(&incomplete).is_err());
    }
}
