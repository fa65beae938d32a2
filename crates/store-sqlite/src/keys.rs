//! Keys: looked up in memory, written through the queue.

use async_trait::async_trait;
use tollgate_domain::guardrail::Reach;
use tollgate_domain::key::{Key, KeyChange, NewKey};
use tollgate_domain::ledger::KeyAccount;
use tollgate_domain::time::Windows;
use tollgate_domain::{KeyHash, KeyId, Timestamp};
use tollgate_store::{
    Act, Actor, Audited, Change, Credential, InferenceKey, KeyQuery, KeySpend, KeyStore, KeyView, Rotation, StoreError,
};

use crate::assignments::Holder;
use crate::audit::{entry, finish};
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
            let reach = Reach::of(state.book.rules.guardrails_of(key), key.allowed_models.as_ref());
            let creator = || key.creator.and_then(|member| state.members.get(&member)).map(|it| it.user_id.as_str());
            let credentials = state.credentials.of(key, creator);
            let Key { id, hash, workspace, call_limits, .. } = *key;
            Credential::Inference(InferenceKey { id, hash, workspace, reach, credentials, call_limits })
        }))
    }

    async fn create_keys(&self, keys: Vec<NewKey>, act: Act<Vec<KeyView>>) -> Result<Option<Vec<KeyView>>, StoreError> {
        self.check_writable()?;
        let (views, ticket) = {
            let (mut state, now) = self.lock_seen();
            let gone = |key: &NewKey| {
                key.creator.is_some_and(|member| !state.members.contains_key(&member))
                    || state.book.rules.workspace(key.workspace).is_none()
            };
            if keys.iter().any(gone) {
                return Ok(None);
            }
            let (mut views, mut changes) = (Vec::new(), Vec::new());
            for key in keys {
                let key = state.insert_key(key, now);
                if let Some(view) = state.view(key.id, now) {
                    changes.push(
                        Change::new("key.create", view.key.hash.to_string()).within(view.workspace).made(view.facts()),
                    );
                    views.push(view);
                }
                // They enter the queue under one lock, and so are written in one group.
                state.queue.push(Record::CreateKey(Box::new(key)));
            }
            let statements = finish(act, &views, now, &changes);
            (views, Self::enqueue(&mut state, Record::Run(statements)))
        };
        self.wait(ticket).await?;
        Ok(Some(views))
    }

    async fn rotate_key(
        &self,
        hash: &KeyHash,
        rotation: Rotation,
        act: Act<KeyView>,
    ) -> Result<Option<KeyView>, StoreError> {
        self.check_writable()?;
        let (view, ticket) = {
            let (mut state, now) = self.lock_seen();
            let Some(id) = state.managed(hash) else { return Ok(None) };
            let Some(was) = state.view(id, now).filter(|was| act.by.reaches(was.key.workspace)) else {
                return Ok(None);
            };
            let before = was.key.clone();
            let secrets = before.secrets.rotated(rotation.secret, rotation.grace_micros, now);
            let key = Key { secrets, label: rotation.label, updated_at: Some(now), ..before.clone() };
            let retired = [Some(before.secrets.current), before.secrets.previous.map(|(hash, _)| hash)];
            let kept = |hash: &KeyHash| *hash == key.hash || secrets.previous.is_some_and(|(kept, _)| kept == *hash);
            for hash in retired.into_iter().flatten().filter(|hash| !kept(hash)) {
                state.by_hash.remove(&hash);
            }
            state.by_hash.insert(secrets.current, id);
            state.book.replace_key(key.clone());
            let Some(view) = state.view(id, now) else { return Ok(None) };
            let ended = |at: Option<(KeyHash, Timestamp)>| at.map(|(_, until)| until);
            let until = |view: &KeyView| view.facts().with("old_secret_until", ended(view.key.secrets.previous));
            let change = Change::new("key.rotate", view.key.hash.to_string());
            let change = change.within(view.workspace).turned(&until(&was), &until(&view));
            state.queue.push(Record::UpdateKey(Box::new(key)));
            let statements = finish(act, &view, now, [&change]);
            (view, Self::enqueue(&mut state, Record::Run(statements)))
        };
        self.wait(ticket).await?;
        Ok(Some(view))
    }

    async fn update_key(&self, hash: &KeyHash, change: KeyChange, by: &Actor) -> Result<Option<KeyView>, StoreError> {
        self.check_writable()?;
        let (view, ticket) = {
            let (mut state, now) = self.lock_seen();
            let Some(id) = state.managed(hash) else { return Ok(None) };
            if change.workspace.is_some_and(|workspace| state.book.rules.workspace(workspace).is_none()) {
                return Ok(None);
            }
            let Some(was) = state.view(id, now).filter(|was| by.reaches(was.key.workspace)) else { return Ok(None) };
            state.listings.remove(&was.key);
            let Some(key) = state.book.change_key(id, change, now) else { return Ok(None) };
            state.listings.place(&key, now);
            let Some(view) = state.view(id, now) else { return Ok(None) };
            let change = Change::new("key.update", view.key.hash.to_string());
            let change = change.within(view.workspace).turned(&was.facts(), &view.facts());
            state.queue.push(Record::UpdateKey(Box::new(key)));
            // A key that moves is missed where it was.
            let moved =
                (was.workspace != view.workspace).then(|| Change { workspace: Some(was.workspace), ..change.clone() });
            let entries = moved.iter().chain([&change]).map(|change| entry(by, now, change)).collect();
            (view, Self::enqueue(&mut state, Record::Run(entries)))
        };
        self.wait(ticket).await?;
        Ok(Some(view))
    }

    async fn delete_key(&self, hash: &KeyHash, by: &Actor) -> Result<bool, StoreError> {
        self.check_writable()?;
        let ticket = {
            let (mut state, at) = self.lock_seen();
            let Some(id) = state.managed(hash) else { return Ok(false) };
            let Some(was) = state.view(id, at).filter(|was| by.reaches(was.key.workspace)) else { return Ok(false) };
            if let Some(KeyAccount { key, .. }) = state.book.remove_key(id) {
                let previous = key.secrets.previous.map(|(hash, _)| hash);
                for hash in [Some(key.hash), Some(key.secrets.current), previous].into_iter().flatten() {
                    state.by_hash.remove(&hash);
                }
                state.listings.remove(&key);
            }
            let change = Change::new("key.delete", was.key.hash.to_string()).within(was.workspace).ended(was.facts());
            let mut statements = vec![entry(by, at, &change)];
            statements.extend(state.unassign(Holder::Key(id)));
            state.queue.push(Record::DeleteKey { id, at });
            Self::enqueue(&mut state, Record::Run(statements))
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

    /// A key as it stands.
    pub fn view(&self, id: KeyId, now: Timestamp) -> Option<KeyView> {
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
