//! The models that can be called, each with its endpoints in the order of the configuration.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tollgate_domain::model::Endpoint;
use tollgate_domain::pricing::PriceList;
use tollgate_store::PricedEndpoint;

/// A model and who serves it.
#[derive(Clone, Debug)]
pub struct Model {
    /// The public id.
    pub id: String,
    /// Its endpoints, first choice first. Never empty.
    pub endpoints: Vec<Arc<PricedEndpoint>>,
}

/// An endpoint with a price, which is what makes it callable.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The endpoint.
    pub endpoint: &'a Endpoint,
    /// Its price.
    pub prices: &'a PriceList,
}

/// All models.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    models: Vec<Model>,
    by_id: HashMap<String, usize>,
}

impl Model {
    /// Who can be called for it, first choice first. Empty where nobody named a price.
    pub fn offers(&self) -> impl Iterator<Item = Offer<'_>> {
        self.endpoints.iter().filter_map(|priced| {
            let endpoint = &priced.endpoint;
            endpoint.prices.as_ref().map(|prices| Offer { endpoint, prices })
        })
    }

    /// Who made it, if the id says so.
    pub fn author(&self) -> Option<&str> {
        self.id.split_once('/').map(|(author, _)| author)
    }
}

impl Offer<'_> {
    /// What comes out.
    pub const OUTPUT_MODALITIES: &'static [&'static str] = &["text"];
    /// Parameters that every provider is expected to understand.
    pub const PARAMETERS: &'static [&'static str] = &[
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

    /// What goes in: images where it is known how many tokens one costs.
    pub const fn input_modalities(self) -> &'static [&'static str] {
        if self.endpoint.max_image_tokens.is_some() { &["text", "image"] } else { &["text"] }
    }
}

impl Catalogue {
    /// Groups endpoints by model, keeping their order.
    pub fn new(endpoints: Vec<PricedEndpoint>) -> Self {
        let mut catalogue = Self::default();
        for priced in endpoints {
            let id = priced.endpoint.model.clone();
            let priced = Arc::new(priced);
            if let Some(model) = catalogue.by_id.get(&id).and_then(|index| catalogue.models.get_mut(*index)) {
                model.endpoints.push(priced);
            } else {
                catalogue.by_id.insert(id.clone(), catalogue.models.len());
                catalogue.models.push(Model { id, endpoints: vec![priced] });
            }
        }
        catalogue
    }

    /// All models, in the order of the configuration.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The model with this id.
    pub fn model(&self, id: &str) -> Option<&Model> {
        self.by_id.get(id).and_then(|index| self.models.get(*index))
    }

    /// The providers that can be called for some model, each once, in the order of the configuration.
    pub fn providers(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        let slugs = self.models.iter().flat_map(Model::offers).map(|offer| offer.endpoint.provider.as_str());
        slugs.filter(|slug| seen.insert(*slug)).collect()
    }
}
