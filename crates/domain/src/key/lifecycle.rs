//! What a key is, when it may be used, and how it changes.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::member::MemberId;
use crate::time::LimitReset;
use crate::workspace::WorkspaceId;
use crate::{KeyHash, Timestamp, Usd};

/// The row number of a key inside one database: rises with creation, never shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub i64);

/// An inference key and its budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The row number.
    pub id: KeyId,
    /// The SHA-256 of the first secret: the key's public id for life.
    pub hash: KeyHash,
    /// What opens it.
    pub secrets: Secrets,
    /// Free text chosen by the owner.
    pub name: String,
    /// The mask of the newest secret.
    pub label: String,
    /// The workspace that the key spends in.
    pub workspace: WorkspaceId,
    /// Refused while true; reversible.
    pub disabled: bool,
    /// The most it may spend in a window; `None` is no limit.
    pub limit: Option<Usd>,
    /// The window of the limit; `None` counts for life.
    pub limit_reset: Option<LimitReset>,
    /// Whether BYOK usage eats into the limit too.
    pub include_byok_in_limit: bool,
    /// From this instant on the key is refused.
    pub expires_at: Option<Timestamp>,
    /// The member who created it: what it spends counts as theirs too.
    pub creator: Option<MemberId>,
    /// A partner's own name for whoever uses the key.
    pub external_user: Option<String>,
    /// How often it may call.
    pub call_limits: CallLimits,
    /// The only models that it may call; `None` is all of them.
    pub allowed_models: Option<Arc<[String]>>,
    /// More than the limit, for a while.
    pub limit_raise: Option<LimitRaise>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed, if ever.
    pub updated_at: Option<Timestamp>,
}

/// What a key may spend beyond its limit, in each window, until an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitRaise {
    /// How much more.
    pub amount: Usd,
    /// From this instant on the limit is as it was.
    pub until: Timestamp,
}

/// How often a key may call, and how many of its calls may be under way. Each node counts for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallLimits {
    /// Calls a minute, and at once; `None` is no limit.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Calls that were admitted and are not settled; `None` is no limit.
    pub calls_in_flight_max: Option<NonZeroU32>,
}

impl CallLimits {
    /// Whether there is none.
    pub const fn is_none(&self) -> bool {
        self.requests_per_minute.is_none() && self.calls_in_flight_max.is_none()
    }
}

/// The secrets that open a key, by their SHA-256: two at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secrets {
    /// The newest.
    pub current: KeyHash,
    /// The one before, and until when it works.
    pub previous: Option<(KeyHash, Timestamp)>,
}

impl Secrets {
    /// Of a key that was never rotated.
    pub const fn first(hash: KeyHash) -> Self {
        Self { current: hash, previous: None }
    }

    /// Whether the secret with this hash opens the key at `now`.
    pub fn open(&self, hash: &KeyHash, now: Timestamp) -> bool {
        self.current == *hash || self.previous.is_some_and(|(previous, until)| previous == *hash && now < until)
    }

    /// These after a rotation: whatever was older than the newest is of no use any more.
    #[must_use]
    pub fn rotated(&self, current: KeyHash, grace_micros: i64, now: Timestamp) -> Self {
        let until = now.plus_micros(grace_micros);
        Self { current, previous: (grace_micros > 0).then_some((self.current, until)) }
    }
}

/// What is chosen when a key is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// As [`Key::hash`].
    pub hash: KeyHash,
    /// As [`Key::name`], not empty.
    pub name: String,
    /// As [`Key::label`].
    pub label: String,
    /// As [`Key::workspace`].
    pub workspace: WorkspaceId,
    /// As [`Key::limit`].
    pub limit: Option<Usd>,
    /// As [`Key::limit_reset`].
    pub limit_reset: Option<LimitReset>,
    /// As [`Key::include_byok_in_limit`].
    pub include_byok_in_limit: bool,
    /// As [`Key::expires_at`].
    pub expires_at: Option<Timestamp>,
    /// As [`Key::creator`].
    pub creator: Option<MemberId>,
    /// As [`Key::external_user`].
    pub external_user: Option<String>,
    /// As [`Key::call_limits`].
    pub call_limits: CallLimits,
    /// As [`Key::allowed_models`], not empty.
    pub allowed_models: Option<Arc<[String]>>,
}

