//! `/api/v1/guardrails` and their assignments (contract section 10).

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_store::{AssigneeKind, Assignees, GuardrailView, WorkspaceRef};
use tollgate_wire::{
    Assigned, Data, Deleted, Guardrail, GuardrailRequest, KeyAssignment, KeyHashes, ListPage, MemberAssignment,
    MemberUserIds, PageParams, Unassigned,
};
use uuid::Uuid;

use crate::convert::guardrails as convert;
use crate::convert::keys::workspace_id;
use crate::convert::workspaces::page;
use crate::error::ApiError;
use crate::extract::{Json, LimitedManager, Manager, Path, QueryPairs};
use crate::router::Api;
use crate::routes::{Answer, json};

/// Lists guardrails, oldest first: of one workspace, or all.
#[utoipa::path(
    get,
    path = "/api/v1/guardrails",
    operation_id = "listGuardrails",
    tag = "Guardrails",
    params(
        PageParams,
        ("workspace_id" = Option<String>, Query, format = "uuid", description = "Only of this workspace"),
    ),
    responses(
        (status = 200, body = ListPage<Guardrail>),
        (status = 404, description = "No such workspace"),
    ),
    security(("management_key" = [])),
)]
pub async fn list(State(api): State<Api>, manager: LimitedManager, query: QueryPairs) -> Result<Response, ApiError> {
    let part = query.page()?;
    let workspace = match manager.workspace(&api, query.uuid("workspace_id")?).await? {
        None => None,
        Some(id) => {
            let found = api.app().workspace(&WorkspaceRef::Id(id)).await?;
            Some(found.ok_or_else(|| ApiError::bad_request("Workspace not found"))?)
        }
    };
    let views = api.app().guardrails(workspace.as_ref(), part).await?;
    Ok(json(StatusCode::OK, &page(views, convert::guardrail)))
}

/// Creates a guardrail.
#[utoipa::path(
    post,
    path = "/api/v1/guardrails",
    operation_id = "createGuardrail",
    tag = "Guardrails",
    request_body = GuardrailRequest,
    responses((status = 201, body = Data<Guardrail>)),
    security(("management_key" = [])),
)]
pub async fn create(
    State(api): State<Api>,
    manager: Manager,
    Json(mut body): Json<GuardrailRequest>,
) -> Result<Answer, ApiError> {
    let which = match body.workspace_id.take() {
        None => WorkspaceRef::Default,
        Some(text) => WorkspaceRef::Id(workspace_id(&text)?),
    };
    let workspace = api.app().workspace(&which).await?.ok_or_else(|| ApiError::bad_request("Workspace not found"))?;
    let change = convert::guardrail_change(body)?;
    let answer =
        |made: &GuardrailView| Answer::new(StatusCode::CREATED, &Data { data: convert::guardrail(made.clone()) });
    let view = api.app().create_guardrail(&workspace, change, manager.act(answer)).await?;
    Ok(answer(&view))
}

/// Shows a guardrail.
#[utoipa::path(
    get,
    path = "/api/v1/guardrails/{id}",
    operation_id = "getGuardrail",
    tag = "Guardrails",
    params(("id" = String, Path, description = "The UUID of the guardrail")),
    responses((status = 200, body = Data<Guardrail>)),
    security(("management_key" = [])),
)]
pub async fn get(
    State(api): State<Api>,
    manager: LimitedManager,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let view = api.app().guardrail(uuid(&id)?).await?;
    if !manager.reaches(view.guardrail.workspace) {
        return Err(ApiError::not_found("Guardrail not found"));
    }
    Ok(json(StatusCode::OK, &Data { data: convert::guardrail(view) }))
}

/// Changes a guardrail; a workspace's default one comes into being with its first change.
#[utoipa::path(
    patch,
    path = "/api/v1/guardrails/{id}",
    operation_id = "updateGuardrail",
    tag = "Guardrails",
    params(("id" = String, Path, description = "The UUID of the guardrail")),
    request_body = GuardrailRequest,
    responses((status = 200, body = Data<Guardrail>)),
    security(("management_key" = [])),
)]
pub async fn update(
    State(api): State<Api>,
    manager: Manager,
    Path(id): Path<String>,
    Json(body): Json<GuardrailRequest>,
) -> Result<Response, ApiError> {
    let view = api.app().update_guardrail(uuid(&id)?, convert::guardrail_change(body)?, &manager.actor()).await?;
    Ok(json(StatusCode::OK, &Data { data: convert::guardrail(view) }))
}

