//! The naive model: what callers were told, what is durable, and what that must add up to.
//!
//! It keeps no balance: only entries, summed by window of their admission. Each time something becomes durable it asks whether
//! that may be, and each time a caller is told something, whether it is so.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::{Amounts, Balance, MoneyKind, Open, Scope};
use tollgate_domain::pricing::Bound;
use tollgate_domain::time::{WindowKind, Windows};
use tollgate_domain::workspace::WorkspaceId;
use tollgate_domain::{KeyHash, KeyId, Timestamp, Usd};
use tollgate_store::{Outcome, Settled};

use crate::rules::{Limit, Rules};

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Its short name: what a shorter run must break too.
    pub promise: &'static str,
    pub what: String,
}

/// Builds one.
macro_rules! broken {
    ($promise:literal, $($what:tt)*) => {
        Err(crate::oracle::Broken { promise: $promise, what: format!($($what)*) })
    };
}
pub(crate) use broken;

pub type Checked = Result<(), Broken>;

/// Entries of one window: spent and held, by kind of money.
type Entry = [[i64; 2]; 2];

/// The entries of a scope, summed by window.
#[derive(Clone, Debug, Default)]
pub struct Sums(BTreeMap<(usize, i64), Entry>);

impl Sums {
    fn add(&mut self, windows: &Windows, amounts: &Amounts, place: usize, sign: i64) {
        for window in WindowKind::ALL {
            let entry = self.0.entry((window.index(), windows.of(window).0)).or_default();
            entry[0][place] += sign * amounts.credits.nanos();
            entry[1][place] += sign * amounts.byok.nanos();
        }
    }

    fn at(&self, window: WindowKind, number: i64) -> Entry {
        self.0.get(&(window.index(), number)).copied().unwrap_or_default()
    }

    /// What is spent and held in the window that holds `now`, as a limit counts it.
    fn used(&self, limit: &Limit, windows: &Windows) -> (i64, i64) {
        let [credits, byok] = self.at(limit.window, windows.of(limit.window).0);
        if limit.include_byok { (credits[0] + byok[0], credits[1] + byok[1]) } else { (credits[0], credits[1]) }
    }

    /// Whether a balance is the sum of these.
    fn check(&self, balance: &Balance) -> Result<(), String> {
        for (place, kind) in MoneyKind::ALL.into_iter().enumerate() {
            for window in WindowKind::ALL {
                let counter = balance.counter(kind, window);
                let newest = self.0.range((window.index(), i64::MIN)..(window.index() + 1, i64::MIN)).next_back();
                let Some(((_, number), entry)) = newest else { continue };
                let [spent, held] = entry[place];
                let read = (counter.window.0, counter.spent.nanos(), counter.held.nanos());
                if read != (*number, spent, held) {
                    return Err(format!(
                        "{kind:?} {window:?}: window, spent, held are {read:?}; the entries sum to {:?}",
                        (*number, spent, held)
                    ));
                }
            }
        }
        Ok(())
    }
}

/// A generation that is, or was, durable.
#[derive(Clone, Debug)]
pub struct Generation {
    pub open: Open,
    windows: Windows,
    pub price: i64,
    pub outcome: Option<Outcome>,
    pub charge: Amounts,
    /// Every charge that it ever had.
    charges: Vec<Amounts>,
    late: bool,
    adjusted: bool,
    raised: bool,
}

/// What a caller has in mind, and was told, of a generation.
#[derive(Clone, Debug, Default)]
struct Told {
    /// The secret that it came with.
    secret: Option<KeyHash>,
    /// It was granted.
    granted: bool,
    /// The charge of the settlement that the caller began with.
    meant: Option<Amounts>,
    /// What somebody was told whose settlement counts.
    counted: Option<Amounts>,
}

