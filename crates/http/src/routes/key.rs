//! `GET /api/v1/key`, and its older name `GET /api/v1/auth/key` (contract section 4).

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_wire::{CurrentKey, Data};

use crate::convert;
use crate::error::ApiError;
use crate::extract::AnyKey;
use crate::router::Api;
use crate::routes::json;

/// Shows the key that asks, with every budget that applies to it.
#[utoipa::path(
    get,
    path = "/api/v1/key",
    operation_id = "getCurrentKey",
    tag = "Account",
    responses((status = 200, body = Data<CurrentKey>)),
    security(("management_key" = []), ("inference_key" = [])),
)]
pub async fn get(State(api): State<Api>, AnyKey(credential): AnyKey) -> Result<Response, ApiError> {
    let current = api.app().current_key(credential).await?.ok_or_else(ApiError::unknown_credential)?;
    Ok(json(StatusCode::OK, &Data { data: convert::keys::current_key(current) }))
}

/// Shows the key that asks. An older name of `GET /key`.
#[utoipa::path(
    get,
    path = "/api/v1/auth/key",
    operation_id = "getCurrentKeyByOlderName",
    tag = "Account",
    responses((status = 200, body = Data<CurrentKey>)),
    security(("management_key" = []), ("inference_key" = [])),
)]
pub async fn get_by_older_name(api: State<Api>, key: AnyKey) -> Result<Response, ApiError> {
    get(api, key).await
}
