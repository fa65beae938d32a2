//! `/api/v1/workspaces` (contract section 8).

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_domain::workspace as domain;
use tollgate_wire::{Data, Deleted, ListPage, PageParams, Workspace, WorkspaceRequest};

use crate::convert::workspaces as convert;
use crate::error::ApiError;
use crate::extract::{Json, LimitedManager, Manager, Path, QueryPairs};
use crate::router::Api;
use crate::routes::{Answer, json};

/// Lists workspaces, oldest first.
#[utoipa::path(
    get,
    path = "/api/v1/workspaces",
    operation_id = "listWorkspaces",
    tag = "Workspaces",
    params(PageParams),
    responses((status = 200, body = ListPage<Workspace>)),
    security(("management_key" = [])),
)]
pub async fn list(State(api): State<Api>, manager: LimitedManager, query: QueryPairs) -> Result<Response, ApiError> {
    let page = api.app().workspaces(manager.within(), query.page()?).await?;
    Ok(json(StatusCode::OK, &convert::page(page, convert::workspace)))
}

/// Creates a workspace.
#[utoipa::path(
    post,
    path = "/api/v1/workspaces",
    operation_id = "createWorkspace",
    tag = "Workspaces",
    request_body = WorkspaceRequest,
    responses((status = 201, body = Data<Workspace>)),
    security(("management_key" = [])),
)]
pub async fn create(
    State(api): State<Api>,
    manager: Manager,
    Json(body): Json<WorkspaceRequest>,
) -> Result<Answer, ApiError> {
    let change = convert::workspace_change(body)?;
    let answer =
        |made: &domain::Workspace| Answer::new(StatusCode::CREATED, &Data { data: convert::workspace(made.clone()) });
    let workspace = api.app().create_workspace(change, manager.act(answer)).await?;
    Ok(answer(&workspace))
}

/// Shows a workspace.
#[utoipa::path(
    get,
    path = "/api/v1/workspaces/{id}",
    operation_id = "getWorkspace",
    tag = "Workspaces",
    params(("id" = String, Path, description = "The UUID of the workspace, or its slug")),
    responses((status = 200, body = Data<Workspace>)),
    security(("management_key" = [])),
)]
pub async fn get(
    State(api): State<Api>,
    manager: LimitedManager,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let workspace = manager.known_workspace(&api, &id).await?;
    Ok(json(StatusCode::OK, &Data { data: convert::workspace(workspace) }))
}

/// Changes a workspace.
#[utoipa::path(
    patch,
    path = "/api/v1/workspaces/{id}",
    operation_id = "updateWorkspace",
    tag = "Workspaces",
    params(("id" = String, Path, description = "The UUID of the workspace, or its slug")),
    request_body = WorkspaceRequest,
    responses((status = 200, body = Data<Workspace>)),
    security(("management_key" = [])),
)]
pub async fn update(
    State(api): State<Api>,
    manager: Manager,
    Path(id): Path<String>,
    Json(body): Json<WorkspaceRequest>,
) -> Result<Response, ApiError> {
    let change = convert::workspace_change(body)?;
    let workspace = api.app().update_workspace(&convert::workspace_ref(&id), change, &manager.actor()).await?;
    Ok(json(StatusCode::OK, &Data { data: convert::workspace(workspace) }))
}

/// Deletes a workspace without keys.
#[utoipa::path(
    delete,
    path = "/api/v1/workspaces/{id}",
    operation_id = "deleteWorkspace",
    tag = "Workspaces",
    params(("id" = String, Path, description = "The UUID of the workspace, or its slug")),
    responses(
        (status = 200, body = Deleted),
        (status = 400, description = "It has active keys"),
        (status = 403, description = "It is the default workspace"),
    ),
    security(("management_key" = [])),
)]
pub async fn delete(State(api): State<Api>, manager: Manager, Path(id): Path<String>) -> Result<Response, ApiError> {
    api.app().delete_workspace(&convert::workspace_ref(&id), &manager.actor()).await?;
    Ok(json(StatusCode::OK, &Deleted { deleted: true }))
}