/// Something that became durable, all at once.
#[derive(Clone, Debug, Default)]
pub struct Durable {
    pub now: Timestamp,
    /// Whether `now` is exactly what it was decided at.
    pub exact: bool,
    pub holds: Vec<(GenerationRow, Open, i64)>,
    pub ends: Vec<(GenerationRow, Open, Outcome, Amounts, i64)>,
    pub late: Vec<(GenerationRow, Amounts)>,
    pub corrections: Vec<(GenerationRow, Amounts)>,
    /// The rules after it, where management changed them in between.
    pub rules: Option<Rules>,
    /// How often it did.
    pub edits: usize,
}

/// An act of a caller that is under way, for which it matters what happens meanwhile.
#[derive(Clone, Debug)]
pub enum Watch {
    /// A reservation: whether a refusal would have been right at some moment, and whether a rejection.
    Reserve { key: KeyId, secret: Option<KeyHash>, least: Amounts, refusable: bool, rejectable: bool },
    /// A look at a key: what it may have seen.
    Key { key: KeyId, seen: Vec<KeySeen> },
    /// A look at the credits.
    Credits { seen: Vec<(Option<i64>, i64, i64)> },
}

/// What a look at a key sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySeen {
    Gone,
    Key { credits: i64, byok: i64, limit: Option<i64>, disabled: bool, workspace: i64 },
}

/// The sums of an hour, a key, a workspace and a price: requests, credits, BYOK usage.
pub type RollupPlace = (i64, i64, i64, i64);

#[derive(Debug, Default)]
pub struct Oracle {
    pub generations: BTreeMap<i64, Generation>,
    told: BTreeMap<i64, Told>,
    sums: BTreeMap<Scope, Sums>,
    pub rollups: BTreeMap<RollupPlace, [i64; 3]>,
    pub rules: Rules,
    pub watches: BTreeMap<usize, Watch>,
    /// Rows that are held.
    pub open: BTreeSet<i64>,
    /// Rows that have ended, for whoever looks for one.
    pub ended: Vec<i64>,
    /// The latest time that anything was decided at.
    pub now: Timestamp,
    /// How often management changed something, durably.
    pub edits: u64,
    /// How generations ended: settled, released, lost, and settled after they were lost.
    pub ends: [u64; 4],
}

/// So much more was granted to a key.
type Grant = (GenerationRow, KeyId, Timestamp, Amounts);

const HOUR: i64 = 3_600_000_000;

impl Oracle {
    fn book(&mut self, open: &Open, windows: &Windows, amounts: &Amounts, place: usize, sign: i64) {
        for scope in open.spender.scopes() {
            self.sums.entry(scope).or_default().add(windows, amounts, place, sign);
        }
    }

    fn rollup(&mut self, open: &Open, price: i64) -> &mut [i64; 3] {
        let place = (open.admitted_at.micros().div_euclid(HOUR), open.spender.key.0, open.spender.workspace.0, price);
        self.rollups.entry(place).or_default()
    }

