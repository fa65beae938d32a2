//! `GET /api/v1/models` and `/models/count` (contract section 13).

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_wire::{Data, Model, ModelList, ModelsCount, PageLinks};

use crate::convert;
use crate::error::ApiError;
use crate::extract::QueryPairs;
use crate::router::Api;
use crate::routes::json;

/// Models on a page where a page is asked for.
const PAGE: u64 = 500;
/// Models on a page at the most.
const PAGE_MAX: u64 = 1_000;

/// Lists the models that can be called; all of them unless a page is asked for.
pub async fn list(State(api): State<Api>, query: QueryPairs) -> Result<Response, ApiError> {
    let (offset, limit) = (query.count("offset")?, query.count("limit")?);
    let models = callable(&api);
    let total_count = models.len();
    let (data, next) = if offset.is_none() && limit.is_none() {
        (models, None)
    } else {
        let (offset, limit) = (offset.unwrap_or(0), limit.unwrap_or(PAGE).clamp(1, PAGE_MAX));
        let end = offset.saturating_add(limit);
        let more = end < u64::try_from(total_count).unwrap_or(u64::MAX);
        let next = more.then(|| format!("/api/v1/models?offset={end}&limit={limit}"));
        let index = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        (models.into_iter().skip(index(offset)).take(index(limit)).collect(), next)
    };
    Ok(json(StatusCode::OK, &ModelList { data, total_count, links: PageLinks { next } }))
}

/// Counts the models that can be called.
pub async fn count(State(api): State<Api>) -> Response {
    json(StatusCode::OK, &Data { data: ModelsCount { count: callable(&api).len() } })
}

fn callable(api: &Api) -> Vec<Model> {
    let learnt_at = api.app().started_at();
    api.app().catalogue().models().iter().filter_map(|model| convert::models::model(model, learnt_at)).collect()
}
