//! A body that is accepted is JSON that everybody reads alike. What goes to the provider carries our model and our cap, and
//! is the caller's words otherwise; what it costs is bounded; what filters redact leaves everything else as it was.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use tollgate_domain::filter::{Builtin, BuiltinFilter, ContentFilter, FilterAction, Pattern};
use tollgate_domain::guardrail::{Declared, Guardrail, GuardrailId, GuardrailRules, Reach};
use tollgate_domain::model::Endpoint;
use tollgate_domain::pricing::PriceList;
use tollgate_domain::usage::TokenUsage;
use tollgate_domain::workspace::WorkspaceId;
use tollgate_domain::{Price, Timestamp};
use tollgate_gateway::fuzzing::{Bounded, ChatRequest, bound, judge, texts};
use tollgate_gateway::{Invalid, Limits, MalformedReason, OutputCapField, Provider, ProviderKind, ProviderSettings};

use uuid::Uuid;

use super::json::{self, Opinion};

/// A model's name at its provider, with what JSON must escape.
const UPSTREAM: &str = "up\"stream\\1";
/// A cap that is granted where none is asked for.
const GRANTED: u64 = 257;
/// Members that are ours, or of no meaning to a provider.
const NOT_PASSED: [&str; 10] = [
    "model",
    "models",
    "provider",
    "route",
    "plugins",
    "usage",
    "max_tokens",
    "max_completion_tokens",
    "preset",
    "stream_options",
];

pub fn holds(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let opinion = json::opinion(data);
    match ChatRequest::parse(body.clone()) {
        Ok(request) => {
            assert_ne!(opinion, Opinion::Unclear, "accepted, and others would read it otherwise");
            assert_eq!(request.body(), &body);
            forwarded(&request);
            bounded(&request);
            filtered(&request);
        }
        Err(invalid) => {
            let ours = match &invalid {
                Invalid::Malformed(malformed) => matches!(malformed.reason, MalformedReason::CaseFolded(..)),
                Invalid::Field { .. } | Invalid::NoInput => true,
            };
            let object = data.trim_ascii_start().first() == Some(&b'{');
            assert!(ours || !object || opinion != Opinion::Clear, "refused as no JSON, and it is: {invalid}");
            assert!(!invalid.to_string().is_empty());
        }
    }
}

/// What goes to the provider.
fn forwarded(request: &ChatRequest) {
    let cap = request.cap.unwrap_or(GRANTED);
    let asked = std::str::from_utf8(request.body()).unwrap();
    let asked = json::members(asked).unwrap();
    for field in [OutputCapField::MaxCompletionTokens, OutputCapField::MaxTokens] {
        let written = request.forwarded(UPSTREAM, field.as_str(), cap);
        assert_ne!(json::opinion(&written), Opinion::Unclear);
        let text = std::str::from_utf8(&written).unwrap();
        let sent = json::members(text).unwrap();
        let model: String = serde_json::from_str(json::all(&sent, "model")[0]).unwrap();
        assert_eq!(model, UPSTREAM);
        assert_eq!(json::all(&sent, field.as_str()), [cap.to_string()]);
        let others = |members: &[(String, &str)]| -> Vec<(String, String)> {
            let kept = members.iter().filter(|(name, _)| !NOT_PASSED.contains(&name.as_str()));
            kept.map(|(name, value)| (name.clone(), (*value).to_owned())).collect()
        };
        assert_eq!(others(&sent), others(&asked));
        options(request, &asked, &sent);
        again(request, &written, cap);
    }
}

/// `stream_options` goes only with a stream, asks for usage, and is the caller's otherwise.
fn options(request: &ChatRequest, asked: &[(String, &str)], sent: &[(String, &str)]) {
    let sent = json::all(sent, "stream_options");
    assert_eq!(sent.len(), usize::from(request.stream));
    let Some(sent) = sent.first() else { return };
    let mut expected = vec![("include_usage".to_owned(), "true")];
    let asked = json::all(asked, "stream_options");
    let asked = asked.first().and_then(|options| json::members(options)).unwrap_or_default();
    expected.extend(asked.into_iter().filter(|(name, _)| name != "include_usage"));
    assert_eq!(json::members(sent).unwrap(), expected);
}

/// What was written is read as the same call.
fn again(request: &ChatRequest, written: &[u8], cap: u64) {
    let read = ChatRequest::parse(Bytes::copy_from_slice(written)).unwrap();
    assert_eq!(read.models, [UPSTREAM]);
    assert_eq!(read.cap, Some(cap));
    assert_eq!((read.choices, read.stream, &read.session_id), (request.choices, request.stream, &request.session_id));
    let parts = |request: &ChatRequest| {
        let size = request.prompt;
        (size.messages, size.tools, size.images, size.unbounded_parts)
    };
    assert_eq!(parts(&read), parts(request));
    assert!(request.price_field.is_some() || read.price_field.is_none());
    let left = ["model", "models", "provider", "route", "plugins", "usage", "preset"];
    let text = std::str::from_utf8(written).unwrap();
    let kept = json::members(text).unwrap().into_iter().filter(|(name, _)| left.contains(&name.as_str())).count();
    assert_eq!(kept, 1, "only the model's name is left of what is ours");
}

