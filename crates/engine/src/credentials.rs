//! Provider credentials: read in memory, written through the queue.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use foldhash::HashMap;
use serde_json::json;
use tollgate_domain::credential::{CredentialId, ProviderCredential, Terms, TermsChange};
use tollgate_domain::guardrail::{Declared, Region};
use tollgate_domain::key::Key;
use tollgate_domain::workspace::WorkspaceId;
use tollgate_domain::{KeyHash, Timestamp};
use tollgate_store::{
    Act, Actor, Audited, Change, CredentialChange, CredentialQuery, CredentialRefused, CredentialStore, CredentialView,
    HeldCredential, NewCredential, Page, PageQuery, StoreError,
};
use uuid::Uuid;

use crate::audit::{entry, finish};
use crate::ground::{Engine, Ground, Statement, no_sums, statement};
use crate::rows;
use crate::sources::{Source, kept};
use crate::state::State;
use crate::value::{Row, Unreadable, Value};

/// The provider credentials.
pub const SOURCE: Source = Source {
    table: "credentials",
    columns:
        "id, uuid, workspace, provider, label, sealed, name, disabled, is_fallback, is_required, is_byok_only, lists,
    region, zero_data_retention, sort_order, created_at, updated_at, deleted_at",
    but: None,
    put: take_in,
    remove: kept,
};

const PUT: &str = "INSERT INTO credentials (id, uuid, workspace, provider, label, sealed, name, disabled, is_fallback,
    is_required, is_byok_only, lists, region, zero_data_retention, sort_order, created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
ON CONFLICT (id) DO UPDATE SET label = excluded.label, sealed = excluded.sealed, name = excluded.name,
    disabled = excluded.disabled, is_fallback = excluded.is_fallback, is_required = excluded.is_required,
    is_byok_only = excluded.is_byok_only, lists = excluded.lists, region = excluded.region,
    zero_data_retention = excluded.zero_data_retention, sort_order = excluded.sort_order,
    updated_at = excluded.updated_at";

// The row stays for what was called under it; the secret does not.
const DELETE: &str = "UPDATE credentials SET sealed = NULL, deleted_at = ?2 WHERE id = ?1";

/// Credentials in the order in which they are tried.
type Ordered = Arc<[Arc<HeldCredential>]>;

/// The credentials that are there, and which of them each workspace may use.
#[derive(Default)]
pub struct Credentials {
    all: BTreeMap<CredentialId, Arc<HeldCredential>>,
    /// Of the workspaces that have some of their own.
    by_workspace: HashMap<WorkspaceId, Ordered>,
    /// Of all other workspaces.
    everywhere: Ordered,
}

impl Credentials {
    /// What a key may use; `None` is nothing. Costs a call next to nothing where there are no credentials.
    pub fn of<'a>(&self, key: &Key, user: impl FnOnce() -> Option<&'a str>) -> Option<Ordered> {
        if self.all.is_empty() {
            return None;
        }
        let here = self.by_workspace.get(&key.workspace).unwrap_or(&self.everywhere);
        let user = user();
        let serves = |held: &&Arc<HeldCredential>| held.credential.serves(&key.hash, user);
        let usable = if here.iter().all(|held| serves(&held)) {
            Arc::clone(here)
        } else {
            here.iter().filter(serves).cloned().collect()
        };
        (!usable.is_empty()).then_some(usable)
    }

    fn put(&mut self, held: Arc<HeldCredential>) {
        self.all.insert(held.credential.id, held);
        self.sort();
    }

    fn remove(&mut self, id: CredentialId) {
        self.all.remove(&id);
        self.sort();
    }

    fn find(&self, uuid: Uuid) -> Option<&Arc<HeldCredential>> {
        self.all.values().find(|held| held.credential.uuid == uuid)
    }

    fn sort(&mut self) {
        let ordered = |chosen: &dyn Fn(&ProviderCredential) -> bool| -> Ordered {
            let mut list: Vec<_> = self.all.values().filter(|held| chosen(&held.credential)).cloned().collect();
            list.sort_by_key(|held| held.credential.place());
            list.into()
        };
        let owners = self.all.values().filter_map(|held| held.credential.workspace);
        self.by_workspace = owners.map(|owner| (owner, ordered(&|credential| credential.reaches(owner)))).collect();
        self.everywhere = ordered(&|credential| credential.workspace.is_none());
    }
}

#[async_trait]
impl<G: Ground> CredentialStore for Engine<G> {
    async fn credential(&self, uuid: Uuid) -> Result<Option<CredentialView>, StoreError> {
        let view =
            |state: &mut State, _| state.credentials.find(uuid).map(|held| state.credential_view(&held.credential));
        self.look(no_sums, view).await
    }

