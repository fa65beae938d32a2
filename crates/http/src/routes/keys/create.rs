//! `POST /api/v1/keys`

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_wire::{CreateKey, CreatedKey};

use crate::convert;
use crate::error::ApiError;
use crate::extract::{Json, Manager};
use crate::router::Api;
use crate::routes::json;

/// Creates a key and shows its secret, this once.
#[utoipa::path(
    post,
    path = "/api/v1/keys",
    operation_id = "createKey",
    tag = "Keys",
    request_body = CreateKey,
    responses((status = 201, body = CreatedKey)),
    security(("management_key" = [])),
)]
pub async fn create(State(api): State<Api>, _: Manager, Json(body): Json<CreateKey>) -> Result<Response, ApiError> {
    let request = convert::keys::key_request(body)?;
    let (view, secret) = api.app().create_key(request).await?;
    let created = CreatedKey { data: convert::keys::key(view), key: secret.reveal().to_owned() };
    Ok(json(StatusCode::CREATED, &created))
}
