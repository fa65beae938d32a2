//! `GET /api/v1/activity` (contract section 11).

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_wire::{ActivityItem, ActivityParams, Data};

use crate::convert::activity as convert;
use crate::error::ApiError;
use crate::extract::{LimitedAccountant, QueryPairs};
use crate::router::Api;
use crate::routes::json;
use crate::routes::keys::not_found;

/// Shows what was used on each completed day, by model and provider.
#[utoipa::path(
    get,
    path = "/api/v1/activity",
    operation_id = "getActivity",
    tag = "Account",
    params(ActivityParams),
    responses(
        (status = 200, body = Data<Vec<ActivityItem>>),
        (status = 403, description = "The key is no management key"),
        (status = 404, description = "No such key or workspace"),
    ),
    security(("management_key" = [])),
)]
pub async fn get(
    State(api): State<Api>,
    accountant: LimitedAccountant,
    query: QueryPairs,
) -> Result<Response, ApiError> {
    let mut request = convert::activity_request(&query)?;
    request.workspace = accountant.workspace(&api, request.workspace).await?;
    if let (Some(_), Some(hash)) = (accountant.within(), &request.key) {
        let found = api.app().key(hash).await?;
        found.filter(|view| accountant.reaches(view.key.workspace)).ok_or_else(not_found)?;
    }
    let rows = api.app().activity(request).await?;
    let data: Vec<_> = rows.into_iter().map(convert::activity_item).collect();
    Ok(json(StatusCode::OK, &Data { data }))
}
