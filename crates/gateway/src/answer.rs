//! The parts of an answer that are ours: ids, usage with its cost, the last chunk, a chunk that tells of an error.

use std::fmt::Write;

use tollgate_domain::Usd;
use tollgate_domain::pricing::Cost;
use tollgate_domain::usage::TokenUsage;

use crate::request::push_json_string;

/// What every answer and every chunk of one generation begins with.
#[derive(Clone, Debug, Default)]
pub struct Heading {
    /// `"id":…,"provider":…,"model":…`
    members: Vec<u8>,
}

impl Heading {
    /// The heading of a generation.
    pub fn new(id: &str, provider: &str, model: &str) -> Self {
        let mut members = Vec::with_capacity(96);
        for (name, value) in [("\"id\":", id), (",\"provider\":", provider), (",\"model\":", model)] {
            members.extend_from_slice(name.as_bytes());
            push_json_string(&mut members, value);
        }
        Self { members }
    }

    /// The members, without braces.
    pub fn members(&self) -> &[u8] {
        &self.members
    }
}

/// The `usage` object of the contract (section 17.1): complete, and never null inside. `credits` is what the account is
/// charged, `cost` the list price: they differ under an own provider credential.
pub fn usage(tokens: &TokenUsage, credits: Usd, cost: &Cost, is_byok: bool) -> String {
    let mut text = String::with_capacity(512);
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "{{\"prompt_tokens\":{},\"completion_tokens\":{},\"total_tokens\":{},\"cost\":{},\"is_byok\":{is_byok},\
         \"prompt_tokens_details\":{{\"cached_tokens\":{},\"cache_write_tokens\":{},\"audio_tokens\":{},\"video_tokens\":0}},\
         \"cost_details\":{{\"upstream_inference_cost\":{},\"upstream_inference_prompt_cost\":{},\
         \"upstream_inference_completions_cost\":{}}},\
         \"completion_tokens_details\":{{\"reasoning_tokens\":{},\"image_tokens\":{},\"audio_tokens\":{}}}}}",
        tokens.prompt,
        tokens.completion,
        tokens.total(),
        credits,
        tokens.cached,
        tokens.cache_write,
        tokens.prompt_audio,
        cost.total,
        cost.prompt,
        cost.completion,
        tokens.reasoning,
        tokens.completion_image,
        tokens.completion_audio,
    );
    text
}

/// The one chunk that carries usage: one choice with an empty delta (contract section 14.2).
pub fn usage_chunk(
    heading: &Heading,
    created: i64,
    finish_reason: Option<&str>,
    native: Option<&str>,
    usage: &str,
) -> Vec<u8> {
    let mut out = chunk_start(heading, created);
    out.extend_from_slice(
        b",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":",
    );
    push_optional(&mut out, finish_reason);
    out.extend_from_slice(b",\"native_finish_reason\":");
    push_optional(&mut out, native);
    out.extend_from_slice(b",\"logprobs\":null}],\"usage\":");
    out.extend_from_slice(usage.as_bytes());
    out.extend_from_slice(b"}\n\n");
    out
}

/// The chunk that ends a stream in which something went wrong (contract section 14.2).
pub fn error_chunk(heading: &Heading, created: i64, code: u16, message: &str, error_type: &str) -> Vec<u8> {
    let mut out = chunk_start(heading, created);
    out.extend_from_slice(format!(",\"error\":{{\"code\":{code},\"message\":").as_bytes());
    push_json_string(&mut out, message);
    out.extend_from_slice(b",\"metadata\":{\"error_type\":");
    push_json_string(&mut out, error_type);
    out.extend_from_slice(
        b"}},\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}]}\n\n",
    );
    out
}

/// The end of every stream.
pub const DONE: &[u8] = b"data: [DONE]\n\n";
/// Keeps a silent stream's connection alive.
pub const KEEP_ALIVE: &[u8] = b": OPENROUTER PROCESSING\n\n";
/// Tells that a settlement could not be written in time, so that the stream has no usage.
pub const PENDING: &[u8] = b": tollgate-settlement pending\n\n";

fn chunk_start(heading: &Heading, created: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(heading.members().len().saturating_add(900));
    out.extend_from_slice(b"data: {");
    out.extend_from_slice(heading.members());
    out.extend_from_slice(format!(",\"object\":\"chat.completion.chunk\",\"created\":{created}").as_bytes());
    out
}

fn push_optional(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => push_json_string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_chunk_is_the_one_of_the_contract() {
        let tokens = TokenUsage { prompt: 10, completion: 5, ..TokenUsage::default() };
        let cost = Cost { total: Usd::from_nanos(120), prompt: Usd::from_nanos(100), completion: Usd::from_nanos(20) };
        let heading = Heading::new("gen-1", "X", "a/b");
        let chunk = usage_chunk(&heading, 7, Some("stop"), Some("stop"), &usage(&tokens, cost.total, &cost, false));
        let text = String::from_utf8(chunk).unwrap();
        let json: serde_json::Value = serde_json::from_str(text.strip_prefix("data: ").unwrap().trim_end()).unwrap();
        let expected = serde_json::json!({
            "id": "gen-1", "object": "chat.completion.chunk", "created": 7, "model": "a/b", "provider": "X",
            "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "stop",
                "native_finish_reason": "stop", "logprobs": null}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cost": 1.2e-7, "is_byok": false,
                "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0, "audio_tokens": 0, "video_tokens": 0},
                "cost_details": {"upstream_inference_cost": 1.2e-7, "upstream_inference_prompt_cost": 1e-7,
                    "upstream_inference_completions_cost": 2e-8},
                "completion_tokens_details": {"reasoning_tokens": 0, "image_tokens": 0, "audio_tokens": 0}}
        });
        assert_eq!(json, expected);
        let own: serde_json::Value = serde_json::from_str(&usage(&tokens, Usd::from_nanos(6), &cost, true)).unwrap();
        assert_eq!((&own["cost"], &own["is_byok"]), (&serde_json::json!(6e-9), &serde_json::json!(true)));
        assert_eq!(own["cost_details"]["upstream_inference_cost"], 1.2e-7);
    }
}
