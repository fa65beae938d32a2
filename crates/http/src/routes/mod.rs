//! One file a route.

pub mod activity;
pub mod chat;
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

/// A JSON answer.
fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_string(body) {
        Err(error) => ApiError::internal(error).into_response(),
        Ok(text) => {
            let mut response = Response::new(text.into());
            *response.status_mut() = status;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
    }
}