/// No call that fits its bound costs more than it.
fn bounded(request: &ChatRequest) {
    let prices = PriceList {
        prompt: Price::from_picos(150_001),
        completion: Price::from_picos(600_007),
        request: Price::from_picos(11),
        image: Price::from_picos(1_000_003),
        input_cache_read: Some(Price::from_picos(75_000)),
        input_cache_write: Some(Price::from_picos(187_501)),
        internal_reasoning: Some(Price::from_picos(700_001)),
    };
    let endpoint = Endpoint {
        model: "a/b".to_owned(),
        name: "B".to_owned(),
        provider: "p".to_owned(),
        upstream_id: UPSTREAM.to_owned(),
        context_length: 128_000,
        max_output_tokens: 16_384,
        max_image_tokens: request.prompt.messages.is_multiple_of(2).then_some(1_000),
        prices: Some(prices),
    };
    let provider = |kind| {
        let settings = ProviderSettings { slug: "p".to_owned(), kind, declared: Declared::default() };
        Provider::new(settings, Limits::default()).unwrap()
    };
    let base_url = "http://127.0.0.1:1/v1".to_owned();
    let open = ProviderKind::OpenAi { base_url, api_key: None, cap_field: OutputCapField::default() };
    for kind in [ProviderKind::Simulated, open] {
        let Bounded { bound, media, .. } = bound(request, &endpoint, &prices, provider(kind).overhead(), 256);
        assert!(bound.prompt_tokens <= endpoint.context_length);
        assert!(bound.prompt_tokens >= request.prompt.text_bytes.min(endpoint.context_length));
        assert_eq!(bound.open_ended, request.price_field.is_some());
        for cap in [bound.cap.least(), bound.cap.most()] {
            let (prompt, completion) = (bound.prompt_tokens, cap * request.choices);
            for part in [0, 2, 1] {
                let share = |whole: u64| whole.checked_div(part).unwrap_or(0);
                let (cached, reasoning) = (share(prompt), share(completion));
                let cache_write = prompt - cached;
                let tokens = TokenUsage { prompt, completion, cached, cache_write, reasoning, ..TokenUsage::default() };
                if let Ok(most) = bound.at(cap) {
                    assert!(prices.cost(&tokens, media).unwrap().total <= most);
                }
            }
        }
    }
}

/// A key's guardrail that redacts and flags.
static REACH: LazyLock<Reach> = LazyLock::new(|| {
    let own = |pattern: &str, action, label: Option<&str>| ContentFilter {
        pattern: Pattern::parse(pattern).unwrap(),
        action,
        label: label.map(str::to_owned),
    };
    let builtin = |kind, action| BuiltinFilter { kind, action, scan_scope: None };
    let mut builtins: Vec<_> = Builtin::ALL.into_iter().map(|kind| builtin(kind, FilterAction::Redact)).collect();
    builtins.push(builtin(Builtin::PromptInjection, FilterAction::Flag));
    let guardrail = Guardrail {
        id: GuardrailId(1),
        uuid: Uuid::default(),
        workspace: WorkspaceId(1),
        rules: GuardrailRules {
            content_filters: vec![
                own("secret", FilterAction::Redact, None),
                own("cret .|é+", FilterAction::Redact, Some("Q\"\\\n")),
                own("[0-9]{3}", FilterAction::Flag, None),
            ],
            content_filter_builtins: builtins,
            ..GuardrailRules::default()
        },
        created_at: Timestamp::default(),
        updated_at: None,
    };
    Reach::of([&Arc::new(guardrail)].into_iter(), None).unwrap()
});

/// What filters read is what the caller said, and what they redact leaves all else as it came.
fn filtered(request: &ChatRequest) {
    let body = request.body();
    let places = texts(body).unwrap();
    let mut end = 0;
    for place in &places {
        assert!(place.span.start >= end, "texts lie behind each other");
        end = place.span.end;
        let said: String = serde_json::from_slice(&body[place.span.clone()]).unwrap();
        assert_eq!(said, place.text);
    }
    let Ok(judged) = judge(body, &REACH) else { return };
    let Some(rewritten) = judged.body else { return };
    assert_ne!(json::opinion(&rewritten), Opinion::Unclear);
    let read = ChatRequest::parse(rewritten.clone()).unwrap();
    assert_eq!((&read.models, read.cap, read.stream), (&request.models, request.cap, request.stream));
    assert_eq!((&read.price_field, &read.routing), (&request.price_field, &request.routing));
    let after = texts(&rewritten).unwrap();
    assert_eq!(after.len(), places.len());
    // Between the texts, not a byte is another.
    let (mut old, mut new) = (0, 0);
    for (before, after) in places.iter().zip(&after) {
        assert_eq!(body[old..before.span.start], rewritten[new..after.span.start]);
        assert_eq!(before.from_user, after.from_user);
        (old, new) = (before.span.end, after.span.end);
    }
    assert_eq!(body[old..], rewritten[new..]);
}
