//! Content filters on a call: what it says is read as people would read it, and written anew where it is redacted.

use std::borrow::Cow;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tollgate_domain::GenerationId;
use tollgate_domain::filter::{Blocked, FilterAction, Judgement, Note, Redaction, Text};
use tollgate_domain::guardrail::Reach;
use tollgate_store::StoreError;

use crate::error::ChatError;
use crate::request::{Invalid, Place, push_json_string, texts};

/// Bodies from here on are read away from the runtime's threads, which others wait for.
const LONG: usize = 16 << 10;

/// How many of them are read at a time: others need the machine, too.
static READERS: Semaphore = Semaphore::const_new(2);

/// A call that may go on.
#[derive(Debug)]
pub struct Filtered {
    /// Its body, where something in it was replaced.
    pub body: Option<Bytes>,
    /// What is noted of it.
    pub notes: Vec<Note>,
}

/// Reads a call through all filters.
///
/// # Errors
/// [`ChatError::Blocked`].
pub async fn apply(body: &Bytes, reach: &Reach, request_id: &str) -> Result<Filtered, ChatError> {
    let judged = if body.len() < LONG {
        judge(body, reach)
    } else {
        // Never closed.
        let _reader = READERS.acquire().await.ok();
        let (body, reach) = (body.clone(), reach.clone());
        let judging = tokio::task::spawn_blocking(move || judge(&body, &reach)).await;
        judging.map_err(|_| StoreError::Unavailable("the content filters stopped before they were done".to_owned()))?
    };
    if let Err(ChatError::Blocked(Blocked { patterns, guardrails, .. })) = &judged {
        tracing::info!(request.id = request_id, ?guardrails, ?patterns, "a content filter blocked a call");
    }
    judged
}

/// Reads a call through all filters, on this thread.
///
/// # Errors
/// [`ChatError::Blocked`].
pub fn judge(body: &[u8], reach: &Reach) -> Result<Filtered, ChatError> {
    let places = texts(body).map_err(Invalid::from)?;
    let read = places.iter().map(|place| Text { text: Cow::Borrowed(&place.text), from_user: place.from_user });
    match reach.judge(&read.collect::<Vec<_>>()) {
        Judgement::Blocked(blocked) => Err(ChatError::Blocked(blocked)),
        Judgement::Passed { redactions, notes } => {
            let body = (!redactions.is_empty()).then(|| rewritten(body, &places, &redactions));
            Ok(Filtered { body, notes })
        }
    }
}

