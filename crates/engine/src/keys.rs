//! Keys: looked up in memory, written through the queue.

use std::num::NonZeroU32;

use async_trait::async_trait;
use tollgate_domain::guardrail::Reach;
use tollgate_domain::key::{Key, KeyChange, KeyRejected, NewKey};
use tollgate_domain::ledger::{KeyAccount, Scope};
use tollgate_domain::time::{LimitReset, Windows};
use tollgate_domain::{KeyHash, KeyId, Timestamp, Usd};
use tollgate_store::{
    Act, Actor, Audited, Change, Credential, InferenceKey, KeyQuery, KeySpend, KeyStore, KeyView, Reserve, Rotation,
    StoreError,
};

use crate::assignments::Holder;
use crate::audit::{entry, finish};
use crate::ground::{Engine, Ground, Statement, no_sums, statement};
use crate::listing::Kind;
use crate::rows;
use crate::sources::{Source, kept};
use crate::state::{State, take};
use crate::value::{Row, Unreadable, Value};

const CREATE: &str = "INSERT INTO keys (id, hash, name, label, workspace, disabled, credit_limit, limit_reset,
    include_byok_in_limit, expires_at, creator, external_user, created_at, updated_at,
    requests_per_minute, calls_in_flight_max, allowed_models)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)";

const UPDATE: &str = "UPDATE keys SET name = ?2, workspace = ?3, disabled = ?4, credit_limit = ?5, limit_reset = ?6,
    include_byok_in_limit = ?7, updated_at = ?8, label = ?9, secret = ?10, previous_secret = ?11, previous_until = ?12,
    requests_per_minute = ?13, calls_in_flight_max = ?14, allowed_models = ?15, raise_amount = ?16, raise_until = ?17
WHERE id = ?1";

const DELETE: &str = "UPDATE keys SET deleted_at = ?2 WHERE id = ?1 AND deleted_at IS NULL";

/// The keys.
pub const SOURCE: Source = Source {
    table: "keys",
    columns: rows::KEY_COLUMNS,
    // The newest one says which numbers are taken, even if it was deleted.
    but: Some("deleted_at IS NOT NULL AND id <> (SELECT max(id) FROM keys)"),
    put,
    remove: kept,
};

fn put(state: &mut State, row: &Row, now: Timestamp) -> Result<(), Unreadable> {
    let key = rows::key(row)?;
    state.last_key = state.last_key.max(key.id.0);
    if row.get::<Option<i64>>(rows::KEY_DELETED)?.is_some() {
        state.drop_key(key.id);
        return Ok(());
    }
    if let Some(before) = state.book.key(key.id).map(|account| account.key.clone()) {
        state.unlist(&before);
        state.book.replace_key(key.clone());
    } else {
        state.book.insert_key(key.clone());
    }
    state.list(&key, now);
    Ok(())
}

#[async_trait]
impl<G: Ground> KeyStore for Engine<G> {
    async fn authenticate(&self, hash: &KeyHash) -> Result<Option<Credential>, StoreError> {
        // Most calls come with a key that is known, and whether it may spend is decided again with the reservation.
        let known = self.glance(|state, now| state.credential(hash, now));
        match known {
            Some(Credential::Inference(_)) => Ok(known),
            Some(Credential::Management(_)) | None => {
                self.look(no_sums, |state, now| state.credential(hash, now)).await
            }
        }
    }

    async fn create_keys(&self, keys: Vec<NewKey>, act: Act<Vec<KeyView>>) -> Result<Option<Vec<KeyView>>, StoreError> {
        let sums = |state: &mut State, _| {
            let places = keys.iter().map(|key| Scope::Workspace(key.workspace));
            let members = keys.iter().filter_map(|key| key.creator.map(Scope::Member));
            let mut scopes: Vec<_> = places.chain(members).chain(state.scopes_of(None, None)).collect();
            scopes.sort();
            scopes.dedup();
            scopes
        };
        let create = |state: &mut State, now| {
            let gone = |key: &NewKey| {
                key.creator.is_some_and(|member| !state.members.contains_key(&member))
                    || state.book.rules.workspace(key.workspace).is_none()
            };
            if keys.iter().any(gone) {
                return Err(Homeless);
            }
            let (mut views, mut changes, mut statements) = (Vec::new(), Vec::new(), Vec::new());
            for key in keys.iter().cloned() {
                let (key, statement) = state.insert_key(key, now);
                statements.push(statement);
                if let Some(view) = state.view(key.id, now) {
                    let change = Change::new("key.create", view.key.hash.to_string());
                    changes.push(change.within(view.workspace).made(view.facts()));
                    views.push(view);
                }
            }
            statements.extend(finish(act, &views, now, &changes));
            Ok((views, statements))
        };
        self.change(sums, create).await.map(Result::ok)
    }

