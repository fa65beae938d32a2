//! `/api/v1/auth/keys` (contract section 7).

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use tollgate_wire::{AuthCode, CreateAuthCode, Data, ExchangeAuthCode, ExchangedKey};

use crate::convert::oauth as convert;
use crate::error::ApiError;
use crate::extract::{Accountant, Json};
use crate::router::Api;
use crate::routes::json;

/// Makes a code for an app and shows it, this once.
#[utoipa::path(
    post,
    path = "/api/v1/auth/keys/code",
    operation_id = "createAuthCode",
    tag = "Keys",
    request_body = CreateAuthCode,
    responses(
        (status = 200, body = Data<AuthCode>),
        (status = 403, description = "The key is no management key"),
    ),
    security(("management_key" = [])),
)]
pub async fn create_code(
    State(api): State<Api>,
    _: Accountant,
    Json(body): Json<CreateAuthCode>,
) -> Result<Response, ApiError> {
    let request = convert::code_request(&body)?;
    let app_id = request.callback.app_id();
    let (made, code) = api.app().create_code(request).await?;
    Ok(json(StatusCode::OK, &Data { data: convert::auth_code(app_id, &made, &code) }))
}

/// Exchanges a code for a key and shows its secret, this once. Takes no credential: knowing the verifier is the proof.
#[utoipa::path(
    post,
    path = "/api/v1/auth/keys",
    operation_id = "exchangeAuthCode",
    tag = "Keys",
    request_body = ExchangeAuthCode,
    responses(
        (status = 200, body = ExchangedKey),
        (status = 403, description = "The code or its verifier is wrong, or its time is over"),
        (status = 503, description = "The ledger cannot be reached or written to; nothing was done"),
    ),
)]
pub async fn exchange(State(api): State<Api>, Json(body): Json<ExchangeAuthCode>) -> Result<Response, ApiError> {
    let (code, proof) = convert::proof(&body)?;
    let secret = api.app().exchange_code(&code, proof).await?;
    Ok(json(StatusCode::OK, &ExchangedKey { key: secret.reveal().to_owned(), user_id: None }))
}
