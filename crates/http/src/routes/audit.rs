//! `GET /api/v1/audit`. Ours.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_store::AuditQuery;
use tollgate_wire::{AuditEntry, AuditParams, ListPage};

use crate::convert::audit as convert;
use crate::convert::workspaces::page;
use crate::error::ApiError;
use crate::extract::{LimitedManager, QueryPairs};
use crate::router::Api;
use crate::routes::json;

/// Lists what management changed, newest first. Ours.
#[utoipa::path(
    get,
    path = "/api/v1/audit",
    operation_id = "listAudit",
    tag = "Organization",
    params(AuditParams),
    responses((status = 200, body = ListPage<AuditEntry>)),
    security(("management_key" = [])),
)]
pub async fn list(State(api): State<Api>, manager: LimitedManager, query: QueryPairs) -> Result<Response, ApiError> {
    let text = |name: &str| query.text(name).map(str::to_owned);
    let asked = AuditQuery {
        workspace: manager.workspace(&api, query.uuid("workspace_id")?).await?,
        target: text("target"),
        action: text("action"),
        page: query.page()?,
    };
    let entries = api.app().store().audit(asked).await?;
    Ok(json(StatusCode::OK, &page(entries, convert::entry)))
}
