//! `/api/v1/workspaces` (contract section 8).

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_wire::{Data, Deleted, WorkspaceRequest};

use crate::convert::workspaces as convert;
use crate::error::ApiError;
use crate::extract::{Json, Manager, Path, QueryPairs};
use crate::router::Api;
use crate::routes::json;

/// Lists workspaces, oldest first.
pub async fn list(State(api): State<Api>, _: Manager, query: QueryPairs) -> Result<Response, ApiError> {
    let page = api.app().workspaces(query.page()?).await?;
    Ok(json(StatusCode::OK, &convert::page(page, convert::workspace)))
}

/// Creates a workspace.
pub async fn create(
    State(api): State<Api>,
    _: Manager,
    Json(body): Json<WorkspaceRequest>,
) -> Result<Response, ApiError> {
    let workspace = api.app().create_workspace(convert::workspace_change(body)?).await?;
    Ok(json(StatusCode::CREATED, &Data { data: convert::workspace(workspace) }))
}

/// Shows a workspace.
pub async fn get(State(api): State<Api>, _: Manager, Path(id): Path<String>) -> Result<Response, ApiError> {
    let workspace = api.app().known_workspace(&convert::workspace_ref(&id)).await?;
    Ok(json(StatusCode::OK, &Data { data: convert::workspace(workspace) }))
}

/// Changes a workspace.
pub async fn update(
    State(api): State<Api>,
    _: Manager,
    Path(id): Path<String>,
    Json(body): Json<WorkspaceRequest>,
) -> Result<Response, ApiError> {
    let change = convert::workspace_change(body)?;
    let workspace = api.app().update_workspace(&convert::workspace_ref(&id), change).await?;
    Ok(json(StatusCode::OK, &Data { data: convert::workspace(workspace) }))
}

/// Deletes a workspace without keys.
pub async fn delete(State(api): State<Api>, _: Manager, Path(id): Path<String>) -> Result<Response, ApiError> {
    api.app().delete_workspace(&convert::workspace_ref(&id)).await?;
    Ok(json(StatusCode::OK, &Deleted { deleted: true }))
}