    /// Takes in what became durable, and asks whether it may be. `living` says whether somebody alive owns a hold.
    pub fn durable(&mut self, durable: Durable, living: impl Fn(GenerationRow) -> bool) -> Checked {
        let mut granted: Vec<Grant> = Vec::new();
        let mut ended: Vec<(Open, Windows, Amounts)> = Vec::new();
        let mut peaks: Vec<(Open, Amounts)> = Vec::new();
        for (row, open, price) in &durable.holds {
            let first = !self.generations.contains_key(&row.0);
            let before = self.hold(*row, open, *price, &durable)?;
            let added = more(&open.hold, &before);
            peaks.push((open.clone(), above(&before, &open.hold)));
            if first || added != Amounts::default() {
                granted.push((*row, open.spender.key, open.admitted_at, added));
            }
        }
        // Whoever was decided on in the middle of the batch met no more than the most that each of them held or cost.
        peaks.extend(durable.ends.iter().map(|(_, open, _, charge, _)| (open.clone(), above(charge, &open.hold))));
        peaks.extend(durable.late.iter().filter_map(|(row, charge)| {
            let generation = self.generations.get(&row.0)?;
            Some((generation.open.clone(), above(charge, &generation.charge)))
        }));
        for (open, more) in &peaks {
            self.book(open, &Windows::at(open.admitted_at), more, 1, 1);
        }
        self.look_at(durable.now);
        for (open, more) in &peaks {
            self.book(open, &Windows::at(open.admitted_at), more, 1, -1);
        }
        let mut brief = false;
        for (row, open, outcome, charge, price) in &durable.ends {
            if !self.generations.contains_key(&row.0) {
                // Granted and ended at once.
                self.hold(*row, open, *price, &durable)?;
                granted.push((*row, open.spender.key, open.admitted_at, open.hold));
                brief = true;
            } else if self.generations.get(&row.0).is_some_and(|it| it.outcome.is_none() && it.open.hold != open.hold) {
                // Raised and ended at once.
                let added = more(&open.hold, &self.hold(*row, open, *price, &durable)?);
                granted.push((*row, open.spender.key, open.admitted_at, added));
                brief = true;
            }
            self.end(*row, open, *outcome, *charge, *price, &living)?;
            ended.push((open.clone(), Windows::at(open.admitted_at), *charge));
        }
        for (row, charge) in &durable.late {
            self.late(*row, *charge)?;
        }
        for (row, amounts) in &durable.corrections {
            self.correct(*row, amounts)?;
        }
        let before = durable.rules.map(|rules| std::mem::replace(&mut self.rules, rules));
        if before.is_some() {
            self.edits += 1;
        }
        self.now = self.now.max(durable.now);
        for (row, key, at, added) in &granted {
            let (key, at) = (*key, *at);
            let lenient = before.is_some() && !durable.exact;
            if !durable.exact && (!durable.corrections.is_empty() || durable.edits > 1) {
                // In what order is not known, nor what was so between two edits.
                continue;
            }
            // A call that goes on at another provider was let in before its secret was rotated.
            let raised = self.generations.get(&row.0).is_some_and(|it| it.raised);
            let secret = self.told.get(&row.0).and_then(|told| told.secret.as_ref()).filter(|_| !raised);
            let usable = |rules: &Rules| rules.usable(key, secret, at);
            let was = before.as_ref();
            let was_usable = lenient && was.is_some_and(usable);
            if !was_usable && !usable(&self.rules) {
                return broken!("6 fail closed", "generation {} was granted to a key that may not be used", row.0);
            }
            let fits = |rules: &Rules| self.fits_now(rules, key, at, added, &granted, &ended);
            let Err(why) = fits(&self.rules) else { continue };
            if !(lenient && was.is_some_and(|rules| fits(rules).is_ok())) {
                return broken!("1 never over", "generation {} of key {}, {added:?} more: {why}", row.0, key.0);
            }
        }
        if brief {
            // What was held for a moment refuses others, and leaves no other trace.
            for watch in self.watches.values_mut() {
                if let Watch::Reserve { refusable, .. } = watch {
                    *refusable = true;
                }
            }
        }
        self.look();
        Ok(())
    }

    /// Whether all that is spent and held is within the limits of a key that was just granted more: but for overruns, and for what
    /// was granted at once to keys that have not this limit.
    fn fits_now(
        &self,
        rules: &Rules,
        key: KeyId,
        at: Timestamp,
        added: &Amounts,
        granted: &[Grant],
        ends: &[(Open, Windows, Amounts)],
    ) -> Result<(), String> {
        let windows = Windows::at(at);
        for limit in rules.limits(key, at) {
            if limit.counted(added) <= 0 {
                continue;
            }
            let Some(sums) = self.sums.get(&limit.scope) else { continue };
            let (spent, held) = sums.used(&limit, &windows);
            let number = windows.of(limit.window);
            let here = |open: &Open, w: &Windows| {
                w.of(limit.window) == number && open.spender.scopes().any(|it| it == limit.scope)
            };
            let over = |(open, _, charge): &(Open, Windows, Amounts)| {
                (limit.counted(charge) - limit.counted(&open.hold)).max(0)
            };
            let over: i64 = ends.iter().filter(|(open, w, _)| here(open, w)).map(over).sum();
            let free: i64 = granted
                .iter()
                .filter(|(row, other, ..)| {
                    let there = self.generations.get(&row.0).is_some_and(|it| here(&it.open, &it.windows));
                    there && *other != key && !rules.limits(*other, at).contains(&limit)
                })
                .map(|(.., added)| limit.counted(added).max(0))
                .sum();
            if spent + held - over - free > limit.amount {
                return Err(format!("spent {spent}, held {held}, of them {over} overrun here, limit {limit:?}"));
            }
        }
        Ok(())
    }

