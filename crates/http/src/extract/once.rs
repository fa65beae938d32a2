//! `Idempotency-Key`: a request that is sent again gets the answer that it got before, and nothing is done twice.
//!
//! The answer is written with the change that it tells of, or not at all, so that neither a crash nor a lost connection
//! leaves one without the other. Refusals are not kept: nothing was done.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use foldhash::HashSet;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use parking_lot::Mutex;
use tollgate_app::{Kept, Slot};
use tollgate_store::{Act, Actor, StoreError};

use super::credential::{bearer, look_up, pace};
use super::read_body;
use crate::error::ApiError;
use crate::router::Api;
use crate::routes::Answer;

/// The header of the request.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// The one path under which something is created without a key, as the API's own router sees it.
const EXCHANGE: &str = "/auth/keys";
/// Characters of an idempotency key.
const KEY_MAX: usize = 255;

/// Requests with an idempotency key that are being answered, by slot.
pub type InProgress = Arc<Mutex<HashSet<[u8; 32]>>>;

/// Where the answer to the request is kept, if it came with an idempotency key.
#[derive(Clone, Default)]
pub struct Once(Option<Slot>);

impl FromRequestParts<Api> for Once {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}

impl Once {
    /// Of the request with this head.
    pub fn of(parts: &Parts) -> Self {
        parts.extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// What `by` does, with the answer that is kept.
    pub fn act<T>(&self, by: Actor, answer: impl FnOnce(&T) -> Answer + Send + 'static) -> Act<T> {
        let Some(slot) = self.0.clone() else { return Act::from(by) };
        let keep = move |value: &T| slot.keep(&answer(value).to_bytes());
        Act { by, keep: Some(Box::new(keep)) }
    }
}

/// Answers a request that was answered before, and lets others through.
pub async fn once(State(api): State<Api>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key(IDEMPOTENCY_KEY) {
        return next.run(request).await;
    }
    match replay(&api, request).await {
        Err(error) => error.into_response(),
        Ok(Found::Answer(answer)) => {
            let mut response = answer.into_response();
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
            response
        }
        Ok(Found::New(request, claim)) => {
            let response = next.run(*request).await;
            drop(claim);
            response
        }
    }
}

enum Found {
    /// It was answered so.
    Answer(Answer),
    /// It was not.
    New(Box<Request>, Option<Claim>),
}

async fn replay(api: &Api, request: Request) -> Result<Found, ApiError> {
    let name = name(request.headers())?;
    // Nothing is read for, and nothing is told to, whoever could not ask now; their handler says why.
    let known = look_up(request.headers(), api).await.unwrap_or_default();
    let needs_none = request.uri().path() == EXCHANGE;
    if known.is_none() && !needs_none {
        return Ok(Found::New(Box::new(request), None));
    }
    let (mut head, body) = request.into_parts();
    let body = read_body(&head.headers, body, &api.limits().of_management()).await?;
    // Where no key is needed, callers prove who they are with what they send.
    let secret = match (&known, head.headers.get(AUTHORIZATION)) {
        (Some(_), Some(value)) => value.to_str().ok().and_then(bearer).unwrap_or_default().as_bytes().to_vec(),
        _ => body.to_vec(),
    };
    let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    let slot = api.app().slot(&secret, name.as_bytes(), &[target.as_bytes(), kind, &body]);
    let slot = slot.map_err(ApiError::internal)?;
    // A request that goes on to its handler is counted there.
    let Some(claim) = Claim::of(api, slot.id()) else {
        pace(known.as_ref(), api).await?;
        let message = "A request with this Idempotency-Key is in progress; wait for its answer, then ask again";
        return Err(ApiError::conflict(message));
    };
    let kept = api.app().kept(&slot).await?;
    if kept.is_some() {
        pace(known.as_ref(), api).await?;
    }
    match kept {
        Some(Kept::OtherRequest) => {
            Err(ApiError::conflict("This Idempotency-Key was used for another request; use a new one for each request"))
        }
        Some(Kept::Answer(bytes)) => {
            let answer = Answer::from_bytes(&bytes);
            answer.map(Found::Answer).ok_or_else(|| {
                ApiError::internal(StoreError::Corrupt("an answer that was kept has no status".to_owned()))
            })
        }
        None => {
            head.extensions.insert(Once(Some(slot)));
            Ok(Found::New(Box::new(Request::from_parts(head, body.into())), Some(claim)))
        }
    }
}

fn name(headers: &HeaderMap) -> Result<String, ApiError> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let (first, more) = (values.next(), values.next());
    let text = first.filter(|_| more.is_none()).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if (1..=KEY_MAX).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err(ApiError::bad_request(format!("Idempotency-Key must be one header of 1 to {KEY_MAX} ASCII characters")))
    }
}

/// A slot that is being worked on; free again when this is dropped.
struct Claim {
    in_progress: InProgress,
    id: [u8; 32],
}

impl Claim {
    fn of(api: &Api, id: [u8; 32]) -> Option<Self> {
        let in_progress = Arc::clone(api.in_progress());
        let free = in_progress.lock().insert(id);
        // Made only where it is free: one that is dropped frees the slot.
        free.then(|| Self { in_progress, id })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.in_progress.lock().remove(&self.id);
    }
}

impl Answer {
    /// Status and body in one, to be sealed.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.status.as_u16().to_be_bytes().to_vec();
        bytes.extend_from_slice(self.body.as_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (status, body) = bytes.split_first_chunk::<2>()?;
        let status = StatusCode::from_u16(u16::from_be_bytes(*status)).ok()?;
        Some(Self { status, body: String::from_utf8(body.to_vec()).ok()? })
    }
}
