//! Guardrails and their assignments: read in memory, written through the queue.

use async_trait::async_trait;
use serde_json::json;
use tollgate_domain::filter::{Builtin, BuiltinFilter, ContentFilter, FilterAction, Pattern, ScanScope};
use tollgate_domain::guardrail::{
    Assignment, Guardrail, GuardrailBudget, GuardrailChange, GuardrailId, GuardrailRules,
};
use tollgate_domain::key::KeyId;
use tollgate_domain::member::MemberId;
use tollgate_domain::time::LimitReset;
use tollgate_domain::workspace::{Workspace, WorkspaceId};
use tollgate_domain::{Timestamp, Usd};
use tollgate_store::{
    Act, Actor, Assignee, AssigneeKind, Assignees, AssignmentView, Audited, Change, GuardrailRefused, GuardrailStore,
    GuardrailView, Page, PageQuery, StoreError,
};
use uuid::Uuid;

use crate::assignments::Holder;
use crate::audit::{entry, finish};
use crate::ground::{Engine, Ground, Statement, no_sums, statement};
use crate::rows;
use crate::sources::Source;
use crate::state::State;
use crate::value::{Row, Unreadable, Value};

/// The guardrails.
pub const SOURCE: Source = Source {
    table: "guardrails",
    columns: "id, uuid, workspace, name, description, amount, limit_reset, include_byok, lists, switches, created_at,
    updated_at, filters",
    but: None,
    put: take_in,
    remove,
};

/// The keys that have one.
pub const OF_KEYS: Source = Source {
    table: "guardrail_keys",
    columns: "guardrail, key, uuid, created_at",
    but: None,
    put: take_in_key,
    remove: remove_key,
};

/// The members that have one.
pub const OF_MEMBERS: Source = Source {
    table: "guardrail_members",
    columns: "guardrail, member, uuid, created_at",
    but: None,
    put: take_in_member,
    remove: remove_member,
};

const PUT: &str = "INSERT INTO guardrails (id, uuid, workspace, name, description, amount, limit_reset, include_byok,
    lists, switches, created_at, updated_at, filters)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description, amount = excluded.amount,
    limit_reset = excluded.limit_reset, include_byok = excluded.include_byok, lists = excluded.lists,
    switches = excluded.switches, updated_at = excluded.updated_at, filters = excluded.filters";

const DELETE: &str = "DELETE FROM guardrails WHERE id = ?1";

#[async_trait]
impl<G: Ground> GuardrailStore for Engine<G> {
    async fn guardrail(&self, uuid: Uuid) -> Result<Option<GuardrailView>, StoreError> {
        let view = |state: &mut State, _| state.find_guardrail(uuid).and_then(|found| state.guardrail_view(found));
        self.look(no_sums, view).await
    }

    async fn guardrails(
        &self,
        workspace: Option<WorkspaceId>,
        page: PageQuery,
    ) -> Result<Page<GuardrailView>, StoreError> {
        let here = |guardrail: &&Guardrail| workspace.is_none_or(|workspace| guardrail.workspace == workspace);
        let listed = self.look(no_sums, |state, _| {
            let mut all: Vec<_> = state.book.rules.guardrails().filter(here).collect();
            all.sort_by_key(|guardrail| guardrail.id);
            Page::of(all.into_iter().filter_map(|guardrail| state.guardrail_view(guardrail)), page)
        });
        listed.await
    }

    async fn create_guardrail(
        &self,
        uuid: Uuid,
        workspace: WorkspaceId,
        rules: GuardrailRules,
        act: Act<GuardrailView>,
    ) -> Result<GuardrailView, StoreError> {
        let created = self
            .change(no_sums, |state, now| {
                let id = GuardrailId(state.take_id());
                let guardrail = Guardrail { id, uuid, workspace, rules, created_at: now, updated_at: None };
                let (view, mut statements) = state.store_guardrail(guardrail)?;
                let change = told("guardrail.create", &view).made(view.facts());
                statements.extend(finish(act, &view, now, [&change]));
                Ok::<_, GuardrailRefused>((view, statements))
            })
            .await?;
        created.map_err(|_| StoreError::Corrupt("a workspace vanished while a guardrail was created".to_owned()))
    }

