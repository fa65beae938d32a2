//! `GET /openapi.json`, `GET /docs` and `GET /llms.txt`: what this server can be asked, for whoever wants to know.

use axum::extract::State;
use axum::response::Response;
use http::HeaderValue;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};

use crate::openapi;
use crate::router::Api;

/// The page shows itself and nothing else.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Shows this description, in OpenAPI 3.1.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "getOpenApi",
    tag = "Server",
    responses((status = 200, body = Object, content_type = "application/json")),
)]
pub async fn openapi() -> Response {
    answer("application/json", openapi::JSON.as_str())
}

/// Shows this description as a page to read.
#[utoipa::path(
    get,
    path = "/docs",
    operation_id = "getDocs",
    tag = "Server",
    responses((status = 200, body = String, content_type = "text/html; charset=utf-8")),
)]
pub async fn docs() -> Response {
    let mut response = answer("text/html; charset=utf-8", openapi::PAGE.as_str());
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

/// Shows a short guide in plain text.
#[utoipa::path(
    get,
    path = "/llms.txt",
    operation_id = "getLlmsTxt",
    tag = "Server",
    responses((status = 200, body = String, content_type = "text/plain; charset=utf-8")),
)]
pub async fn llms(State(api): State<Api>) -> Response {
    answer("text/plain; charset=utf-8", openapi::guide(&api.app().settings().public_url))
}

fn answer(kind: &'static str, text: impl Into<axum::body::Body>) -> Response {
    let mut response = Response::new(text.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
