//! Management keys.

use std::convert::Infallible;

use async_trait::async_trait;
use tollgate_domain::key::{ManagementKey, ManagementKeyId};
use tollgate_domain::ledger::{Amounts, Spender};
use tollgate_domain::model::PriceVersion;
use tollgate_domain::workspace::WorkspaceId;
use tollgate_domain::{KeyHash, Timestamp, Usd};
use tollgate_store::{Actor, Audited, Change, Facts, ManagementStore, NewManagementKey, StoreError};

use crate::audit::entry;
use crate::generations::lost;
use crate::ground::{Engine, Ground, Statement, no_sums, statement};
use crate::rows;
use crate::sources::{Source, kept};
use crate::state::{State, take};
use crate::value::{Row, Unreadable, Value};

const CREATE: &str = "INSERT INTO management_keys (id, hash, name, label, created_at, read_only, expires_at, workspace)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

const REVOKE: &str = "UPDATE management_keys SET revoked_at = ?2 WHERE id = ?1";

/// Keeps a value under a name.
pub const SET_META: &str = "INSERT INTO meta (name, value) VALUES (?1, ?2)
ON CONFLICT (name) DO UPDATE SET value = excluded.value";

/// The name under which the check of the encryption key is kept.
pub const VAULT: &str = "vault";

/// The name under which it is kept that admission is closed.
pub const CLOSED: &str = "closed";

/// The name under which the clock is kept that was last accepted, where several nodes must hear of it: microseconds since 1970 UTC,
/// eight bytes, the highest first.
pub const CLOCK: &str = "clock";

/// The management keys.
pub const SOURCE: Source =
    Source { table: "management_keys", columns: rows::MANAGEMENT_KEY_COLUMNS, but: None, put, remove: kept };

/// What is known of the database itself.
pub const META: Source = Source {
    table: "meta",
    columns: "name, value",
    but: Some("name NOT IN ('vault', 'closed', 'clock')"),
    put: put_meta,
    remove: remove_meta,
};

fn put(state: &mut State, row: &Row, _: Timestamp) -> Result<(), Unreadable> {
    let key = rows::management_key(row)?;
    state.last_management_key = state.last_management_key.max(key.id.0);
    if row.get::<Option<i64>>(rows::MANAGEMENT_KEY_REVOKED)?.is_some() {
        state.management.remove(&key.hash);
    } else {
        state.management.insert(key.hash, key);
    }
    Ok(())
}

fn put_meta(state: &mut State, row: &Row, _: Timestamp) -> Result<(), Unreadable> {
    match row.get::<String>(0)?.as_str() {
        VAULT => state.vault = Some(row.get(1)?),
        CLOSED => state.closed = true,
        CLOCK => state.accept_clock(Timestamp::from_micros(i64::from_be_bytes(row.get(1)?))),
        _ => {}
    }
    Ok(())
}

fn remove_meta(state: &mut State, old: &serde_json::Value) -> Option<()> {
    (old["name"] == CLOSED).then(|| state.closed = false)
}

impl State {
    /// Refuses while admission is closed, because what was spent since this copy of the ledger was made is not in it.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub fn check_open(&self) -> Result<(), StoreError> {
        if self.closed { Err(StoreError::Closed) } else { Ok(()) }
    }

    /// The clock that was last accepted as it is.
    pub const fn accepted_clock(&self) -> Option<Timestamp> {
        self.accepted_clock
    }

    /// Notes that the clock is accepted as it is.
    pub const fn accept_clock(&mut self, at: Timestamp) {
        self.accepted_clock = Some(at);
    }
}

impl<G: Ground> Engine<G> {
    /// Whether admission is closed, because this is a copy of a ledger.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn is_closed(&self) -> Result<bool, StoreError> {
        self.look(no_sums, |state, _| state.closed).await
    }

    /// Opens admission: whoever asks for it accepts that what was spent since the copy was made is not in it. Whether it was closed.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn open_admission(&self, by: &Actor) -> Result<bool, StoreError> {
        let opened = self.change(no_sums, |state, now| {
            if !state.closed {
                return Err(Open);
            }
            state.closed = false;
            let change = Change::new("admission.open", "account");
            let values = vec![Value::from(CLOSED)];
            Ok::<_, Open>(((), vec![statement("DELETE FROM meta WHERE name = ?1", values), entry(by, now, &change)]))
        });
        opened.await.map(|opened| opened.is_ok())
    }
}

impl<G: Ground> Engine<G> {
    /// Books what a key spent since this copy was made, as far as somebody knows. Whether there is such a key.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn charge_key(&self, hash: &KeyHash, spent: Usd, by: &Actor) -> Result<bool, StoreError> {
        let found = self.look(no_sums, |state, _| {
            let key = state.managed(hash).and_then(|id| state.book.key(id)).map(|account| account.key.clone())?;
            Some((Spender { key: key.id, workspace: key.workspace, member: key.creator }, state.last_price))
        });
        let Some((spender, price)) = found.await? else { return Ok(false) };
        let row = self.next_generation();
        let settlement = lost(row, Amounts::credits(spent), PriceVersion(price));
        self.0.charge(settlement, spender).await?;
        let told = self.change(no_sums, |_, now| {
            let change = Change::new("generation.enter", hash.to_string()).made(Facts::default().with("usage", spent));
            Ok::<_, Infallible>(((), vec![entry(by, now, &change)]))
        });
        told.await.map(|_| true)
    }
}

