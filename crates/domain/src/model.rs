//! Models and who serves them at which price.

use crate::pricing::PriceList;

/// The row number of one version of an endpoint's price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PriceVersion(pub i64);

/// A provider's offer of a model: what a call is sent to, and what it costs there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The public id of the model, `author/slug`.
    pub model: String,
    /// The name people see.
    pub name: String,
    /// The slug of the provider in the configuration.
    pub provider: String,
    /// The provider's own name of the model.
    pub upstream_id: String,
    /// The most tokens of prompt and completion together.
    pub context_length: u64,
    /// The most completion tokens.
    pub max_output_tokens: u64,
    /// The most tokens that one image costs, if the provider says.
    pub max_image_tokens: Option<u64>,
    /// What it costs; `None` means that nobody may call it.
    pub prices: Option<PriceList>,
}
