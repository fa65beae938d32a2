//! Which budgets apply to a key, read naively from the tables that management writes. Shares nothing with the engines.

use std::collections::BTreeMap;

use tollgate_domain::ledger::{Amounts, Scope};
use tollgate_domain::member::MemberId;
use tollgate_domain::time::WindowKind;
use tollgate_domain::workspace::{NewWorkspace, Preferences, WorkspaceId};
use tollgate_domain::{KeyHash, KeyId, Timestamp};
use tollgate_engine::{Row, Value};
use uuid::Uuid;

/// A key's part of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRule {
    pub workspace: i64,
    pub disabled: bool,
    pub deleted: bool,
    pub limit: Option<i64>,
    pub window: WindowKind,
    pub include_byok: bool,
    pub expires_at: Option<i64>,
    pub creator: Option<i64>,
    raise: Option<(i64, i64)>,
    secret: Option<Vec<u8>>,
    previous: Option<(Vec<u8>, i64)>,
}

#[derive(Clone, Debug)]
struct Guardrail {
    budget: Option<(i64, WindowKind)>,
    include_byok: bool,
}

#[derive(Clone, Debug, Default)]
struct Workspace {
    include_byok: bool,
    budgets: Vec<(i64, WindowKind)>,
    default_guardrail: Option<i64>,
}

/// A limit, and what it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub amount: i64,
    pub scope: Scope,
    pub window: WindowKind,
    pub include_byok: bool,
}

impl Limit {
    /// What of an amount counts.
    pub fn counted(&self, amounts: &Amounts) -> i64 {
        amounts.credits.nanos() + if self.include_byok { amounts.byok.nanos() } else { 0 }
    }
}

/// Everything that limits spending at one version of what management knows.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub keys: BTreeMap<i64, KeyRule>,
    workspaces: BTreeMap<i64, Workspace>,
    guardrails: BTreeMap<i64, Guardrail>,
    of_keys: BTreeMap<i64, i64>,
    of_members: BTreeMap<i64, i64>,
    pub credits: Option<i64>,
}

/// What [`Rules::read`] asks.
const QUERIES: [&str; 7] = [
    "SELECT id, uuid, include_byok FROM workspaces WHERE deleted_at IS NULL",
    "SELECT workspace, span, amount FROM workspace_budgets",
    "SELECT id, uuid, amount, limit_reset, include_byok FROM guardrails",
    "SELECT key, guardrail FROM guardrail_keys",
    "SELECT member, guardrail FROM guardrail_members",
    "SELECT id, workspace, disabled, deleted_at, credit_limit, limit_reset, include_byok_in_limit, expires_at, creator,
    raise_amount, raise_until, coalesce(secret, hash), previous_secret, previous_until FROM keys",
    "SELECT count(*), sum(amount) FROM credits",
];

impl Rules {
    /// Reads the tables.
    pub fn read(mut query: impl FnMut(&str) -> Vec<Row>) -> Self {
        let mut rules = Self::default();
        let [workspaces, budgets, guardrails, of_keys, of_members, keys, credits] = QUERIES.map(&mut query);
        let mut defaults = BTreeMap::new();
        for row in &workspaces {
            let new = NewWorkspace {
                uuid: Uuid::parse_str(&text(row, 1).unwrap_or_default()).unwrap_or_default(),
                name: String::new(),
                slug: String::new(),
                description: None,
                preferences: Preferences::default(),
            };
            let workspace = new.into_workspace(WorkspaceId(number(row, 0)), Timestamp::default());
            defaults.insert(workspace.default_guardrail().to_string(), number(row, 0));
            let include_byok = number(row, 2) != 0;
            rules.workspaces.insert(number(row, 0), Workspace { include_byok, ..Workspace::default() });
        }
        for row in &budgets {
            let window = tollgate_engine::window(&text(row, 1).unwrap_or_default()).unwrap_or(WindowKind::Lifetime);
            if let Some(workspace) = rules.workspaces.get_mut(&number(row, 0)) {
                workspace.budgets.push((number(row, 2), window));
            }
        }
        for row in &guardrails {
            let id = number(row, 0);
            let budget = maybe(row, 2).map(|amount| (amount, window(text(row, 3).as_deref())));
            rules.guardrails.insert(id, Guardrail { budget, include_byok: number(row, 4) != 0 });
            let owner = text(row, 1).and_then(|uuid| defaults.get(&uuid).copied());
            if let Some(workspace) = owner.and_then(|owner| rules.workspaces.get_mut(&owner)) {
                workspace.default_guardrail = Some(id);
            }
        }
        rules.of_keys = of_keys.iter().map(|row| (number(row, 0), number(row, 1))).collect();
        rules.of_members = of_members.iter().map(|row| (number(row, 0), number(row, 1))).collect();
        for row in &keys {
            let key = KeyRule {
                workspace: number(row, 1),
                disabled: number(row, 2) != 0,
                deleted: maybe(row, 3).is_some(),
                limit: maybe(row, 4),
                window: window(text(row, 5).as_deref()),
                include_byok: number(row, 6) != 0,
                expires_at: maybe(row, 7),
                creator: maybe(row, 8),
                raise: maybe(row, 9).zip(maybe(row, 10)),
                secret: bytes(row, 11),
                previous: bytes(row, 12).zip(maybe(row, 13)),
            };
            rules.keys.insert(number(row, 0), key);
        }
        rules.credits = credits.first().filter(|row| number(row, 0) > 0).map(|row| number(row, 1));
        rules
    }