/// Deletes a guardrail with its assignments.
#[utoipa::path(
    delete,
    path = "/api/v1/guardrails/{id}",
    operation_id = "deleteGuardrail",
    tag = "Guardrails",
    params(("id" = String, Path, description = "The UUID of the guardrail")),
    responses((status = 200, body = Deleted)),
    security(("management_key" = [])),
)]
pub async fn delete(State(api): State<Api>, manager: Manager, Path(id): Path<String>) -> Result<Response, ApiError> {
    if api.app().delete_guardrail(uuid(&id)?, &manager.actor()).await? {
        Ok(json(StatusCode::OK, &Deleted { deleted: true }))
    } else {
        Err(ApiError::not_found("Guardrail not found"))
    }
}

/// Lists the keys that a guardrail is assigned to.
#[utoipa::path(
    get,
    path = "/api/v1/guardrails/{id}/assignments/keys",
    operation_id = "listGuardrailKeys",
    tag = "Guardrails",
    params(("id" = String, Path, description = "The UUID of the guardrail"), PageParams),
    responses((status = 200, body = ListPage<KeyAssignment>)),
    security(("management_key" = [])),
)]
pub async fn keys(
    State(api): State<Api>,
    _: Manager,
    Path(id): Path<String>,
    query: QueryPairs,
) -> Result<Response, ApiError> {
    assignments(&api, Some(uuid(&id)?), AssigneeKind::Keys, &query).await
}

/// Lists the members that a guardrail is assigned to.
#[utoipa::path(
    get,
    path = "/api/v1/guardrails/{id}/assignments/members",
    operation_id = "listGuardrailMembers",
    tag = "Guardrails",
    params(("id" = String, Path, description = "The UUID of the guardrail"), PageParams),
    responses((status = 200, body = ListPage<MemberAssignment>)),
    security(("management_key" = [])),
)]
pub async fn members(
    State(api): State<Api>,
    _: Manager,
    Path(id): Path<String>,
    query: QueryPairs,
) -> Result<Response, ApiError> {
    assignments(&api, Some(uuid(&id)?), AssigneeKind::Members, &query).await
}

/// Lists all assignments to keys.
#[utoipa::path(
    get,
    path = "/api/v1/guardrails/assignments/keys",
    operation_id = "listKeyAssignments",
    tag = "Guardrails",
    params(PageParams),
    responses((status = 200, body = ListPage<KeyAssignment>)),
    security(("management_key" = [])),
)]
pub async fn all_keys(State(api): State<Api>, _: Manager, query: QueryPairs) -> Result<Response, ApiError> {
    assignments(&api, None, AssigneeKind::Keys, &query).await
}

/// Lists all assignments to members.
#[utoipa::path(
    get,
    path = "/api/v1/guardrails/assignments/members",
    operation_id = "listMemberAssignments",
    tag = "Guardrails",
    params(PageParams),
    responses((status = 200, body = ListPage<MemberAssignment>)),
    security(("management_key" = [])),
)]
pub async fn all_members(State(api): State<Api>, _: Manager, query: QueryPairs) -> Result<Response, ApiError> {
    assignments(&api, None, AssigneeKind::Members, &query).await
}

/// Assigns a guardrail to keys, in the place of any other.
#[utoipa::path(
    post,
    path = "/api/v1/guardrails/{id}/assignments/keys",
    operation_id = "assignKeys",
    tag = "Guardrails",
    params(("id" = String, Path, description = "The UUID of the guardrail")),
    request_body = KeyHashes,
    responses((status = 200, body = Assigned)),
    security(("management_key" = [])),
)]
pub async fn assign_keys(
    State(api): State<Api>,
    manager: Manager,
    Path(id): Path<String>,
    Json(body): Json<KeyHashes>,
) -> Result<Answer, ApiError> {
    let answer = |count: &usize| Answer::new(StatusCode::OK, &Assigned { assigned_count: *count });
    let count = api.app().assign(uuid(&id)?, Assignees::Keys(body.key_hashes), manager.act(answer)).await?;
    Ok(answer(&count))
}