    fn hold(&mut self, row: GenerationRow, open: &Open, price: i64, durable: &Durable) -> Result<Amounts, Broken> {
        let windows = Windows::at(open.admitted_at);
        let Some(before) = self.generations.get_mut(&row.0) else {
            if durable.exact && open.admitted_at != durable.now {
                return broken!("5 windows", "generation {} was admitted at another time than now", row.0);
            }
            let generation = Generation {
                open: open.clone(),
                windows,
                price,
                outcome: None,
                charge: Amounts::default(),
                charges: Vec::new(),
                late: false,
                adjusted: false,
                raised: false,
            };
            self.generations.insert(row.0, generation);
            self.open.insert(row.0);
            self.book(open, &windows, &open.hold, 1, 1);
            return Ok(Amounts::default());
        };
        if before.outcome.is_some() {
            return broken!("3 exactly once", "generation {} is held after it ended", row.0);
        }
        if (before.open.spender, before.open.admitted_at) != (open.spender, open.admitted_at) {
            return broken!("5 windows", "generation {} changed its spender or its admission", row.0);
        }
        let held = std::mem::replace(&mut before.open.hold, open.hold);
        before.price = price;
        before.raised = true;
        self.book(open, &windows, &held, 1, -1);
        self.book(open, &windows, &open.hold, 1, 1);
        Ok(held)
    }

    fn end(
        &mut self,
        row: GenerationRow,
        open: &Open,
        outcome: Outcome,
        charge: Amounts,
        price: i64,
        living: impl Fn(GenerationRow) -> bool,
    ) -> Checked {
        let told = self.told.entry(row.0).or_default().clone();
        let Some(generation) = self.generations.get_mut(&row.0) else { return Ok(()) };
        if generation.outcome.is_some() {
            return broken!("3 exactly once", "generation {} settles twice", row.0);
        }
        if generation.open != *open {
            return broken!("3 exactly once", "generation {} ends as another: {open:?}", row.0);
        }
        match (outcome, told.meant) {
            (Outcome::Lost, _) if charge != open.hold => {
                return broken!("4 lost at its hold", "generation {} is lost at {charge:?}", row.0);
            }
            (Outcome::Lost, _) if living(row) => {
                return broken!("4 lost at its hold", "generation {} is booked as lost while its owner lives", row.0);
            }
            (Outcome::Lost, _) => {}
            (_, Some(meant)) if meant != charge => {
                return broken!("4 exact cost", "generation {} is charged {charge:?}; it cost {meant:?}", row.0);
            }
            (_, Some(_)) => {}
            (Outcome::Released, None) if !told.granted => {}
            (_, None) => return broken!("3 exactly once", "generation {} ended, and nobody asked for it", row.0),
        }
        let kind = match outcome {
            Outcome::Released => 1,
            Outcome::Lost => 2,
            _ => 0,
        };
        self.ends[kind] += 1;
        generation.outcome = Some(outcome);
        generation.charge = charge;
        generation.charges.push(charge);
        let windows = generation.windows;
        self.open.remove(&row.0);
        self.ended.push(row.0);
        self.book(open, &windows, &open.hold, 1, -1);
        self.book(open, &windows, &charge, 0, 1);
        if outcome != Outcome::Released {
            let [requests, credits, byok] = self.rollup(open, price);
            *requests += 1;
            *credits += charge.credits.nanos();
            *byok += charge.byok.nanos();
        }
        if let Some(generation) = self.generations.get_mut(&row.0) {
            generation.price = price;
        }
        Ok(())
    }

