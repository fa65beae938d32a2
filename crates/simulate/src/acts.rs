//! What callers and administrators do: each act is a future on one process's store.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use tollgate_domain::generation::GenerationRow;
use tollgate_domain::guardrail::{GuardrailChange, GuardrailRules};
use tollgate_domain::key::{CallLimits, KeyChange, LimitRaise, NewKey};
use tollgate_domain::ledger::{Amounts, Fee, Tariff};
use tollgate_domain::member::Role;
use tollgate_domain::model::PriceVersion;
use tollgate_domain::pricing::{Bound, Cost, OutputCap};
use tollgate_domain::time::{LimitReset, WindowKind};
use tollgate_domain::workspace::{NewWorkspace, Preferences, WorkspaceId};
use tollgate_domain::{KeyHash, KeyId, Price, Timestamp, Usd};
use tollgate_store::{
    Actor, AdjustRefused, Admission, Assignees, Credits, KeyView, NewMember, Outcome, Raise, Reserve, Rotation,
    Settled, Settlement, SettlementFacts, Store, StoreError,
};
use uuid::Uuid;

use crate::data::ChatId;
use crate::process::{Gate, Process};
use crate::rng::Rng;
use crate::sim::Unanswered;

pub type Shared = Arc<dyn Store>;
pub type Act = Pin<Box<dyn Future<Output = Told> + Send>>;

/// What a process that was started does with what it started.
pub type Enter = Box<dyn FnOnce(&mut Process) + Send>;

/// What somebody is told at the end of an act.
pub enum Told {
    Reserved(GenerationRow, Result<Box<Admission>, StoreError>),
    Raised(Amounts, Result<bool, StoreError>),
    Settled(Result<Settled, StoreError>),
    Key(Result<Option<Box<KeyView>>, StoreError>),
    Credits(Result<Credits, StoreError>),
    /// Whether something was changed.
    Edited(Result<bool, StoreError>),
    /// The same; these are new keys.
    Made(Result<Vec<(KeyId, KeyHash)>, StoreError>),
    Adjusted(GenerationRow, Result<Result<Amounts, AdjustRefused>, StoreError>),
    SetUp(Result<Box<World>, StoreError>),
    Started(Result<Enter, String>),
    /// The data path of a process is open, or is not.
    Opened(Result<Box<Gate>, String>),
    Chatted(ChatId, Result<(), Unanswered>),
}

/// What there is to act on.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub keys: Vec<(KeyId, KeyHash)>,
    pub workspaces: Vec<(WorkspaceId, Uuid)>,
    pub guardrails: Vec<Uuid>,
    pub members: Vec<(tollgate_domain::member::MemberId, String)>,
    /// The newest secrets of keys that were rotated.
    pub secrets: BTreeMap<i64, KeyHash>,
    made: u64,
}

fn uuid(rng: &mut Rng) -> Uuid {
    Uuid::from_u128((u128::from(rng.next()) << 64) | u128::from(rng.next()))
}

const RESETS: [Option<LimitReset>; 4] =
    [None, Some(LimitReset::Daily), Some(LimitReset::Weekly), Some(LimitReset::Monthly)];

fn reset(rng: &mut Rng) -> Option<LimitReset> {
    rng.pick(&RESETS).flatten()
}

/// When something is edited: around which key, what it and its workspace ever spent.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub key: usize,
    pub spent: (i64, i64),
    pub tight: bool,
    pub now: Timestamp,
}

/// A limit that leaves something of what was spent, or does not.
fn around(rng: &mut Rng, spent: i64, tight: bool) -> Usd {
    let base = if rng.chance(7_000) { spent } else { 0 };
    Usd::from_nanos(base + amount(rng, tight).nanos())
}

/// The size of limits: small ones bind.
fn amount(rng: &mut Rng, tight: bool) -> Usd {
    let most = if tight { 300 } else { 3_000 };
    Usd::from_nanos(if rng.chance(500) { 0 } else { rng.between(20, most) })
}

impl World {
    /// A key that nobody made yet.
    fn new_key(&mut self, rng: &mut Rng, tight: bool, now: Timestamp, plain: bool) -> Option<NewKey> {
        self.made += 1;
        let name = format!("key-{}", self.made);
        let member = rng.pick(&[None, Some(0), Some(0), Some(1)]).flatten();
        Some(NewKey {
            hash: KeyHash::of(&name),
            label: name.clone(),
            name,
            workspace: self.workspaces.get(rng.place(self.workspaces.len()))?.0,
            limit: rng.chance(6_000).then(|| amount(rng, tight)),
            limit_reset: reset(rng),
            include_byok_in_limit: rng.chance(4_000),
            expires_at: (!plain && rng.chance(2_000)).then(|| now.plus_micros(rng.between(1_000, 20_000_000))),
            creator: member.and_then(|place: usize| self.members.get(place)).map(|(id, _)| *id),
            external_user: None,
            call_limits: CallLimits::default(),
            allowed_models: None,
        })
    }
}

