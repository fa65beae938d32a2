//! `POST /api/v1/chat/completions`: straight to the data path, past the router.

use std::net::IpAddr;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_TYPE, REFERER, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body::Body;
use tollgate_gateway::{Answer, AnswerBody, Caller as CallerFacts};
use tollgate_wire::{ChatCompletion, ChatEvent, ChatRequest};

use crate::error::ApiError;
use crate::extract::{Caller, read_body};
use crate::router::{Api, ApiBody, EXPOSED};

/// Characters of a header that are worth keeping.
const FACT_CHARACTERS_MAX: usize = 256;

/// Answers a call.
#[utoipa::path(
    post,
    path = "/api/v1/chat/completions",
    operation_id = "createChatCompletion",
    tag = "Chat",
    request_body = ChatRequest,
    responses(
        (status = 200, content((ChatCompletion = "application/json"), (ChatEvent = "text/event-stream"))),
        (status = 402, description = "The credits are spent, or what is left does not reach for this call"),
        (status = 403, description = "The key's limit, or a budget above it, is spent; or a content filter blocks what is said"),
        (status = 404, description = "No provider is left that could answer, or no price is known for the model"),
        (status = 422, description = "The provider found the call unacceptable"),
        (status = 429, description = "The key calls too often, or has too many calls in flight; too many wrong keys came from this address; or the provider is busy"),
        (status = 502, description = "The provider failed"),
        (status = 524, description = "The provider was too slow"),
        (status = 529, description = "The provider is overloaded"),
    ),
    security(("inference_key" = [])),
)]
pub async fn chat<B>(api: &Api, request: Request<B>, peer: IpAddr, request_id: &str) -> http::Response<ApiBody>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match answer(api, request, peer, request_id).await {
        Ok(answer) => success(answer),
        Err(error) => failure(error),
    }
}

/// The answer to a call that got none.
pub fn failure(error: ApiError) -> http::Response<ApiBody> {
    let mut response: Response = error.into_response();
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    response.map(ApiBody::Plain)
}

async fn answer<B>(api: &Api, request: Request<B>, peer: IpAddr, request_id: &str) -> Result<Answer, ApiError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let Caller(mut key) = Caller::of(&head.headers, peer, api).await?;
    let mut reading = std::pin::pin!(read_body(&head.headers, body, api.limits()));
    let body = match reading.as_mut().now_or_never() {
        Some(body) => body?,
        None => {
            let body = reading.await?;
            // Whatever was changed while the body was on its way is in force.
            Caller(key) = Caller::of(&head.headers, peer, api).await?;
            body
        }
    };
    let (user_agent, http_referer) = (fact(&head.headers, &USER_AGENT), fact(&head.headers, &REFERER));
    let http_referer = fact(&head.headers, &HeaderName::from_static("http-referer")).or(http_referer);
    let caller = CallerFacts { key, user_agent, http_referer, request_id: request_id.into() };
    let public_url = &api.app().settings().public_url;
    api.gateway().chat(caller, body).await.map_err(|error| ApiError::from_chat(error, public_url))
}

fn success(answer: Answer) -> http::Response<ApiBody> {
    let mut response = http::Response::new(());
    let headers = response.headers_mut();
    let kind = if answer.streamed { "text/event-stream" } else { "application/json" };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    let mut text = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    text("x-generation-id", answer.generation);
    text("x-provider-name", answer.provider);
    if let Some(cap) = answer.lowered_cap {
        text("x-tollgate-max-tokens", cap.to_string());
    }
    if answer.pending {
        text("x-tollgate-settlement", "pending".to_owned());
    }
    let body: AnswerBody = answer.body;
    response.map(|()| ApiBody::Answer(body))
}

fn fact(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    Some(text.chars().take(FACT_CHARACTERS_MAX).collect())
}