    fn late(&mut self, row: GenerationRow, charge: Amounts) -> Checked {
        let meant = self.told.get(&row.0).and_then(|told| told.meant);
        let Some(generation) = self.generations.get_mut(&row.0) else {
            return broken!("3 exactly once", "generation {} settles late and never began", row.0);
        };
        if generation.outcome != Some(Outcome::Lost) || generation.late {
            return broken!("4 late once", "generation {} is corrected late, which it cannot be", row.0);
        }
        // What was never told is released, whatever it was meant to cost.
        if meant.unwrap_or_default() != charge {
            return broken!("4 exact cost", "generation {} is charged {charge:?} late; it cost {meant:?}", row.0);
        }
        generation.late = true;
        self.ends[3] += 1;
        let amounts = more(&charge, &generation.charge);
        self.correct(row, &amounts)
    }

    fn correct(&mut self, row: GenerationRow, amounts: &Amounts) -> Checked {
        let Some(generation) = self.generations.get_mut(&row.0).filter(|it| it.outcome.is_some()) else {
            return broken!("3 exactly once", "generation {} is corrected and never ended", row.0);
        };
        generation.charge = plus(&generation.charge, amounts);
        generation.charges.push(generation.charge);
        generation.adjusted = true;
        let (open, windows, price) = (generation.open.clone(), generation.windows, generation.price);
        self.book(&open, &windows, amounts, 0, 1);
        let [_, credits, byok] = self.rollup(&open, price);
        *credits += amounts.credits.nanos();
        *byok += amounts.byok.nanos();
        Ok(())
    }

    /// Whether the balance of a scope is the sum of its entries. Keys that are gone have none.
    pub fn check_balance(&self, scope: Scope, balance: &Balance) -> Checked {
        if let Scope::Key(key) = scope
            && self.rules.keys.get(&key.0).is_none_or(|key| key.deleted)
        {
            return Ok(());
        }
        let Some(sums) = self.sums.get(&scope) else { return Ok(()) };
        match sums.check(balance) {
            Ok(()) => Ok(()),
            Err(why) => broken!("3 entries sum to the balance", "{scope:?} {why}"),
        }
    }

    /// What a key, and its workspace, ever spent.
    pub fn spent_by(&self, key: KeyId) -> (i64, i64) {
        let spent = |scope| self.sums.get(&scope).map_or(0, |sums| sums.at(WindowKind::Lifetime, 0)[0][0]);
        let workspace = self.rules.keys.get(&key.0).map_or(0, |key| key.workspace);
        (spent(Scope::Key(key)), spent(Scope::Workspace(WorkspaceId(workspace))))
    }

    /// All scopes that anything was booked in.
    pub fn scopes(&self) -> impl Iterator<Item = Scope> + use<> {
        self.sums.keys().copied().collect::<Vec<_>>().into_iter()
    }

    /// Whether a call would fit right now, at the least that it can cost.
    fn fits(&self, key: KeyId, least: &Amounts, now: Timestamp) -> bool {
        let windows = Windows::at(now);
        self.rules.limits(key, now).iter().all(|limit| {
            let (spent, held) = self.sums.get(&limit.scope).map_or((0, 0), |sums| sums.used(limit, &windows));
            let wanted = limit.counted(least);
            let left = limit.amount - spent;
            if wanted == 0 { left >= 0 } else { left > 0 && wanted <= left - held }
        })
    }

    /// Whether a key may be used now, and for so much.
    pub fn has_room(&self, key: KeyId, room: &Amounts) -> bool {
        self.rules.usable(key, None, self.now) && self.fits(key, room, self.now)
    }

    /// Lets every act that is under way see how things stand now.
    pub fn look(&mut self) {
        self.look_at(self.now);
    }

    /// The same, at an instant at which something is decided.
    pub fn look_at(&mut self, now: Timestamp) {
        let mut watches = std::mem::take(&mut self.watches);
        for watch in watches.values_mut() {
            self.show(watch, now);
        }
        self.watches = watches;
    }

