//! Calls and their answers as the OpenAPI document describes them: the data path reads and writes them as bytes, and passes
//! on what is not named here.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;

use crate::usage::ChatUsage;

/// The body of `POST /chat/completions`. Everything that is not named here goes to the provider as it came.
#[derive(Clone, Debug, ToSchema)]
pub struct ChatRequest {
    /// `author/slug`; the first of `models` where it is absent.
    #[schema(nullable = false)]
    pub model: Option<String>,
    /// More models, tried in this order when the first fails.
    #[schema(nullable = false)]
    pub models: Option<Vec<String>>,
    /// The conversation.
    pub messages: Vec<ChatMessage>,
    /// Whether the answer comes as server-sent events.
    #[schema(nullable = false)]
    pub stream: Option<bool>,
    /// The most completion tokens; what is reserved depends on it.
    #[schema(minimum = 1)]
    pub max_tokens: Option<u64>,
    /// The newer name of the same; a 400 where both are there and differ.
    #[schema(minimum = 1)]
    pub max_completion_tokens: Option<u64>,
    /// How many choices; all of them are billed.
    #[schema(minimum = 1, maximum = 128)]
    pub n: Option<u64>,
    /// Tools that the model may ask for.
    #[schema(nullable = false)]
    pub tools: Option<Vec<BTreeMap<String, Value>>>,
    /// Which providers may answer.
    #[schema(nullable = false)]
    pub provider: Option<ProviderChoice>,
    /// The caller's name for a conversation; kept with the generation.
    #[schema(max_length = 256)]
    pub session_id: Option<String>,
}

/// A part of a conversation.
#[derive(Clone, Debug, ToSchema)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// A text, or a list of parts.
    #[schema(value_type = Option<Value>)]
    pub content: Option<Value>,
}

/// Which providers may answer, by their slugs.
#[derive(Clone, Debug, ToSchema)]
pub struct ProviderChoice {
    /// These first, in this order.
    #[schema(nullable = false)]
    pub order: Option<Vec<String>>,
    /// Only these.
    #[schema(nullable = false)]
    pub only: Option<Vec<String>>,
    /// None of these.
    #[schema(nullable = false)]
    pub ignore: Option<Vec<String>>,
    /// Whether others may be tried when the first fails; default true.
    #[schema(nullable = false)]
    pub allow_fallbacks: Option<bool>,
}

/// The answer to a call that is not streamed. Of a stream, each event is a `chat.completion.chunk` whose choices have a
/// `delta` in the place of `message`; the last one before `[DONE]` has the usage.
#[derive(Clone, Debug, ToSchema)]
pub struct ChatCompletion {
    /// The generation, for `GET /generation`.
    pub id: String,
    /// `chat.completion`
    pub object: String,
    /// Unix seconds.
    pub created: i64,
    /// The model that answered.
    pub model: String,
    /// The provider's slug.
    pub provider: String,
    /// The provider's configuration, in its own words.
    pub system_fingerprint: Option<String>,
    /// The answers.
    pub choices: Vec<ChatChoice>,
    /// What was consumed and charged; absent where it could not be booked yet.
    #[schema(nullable = false)]
    pub usage: Option<ChatUsage>,
}

/// An event of a stream.
#[derive(Clone, Debug, ToSchema)]
pub struct ChatEvent {
    /// A `chat.completion.chunk` as JSON, or `[DONE]`.
    pub data: String,
}

/// One answer.
#[derive(Clone, Debug, ToSchema)]
pub struct ChatChoice {
    /// Which one.
    pub index: u64,
    /// What the model says.
    pub message: ChatMessage,
    /// `stop`, `length`, `tool_calls`, `content_filter` or `error`.
    pub finish_reason: Option<String>,
}