    async fn credentials(&self, query: &CredentialQuery, page: PageQuery) -> Result<Page<CredentialView>, StoreError> {
        let at_provider = |credential: &&ProviderCredential| {
            query.provider.as_ref().is_none_or(|provider| *provider == credential.provider)
        };
        let listed = self.look(no_sums, |state, _| {
            let all = state.credentials.all.values().map(|held| &held.credential);
            let mut here: Vec<_> = all.filter(|it| it.reaches(query.workspace)).filter(at_provider).collect();
            here.sort_by_key(|credential| credential.place());
            Page::of(here, page).map(|credential| state.credential_view(credential))
        });
        listed.await
    }

    async fn create_credential(
        &self,
        new: NewCredential,
        act: Act<CredentialView>,
    ) -> Result<Result<CredentialView, CredentialRefused>, StoreError> {
        self.change(no_sums, |state, now| {
            if new.workspace.is_some_and(|workspace| state.book.rules.workspace(workspace).is_none()) {
                return Err(CredentialRefused::UnknownWorkspace);
            }
            let chosen = TermsChange {
                allowed_keys: Some(new.terms.allowed_keys.clone()),
                allowed_users: Some(new.terms.allowed_users.clone()),
                ..TermsChange::default()
            };
            let chosen = state.known(chosen)?;
            let terms = new.terms.apply(chosen).map_err(CredentialRefused::Terms)?;
            let credential = ProviderCredential {
                id: CredentialId(state.take_id()),
                uuid: new.uuid,
                workspace: new.workspace,
                sort_order: new.sort_order.unwrap_or_else(|| state.last_place(new.workspace, &new.provider)),
                provider: new.provider,
                label: new.secret.label,
                terms,
                created_at: now,
                updated_at: None,
            };
            let (view, mut statements) = state.store_credential(HeldCredential::new(credential, new.secret.sealed));
            let change = told("credential.create", &view).made(view.facts());
            statements.extend(finish(act, &view, now, [&change]));
            Ok((view, statements))
        })
        .await
    }

    async fn update_credential(
        &self,
        uuid: Uuid,
        change: CredentialChange,
        by: &Actor,
    ) -> Result<Result<CredentialView, CredentialRefused>, StoreError> {
        self.change(no_sums, |state, now| {
            let before = Arc::clone(state.credentials.find(uuid).ok_or(CredentialRefused::Unknown)?);
            let chosen = state.known(change.terms)?;
            let terms = before.credential.terms.apply(chosen).map_err(CredentialRefused::Terms)?;
            let old = before.credential.clone();
            let was = state.credential_view(&old);
            let (action, label, sealed) = match change.secret {
                Some(secret) => ("credential.rotate", secret.label, secret.sealed),
                None => ("credential.update", old.label, before.sealed.clone()),
            };
            let sort_order = change.sort_order.unwrap_or(old.sort_order);
            let credential = ProviderCredential { label, terms, sort_order, updated_at: Some(now), ..old };
            let (view, mut statements) = state.store_credential(HeldCredential::new(credential, sealed));
            statements.push(entry(by, now, &told(action, &view).turned(&was.facts(), &view.facts())));
            Ok((view, statements))
        })
        .await
    }

    async fn delete_credential(&self, uuid: Uuid, by: &Actor) -> Result<bool, StoreError> {
        let deleted: Result<(), CredentialRefused> = self
            .change(no_sums, |state, now| {
                let held = state.credentials.find(uuid).ok_or(CredentialRefused::Unknown)?;
                let (id, view) = (held.credential.id, state.credential_view(&held.credential));
                let ended = told("credential.delete", &view).ended(view.facts());
                Ok(((), vec![state.drop_credential(id, now), entry(by, now, &ended)]))
            })
            .await?;
        Ok(deleted.is_ok())
    }
}

/// An act on a credential.
fn told(action: &'static str, view: &CredentialView) -> Change {
    let change = Change::new(action, view.credential.uuid.to_string());
    match view.workspace {
        Some(workspace) => change.within(workspace),
        None => change,
    }
}

impl State {
    fn credential_view(&self, credential: &ProviderCredential) -> CredentialView {
        let workspace = credential.workspace.and_then(|workspace| self.workspace_uuid(workspace));
        CredentialView { credential: credential.clone(), workspace }
    }

    fn store_credential(&mut self, held: HeldCredential) -> (CredentialView, Vec<Statement>) {
        let (view, put) = (self.credential_view(&held.credential), put(&held));
        self.credentials.put(Arc::new(held));
        (view, vec![put])
    }

    /// Deletes a credential and wipes its secret.
    fn drop_credential(&mut self, id: CredentialId, now: Timestamp) -> Statement {
        self.credentials.remove(id);
        statement(DELETE, vec![Value::from(id.0), Value::from(now.micros())])
    }

    /// Deletes the credentials of a workspace.
    pub(crate) fn drop_credentials_of(&mut self, workspace: WorkspaceId, now: Timestamp) -> Vec<Statement> {
        let all = self.credentials.all.values();
        let ids: Vec<_> =
            all.map(|held| &held.credential).filter(|it| it.workspace == Some(workspace)).map(|it| it.id).collect();
        ids.into_iter().map(|id| self.drop_credential(id, now)).collect()
    }

