//! `/api/v1/credits` (contract section 6).

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_wire::{Credits, Data, TopUp};

use crate::convert::workspaces as convert;
use crate::error::ApiError;
use crate::extract::{Accountant, Json};
use crate::router::Api;
use crate::routes::{Answer, json};

/// Shows what the account was topped up by, and what it spent.
#[utoipa::path(
    get,
    path = "/api/v1/credits",
    operation_id = "getCredits",
    tag = "Account",
    responses(
        (status = 200, body = Data<Credits>),
        (status = 403, description = "The key is no management key"),
    ),
    security(("management_key" = [])),
)]
pub async fn get(State(api): State<Api>, _: Accountant) -> Result<Response, ApiError> {
    let credits = api.app().credits().await?;
    Ok(json(StatusCode::OK, &Data { data: convert::credits(credits) }))
}

/// Tops the account up. Ours.
#[utoipa::path(
    post,
    path = "/api/v1/credits",
    operation_id = "topUpCredits",
    tag = "Account",
    request_body = TopUp,
    responses(
        (status = 201, body = Data<Credits>),
        (status = 403, description = "The key is no management key"),
    ),
    security(("management_key" = [])),
)]
pub async fn top_up(
    State(api): State<Api>,
    accountant: Accountant,
    Json(body): Json<TopUp>,
) -> Result<Answer, ApiError> {
    let amount = convert::exact("amount_usd", &body.amount_usd)?;
    let answer = |credits: &_| Answer::new(StatusCode::CREATED, &Data { data: convert::credits(*credits) });
    let note = body.note.as_deref().unwrap_or_default();
    let credits = api.app().top_up(amount, note, accountant.act(answer)).await?;
    Ok(answer(&credits))
}
