//! `GET /api/v1/keys`

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_store::WorkspaceRef;
use tollgate_wire::{Data, Key, KeyParams};

use crate::convert;
use crate::error::ApiError;
use crate::extract::{LimitedManager, QueryPairs};
use crate::router::Api;
use crate::routes::json;

/// Lists a page of 100 keys of a workspace, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/keys",
    operation_id = "listKeys",
    tag = "Keys",
    params(KeyParams),
    responses(
        (status = 200, body = Data<Vec<Key>>),
        (status = 404, description = "No such workspace"),
    ),
    security(("management_key" = [])),
)]
pub async fn list(State(api): State<Api>, manager: LimitedManager, query: QueryPairs) -> Result<Response, ApiError> {
    let (disabled, expired) = (query.flag("include_disabled")?, query.flag("include_expired")?);
    let offset = query.count("offset")?.unwrap_or(0);
    let asked = manager.workspace(&api, query.uuid("workspace_id")?).await?;
    let which = asked.map_or(WorkspaceRef::Default, WorkspaceRef::Id);
    let workspace = api.app().known_workspace(&which).await?;
    let views = api.app().keys(&workspace, disabled, expired, offset).await?;
    let data: Vec<Key> = views.into_iter().map(convert::keys::key).collect();
    Ok(json(StatusCode::OK, &Data { data }))
}
