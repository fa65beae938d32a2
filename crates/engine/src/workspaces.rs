//! Workspaces and their budgets: read in memory, written through the queue.

use async_trait::async_trait;
use serde_json::json;
use tollgate_domain::time::{LimitReset, WindowKind};
use tollgate_domain::workspace::{
    NewWorkspace, Preferences, Workspace, WorkspaceBudget, WorkspaceBudgets, WorkspaceChange, WorkspaceId,
};
use tollgate_domain::{Timestamp, Usd};
use tollgate_store::{
    Act, Actor, Audited, Change, Facts, Page, PageQuery, StoreError, WorkspaceRef, WorkspaceRefused, WorkspaceStore,
};
use uuid::Uuid;

use crate::audit::{entry, finish};
use crate::ground::{Engine, Ground, Statement, no_sums, statement};
use crate::rows;
use crate::sources::{Source, kept};
use crate::state::State;
use crate::value::{Row, Unreadable, Value};

/// The workspaces, those that were deleted too: what was spent in them names them.
pub const SOURCE: Source = Source {
    table: "workspaces",
    columns: "id, uuid, name, slug, description, preferences, include_byok, created_by, created_at, updated_at, deleted_at",
    but: None,
    put: take_in,
    remove: kept,
};

/// Their budgets.
pub const BUDGETS: Source = Source {
    table: "workspace_budgets",
    columns: "workspace, span, uuid, amount, created_at, updated_at",
    but: None,
    put: take_in_budget,
    remove: remove_budget,
};

