//! `/api/v1/workspaces/{id}/budgets` (contract section 8).

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_wire::{Deleted, PutBudget, WorkspaceBudget, WorkspaceBudgets};

use crate::convert::workspaces as convert;
use crate::error::ApiError;
use crate::extract::{Json, LimitedManager, Manager, Path};
use crate::router::Api;
use crate::routes::json;

/// Lists the budgets of a workspace, the broadest first.
#[utoipa::path(
    get,
    path = "/api/v1/workspaces/{id}/budgets",
    operation_id = "listWorkspaceBudgets",
    tag = "Workspaces",
    params(("id" = String, Path, description = "The UUID of the workspace, or its slug")),
    responses((status = 200, body = WorkspaceBudgets<Vec<WorkspaceBudget>>)),
    security(("management_key" = [])),
)]
pub async fn list(
    State(api): State<Api>,
    manager: LimitedManager,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let workspace = manager.known_workspace(&api, &id).await?;
    Ok(json(StatusCode::OK, &convert::budgets(&workspace)))
}

/// Shows the budget of one interval.
#[utoipa::path(
    get,
    path = "/api/v1/workspaces/{id}/budgets/{interval}",
    operation_id = "getWorkspaceBudget",
    tag = "Workspaces",
    params(
        ("id" = String, Path, description = "The UUID of the workspace, or its slug"),
        ("interval" = String, Path, pattern = "^(daily|weekly|monthly|lifetime)$", description = "`daily`, `weekly`, `monthly` or `lifetime`"),
    ),
    responses(
        (status = 200, body = WorkspaceBudgets<WorkspaceBudget>),
        (status = 400, description = "No such interval"),
    ),
    security(("management_key" = [])),
)]
pub async fn get(
    State(api): State<Api>,
    manager: LimitedManager,
    Path((id, interval)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let window = convert::interval(&interval)?;
    let workspace = manager.known_workspace(&api, &id).await?;
    let budget = convert::budget(&workspace, window).ok_or_else(|| ApiError::not_found("Budget not found"))?;
    Ok(json(StatusCode::OK, &budget))
}

/// Sets the budget of one interval.
#[utoipa::path(
    put,
    path = "/api/v1/workspaces/{id}/budgets/{interval}",
    operation_id = "putWorkspaceBudget",
    tag = "Workspaces",
    params(
        ("id" = String, Path, description = "The UUID of the workspace, or its slug"),
        ("interval" = String, Path, pattern = "^(daily|weekly|monthly|lifetime)$", description = "`daily`, `weekly`, `monthly` or `lifetime`"),
    ),
    request_body = PutBudget,
    responses((status = 200, body = WorkspaceBudgets<WorkspaceBudget>)),
    security(("management_key" = [])),
)]
pub async fn put(
    State(api): State<Api>,
    manager: Manager,
    Path((id, interval)): Path<(String, String)>,
    Json(body): Json<PutBudget>,
) -> Result<Response, ApiError> {
    let (window, limit) = (convert::interval(&interval)?, convert::limit("limit_usd", &body.limit_usd)?);
    let which = convert::workspace_ref(&id);
    let workspace = api.app().put_budget(&which, window, limit, body.include_byok_in_budgets, &manager.actor()).await?;
    let budget = convert::budget(&workspace, window).ok_or_else(|| ApiError::not_found("Budget not found"))?;
    Ok(json(StatusCode::OK, &budget))
}

/// Removes the budget of one interval; once more does no harm.
#[utoipa::path(
    delete,
    path = "/api/v1/workspaces/{id}/budgets/{interval}",
    operation_id = "deleteWorkspaceBudget",
    tag = "Workspaces",
    params(
        ("id" = String, Path, description = "The UUID of the workspace, or its slug"),
        ("interval" = String, Path, pattern = "^(daily|weekly|monthly|lifetime)$", description = "`daily`, `weekly`, `monthly` or `lifetime`"),
    ),
    responses(
        (status = 200, body = Deleted),
        (status = 400, description = "No such interval"),
    ),
    security(("management_key" = [])),
)]
pub async fn delete(
    State(api): State<Api>,
    manager: Manager,
    Path((id, interval)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let window = convert::interval(&interval)?;
    api.app().delete_budget(&convert::workspace_ref(&id), window, &manager.actor()).await?;
    Ok(json(StatusCode::OK, &Deleted { deleted: true }))
}