impl NewKey {
    /// The key as it stands right after its creation.
    pub fn into_key(self, id: KeyId, now: Timestamp) -> Key {
        Key {
            id,
            hash: self.hash,
            secrets: Secrets::first(self.hash),
            name: self.name,
            label: self.label,
            workspace: self.workspace,
            disabled: false,
            limit: self.limit,
            limit_reset: self.limit_reset,
            include_byok_in_limit: self.include_byok_in_limit,
            expires_at: self.expires_at,
            creator: self.creator,
            external_user: self.external_user,
            call_limits: self.call_limits,
            allowed_models: self.allowed_models,
            limit_raise: None,
            created_at: now,
            updated_at: None,
        }
    }
}

/// A change to a key: `None` leaves a field as it is, `Some(None)` clears it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyChange {
    /// A new name, not empty.
    pub name: Option<String>,
    /// Disable or enable.
    pub disabled: Option<bool>,
    /// A new limit, or none.
    pub limit: Option<Option<Usd>>,
    /// A new reset, or none.
    pub limit_reset: Option<Option<LimitReset>>,
    /// Whether BYOK usage counts.
    pub include_byok_in_limit: Option<bool>,
    /// A move to another workspace.
    pub workspace: Option<WorkspaceId>,
    /// Other calls a minute, or any number.
    pub requests_per_minute: Option<Option<NonZeroU32>>,
    /// Other calls in flight, or any number.
    pub calls_in_flight_max: Option<Option<NonZeroU32>>,
    /// Other models, not none, or all of them.
    pub allowed_models: Option<Option<Arc<[String]>>>,
    /// More than the limit for a while, or no longer.
    pub limit_raise: Option<Option<LimitRaise>>,
}

