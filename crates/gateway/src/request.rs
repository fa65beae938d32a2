//! What we read in the body of a call, and the body that goes to the provider.
//!
//! Only fields that we act on are understood; all others pass as they came.

mod reader;
mod texts;

use std::ops::Range;

use bytes::Bytes;

use self::reader::{Reader, unfolded};
pub use self::texts::{Place, texts};
use crate::json::{Malformed, Scanner};

/// Fields that have a meaning here. A key that equals one only after case folding is refused.
const KNOWN: [&str; 28] = [
    "model",
    "models",
    "messages",
    "prompt",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "stream",
    "stream_options",
    "tools",
    "provider",
    "route",
    "plugins",
    "usage",
    "session_id",
    "service_tier",
    "web_search_options",
    "search_parameters",
    "enable_search",
    "cache_control",
    "prediction",
    "audio",
    "modalities",
    "best_of",
    "background",
    "speed",
    "transforms",
    "preset",
];

/// Fields that are consumed here or written anew, and never forwarded as they came.
const CONSUMED: [&str; 9] =
    ["model", "models", "provider", "route", "plugins", "usage", "max_tokens", "max_completion_tokens", "preset"];

/// A field that is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The body is not acceptable JSON.
    #[error("the body is not acceptable JSON: {0}")]
    Malformed(#[from] Malformed),
    /// A field has a value that makes no sense.
    #[error("`{field}` {problem}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// There is nothing to answer.
    #[error("Input required: specify \"prompt\" or \"messages\"")]
    NoInput,
}

/// A call, read.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    body: Bytes,
    /// Top-level members that pass as they came, from key to value.
    passing: Vec<Range<usize>>,
    /// Members of `stream_options` that pass as they came.
    stream_options: Vec<Range<usize>>,
    /// The models to try, first choice first.
    pub models: Vec<String>,
    /// The caller's own cap on completion tokens.
    pub cap: Option<u64>,
    /// How many choices are asked for.
    pub choices: u64,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// The caller's name for a conversation.
    pub session_id: Option<String>,
    /// What the prompt consists of.
    pub prompt: PromptSize,
    /// A field that the price list cannot bound, if there is one.
    pub price_field: Option<String>,
    /// Which providers the caller wants.
    pub routing: Routing,
}

/// What a prompt consists of, for its bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PromptSize {
    /// Bytes of everything but media.
    pub text_bytes: u64,
    /// Messages.
    pub messages: u64,
    /// Tools.
    pub tools: u64,
    /// Images.
    pub images: u64,
    /// Parts of a type whose size says nothing of its tokens.
    pub unbounded_parts: u64,
}

/// The caller's wishes as to providers, by slug.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// These first, in this order.
    pub order: Vec<String>,
    /// Only these, where any is named.
    pub only: Vec<String>,
    /// None of these.
    pub ignore: Vec<String>,
    /// Whether others may be tried when the first fails.
    pub no_fallbacks: bool,
}

impl ChatRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// [`Invalid`] says what is wrong and where.
    pub fn parse(body: Bytes) -> Result<Self, Invalid> {
        let mut reader = Reader::new();
        let mut scanner = Scanner::strict(&body)?;
        let mut failed = None;
        scanner.object(|scanner, member| {
            unfolded(&member, &KNOWN)?;
            let read = reader.member(scanner, &member.key);
            match read {
                Ok(()) => {}
                Err(Invalid::Malformed(malformed)) => return Err(malformed),
                Err(invalid) => {
                    failed.get_or_insert(invalid);
                }
            }
            if !CONSUMED.contains(&&*member.key) && member.key != "stream_options" {
                reader.passing.push(member.start..scanner.at());
            }
            Ok(())
        })?;
        scanner.end()?;
        if let Some(invalid) = failed {
            return Err(invalid);
        }
        reader.finish(body)
    }

    /// As it came.
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// The body for a provider: its own model name, the output cap in its own field, usage asked for.
    pub fn forwarded(&self, model: &str, cap_field: &str, cap: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.len().saturating_add(model.len()).saturating_add(128));
        out.extend_from_slice(b"{\"model\":");
        push_json_string(&mut out, model);
        out.extend_from_slice(format!(",\"{cap_field}\":{cap}").as_bytes());
        for span in &self.passing {
            out.push(b',');
            out.extend_from_slice(self.body.get(span.clone()).unwrap_or_default());
        }
        if self.stream {
            out.extend_from_slice(b",\"stream_options\":{\"include_usage\":true");
            for span in &self.stream_options {
                out.push(b',');
                out.extend_from_slice(self.body.get(span.clone()).unwrap_or_default());
            }
            out.push(b'}');
        }
        out.push(b'}');
        out
    }
}

