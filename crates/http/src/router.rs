//! From a request to its route.

use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body::{Body, Frame, SizeHint};
use tollgate_app::App;
use tollgate_domain::web::Site;
use tollgate_gateway::{AnswerBody, Gateway};
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{Any, CorsLayer};

use crate::client_address::Peer;
use crate::error::{ApiError, Cause};
use crate::extract::{InProgress, once};
use crate::guard::{Guard, GuardSettings};
use crate::limits::HttpLimits;
use crate::routes;

/// Headers that pages of other origins may read.
pub const EXPOSED: &str = "x-generation-id, x-provider-name, x-request-id, x-tollgate-max-tokens, x-tollgate-settlement, retry-after, \
     x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, idempotent-replayed";
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
    guard: Guard,
    requests: AtomicU64,
    in_progress: InProgress,
    boot: u32,
    site: Option<Site>,
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
    /// The API of a product. `boot` sets the ids of this process's requests apart from another's; pages for people are there
    /// where they know their `site`.
    pub fn new(
        app: App,
        gateway: Gateway,
        limits: HttpLimits,
        guard: GuardSettings,
        boot: u32,
        site: Option<Site>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                app,
                gateway,
                limits,
                guard: Guard::new(guard),
                requests: AtomicU64::new(0),
                in_progress: InProgress::default(),
                boot,
                site,
            }),
        }
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

    /// What keeps guesses slow.
    pub fn guard(&self) -> &Guard {
        &self.shared.guard
    }

    /// Requests with an idempotency key that are being answered.
    pub fn in_progress(&self) -> &InProgress {
        &self.shared.in_progress
    }

    /// Where people reach the pages, if there are any.
    pub fn site(&self) -> Option<&Site> {
        self.shared.site.as_ref()
    }

    /// The control plane's routes.
    pub fn router(&self) -> Router {
        let exposed = EXPOSED.split(", ").filter_map(|name| name.parse::<HeaderName>().ok());
        let cors = CorsLayer::new()
            .allow_origin(Any)
            .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::PUT, Method::DELETE])
            .allow_headers(Any)
            .expose_headers(exposed.collect::<Vec<_>>());
        let api = under(api_routes()).layer(from_fn_with_state(self.clone(), once)).layer(cors);
        let pages = if self.site().is_some() { pages() } else { Routes::new() };
        under(server_routes())
            .merge(under(pages))
            .nest("/api/v1", api)
            .fallback(not_found)
            .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
            .layer(CatchPanicLayer::custom(|_| ApiError::panicked().into_response()))
            .with_state(self.clone())
    }

    /// Answers one request.
    pub async fn answer<B>(&self, router: &Router, mut request: Request<B>, peer: IpAddr) -> http::Response<ApiBody>
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
            let answered = AssertUnwindSafe(routes::chat::chat(self, request, peer, &id)).catch_unwind().await;
            answered.unwrap_or_else(|_| routes::chat::failure(ApiError::panicked()))
        } else {
            // Extensions are allocated: the data path does without.
            request.extensions_mut().insert(Peer(peer));
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

/// Paths with what answers there.
type Routes = Vec<(&'static str, MethodRouter<Api>)>;

fn under(routes: Routes) -> Router<Api> {
    routes.into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods))
}

/// What is served at the root.
fn server_routes() -> Routes {
    use routes::{health, reference};
    vec![
        ("/health", get(health::health)),
        ("/ready", get(health::ready)),
        ("/openapi.json", get(reference::openapi)),
        ("/docs", get(reference::docs)),
        ("/llms.txt", get(reference::llms)),
    ]
}

/// Pages for people, which are no operations of the API: off unless the configuration turns them on, in no document, and
/// without CORS.
fn pages() -> Routes {
    use routes::consent;
    vec![
        ("/auth", get(consent::show).post(consent::decide)),
        ("/auth/sign-in", post(consent::sign_in)),
        ("/auth/sign-out", post(consent::sign_out)),
        ("/auth/style.css", get(consent::style)),
    ]
}

/// What is served under `/api/v1`.
fn api_routes() -> Routes {
    use routes::{activity, audit, credits, generation, key, keys, models, oauth, providers};
    let one_key = get(keys::get).patch(keys::update).delete(keys::delete);
    let mut all = vec![
        ("/key", get(key::get)),
        ("/auth/key", get(key::get_by_older_name)),
        ("/auth/keys", post(oauth::exchange)),
        ("/auth/keys/code", post(oauth::create_code)),
        ("/keys", get(keys::list).post(keys::create)),
        ("/keys/{hash}", one_key),
        ("/keys/{hash}/rotate", post(keys::rotate)),
        ("/keys/bulk", post(keys::bulk)),
        ("/activity", get(activity::get)),
        ("/credits", get(credits::get).post(credits::top_up)),
        ("/audit", get(audit::list)),
        ("/generation", get(generation::get)),
        ("/generation/adjust", post(generation::adjust)),
        ("/models", get(models::list)),
        ("/models/count", get(models::count)),
        ("/models/user", get(models::user)),
        // An id is everything that stands there, slashes and all.
        ("/models/{*path}", get(models::endpoints)),
        ("/model/{*id}", get(models::get)),
        ("/providers", get(providers::list)),
        // Answered past the router; here so that its path is known for other methods.
        ("/chat/completions", post(not_found)),
    ];
    all.extend(workspace_routes());
    all.extend(guardrail_routes());
    all.extend(byok_routes());
    all
}

