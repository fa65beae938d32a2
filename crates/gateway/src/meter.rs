//! Watches a provider's answer: takes out what is billed, and puts in what is ours.
//!
//! Content passes as it came. The top-level `id`, `model` and `provider` are ours; usage is withheld until it is settled;
//! a missing `finish_reason` becomes null, and a provider's own word for one becomes the contract's (contract sections 14.1
//! and 14.2).

use std::borrow::Cow;
use std::ops::Range;

use crate::answer::Heading;
use crate::json::{Kind, Malformed, Scanner};
use crate::usage::{self, Reported};

/// What was seen of an answer so far.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// The newest usage that the provider reported.
    pub reported: Option<Reported>,
    /// Bytes of output that were seen.
    pub output_bytes: u64,
    /// Pieces of output that were seen.
    pub chunks: u64,
    /// Why the first choice ended, in the contract's words.
    pub finish_reason: Option<String>,
    /// Why the first choice ended, in the provider's words.
    pub native_finish_reason: Option<String>,
    /// The provider's id of the answer.
    pub upstream_id: Option<String>,
    /// The provider's time of the answer, in unix seconds.
    pub created: Option<i64>,
    /// The provider's stream said that it is over.
    pub done: bool,
    /// The provider reported an error inside its answer.
    pub failed: bool,
    /// The provider sent an object in its stream that cannot be read.
    pub unreadable: bool,
    /// Where the parts of a whole answer lie, once it was read.
    layout: Layout,
}

/// Where the top-level members of an answer lie, and what to put in among them.
#[derive(Clone, Debug, Default)]
struct Layout {
    parts: Vec<Part>,
    inserts: Vec<Insert>,
}

/// A top-level member of an answer: its key, and where key and value lie.
#[derive(Clone, Debug)]
struct Part {
    key: Key,
    whole: Range<usize>,
    value: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    /// Replaced by ours.
    Ours,
    Usage,
    Fingerprint,
    Choices,
    Error,
    Other,
}

