//! The provider's `usage` object, and estimates where there is none.

use serde::Deserialize;
use tollgate_domain::usage::TokenUsage;

/// What a provider said of a call's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// Counts that can be read.
    Tokens(TokenUsage),
    /// Something that is no count: negative, fractional, not a number.
    Nonsense,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    completion_tokens_details: Option<CompletionDetails>,
    /// DeepSeek's name for cached tokens.
    #[serde(default)]
    prompt_cache_hit_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
struct PromptDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
    audio_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
struct CompletionDetails {
    reasoning_tokens: Option<u64>,
    audio_tokens: Option<u64>,
    image_tokens: Option<u64>,
}

/// Reads the text of a `usage` member that is not null.
pub fn read(text: &str) -> Reported {
    let Ok(usage) = serde_json::from_str::<Usage>(text) else { return Reported::Nonsense };
    let prompt = usage.prompt_tokens_details.unwrap_or_default();
    let completion = usage.completion_tokens_details.unwrap_or_default();
    Reported::Tokens(TokenUsage {
        prompt: usage.prompt_tokens,
        cached: prompt.cached_tokens.or(usage.prompt_cache_hit_tokens).unwrap_or(0),
        cache_write: prompt.cache_write_tokens.unwrap_or(0),
        prompt_audio: prompt.audio_tokens.unwrap_or(0),
        completion: usage.completion_tokens,
        reasoning: completion.reasoning_tokens.unwrap_or(0),
        completion_audio: completion.audio_tokens.unwrap_or(0),
        completion_image: completion.image_tokens.unwrap_or(0),
    })
}

/// Bytes that count as one token in an estimate: fewer than English text has, so that a guess is no discount.
const BYTES_PER_TOKEN: u64 = 3;

/// The prompt of a call whose provider never said: its bytes, and what its media are declared to count.
pub fn estimate_prompt(bytes: u64, media_tokens: u64, most: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN).saturating_add(media_tokens).min(most)
}

/// What such a call produced, from the bytes that came in `chunks` pieces: each was one token at least.
pub fn estimate_completion(bytes: u64, chunks: u64, most: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN).max(chunks).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_and_nonsense_is_told_apart() {
        let text = r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":null}"#;
        let tokens = TokenUsage { prompt: 10, completion: 5, cached: 4, ..TokenUsage::default() };
        assert_eq!(read(text), Reported::Tokens(tokens));
        for bad in [r#"{"prompt_tokens":-1}"#, r#"{"prompt_tokens":1.5}"#, r#"{"prompt_tokens":"1"}"#, "{}", "7"] {
            assert_eq!(read(bad), Reported::Nonsense, "{bad}");
        }
    }
}
