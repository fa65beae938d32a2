//! `GET /api/v1/keys/{hash}`

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_wire::{Data, Key};

use crate::convert;
use crate::error::ApiError;
use crate::extract::{LimitedManager, Path};
use crate::router::Api;
use crate::routes::json;
use crate::routes::keys::{hash, not_found};

/// Shows one key, disabled and expired ones included.
#[utoipa::path(
    get,
    path = "/api/v1/keys/{hash}",
    operation_id = "getKey",
    tag = "Keys",
    params(("hash" = String, Path, description = "The hash of the key, or of its newest secret")),
    responses((status = 200, body = Data<Key>)),
    security(("management_key" = [])),
)]
pub async fn get(
    State(api): State<Api>,
    manager: LimitedManager,
    Path(text): Path<String>,
) -> Result<Response, ApiError> {
    let view = api.app().key(&hash(&text)?).await?.filter(|view| manager.reaches(view.key.workspace));
    let view = view.ok_or_else(not_found)?;
    Ok(json(StatusCode::OK, &Data { data: convert::keys::key(view) }))
}