const PUT: &str = "INSERT INTO workspaces
    (id, uuid, name, slug, description, preferences, include_byok, created_by, created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, slug = excluded.slug, description = excluded.description,
    preferences = excluded.preferences, include_byok = excluded.include_byok, updated_at = excluded.updated_at";

// The slug is free for another one: no slug holds a slash.
const DELETE: &str = "UPDATE workspaces SET deleted_at = ?2, slug = slug || '/' || id WHERE id = ?1";

const PUT_BUDGET: &str = "INSERT INTO workspace_budgets (workspace, span, uuid, amount, created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (workspace, span) DO UPDATE SET amount = excluded.amount, updated_at = excluded.updated_at";

const DELETE_BUDGET: &str = "DELETE FROM workspace_budgets WHERE workspace = ?1 AND span = ?2";
const DELETE_BUDGETS: &str = "DELETE FROM workspace_budgets WHERE workspace = ?1";
const DELETE_MEMBERS: &str = "DELETE FROM workspace_members WHERE workspace = ?1";

#[async_trait]
impl<G: Ground> WorkspaceStore for Engine<G> {
    async fn workspace(&self, which: &WorkspaceRef) -> Result<Option<Workspace>, StoreError> {
        self.look(no_sums, |state, _| state.find_workspace(which).cloned()).await
    }

    async fn workspaces(&self, page: PageQuery) -> Result<Page<Workspace>, StoreError> {
        let listed = self.look(no_sums, |state, _| {
            let mut all: Vec<_> = state.book.rules.workspaces().collect();
            all.sort_by_key(|workspace| workspace.id);
            Page::of(all, page).map(Clone::clone)
        });
        listed.await
    }

    async fn create_workspace(
        &self,
        new: NewWorkspace,
        act: Act<Workspace>,
    ) -> Result<Result<Workspace, WorkspaceRefused>, StoreError> {
        self.change(no_sums, |state, now| {
            if state.slug_taken(&new.slug, None) {
                return Err(WorkspaceRefused::SlugTaken);
            }
            let workspace = new.into_workspace(WorkspaceId(state.take_id()), now);
            state.book.rules.put_workspace(workspace.clone());
            let change = told("workspace.create", &workspace).made(workspace.facts());
            let mut statements = vec![put(&workspace)];
            statements.extend(finish(act, &workspace, now, [&change]));
            Ok((workspace, statements))
        })
        .await
    }

    async fn update_workspace(
        &self,
        id: WorkspaceId,
        change: WorkspaceChange,
        by: &Actor,
    ) -> Result<Result<Workspace, WorkspaceRefused>, StoreError> {
        self.change(no_sums, |state, now| {
            if change.slug.as_deref().is_some_and(|slug| state.slug_taken(slug, Some(id))) {
                return Err(WorkspaceRefused::SlugTaken);
            }
            let before = state.book.rules.workspace(id).ok_or(WorkspaceRefused::Unknown)?.clone();
            let (workspace, mut statements) = state.store_workspace(before.apply(change, now));
            let change = told("workspace.update", &workspace).turned(&before.facts(), &workspace.facts());
            statements.push(entry(by, now, &change));
            Ok((workspace, statements))
        })
        .await
    }

    async fn delete_workspace(&self, id: WorkspaceId, by: &Actor) -> Result<Result<(), WorkspaceRefused>, StoreError> {
        self.change(no_sums, |state, now| {
            let workspace = state.book.rules.workspace(id).ok_or(WorkspaceRefused::Unknown)?;
            if workspace.is_default() {
                return Err(WorkspaceRefused::IsDefault);
            }
            let keys = state.listings.count(id);
            if keys > 0 {
                return Err(WorkspaceRefused::HasKeys(keys));
            }
            let uuid = workspace.uuid;
            let change = told("workspace.delete", workspace).ended(workspace.facts());
            let mut statements = vec![
                entry(by, now, &change),
                statement(DELETE, vec![Value::from(id.0), Value::from(now.micros())]),
                statement(DELETE_BUDGETS, vec![Value::from(id.0)]),
                statement(DELETE_MEMBERS, vec![Value::from(id.0)]),
            ];
            state.memberships.retain(|(workspace, _), _| *workspace != id);
            let guardrails: Vec<_> =
                state.book.rules.guardrails().filter(|guardrail| guardrail.workspace == id).map(|g| g.id).collect();
            for guardrail in guardrails {
                statements.extend(state.drop_guardrail(guardrail, by, now));
            }
            statements.extend(state.revoke_keys_of(id, now, by));
            statements.extend(state.drop_credentials_of(id, now));
            state.book.rules.remove_workspace(id);
            state.former_workspaces.insert(id, uuid);
            Ok(((), statements))
        })
        .await
    }

    async fn put_budget(
        &self,
        id: WorkspaceId,
        window: WindowKind,
        limit: Usd,
        uuid: Uuid,
        include_byok: Option<bool>,
        by: &Actor,
    ) -> Result<Result<Workspace, WorkspaceRefused>, StoreError> {
        self.change(no_sums, |state, now| {
            let mut workspace = state.book.rules.workspace(id).ok_or(WorkspaceRefused::Unknown)?.clone();
            let before = budget_facts(&workspace, window);
            let budgets = workspace.budgets.with(window, limit, uuid, now).map_err(WorkspaceRefused::NotDecreasing)?;
            workspace.budgets = budgets;
            workspace.budgets.include_byok = include_byok.unwrap_or(workspace.budgets.include_byok);
            let mut written: Vec<Statement> =
                workspace.budgets.get(window).map(|budget| put_budget(id, window, budget)).into_iter().collect();
            let (workspace, statements) = state.store_workspace(workspace);
            written.extend(statements);
            let change = told("workspace_budget.set", &workspace).turned(&before, &budget_facts(&workspace, window));
            written.push(entry(by, now, &change));
            Ok((workspace, written))
        })
        .await
    }

    async fn delete_budget(
        &self,
        id: WorkspaceId,
        window: WindowKind,
        by: &Actor,
    ) -> Result<Result<Workspace, WorkspaceRefused>, StoreError> {
        self.change(no_sums, |state, now| {
            let mut workspace = state.book.rules.workspace(id).ok_or(WorkspaceRefused::Unknown)?.clone();
            let before = workspace.budgets.get(window).map(|_| budget_facts(&workspace, window));
            workspace.budgets = workspace.budgets.without(window);
            let (workspace, mut statements) = state.store_workspace(workspace);
            let span = rows::window_word(window).to_owned();
            statements.push(statement(DELETE_BUDGET, vec![Value::from(id.0), Value::from(span)]));
            if let Some(before) = before {
                statements.push(entry(by, now, &told("workspace_budget.delete", &workspace).ended(before)));
            }
            Ok((workspace, statements))
        })
        .await
    }
}

/// A change to a workspace.
fn told(action: &'static str, workspace: &Workspace) -> Change {
    Change::new(action, workspace.uuid.to_string()).within(workspace.uuid)
}

fn budget_facts(workspace: &Workspace, window: WindowKind) -> Facts {
    let name = format!("{}_limit_usd", window.reset().map_or("lifetime", LimitReset::as_str));
    let limit = workspace.budgets.get(window).map(|budget| budget.limit);
    Facts::default().with(name, limit).with("include_byok_in_budgets", workspace.budgets.include_byok)
}

impl State {
    pub(crate) fn find_workspace(&self, which: &WorkspaceRef) -> Option<&Workspace> {
        let named = |workspace: &&Workspace| match which {
            WorkspaceRef::Default => workspace.is_default(),
            WorkspaceRef::Row(id) => workspace.id == *id,
            WorkspaceRef::Id(uuid) => workspace.uuid == *uuid,
            WorkspaceRef::Slug(slug) => workspace.slug == *slug,
        };
        self.book.rules.workspaces().find(named)
    }

    /// The public id of a workspace, deleted or not.
    pub(crate) fn workspace_uuid(&self, id: WorkspaceId) -> Option<Uuid> {
        let present = self.book.rules.workspace(id).map(|workspace| workspace.uuid);
        present.or_else(|| self.former_workspaces.get(&id).copied())
    }

    fn slug_taken(&self, slug: &str, but: Option<WorkspaceId>) -> bool {
        self.book.rules.workspaces().any(|workspace| workspace.slug == slug && Some(workspace.id) != but)
    }

    fn store_workspace(&mut self, workspace: Workspace) -> (Workspace, Vec<Statement>) {
        self.book.rules.put_workspace(workspace.clone());
        let statements = vec![put(&workspace)];
        (workspace, statements)
    }
}

fn put(workspace: &Workspace) -> Statement {
    statement(
        PUT,
        vec![
            Value::from(workspace.id.0),
            Value::from(workspace.uuid.to_string()),
            Value::from(workspace.name.clone()),
            Value::from(workspace.slug.clone()),
            Value::from(workspace.description.clone()),
            Value::from(preferences_text(&workspace.preferences)),
            Value::from(workspace.budgets.include_byok),
            Value::from(workspace.created_by.clone()),
            Value::from(workspace.created_at.micros()),
            Value::from(workspace.updated_at.map(Timestamp::micros)),
        ],
    )
}

fn put_budget(id: WorkspaceId, window: WindowKind, budget: &WorkspaceBudget) -> Statement {
    statement(
        PUT_BUDGET,
        vec![
            Value::from(id.0),
            Value::from(rows::window_word(window).to_owned()),
            Value::from(budget.uuid.to_string()),
            Value::from(budget.limit.nanos()),
            Value::from(budget.created_at.micros()),
            Value::from(budget.updated_at.micros()),
        ],
    )
}

fn preferences_text(preferences: &Preferences) -> String {
    json!({
        "text_model": preferences.default_text_model,
        "image_model": preferences.default_image_model,
        "provider_sort": preferences.default_provider_sort,
        "disabled_server_tools": preferences.disabled_server_tools,
        "io_logging": preferences.io_logging,
        "broadcast": preferences.broadcast,
        "discount_logging": preferences.discount_logging,
        "io_logging_sampling": preferences.io_logging_sampling,
        "io_logging_keys": preferences.io_logging_keys,
    })
    .to_string()
}

fn preferences(text: &str) -> Preferences {
    let stored: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let word = |name: &str| stored[name].as_str().map(str::to_owned);
    let flag = |name: &str| stored[name].as_bool().unwrap_or(false);
    let sampling = stored["io_logging_sampling"].as_u64().and_then(|part| u16::try_from(part).ok());
    Preferences {
        default_text_model: word("text_model"),
        default_image_model: word("image_model"),
        default_provider_sort: word("provider_sort"),
        disabled_server_tools: stored["disabled_server_tools"]
            .as_array()
            .map(|tools| tools.iter().filter_map(|tool| tool.as_str().map(str::to_owned)).collect()),
        io_logging: flag("io_logging"),
        broadcast: flag("broadcast"),
        discount_logging: flag("discount_logging"),
        io_logging_sampling: sampling.unwrap_or(Preferences::default().io_logging_sampling),
        io_logging_keys: stored["io_logging_keys"]
            .as_array()
            .map(|keys| keys.iter().filter_map(serde_json::Value::as_i64).collect()),
    }
}

fn take_in(state: &mut State, row: &Row, _: Timestamp) -> Result<(), Unreadable> {
    let (id, uuid) = (WorkspaceId(row.get(0)?), rows::uuid(row, 1)?);
    state.taken(id.0);
    if row.get::<Option<i64>>(10)?.is_some() {
        state.book.rules.remove_workspace(id);
        state.former_workspaces.insert(id, uuid);
        return Ok(());
    }
    let mut budgets = WorkspaceBudgets::new(row.get(6)?);
    // They are rows of their own, which may not have changed with this one.
    if let Some(known) = state.book.rules.workspace(id) {
        for (window, budget) in known.budgets.iter() {
            budgets.restore(window, *budget);
        }
    }
    state.book.rules.put_workspace(Workspace {
        id,
        uuid,
        name: row.get(2)?,
        slug: row.get(3)?,
        description: row.get(4)?,
        preferences: row.get::<Option<String>>(5)?.as_deref().map(preferences).unwrap_or_default(),
        budgets,
        created_by: row.get(7)?,
        created_at: Timestamp::from_micros(row.get(8)?),
        updated_at: row.get::<Option<i64>>(9)?.map(Timestamp::from_micros),
    });
    Ok(())
}

fn take_in_budget(state: &mut State, row: &Row, _: Timestamp) -> Result<(), Unreadable> {
    let window = rows::window(&row.get::<String>(1)?).ok_or_else(|| Unreadable::new(1, "there is no such window"))?;
    let budget = WorkspaceBudget {
        uuid: rows::uuid(row, 2)?,
        limit: Usd::from_nanos(row.get(3)?),
        created_at: Timestamp::from_micros(row.get(4)?),
        updated_at: Timestamp::from_micros(row.get(5)?),
    };
    if let Some(workspace) = state.book.rules.workspace(WorkspaceId(row.get(0)?)) {
        let mut workspace = workspace.clone();
        workspace.budgets.restore(window, budget);
        state.book.rules.put_workspace(workspace);
    }
    Ok(())
}

fn remove_budget(state: &mut State, old: &serde_json::Value) -> Option<()> {
    let window = rows::window(old["span"].as_str()?)?;
    let mut workspace = state.book.rules.workspace(WorkspaceId(old["workspace"].as_i64()?))?.clone();
    workspace.budgets = workspace.budgets.without(window);
    state.book.rules.put_workspace(workspace);
    Some(())
}
