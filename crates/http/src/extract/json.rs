//! JSON bodies.

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::error::ApiError;
use crate::limits::HttpLimits;
use crate::router::Api;

/// A JSON body.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Api> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let (head, body) = request.into_parts();
        let bytes = read_body(&head.headers, body, api.limits()).await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            let message = if error.is_data() { "Invalid request parameters" } else { "The body is not valid JSON" };
            ApiError::bad_request(format!("{message}: {error}"))
        })
    }
}

/// Reads a whole body, within the limits.
pub async fn read_body<B>(headers: &HeaderMap, body: B, limits: &HttpLimits) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if headers.get(CONTENT_ENCODING).is_some_and(|value| value != "identity") {
        return Err(ApiError::encoded_body());
    }
    let too_large = || ApiError::body_too_large(limits.body_bytes_max);
    // A client that says how much it will send is refused before it does.
    if body.size_hint().lower() > u64::try_from(limits.body_bytes_max).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    let reading = Limited::new(body, limits.body_bytes_max).collect();
    match tokio::time::timeout(limits.body_timeout, reading).await {
        Err(_) => Err(ApiError::timed_out()),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(ApiError::bad_request("The body could not be read to its end")),
    }
}
