//! `/api/v1/auth/keys` (contract section 7).

use axum::extract::State;
use http::StatusCode;
use tollgate_app::oauth::ExchangeCodeError;
use tollgate_domain::KeySecret;
use tollgate_domain::oauth::ExchangeRefused;
use tollgate_store::Actor;
use tollgate_wire::{AuthCode, CreateAuthCode, Data, ExchangeAuthCode, ExchangedKey};

use crate::client_address::ClientAddress;
use crate::convert::oauth as convert;
use crate::error::ApiError;
use crate::extract::{Json, LimitedAccountant, Once};
use crate::router::Api;
use crate::routes::Answer;

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
    accountant: LimitedAccountant,
    Json(body): Json<CreateAuthCode>,
) -> Result<Answer, ApiError> {
    let mut request = convert::code_request(&body)?;
    request.workspace = accountant.workspace(&api, request.workspace).await?;
    let app_id = request.callback.app_id();
    let answer = move |(made, code): &(_, _)| {
        Answer::new(StatusCode::OK, &Data { data: convert::auth_code(app_id, made, code) })
    };
    let made = api.app().create_code(request, accountant.act(answer)).await?;
    Ok(answer(&made))
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
        (status = 429, description = "Too many wrong codes or keys came from this address"),
        (status = 503, description = "The ledger cannot be reached or written to; nothing was done"),
    ),
)]
pub async fn exchange(
    State(api): State<Api>,
    client: ClientAddress,
    once: Once,
    Json(body): Json<ExchangeAuthCode>,
) -> Result<Answer, ApiError> {
    let (code, proof) = convert::proof(&body)?;
    let answer = |secret: &KeySecret| {
        Answer::new(StatusCode::OK, &ExchangedKey { key: secret.reveal().to_owned(), user_id: None })
    };
    let exchanged = api.app().exchange_code(&code, proof, once.act(Actor::App, answer)).await;
    if let Err(ExchangeCodeError::Refused(ExchangeRefused::Invalid)) = exchanged {
        api.guard().failed(client)?;
    }
    Ok(answer(&exchanged?))
}