    async fn update_guardrail(
        &self,
        uuid: Uuid,
        change: GuardrailChange,
        by: &Actor,
    ) -> Result<Result<GuardrailView, GuardrailRefused>, StoreError> {
        self.change(no_sums, |state, now| {
            let owner = state.book.rules.workspaces().find(|workspace| workspace.default_guardrail() == uuid);
            if owner.is_some() && change.name.is_some() {
                return Err(GuardrailRefused::FixedName);
            }
            let default = owner.map(|workspace| (workspace.id, default_name(workspace)));
            let before = match (state.find_guardrail(uuid).cloned(), default) {
                (Some(guardrail), _) => Guardrail { updated_at: Some(now), ..guardrail },
                (None, Some((workspace, name))) => {
                    let rules = GuardrailRules { name, ..GuardrailRules::default() };
                    let id = GuardrailId(state.take_id());
                    Guardrail { id, uuid, workspace, rules, created_at: now, updated_at: None }
                }
                (None, None) => return Err(GuardrailRefused::Unknown),
            };
            let was = state.guardrail_view(&before).ok_or(GuardrailRefused::Unknown)?;
            let rules = before.rules.apply(change).map_err(GuardrailRefused::Budget)?;
            let (view, mut statements) = state.store_guardrail(Guardrail { rules, ..before })?;
            let change = told("guardrail.update", &view).turned(&was.facts(), &view.facts());
            statements.push(entry(by, now, &change));
            Ok((view, statements))
        })
        .await
    }

    async fn delete_guardrail(&self, uuid: Uuid, by: &Actor) -> Result<bool, StoreError> {
        let deleted: Result<(), GuardrailRefused> = self
            .change(no_sums, |state, now| {
                let guardrail = state.find_guardrail(uuid).ok_or(GuardrailRefused::Unknown)?;
                let (id, view) = (guardrail.id, state.guardrail_view(guardrail).ok_or(GuardrailRefused::Unknown)?);
                let mut statements = state.drop_guardrail(id, by, now);
                statements.push(entry(by, now, &told("guardrail.delete", &view).ended(view.facts())));
                Ok(((), statements))
            })
            .await?;
        Ok(deleted.is_ok())
    }

    async fn assign(
        &self,
        uuid: Uuid,
        assignees: Assignees,
        act: Act<usize>,
    ) -> Result<Result<usize, GuardrailRefused>, StoreError> {
        self.change(no_sums, |state, now| {
            let guardrail = state.find_guardrail(uuid).ok_or(GuardrailRefused::Unknown)?.id;
            let (mut statements, mut changes) = (Vec::new(), Vec::new());
            for holder in state.holders(&assignees)? {
                let before = state.guardrail_of(holder);
                if before != Some(guardrail) {
                    changes.extend(state.assignment_told("guardrail.assign", holder, before, Some(guardrail)));
                    statements.extend(state.assign(holder, guardrail, uuid, now));
                }
            }
            let assigned = changes.len();
            statements.extend(finish(act, &assigned, now, &changes));
            Ok((assigned, statements))
        })
        .await
    }

    async fn unassign(
        &self,
        uuid: Uuid,
        assignees: Assignees,
        act: Act<usize>,
    ) -> Result<Result<usize, GuardrailRefused>, StoreError> {
        self.change(no_sums, |state, now| {
            let guardrail = state.find_guardrail(uuid).ok_or(GuardrailRefused::Unknown)?.id;
            let (mut statements, mut changes) = (Vec::new(), Vec::new());
            for holder in state.holders(&assignees)? {
                if state.guardrail_of(holder) == Some(guardrail) {
                    changes.extend(state.assignment_told("guardrail.unassign", holder, Some(guardrail), None));
                    statements.extend(state.unassign(holder));
                }
            }
            let unassigned = changes.len();
            statements.extend(finish(act, &unassigned, now, &changes));
            Ok((unassigned, statements))
        })
        .await
    }

    async fn assignments(
        &self,
        uuid: Option<Uuid>,
        kind: AssigneeKind,
        page: PageQuery,
    ) -> Result<Page<AssignmentView>, StoreError> {
        let found = self.look(no_sums, |state, _| match kind {
            AssigneeKind::Keys => state.key_guardrails.values().filter_map(|a| state.of_key(a)).collect(),
            AssigneeKind::Members => state.member_guardrails.values().filter_map(|a| state.of_member(a)).collect(),
        });
        let mut views: Vec<AssignmentView> = found.await?;
        views.retain(|view| uuid.is_none_or(|uuid| view.guardrail == uuid));
        views.sort_by_key(|view| (view.assignment.created_at, view.assignment.uuid));
        Ok(Page::of(views, page))
    }
}

/// A change to a guardrail.
fn told(action: &'static str, view: &GuardrailView) -> Change {
    Change::new(action, view.guardrail.uuid.to_string()).within(view.workspace)
}

/// The fixed name of a workspace's default guardrail (contract section 10).
fn default_name(workspace: &Workspace) -> String {
    format!("Workspace {} Default", workspace.uuid)
}