/// Takes a guardrail away from keys.
#[utoipa::path(
    post,
    path = "/api/v1/guardrails/{id}/assignments/keys/remove",
    operation_id = "unassignKeys",
    tag = "Guardrails",
    params(("id" = String, Path, description = "The UUID of the guardrail")),
    request_body = KeyHashes,
    responses((status = 200, body = Unassigned)),
    security(("management_key" = [])),
)]
pub async fn unassign_keys(
    State(api): State<Api>,
    manager: Manager,
    Path(id): Path<String>,
    Json(body): Json<KeyHashes>,
) -> Result<Answer, ApiError> {
    let answer = |count: &usize| Answer::new(StatusCode::OK, &Unassigned { unassigned_count: *count });
    let count = api.app().unassign(uuid(&id)?, Assignees::Keys(body.key_hashes), manager.act(answer)).await?;
    Ok(answer(&count))
}

/// Assigns a guardrail to members, in the place of any other.
#[utoipa::path(
    post,
    path = "/api/v1/guardrails/{id}/assignments/members",
    operation_id = "assignMembers",
    tag = "Guardrails",
    params(("id" = String, Path, description = "The UUID of the guardrail")),
    request_body = MemberUserIds,
    responses((status = 200, body = Assigned)),
    security(("management_key" = [])),
)]
pub async fn assign_members(
    State(api): State<Api>,
    manager: Manager,
    Path(id): Path<String>,
    Json(body): Json<MemberUserIds>,
) -> Result<Answer, ApiError> {
    let answer = |count: &usize| Answer::new(StatusCode::OK, &Assigned { assigned_count: *count });
    let count = api.app().assign(uuid(&id)?, Assignees::Members(body.member_user_ids), manager.act(answer)).await?;
    Ok(answer(&count))
}

/// Takes a guardrail away from members.
#[utoipa::path(
    post,
    path = "/api/v1/guardrails/{id}/assignments/members/remove",
    operation_id = "unassignMembers",
    tag = "Guardrails",
    params(("id" = String, Path, description = "The UUID of the guardrail")),
    request_body = MemberUserIds,
    responses((status = 200, body = Unassigned)),
    security(("management_key" = [])),
)]
pub async fn unassign_members(
    State(api): State<Api>,
    manager: Manager,
    Path(id): Path<String>,
    Json(body): Json<MemberUserIds>,
) -> Result<Answer, ApiError> {
    let answer = |count: &usize| Answer::new(StatusCode::OK, &Unassigned { unassigned_count: *count });
    let count = api.app().unassign(uuid(&id)?, Assignees::Members(body.member_user_ids), manager.act(answer)).await?;
    Ok(answer(&count))
}

async fn assignments(
    api: &Api,
    guardrail: Option<Uuid>,
    kind: AssigneeKind,
    query: &QueryPairs,
) -> Result<Response, ApiError> {
    let views = api.app().assignments(guardrail, kind, query.page()?).await?;
    let total_count = views.total;
    match kind {
        AssigneeKind::Keys => {
            let data: Vec<_> = views.items.into_iter().filter_map(convert::key_assignment).collect();
            Ok(json(StatusCode::OK, &ListPage { data, total_count }))
        }
        AssigneeKind::Members => {
            let organization = api.app().known_workspace(&WorkspaceRef::Default).await?.uuid;
            let named = |view| convert::member_assignment(view, organization);
            let data: Vec<_> = views.items.into_iter().filter_map(named).collect();
            Ok(json(StatusCode::OK, &ListPage { data, total_count }))
        }
    }
}

/// The guardrail that a path names; text that is no UUID names none.
fn uuid(text: &str) -> Result<Uuid, ApiError> {
    Uuid::parse_str(text).map_err(|_| ApiError::not_found("Guardrail not found"))
}
