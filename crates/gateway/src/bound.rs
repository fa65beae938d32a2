//! The most that a call can cost (DESIGN section 4, "bound of a request").

use tollgate_domain::model::Endpoint;
use tollgate_domain::pricing::{Bound, MediaUnits, OutputCap, PriceList};

use crate::request::ChatRequest;
use crate::upstream::PromptOverhead;

/// The bound of a call to one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounded {
    /// What it can cost.
    pub bound: Bound,
    /// What is billed besides tokens.
    pub media: MediaUnits,
    /// Tokens that the media count at most.
    pub media_tokens: u64,
}

/// The bound of `request` at an endpoint with `prices`, whose provider adds `extra` to prompts. An open output cap is
/// lowered to `min_output_tokens` at the least.
pub fn bound(
    request: &ChatRequest,
    model: &Endpoint,
    prices: &PriceList,
    extra: PromptOverhead,
    min_output_tokens: u64,
) -> Bounded {
    let size = request.prompt;
    let media = MediaUnits { images: size.images };
    let images = match model.max_image_tokens {
        Some(tokens) => size.images.saturating_mul(tokens),
        None if size.images > 0 => model.context_length,
        None => 0,
    };
    let media_tokens = images.saturating_add(if size.unbounded_parts > 0 { model.context_length } else { 0 });
    let counted = [
        size.text_bytes,
        extra.request,
        size.messages.saturating_mul(extra.message),
        size.tools.saturating_mul(extra.tool),
        media_tokens,
    ]
    .into_iter()
    .fold(0_u64, u64::saturating_add);
    let cap = match request.cap {
        Some(cap) => OutputCap::Asked(cap),
        None => OutputCap::Open { most: model.max_output_tokens, least: min_output_tokens },
    };
    let bound = Bound::new(prices, counted.min(model.context_length), media, request.choices, cap);
    Bounded { bound: Bound { open_ended: request.price_field.is_some(), ..bound }, media, media_tokens }
}