    async fn rotate_key(
        &self,
        hash: &KeyHash,
        rotation: Rotation,
        act: Act<KeyView>,
    ) -> Result<Option<KeyView>, StoreError> {
        let sums = |state: &mut State, _| state.scopes_of(state.managed(hash), None);
        let rotate = |state: &mut State, now| {
            let was = state.reached(hash, &act.by, now)?;
            let before = was.key.clone();
            let secrets = before.secrets.rotated(rotation.secret, rotation.grace_micros, now);
            let key = Key { secrets, label: rotation.label, updated_at: Some(now), ..before.clone() };
            state.unlist(&before);
            state.list(&key, now);
            state.book.replace_key(key.clone());
            let view = state.view(key.id, now).ok_or(Unreached)?;
            let ended = |at: Option<(KeyHash, Timestamp)>| at.map(|(_, until)| until);
            let until = |view: &KeyView| view.facts().with("old_secret_until", ended(view.key.secrets.previous));
            let change = Change::new("key.rotate", view.key.hash.to_string());
            let change = change.within(view.workspace).turned(&until(&was), &until(&view));
            let mut statements = vec![update(&key)];
            statements.extend(finish(act, &view, now, [&change]));
            Ok::<_, Unreached>((view, statements))
        };
        self.change(sums, rotate).await.map(Result::ok)
    }

    async fn update_key(&self, hash: &KeyHash, change: KeyChange, by: &Actor) -> Result<Option<KeyView>, StoreError> {
        let moves_to = change.workspace;
        let sums = |state: &mut State, _| state.scopes_of(state.managed(hash), moves_to);
        let update = |state: &mut State, now| {
            if moves_to.is_some_and(|workspace| state.book.rules.workspace(workspace).is_none()) {
                return Err(Unreached);
            }
            let was = state.reached(hash, by, now)?;
            state.unlist(&was.key);
            let key = state.book.change_key(was.key.id, change, now).ok_or(Unreached)?;
            state.list(&key, now);
            let view = state.view(key.id, now).ok_or(Unreached)?;
            let change = Change::new("key.update", view.key.hash.to_string());
            let change = change.within(view.workspace).turned(&was.facts(), &view.facts());
            // A key that moves is missed where it was.
            let moved =
                (was.workspace != view.workspace).then(|| Change { workspace: Some(was.workspace), ..change.clone() });
            let entries = moved.iter().chain([&change]).map(|change| entry(by, now, change));
            let statements = [update(&key)].into_iter().chain(entries).collect();
            Ok((view, statements))
        };
        self.change(sums, update).await.map(Result::ok)
    }

    async fn delete_key(&self, hash: &KeyHash, by: &Actor) -> Result<bool, StoreError> {
        let delete = |state: &mut State, at: Timestamp| {
            let was = state.reached(hash, by, at)?;
            let id = was.key.id;
            state.drop_key(id);
            let change = Change::new("key.delete", was.key.hash.to_string()).within(was.workspace).ended(was.facts());
            let mut statements = vec![entry(by, at, &change)];
            statements.extend(state.unassign(Holder::Key(id)));
            statements.push(statement(DELETE, vec![Value::from(id.0), Value::from(at.micros())]));
            Ok::<_, Unreached>(((), statements))
        };
        self.change(no_sums, delete).await.map(|deleted| deleted.is_ok())
    }

    async fn key(&self, hash: &KeyHash) -> Result<Option<KeyView>, StoreError> {
        let sums = |state: &mut State, _| state.scopes_of(state.managed(hash), None);
        self.look(sums, |state, now| state.managed(hash).and_then(|id| state.view(id, now))).await
    }

    async fn keys(&self, query: KeyQuery) -> Result<Vec<KeyView>, StoreError> {
        let kind = Kind { disabled: query.include_disabled, expired: query.include_expired };
        let page = |state: &mut State, now| state.listings.page(query.workspace, kind, query.offset, query.limit, now);
        let sums = |state: &mut State, now| {
            let page = page(state, now);
            let mut scopes: Vec<_> = page.into_iter().flat_map(|id| state.scopes_of(Some(id), None)).collect();
            scopes.sort();
            scopes.dedup();
            scopes
        };
        self.look(sums, |state, now| page(state, now).into_iter().filter_map(|id| state.view(id, now)).collect()).await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.look(no_sums, |_, now| now).await
    }
}

/// Its workspace or its creator is gone.
struct Homeless;

/// There is no such key, or it is out of the caller's reach.
struct Unreached;

fn update(key: &Key) -> Statement {
    let values = vec![
        Value::from(key.id.0),
        Value::from(key.name.as_str()),
        Value::from(key.workspace.0),
        Value::from(key.disabled),
        Value::from(key.limit.map(Usd::nanos)),
        Value::from(key.limit_reset.map(LimitReset::as_str)),
        Value::from(key.include_byok_in_limit),
        Value::from(key.updated_at.map(Timestamp::micros)),
        Value::from(key.label.as_str()),
        Value::from(key.secrets.current.as_bytes()),
        Value::from(key.secrets.previous.as_ref().map(|(hash, _)| hash.as_bytes())),
        Value::from(key.secrets.previous.map(|(_, until)| until.micros())),
        Value::from(key.call_limits.requests_per_minute.map(NonZeroU32::get)),
        Value::from(key.call_limits.calls_in_flight_max.map(NonZeroU32::get)),
        Value::from(rows::models_text(key.allowed_models.as_deref())),
        Value::from(key.limit_raise.map(|raise| raise.amount.nanos())),
        Value::from(key.limit_raise.map(|raise| raise.until.micros())),
    ];
    statement(UPDATE, values)
}

