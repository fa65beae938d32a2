//! The models that can be called, each with its endpoints in the order of the configuration.

use std::collections::HashMap;
use std::sync::Arc;

use tollgate_store::PricedEndpoint;

/// A model and who serves it.
#[derive(Clone, Debug)]
pub struct Model {
    /// The public id.
    pub id: String,
    /// Its endpoints, first choice first. Never empty.
    pub endpoints: Vec<Arc<PricedEndpoint>>,
}

/// All models.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    models: Vec<Model>,
    by_id: HashMap<String, usize>,
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
}
