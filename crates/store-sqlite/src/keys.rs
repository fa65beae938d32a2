//! Keys: looked up in memory, written through the queue.

use async_trait::async_trait;
use tollgate_domain::guardrail::Reach;
use tollgate_domain::key::{Key, KeyChange, NewKey};
use tollgate_domain::ledger::KeyAccount;
use tollgate_domain::time::Windows;
use tollgate_domain::{KeyHash, KeyId, Timestamp};
use tollgate_store::{Credential, InferenceKey, KeyQuery, KeySpend, KeyStore, KeyView, Rotation, StoreError};

use crate::engine::{SqliteStore, State};
use crate::listing::Kind;
use crate::record::Record;

#[async_trait]
impl KeyStore for SqliteStore {
    async fn authenticate(&self, hash: &KeyHash) -> Result<Option<Credential>, StoreError> {
        let (state, now) = self.lock_seen();
        if let Some(key) = state.management.get(hash) {
            return Ok((!key.expired_at(now)).then(|| Credential::Management(key.clone())));
        }
        let account = state.by_hash.get(hash).and_then(|id| state.book.key(*id));
        let usable = |key: &Key| key.secrets.open(hash, now) && key.usable_at(now).is_ok();
        Ok(account.filter(|account| usable(&account.key)).map(|account| {
            let key = &account.key;
            let reach = Reach::of(state.book.rules.guardrails_of(key));
            Credential::Inference(InferenceKey { id: key.id, hash: key.hash, workspace: key.workspace, reach })
        }))
    }

    async fn create_keys(&self, keys: Vec<NewKey>) -> Result<Option<Vec<KeyView>>, StoreError> {
        self.check_writable()?;
        let (views, tickets) = {
            let (mut state, now) = self.lock_seen();
            let gone = |key: &NewKey| {
                key.creator.is_some_and(|member| !state.members.contains_key(&member))
                    || state.book.rules.workspace(key.workspace).is_none()
            };
            if keys.iter().any(gone) {
                return Ok(None);
            }
            let (mut views, mut tickets) = (Vec::new(), Vec::new());
            for key in keys {
                let key = state.insert_key(key, now);
                views.extend(state.view(key.id, now));
                // They enter the queue under one lock, and so are written in one group.
                tickets.push(Self::enqueue(&mut state, Record::CreateKey(Box::new(key))));
            }
            (views, tickets)
        };
        for ticket in tickets {
            self.wait(ticket).await?;
        }
        Ok(Some(views))
    }

    async fn rotate_key(&self, hash: &KeyHash, rotation: Rotation) -> Result<Option<KeyView>, StoreError> {
        self.check_writable()?;
        let (view, ticket) = {
            let (mut state, now) = self.lock_seen();
            let Some(id) = state.managed(hash) else { return Ok(None) };
            let Some(account) = state.book.key(id) else { return Ok(None) };
            let before = account.key.clone();
            let secrets = before.secrets.rotated(rotation.secret, rotation.grace_micros, now);
            let key = Key { secrets, label: rotation.label, updated_at: Some(now), ..before.clone() };
            let retired = [Some(before.secrets.current), before.secrets.previous.map(|(hash, _)| hash)];
            let kept = |hash: &KeyHash| *hash == key.hash || secrets.previous.is_some_and(|(kept, _)| kept == *hash);
            for hash in retired.into_iter().flatten().filter(|hash| !kept(hash)) {
                state.by_hash.remove(&hash);
            }
            state.by_hash.insert(secrets.current, id);
            state.book.replace_key(key.clone());
            let ticket = Self::enqueue(&mut state, Record::UpdateKey(Box::new(key)));
            (state.view(id, now), ticket)
        };
        self.wait(ticket).await?;
        Ok(view)
    }

    async fn update_key(&self, hash: &KeyHash, change: KeyChange) -> Result<Option<KeyView>, StoreError> {
        self.check_writable()?;
        let (view, ticket) = {
            let (mut state, now) = self.lock_seen();
            let Some(id) = state.managed(hash) else { return Ok(None) };
            if change.workspace.is_some_and(|workspace| state.book.rules.workspace(workspace).is_none()) {
                return Ok(None);
            }
            if let Some(before) = state.book.key(id).map(|account| account.key.clone()) {
                state.listings.remove(&before);
            }
            let Some(key) = state.book.change_key(id, change, now) else { return Ok(None) };
            state.listings.place(&key, now);
            let ticket = Self::enqueue(&mut state, Record::UpdateKey(Box::new(key)));
            (state.view(id, now), ticket)
        };
        self.wait(ticket).await?;
        Ok(view)
    }

    async fn delete_key(&self, hash: &KeyHash) -> Result<bool, StoreError> {
        self.check_writable()?;
        let ticket = {
            let (mut state, at) = self.lock_seen();
            let Some(id) = state.managed(hash) else { return Ok(false) };
            if let Some(KeyAccount { key, .. }) = state.book.remove_key(id) {
                let previous = key.secrets.previous.map(|(hash, _)| hash);
                for hash in [Some(key.hash), Some(key.secrets.current), previous].into_iter().flatten() {
                    state.by_hash.remove(&hash);
                }
                state.listings.remove(&key);
            }
            if let Some(statement) = state.unassign_key(id) {
                state.queue.push(Record::Run(vec![statement]));
            }
            Self::enqueue(&mut state, Record::DeleteKey { id, at })
        };
        self.wait(ticket).await?;
        Ok(true)
    }

    async fn key(&self, hash: &KeyHash) -> Result<Option<KeyView>, StoreError> {
        let (state, now) = self.lock_seen();
        Ok(state.managed(hash).and_then(|id| state.view(id, now)))
    }

    async fn keys(&self, query: KeyQuery) -> Result<Vec<KeyView>, StoreError> {
        let (mut state, now) = self.lock_seen();
        let kind = Kind { disabled: query.include_disabled, expired: query.include_expired };
        let page = state.listings.page(query.workspace, kind, query.offset, query.limit, now);
        Ok(page.into_iter().filter_map(|id| state.view(id, now)).collect())
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(self.lock_seen().1)
    }
}

impl State {
    /// Puts a new key where it is looked for. It is not written.
    pub fn insert_key(&mut self, key: NewKey, now: Timestamp) -> Key {
        let id = KeyId(self.next_key);
        self.next_key = self.next_key.saturating_add(1);
        let key = key.into_key(id, now);
        self.by_hash.insert(key.hash, id);
        self.listings.place(&key, now);
        self.book.insert_key(key.clone());
        key
    }

    /// The key whose id, or whose newest secret's hash, this is.
    pub fn managed(&self, hash: &KeyHash) -> Option<KeyId> {
        let account = self.book.key(*self.by_hash.get(hash)?)?;
        (account.key.hash == *hash || account.key.secrets.current == *hash).then_some(account.key.id)
    }

    fn view(&self, id: KeyId, now: Timestamp) -> Option<KeyView> {
        let account = self.book.key(id)?;
        let creator = account.key.creator.and_then(|member| self.members.get(&member));
        Some(KeyView {
            key: account.key.clone(),
            workspace: self.workspace_uuid(account.key.workspace)?,
            creator_user_id: creator.map(|member| member.user_id.clone()),
            spend: KeySpend::read(&account.balance, &Windows::at(now)),
            budgets: self.book.budgets(id, now),
            last_used_at: account.last_used_at,
        })
    }
}