/// It is open.
struct Open;

#[async_trait]
impl<G: Ground> ManagementStore for Engine<G> {
    async fn create_management_key(&self, key: NewManagementKey, by: &Actor) -> Result<ManagementKey, StoreError> {
        let created = self.change(no_sums, |state, now| Ok::<_, Infallible>(create(state, key, now, by)));
        created.await.map(|created| created.unwrap_or_else(|never| match never {}))
    }

    async fn bootstrap_management_key(
        &self,
        key: NewManagementKey,
        by: &Actor,
    ) -> Result<Option<ManagementKey>, StoreError> {
        let created = self.change(no_sums, |state, now| {
            if state.last_management_key > 0 { Err(NotTheFirst) } else { Ok(create(state, key, now, by)) }
        });
        created.await.map(Result::ok)
    }

    async fn same_vault(&self, check: [u8; 16]) -> Result<bool, StoreError> {
        let compared = self.change(no_sums, |state, _| {
            if let Some(known) = state.vault {
                return Ok::<_, Infallible>((known == check, Vec::new()));
            }
            state.vault = Some(check);
            let values = vec![Value::from(VAULT.to_owned()), Value::from(check.to_vec())];
            Ok((true, vec![statement(SET_META, values)]))
        });
        compared.await.map(|same| same.unwrap_or_else(|never| match never {}))
    }

    async fn has_vault(&self) -> Result<bool, StoreError> {
        self.look(no_sums, |state, _| state.vault.is_some()).await
    }

    async fn management_keys(&self) -> Result<Vec<ManagementKey>, StoreError> {
        let mut keys: Vec<_> = self.look(no_sums, |state, _| state.management.values().cloned().collect()).await?;
        keys.sort_by_key(|key: &ManagementKey| key.id);
        Ok(keys)
    }

    async fn revoke_management_key(&self, id: ManagementKeyId, by: &Actor) -> Result<bool, StoreError> {
        let revoked = self.change(no_sums, |state, at| {
            let found = state.management.values().find(|key| key.id == id).cloned();
            let key = found.ok_or(Unknown)?;
            state.management.remove(&key.hash);
            let change = state.told("management_key.revoke", &key, Change::ended);
            let revoke = statement(REVOKE, vec![Value::from(id.0), Value::from(at.micros())]);
            Ok::<_, Unknown>(((), vec![revoke, entry(by, at, &change)]))
        });
        revoked.await.map(|revoked| revoked.is_ok())
    }
}

/// There was a management key before.
struct NotTheFirst;

/// There is no such management key.
struct Unknown;

impl State {
    /// A change to a management key, in the workspace that it is limited to.
    fn told(&self, action: &'static str, key: &ManagementKey, tell: fn(Change, Facts) -> Change) -> Change {
        let workspace = key.powers.workspace.and_then(|id| self.workspace_uuid(id));
        let facts = key.facts().with("workspace_id", workspace.map(|uuid| uuid.to_string()).as_ref());
        Change { workspace, ..tell(Change::new(action, key.id.0.to_string()), facts) }
    }

    /// Ends the management keys that reach nothing but a workspace that is going.
    pub(crate) fn revoke_keys_of(&mut self, workspace: WorkspaceId, now: Timestamp, by: &Actor) -> Vec<Statement> {
        let limited = |key: &ManagementKey| key.powers.workspace == Some(workspace);
        let ended: Vec<_> = self.management.values().filter(|key| limited(key)).cloned().collect();
        self.management.retain(|_, key| !limited(key));
        let statements = ended.iter().flat_map(|key| {
            let values = vec![Value::from(key.id.0), Value::from(now.micros())];
            let change = self.told("management_key.revoke", key, Change::ended);
            [statement(REVOKE, values), entry(by, now, &change)]
        });
        statements.collect()
    }
}

fn create(state: &mut State, key: NewManagementKey, at: Timestamp, by: &Actor) -> (ManagementKey, Vec<Statement>) {
    let id = ManagementKeyId(take(&mut state.last_management_key));
    let NewManagementKey { hash, name, label, powers } = key;
    let key = ManagementKey { id, hash, name, label, powers, created_at: at };
    state.management.insert(key.hash, key.clone());
    let values = vec![
        Value::from(key.id.0),
        Value::from(key.hash.as_bytes()),
        Value::from(key.name.as_str()),
        Value::from(key.label.as_str()),
        Value::from(key.created_at.micros()),
        Value::from(key.powers.read_only),
        Value::from(key.powers.expires_at.map(Timestamp::micros)),
        Value::from(key.powers.workspace.map(|workspace| workspace.0)),
    ];
    let change = state.told("management_key.create", &key, Change::made);
    (key, vec![statement(CREATE, values), entry(by, at, &change)])
}
