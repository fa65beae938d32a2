//! `GET /health`: the process lives. `GET /ready`: the ledger can be written to.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_wire::Health;

use crate::error::ApiError;
use crate::router::Api;
use crate::routes::json;

/// Says that the process lives.
#[utoipa::path(
    get,
    path = "/health",
    operation_id = "getHealth",
    tag = "Server",
    responses((status = 200, body = Health)),
)]
pub async fn health() -> Response {
    json(StatusCode::OK, &Health { status: "ok".to_owned() })
}

/// Says whether calls are admitted.
#[utoipa::path(
    get,
    path = "/ready",
    operation_id = "getReady",
    tag = "Server",
    responses(
        (status = 200, body = Health),
        (status = 503, description = "The ledger cannot be written to"),
    ),
)]
pub async fn ready(State(api): State<Api>) -> Result<Response, ApiError> {
    api.app().store().ready().await?;
    Ok(json(StatusCode::OK, &Health { status: "ready".to_owned() }))
}