impl KeyChange {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a key may not be used. Callers learn none of this: they get one message (contract section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRejected {
    /// No such key, or it was deleted.
    #[error("key is unknown")]
    Unknown,
    /// The owner disabled it.
    #[error("key is disabled")]
    Disabled,
    /// Its time is over.
    #[error("key has expired")]
    Expired,
}

impl Key {
    /// Whether the key may be used at `now`.
    ///
    /// # Errors
    /// [`KeyRejected`] says why not.
    pub fn usable_at(&self, now: Timestamp) -> Result<(), KeyRejected> {
        if self.disabled {
            Err(KeyRejected::Disabled)
        } else if self.expired_at(now) {
            Err(KeyRejected::Expired)
        } else {
            Ok(())
        }
    }

    /// Whether the key's time is over at `now`.
    pub fn expired_at(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// The key after `change`, with a fresh `updated_at`.
    #[must_use]
    pub fn apply(&self, change: KeyChange, now: Timestamp) -> Self {
        let old = self.clone();
        Self {
            name: change.name.unwrap_or(old.name),
            disabled: change.disabled.unwrap_or(old.disabled),
            limit: change.limit.unwrap_or(old.limit),
            limit_reset: change.limit_reset.unwrap_or(old.limit_reset),
            include_byok_in_limit: change.include_byok_in_limit.unwrap_or(old.include_byok_in_limit),
            workspace: change.workspace.unwrap_or(old.workspace),
            call_limits: CallLimits {
                requests_per_minute: change.requests_per_minute.unwrap_or(old.call_limits.requests_per_minute),
                calls_in_flight_max: change.calls_in_flight_max.unwrap_or(old.call_limits.calls_in_flight_max),
            },
            allowed_models: change.allowed_models.unwrap_or(old.allowed_models),
            limit_raise: change.limit_raise.unwrap_or(old.limit_raise),
            updated_at: Some(now),
            ..old
        }
    }

    /// The limit that is in force at `now`: with what it is raised by.
    pub fn limit_at(&self, now: Timestamp) -> Option<Usd> {
        let raise = self.limit_raise.filter(|raise| now < raise.until).map_or(Usd::ZERO, |raise| raise.amount);
        self.limit.map(|limit| [limit, raise].into_iter().sum())
    }
}

/// The row number of a management key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ManagementKeyId(pub i64);

/// What a management key may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Powers {
    /// It may look at everything and change nothing.
    pub read_only: bool,
    /// From this instant on it is refused.
    pub expires_at: Option<Timestamp>,
    /// The workspace whose keys it manages, and nothing else; `None` is everything.
    pub workspace: Option<WorkspaceId>,
}

/// A key that manages other keys and never calls a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagementKey {
    /// The row number.
    pub id: ManagementKeyId,
    /// The SHA-256 of its secret.
    pub hash: KeyHash,
    /// Free text chosen by the operator.
    pub name: String,
    /// The mask of its secret.
    pub label: String,
    /// What it may do.
    pub powers: Powers,
    /// When it was created.
    pub created_at: Timestamp,
}

impl ManagementKey {
    /// Whether the key's time is over at `now`.
    pub fn expired_at(&self, now: Timestamp) -> bool {
        self.powers.expires_at.is_some_and(|end| end <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        NewKey {
            hash: KeyHash::of("k"),
            name: "ci".to_owned(),
            label: "sk".to_owned(),
            workspace: WorkspaceId(1),
            limit: Some(Usd::from_nanos(5)),
            limit_reset: None,
            include_byok_in_limit: false,
            expires_at: Some(Timestamp::from_micros(100)),
            creator: None,
            external_user: None,
            call_limits: CallLimits { requests_per_minute: NonZeroU32::new(60), calls_in_flight_max: None },
            allowed_models: None,
        }
        .into_key(KeyId(1), Timestamp::from_micros(1))
    }

    #[test]
    fn a_key_is_refused_from_its_expiry_on_and_while_disabled() {
        assert_eq!(key().usable_at(Timestamp::from_micros(99)), Ok(()));
        let late = Timestamp::from_micros(100);
        assert_eq!(key().usable_at(late), Err(KeyRejected::Expired));
        let off = KeyChange { disabled: Some(true), ..KeyChange::default() };
        let disabled = key().apply(off, Timestamp::from_micros(2));
        assert_eq!(disabled.usable_at(late), Err(KeyRejected::Disabled));
    }

    #[test]
    fn a_rotation_lets_the_newest_and_for_a_while_the_one_before_in() {
        let [first, second, third] = ["1", "2", "3"].map(KeyHash::of);
        let at = Timestamp::from_micros;
        let rotated = Secrets::first(first).rotated(second, 10, at(100));
        let open = |secrets: &Secrets, now| [first, second, third].map(|hash| secrets.open(&hash, at(now)));
        assert_eq!(open(&rotated, 109), [true, true, false]);
        assert_eq!(open(&rotated, 110), [false, true, false]);
        let again = rotated.rotated(third, 10, at(105));
        assert_eq!(open(&again, 106), [false, true, true], "two at the most");
        assert_eq!(open(&again.rotated(first, 0, at(106)), 106), [true, false, false]);
    }

    #[test]
    fn an_absent_field_stays_and_a_null_clears() {
        let now = Timestamp::from_micros(7);
        let rename = KeyChange { name: Some("x".to_owned()), ..KeyChange::default() };
        let renamed = key().apply(rename, now);
        assert_eq!(renamed.limit, key().limit);
        assert_eq!(renamed.updated_at, Some(now));
        let unlimited = KeyChange { limit: Some(None), ..KeyChange::default() };
        assert_eq!(key().apply(unlimited, now).limit, None);
        let raise = LimitRaise { amount: Usd::from_nanos(5), until: Timestamp::from_micros(90) };
        let raised = key().apply(KeyChange { limit_raise: Some(Some(raise)), ..KeyChange::default() }, now);
        let limit = key().limit.unwrap();
        assert_eq!(raised.limit, Some(limit), "the limit itself stays as it is");
        assert_eq!(raised.limit_at(Timestamp::from_micros(89)), limit.plus(raise.amount).ok());
        assert_eq!(raised.limit_at(Timestamp::from_micros(90)), Some(limit));
        let unlimited = raised.apply(KeyChange { limit: Some(None), ..KeyChange::default() }, now);
        assert_eq!(unlimited.limit_at(now), None);
        let few = KeyChange { calls_in_flight_max: Some(NonZeroU32::new(2)), ..KeyChange::default() };
        let few = key().apply(few, now).call_limits;
        assert_eq!(few, CallLimits { calls_in_flight_max: NonZeroU32::new(2), ..key().call_limits });
        let any = KeyChange { requests_per_minute: Some(None), ..KeyChange::default() };
        assert!(!few.is_none() && key().apply(any, now).call_limits.is_none());
    }
}
