//! Models and prices, versioned: a settlement names the price it was computed with for ever.

use async_trait::async_trait;
use tollgate_domain::model::{Endpoint, PriceVersion};

use crate::StoreError;

/// An endpoint at one version of its price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PricedEndpoint {
    /// The version.
    pub version: PriceVersion,
    /// The endpoint as it was at that version.
    pub endpoint: Endpoint,
}

/// The catalogue, by intent.
#[async_trait]
pub trait CatalogueStore: Send + Sync {
    /// Makes `endpoints` the ones in force, in this order. One that changed, or is new, gets a new version.
    async fn publish(&self, endpoints: Vec<Endpoint>) -> Result<Vec<PricedEndpoint>, StoreError>;
}
