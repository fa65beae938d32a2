//! One file a route.

pub mod activity;
pub mod audit;
pub mod byok;
pub mod chat;
pub mod consent;
pub mod credits;
pub mod generation;
pub mod guardrails;
pub mod health;
pub mod key;
pub mod keys;
pub mod members;
pub mod models;
pub mod oauth;
pub mod providers;
pub mod reference;
pub mod workspace_budgets;
pub mod workspaces;

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::error::ApiError;

/// A JSON answer, before it is sent.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: String,
}

impl Answer {
    /// What our types are written as; none of them has a member that could not be.
    fn new(status: StatusCode, body: &impl Serialize) -> Self {
        let body =
            serde_json::to_string(body).inspect_err(|error| tracing::error!(%error, "an answer cannot be written"));
        Self { status, body: body.unwrap_or_default() }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        if self.body.is_empty() {
            return ApiError::unwritten().into_response();
        }
        let mut response = Response::new(self.body.into());
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// A JSON answer.
fn json(status: StatusCode, body: &impl Serialize) -> Response {
    Answer::new(status, body).into_response()
}
