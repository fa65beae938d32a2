//! From a request to its route.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body::{Body, Frame, SizeHint};
use tollgate_app::App;
use tollgate_gateway::{AnswerBody, Gateway};
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{Any, CorsLayer};

use crate::error::{ApiError, Cause};
use crate::limits::HttpLimits;
use crate::routes;

/// Headers that pages of other origins may read.
pub const EXPOSED: &str =
    "x-generation-id, x-provider-name, x-request-id, x-tollgate-max-tokens, x-tollgate-settlement, retry-after";
const CHAT: &str = "/api/v1/chat/completions";

/// The whole API as one service.
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
}

struct Shared {
    app: App,
    gateway: Gateway,
    limits: HttpLimits,
    requests: AtomicU64,
    boot: u32,
}

/// The body of any answer.
pub enum ApiBody {
    /// Of the control plane.
    Plain(axum::body::Body),
    /// Of the data path.
    Answer(AnswerBody),
}

impl Body for ApiBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self.get_mut() {
            Self::Plain(body) => Pin::new(body).poll_frame(cx),
            Self::Answer(body) => Pin::new(body).poll_frame(cx).map_err(|never: Infallible| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Plain(body) => body.is_end_stream(),
            Self::Answer(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain(body) => body.size_hint(),
            Self::Answer(body) => body.size_hint(),
        }
    }
}

impl Api {
    /// The API of a product. `boot` sets the ids of this process's requests apart from another's.
    pub fn new(app: App, gateway: Gateway, limits: HttpLimits, boot: u32) -> Self {
        Self { shared: Arc::new(Shared { app, gateway, limits, requests: AtomicU64::new(0), boot }) }
    }

    /// The product.
    pub fn app(&self) -> &App {
        &self.shared.app
    }

    /// The data path.
    pub fn gateway(&self) -> &Gateway {
        &self.shared.gateway
    }

    /// The limits.
    pub fn limits(&self) -> &HttpLimits {
        &self.shared.limits
    }

    /// The control plane's routes.
    pub fn router(&self) -> Router {
        let keys = get(routes::keys::list).post(routes::keys::create);
        let key = get(routes::keys::get).patch(routes::keys::update).delete(routes::keys::delete);
        let api = Router::new()
            .route("/key", get(routes::key::get))
            .route("/auth/key", get(routes::key::get))
            .route("/auth/keys", post(routes::oauth::exchange))
            .route("/auth/keys/code", post(routes::oauth::create_code))
            .route("/keys", keys)
            .route("/keys/{hash}", key)
            .route("/keys/{hash}/rotate", post(routes::keys::rotate))
            .route("/keys/bulk", post(routes::keys::bulk))
            .merge(workspaces())
            .merge(budgets())
            .merge(guardrails())
            .route("/activity", get(routes::activity::get))
            .route("/credits", get(routes::credits::get).post(routes::credits::top_up))
            .route("/generation", get(routes::generation::get))
            .route("/models", get(routes::models::list))
            .route("/models/count", get(routes::models::count))
            .route("/models/user", get(routes::models::user))
            // An id is everything that stands there, slashes and all.
            .route("/models/{*path}", get(routes::models::endpoints))
            .route("/model/{*id}", get(routes::models::get))
            .route("/providers", get(routes::providers::list))
            // Answered past the router; here so that its path is known for other methods.
            .route("/chat/completions", post(not_found));
        let exposed = EXPOSED.split(", ").filter_map(|name| name.parse::<HeaderName>().ok());
        let cors = CorsLayer::new()
            .allow_origin(Any)
            .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::PUT, Method::DELETE])
            .allow_headers(Any)
            .expose_headers(exposed.collect::<Vec<_>>());
        Router::new()
            .nest("/api/v1", api.layer(cors))
            .route("/health", get(routes::health::health))
            .route("/ready", get(routes::health::ready))
            .fallback(not_found)
            .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
            .layer(CatchPanicLayer::custom(|_| ApiError::panicked().into_response()))
            .with_state(self.clone())
    }

    /// Answers one request.
    pub async fn answer<B>(&self, router: &Router, mut request: Request<B>) -> http::Response<ApiBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        trim_slashes(request.uri_mut());
        let asked = tracing::enabled!(tracing::Level::DEBUG)
            .then(|| (request.method().clone(), request.uri().path().to_owned()));
        let number = self.shared.requests.fetch_add(1, Ordering::Relaxed);
        let id = format!("req-{:08x}{number:08x}", self.shared.boot);
        let mut response = if flooded(request.headers(), self.limits()) {
            ApiError::header_flood().into_response().map(ApiBody::Plain)
        } else if request.method() == Method::POST && request.uri().path() == CHAT {
            // A panic is our fault, and answered like one; what was held is settled by whoever holds it.
            let answered = AssertUnwindSafe(routes::chat::chat(self, request, &id)).catch_unwind().await;
            answered.unwrap_or_else(|_| routes::chat::failure(ApiError::panicked()))
        } else {
            route(router, request.map(axum::body::Body::new)).await
        };
        if let Some(Cause(cause)) = response.extensions().get::<Cause>() {
            let status = response.status().as_u16();
            tracing::error!(request.id = id, status, error = %Chain(cause.as_ref()), "request failed");
        }
        if let Some((method, path)) = asked {
            tracing::debug!(request.id = id, %method, path, status = response.status().as_u16(), "answered");
        }
        if let Ok(value) = HeaderValue::try_from(id) {
            response.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
        }
        response
    }
}