    /// Behind all credentials of a workspace at a provider.
    fn last_place(&self, workspace: Option<WorkspaceId>, provider: &str) -> i64 {
        let all = self.credentials.all.values().map(|held| &held.credential);
        let beside = all.filter(|other| other.workspace == workspace && other.provider == provider);
        beside.map(|other| other.sort_order.saturating_add(1)).max().unwrap_or(0)
    }

    /// The same change, once all keys and members that it names are known, each key by its id.
    fn known(&self, change: TermsChange) -> Result<TermsChange, CredentialRefused> {
        let id_of = |hash: KeyHash| {
            let key = self.managed(&hash).and_then(|id| self.book.key(id));
            key.map(|account| account.key.hash).ok_or_else(|| CredentialRefused::UnknownKey(hash.to_string()))
        };
        let ids_of = |hashes: Vec<KeyHash>| hashes.into_iter().map(id_of).collect::<Result<Vec<_>, _>>();
        let allowed_keys = change.allowed_keys.map(|hashes| hashes.map(ids_of).transpose()).transpose()?;
        let mut users = change.allowed_users.iter().flatten().flatten();
        if let Some(stranger) = users.find(|user| self.find_member(user).is_none()) {
            return Err(CredentialRefused::UnknownMember(stranger.clone()));
        }
        Ok(TermsChange { allowed_keys, ..change })
    }
}

fn put(held: &HeldCredential) -> Statement {
    let HeldCredential { credential, sealed, .. } = held;
    let terms = &credential.terms;
    let hashes = terms.allowed_keys.as_ref().map(|keys| keys.iter().map(KeyHash::to_string).collect::<Vec<_>>());
    let lists = json!({
        "allowed_keys": hashes,
        "allowed_models": terms.allowed_models,
        "allowed_users": terms.allowed_users,
    });
    statement(
        PUT,
        vec![
            Value::from(credential.id.0),
            Value::from(credential.uuid.to_string()),
            Value::from(credential.workspace.map(|workspace| workspace.0)),
            Value::from(credential.provider.clone()),
            Value::from(credential.label.clone()),
            Value::from(sealed.clone()),
            Value::from(terms.name.clone()),
            Value::from(terms.disabled),
            Value::from(terms.is_fallback),
            Value::from(terms.is_required),
            Value::from(terms.is_byok_only),
            Value::from(lists.to_string()),
            Value::from(terms.declared.region.map(|region| region.as_str().to_owned())),
            Value::from(terms.declared.zero_data_retention),
            Value::from(credential.sort_order),
            Value::from(credential.created_at.micros()),
            Value::from(credential.updated_at.map(Timestamp::micros)),
        ],
    )
}

fn take_in(state: &mut State, row: &Row, _: Timestamp) -> Result<(), Unreadable> {
    let id = CredentialId(row.get(0)?);
    state.taken(id.0);
    if row.get::<Option<i64>>(17)?.is_some() {
        state.credentials.remove(id);
    } else {
        state.credentials.put(Arc::new(read(row)?));
    }
    Ok(())
}

fn read(row: &Row) -> Result<HeldCredential, Unreadable> {
    let lists: serde_json::Value =
        serde_json::from_str(&row.get::<String>(11)?).map_err(|error| Unreadable::new(11, error.to_string()))?;
    // What cannot be read allows nobody: a list that is there stays one.
    let list = |name: &str| -> Option<Vec<String>> {
        Some(lists[name].as_array()?.iter().filter_map(|entry| entry.as_str().map(str::to_owned)).collect())
    };
    let keys = list("allowed_keys").map(|hashes| hashes.iter().filter_map(|hash| KeyHash::parse(hash)).collect());
    let credential = ProviderCredential {
        id: CredentialId(row.get(0)?),
        uuid: rows::uuid(row, 1)?,
        workspace: row.get::<Option<i64>>(2)?.map(WorkspaceId),
        provider: row.get(3)?,
        label: row.get(4)?,
        terms: Terms {
            name: row.get(6)?,
            disabled: row.get(7)?,
            is_fallback: row.get(8)?,
            is_required: row.get(9)?,
            is_byok_only: row.get(10)?,
            allowed_keys: keys,
            allowed_models: list("allowed_models"),
            allowed_users: list("allowed_users"),
            declared: Declared {
                region: row.get::<Option<String>>(12)?.as_deref().and_then(Region::from_word),
                zero_data_retention: row.get(13)?,
            },
        },
        sort_order: row.get(14)?,
        created_at: Timestamp::from_micros(row.get(15)?),
        updated_at: row.get::<Option<i64>>(16)?.map(Timestamp::from_micros),
    };
    Ok(HeldCredential::new(credential, row.get::<Option<Vec<u8>>>(5)?.unwrap_or_default()))
}