    fn show(&self, watch: &mut Watch, now: Timestamp) {
        match watch {
            Watch::Reserve { key, secret, least, refusable, rejectable } => {
                *refusable = *refusable || !self.fits(*key, least, now);
                *rejectable = *rejectable || !self.rules.usable(*key, secret.as_ref(), now);
            }
            Watch::Key { key, seen } => {
                let now = self.key_seen(*key);
                if seen.last() != Some(&now) {
                    seen.push(now);
                }
            }
            Watch::Credits { seen } => {
                let now = self.credits_seen();
                if seen.last() != Some(&now) {
                    seen.push(now);
                }
            }
        }
    }

    /// Begins to watch.
    pub fn watch(&mut self, who: usize, mut watch: Watch) {
        self.show(&mut watch, self.now);
        self.watches.insert(who, watch);
    }

    fn key_seen(&self, key: KeyId) -> KeySeen {
        let Some(rule) = self.rules.keys.get(&key.0).filter(|rule| !rule.deleted) else { return KeySeen::Gone };
        let [credits, byok] = self.sums.get(&Scope::Key(key)).map_or([[0; 2]; 2], |it| it.at(WindowKind::Lifetime, 0));
        KeySeen::Key {
            credits: credits[0],
            byok: byok[0],
            limit: rule.limit,
            disabled: rule.disabled,
            workspace: rule.workspace,
        }
    }

    fn credits_seen(&self) -> (Option<i64>, i64, i64) {
        let [[used, held], _] = self.sums.get(&Scope::Account).map_or([[0; 2]; 2], |it| it.at(WindowKind::Lifetime, 0));
        (self.rules.credits, used, held)
    }

    /// A caller was told that a generation is granted.
    pub fn told_granted(&mut self, row: GenerationRow, hold: Amounts, admitted_at: Timestamp) -> Checked {
        let Some(generation) = self.generations.get(&row.0) else {
            return broken!("2 on disk first", "generation {} was granted and is not there", row.0);
        };
        if generation.open.hold != hold || generation.open.admitted_at != admitted_at {
            return broken!("2 on disk first", "generation {} was granted as another", row.0);
        }
        if generation.outcome.is_some_and(|outcome| outcome != Outcome::Lost) {
            return broken!("3 exactly once", "generation {} was granted after it ended", row.0);
        }
        self.told.entry(row.0).or_default().granted = true;
        Ok(())
    }

    /// The same, of one that may have been raised or settled since.
    pub fn was_granted(&mut self, row: GenerationRow, hold: Amounts, admitted_at: Timestamp, raised: bool) -> Checked {
        let told = self.told.entry(row.0).or_default();
        told.granted = true;
        match self.generations.get(&row.0) {
            Some(it) if it.open.admitted_at == admitted_at && (raised || it.raised || told.meant.is_some()) => Ok(()),
            _ => self.told_granted(row, hold, admitted_at),
        }
    }

    /// A caller was told whether more is held.
    pub fn told_raised(&mut self, row: GenerationRow, to: &Amounts, raised: bool) -> Checked {
        let generation = self.generations.get(&row.0);
        let covered = generation.is_some_and(|it| it.outcome.is_some() || it.open.hold.covers(to));
        if raised && !covered {
            return broken!("2 on disk first", "generation {} was raised and it is not there", row.0);
        }
        Ok(())
    }

    /// A caller asks.
    pub fn asks(&mut self, row: GenerationRow, secret: Option<KeyHash>) {
        self.told.entry(row.0).or_default().secret = secret;
    }

    /// A caller begins to settle.
    pub fn means(&mut self, row: GenerationRow, charge: Amounts) {
        self.told.entry(row.0).or_default().meant.get_or_insert(charge);
    }

