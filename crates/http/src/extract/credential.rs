//! Who asks: authentication is the type of an argument (contract section 2.3).
//!
//! Whatever is wrong with a credential that was given, it counts as a guess. A valid key of the wrong kind is none.

use std::net::IpAddr;
use std::ops::Deref;

use axum::extract::FromRequestParts;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Method};
use tollgate_app::keys::KeyRequest;
use tollgate_app::workspaces::WorkspaceError;
use tollgate_domain::KeyHash;
use tollgate_domain::key::ManagementKey;
use tollgate_domain::workspace::{Workspace, WorkspaceId};
use tollgate_store::{Act, Actor, Credential, InferenceKey, WorkspaceRef, WorkspaceRefused};
use uuid::Uuid;

use super::Once;
use crate::client_address::peer_of;
use crate::convert::workspaces::workspace_ref;
use crate::error::ApiError;
use crate::router::Api;
use crate::routes::Answer;

/// Any valid key.
pub struct AnyKey(pub Credential);

/// A management key that reaches everything.
pub struct Manager(Acting);

/// The same, for what is refused to others with a 403.
pub struct Accountant(Acting);

/// A management key that may be limited to a workspace: whoever takes it asks what it reaches.
pub struct LimitedManager(Acting);

/// The same, for what is refused to others with a 403.
pub struct LimitedAccountant(Acting);

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
        actor(&self.key)
    }

    /// The workspace that the key is limited to.
    pub const fn within(&self) -> Option<WorkspaceId> {
        self.key.powers.workspace
    }

    /// Puts a key to be where the management key makes keys. Whose it is only one that reaches everything may say: what the
    /// key spends counts as that member's, wherever they are.
    pub async fn place(&self, api: &Api, request: &mut KeyRequest) -> Result<(), ApiError> {
        request.workspace = self.workspace(api, request.workspace).await?;
        if self.within().is_some() && request.creator_user_id.is_some() {
            return Err(ApiError::forbidden(
                "A management key of a workspace cannot set `creator_user_id`; leave it out",
            ));
        }
        Ok(())
    }

    /// The workspace that a path names, by its UUID or slug; one that the key does not reach is not there.
    pub async fn known_workspace(&self, api: &Api, path: &str) -> Result<Workspace, ApiError> {
        let workspace = api.app().known_workspace(&workspace_ref(path)).await?;
        if self.reaches(workspace.id) {
            Ok(workspace)
        } else {
            Err(WorkspaceError::from(WorkspaceRefused::Unknown).into())
        }
    }

    /// Whether the key reaches what is in a workspace.
    pub fn reaches(&self, workspace: WorkspaceId) -> bool {
        self.key.powers.workspace.is_none_or(|own| own == workspace)
    }

    /// The workspace that a request is about: the one that is asked for, or the key's own; `None` is the default one.
    pub async fn workspace(&self, api: &Api, asked: Option<Uuid>) -> Result<Option<Uuid>, ApiError> {
        workspace_within(&self.key, api, asked).await
    }

    /// Something that they have done, with the answer that they get for it.
    pub fn act<T>(&self, answer: impl FnOnce(&T) -> Answer + Send + 'static) -> Act<T> {
        self.once.act(self.actor(), answer)
    }
}

/// An inference key.
pub struct Caller(pub InferenceKey);

impl FromRequestParts<Api> for AnyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let found = identify(parts, api).await?;
        found.map(Self).ok_or_else(ApiError::unknown_credential)
    }
}

/// An extractor of management keys: whether one that is limited to a workspace will do, and what inference keys are told.
macro_rules! management {
    ($name:ident, $limited:expr, $refusal:expr) => {
        impl FromRequestParts<Api> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
                match identify(parts, api).await? {
                    Some(Credential::Management(key)) if key.powers.workspace.is_some() && !$limited => {
                        Err(ApiError::forbidden("This management key is limited to a workspace"))
                    }
                    Some(Credential::Management(key)) => Acting::of(key, parts).map(Self),
                    Some(Credential::Inference(_)) => Err($refusal),
                    None => Err(ApiError::not_a_management_key()),
                }
            }
        }

        impl Deref for $name {
            type Target = Acting;

            fn deref(&self) -> &Acting {
                &self.0
            }
        }
    };
}

management!(Manager, false, ApiError::not_a_management_key());
management!(LimitedManager, true, ApiError::not_a_management_key());
management!(Accountant, false, ApiError::only_management_keys());
management!(LimitedAccountant, true, ApiError::only_management_keys());

/// The holder of a management key, for the audit log.
pub fn actor(key: &ManagementKey) -> Actor {
    Actor::Management { id: key.id, name: key.name.clone(), within: key.powers.workspace }
}

/// The workspace that the holder of `key` is about: the one that is asked for, or the key's own; `None` is the default one.
pub async fn workspace_within(key: &ManagementKey, api: &Api, asked: Option<Uuid>) -> Result<Option<Uuid>, ApiError> {
    let Some(own) = key.powers.workspace else { return Ok(asked) };
    let own = api.app().known_workspace(&WorkspaceRef::Row(own)).await?.uuid;
    if asked.is_some_and(|asked| asked != own) {
        return Err(ApiError::forbidden("This management key is limited to another workspace"));
    }
    Ok(Some(own))
}

/// Whether the key is enough for a request with this method: one that is read-only may only look.
fn may(key: &ManagementKey, method: &Method) -> Result<(), ApiError> {
    if matches!(*method, Method::GET | Method::HEAD) { Ok(()) } else { may_change(key) }
}

/// Whether the key may change anything.
pub fn may_change(key: &ManagementKey) -> Result<(), ApiError> {
    if key.powers.read_only {
        return Err(ApiError::forbidden("This management key is read-only"));
    }
    Ok(())
}

impl Caller {
    /// The inference key that a call is made with.
    pub async fn of(headers: &HeaderMap, peer: IpAddr, api: &Api) -> Result<Self, ApiError> {
        match authenticate(headers, peer, api).await? {
            Some(Credential::Inference(key)) => Ok(Self(key)),
            Some(Credential::Management(_)) | None => Err(ApiError::unknown_credential()),
        }
    }
}

/// The credential of a request to the control plane, which is counted: `None` where it is of no use.
async fn identify(parts: &Parts, api: &Api) -> Result<Option<Credential>, ApiError> {
    let found = authenticate(&parts.headers, peer_of(parts), api).await?;
    pace(found.as_ref(), api).await?;
    Ok(found)
}

/// Counts a request of a management key, which may only ask so often.
pub async fn pace(credential: Option<&Credential>, api: &Api) -> Result<(), ApiError> {
    let Some(Credential::Management(key)) = credential else { return Ok(()) };
    match api.guard().managed(key.id) {
        Ok(()) => Ok(()),
        Err(refused) => Err(ApiError::too_many_requests(refused, api.app().store().now().await?)),
    }
}

/// The credential in the headers: `None` where it is of no use, which is counted as a guess.
async fn authenticate(headers: &HeaderMap, peer: IpAddr, api: &Api) -> Result<Option<Credential>, ApiError> {
    let found = look_up(headers, api).await?;
    if found.is_none() {
        api.guard().failed(api.guard().client(peer, headers))?;
    }
    Ok(found)
}

/// The credential in the headers: `None` where it is of no use. Counts nothing.
pub async fn look_up(headers: &HeaderMap, api: &Api) -> Result<Option<Credential>, ApiError> {
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