fn create(key: &Key) -> Statement {
    let values = vec![
        Value::from(key.id.0),
        Value::from(key.hash.as_bytes()),
        Value::from(key.name.as_str()),
        Value::from(key.label.as_str()),
        Value::from(key.workspace.0),
        Value::from(key.disabled),
        Value::from(key.limit.map(Usd::nanos)),
        Value::from(key.limit_reset.map(LimitReset::as_str)),
        Value::from(key.include_byok_in_limit),
        Value::from(key.expires_at.map(Timestamp::micros)),
        Value::from(key.creator.map(|member| member.0)),
        Value::from(key.external_user.as_deref()),
        Value::from(key.created_at.micros()),
        Value::from(key.updated_at.map(Timestamp::micros)),
        Value::from(key.call_limits.requests_per_minute.map(NonZeroU32::get)),
        Value::from(key.call_limits.calls_in_flight_max.map(NonZeroU32::get)),
        Value::from(rows::models_text(key.allowed_models.as_deref())),
    ];
    statement(CREATE, values)
}

impl State {
    /// Puts a new key where it is looked for, and says how it is written.
    pub(crate) fn insert_key(&mut self, key: NewKey, now: Timestamp) -> (Key, Statement) {
        let key = key.into_key(KeyId(take(&mut self.last_key)), now);
        self.list(&key, now);
        self.book.insert_key(key.clone());
        let statement = create(&key);
        (key, statement)
    }

    /// Where a key is found: by its secrets, and among those of its workspace.
    fn list(&mut self, key: &Key, now: Timestamp) {
        self.by_hash.extend(hashes(key).map(|hash| (hash, key.id)));
        self.listings.place(key, now);
    }

    fn unlist(&mut self, key: &Key) {
        for hash in hashes(key) {
            self.by_hash.remove(&hash);
        }
        self.listings.remove(key);
    }

    fn drop_key(&mut self, id: KeyId) {
        if let Some(KeyAccount { key, .. }) = self.book.remove_key(id) {
            self.unlist(&key);
        }
    }

    /// The key as it stands, where the caller reaches it.
    fn reached(&self, hash: &KeyHash, by: &Actor, now: Timestamp) -> Result<KeyView, Unreached> {
        let view = self.managed(hash).and_then(|id| self.view(id, now));
        view.filter(|view| by.reaches(view.key.workspace)).ok_or(Unreached)
    }

    /// Whose secret this is the hash of.
    fn credential(&self, hash: &KeyHash, now: Timestamp) -> Option<Credential> {
        if let Some(key) = self.management.get(hash) {
            return (!key.expired_at(now)).then(|| Credential::Management(key.clone()));
        }
        let key = &self.book.key(*self.by_hash.get(hash)?)?.key;
        if !key.secrets.open(hash, now) || key.usable_at(now).is_err() {
            return None;
        }
        let reach = Reach::of(self.book.rules.guardrails_of(key), key.allowed_models.as_ref());
        let creator = || key.creator.and_then(|member| self.members.get(&member)).map(|it| it.user_id.as_str());
        let credentials = self.credentials.of(key, creator);
        let secret = *hash;
        let Key { id, hash, workspace, call_limits, .. } = *key;
        Some(Credential::Inference(InferenceKey { id, hash, secret, workspace, reach, credentials, call_limits }))
    }

    /// Refuses a call whose secret no longer opens its key.
    ///
    /// # Errors
    /// [`KeyRejected::Unknown`].
    pub fn check_secret(&self, want: &Reserve, now: Timestamp) -> Result<(), KeyRejected> {
        let key = self.book.key(want.key).map(|account| &account.key);
        match (key, want.secret) {
            (Some(key), Some(secret)) if !key.secrets.open(&secret, now) => Err(KeyRejected::Unknown),
            _ => Ok(()),
        }
    }

    /// The key whose id, or whose newest secret's hash, this is.
    pub(crate) fn managed(&self, hash: &KeyHash) -> Option<KeyId> {
        let account = self.book.key(*self.by_hash.get(hash)?)?;
        (account.key.hash == *hash || account.key.secrets.current == *hash).then_some(account.key.id)
    }

    /// A key as it stands.
    pub(crate) fn view(&self, id: KeyId, now: Timestamp) -> Option<KeyView> {
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

/// The hashes that a key is found by: of its first secret, which is its id, of its newest, and of the one before.
fn hashes(key: &Key) -> impl Iterator<Item = KeyHash> + use<> {
    let previous = key.secrets.previous.map(|(hash, _)| hash);
    [Some(key.hash), Some(key.secrets.current), previous].into_iter().flatten()
}
