//! Who calls and who manages: what they do next, and which process they turn to.

use tollgate_domain::ledger::{Amounts, Tariff};
use tollgate_domain::{KeyHash, KeyId, Usd};
use tollgate_store::Outcome;

use super::{Call, Role, Sim, Somebody};
use crate::acts;
use crate::oracle::{Watch, least};
use crate::plan::Fault;
use crate::rng::Rng;

impl Sim {
    pub(super) fn act(&mut self, who: usize) {
        let Some(somebody) = self.people.get(who).filter(|it| it.act.is_none()) else { return };
        match somebody.role {
            Role::Caller => self.call(who),
            Role::Admin => self.manage(who),
            Role::Starter => {}
        }
    }

    fn call(&mut self, who: usize) {
        let Some(call) = self.people.get(who).and_then(|it| it.call.clone()) else {
            if let Some(process) = self.some_process().filter(|_| !self.ending) {
                self.ask(who, process);
            } else if !self.ending {
                self.later(who);
            }
            return;
        };
        let Some(process) = self.processes.get(call.process) else { return };
        if process.life != call.life {
            // Its process died with it.
            self.drop_call(who);
            self.later(who);
            return;
        }
        let Some(store) = process.store.clone().filter(|_| !process.paused) else {
            self.later(who);
            return;
        };
        let mut core = self.core.lock();
        if call.settles == 0 && !self.ending && core.rng.chance(1_500) {
            let to = raised(&mut core.rng, &call);
            core.note("raise", who as u64, || format!("generation {} to {to:?}", call.row.0));
            drop(core);
            self.begin(who, call.process, acts::raise(store, call.row, to));
            return;
        }
        let over = core.fault(Fault::Overrun);
        let (charge, outcome) = cost(&mut core.rng, &call, over);
        core.note("settle", who as u64, || format!("generation {} at {charge:?}", call.row.0));
        core.oracle.means(call.row, charge);
        drop(core);
        if let Some(call) = self.people.get_mut(who).and_then(|it| it.call.as_mut()) {
            call.settles += 1;
        }
        self.begin(who, call.process, acts::settle(store, call.row, charge, outcome));
    }

    fn drop_call(&mut self, who: usize) {
        if let Some(somebody) = self.people.get_mut(who) {
            somebody.call = None;
        }
    }

    /// Lets those in who knocked while a process stood still, before it learns what happened meanwhile.
    pub(super) fn let_in(&mut self, process: usize) {
        for who in 0..self.people.len() {
            let idle = |it: &Somebody| it.role == Role::Caller && it.act.is_none() && it.call.is_none();
            if !self.ending && self.people.get(who).is_some_and(idle) {
                self.ask(who, process);
            }
        }
    }

    /// A new call, or a look.
    fn ask(&mut self, who: usize, process: usize) {
        let Some(store) = self.processes.get(process).and_then(|it| it.store.clone()) else { return };
        let mut core = self.core.lock();
        let place = core.rng.place(self.world.keys.len());
        let Some((key, hash)) = self.world.keys.get(place).copied() else { return };
        let kind = core.rng.below(100);
        if kind < 10 {
            core.note("look", who as u64, || format!("key {}", key.0));
            core.oracle.watch(who, Watch::Key { key, seen: Vec::new() });
            drop(core);
            self.begin(who, process, acts::look(store, hash));
            return;
        }
        if kind < 14 {
            core.note("credits", who as u64, String::new);
            core.oracle.watch(who, Watch::Credits { seen: Vec::new() });
            drop(core);
            self.begin(who, process, acts::credits(store));
            return;
        }
        let share = core.plan.rate(Fault::Chat);
        let gate = self.processes.get(process).and_then(|it| it.gate.clone());
        let gate = gate.filter(|_| core.rng.chance(share));
        drop(core);
        if gate.is_some_and(|gate| self.chat(who, process, gate)) {
            return;
        }
        self.reserve(who, process, key, hash);
    }

