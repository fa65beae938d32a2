//! `GET /api/v1/activity` (contract section 11).

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_wire::Data;

use crate::convert::activity as convert;
use crate::error::ApiError;
use crate::extract::{Accountant, QueryPairs};
use crate::router::Api;
use crate::routes::json;

/// Shows what was used on each completed day, by model and provider.
pub async fn get(State(api): State<Api>, _: Accountant, query: QueryPairs) -> Result<Response, ApiError> {
    let rows = api.app().activity(convert::activity_request(&query)?).await?;
    let data: Vec<_> = rows.into_iter().map(convert::activity_item).collect();
    Ok(json(StatusCode::OK, &Data { data }))
}
