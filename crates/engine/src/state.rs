//! Everything that a node knows besides money: what management did, ready to be looked up.

use std::collections::BTreeMap;

use foldhash::HashMap;
use tollgate_domain::guardrail::Assignment;
use tollgate_domain::key::{KeyId, ManagementKey};
use tollgate_domain::ledger::{Book, Scope};
use tollgate_domain::member::{Member, MemberId, Membership};
use tollgate_domain::model::PriceVersion;
use tollgate_domain::oauth::{AuthCode, CodeHash};
use tollgate_domain::workspace::WorkspaceId;
use tollgate_domain::{KeyHash, Timestamp};
use uuid::Uuid;

use crate::credentials::Credentials;
use crate::listing::Listings;

/// See the module. The book in it also carries balances: all of them on the embedded engine, elsewhere those that were asked for.
#[derive(Default)]
pub struct State {
    /// Keys, rules and balances.
    pub book: Book,
    pub(crate) last_key: i64,
    pub(crate) last_price: i64,
    pub(crate) last_management_key: i64,
    /// The highest number of a workspace, member, guardrail or provider credential.
    pub(crate) last_id: i64,
    pub(crate) last_top_up: i64,
    pub(crate) by_hash: HashMap<KeyHash, KeyId>,
    pub(crate) listings: Listings,
    pub(crate) management: HashMap<KeyHash, ManagementKey>,
    /// The public ids of workspaces that were deleted, for what was spent in them.
    pub(crate) former_workspaces: HashMap<WorkspaceId, Uuid>,
    pub(crate) members: BTreeMap<MemberId, Member>,
    pub(crate) memberships: HashMap<(WorkspaceId, MemberId), Membership>,
    pub(crate) key_guardrails: HashMap<KeyId, Assignment<KeyId>>,
    pub(crate) member_guardrails: HashMap<MemberId, Assignment<MemberId>>,
    pub(crate) credentials: Credentials,
    /// Authorization codes that were not exchanged, some of them expired.
    pub(crate) codes: HashMap<CodeHash, AuthCode>,
    /// The newest version of each endpoint, by model and provider.
    pub(crate) prices: HashMap<(String, String), (PriceVersion, String)>,
    /// Tells the key that secrets are sealed with from others, once there is one.
    pub(crate) vault: Option<[u8; 16]>,
    /// Whether this is a copy whose admission is closed.
    pub(crate) closed: bool,
    /// The clock that was last accepted as it is.
    pub(crate) accepted_clock: Option<Timestamp>,
}

impl State {
    /// A number for a new workspace, member, guardrail or provider credential.
    pub(crate) fn take_id(&mut self) -> i64 {
        take(&mut self.last_id)
    }

    /// Notes that this number of a workspace, member, guardrail or provider credential is taken.
    pub(crate) fn taken(&mut self, id: i64) {
        self.last_id = self.last_id.max(id);
    }

    /// The scopes that a key's view tells of, and `more` workspaces.
    pub(crate) fn scopes_of(&self, id: Option<KeyId>, more: Option<WorkspaceId>) -> Vec<Scope> {
        let key = id.and_then(|id| self.book.key(id)).map(|account| &account.key);
        let own = key.into_iter().flat_map(|key| {
            let member = key.creator.map(Scope::Member);
            [Scope::Key(key.id), Scope::Workspace(key.workspace)].into_iter().chain(member)
        });
        let mut scopes: Vec<_> = own.chain([Scope::Account]).chain(more.map(Scope::Workspace)).collect();
        scopes.sort();
        scopes.dedup();
        scopes
    }
}

/// The number after the last one that is known to be taken.
pub(crate) const fn take(last: &mut i64) -> i64 {
    *last = last.saturating_add(1);
    *last
}
