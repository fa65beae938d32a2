//! `/api/v1/byok`: provider credentials that workspaces bring (contract section 9).

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_app::credentials::{CredentialPatch, CredentialRequest};
use tollgate_store::{CredentialQuery, CredentialView, WorkspaceRef};
use tollgate_wire::{ByokKey, CreateByokKey, Data, Deleted, ListPage, PageParams, UpdateByokKey};
use uuid::Uuid;

use crate::convert::byok as convert;
use crate::convert::keys::workspace_id;
use crate::convert::workspaces::page;
use crate::error::ApiError;
use crate::extract::{Json, Manager, Path, QueryPairs};
use crate::router::Api;
use crate::routes::{Answer, json};

/// Lists the provider credentials that calls in a workspace may use, in the order in which they are tried.
#[utoipa::path(
    get,
    path = "/api/v1/byok",
    operation_id = "listBYOKKeys",
    tag = "Provider credentials",
    params(
        PageParams,
        ("workspace_id" = Option<String>, Query, format = "uuid", description = "Default is the default workspace"),
        ("provider" = Option<String>, Query, description = "Only of this provider"),
    ),
    responses((status = 200, body = ListPage<ByokKey>)),
    security(("management_key" = [])),
)]
pub async fn list(State(api): State<Api>, _: Manager, query: QueryPairs) -> Result<Response, ApiError> {
    let part = query.page()?;
    let which = query.uuid("workspace_id")?.map_or(WorkspaceRef::Default, WorkspaceRef::Id);
    let workspace = api.app().workspace(&which).await?.ok_or_else(|| ApiError::bad_request("Workspace not found"))?;
    let provider = query.text("provider").map(str::to_owned);
    let views = api.app().credentials(&CredentialQuery { workspace: workspace.id, provider }, part).await?;
    Ok(json(StatusCode::OK, &page(views, |view| convert::credential(api.app(), view))))
}

/// Stores a provider credential. Its secret is sealed, and never shown again.
#[utoipa::path(
    post,
    path = "/api/v1/byok",
    operation_id = "createBYOKKey",
    tag = "Provider credentials",
    request_body = CreateByokKey,
    responses((status = 201, body = Data<ByokKey>)),
    security(("management_key" = [])),
)]
pub async fn create(
    State(api): State<Api>,
    manager: Manager,
    Json(body): Json<CreateByokKey>,
) -> Result<Answer, ApiError> {
    let which = match &body.workspace_id {
        Some(None) => None,
        Some(Some(text)) => Some(WorkspaceRef::Id(workspace_id(text)?)),
        None => Some(WorkspaceRef::Default),
    };
    let workspace = match which {
        None => None,
        Some(which) => {
            let found = api.app().workspace(&which).await?;
            Some(found.ok_or_else(|| ApiError::bad_request("Workspace not found"))?.id)
        }
    };
    let (terms, sort_order) = (convert::terms(&body.terms)?, body.terms.sort_order.map(i64::from));
    let CreateByokKey { provider, key: secret, .. } = body;
    let request = CredentialRequest { workspace, provider, secret, terms, sort_order };
    let app = api.app().clone();
    let answer = move |made: &CredentialView| {
        Answer::new(StatusCode::CREATED, &Data { data: convert::credential(&app, made.clone()) })
    };
    let view = api.app().create_credential(request, manager.act(answer.clone())).await?;
    Ok(answer(&view))
}

/// Shows a provider credential.
#[utoipa::path(
    get,
    path = "/api/v1/byok/{id}",
    operation_id = "getBYOKKey",
    tag = "Provider credentials",
    params(("id" = String, Path, description = "The UUID of the provider credential")),
    responses((status = 200, body = Data<ByokKey>)),
    security(("management_key" = [])),
)]
pub async fn get(State(api): State<Api>, _: Manager, Path(id): Path<String>) -> Result<Response, ApiError> {
    let view = api.app().credential(uuid(&id)?).await?;
    Ok(json(StatusCode::OK, &Data { data: convert::credential(api.app(), view) }))
}

/// Changes a provider credential; another `key` takes the place of the one that is there.
#[utoipa::path(
    patch,
    path = "/api/v1/byok/{id}",
    operation_id = "updateBYOKKey",
    tag = "Provider credentials",
    params(("id" = String, Path, description = "The UUID of the provider credential")),
    request_body = UpdateByokKey,
    responses((status = 200, body = Data<ByokKey>)),
    security(("management_key" = [])),
)]
pub async fn update(
    State(api): State<Api>,
    manager: Manager,
    Path(id): Path<String>,
    Json(body): Json<UpdateByokKey>,
) -> Result<Response, ApiError> {
    let uuid = uuid(&id)?;
    let (terms, sort_order) = (convert::terms(&body.terms)?, body.terms.sort_order.map(i64::from));
    let patch = CredentialPatch { terms, secret: body.key, sort_order };
    let view = api.app().update_credential(uuid, patch, &manager.actor()).await?;
    Ok(json(StatusCode::OK, &Data { data: convert::credential(api.app(), view) }))
}

/// Deletes a provider credential and wipes its secret.
#[utoipa::path(
    delete,
    path = "/api/v1/byok/{id}",
    operation_id = "deleteBYOKKey",
    tag = "Provider credentials",
    params(("id" = String, Path, description = "The UUID of the provider credential")),
    responses((status = 200, body = Deleted)),
    security(("management_key" = [])),
)]
pub async fn delete(State(api): State<Api>, manager: Manager, Path(id): Path<String>) -> Result<Response, ApiError> {
    if api.app().delete_credential(uuid(&id)?, &manager.actor()).await? {
        Ok(json(StatusCode::OK, &Deleted { deleted: true }))
    } else {
        Err(ApiError::not_found(UNKNOWN))
    }
}

const UNKNOWN: &str = "Provider credential not found";

/// The credential that a path names; text that is no UUID names none.
fn uuid(text: &str) -> Result<Uuid, ApiError> {
    Uuid::parse_str(text).map_err(|_| ApiError::not_found(UNKNOWN))
}