async fn route(router: &Router, request: Request<axum::body::Body>) -> http::Response<ApiBody> {
    let mut response = router.clone().oneshot(request).await.unwrap_or_else(|never: Infallible| match never {});
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.map(ApiBody::Plain)
}

fn workspaces() -> Router<Api> {
    use routes::{members, workspaces};
    Router::new()
        .route("/workspaces", get(workspaces::list).post(workspaces::create))
        .route("/workspaces/{id}", get(workspaces::get).patch(workspaces::update).delete(workspaces::delete))
        .route("/workspaces/{id}/members", get(members::of_workspace))
        .route("/workspaces/{id}/members/add", post(members::add))
        .route("/workspaces/{id}/members/remove", post(members::remove))
        .route("/organization/members", get(members::list).post(members::create))
        .route("/organization/members/{user_id}", delete(members::delete))
}

fn budgets() -> Router<Api> {
    use routes::workspace_budgets as budgets;
    let one = get(budgets::get).put(budgets::put).delete(budgets::delete);
    Router::new()
        .route("/workspaces/{id}/budgets", get(budgets::list))
        .route("/workspaces/{id}/budgets/{interval}", one)
}

fn guardrails() -> Router<Api> {
    use routes::guardrails;
    let one = get(guardrails::get).patch(guardrails::update).delete(guardrails::delete);
    Router::new()
        .route("/guardrails", get(guardrails::list).post(guardrails::create))
        .route("/guardrails/{id}", one)
        .route("/guardrails/assignments/keys", get(guardrails::all_keys))
        .route("/guardrails/assignments/members", get(guardrails::all_members))
        .route("/guardrails/{id}/assignments/keys", get(guardrails::keys).post(guardrails::assign_keys))
        .route("/guardrails/{id}/assignments/keys/remove", post(guardrails::unassign_keys))
        .route("/guardrails/{id}/assignments/members", get(guardrails::members).post(guardrails::assign_members))
        .route("/guardrails/{id}/assignments/members/remove", post(guardrails::unassign_members))
}

async fn not_found() -> Response {
    ApiError::not_found("Resource not found").into_response()
}

/// `/keys/` is `/keys` (contract section 1.1).
fn trim_slashes(uri: &mut Uri) {
    let path = uri.path();
    let trimmed = path.trim_end_matches('/');
    if trimmed.len() == path.len() || trimmed.is_empty() {
        return;
    }
    let text = match uri.query() {
        Some(query) => format!("{trimmed}?{query}"),
        None => trimmed.to_owned(),
    };
    if let Ok(path_and_query) = PathAndQuery::try_from(text) {
        let mut parts = std::mem::take(uri).into_parts();
        parts.path_and_query = Some(path_and_query);
        *uri = Uri::from_parts(parts).unwrap_or_default();
    }
}

fn flooded(headers: &HeaderMap, limits: &HttpLimits) -> bool {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len().saturating_add(value.len())).sum();
    headers.len() > limits.headers_max || bytes > limits.header_bytes_max
}

/// An error and everything behind it.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
