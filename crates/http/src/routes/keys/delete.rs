//! `DELETE /api/v1/keys/{hash}`

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_wire::Deleted;

use crate::error::ApiError;
use crate::extract::{LimitedManager, Path};
use crate::router::Api;
use crate::routes::json;
use crate::routes::keys::{hash, not_found};

/// Deletes a key for good.
#[utoipa::path(
    delete,
    path = "/api/v1/keys/{hash}",
    operation_id = "deleteKey",
    tag = "Keys",
    params(("hash" = String, Path, description = "The hash of the key, or of its newest secret")),
    responses((status = 200, body = Deleted)),
    security(("management_key" = [])),
)]
pub async fn delete(
    State(api): State<Api>,
    manager: LimitedManager,
    Path(text): Path<String>,
) -> Result<Response, ApiError> {
    if api.app().delete_key(&hash(&text)?, &manager.actor()).await? {
        Ok(json(StatusCode::OK, &Deleted { deleted: true }))
    } else {
        Err(not_found())
    }
}
