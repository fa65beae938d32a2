//! Query strings: an empty value is an absent one, a bad value is a 400 that names it.

use axum::extract::{FromRequestParts, Query};
use http::request::Parts;
use uuid::Uuid;

use crate::error::ApiError;
use crate::router::Api;

/// The pairs of a query string.
pub struct QueryPairs(Vec<(String, String)>);

impl FromRequestParts<Api> for QueryPairs {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let pairs = Query::<Vec<(String, String)>>::from_request_parts(parts, api).await;
        pairs.map(|Query(pairs)| Self(pairs)).map_err(|_| ApiError::bad_request("The query string cannot be read"))
    }
}

impl QueryPairs {
    /// The last value of `name`, if there is one that is not empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// `true`, `false`, `1` or `0`; default false (contract section 20, trap 9).
    pub fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.text(name) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(_) => Err(ApiError::bad_request(format!("`{name}` must be true or false"))),
        }
    }

    /// A whole number, zero or more.
    pub fn count(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u64>() {
            Ok(count) if digits => Ok(Some(count)),
            Err(_) if digits => Ok(Some(u64::MAX)),
            _ => Err(ApiError::bad_request(format!("`{name}` must be a whole number, zero or more"))),
        }
    }

    /// A UUID.
    pub fn uuid(&self, name: &str) -> Result<Option<Uuid>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        Uuid::parse_str(text).map(Some).map_err(|_| ApiError::bad_request(format!("`{name}` must be a UUID")))
    }
}
