//! The budgets that apply to a key, from every layer, in the contract's order of enforcement (section 3).

use std::sync::Arc;

use foldhash::HashMap;

use super::{Budget, BudgetScope, Scope};
use crate::guardrail::{Guardrail, GuardrailId};
use crate::key::{Key, KeyId};
use crate::member::MemberId;
use crate::workspace::{Workspace, WorkspaceId};
use crate::{Timestamp, Usd};

/// Everything that limits spending besides the keys' own limits.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    workspaces: HashMap<WorkspaceId, Workspace>,
    guardrails: HashMap<GuardrailId, Arc<Guardrail>>,
    /// The guardrails that apply to all traffic of a workspace.
    defaults: HashMap<WorkspaceId, GuardrailId>,
    of_keys: HashMap<KeyId, GuardrailId>,
    of_members: HashMap<MemberId, GuardrailId>,
    /// What was ever topped up; `None` is an account without a limit.
    pub credits: Option<Usd>,
}

impl Rules {
    /// Adds a workspace, or replaces it.
    pub fn put_workspace(&mut self, workspace: Workspace) {
        self.workspaces.insert(workspace.id, workspace);
    }

    /// Removes a workspace.
    pub fn remove_workspace(&mut self, id: WorkspaceId) -> Option<Workspace> {
        self.workspaces.remove(&id)
    }

    /// A workspace.
    pub fn workspace(&self, id: WorkspaceId) -> Option<&Workspace> {
        self.workspaces.get(&id)
    }

    /// The workspaces, in no order.
    pub fn workspaces(&self) -> impl Iterator<Item = &Workspace> {
        self.workspaces.values()
    }

    /// Adds a guardrail, or replaces it.
    pub fn put_guardrail(&mut self, guardrail: Guardrail) {
        let default = self.workspaces.get(&guardrail.workspace).map(Workspace::default_guardrail);
        if default == Some(guardrail.uuid) {
            self.defaults.insert(guardrail.workspace, guardrail.id);
        }
        self.guardrails.insert(guardrail.id, Arc::new(guardrail));
    }

    /// Removes a guardrail with its assignments.
    pub fn remove_guardrail(&mut self, id: GuardrailId) -> Option<Arc<Guardrail>> {
        self.defaults.retain(|_, default| *default != id);
        self.of_keys.retain(|_, guardrail| *guardrail != id);
        self.of_members.retain(|_, guardrail| *guardrail != id);
        self.guardrails.remove(&id)
    }

    /// A guardrail.
    pub fn guardrail(&self, id: GuardrailId) -> Option<&Guardrail> {
        self.guardrails.get(&id).map(AsRef::as_ref)
    }

    /// The guardrails, in no order.
    pub fn guardrails(&self) -> impl Iterator<Item = &Guardrail> {
        self.guardrails.values().map(AsRef::as_ref)
    }

    /// Assigns a guardrail to a key in the place of any other, or takes it away.
    pub fn assign_key(&mut self, key: KeyId, guardrail: Option<GuardrailId>) {
        match guardrail {
            Some(guardrail) => self.of_keys.insert(key, guardrail),
            None => self.of_keys.remove(&key),
        };
    }

    /// Assigns a guardrail to a member in the place of any other, or takes it away.
    pub fn assign_member(&mut self, member: MemberId, guardrail: Option<GuardrailId>) {
        match guardrail {
            Some(guardrail) => self.of_members.insert(member, guardrail),
            None => self.of_members.remove(&member),
        };
    }

    /// The guardrails that apply to a key, in the order in which their budgets are enforced: its workspace's default, its
    /// member's, its own.
    pub fn guardrails_of(&self, key: &Key) -> impl Iterator<Item = &Arc<Guardrail>> {
        let ids = [
            self.defaults.get(&key.workspace),
            key.creator.and_then(|member| self.of_members.get(&member)),
            self.of_keys.get(&key.id),
        ];
        ids.into_iter().flatten().filter_map(|id| self.guardrails.get(id))
    }

    /// Whether any budget, of whichever key, counts what a scope spends: [`Rules::budgets_of`] names no scope that this does not.
    pub fn limits(&self, scope: Scope, key: Option<&Key>) -> bool {
        let budgeted = |id: &GuardrailId| self.guardrails.get(id).is_some_and(|found| found.rules.budget.is_some());
        match scope {
            Scope::Account => self.credits.is_some(),
            Scope::Workspace(id) => self.workspaces.get(&id).is_some_and(|it| it.budgets.iter().next().is_some()),
            Scope::Key(id) => key.is_some_and(|key| {
                let guardrails = [self.of_keys.get(&id), self.defaults.get(&key.workspace)];
                key.limit.is_some() || guardrails.into_iter().flatten().any(budgeted)
            }),
            // The default guardrail of any workspace counts what a member spends in all of them.
            Scope::Member(id) => self.of_members.get(&id).is_some_and(budgeted) || self.defaults.values().any(budgeted),
        }
    }