impl State {
    fn find_guardrail(&self, uuid: Uuid) -> Option<&Guardrail> {
        self.book.rules.guardrails().find(|guardrail| guardrail.uuid == uuid)
    }

    fn guardrail_view(&self, guardrail: &Guardrail) -> Option<GuardrailView> {
        let workspace = self.workspace_uuid(guardrail.workspace)?;
        Some(GuardrailView { guardrail: guardrail.clone(), workspace })
    }

    fn store_guardrail(&mut self, guardrail: Guardrail) -> Result<(GuardrailView, Vec<Statement>), GuardrailRefused> {
        let view = self.guardrail_view(&guardrail).ok_or(GuardrailRefused::Unknown)?;
        let statements = vec![put(&guardrail)];
        self.book.rules.put_guardrail(guardrail);
        Ok((view, statements))
    }

    /// Deletes a guardrail with its assignments, and tells of each.
    pub(crate) fn drop_guardrail(&mut self, id: GuardrailId, by: &Actor, now: Timestamp) -> Vec<Statement> {
        let mut statements = Vec::new();
        for holder in self.holders_of(id) {
            let change = self.assignment_told("guardrail.unassign", holder, Some(id), None);
            statements.extend(change.map(|change| entry(by, now, &change)));
            statements.extend(self.unassign(holder));
        }
        self.book.rules.remove_guardrail(id);
        statements.push(statement(DELETE, vec![Value::from(id.0)]));
        statements
    }

    fn of_key(&self, assignment: &Assignment<KeyId>) -> Option<AssignmentView> {
        let key = &self.book.key(assignment.to)?.key;
        let to = Assignee::Key { hash: key.hash, name: key.name.clone(), label: key.label.clone() };
        self.assignment_view(assignment, to)
    }

    fn of_member(&self, assignment: &Assignment<MemberId>) -> Option<AssignmentView> {
        let user_id = self.members.get(&assignment.to)?.user_id.clone();
        self.assignment_view(assignment, Assignee::Member { user_id })
    }

    fn assignment_view<Id>(&self, assignment: &Assignment<Id>, to: Assignee) -> Option<AssignmentView> {
        let Assignment { uuid, guardrail, created_at, .. } = *assignment;
        let assignment = Assignment { uuid, guardrail, to, created_at };
        Some(AssignmentView { assignment, guardrail: self.book.rules.guardrail(guardrail)?.uuid })
    }
}

fn put(guardrail: &Guardrail) -> Statement {
    let rules = &guardrail.rules;
    let lists = json!({
        "allowed_models": rules.allowed_models,
        "ignored_models": rules.ignored_models,
        "allowed_providers": rules.allowed_providers,
        "ignored_providers": rules.ignored_providers,
        "allowed_data_regions": rules.allowed_data_regions,
    });
    statement(
        PUT,
        vec![
            Value::from(guardrail.id.0),
            Value::from(guardrail.uuid.to_string()),
            Value::from(guardrail.workspace.0),
            Value::from(rules.name.clone()),
            Value::from(rules.description.clone()),
            Value::from(rules.budget.map(|budget| budget.limit.nanos())),
            Value::from(rules.budget.map(|budget| budget.reset.as_str().to_owned())),
            Value::from(rules.include_byok),
            Value::from(lists.to_string()),
            Value::from(json!(rules.switches).to_string()),
            Value::from(guardrail.created_at.micros()),
            Value::from(guardrail.updated_at.map(Timestamp::micros)),
            Value::from(filters(rules).to_string()),
        ],
    )
}

fn filters(rules: &GuardrailRules) -> serde_json::Value {
    let own = |filter: &ContentFilter| {
        let (pattern, action) = (filter.pattern.as_str(), filter.action.as_str());
        json!({"pattern": pattern, "action": action, "label": filter.label})
    };
    let builtin = |filter: &BuiltinFilter| {
        let scope = filter.scan_scope.map(ScanScope::as_str);
        json!({"slug": filter.kind.slug(), "action": filter.action.as_str(), "scan_scope": scope})
    };
    json!({
        "own": rules.content_filters.iter().map(own).collect::<Vec<_>>(),
        "builtin": rules.content_filter_builtins.iter().map(builtin).collect::<Vec<_>>(),
    })
}

fn take_in(state: &mut State, row: &Row, _: Timestamp) -> Result<(), Unreadable> {
    let guardrail = read(row)?;
    state.taken(guardrail.id.0);
    state.book.rules.put_guardrail(guardrail);
    Ok(())
}

