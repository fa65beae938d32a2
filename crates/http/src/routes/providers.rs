//! `GET /api/v1/providers` (contract section 13).

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_wire::{Data, Provider};

use crate::convert;
use crate::router::Api;
use crate::routes::json;

/// Lists the providers that can be called for some model.
#[utoipa::path(
    get,
    path = "/api/v1/providers",
    operation_id = "listProviders",
    tag = "Models",
    responses((status = 200, body = Data<Vec<Provider>>)),
)]
pub async fn list(State(api): State<Api>) -> Response {
    let catalogue = api.app().catalogue();
    let data: Vec<Provider> = catalogue.providers().into_iter().map(convert::models::provider).collect();
    json(StatusCode::OK, &Data { data })
}
