//! Members: read in memory, written through the queue.

use async_trait::async_trait;
use tollgate_domain::Timestamp;
use tollgate_domain::member::{Member, MemberId, Membership, Role};
use tollgate_domain::workspace::{Workspace, WorkspaceId};
use tollgate_store::{
    Act, Actor, Audited, Change, MemberRefused, MemberStore, NewMember, Page, PageQuery, StoreError, WorkspaceMember,
};
use uuid::Uuid;

use crate::assignments::Holder;
use crate::audit::{entry, finish};
use crate::ground::{Engine, Ground, no_sums, statement};
use crate::rows;
use crate::sources::{Source, kept};
use crate::state::State;
use crate::value::{Row, Unreadable, Value};

/// The members.
pub const SOURCE: Source = Source {
    table: "members",
    columns: "id, user_id, email, first_name, last_name, role, created_at, removed_at",
    but: None,
    put,
    remove: kept,
};

/// Where they are.
pub const PLACES: Source = Source {
    table: "workspace_members",
    columns: "workspace, member, uuid, role, created_at",
    but: None,
    put: put_place,
    remove: remove_place,
};

const CREATE: &str = "INSERT INTO members (id, user_id, email, first_name, last_name, role, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

const REMOVE: &str = "UPDATE members SET removed_at = ?2 WHERE id = ?1";
const REMOVE_PLACES: &str = "DELETE FROM workspace_members WHERE member = ?1";

const ADD: &str = "INSERT INTO workspace_members (workspace, member, uuid, role, created_at)
VALUES (?1, ?2, ?3, ?4, ?5)";

const LEAVE: &str = "DELETE FROM workspace_members WHERE workspace = ?1 AND member = ?2";

#[async_trait]
impl<G: Ground> MemberStore for Engine<G> {
    async fn members(&self, page: PageQuery) -> Result<Page<Member>, StoreError> {
        self.look(no_sums, |state, _| Page::of(state.members.values(), page).map(Clone::clone)).await
    }

    async fn member(&self, user_id: &str) -> Result<Option<Member>, StoreError> {
        self.look(no_sums, |state, _| state.find_member(user_id).cloned()).await
    }

    async fn create_member(
        &self,
        new: NewMember,
        act: Act<Member>,
    ) -> Result<Result<Member, MemberRefused>, StoreError> {
        self.change(no_sums, |state, now| {
            let same = |member: &Member| member.email.eq_ignore_ascii_case(&new.email);
            if state.members.values().any(same) {
                return Err(MemberRefused::EmailTaken);
            }
            let member = Member {
                id: MemberId(state.take_id()),
                user_id: new.user_id,
                email: new.email,
                first_name: new.first_name,
                last_name: new.last_name,
                role: new.role,
                created_at: now,
            };
            let values = vec![
                Value::from(member.id.0),
                Value::from(member.user_id.clone()),
                Value::from(member.email.clone()),
                Value::from(member.first_name.clone()),
                Value::from(member.last_name.clone()),
                Value::from(member.role.as_str().to_owned()),
                Value::from(member.created_at.micros()),
            ];
            state.members.insert(member.id, member.clone());
            let change = Change::new("member.create", &member.user_id).made(member.facts());
            let mut statements = vec![statement(CREATE, values)];
            statements.extend(finish(act, &member, now, [&change]));
            Ok((member, statements))
        })
        .await
    }

    async fn remove_member(&self, user_id: &str, by: &Actor) -> Result<Result<(), MemberRefused>, StoreError> {
        self.change(no_sums, |state, now| {
            let id = state.member_id(user_id)?;
            if state.has_keys(id, None) {
                return Err(MemberRefused::HasKeys(user_id.to_owned()));
            }
            let facts = state.members.remove(&id).map(|member| member.facts()).unwrap_or_default();
            let change = Change::new("member.delete", user_id).ended(facts);
            state.memberships.retain(|(_, member), _| *member != id);
            let mut statements = vec![
                statement(REMOVE, vec![Value::from(id.0), Value::from(now.micros())]),
                statement(REMOVE_PLACES, vec![Value::from(id.0)]),
            ];
            statements.extend(state.unassign(Holder::Member(id)));
            statements.push(entry(by, now, &change));
            Ok(((), statements))
        })
        .await
    }

    async fn workspace_members(
        &self,
        workspace: WorkspaceId,
        page: PageQuery,
    ) -> Result<Page<WorkspaceMember>, StoreError> {
        let mut places = self.look(no_sums, |state, _| state.places(workspace)).await?;
        places.sort_by_key(|place| (place.membership.created_at, place.membership.member));
        Ok(Page::of(places, page))
    }

    async fn add_workspace_members(
        &self,
        workspace: WorkspaceId,
        user_ids: Vec<String>,
        act: Act<Vec<WorkspaceMember>>,
    ) -> Result<Result<Vec<WorkspaceMember>, MemberRefused>, StoreError> {
        self.change(no_sums, |state, now| {
            let (place, ids) = state.place_and_members(workspace, &user_ids)?;
            if place.1 {
                // Everybody is in the default one.
                let statements = finish(act, &Vec::new(), now, []);
                return Ok((Vec::new(), statements));
            }
            let (mut added, mut statements, mut changes) = (Vec::new(), Vec::new(), Vec::new());
            for (member, user_id) in ids.into_iter().zip(user_ids) {
                if state.memberships.contains_key(&(workspace, member)) {
                    continue;
                }
                let uuid = Uuid::new_v5(&place.0, user_id.as_bytes());
                let membership = Membership { uuid, workspace, member, role: Role::Member, created_at: now };
                statements.push(statement(
                    ADD,
                    vec![
                        Value::from(workspace.0),
                        Value::from(member.0),
                        Value::from(uuid.to_string()),
                        Value::from(membership.role.as_str().to_owned()),
                        Value::from(now.micros()),
                    ],
                ));
                state.memberships.insert((workspace, member), membership.clone());
                changes.push(Change::new("workspace_member.add", &user_id).within(place.0));
                added.push(WorkspaceMember { membership, user_id });
            }
            statements.extend(finish(act, &added, now, &changes));
            Ok((added, statements))
        })
        .await
    }