/// A piece of text, and what it stands for: where it is put in, if that is empty.
type Insert = (Range<usize>, Cow<'static, str>);

/// Choices of an answer that are put right: as many as a call may ask for.
const CHOICES_MAX: usize = 128;

impl Meter {
    /// Takes one `data:` payload of a stream and appends what the caller gets for it, if anything.
    pub fn chunk(&mut self, data: &[u8], heading: &Heading, out: &mut Vec<u8>) {
        // Clients take whatever begins like this for the end.
        if data.trim_ascii_start().starts_with(b"[DONE]") {
            self.done = true;
            return;
        }
        let Ok(Layout { parts, inserts }) = self.read(data, false) else {
            // Not JSON: nothing in it can be metered, and the caller may know what it is.
            self.output_bytes = self.output_bytes.saturating_add(len(data.len()));
            // But what begins as an object may be one to the caller, with the provider's ids and usage in it.
            self.unreadable = data.trim_ascii_start().first() == Some(&b'{');
            if self.unreadable {
                return;
            }
            out.extend_from_slice(b"data: ");
            out.extend_from_slice(data);
            out.extend_from_slice(b"\n\n");
            return;
        };
        let is_null = |part: &Part| data.get(part.value.clone()) == Some(b"null");
        if parts.iter().any(|part| part.key == Key::Error && !is_null(part)) {
            self.failed = true;
            return;
        }
        let has_usage = parts.iter().any(|part| part.key == Key::Usage && !is_null(part));
        let full = |part: &Part| part.key == Key::Choices && !data.get(part.value.clone()).is_some_and(is_empty_array);
        if has_usage && !parts.iter().any(full) {
            return;
        }
        out.extend_from_slice(b"data: {");
        out.extend_from_slice(heading.members());
        for part in &parts {
            let dropped = part.key == Key::Usage || (part.key == Key::Fingerprint && is_null(part));
            if part.key != Key::Ours && !dropped {
                out.push(b',');
                copy(data, part.whole.clone(), &inserts, out);
            }
        }
        out.extend_from_slice(b"}\n\n");
    }

    /// Reads a whole answer. [`Meter::result`] writes it once its cost is settled.
    ///
    /// # Errors
    /// [`Malformed`]: the provider did not answer in JSON.
    pub fn answer(&mut self, data: &[u8]) -> Result<(), Malformed> {
        self.layout = self.read(data, true)?;
        let error = |part: &Part| part.key == Key::Error && data.get(part.value.clone()) != Some(b"null");
        self.failed = self.layout.parts.iter().any(error);
        Ok(())
    }

    /// The `data` that [`Meter::answer`] read, as the caller gets it; without `usage` where the settlement is pending.
    pub fn result(&self, data: &[u8], heading: &Heading, usage: Option<&str>) -> Vec<u8> {
        let Layout { parts, inserts } = &self.layout;
        let mut out = Vec::with_capacity(data.len().saturating_add(700));
        out.push(b'{');
        out.extend_from_slice(heading.members());
        for part in parts.iter().filter(|part| !matches!(part.key, Key::Ours | Key::Usage)) {
            out.push(b',');
            copy(data, part.whole.clone(), inserts, &mut out);
        }
        if !parts.iter().any(|part| part.key == Key::Fingerprint) {
            out.extend_from_slice(b",\"system_fingerprint\":null");
        }
        if let Some(usage) = usage {
            out.extend_from_slice(b",\"usage\":");
            out.extend_from_slice(usage.as_bytes());
        }
        out.push(b'}');
        out
    }

    fn read(&mut self, data: &[u8], whole: bool) -> Result<Layout, Malformed> {
        let mut parts = Vec::with_capacity(8);
        let mut inserts = Vec::new();
        let mut scanner = Scanner::lenient(data)?;
        scanner.object(|scanner, member| {
            scanner.peek()?;
            let start = scanner.at();
            let key = match &*member.key {
                "choices" if scanner.peek()? == Kind::Array => {
                    scanner.array(|scanner, index| self.choice(scanner, index, whole, &mut inserts))?;
                    Key::Choices
                }
                "id" => {
                    if scanner.peek()? == Kind::Text && self.upstream_id.is_none() {
                        self.upstream_id = Some(scanner.string()?.into_owned());
                    } else {
                        scanner.value()?;
                    }
                    Key::Ours
                }
                "created" => {
                    let value = scanner.value()?;
                    self.created = self.created.or_else(|| scanner.text(value.span).parse().ok());
                    Key::Other
                }
                "usage" => {
                    let value = scanner.value()?;
                    if value.kind != Kind::Null {
                        self.reported = Some(usage::read(scanner.text(value.span)));
                    }
                    Key::Usage
                }
                name => {
                    let key = match name {
                        "model" | "provider" => Key::Ours,
                        "system_fingerprint" => Key::Fingerprint,
                        "error" => Key::Error,
                        _ => Key::Other,
                    };
                    scanner.value()?;
                    key
                }
            };
            parts.push(Part { key, whole: member.start..scanner.at(), value: start..scanner.at() });
            Ok(())
        })?;
        scanner.end()?;
        inserts.sort_by_key(|(place, _): &Insert| place.start);
        Ok(Layout { parts, inserts })
    }

    fn choice(
        &mut self,
        scanner: &mut Scanner<'_>,
        index: usize,
        whole: bool,
        inserts: &mut Vec<Insert>,
    ) -> Result<(), Malformed> {
        if scanner.peek()? != Kind::Object {
            return scanner.value().map(|_| ());
        }
        let inside = scanner.at().saturating_add(1);
        let put_right = index < CHOICES_MAX;
        let (mut has_finish, mut has_native, mut finish) = (false, false, None);
        let mut members = 0_usize;
        scanner.object(|scanner, member| {
            members = members.saturating_add(1);
            match &*member.key {
                "finish_reason" => {
                    has_finish = true;
                    if scanner.peek()? == Kind::Text {
                        let start = scanner.at();
                        let native = scanner.string()?.into_owned();
                        let normal = normal_finish(&native);
                        if put_right && normal != native {
                            inserts.push((start..scanner.at(), format!("\"{normal}\"").into()));
                        }
                        finish = Some(native);
                    } else {
                        scanner.value()?;
                    }
                }
                "native_finish_reason" => {
                    has_native = true;
                    scanner.value()?;
                }
                "delta" | "message" if scanner.peek()? == Kind::Object => self.output(scanner)?,
                _ => {
                    scanner.value()?;
                }
            }
            Ok(())
        })?;
        if put_right && !has_finish {
            let text = if members == 0 { "\"finish_reason\":null" } else { "\"finish_reason\":null," };
            inserts.push((inside..inside, text.into()));
        }
        if let Some(native) = finish {
            if put_right && whole && !has_native {
                let mut text = b"\"native_finish_reason\":".to_vec();
                crate::request::push_json_string(&mut text, &native);
                // Behind it comes the reason itself, at the least.
                text.push(b',');
                inserts.push((inside..inside, String::from_utf8_lossy(&text).into_owned().into()));
            }
            if index == 0 {
                self.finish_reason = Some(normal_finish(&native).to_owned());
                self.native_finish_reason = Some(native);
            }
        }
        Ok(())
    }

    /// Counts the output in a delta or a message: everything in it but the role.
    fn output(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
        let mut bytes = 0_u64;
        scanner.object(|scanner, member| {
            let value = scanner.value()?;
            let size = len(value.span.len());
            match (value.kind, &*member.key) {
                (Kind::Null, _) | (_, "role") => {}
                (Kind::Text, _) => bytes = bytes.saturating_add(size.saturating_sub(2)),
                _ => bytes = bytes.saturating_add(size),
            }
            Ok(())
        })?;
        self.output_bytes = self.output_bytes.saturating_add(bytes);
        self.chunks = self.chunks.saturating_add(u64::from(bytes > 0));
        Ok(())
    }
}

fn len(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn is_empty_array(text: &[u8]) -> bool {
    text.iter().filter(|byte| !byte.is_ascii_whitespace()).eq(b"[]")
}

/// A provider's word for why it stopped, in the contract's words (section 14.1). The list is open: others pass.
fn normal_finish(native: &str) -> &str {
    match native {
        "function_call" => "tool_calls",
        "max_tokens" => "length",
        "end_turn" | "eos" | "stop_sequence" => "stop",
        other => other,
    }
}

/// Copies a span of `data`, putting in what belongs inside it. The inserts are in their order.
fn copy(data: &[u8], span: Range<usize>, inserts: &[Insert], out: &mut Vec<u8>) {
    let mut from = span.start;
    let first = inserts.partition_point(|(place, _)| place.start < span.start);
    let behind = inserts.get(first..).unwrap_or_default();
    for (place, text) in behind.iter().take_while(|(place, _)| place.start < span.end) {
        out.extend_from_slice(data.get(from..place.start).unwrap_or_default());
        out.extend_from_slice(text.as_bytes());
        from = place.end;
    }
    out.extend_from_slice(data.get(from..span.end).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_domain::usage::TokenUsage;

    fn stream(events: &[&str]) -> (Meter, String) {
        let (mut meter, mut out) = (Meter::default(), Vec::new());
        for event in events {
            meter.chunk(event.as_bytes(), &Heading::new("gen-1", "P", "a/b"), &mut out);
        }
        (meter, String::from_utf8(out).unwrap())
    }

    #[test]
    fn chunks_pass_with_our_ids_and_without_usage() {
        let (meter, out) = stream(&[
            r#"{"id":"x","object":"chat.completion.chunk","created":5,"model":"up","system_fingerprint":null,"choices":[{"index":0,"delta":{"role":"assistant","content":"Hel\"lo"}}],"usage":null}"#,
            r#"{"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#,
            r#"{"id":"x","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#,
            "[DONE]",
        ]);
        let expected = concat!(
            r#"data: {"id":"gen-1","provider":"P","model":"a/b","object":"chat.completion.chunk","created":5,"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":"Hel\"lo"}}]}"#,
            "\n\n",
            r#"data: {"id":"gen-1","provider":"P","model":"a/b","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            "\n\n",
        );
        assert_eq!(out, expected);
        let tokens = TokenUsage { prompt: 3, completion: 2, ..TokenUsage::default() };
        assert_eq!(meter.reported, Some(Reported::Tokens(tokens)));
        assert_eq!((meter.done, meter.chunks, meter.created), (true, 1, Some(5)));
        assert_eq!(meter.finish_reason.as_deref(), Some("stop"));
    }

    #[test]
    fn an_object_that_cannot_be_read_is_not_passed_on_and_other_text_is() {
        let deep = format!("{{\"usage\":{{\"prompt_tokens\":3}},\"x\":{}{}}}", "[".repeat(70), "]".repeat(70));
        for object in [&deep, " {\"usage\":{\"prompt_tok", "{\"usage\":{},\"\\ud800\":1}"] {
            let (meter, out) = stream(&[object]);
            assert_eq!((meter.unreadable, out.as_str()), (true, ""), "{object}");
            assert_eq!(meter.output_bytes, len(object.len()), "it is part of an estimate");
        }
        let (meter, out) = stream(&["hello", "5"]);
        assert_eq!((meter.unreadable, out.as_str()), (false, "data: hello\n\ndata: 5\n\n"));
    }

    #[test]
    fn whatever_clients_take_for_the_end_is_the_end() {
        for end in ["[DONE]", " [DONE]", "[DONE] ", "[DONE]x"] {
            let (meter, out) = stream(&[end]);
            assert_eq!((meter.done, out.as_str()), (true, ""), "{end}");
        }
    }

    #[test]
    fn an_error_in_a_stream_is_not_passed_on() {
        let (meter, out) = stream(&[r#"{"error":{"message":"secret detail","code":500}}"#]);
        assert!(meter.failed);
        assert_eq!(out, "");
    }

    #[test]
    fn a_result_gets_our_ids_usage_and_a_fingerprint() {
        let data = br#"{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"function_call"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
        let mut meter = Meter::default();
        meter.answer(data).unwrap();
        let out = meter.result(data, &Heading::new("gen-1", "P", "a/b"), Some("{}"));
        let expected = r#"{"id":"gen-1","provider":"P","model":"a/b","object":"chat.completion","created":1,"choices":[{"native_finish_reason":"function_call","index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"tool_calls"}],"system_fingerprint":null,"usage":{}}"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(meter.finish_reason.as_deref(), Some("tool_calls"));
    }
}
