//! Models.

use tollgate_app::Model as Offered;
use tollgate_domain::pricing::PriceList;
use tollgate_domain::{Price, Timestamp};
use tollgate_wire::{Architecture, Model, ModelLinks, Pricing, TopProvider};

/// Parameters that every provider of kind `openai` is expected to understand.
const PARAMETERS: [&str; 10] = [
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "stop",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "tools",
    "tool_choice",
];

/// A model at its first endpoint that has a price; `None` where nobody can call it.
pub fn model(offered: &Offered, learnt_at: Timestamp) -> Option<Model> {
    let priced = offered.endpoints.iter().find(|priced| priced.endpoint.prices.is_some())?;
    let endpoint = &priced.endpoint;
    let mut inputs = vec!["text".to_owned()];
    if endpoint.max_image_tokens.is_some() {
        inputs.push("image".to_owned());
    }
    Some(Model {
        id: offered.id.clone(),
        canonical_slug: offered.id.clone(),
        name: endpoint.name.clone(),
        created: learnt_at.seconds(),
        context_length: Some(endpoint.context_length),
        architecture: Architecture {
            modality: Some(format!("{}->text", inputs.join("+"))),
            input_modalities: inputs,
            output_modalities: vec!["text".to_owned()],
        },
        pricing: pricing(&endpoint.prices.unwrap_or_default()),
        top_provider: TopProvider {
            is_moderated: false,
            context_length: Some(endpoint.context_length),
            max_completion_tokens: Some(endpoint.max_output_tokens),
        },
        per_request_limits: None,
        supported_parameters: PARAMETERS.map(str::to_owned).to_vec(),
        default_parameters: None,
        supported_voices: None,
        links: ModelLinks { details: format!("/api/v1/models/{}/endpoints", offered.id) },
    })
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
