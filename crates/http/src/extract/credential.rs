//! Who asks: authentication is the type of an argument (contract section 2.3).

use std::ops::Deref;

use axum::extract::FromRequestParts;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Method};
use tollgate_domain::KeyHash;
use tollgate_domain::key::ManagementKey;
use tollgate_store::{Act, Actor, Credential, InferenceKey};

use super::Once;
use crate::error::ApiError;
use crate::router::Api;
use crate::routes::Answer;

/// Any valid key.
pub struct AnyKey(pub Credential);

/// A management key.
pub struct Manager(Acting);

/// A management key, for what is refused to others with a 403.
pub struct Accountant(Acting);

/// Whoever changes something, and the request that they do it with.
pub struct Acting {
    key: ManagementKey,
    once: Once,
}

impl Acting {
    fn of(key: ManagementKey, parts: &mut Parts) -> Result<Self, ApiError> {
        may(&key, &parts.method)?;
        Ok(Self { key, once: Once::of(parts) })
    }

    /// Who it is, for the audit log.
    pub fn actor(&self) -> Actor {
        Actor::Management { id: self.key.id, name: self.key.name.clone() }
    }

    /// Something that they have done, with the answer that they get for it.
    pub fn act<T>(&self, answer: impl FnOnce(&T) -> Answer + Send + 'static) -> Act<T> {
        self.once.act(self.actor(), answer)
    }
}

impl Deref for Manager {
    type Target = Acting;

    fn deref(&self) -> &Acting {
        &self.0
    }
}

impl Deref for Accountant {
    type Target = Acting;

    fn deref(&self) -> &Acting {
        &self.0
    }
}

/// An inference key.
pub struct Caller(pub InferenceKey);

impl FromRequestParts<Api> for AnyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let found = authenticate(&parts.headers, api).await?;
        found.map(Self).ok_or_else(ApiError::unknown_credential)
    }
}

impl FromRequestParts<Api> for Manager {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        match authenticate(&parts.headers, api).await? {
            Some(Credential::Management(key)) => Acting::of(key, parts).map(Self),
            Some(Credential::Inference(_)) | None => Err(ApiError::not_a_management_key()),
        }
    }
}

impl FromRequestParts<Api> for Accountant {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        match authenticate(&parts.headers, api).await? {
            Some(Credential::Management(key)) => Acting::of(key, parts).map(Self),
            Some(Credential::Inference(_)) => {
                Err(ApiError::forbidden("Only management keys can perform this operation"))
            }
            None => Err(ApiError::not_a_management_key()),
        }
    }
}

/// Whether the key is enough for a request with this method: one that is read-only may only look.
fn may(key: &ManagementKey, method: &Method) -> Result<(), ApiError> {
    if key.powers.read_only && !matches!(*method, Method::GET | Method::HEAD) {
        return Err(ApiError::forbidden("This management key is read-only"));
    }
    Ok(())
}

impl Caller {
    /// The inference key that a call is made with.
    pub async fn of(headers: &HeaderMap, api: &Api) -> Result<Self, ApiError> {
        match authenticate(headers, api).await? {
            Some(Credential::Inference(key)) => Ok(Self(key)),
            Some(Credential::Management(_)) | None => Err(ApiError::unknown_credential()),
        }
    }
}

/// The credential in the headers: `None` where it is of no use.
pub async fn authenticate(headers: &HeaderMap, api: &Api) -> Result<Option<Credential>, ApiError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Err(ApiError::missing_credential()) };
    if values.next().is_some() {
        return Ok(None);
    }
    let Some(secret) = value.to_str().ok().and_then(bearer) else { return Ok(None) };
    Ok(api.app().store().authenticate(&KeyHash::of(secret)).await?)
}

/// The token of `Bearer <token>`.
pub fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
