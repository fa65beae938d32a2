//! Models, their endpoints and who serves them (contract section 13).
//!
//! What nobody knows here is null, or false where the contract wants a yes or a no.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A page of models.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PageLinks {
    /// A relative URL, or null on the last page.
    pub next: Option<String>,
}

/// `GET /models/count`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelsCount {
    /// How many models there are.
    pub count: usize,
}

/// A model.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub input_cache_read: Option<String>,
    /// Per prompt token written to a cache, where it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub input_cache_write: Option<String>,
    /// Per reasoning token, where it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub internal_reasoning: Option<String>,
}

/// The first provider of a model.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelLinks {
    /// The path of the endpoints of the model.
    pub details: String,
}

/// `GET /models/{author}/{slug}/endpoints`: a model and everyone who can be called for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelEndpoints {
    /// `author/slug`.
    pub id: String,
    /// The name people see.
    pub name: String,
    /// When this server learnt of it, in unix seconds.
    pub created: i64,
    /// Always empty.
    pub description: String,
    /// What goes in and comes out.
    pub architecture: EndpointsArchitecture,
    /// Who can be called, first choice first.
    pub endpoints: Vec<Endpoint>,
}

/// What goes in and comes out, with two fields that `GET /models` leaves out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EndpointsArchitecture {
    /// What both have.
    #[serde(flatten)]
    pub architecture: Architecture,
    /// Always null.
    pub tokenizer: Option<()>,
    /// Always null.
    pub instruct_type: Option<()>,
}

/// A provider's offer of a model.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Endpoint {
    /// `provider | author/slug`
    pub name: String,
    /// The id of the model.
    pub model_id: String,
    /// The name of the model at this provider.
    pub model_name: String,
    /// The most tokens of prompt and completion together.
    pub context_length: u64,
    /// What it costs here.
    pub pricing: Pricing,
    /// The provider's slug: it has no other name.
    pub provider_name: String,
    /// The provider's slug, as `provider.order` and `provider.only` take it.
    pub tag: String,
    /// Always null.
    pub quantization: Option<()>,
    /// The most completion tokens.
    pub max_completion_tokens: Option<u64>,
    /// Always null: nothing but the context bounds a prompt.
    pub max_prompt_tokens: Option<()>,
    /// Parameters known to be understood.
    pub supported_parameters: Vec<String>,
    /// Always null: nothing is measured.
    pub uptime_last_30m: Option<()>,
    /// Always null: nothing is measured.
    pub uptime_last_5m: Option<()>,
    /// Always null: nothing is measured.
    pub uptime_last_1d: Option<()>,
    /// Always false: not known.
    pub supports_implicit_caching: bool,
    /// Always null: nothing is measured.
    pub latency_last_30m: Option<()>,
    /// Always null: nothing is measured.
    pub throughput_last_30m: Option<()>,
    /// Tools that run at the provider, by their canonical name. Always empty.
    pub native_tools: Map<String, Value>,
    /// Always null: the standard one.
    pub service_tier: Option<()>,
    /// Always false: nothing is transcribed.
    pub supports_diarization: bool,
    /// Which values of `tool_choice` passed a test.
    pub supports_tool_choice: ToolChoiceSupport,
}

/// Which values of `tool_choice` passed a test. Nothing is tested, so all are false; that `tool_choice` is passed on is said
/// by `supported_parameters`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[expect(clippy::struct_excessive_bools, reason = "the contract has four")]
pub struct ToolChoiceSupport {
    /// `auto`
    pub auto: bool,
    /// `none`
    pub none: bool,
    /// `required`
    pub required: bool,
    /// A function by its name.
    pub function: bool,
}

/// A provider, in `GET /providers`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Provider {
    /// The slug: it has no other name.
    pub name: String,
    /// What `provider.order` and `provider.only` take.
    pub slug: String,
    /// Always null.
    pub privacy_policy_url: Option<()>,
    /// Always null.
    pub terms_of_service_url: Option<()>,
    /// Always null.
    pub status_page_url: Option<()>,
    /// Always null.
    pub headquarters: Option<()>,
    /// Always null.
    pub datacenters: Option<()>,
}