    /// A caller was told that a generation is settled. `alone` says that this was the first settlement of it.
    pub fn told_settled(&mut self, row: GenerationRow, settled: &Settled, alone: bool) -> Checked {
        let Some(generation) = self.generations.get(&row.0).filter(|it| it.outcome.is_some()) else {
            return broken!("2 on disk first", "generation {} was settled and it is not there", row.0);
        };
        let told = self.told.entry(row.0).or_default();
        if !generation.charges.contains(&settled.charge) {
            return broken!(
                "4 exact cost",
                "generation {}: {:?} was told, {:?} is there",
                row.0,
                settled.charge,
                generation.charges
            );
        }
        if generation.adjusted {
            // A repeat may happen to say what it was corrected to.
            return Ok(());
        }
        // A repeat at the same cost whose first try was lost may be told that it counts, too: it is the same.
        if settled.first && told.counted.replace(settled.charge).is_some_and(|counted| counted != settled.charge) {
            return broken!("3 exactly once", "two settlements of generation {} count", row.0);
        }
        if settled.first && told.meant != Some(settled.charge) {
            return broken!("4 exact cost", "generation {}: {settled:?} is not what it cost", row.0);
        }
        if !settled.first && alone {
            return broken!("3 exactly once", "the one settlement of generation {} does not count", row.0);
        }
        Ok(())
    }

    /// A caller was told what an answer cost.
    pub fn told_cost(&self, row: GenerationRow, cost: Usd) -> Checked {
        let Some(generation) = self.generations.get(&row.0).filter(|it| it.outcome.is_some()) else {
            return broken!("2 on disk first", "the cost of generation {} was told and is not there", row.0);
        };
        if generation.charges.iter().any(|charge| charge.credits == cost) {
            return Ok(());
        }
        broken!("4 exact cost", "generation {}: {cost:?} was told, {:?} is there", row.0, generation.charges)
    }

    /// Whether a look saw what was there while it looked.
    pub fn told_key(&self, who: usize, read: &KeySeen) -> Checked {
        match self.watches.get(&who) {
            Some(Watch::Key { seen, .. }) if !seen.contains(read) => {
                broken!("7 answers are exact", "{read:?} was read; it was {seen:?}")
            }
            _ => Ok(()),
        }
    }

    /// Whether a look saw what was there while it looked.
    pub fn told_credits(&self, who: usize, read: (Option<i64>, i64, i64)) -> Checked {
        match self.watches.get(&who) {
            Some(Watch::Credits { seen }) if !seen.contains(&read) => {
                broken!("7 answers are exact", "credits {read:?} were read; they were {seen:?}")
            }
            _ => Ok(()),
        }
    }

    /// Whether a correction came to this.
    pub fn told_adjusted(&self, row: GenerationRow, charge: &Amounts) -> Checked {
        match self.generations.get(&row.0) {
            Some(generation) if generation.charges.contains(charge) => Ok(()),
            _ => broken!("2 on disk first", "generation {} was corrected to {charge:?} and is not there", row.0),
        }
    }

    /// Nothing is in flight any more.
    pub fn quiet(&self) -> Checked {
        match self.open.first() {
            None => Ok(()),
            Some(row) => {
                broken!("no hold leaks", "generation {row} and {} others are still held", self.open.len() - 1)
            }
        }
    }
}

/// What `one` is more than `other`, per kind; may be negative.
fn more(one: &Amounts, other: &Amounts) -> Amounts {
    Amounts { credits: Usd::left_of(one.credits, other.credits), byok: Usd::left_of(one.byok, other.byok) }
}

/// By how much one is more, of each kind.
fn above(one: &Amounts, other: &Amounts) -> Amounts {
    let above = |one: Usd, other: Usd| Usd::from_nanos((one.nanos() - other.nanos()).max(0));
    Amounts { credits: above(one.credits, other.credits), byok: above(one.byok, other.byok) }
}

fn plus(one: &Amounts, other: &Amounts) -> Amounts {
    let sum = |one, other| [one, other].into_iter().sum();
    Amounts { credits: sum(one.credits, other.credits), byok: sum(one.byok, other.byok) }
}

/// The least that a call can cost.
pub fn least(bound: &Bound, tariff: tollgate_domain::ledger::Tariff) -> Amounts {
    tariff.charge(bound.picos_at(bound.cap.least())).unwrap_or_default()
}