/// Appends `text` as a JSON string.
pub fn push_json_string(out: &mut Vec<u8>, text: &str) {
    // Writing a str to a Vec cannot fail.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<ChatRequest, Invalid> {
        ChatRequest::parse(Bytes::copy_from_slice(body.as_bytes()))
    }

    fn with(extra: &str) -> Result<ChatRequest, Invalid> {
        parse(&format!(r#"{{"model":"a/b","messages":[{{"role":"user","content":"hi"}}]{extra}}}"#))
    }

    #[test]
    fn what_goes_upstream_is_what_came_but_for_what_we_act_on() {
        let request = with(r#","temperature":0.50,"max_tokens":7,"usage":{"include":true},"provider":{"only":["x"]},"stream":true,"stream_options":{"include_usage":false,"x":1},"odd":{"a":[1]}"#).unwrap();
        let body = String::from_utf8(request.forwarded("up-1", "max_completion_tokens", 7)).unwrap();
        assert_eq!(
            body,
            r#"{"model":"up-1","max_completion_tokens":7,"messages":[{"role":"user","content":"hi"}],"temperature":0.50,"stream":true,"odd":{"a":[1]},"stream_options":{"include_usage":true,"x":1}}"#
        );
        assert_eq!(request.routing.only, ["x"]);
    }

    #[test]
    fn caps_must_be_positive_whole_numbers_and_agree() {
        for bad in ["0", "-1", "1.5", "1e2", "2147483649", "99999999999999999999", "\"7\"", "true"] {
            assert!(with(&format!(",\"max_tokens\":{bad}")).is_err(), "{bad}");
            assert!(with(&format!(",\"n\":{bad}")).is_err(), "{bad}");
        }
        assert!(with(r#","max_tokens":5,"max_completion_tokens":6"#).is_err());
        assert_eq!(with(r#","max_tokens":5,"max_completion_tokens":5"#).unwrap().cap, Some(5));
        assert_eq!(with(r#","max_tokens":null,"max_completion_tokens":6"#).unwrap().cap, Some(6));
        assert_eq!(with("").unwrap().cap, None);
    }

    #[test]
    fn a_field_that_changes_the_price_is_named() {
        let field = |extra: &str| with(extra).unwrap().price_field;
        assert_eq!(field(r#","service_tier":"priority""#).as_deref(), Some("service_tier"));
        assert_eq!(field(r#","web_search_options":{}"#).as_deref(), Some("web_search_options"));
        assert_eq!(field(r#","plugins":[{"id":"web"}]"#).as_deref(), Some("plugins"));
        assert_eq!(field(r#","tools":[{"type":"function"},{"type":"web_search"}]"#).as_deref(), Some("tools[1].type"));
        assert_eq!(field(r#","cache_control":{"type":"ephemeral","ttl":"1h"}"#).as_deref(), Some("cache_control.ttl"));
        assert_eq!(field(r#","service_tier":"auto","plugins":[],"best_of":1,"modalities":[ "text" ]"#), None);
        assert_eq!(field(r#","note":"say \"ttl\" please""#), None);
        assert_eq!(field(r#","search_parameters":{}"#).as_deref(), Some("search_parameters"));
    }

    #[test]
    fn a_longer_cache_is_seen_wherever_it_is_asked_for_and_nowhere_else() {
        let message = |more: &str| {
            parse(&format!(
                r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"text","text":"x"{more}}}]}}]}}"#
            ))
        };
        let field = |more: &str| message(more).unwrap().price_field;
        for key in ["ttl", "t\\u0074l"] {
            let asked = format!(r#","cache_control":{{"type":"ephemeral","{key}":"1h"}}"#);
            assert_eq!(field(&asked).as_deref(), Some("cache_control.ttl"), "{asked}");
        }
        assert_eq!(field(r#","cache_control":{"type":"ephemeral","ttl":"5m"}"#), None);
        let tool = r#","tools":[{"type":"function","function":{"name":"dns","parameters":{"properties":{"ttl":{}}}}}]"#;
        assert_eq!(with(tool).unwrap().price_field, None, "a tool may have a parameter of that name");
        let tool = r#","tools":[{"type":"function","function":{"name":"f","cache_control":{"ttl":"1h"}}}]"#;
        assert_eq!(with(tool).unwrap().price_field.as_deref(), Some("cache_control.ttl"));
        for odd in [r#","Type":"image_url""#, r#","cache_control":{"TTL":"1h"}"#, r#","Cache_Control":{}"#] {
            assert!(message(odd).is_err(), "{odd}");
        }
        assert!(with(r#","stream_options":{"Include_Usage":false}"#).is_err());
        assert!(with(r#","tools":[{"type":"function","Type":"web_search"}]"#).is_err());
        assert!(with(&format!(r#","session_id":"{}""#, "s".repeat(257))).is_err());
        assert!(with(r#","n":129"#).is_err());
    }

    #[test]
    fn media_counts_by_part_and_not_by_its_bytes() {
        let long = "A".repeat(5_000);
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"text","text":"x"}},{{"type":"image_url","image_url":{{"url":"data:{long}"}}}},{{"type":"video_url"}}]}}]}}"#
        );
        let size = parse(&body).unwrap().prompt;
        assert_eq!((size.images, size.unbounded_parts, size.messages), (1, 1, 1));
        assert!(size.text_bytes < 300);
    }

    #[test]
    fn nothing_to_answer_and_wrong_types_are_refused() {
        assert_eq!(parse(r#"{"model":"m"}"#).unwrap_err(), Invalid::NoInput);
        assert_eq!(parse(r#"{"model":"m","messages":[]}"#).unwrap_err(), Invalid::NoInput);
        for bad in
            [r#"{"messages":[{}]}"#, r#"{"model":1,"messages":[{}]}"#, r#"{"model":"m","messages":"hi"}"#, "[]", "7"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(with(r#","STREAM":true"#).is_err());
        assert!(with(r#","model":"c/d""#).is_err());
    }
}