fn workspace_routes() -> Routes {
    use routes::{members, workspace_budgets as budgets, workspaces};
    let one_budget = get(budgets::get).put(budgets::put).delete(budgets::delete);
    vec![
        ("/workspaces", get(workspaces::list).post(workspaces::create)),
        ("/workspaces/{id}", get(workspaces::get).patch(workspaces::update).delete(workspaces::delete)),
        ("/workspaces/{id}/members", get(members::of_workspace)),
        ("/workspaces/{id}/members/add", post(members::add)),
        ("/workspaces/{id}/members/remove", post(members::remove)),
        ("/workspaces/{id}/budgets", get(budgets::list)),
        ("/workspaces/{id}/budgets/{interval}", one_budget),
        ("/organization/members", get(members::list).post(members::create)),
        ("/organization/members/{user_id}", delete(members::delete)),
    ]
}

fn guardrail_routes() -> Routes {
    use routes::guardrails;
    let one = get(guardrails::get).patch(guardrails::update).delete(guardrails::delete);
    vec![
        ("/guardrails", get(guardrails::list).post(guardrails::create)),
        ("/guardrails/{id}", one),
        ("/guardrails/assignments/keys", get(guardrails::all_keys)),
        ("/guardrails/assignments/members", get(guardrails::all_members)),
        ("/guardrails/{id}/assignments/keys", get(guardrails::keys).post(guardrails::assign_keys)),
        ("/guardrails/{id}/assignments/keys/remove", post(guardrails::unassign_keys)),
        ("/guardrails/{id}/assignments/members", get(guardrails::members).post(guardrails::assign_members)),
        ("/guardrails/{id}/assignments/members/remove", post(guardrails::unassign_members)),
    ]
}

fn byok_routes() -> Routes {
    use routes::byok;
    vec![
        ("/byok", get(byok::list).post(byok::create)),
        ("/byok/{id}", get(byok::get).patch(byok::update).delete(byok::delete)),
    ]
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::openapi::DOCUMENT;

    /// Paths whose parameters hold slashes, as the document has them.
    const WILD: [(&str, &str); 2] =
        [("/models/{*path}", "/models/{author}/{slug}/endpoints"), ("/model/{*id}", "/model/{author}/{slug}")];

    /// The methods of each path as the routes themselves know them: `Debug` of axum's routers names them.
    fn served() -> BTreeMap<String, Vec<String>> {
        let named = |prefix: &str, routes: Routes| {
            let routes = routes.into_iter().map(|(path, methods)| {
                let path = WILD.iter().find(|(wild, _)| *wild == path).map_or(path, |(_, written)| written);
                (format!("{prefix}{path}"), methods_of(&methods))
            });
            routes.collect::<BTreeMap<_, _>>()
        };
        let mut all = named("/api/v1", api_routes());
        all.extend(named("", server_routes()));
        all
    }

    fn methods_of(methods: &MethodRouter<Api>) -> Vec<String> {
        let text = format!("{methods:?}");
        let all = ["get", "put", "post", "delete", "patch"];
        let there = |method: &&str| !text.contains(&format!(" {method}: None"));
        all.into_iter().filter(there).map(str::to_owned).collect()
    }

    #[test]
    fn pages_are_these_and_none_is_documented() {
        let pages = pages().into_iter().map(|(path, methods)| (path, methods_of(&methods).join(" ")));
        let pages: BTreeMap<_, _> = pages.collect();
        let known =
            [("/auth", "get post"), ("/auth/sign-in", "post"), ("/auth/sign-out", "post"), ("/auth/style.css", "get")];
        assert_eq!(pages, known.map(|(path, methods)| (path, methods.to_owned())).into());
        assert!(pages.keys().all(|path| DOCUMENT["paths"].get(path).is_none()));
    }

    #[test]
    fn what_is_served_is_what_is_documented() {
        let item = |item: &serde_json::Value| item.as_object().unwrap().keys().cloned().collect::<Vec<String>>();
        let documented = DOCUMENT["paths"].as_object().unwrap().iter();
        let documented: BTreeMap<String, Vec<String>> = documented.map(|(path, it)| (path.clone(), item(it))).collect();
        let served: BTreeMap<_, _> = served()
            .into_iter()
            .map(|(path, mut methods)| {
                methods.sort();
                (path, methods)
            })
            .collect();
        assert_eq!(served, documented);
    }
}
