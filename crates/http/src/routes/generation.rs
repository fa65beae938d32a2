//! `GET /api/v1/generation?id=` (contract section 12).

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_store::Credential;
use tollgate_wire::{Data, Generation, GenerationParams};

use crate::convert;
use crate::error::ApiError;
use crate::extract::{AnyKey, QueryPairs};
use crate::router::Api;
use crate::routes::json;

/// Shows one generation, at once after its answer. An inference key sees only its own.
#[utoipa::path(
    get,
    path = "/api/v1/generation",
    operation_id = "getGeneration",
    tag = "Account",
    params(GenerationParams),
    responses(
        (status = 200, body = Data<Generation>),
        (status = 403, description = "The generation belongs to another key"),
        (status = 404, description = "No such generation"),
    ),
    security(("management_key" = []), ("inference_key" = [])),
)]
pub async fn get(State(api): State<Api>, AnyKey(credential): AnyKey, query: QueryPairs) -> Result<Response, ApiError> {
    let id = query.text("id").ok_or_else(|| ApiError::bad_request("`id` is required"))?;
    let record = api.app().store().generation(id).await?;
    let record = record.ok_or_else(|| ApiError::not_found("Generation not found"))?;
    if matches!(&credential, Credential::Inference(key) if key.id != record.key) {
        return Err(ApiError::forbidden("This generation belongs to another key"));
    }
    Ok(json(StatusCode::OK, &Data { data: convert::generation::generation(record) }))
}
