//! What a path names: one that cannot be read names nothing.

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::error::ApiError;
use crate::router::Api;

/// The parameters of a path.
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let read = axum::extract::Path::<T>::from_request_parts(parts, api).await;
        read.map(|axum::extract::Path(named)| Self(named)).map_err(|_| ApiError::not_found("Resource not found"))
    }
}
