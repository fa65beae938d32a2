//! Between rows and the domain's types.

use std::num::NonZeroU32;
use std::sync::Arc;

use tollgate_domain::key::{
    CallLimits, Key, KeyHash, KeyId, LimitRaise, ManagementKey, ManagementKeyId, Powers, Secrets,
};
use tollgate_domain::ledger::{MoneyKind, Scope};
use tollgate_domain::member::MemberId;
use tollgate_domain::time::{LimitReset, WindowKind};
use tollgate_domain::workspace::WorkspaceId;
use tollgate_domain::{Timestamp, Usd};
use uuid::Uuid;

use crate::value::{Row, Unreadable};

/// The columns that [`key`] reads.
pub const KEY_COLUMNS: &str = "id, hash, name, label, workspace, disabled, credit_limit, limit_reset,
    include_byok_in_limit, expires_at, creator, external_user, created_at, updated_at, secret,
    previous_secret, previous_until, requests_per_minute, calls_in_flight_max, allowed_models, raise_amount, raise_until,
    deleted_at";

/// The column that says when a key was deleted.
pub const KEY_DELETED: usize = 22;

pub fn key(row: &Row) -> Result<Key, Unreadable> {
    let hash = KeyHash::from_bytes(row.get(1)?);
    let current = row.get::<Option<[u8; 32]>>(14)?.map_or(hash, KeyHash::from_bytes);
    let previous = row.get::<Option<[u8; 32]>>(15)?.map(KeyHash::from_bytes);
    let until = row.get::<Option<i64>>(16)?.map(Timestamp::from_micros);
    Ok(Key {
        id: KeyId(row.get(0)?),
        hash,
        secrets: Secrets { current, previous: previous.zip(until) },
        name: row.get(2)?,
        label: row.get(3)?,
        workspace: WorkspaceId(row.get(4)?),
        disabled: row.get(5)?,
        limit: row.get::<Option<i64>>(6)?.map(Usd::from_nanos),
        limit_reset: row.get::<Option<String>>(7)?.as_deref().and_then(LimitReset::from_word),
        include_byok_in_limit: row.get(8)?,
        expires_at: row.get::<Option<i64>>(9)?.map(Timestamp::from_micros),
        creator: row.get::<Option<i64>>(10)?.map(MemberId),
        external_user: row.get(11)?,
        call_limits: CallLimits {
            requests_per_minute: row.get::<Option<u32>>(17)?.and_then(NonZeroU32::new),
            calls_in_flight_max: row.get::<Option<u32>>(18)?.and_then(NonZeroU32::new),
        },
        allowed_models: row.get::<Option<String>>(19)?.map(|text| models(&text)).transpose()?,
        limit_raise: row.get::<Option<i64>>(20)?.zip(row.get::<Option<i64>>(21)?).map(|(amount, until)| LimitRaise {
            amount: Usd::from_nanos(amount),
            until: Timestamp::from_micros(until),
        }),
        created_at: Timestamp::from_micros(row.get(12)?),
        updated_at: row.get::<Option<i64>>(13)?.map(Timestamp::from_micros),
    })
}

/// The columns that [`management_key`] reads.
pub const MANAGEMENT_KEY_COLUMNS: &str =
    "id, hash, name, label, created_at, read_only, expires_at, workspace, revoked_at";

/// The column that says when one was revoked.
pub const MANAGEMENT_KEY_REVOKED: usize = 8;

pub fn management_key(row: &Row) -> Result<ManagementKey, Unreadable> {
    Ok(ManagementKey {
        id: ManagementKeyId(row.get(0)?),
        hash: KeyHash::from_bytes(row.get(1)?),
        name: row.get(2)?,
        label: row.get(3)?,
        created_at: Timestamp::from_micros(row.get(4)?),
        powers: Powers {
            read_only: row.get(5)?,
            expires_at: row.get::<Option<i64>>(6)?.map(Timestamp::from_micros),
            workspace: row.get::<Option<i64>>(7)?.map(WorkspaceId),
        },
    })
}

/// Models as text.
pub fn models_text(models: Option<&[String]>) -> Option<String> {
    models.map(|models| serde_json::Value::from(models.to_vec()).to_string())
}

/// A list that cannot be read must not become one without an end.
fn models(text: &str) -> Result<Arc<[String]>, Unreadable> {
    serde_json::from_str::<Vec<String>>(text).map(Into::into).map_err(|error| Unreadable::new(19, error.to_string()))
}

/// A column that holds a UUID as text.
pub fn uuid(row: &Row, column: usize) -> Result<Uuid, Unreadable> {
    let text: String = row.get(column)?;
    Uuid::parse_str(&text).map_err(|error| Unreadable::new(column, error.to_string()))
}

/// A scope as columns.
pub const fn scope_columns(scope: Scope) -> (&'static str, i64) {
    match scope {
        Scope::Account => ("account", 0),
        Scope::Workspace(WorkspaceId(id)) => ("workspace", id),
        Scope::Key(KeyId(id)) => ("key", id),
        Scope::Member(MemberId(id)) => ("member", id),
    }
}

/// The scope of columns.
pub fn scope(word: &str, id: i64) -> Option<Scope> {
    match word {
        "account" => Some(Scope::Account),
        "workspace" => Some(Scope::Workspace(WorkspaceId(id))),
        "key" => Some(Scope::Key(KeyId(id))),
        "member" => Some(Scope::Member(MemberId(id))),
        _ => None,
    }
}

/// A kind of money as a word.
pub const fn kind_word(kind: MoneyKind) -> &'static str {
    match kind {
        MoneyKind::Credits => "credits",
        MoneyKind::Byok => "byok",
    }
}

/// The kind of money of a word.
pub fn kind(word: &str) -> Option<MoneyKind> {
    MoneyKind::ALL.into_iter().find(|kind| kind_word(*kind) == word)
}

/// A kind of window as a word.
pub const fn window_word(window: WindowKind) -> &'static str {
    match window {
        WindowKind::Lifetime => "lifetime",
        WindowKind::Daily => "daily",
        WindowKind::Weekly => "weekly",
        WindowKind::Monthly => "monthly",
    }
}

/// The kind of window of a word.
pub fn window(word: &str) -> Option<WindowKind> {
    WindowKind::ALL.into_iter().find(|window| window_word(*window) == word)
}