fn remove(state: &mut State, old: &serde_json::Value) -> Option<()> {
    state.book.rules.remove_guardrail(GuardrailId(old["id"].as_i64()?)).map(|_| ())
}

fn take_in_key(state: &mut State, row: &Row, _: Timestamp) -> Result<(), Unreadable> {
    let assignment = assignment(row, KeyId)?;
    state.book.rules.assign_key(assignment.to, Some(assignment.guardrail));
    state.key_guardrails.insert(assignment.to, assignment);
    Ok(())
}

fn remove_key(state: &mut State, old: &serde_json::Value) -> Option<()> {
    state.unassign(Holder::Key(KeyId(old["key"].as_i64()?))).map(|_| ())
}

fn take_in_member(state: &mut State, row: &Row, _: Timestamp) -> Result<(), Unreadable> {
    let assignment = assignment(row, MemberId)?;
    state.book.rules.assign_member(assignment.to, Some(assignment.guardrail));
    state.member_guardrails.insert(assignment.to, assignment);
    Ok(())
}

fn remove_member(state: &mut State, old: &serde_json::Value) -> Option<()> {
    state.unassign(Holder::Member(MemberId(old["member"].as_i64()?))).map(|_| ())
}

fn assignment<Id>(row: &Row, id: fn(i64) -> Id) -> Result<Assignment<Id>, Unreadable> {
    Ok(Assignment {
        guardrail: GuardrailId(row.get(0)?),
        to: id(row.get(1)?),
        uuid: rows::uuid(row, 2)?,
        created_at: Timestamp::from_micros(row.get(3)?),
    })
}

type Filters = (Vec<ContentFilter>, Vec<BuiltinFilter>);

/// The opposite of [`filters`]. What cannot be read must not be left out: `None`.
fn read_filters(text: &str) -> Option<Filters> {
    let stored: serde_json::Value = serde_json::from_str(text).ok()?;
    let list = |name: &str| stored.get(name).map_or(Some(Vec::new()), |list| list.as_array().cloned());
    let own = |filter: &serde_json::Value| {
        Some(ContentFilter {
            pattern: Pattern::parse(filter["pattern"].as_str()?).ok()?,
            action: FilterAction::from_word(filter["action"].as_str()?)?,
            label: filter["label"].as_str().map(str::to_owned),
        })
    };
    let builtin = |filter: &serde_json::Value| {
        let scan_scope = match filter["scan_scope"].as_str() {
            None => None,
            Some(word) => Some(ScanScope::from_word(word)?),
        };
        let kind = Builtin::from_slug(filter["slug"].as_str()?)?;
        Some(BuiltinFilter { kind, action: FilterAction::from_word(filter["action"].as_str()?)?, scan_scope })
    };
    let own = list("own")?.iter().map(own).collect::<Option<_>>()?;
    Some((own, list("builtin")?.iter().map(builtin).collect::<Option<_>>()?))
}

fn read(row: &Row) -> Result<Guardrail, Unreadable> {
    let (content_filters, content_filter_builtins) = read_filters(&row.get::<String>(12)?)
        .ok_or_else(|| Unreadable::new(12, "the content filters of a guardrail cannot be read"))?;
    let lists: serde_json::Value = serde_json::from_str(&row.get::<String>(8)?).unwrap_or_default();
    let list = |name: &str| -> Option<Vec<String>> {
        Some(lists[name].as_array()?.iter().filter_map(|entry| entry.as_str().map(str::to_owned)).collect())
    };
    let limit = row.get::<Option<i64>>(5)?.map(Usd::from_nanos);
    let reset = row.get::<Option<String>>(6)?.as_deref().and_then(LimitReset::from_word);
    Ok(Guardrail {
        id: GuardrailId(row.get(0)?),
        uuid: rows::uuid(row, 1)?,
        workspace: WorkspaceId(row.get(2)?),
        rules: GuardrailRules {
            name: row.get(3)?,
            description: row.get(4)?,
            budget: limit.zip(reset).map(|(limit, reset)| GuardrailBudget { limit, reset }),
            include_byok: row.get(7)?,
            allowed_models: list("allowed_models"),
            ignored_models: list("ignored_models"),
            allowed_providers: list("allowed_providers"),
            ignored_providers: list("ignored_providers"),
            allowed_data_regions: list("allowed_data_regions"),
            content_filters,
            content_filter_builtins,
            switches: serde_json::from_str(&row.get::<String>(9)?).unwrap_or_default(),
        },
        created_at: Timestamp::from_micros(row.get(10)?),
        updated_at: row.get::<Option<i64>>(11)?.map(Timestamp::from_micros),
    })
}
