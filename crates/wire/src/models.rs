//! `GET /models` (contract section 13).

use serde::{Deserialize, Serialize};

/// A page of models.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModelList {
    /// The models.
    pub data: Vec<Model>,
    /// How many there are in all.
    pub total_count: usize,
    /// Where the next page is.
    pub links: PageLinks,
}

/// Links between pages.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PageLinks {
    /// A relative URL, or null on the last page.
    pub next: Option<String>,
}

/// `GET /models/count`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ModelsCount {
    /// How many models there are.
    pub count: usize,
}

/// A model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Model {
    /// `author/slug`.
    pub id: String,
    /// The same: there are no aliases.
    pub canonical_slug: String,
    /// The name people see.
    pub name: String,
    /// When this server learnt of it, in unix seconds.
    pub created: i64,
    /// The most tokens of prompt and completion together.
    pub context_length: Option<u64>,
    /// What goes in and comes out.
    pub architecture: Architecture,
    /// What it costs at its first provider.
    pub pricing: Pricing,
    /// Its first provider.
    pub top_provider: TopProvider,
    /// Always null.
    pub per_request_limits: Option<()>,
    /// Parameters known to be understood.
    pub supported_parameters: Vec<String>,
    /// Always null.
    pub default_parameters: Option<()>,
    /// Always null.
    pub supported_voices: Option<Vec<String>>,
    /// Where more stands.
    pub links: ModelLinks,
}

/// What goes in and comes out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Architecture {
    /// `text`, `image`, …
    pub input_modalities: Vec<String>,
    /// `text`, …
    pub output_modalities: Vec<String>,
    /// `text->text`
    pub modality: Option<String>,
}

/// Prices as decimal strings in USD per unit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pricing {
    /// Per prompt token.
    pub prompt: String,
    /// Per completion token.
    pub completion: String,
    /// Per request.
    pub request: String,
    /// Per image.
    pub image: String,
    /// Per cached prompt token, where it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_cache_read: Option<String>,
    /// Per prompt token written to a cache, where it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_cache_write: Option<String>,
    /// Per reasoning token, where it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_reasoning: Option<String>,
}

/// The first provider of a model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TopProvider {
    /// Whether prompts are moderated here; never.
    pub is_moderated: bool,
    /// The most tokens of prompt and completion together.
    pub context_length: Option<u64>,
    /// The most completion tokens.
    pub max_completion_tokens: Option<u64>,
}

/// Where more stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModelLinks {
    /// The path of the endpoints of the model.
    pub details: String,
}