    /// Whether a key may be used, by whoever has this secret.
    pub fn usable(&self, key: KeyId, secret: Option<&KeyHash>, now: Timestamp) -> bool {
        self.keys.get(&key.0).is_some_and(|key| {
            let opens = secret.is_none_or(|secret| {
                let before = key.previous.as_ref().filter(|(_, until)| now.micros() < *until);
                let known = [key.secret.as_ref(), before.map(|(before, _)| before)];
                known.into_iter().flatten().any(|known| known[..] == secret.as_bytes()[..])
            });
            opens && !key.disabled && !key.deleted && key.expires_at.is_none_or(|end| end > now.micros())
        })
    }

    /// The limits that apply to a key.
    pub fn limits(&self, key: KeyId, now: Timestamp) -> Vec<Limit> {
        let mut limits = Vec::new();
        let Some(rule) = self.keys.get(&key.0) else { return limits };
        let (own, member) = (Scope::Key(key), rule.creator.map(|id| Scope::Member(MemberId(id))));
        let workspace = self.workspaces.get(&rule.workspace);
        let mut guarded = |guardrail: Option<&i64>, scope: Option<Scope>| {
            let guardrail = guardrail.and_then(|id| self.guardrails.get(id));
            if let (Some(guardrail), Some(scope)) = (guardrail, scope)
                && let Some((amount, window)) = guardrail.budget
            {
                limits.push(Limit { amount, scope, window, include_byok: guardrail.include_byok });
            }
        };
        let default = workspace.and_then(|workspace| workspace.default_guardrail.as_ref());
        guarded(default, member);
        guarded(default, Some(own));
        guarded(rule.creator.and_then(|id| self.of_members.get(&id)), member);
        guarded(self.of_keys.get(&key.0), Some(own));
        if let Some(workspace) = workspace {
            let (scope, include_byok) = (Scope::Workspace(WorkspaceId(rule.workspace)), workspace.include_byok);
            limits.extend(workspace.budgets.iter().map(|(amount, window)| Limit {
                amount: *amount,
                scope,
                window: *window,
                include_byok,
            }));
        }
        if let Some(limit) = rule.limit {
            let raise = rule.raise.filter(|(_, until)| now.micros() < *until).map_or(0, |(amount, _)| amount);
            let (window, include_byok) = (rule.window, rule.include_byok);
            limits.push(Limit { amount: limit + raise, scope: own, window, include_byok });
        }
        if let Some(amount) = self.credits {
            let (scope, window) = (Scope::Account, WindowKind::Lifetime);
            limits.push(Limit { amount, scope, window, include_byok: false });
        }
        limits
    }
}

fn number(row: &Row, column: usize) -> i64 {
    maybe(row, column).unwrap_or(0)
}

fn maybe(row: &Row, column: usize) -> Option<i64> {
    if let Some(Value::Integer(number)) = row.values().get(column) { Some(*number) } else { None }
}

fn bytes(row: &Row, column: usize) -> Option<Vec<u8>> {
    if let Some(Value::Blob(bytes)) = row.values().get(column) { Some(bytes.clone()) } else { None }
}

fn text(row: &Row, column: usize) -> Option<String> {
    if let Some(Value::Text(text)) = row.values().get(column) { Some(text.clone()) } else { None }
}

fn window(reset: Option<&str>) -> WindowKind {
    match reset {
        Some("daily") => WindowKind::Daily,
        Some("weekly") => WindowKind::Weekly,
        Some("monthly") => WindowKind::Monthly,
        _ => WindowKind::Lifetime,
    }
}
