//! `GET /api/v1/key`, and its older name `GET /api/v1/auth/key` (contract section 4).

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_wire::Data;

use crate::convert;
use crate::error::ApiError;
use crate::extract::AnyKey;
use crate::router::Api;
use crate::routes::json;

/// Shows the key that asks, with every budget that applies to it.
pub async fn get(State(api): State<Api>, AnyKey(credential): AnyKey) -> Result<Response, ApiError> {
    let current = api.app().current_key(credential).await?.ok_or_else(ApiError::unknown_credential)?;
    Ok(json(StatusCode::OK, &Data { data: convert::keys::current_key(current) }))
}