    /// Asks for a reservation, and watches whether its refusal would be right.
    pub(super) fn reserve(&mut self, who: usize, process: usize, key: KeyId, hash: KeyHash) {
        let Some(store) = self.processes.get(process).and_then(|it| it.store.clone()) else { return };
        let row = store.next_generation();
        let mut core = self.core.lock();
        let want = acts::wanted(&mut core.rng, row, key, hash);
        core.oracle.asks(row, want.secret);
        core.note("reserve", who as u64, || format!("generation {} on process {process}: {want:?}", row.0));
        // The embedded engine decides on what is not written yet.
        let busy = core.data.is_busy() || self.people.iter().any(|it| it.act.is_some());
        let ahead = self.disk.is_some() && (core.now < self.unwritten_until || busy);
        let (refusable, rejectable) = (want.bound.open_ended || ahead, ahead);
        let least = least(&want.bound, want.tariff);
        core.oracle.watch(who, Watch::Reserve { key, secret: want.secret, least, refusable, rejectable });
        drop(core);
        if let Some(somebody) = self.people.get_mut(who) {
            somebody.want = Some(want);
        }
        self.begin(who, process, acts::reserve(store, want));
    }

    fn manage(&mut self, who: usize) {
        if self.ending {
            return;
        }
        let Some(process) = self.some_process() else {
            self.later(who);
            return;
        };
        let Some(store) = self.processes.get(process).and_then(|it| it.store.clone()) else { return };
        let mut core = self.core.lock();
        if !core.fault(Fault::Edit) {
            drop(core);
            self.later(who);
            return;
        }
        let edits = core.oracle.edits;
        let ended = std::mem::take(&mut core.data.ended);
        self.ids.extend(ended.into_iter().take(400_usize.saturating_sub(self.ids.len())));
        if core.rng.chance(2_000)
            && let Some((row, id)) = self.ids.get(core.rng.place(self.ids.len())).cloned()
        {
            let part = |rng: &mut Rng| Usd::from_nanos(rng.between(-20, 20));
            let byok = if core.rng.chance(2_000) { part(&mut core.rng) } else { Usd::ZERO };
            let amounts = Amounts { credits: part(&mut core.rng), byok };
            core.note("adjust", who as u64, || format!("generation {} by {amounts:?}", row.0));
            drop(core);
            self.begin(who, process, acts::adjust(store, row, id, amounts));
            return;
        }
        let (tight, now) = (core.plan.tight, core.wall());
        let key = core.rng.place(self.world.keys.len());
        let spent = self.world.keys.get(key).map_or((0, 0), |(key, _)| core.oracle.spent_by(*key));
        let at = acts::Moment { key, spent, tight, now };
        let act = acts::edit(store, &mut core.rng, &mut self.world, at);
        core.note("edit", who as u64, || format!("on process {process}"));
        drop(core);
        if let Some(somebody) = self.people.get_mut(who) {
            somebody.edits = edits;
        }
        match act {
            Some(act) => self.begin(who, process, act),
            None => self.later(who),
        }
    }
}

/// What a raise asks for: more of the same, or another kind of money.
fn raised(rng: &mut Rng, call: &Call) -> Amounts {
    let more = Usd::from_nanos(rng.between(0, 40));
    match call.tariff {
        Tariff::Credits if rng.chance(7_000) => Amounts::credits(more),
        _ => Amounts { credits: Usd::from_nanos(rng.between(0, 20)), byok: more },
    }
}

/// What a call cost.
fn cost(rng: &mut Rng, call: &Call, over: bool) -> (Amounts, Outcome) {
    let hold = call.hold;
    let kind = rng.below(10);
    if kind == 0 {
        return (Amounts::default(), Outcome::Released);
    }
    let mut part = |held: Usd| {
        let more = if over { rng.between(1, 60) } else { 0 };
        let nanos = match kind {
            1..=3 => held.nanos(),
            4 => 0,
            _ => rng.between(0, held.nanos()),
        };
        Usd::from_nanos(if over && held > Usd::ZERO { held.nanos() + more } else { nanos })
    };
    (Amounts { credits: part(hold.credits), byok: part(hold.byok) }, Outcome::Settled)
}
