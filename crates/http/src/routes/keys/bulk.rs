//! `POST /api/v1/keys/bulk`. Ours.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_wire::{CreateKeys, CreatedKey, Data};

use crate::convert;
use crate::error::ApiError;
use crate::extract::{Bulk, Manager};
use crate::router::Api;
use crate::routes::json;

/// Creates many keys or none, and shows their secrets, this once.
#[utoipa::path(
    post,
    path = "/api/v1/keys/bulk",
    operation_id = "createKeys",
    tag = "Keys",
    request_body(content((CreateKeys = "application/json"), (String = "text/csv"))),
    responses((status = 201, body = Data<Vec<CreatedKey>>)),
    security(("management_key" = [])),
)]
pub async fn bulk(State(api): State<Api>, _: Manager, Bulk(bodies): Bulk) -> Result<Response, ApiError> {
    let requests = bodies
        .into_iter()
        .enumerate()
        .map(|(index, body)| convert::keys::key_request(body).map_err(|error| error.within(&format!("keys[{index}]"))));
    let created = api.app().create_keys(requests.collect::<Result<_, _>>()?).await?;
    let data = created
        .into_iter()
        .map(|(view, secret)| CreatedKey { data: convert::keys::key(view), key: secret.reveal().to_owned() });
    Ok(json(StatusCode::CREATED, &Data { data: data.collect::<Vec<_>>() }))
}
