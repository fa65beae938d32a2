//! `PATCH /api/v1/keys/{hash}`

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_store::WorkspaceRef;
use tollgate_wire::{Data, Key, UpdateKey};

use crate::convert;
use crate::error::ApiError;
use crate::extract::{Json, LimitedManager, Path};
use crate::router::Api;
use crate::routes::json;
use crate::routes::keys::hash;

/// Renames, re-limits, moves, enables or disables one key.
#[utoipa::path(
    patch,
    path = "/api/v1/keys/{hash}",
    operation_id = "updateKey",
    tag = "Keys",
    params(("hash" = String, Path, description = "The hash of the key, or of its newest secret")),
    request_body = UpdateKey,
    responses((status = 200, body = Data<Key>)),
    security(("management_key" = [])),
)]
pub async fn update(
    State(api): State<Api>,
    manager: LimitedManager,
    Path(text): Path<String>,
    Json(body): Json<UpdateKey>,
) -> Result<Response, ApiError> {
    let hash = hash(&text)?;
    let mut change = convert::keys::key_change(&body)?;
    if let Some(id) = body.workspace_id.as_deref() {
        let id = convert::keys::workspace_id(id)?;
        manager.workspace(&api, Some(id)).await?;
        let workspace = api.app().workspace(&WorkspaceRef::Id(id)).await?;
        change.workspace = Some(workspace.ok_or_else(|| ApiError::bad_request("Workspace not found"))?.id);
    }
    let view = api.app().update_key(&hash, change, &manager.actor()).await?;
    Ok(json(StatusCode::OK, &Data { data: convert::keys::key(view) }))
}
