//! Models, their endpoints, and what is asked of them.

use tollgate_app::{Model as Offered, Offer, Order, PriceRange, Selection};
use tollgate_domain::pricing::PriceList;
use tollgate_domain::{Price, Timestamp};
use tollgate_wire::{
    Architecture, Endpoint, EndpointsArchitecture, Model, ModelEndpoints, ModelLinks, Pricing, Provider,
    ToolChoiceSupport, TopProvider,
};

use crate::error::ApiError;
use crate::extract::QueryPairs;

/// Values of `sort` by which nothing is known here to rank models.
const UNRANKED: [&str; 8] = [
    "most-popular",
    "top-weekly",
    "throughput-high-to-low",
    "latency-low-to-high",
    "intelligence-high-to-low",
    "coding-high-to-low",
    "agentic-high-to-low",
    "design-arena-elo-high-to-low",
];

/// What the query string of `GET /models` asks. Parameters that are not read here are ignored.
pub fn selection(query: &QueryPairs) -> Result<Selection, ApiError> {
    let outputs = query.list("output_modalities");
    let output_modalities = match outputs.as_slice() {
        [] => vec!["text".to_owned()],
        words if words.iter().any(|word| word.eq_ignore_ascii_case("all")) => Vec::new(),
        _ => outputs,
    };
    Ok(Selection {
        words: query.text("q").unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
        parameters: query.list("supported_parameters"),
        input_modalities: query.list("input_modalities"),
        output_modalities,
        context_length_min: query.count("context")?.unwrap_or(0),
        prompt_mtok: PriceRange { min: query.price("min_price")?, max: query.price("max_price")? },
        completion_mtok: PriceRange { min: query.price("min_output_price")?, max: query.price("max_output_price")? },
        authors: query.list("model_authors"),
        providers: query.list("providers"),
        order: order(query.text("sort"))?,
    })
}

fn order(sort: Option<&str>) -> Result<Order, ApiError> {
    match sort {
        Some("pricing-low-to-high") => Ok(Order::Cheapest),
        Some("pricing-high-to-low") => Ok(Order::Dearest),
        Some("context-high-to-low") => Ok(Order::LongestContext),
        // All models are as old as the process, so that the newest are in the order of the configuration too.
        None | Some("newest") => Ok(Order::Configured),
        Some(word) if UNRANKED.contains(&word) => Ok(Order::Configured),
        Some(_) => Err(ApiError::bad_request(
            "`sort` must be newest, pricing-low-to-high, pricing-high-to-low or context-high-to-low",
        )),
    }
}

/// A model as its first offer shows it.
pub fn model(offered: &Offered, offer: Offer, learnt_at: Timestamp) -> Model {
    let endpoint = offer.endpoint;
    Model {
        id: offered.id.clone(),
        canonical_slug: offered.id.clone(),
        name: endpoint.name.clone(),
        created: learnt_at.seconds(),
        context_length: Some(endpoint.context_length),
        architecture: architecture(offer),
        pricing: pricing(offer.prices),
        top_provider: TopProvider {
            is_moderated: false,
            context_length: Some(endpoint.context_length),
            max_completion_tokens: Some(endpoint.max_output_tokens),
        },
        per_request_limits: None,
        supported_parameters: owned(Offer::PARAMETERS),
        default_parameters: None,
        supported_voices: None,
        links: ModelLinks { details: format!("/api/v1/models/{}/endpoints", offered.id) },
    }
}

/// A model with everyone who can be called for it; `None` where nobody can.
pub fn endpoints(offered: &Offered, learnt_at: Timestamp) -> Option<ModelEndpoints> {
    let first = offered.offers().next()?;
    Some(ModelEndpoints {
        id: offered.id.clone(),
        name: first.endpoint.name.clone(),
        created: learnt_at.seconds(),
        description: String::new(),
        architecture: EndpointsArchitecture { architecture: architecture(first), tokenizer: None, instruct_type: None },
        endpoints: offered.offers().map(endpoint).collect(),
    })
}

/// A provider, of which nothing is known but its slug.
pub fn provider(slug: &str) -> Provider {
    Provider {
        name: slug.to_owned(),
        slug: slug.to_owned(),
        privacy_policy_url: None,
        terms_of_service_url: None,
        status_page_url: None,
        headquarters: None,
        datacenters: None,
    }
}

fn endpoint(offer: Offer) -> Endpoint {
    let endpoint = offer.endpoint;
    Endpoint {
        name: format!("{} | {}", endpoint.provider, endpoint.model),
        model_id: endpoint.model.clone(),
        model_name: endpoint.name.clone(),
        context_length: endpoint.context_length,
        pricing: pricing(offer.prices),
        provider_name: endpoint.provider.clone(),
        tag: endpoint.provider.clone(),
        quantization: None,
        max_completion_tokens: Some(endpoint.max_output_tokens),
        max_prompt_tokens: None,
        supported_parameters: owned(Offer::PARAMETERS),
        uptime_last_30m: None,
        uptime_last_5m: None,
        uptime_last_1d: None,
        supports_implicit_caching: false,
        latency_last_30m: None,
        throughput_last_30m: None,
        native_tools: serde_json::Map::new(),
        service_tier: None,
        supports_diarization: false,
        supports_tool_choice: ToolChoiceSupport::default(),
    }
}

fn architecture(offer: Offer) -> Architecture {
    let (inputs, outputs) = (offer.input_modalities(), Offer::OUTPUT_MODALITIES);
    Architecture {
        modality: Some(format!("{}->{}", inputs.join("+"), outputs.join("+"))),
        input_modalities: owned(inputs),
        output_modalities: owned(outputs),
    }
}

fn pricing(prices: &PriceList) -> Pricing {
    let optional = |price: Option<Price>| price.map(|price| price.to_string());
    Pricing {
        prompt: prices.prompt.to_string(),
        completion: prices.completion.to_string(),
        request: prices.request.to_string(),
        image: prices.image.to_string(),
        input_cache_read: optional(prices.input_cache_read),
        input_cache_write: optional(prices.input_cache_write),
        internal_reasoning: optional(prices.internal_reasoning),
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
