//! `/api/v1/organization/members` and `/api/v1/workspaces/{id}/members` (contract sections 8 and 13).

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_domain::member::Member;
use tollgate_wire::{
    AddedMembers, CreateMember, Data, Deleted, ListPage, OrganizationMember, PageParams, RemovedMembers, UserIds,
    WorkspaceMember,
};

use crate::convert::workspaces as convert;
use crate::error::ApiError;
use crate::extract::{Json, LimitedManager, Manager, Path, QueryPairs};
use crate::router::Api;
use crate::routes::{Answer, json};

/// Lists the members of the organisation, oldest first.
#[utoipa::path(
    get,
    path = "/api/v1/organization/members",
    operation_id = "listMembers",
    tag = "Organization",
    params(PageParams),
    responses((status = 200, body = ListPage<OrganizationMember>)),
    security(("management_key" = [])),
)]
pub async fn list(State(api): State<Api>, _: Manager, query: QueryPairs) -> Result<Response, ApiError> {
    let page = api.app().members(query.page()?).await?;
    Ok(json(StatusCode::OK, &convert::page(page, convert::member)))
}

/// Adds a member. Ours.
#[utoipa::path(
    post,
    path = "/api/v1/organization/members",
    operation_id = "createMember",
    tag = "Organization",
    request_body = CreateMember,
    responses((status = 201, body = Data<OrganizationMember>)),
    security(("management_key" = [])),
)]
pub async fn create(
    State(api): State<Api>,
    manager: Manager,
    Json(body): Json<CreateMember>,
) -> Result<Answer, ApiError> {
    let request = convert::member_request(body)?;
    let answer = |member: &Member| Answer::new(StatusCode::CREATED, &Data { data: convert::member(member.clone()) });
    let member = api.app().create_member(request, manager.act(answer)).await?;
    Ok(answer(&member))
}

/// Removes a member whose keys are all deleted. Ours.
#[utoipa::path(
    delete,
    path = "/api/v1/organization/members/{user_id}",
    operation_id = "deleteMember",
    tag = "Organization",
    params(("user_id" = String, Path, description = "The member's id, `user_…`")),
    responses(
        (status = 200, body = Deleted),
        (status = 400, description = "The member has active keys"),
    ),
    security(("management_key" = [])),
)]
pub async fn delete(
    State(api): State<Api>,
    manager: Manager,
    Path(user_id): Path<String>,
) -> Result<Response, ApiError> {
    api.app().remove_member(&user_id, &manager.actor()).await?;
    Ok(json(StatusCode::OK, &Deleted { deleted: true }))
}

/// Lists the members of a workspace, longest first.
#[utoipa::path(
    get,
    path = "/api/v1/workspaces/{id}/members",
    operation_id = "listWorkspaceMembers",
    tag = "Workspaces",
    params(("id" = String, Path, description = "The UUID of the workspace, or its slug"), PageParams),
    responses((status = 200, body = ListPage<WorkspaceMember>)),
    security(("management_key" = [])),
)]
pub async fn of_workspace(
    State(api): State<Api>,
    manager: LimitedManager,
    Path(id): Path<String>,
    query: QueryPairs,
) -> Result<Response, ApiError> {
    let page = query.page()?;
    let workspace = manager.known_workspace(&api, &id).await?;
    let members = api.app().workspace_members(&workspace, page).await?;
    Ok(json(StatusCode::OK, &convert::page(members, |member| convert::workspace_member(&workspace, member))))
}

/// Adds members to a workspace: all of them, or none.
#[utoipa::path(
    post,
    path = "/api/v1/workspaces/{id}/members/add",
    operation_id = "addWorkspaceMembers",
    tag = "Workspaces",
    params(("id" = String, Path, description = "The UUID of the workspace, or its slug")),
    request_body = UserIds,
    responses((status = 200, body = AddedMembers)),
    security(("management_key" = [])),
)]
pub async fn add(
    State(api): State<Api>,
    manager: Manager,
    Path(id): Path<String>,
    Json(body): Json<UserIds>,
) -> Result<Answer, ApiError> {
    let workspace = Arc::new(api.app().known_workspace(&convert::workspace_ref(&id)).await?);
    let place = Arc::clone(&workspace);
    let answer = move |added: &Vec<tollgate_store::WorkspaceMember>| {
        let data: Vec<_> = added.iter().map(|member| convert::workspace_member(&place, member.clone())).collect();
        Answer::new(StatusCode::OK, &AddedMembers { added_count: data.len(), data })
    };
    let act = manager.act(answer.clone());
    let added = api.app().add_workspace_members(&workspace, body.user_ids, act).await?;
    Ok(answer(&added))
}

/// Removes members from a workspace: all of them, or none.
#[utoipa::path(
    post,
    path = "/api/v1/workspaces/{id}/members/remove",
    operation_id = "removeWorkspaceMembers",
    tag = "Workspaces",
    params(("id" = String, Path, description = "The UUID of the workspace, or its slug")),
    request_body = UserIds,
    responses((status = 200, body = RemovedMembers)),
    security(("management_key" = [])),
)]
pub async fn remove(
    State(api): State<Api>,
    manager: Manager,
    Path(id): Path<String>,
    Json(body): Json<UserIds>,
) -> Result<Answer, ApiError> {
    let workspace = api.app().known_workspace(&convert::workspace_ref(&id)).await?;
    let answer = |removed: &usize| Answer::new(StatusCode::OK, &RemovedMembers { removed_count: *removed });
    let removed = api.app().remove_workspace_members(&workspace, body.user_ids, manager.act(answer)).await?;
    Ok(answer(&removed))
}