    async fn remove_workspace_members(
        &self,
        workspace: WorkspaceId,
        user_ids: Vec<String>,
        act: Act<usize>,
    ) -> Result<Result<usize, MemberRefused>, StoreError> {
        self.change(no_sums, |state, now| {
            let (place, ids) = state.place_and_members(workspace, &user_ids)?;
            for (member, user_id) in ids.iter().zip(&user_ids) {
                if state.has_keys(*member, Some(workspace)) {
                    return Err(MemberRefused::HasKeys(user_id.clone()));
                }
            }
            let (mut statements, mut changes) = (Vec::new(), Vec::new());
            for (member, user_id) in ids.into_iter().zip(&user_ids) {
                if state.memberships.remove(&(workspace, member)).is_some() {
                    statements.push(statement(LEAVE, vec![Value::from(workspace.0), Value::from(member.0)]));
                    changes.push(Change::new("workspace_member.remove", user_id).within(place.0));
                }
            }
            let gone = changes.len();
            statements.extend(finish(act, &gone, now, &changes));
            Ok((gone, statements))
        })
        .await
    }
}

impl State {
    pub(crate) fn find_member(&self, user_id: &str) -> Option<&Member> {
        self.members.values().find(|member| member.user_id == user_id)
    }

    fn member_id(&self, user_id: &str) -> Result<MemberId, MemberRefused> {
        let found = self.find_member(user_id).map(|member| member.id);
        found.ok_or_else(|| MemberRefused::Unknown(user_id.to_owned()))
    }

    /// The workspace's public id and whether it is the default one, and the members with these public ids.
    fn place_and_members(
        &self,
        workspace: WorkspaceId,
        user_ids: &[String],
    ) -> Result<((Uuid, bool), Vec<MemberId>), MemberRefused> {
        let place = self.book.rules.workspace(workspace).ok_or(MemberRefused::UnknownWorkspace)?;
        let ids = user_ids.iter().map(|user_id| self.member_id(user_id)).collect::<Result<_, _>>()?;
        Ok(((place.uuid, place.is_default()), ids))
    }

    /// Whether a key that the member created is there, in one workspace or in any.
    fn has_keys(&self, member: MemberId, workspace: Option<WorkspaceId>) -> bool {
        let mut keys = self.listings.all(workspace).filter_map(|id| self.book.key(id));
        keys.any(|account| account.key.creator == Some(member))
    }

    fn places(&self, workspace: WorkspaceId) -> Vec<WorkspaceMember> {
        if self.book.rules.workspace(workspace).is_some_and(Workspace::is_default) {
            return self.members.values().map(|member| self.everybodys_place(workspace, member)).collect();
        }
        let here = self.memberships.iter().filter(|((at, _), _)| *at == workspace);
        here.filter_map(|((_, member), place)| self.named(*member, place)).collect()
    }

    fn named(&self, member: MemberId, place: &Membership) -> Option<WorkspaceMember> {
        let user_id = self.members.get(&member)?.user_id.clone();
        Some(WorkspaceMember { membership: place.clone(), user_id })
    }

    /// Everybody is in the default workspace since they joined.
    fn everybodys_place(&self, workspace: WorkspaceId, member: &Member) -> WorkspaceMember {
        let place = self.workspace_uuid(workspace).unwrap_or_default();
        let (user_id, created_at) = (member.user_id.clone(), member.created_at);
        let uuid = Uuid::new_v5(&place, user_id.as_bytes());
        let membership = Membership { uuid, workspace, member: member.id, role: member.role, created_at };
        WorkspaceMember { membership, user_id }
    }
}

fn role(row: &Row, column: usize) -> Result<Role, Unreadable> {
    row.get::<String>(column).map(|word| Role::from_word(&word).unwrap_or_default())
}

fn put(state: &mut State, row: &Row, _: Timestamp) -> Result<(), Unreadable> {
    let id = MemberId(row.get(0)?);
    state.taken(id.0);
    if row.get::<Option<i64>>(7)?.is_some() {
        state.members.remove(&id);
        return Ok(());
    }
    let member = Member {
        id,
        user_id: row.get(1)?,
        email: row.get(2)?,
        first_name: row.get(3)?,
        last_name: row.get(4)?,
        role: role(row, 5)?,
        created_at: Timestamp::from_micros(row.get(6)?),
    };
    state.members.insert(id, member);
    Ok(())
}

fn put_place(state: &mut State, row: &Row, _: Timestamp) -> Result<(), Unreadable> {
    let place = Membership {
        workspace: WorkspaceId(row.get(0)?),
        member: MemberId(row.get(1)?),
        uuid: rows::uuid(row, 2)?,
        role: role(row, 3)?,
        created_at: Timestamp::from_micros(row.get(4)?),
    };
    state.memberships.insert((place.workspace, place.member), place);
    Ok(())
}

fn remove_place(state: &mut State, old: &serde_json::Value) -> Option<()> {
    let place = (WorkspaceId(old["workspace"].as_i64()?), MemberId(old["member"].as_i64()?));
    state.memberships.remove(&place).map(|_| ())
}
