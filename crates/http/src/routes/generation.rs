//! `GET /api/v1/generation?id=` (contract section 12).

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_domain::ledger::Amounts;
use tollgate_store::Credential;
use tollgate_wire::{Adjust, Adjusted, Data, Generation, GenerationParams};

use crate::convert;
use crate::error::ApiError;
use crate::extract::{AnyKey, Json, Manager, QueryPairs};
use crate::router::Api;
use crate::routes::{Answer, json};

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
    if matches!(&credential, Credential::Inference(key) if key.id != record.spender.key) {
        return Err(ApiError::forbidden("This generation belongs to another key"));
    }
    if let Credential::Management(key) = &credential
        && key.powers.workspace.is_some_and(|own| own != record.spender.workspace)
    {
        return Err(ApiError::forbidden("This generation belongs to another workspace"));
    }
    Ok(json(StatusCode::OK, &Data { data: convert::generation::generation(record) }))
}

/// Corrects what a generation was charged; never refused for a limit. Ours.
#[utoipa::path(
    post,
    path = "/api/v1/generation/adjust",
    operation_id = "adjustGeneration",
    tag = "Account",
    request_body = Adjust,
    responses(
        (status = 200, body = Data<Adjusted>),
        (status = 404, description = "No such generation, or it is in flight"),
    ),
    security(("management_key" = [])),
)]
pub async fn adjust(State(api): State<Api>, manager: Manager, Json(body): Json<Adjust>) -> Result<Answer, ApiError> {
    let adjustment = convert::audit::adjustment(body)?;
    let id = adjustment.generation.clone();
    let answer =
        move |charge: &Amounts| Answer::new(StatusCode::OK, &Data { data: convert::audit::adjusted(&id, charge) });
    let charge = api.app().adjust(adjustment, manager.act(answer.clone())).await?;
    Ok(answer(&charge))
}
