//! Management keys.

use std::convert::Infallible;

use async_trait::async_trait;
use rusqlite::types::Value;
use tollgate_domain::Timestamp;
use tollgate_domain::key::{ManagementKey, ManagementKeyId};
use tollgate_domain::workspace::WorkspaceId;
use tollgate_store::{Actor, Audited, Change, Facts, ManagementStore, NewManagementKey, StoreError};

use crate::audit::entry;
use crate::committer::Ticket;
use crate::engine::{SqliteStore, State};
use crate::record::{REVOKE_MANAGEMENT_KEY, Record, SET_META, Statement, statement};

/// The name under which the check of the encryption key is kept.
pub const VAULT: &str = "vault";

#[async_trait]
impl ManagementStore for SqliteStore {
    async fn create_management_key(&self, key: NewManagementKey, by: &Actor) -> Result<ManagementKey, StoreError> {
        self.check_writable()?;
        let (created, ticket) = {
            let (mut state, now) = self.lock_seen();
            create(&mut state, key, now, by)
        };
        self.wait(ticket).await?;
        Ok(created)
    }

    async fn bootstrap_management_key(
        &self,
        key: NewManagementKey,
        by: &Actor,
    ) -> Result<Option<ManagementKey>, StoreError> {
        self.check_writable()?;
        let (created, ticket) = {
            let (mut state, now) = self.lock_seen();
            if state.next_management_key > 1 {
                return Ok(None);
            }
            create(&mut state, key, now, by)
        };
        self.wait(ticket).await?;
        Ok(Some(created))
    }

    async fn same_vault(&self, check: [u8; 16]) -> Result<bool, StoreError> {
        let compared = self.change(|state, _| {
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
        Ok(self.state.lock().vault.is_some())
    }

    async fn management_keys(&self) -> Result<Vec<ManagementKey>, StoreError> {
        let mut keys: Vec<_> = self.state.lock().management.values().cloned().collect();
        keys.sort_by_key(|key| key.id);
        Ok(keys)
    }

    async fn revoke_management_key(&self, id: ManagementKeyId, by: &Actor) -> Result<bool, StoreError> {
        self.check_writable()?;
        let ticket = {
            let (mut state, at) = self.lock_seen();
            let Some(key) = state.management.values().find(|key| key.id == id).cloned() else { return Ok(false) };
            state.management.remove(&key.hash);
            let change = state.told("management_key.revoke", &key, Change::ended);
            state.queue.push(Record::RevokeManagementKey { id, at });
            Self::enqueue(&mut state, Record::Run(vec![entry(by, at, &change)]))
        };
        self.wait(ticket).await?;
        Ok(true)
    }
}

impl State {
    /// A change to a management key, in the workspace that it is limited to.
    fn told(&self, action: &'static str, key: &ManagementKey, tell: fn(Change, Facts) -> Change) -> Change {
        let workspace = key.powers.workspace.and_then(|id| self.workspace_uuid(id));
        let facts = key.facts().with("workspace_id", workspace.map(|uuid| uuid.to_string()).as_ref());
        Change { workspace, ..tell(Change::new(action, key.id.0.to_string()), facts) }
    }

    /// Ends the management keys that reach nothing but a workspace that is going.
    pub fn revoke_keys_of(&mut self, workspace: WorkspaceId, now: Timestamp, by: &Actor) -> Vec<Statement> {
        let limited = |key: &ManagementKey| key.powers.workspace == Some(workspace);
        let ended: Vec<_> = self.management.values().filter(|key| limited(key)).cloned().collect();
        self.management.retain(|_, key| !limited(key));
        let statements = ended.iter().flat_map(|key| {
            let values = vec![Value::from(key.id.0), Value::from(now.micros())];
            let change = self.told("management_key.revoke", key, Change::ended);
            [statement(REVOKE_MANAGEMENT_KEY, values), entry(by, now, &change)]
        });
        statements.collect()
    }
}

fn create(state: &mut State, key: NewManagementKey, created_at: Timestamp, by: &Actor) -> (ManagementKey, Ticket) {
    let id = ManagementKeyId(state.next_management_key);
    state.next_management_key = state.next_management_key.saturating_add(1);
    let key = ManagementKey { id, hash: key.hash, name: key.name, label: key.label, powers: key.powers, created_at };
    state.management.insert(key.hash, key.clone());
    state.queue.push(Record::CreateManagementKey(Box::new(key.clone())));
    let change = state.told("management_key.create", &key, Change::made);
    let ticket = SqliteStore::enqueue(state, Record::Run(vec![entry(by, created_at, &change)]));
    (key, ticket)
}
