//! `POST /api/v1/keys`

use axum::extract::State;
use http::StatusCode;
use tollgate_wire::{CreateKey, CreatedKey};

use crate::convert;
use crate::error::ApiError;
use crate::extract::{Json, LimitedManager};
use crate::router::Api;
use crate::routes::Answer;

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
pub async fn create(
    State(api): State<Api>,
    manager: LimitedManager,
    Json(body): Json<CreateKey>,
) -> Result<Answer, ApiError> {
    let mut request = convert::keys::key_request(body)?;
    manager.place(&api, &mut request).await?;
    let answer = |created: &_| Answer::new(StatusCode::CREATED, &convert::keys::created(created));
    let created = api.app().create_key(request, manager.act(answer)).await?;
    Ok(answer(&created))
}
