//! `GET /api/v1/models` and what is below it, and `/api/v1/model` (contract section 13).

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_app::Selection;
use tollgate_domain::guardrail::Reach;
use tollgate_store::Credential;
use tollgate_wire::{Data, Model, ModelEndpoints, ModelList, ModelPageParams, ModelParams, ModelsCount, PageLinks};

use crate::convert;
use crate::error::ApiError;
use crate::extract::{AnyKey, Path, QueryPairs};
use crate::router::Api;
use crate::routes::json;

/// Models on a page where a page is asked for.
const PAGE: u64 = 500;
/// Models on a page at the most.
const PAGE_MAX: u64 = 1_000;

/// Lists the models that can be called and have what is asked; all of them unless a page is asked for.
#[utoipa::path(
    get,
    path = "/api/v1/models",
    operation_id = "listModels",
    tag = "Models",
    params(ModelParams, ModelPageParams),
    responses((status = 200, body = ModelList)),
)]
pub async fn list(State(api): State<Api>, query: QueryPairs) -> Result<Response, ApiError> {
    page(&api, "/models", &convert::models::selection(&query)?, None, &query)
}

/// Lists the models that the key can call: what its guardrails leave.
#[utoipa::path(
    get,
    path = "/api/v1/models/user",
    operation_id = "listModelsOfKey",
    tag = "Models",
    params(ModelPageParams),
    responses((status = 200, body = ModelList)),
    security(("management_key" = []), ("inference_key" = [])),
)]
pub async fn user(State(api): State<Api>, AnyKey(who): AnyKey, query: QueryPairs) -> Result<Response, ApiError> {
    let reach = match &who {
        Credential::Inference(key) => key.reach.as_ref(),
        Credential::Management(_) => None,
    };
    page(&api, "/models/user", &Selection::default(), reach, &query)
}

/// Counts the models that can be called and have what is asked.
#[utoipa::path(
    get,
    path = "/api/v1/models/count",
    operation_id = "countModels",
    tag = "Models",
    params(ModelParams),
    responses((status = 200, body = Data<ModelsCount>)),
)]
pub async fn count(State(api): State<Api>, query: QueryPairs) -> Result<Response, ApiError> {
    let selection = convert::models::selection(&query)?;
    let count = selection.of(api.app().catalogue().models()).len();
    Ok(json(StatusCode::OK, &Data { data: ModelsCount { count } }))
}

/// Shows one model, by its whole id. A `:free` at its end is a part of it.
#[utoipa::path(
    get,
    path = "/api/v1/model/{author}/{slug}",
    operation_id = "getModel",
    tag = "Models",
    params(
        ("author" = String, Path, description = "The author, the first part of the id of the model"),
        ("slug" = String, Path, description = "The rest of the id, a suffix such as `:free` included"),
    ),
    responses((status = 200, body = Data<Model>)),
)]
pub async fn get(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let catalogue = api.app().catalogue();
    let found = catalogue.model(&id).and_then(|model| model.offers().next().map(|offer| (model, offer)));
    let (model, offer) = found.ok_or_else(not_found)?;
    Ok(json(StatusCode::OK, &Data { data: convert::models::model(model, offer, api.app().started_at()) }))
}

/// Lists everyone who can be called for a model, first choice first.
#[utoipa::path(
    get,
    path = "/api/v1/models/{author}/{slug}/endpoints",
    operation_id = "listEndpoints",
    tag = "Models",
    params(
        ("author" = String, Path, description = "The author, the first part of the id of the model"),
        ("slug" = String, Path, description = "The rest of the id, a suffix such as `:free` included"),
    ),
    responses((status = 200, body = Data<ModelEndpoints>)),
)]
pub async fn endpoints(State(api): State<Api>, Path(path): Path<String>) -> Result<Response, ApiError> {
    let id = path.strip_suffix("/endpoints").ok_or_else(|| ApiError::not_found("Resource not found"))?;
    let catalogue = api.app().catalogue();
    let found = catalogue.model(id).and_then(|model| convert::models::endpoints(model, api.app().started_at()));
    Ok(json(StatusCode::OK, &Data { data: found.ok_or_else(not_found)? }))
}

fn page(
    api: &Api,
    path: &str,
    selection: &Selection,
    reach: Option<&Reach>,
    query: &QueryPairs,
) -> Result<Response, ApiError> {
    let (offset, limit) = (query.count("offset")?, query.count("limit")?);
    let (catalogue, learnt_at) = (api.app().catalogue(), api.app().started_at());
    let mut chosen = selection.of(catalogue.models());
    chosen.retain(|(model, _)| {
        let left = |reach: &Reach| {
            let may_answer =
                |provider: &str| reach.provider(provider) && reach.data(&model.id, api.app().declared(provider));
            reach.model(&model.id) && model.offers().any(|offer| may_answer(&offer.endpoint.provider))
        };
        reach.is_none_or(left)
    });
    let total_count = chosen.len();
    let models = chosen.into_iter().map(|(model, offer)| convert::models::model(model, offer, learnt_at));
    let (data, next): (Vec<Model>, _) = if offset.is_none() && limit.is_none() {
        (models.collect(), None)
    } else {
        let (offset, limit) = (offset.unwrap_or(0), limit.unwrap_or(PAGE).clamp(1, PAGE_MAX));
        let end = offset.saturating_add(limit);
        let more = end < u64::try_from(total_count).unwrap_or(u64::MAX);
        let rest = query.without(&["offset", "limit"]);
        let rest = if rest.is_empty() { rest } else { rest + "&" };
        let next = more.then(|| format!("/api/v1{path}?{rest}offset={end}&limit={limit}"));
        let index = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        (models.skip(index(offset)).take(index(limit)).collect(), next)
    };
    Ok(json(StatusCode::OK, &ModelList { data, total_count, links: PageLinks { next } }))
}

fn not_found() -> ApiError {
    ApiError::not_found("Model not found")
}