/// Makes a small organisation.
pub fn set_up(store: Shared, mut rng: Rng, keys: usize, tight: bool, now: Timestamp) -> Act {
    let made = async move {
        let by = Actor::Operator;
        let mut world = World::default();
        let default = store.workspace(&tollgate_store::WorkspaceRef::Default).await?;
        world.workspaces.extend(default.map(|workspace| (workspace.id, workspace.default_guardrail())));
        let new = NewWorkspace {
            uuid: uuid(&mut rng),
            name: "other".to_owned(),
            slug: "other".to_owned(),
            description: None,
            preferences: Preferences::default(),
        };
        if let Ok(workspace) = store.create_workspace(new, by.clone().into()).await? {
            world.workspaces.push((workspace.id, workspace.default_guardrail()));
        }
        for name in ["user_a", "user_b"] {
            let new = NewMember {
                user_id: name.to_owned(),
                email: format!("{name}@example.org"),
                first_name: None,
                last_name: None,
                role: Role::Member,
            };
            if let Ok(member) = store.create_member(new, by.clone().into()).await? {
                world.members.push((member.id, member.user_id));
            }
        }
        for name in ["one", "two"] {
            let rules = GuardrailRules { name: name.to_owned(), ..GuardrailRules::default() };
            let (id, home) = (uuid(&mut rng), world.workspaces.first().map_or(WorkspaceId(1), |it| it.0));
            store.create_guardrail(id, home, rules, by.clone().into()).await?;
            world.guardrails.push(id);
        }
        for _ in 0..keys {
            if let Some(new) = world.new_key(&mut rng, tight, now, true) {
                let made = store.create_keys(vec![new], by.clone().into()).await?.unwrap_or_default();
                world.keys.extend(made.into_iter().map(|view| (view.key.id, view.key.hash)));
            }
        }
        if rng.chance(3_000) {
            let _ = store.top_up(Usd::from_nanos(rng.between(200, 5_000)), "start", by.clone().into()).await?;
        }
        Ok(Box::new(world))
    };
    Box::pin(async move { Told::SetUp(made.await) })
}

/// A call that may cost so much, and who pays.
pub fn wanted(rng: &mut Rng, row: GenerationRow, key: KeyId, hash: KeyHash) -> Reserve {
    // The secret that the key was made with, which may have been rotated.
    let secret = rng.chance(4_000).then_some(hash);
    let nano = |nanos: i64| Usd::from_nanos(nanos).picos();
    let amount = if rng.chance(300) { 0 } else { rng.between(1, 20) };
    let cap = if rng.chance(2_000) { OutputCap::Open { most: 12, least: 2 } } else { OutputCap::Asked(1) };
    let completion = Price::from_picos(if rng.chance(5_000) { 0 } else { 1_500 });
    let fee = rng.pick(&["0", "5", "50", "100"]).unwrap_or("5");
    let tariff = if rng.chance(2_500) { Tariff::Byok(Fee::percent(fee).unwrap_or_default()) } else { Tariff::Credits };
    let bound =
        Bound { prompt_tokens: 3, fixed_picos: nano(amount), completion, choices: 1, cap, open_ended: rng.chance(100) };
    Reserve { row, key, secret, price: PriceVersion(1), bound, tariff }
}

pub fn reserve(store: Shared, want: Reserve) -> Act {
    Box::pin(async move { Told::Reserved(want.row, store.reserve(want).await.map(Box::new)) })
}

pub fn raise(store: Shared, row: GenerationRow, to: Amounts) -> Act {
    let raise = Raise { row, to, open_ended: false, price: PriceVersion(1) };
    Box::pin(async move { Told::Raised(to, store.raise(raise).await) })
}

pub fn settle(store: Shared, row: GenerationRow, charge: Amounts, outcome: Outcome) -> Act {
    let settlement = Settlement {
        row,
        outcome,
        charge,
        cost: Cost { total: charge.credits, prompt: charge.credits, completion: Usd::ZERO },
        metered: None,
        price: PriceVersion(1),
        facts: SettlementFacts::default(),
    };
    Box::pin(async move { Told::Settled(store.settle(settlement).await) })
}

pub fn look(store: Shared, key: KeyHash) -> Act {
    Box::pin(async move { Told::Key(store.key(&key).await.map(|view| view.map(Box::new))) })
}

pub fn credits(store: Shared) -> Act {
    Box::pin(async move { Told::Credits(store.credits().await) })
}

pub fn adjust(store: Shared, row: GenerationRow, id: String, amounts: Amounts) -> Act {
    let by = Actor::Operator;
    Box::pin(async move { Told::Adjusted(row, store.adjust(&id, amounts, "it was another", by.into()).await) })
}

