//! `GET /health`: the process lives. `GET /ready`: the ledger can be written to.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::json as value;

use crate::error::ApiError;
use crate::router::Api;
use crate::routes::json;

/// Alive.
pub async fn health() -> Response {
    json(StatusCode::OK, &value!({"status": "ok"}))
}

/// Ready to admit calls.
pub async fn ready(State(api): State<Api>) -> Result<Response, ApiError> {
    api.app().store().ready().await?;
    Ok(json(StatusCode::OK, &value!({"status": "ready"})))
}