    /// The budgets that apply to a key at `now`, each with the scope whose spending counts against it, in the order in which they are
    /// enforced.
    pub fn budgets_of(&self, key: &Key, now: Timestamp) -> Vec<(Budget, Scope)> {
        let mut found = Vec::new();
        let default = self.defaults.get(&key.workspace);
        let members = key.creator.and_then(|member| self.of_members.get(&member));
        let owns = self.of_keys.get(&key.id);
        let member_scope = key.creator.map(Scope::Member);
        let layers = [
            (BudgetScope::WorkspaceDefaultMember, default, member_scope),
            (BudgetScope::WorkspaceDefaultKey, default, Some(Scope::Key(key.id))),
            (BudgetScope::Member, members, member_scope),
            (BudgetScope::ApiKey, owns, Some(Scope::Key(key.id))),
        ];
        for (from, guardrail, scope) in layers {
            let guardrail = guardrail.and_then(|id| self.guardrails.get(id));
            if let (Some(guardrail), Some(scope)) = (guardrail, scope)
                && let Some(budget) = guardrail.rules.budget
            {
                let budget = Budget {
                    scope: from,
                    limit: budget.limit,
                    reset: Some(budget.reset),
                    include_byok: guardrail.rules.include_byok,
                    source: Some(guardrail.uuid),
                };
                found.push((budget, scope));
            }
        }
        if let Some(workspace) = self.workspaces.get(&key.workspace) {
            found.extend(workspace.budgets.iter().map(|(window, budget)| {
                let budget = Budget {
                    scope: BudgetScope::Workspace,
                    limit: budget.limit,
                    reset: window.reset(),
                    include_byok: workspace.budgets.include_byok,
                    source: Some(budget.uuid),
                };
                (budget, Scope::Workspace(key.workspace))
            }));
        }
        if let Some(limit) = key.limit_at(now) {
            let budget = Budget {
                scope: BudgetScope::Key,
                limit,
                reset: key.limit_reset,
                include_byok: key.include_byok_in_limit,
                source: None,
            };
            found.push((budget, Scope::Key(key.id)));
        }
        if let Some(limit) = self.credits {
            let budget = Budget { scope: BudgetScope::Credits, limit, reset: None, include_byok: false, source: None };
            found.push((budget, Scope::Account));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guardrail::{GuardrailBudget, GuardrailRules};
    use crate::key::{CallLimits, KeyHash, NewKey};
    use crate::time::{LimitReset, WindowKind};
    use crate::workspace::{NewWorkspace, Preferences};
    use uuid::Uuid;

    fn guardrail(id: i64, uuid: Uuid) -> Guardrail {
        let budget = Some(GuardrailBudget { limit: Usd::from_nanos(id), reset: LimitReset::Daily });
        Guardrail {
            id: GuardrailId(id),
            uuid,
            workspace: WorkspaceId(1),
            rules: GuardrailRules { budget, ..GuardrailRules::default() },
            created_at: Timestamp::default(),
            updated_at: None,
        }
    }

    #[test]
    fn every_layer_applies_in_the_order_of_the_contract() {
        let key = NewKey {
            hash: KeyHash::of("k"),
            name: "k".to_owned(),
            label: "k".to_owned(),
            workspace: WorkspaceId(1),
            limit: Some(Usd::from_nanos(9)),
            limit_reset: None,
            include_byok_in_limit: false,
            expires_at: None,
            creator: Some(MemberId(5)),
            external_user: None,
            call_limits: CallLimits::default(),
            allowed_models: None,
        }
        .into_key(KeyId(7), Timestamp::default());
        let mut workspace = NewWorkspace {
            uuid: Uuid::from_u128(1),
            name: "w".to_owned(),
            slug: "w".to_owned(),
            description: None,
            preferences: Preferences::default(),
        }
        .into_workspace(WorkspaceId(1), Timestamp::default());
        for (window, limit) in [(WindowKind::Daily, 3), (WindowKind::Monthly, 4)] {
            let changed = workspace.budgets.with(window, Usd::from_nanos(limit), Uuid::nil(), Timestamp::default());
            workspace.budgets = changed.unwrap();
        }
        let mut rules = Rules { credits: Some(Usd::from_nanos(99)), ..Rules::default() };
        let default = workspace.default_guardrail();
        rules.put_workspace(workspace);
        for (id, uuid) in [(1, default), (2, Uuid::from_u128(2)), (3, Uuid::from_u128(3)), (4, Uuid::from_u128(4))] {
            rules.put_guardrail(guardrail(id, uuid));
        }
        rules.assign_member(MemberId(5), Some(GuardrailId(2)));
        rules.assign_key(KeyId(7), Some(GuardrailId(3)));
        let now = Timestamp::default();
        let (member, own) = (Scope::Member(MemberId(5)), Scope::Key(KeyId(7)));
        let found: Vec<_> =
            rules.budgets_of(&key, now).into_iter().map(|(b, scope)| (b.scope, b.limit.nanos(), scope)).collect();
        let expected = [
            (BudgetScope::WorkspaceDefaultMember, 1, member),
            (BudgetScope::WorkspaceDefaultKey, 1, own),
            (BudgetScope::Member, 2, member),
            (BudgetScope::ApiKey, 3, own),
            (BudgetScope::Workspace, 4, Scope::Workspace(WorkspaceId(1))),
            (BudgetScope::Workspace, 3, Scope::Workspace(WorkspaceId(1))),
            (BudgetScope::Key, 9, own),
            (BudgetScope::Credits, 99, Scope::Account),
        ];
        assert_eq!(found, expected);
        let scopes = [member, own, Scope::Workspace(WorkspaceId(1)), Scope::Account];
        assert!(scopes.iter().all(|scope| rules.limits(*scope, Some(&key))), "each of them is locked");
        assert_eq!(rules.guardrails_of(&key).map(|guardrail| guardrail.id.0).collect::<Vec<_>>(), [1, 2, 3]);
        rules.remove_guardrail(GuardrailId(1));
        rules.remove_guardrail(GuardrailId(3));
        assert_eq!(rules.budgets_of(&key, now).len(), 5, "what is removed applies to nobody");
        rules.remove_guardrail(GuardrailId(2));
        assert!(!rules.limits(member, Some(&key)), "nothing counts what they spend any more");
        assert!(rules.limits(own, Some(&key)), "its own limit still does");
    }
}
