//! Authorization codes.

use tollgate_app::oauth::CodeRequest;
use tollgate_domain::oauth::{
    AuthCode, Callback, Challenge, ChallengeMethod, Code, CodeHash, ExchangeRefused, Proof, VerifierHash,
};
use tollgate_domain::time::LimitReset;
use tollgate_wire::{CreateAuthCode, ExchangeAuthCode};

use super::keys::{expires_at, limit, workspace_id};
use crate::error::ApiError;

/// What a body of `POST /auth/keys/code` asks for.
pub fn code_request(body: &CreateAuthCode) -> Result<CodeRequest, ApiError> {
    let callback = Callback::parse(&body.callback_url);
    let method = body.code_challenge_method.as_deref().map(method).transpose()?.unwrap_or_default();
    let challenge = Challenge::new(method, body.code_challenge.as_deref().unwrap_or_default());
    Ok(CodeRequest {
        callback: callback.map_err(|error| ApiError::bad_request(format!("`callback_url` {error}")))?,
        challenge: challenge.map_err(|error| ApiError::bad_request(format!("`code_challenge` {error}")))?,
        key_label: body.key_label.clone(),
        limit: body.limit.as_ref().map(limit).transpose()?,
        limit_reset: body.usage_limit_type.as_deref().map(usage_limit_type).transpose()?,
        expires_at: body.expires_at.as_deref().map(expires_at).transpose()?,
        workspace: body.workspace_id.as_deref().map(workspace_id).transpose()?,
    })
}

fn method(word: &str) -> Result<ChallengeMethod, ApiError> {
    ChallengeMethod::from_word(word)
        .ok_or_else(|| ApiError::bad_request("`code_challenge_method` must be S256 or plain"))
}

fn usage_limit_type(word: &str) -> Result<LimitReset, ApiError> {
    LimitReset::from_word(word)
        .ok_or_else(|| ApiError::bad_request("`usage_limit_type` must be daily, weekly or monthly"))
}

/// A code as it is shown once.
pub fn auth_code(app_id: u32, made: &AuthCode, code: &Code) -> tollgate_wire::AuthCode {
    tollgate_wire::AuthCode { id: code.reveal().to_owned(), app_id, created_at: made.created_at.to_string() }
}

/// The code, and what comes with it, in a body of `POST /auth/keys`.
pub fn proof(body: &ExchangeAuthCode) -> Result<(CodeHash, Proof), ApiError> {
    let known = |word: &str| {
        // A method that nobody knows is not the one of any code.
        ChallengeMethod::from_word(word).ok_or_else(|| ApiError::bad_request(ExchangeRefused::Method.to_string()))
    };
    let method = body.code_challenge_method.as_deref().map(known).transpose()?;
    Ok((CodeHash::of(&body.code), Proof { method, verifier: body.code_verifier.as_deref().map(VerifierHash::of) }))
}