/// The body with `redactions` made: each text that has one is written anew, and all else is as it came.
fn rewritten(body: &[u8], places: &[Place<'_>], redactions: &[Redaction]) -> Bytes {
    let mut out = Vec::with_capacity(body.len());
    let mut copied = 0;
    for group in redactions.chunk_by(|one, next| one.text == next.text) {
        let Some(place) = group.first().and_then(|redaction| places.get(redaction.text)) else { continue };
        out.extend_from_slice(body.get(copied..place.span.start).unwrap_or_default());
        push_json_string(&mut out, &redacted(&place.text, group));
        copied = place.span.end;
    }
    out.extend_from_slice(body.get(copied..).unwrap_or_default());
    Bytes::from(out)
}

fn redacted(text: &str, redactions: &[Redaction]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for redaction in redactions {
        out.push_str(text.get(copied..redaction.range.start).unwrap_or_default());
        out.push_str(&redaction.placeholder);
        copied = redaction.range.end;
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    out
}

/// Tells the log what was found in a call that goes on: by labels, and never what it was.
pub fn log(notes: &[Note], request_id: &str, generation: &GenerationId) {
    for Note { guardrail, action, label } in notes {
        let done = match action {
            FilterAction::Flag => "flagged",
            FilterAction::Redact => "redacted",
            FilterAction::Block => "blocked",
        };
        tracing::info!(request.id = request_id, generation.id = %generation, guardrail.id = %guardrail, filter.label = label, "a content filter {done} a call");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tollgate_domain::Timestamp;
    use tollgate_domain::filter::{ContentFilter, Pattern};
    use tollgate_domain::guardrail::{Guardrail, GuardrailId, GuardrailRules};
    use tollgate_domain::workspace::WorkspaceId;

    use super::*;

    fn reach(filters: &[(&str, FilterAction, Option<&str>)]) -> Reach {
        let filter = |(pattern, action, label): &(&str, FilterAction, Option<&str>)| ContentFilter {
            pattern: Pattern::parse(pattern).unwrap(),
            action: *action,
            label: label.map(str::to_owned),
        };
        let content_filters = filters.iter().map(filter).collect();
        let guardrail = Guardrail {
            id: GuardrailId(1),
            uuid: uuid::Uuid::nil(),
            workspace: WorkspaceId(1),
            rules: GuardrailRules { content_filters, ..GuardrailRules::default() },
            created_at: Timestamp::default(),
            updated_at: None,
        };
        Reach::of([&Arc::new(guardrail)].into_iter(), None).unwrap()
    }

    #[test]
    fn what_is_not_redacted_stays_byte_for_byte() {
        let body = br#"{ "messages" :[{"role":"user","content": "a \u0073ecret \"x\" \ud83d\ude00\n"},{"content":"no \/ thing"}],"t":0.50 }"#;
        let redact = [("secret", FilterAction::Redact, None), ("cret .", FilterAction::Redact, Some("Q\"\\"))];
        let filtered = judge(body, &reach(&redact)).unwrap();
        assert_eq!(
            std::str::from_utf8(&filtered.body.unwrap()).unwrap(),
            r#"{ "messages" :[{"role":"user","content": "a [REDACTED]x\" 😀\n"},{"content":"no \/ thing"}],"t":0.50 }"#,
            "what overlaps is replaced by what began first"
        );
        let label = judge(body, &reach(&redact[1..])).unwrap().body.unwrap();
        let label: Value = serde_json::from_slice(&label).unwrap();
        assert_eq!(label["messages"][0]["content"], "a se[Q\"\\]x\" 😀\n");
        assert!(judge(body, &reach(&[("absent", FilterAction::Redact, None)])).unwrap().body.is_none());
    }

    #[test]
    fn a_call_that_cannot_be_redacted_within_its_limits_is_blocked() {
        let body = json!({"messages": [{"role": "user", "content": "a".repeat(200_000)}]}).to_string();
        let Err(ChatError::Blocked(blocked)) = judge(body.as_bytes(), &reach(&[("a", FilterAction::Redact, None)]))
        else {
            panic!("it passed");
        };
        assert!(blocked.too_much);
    }

    /// Any JSON with text in it.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            "[a-c\"\\\\\n é😀\u{1}]{0,12}".prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            Just(Value::Null)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("(text|content|role|type|data|k)", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// What redaction should make of a value: the plain way, on the value itself.
    fn replaced(value: &Value) -> Value {
        match value {
            Value::String(text) => Value::from(text.replace("ab", "[\"R\\]")),
            Value::Array(items) => items.iter().map(replaced).collect(),
            Value::Object(members) => {
                let text = |name: &str| !["type", "data"].contains(&name);
                let each = |(name, value): (&String, &Value)| {
                    let kept = !text(name) || (name == "role" && value.is_string());
                    (name.clone(), if kept { value.clone() } else { replaced(value) })
                };
                Value::Object(members.iter().map(each).collect())
            }
            other => other.clone(),
        }
    }

    proptest! {
        /// Redaction leaves JSON that is the same but for what matched, however it was escaped.
        #[test]
        fn redaction_changes_what_matched_and_nothing_else(
            messages in prop::collection::vec(value(), 0..4),
            other in value(),
            escape in any::<bool>(),
        ) {
            let body = json!({"messages": messages, "temperature": other});
            let mut written = body.to_string();
            if escape {
                written = written.replace('é', "\\u00e9").replace('😀', "\\ud83d\\ude00").replace('a', "\\u0061");
            }
            let parsed: Value = serde_json::from_str(&written).unwrap();
            let filtered = judge(written.as_bytes(), &reach(&[("ab", FilterAction::Redact, Some("[\"R\\]"))])).unwrap();
            let after: Value = filtered.body.map_or(parsed.clone(), |body| serde_json::from_slice(&body).unwrap());
            let expected: Vec<Value> = messages.iter().map(replaced).collect();
            prop_assert_eq!(&after["messages"], &Value::from(expected));
            prop_assert_eq!(&after["temperature"], &parsed["temperature"]);
        }
    }
}