fn edited(done: impl Future<Output = Result<bool, StoreError>> + Send + 'static) -> Act {
    Box::pin(async move { Told::Edited(done.await) })
}

fn key_change(rng: &mut Rng, world: &World, at: Moment) -> KeyChange {
    let Moment { tight, now, .. } = at;
    let nothing = KeyChange::default();
    match rng.below(8) {
        0..=2 => {
            let limit = rng.chance(8_000).then(|| around(rng, at.spent.0, tight));
            let limit_reset = rng.chance(3_000).then(|| reset(rng));
            KeyChange { limit: Some(limit), limit_reset, ..nothing }
        }
        3 => KeyChange { include_byok_in_limit: Some(rng.chance(5_000)), ..nothing },
        4 => KeyChange { disabled: Some(rng.chance(5_000)), ..nothing },
        5 => {
            let raise = LimitRaise { amount: amount(rng, tight), until: now.plus_micros(rng.between(0, 5_000_000)) };
            KeyChange { limit_raise: Some(rng.chance(7_000).then_some(raise)), ..nothing }
        }
        6 => KeyChange { disabled: Some(false), ..nothing },
        _ => KeyChange { workspace: world.workspaces.get(rng.place(world.workspaces.len())).map(|it| it.0), ..nothing },
    }
}

/// An act of management.
pub fn edit(store: Shared, rng: &mut Rng, world: &mut World, at: Moment) -> Option<Act> {
    let (by, Moment { tight, now, .. }) = (Actor::Operator, at);
    let (key, hash) = *world.keys.get(at.key)?;
    let (workspace, default) = *world.workspaces.get(rng.place(world.workspaces.len()))?;
    let guardrail =
        if rng.chance(3_000) { default } else { *world.guardrails.get(rng.place(world.guardrails.len()))? };
    Some(match rng.below(25) {
        0..=7 => {
            let change = key_change(rng, world, at);
            edited(async move { Ok(store.update_key(&hash, change, &by).await?.is_some()) })
        }
        8..=11 => {
            let (window, limit) = (WindowKind::ALL[rng.place(4)], around(rng, at.spent.1, tight));
            let (id, include) = (uuid(rng), rng.chance(3_000).then(|| rng.chance(5_000)));
            edited(async move { Ok(store.put_budget(workspace, window, limit, id, include, &by).await?.is_ok()) })
        }
        12..=13 => {
            let window = WindowKind::ALL[rng.place(4)];
            // Where there is none, nothing changes.
            edited(async move { Ok(store.delete_budget(workspace, window, &by).await?.is_err()) })
        }
        14..=16 => {
            let budget = rng.chance(7_000);
            let change = GuardrailChange {
                limit: Some(budget.then(|| around(rng, at.spent.0, tight))),
                reset: Some(budget.then(|| reset(rng).unwrap_or(LimitReset::Daily))),
                include_byok: rng.chance(3_000).then(|| rng.chance(5_000)),
                ..GuardrailChange::default()
            };
            edited(async move { Ok(store.update_guardrail(guardrail, change, &by).await?.is_ok()) })
        }
        17..=19 => {
            let assignees = if rng.chance(5_000) {
                Assignees::Keys(vec![hash.to_string()])
            } else {
                Assignees::Members(vec![world.members.get(rng.place(world.members.len()))?.1.clone()])
            };
            if rng.chance(6_000) {
                edited(async move { Ok(store.assign(guardrail, assignees, by.into()).await?.is_ok_and(|n| n > 0)) })
            } else {
                edited(async move { Ok(store.unassign(guardrail, assignees, by.into()).await?.is_ok_and(|n| n > 0)) })
            }
        }
        20..=21 => {
            let amount = Usd::from_nanos(rng.between(1, if tight { 600 } else { 9_000 }));
            edited(async move { Ok(store.top_up(amount, "more", by.into()).await?.is_ok()) })
        }
        23 => {
            world.made += 1;
            let name = format!("secret-{}", world.made);
            let grace_micros = if rng.chance(5_000) { 0 } else { rng.between(1, 3_000_000) };
            let rotation = Rotation { secret: KeyHash::of(&name), label: name, grace_micros };
            world.secrets.insert(key.0, rotation.secret);
            edited(async move { Ok(store.rotate_key(&hash, rotation, by.into()).await?.is_some()) })
        }
        22 => {
            if world.keys.len() > 1 {
                world.keys.retain(|(_, other)| *other != hash);
            }
            edited(async move { store.delete_key(&hash, &by).await })
        }
        _ => {
            let new = world.new_key(rng, tight, now, false)?;
            let made = async move {
                let views = store.create_keys(vec![new], by.into()).await?.unwrap_or_default();
                Ok(views.into_iter().map(|view| (view.key.id, view.key.hash)).collect())
            };
            Box::pin(async move { Told::Made(made.await) })
        }
    })
}
