//! `POST /api/v1/keys/{hash}/rotate`. Ours.

use axum::extract::State;
use http::StatusCode;
use tollgate_wire::{CreatedKey, RotateKey};

use crate::convert;
use crate::error::ApiError;
use crate::extract::{Json, LimitedManager, Path};
use crate::router::Api;
use crate::routes::Answer;
use crate::routes::keys::hash;

/// Gives a key a new secret and shows it, this once. Hash, budget and history stay.
#[utoipa::path(
    post,
    path = "/api/v1/keys/{hash}/rotate",
    operation_id = "rotateKey",
    tag = "Keys",
    params(("hash" = String, Path, description = "The hash of the key, or of its newest secret")),
    request_body = RotateKey,
    responses((status = 200, body = CreatedKey)),
    security(("management_key" = [])),
)]
pub async fn rotate(
    State(api): State<Api>,
    manager: LimitedManager,
    Path(text): Path<String>,
    Json(body): Json<RotateKey>,
) -> Result<Answer, ApiError> {
    let (hash, grace_seconds) = (hash(&text)?, body.grace_period_seconds.unwrap_or(0));
    let answer = |rotated: &_| Answer::new(StatusCode::OK, &convert::keys::created(rotated));
    let rotated = api.app().rotate_key(&hash, grace_seconds, manager.act(answer)).await?;
    Ok(answer(&rotated))
}
