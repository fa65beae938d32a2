//! One run: a world from a seed, step by step.

mod chats;
mod clients;
mod faults;
mod judgement;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use tollgate_domain::Timestamp;
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::{Amounts, Tariff};
use tollgate_store::{Clock, Reserve};

use crate::acts::{self, Act, World};
use crate::bugs::Bug;
use crate::core::{Core, Event, Off};
use crate::data::ChatId;
use crate::embedded::{self, Disk};
use crate::oracle::{Broken, Checked, broken};
use crate::plan::{EngineKind, Fault, Plan};
use crate::process::{Inside, Process};
use crate::rng::Rng;
use crate::server::Server;
use crate::tables::Tables;

pub use self::chats::Unanswered;
pub use self::judgement::sound;

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub seed: u64,
    pub steps: u64,
    pub engine: EngineKind,
    pub bug: Option<Bug>,
    pub without: Vec<Fault>,
    /// Whether the last events are kept in words.
    pub told: bool,
}

/// How a run ended.
#[derive(Debug)]
pub struct Report {
    pub steps: u64,
    pub hash: u64,
    pub broken: Option<Broken>,
    pub last: Vec<String>,
    /// How often each kind of thing happened.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Whether a future wants to be polled.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// A call that is held.
#[derive(Clone, Debug)]
struct Call {
    row: GenerationRow,
    id: String,
    hold: Amounts,
    tariff: Tariff,
    process: usize,
    life: u64,
    /// Settlements that were asked for.
    settles: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Caller,
    Admin,
    /// Starts a process.
    Starter,
}

/// Somebody who acts.
struct Somebody {
    role: Role,
    process: usize,
    act: Option<Act>,
    flag: Arc<Flag>,
    /// Whether a poll is on its way.
    called: bool,
    number: u64,
    call: Option<Call>,
    want: Option<Reserve>,
    edits: u64,
    chat: Option<ChatId>,
}

struct Sim {
    core: Arc<Mutex<Core>>,
    processes: Vec<Process>,
    people: Vec<Somebody>,
    world: World,
    disk: Option<Disk>,
    recipe: Recipe,
    steps: u64,
    /// Generations that were told of, for corrections.
    ids: Vec<(GenerationRow, String)>,
    ending: bool,
    /// Until then the embedded engine may have decided what is not written.
    unwritten_until: u64,
    /// Until then its disk refuses, or what it refused is not written yet.
    refused_until: u64,
    /// The latest time that the embedded engine saw.
    latest: Timestamp,
}

/// Runs a recipe.
pub fn run(recipe: &Recipe) -> Report {
    let mut rng = Rng::new(recipe.seed ^ 0x746F_6C6C);
    let mut other = Rng::new(recipe.seed ^ 0x6368_6174);
    let plan = Plan::draw(&mut rng, &mut other, recipe.engine, &recipe.without);
    let core = Core::new(rng, plan, Server::default(), recipe.bug, recipe.told);
    let mut sim = Sim::new(core, recipe.clone());
    let done = sim.live();
    let mut core = sim.core.lock();
    if let Err(broken) = done {
        core.check(Err(broken));
    }
    let (hash, broken) = (core.trace.hash, core.broken.clone());
    let last = std::mem::take(&mut core.trace.last);
    let mut counts = std::mem::take(&mut core.trace.counts);
    let [settled, released, lost, late] = core.oracle.ends;
    let ends =
        [("settled", settled), ("released", released), ("lost", lost), ("late", late), ("changed", core.oracle.edits)];
    counts.extend(ends);
    drop(core);
    sim.end();
    Report { steps: sim.steps, hash, broken, last, counts }
}

impl Sim {
    fn new(core: Core, recipe: Recipe) -> Self {
        let plan = core.plan.clone();
        let core = Arc::new(Mutex::new(core));
        core.lock().server.core = Some(Arc::downgrade(&core));
        let somebody = |role, process| Somebody {
            role,
            process,
            act: None,
            flag: Arc::default(),
            called: false,
            number: 0,
            call: None,
            want: None,
            edits: 0,
            chat: None,
        };
        let starters = (0..plan.processes).map(|process| somebody(Role::Starter, process));
        let callers = (0..plan.callers).map(|_| somebody(Role::Caller, 0));
        let admins = (0..plan.admins).map(|_| somebody(Role::Admin, 0));
        Self {
            people: starters.chain(callers).chain(admins).collect(),
            processes: (0..plan.processes).map(|_| Process::default()).collect(),
            core,
            world: World::default(),
            disk: None,
            recipe,
            steps: 0,
            ids: Vec::new(),
            ending: false,
            unwritten_until: 0,
            refused_until: 0,
            latest: Timestamp::default(),
        }
    }

    /// From the beginning to the end.
    fn live(&mut self) -> Checked {
        self.set_up()?;
        self.core.lock().calm = false;
        let first = self.processes.len();
        for who in first..self.people.len() {
            self.later(who);
        }
        while self.steps < self.recipe.steps && self.core.lock().broken.is_none() {
            if !self.step() {
                break;
            }
            if self.steps.is_multiple_of(20) {
                self.chaos();
            }
            if self.steps.is_multiple_of(1_000) {
                self.check_all();
            }
        }
        if self.core.lock().broken.is_none() { self.calm_down() } else { Ok(()) }
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.core.lock().time) as Arc<dyn Clock>
    }

    /// The clock of a node, which is hours off: it must not matter.
    fn wrong_clock(&self, process: usize) -> Arc<dyn Clock> {
        let hours = 7 * i64::try_from(process).unwrap_or(0) - 10;
        Arc::new(Off { clock: self.clock(), by: hours * 3_600_000_000 })
    }

    fn set_up(&mut self) -> Checked {
        let failed = |error: String| Broken { promise: "the world is set up", what: error };
        let seed = [7; 32];
        if self.recipe.engine == EngineKind::Embedded {
            self.disk = Some(Disk::new().map_err(|error| failed(error.to_string()))?);
        } else {
            let mut template = Disk::new().map_err(|error| failed(error.to_string()))?;
            let store = template.open(self.clock(), seed, None).map_err(failed)?;
            let db = store.crash().ok_or_else(|| failed("no database".to_owned()))?;
            let tables = Tables::new(db).map_err(|error| failed(error.to_string()))?;
            let mut core = self.core.lock();
            core.server.tables = Some(tables);
            core.server.cipher = Some(tollgate_domain::IdCipher::new([3; 16]));
        }
        {
            let mut core = self.core.lock();
            let tick = core.plan.tick;
            core.after(tick, Event::Tick);
            core.after(500_000, Event::Sweep);
        }
        for process in 0..self.processes.len() {
            self.start(process);
        }
        for _ in 0..1_000 {
            if self.processes.iter().all(|process| process.store.is_some()) {
                break;
            }
            self.step();
        }
        let Some(store) = self.processes.first().and_then(|process| process.store.clone()) else {
            return broken!("the world is set up", "no process started");
        };
        let (rng, keys, tight, now) = {
            let mut core = self.core.lock();
            (Rng::new(core.rng.next()), core.plan.keys, core.plan.tight, core.wall())
        };
        let who = self.processes.len();
        self.begin(who, 0, acts::set_up(store, rng, keys, tight, now));
        for _ in 0..10_000 {
            if !self.world.keys.is_empty() {
                return Ok(());
            }
            self.step();
        }
        broken!("the world is set up", "nobody was told")
    }

    /// The next thing happens; `false` where nothing will.
    fn step(&mut self) -> bool {
        let event = self.core.lock().next();
        let Some(event) = event else { return false };
        let counted = !matches!(event, Event::Tick | Event::Sweep);
        if counted {
            self.steps += 1;
        }
        match event {
            Event::Request(process, request) => {
                let mut core = self.core.lock();
                core.note("request", process as u64, || request.word().to_owned());
                core.serve(process, request);
            }
            Event::Reply(process, tell) => {
                self.core.lock().note("reply", process as u64, String::new);
                tell();
                self.drive(process);
            }
            Event::Later(id) => {
                let mut core = self.core.lock();
                core.note("later", id, String::new);
                core.later(id);
            }
            Event::Poll(who) => {
                if let Some(somebody) = self.people.get_mut(who) {
                    somebody.called = false;
                }
                self.poll(who);
            }
            Event::Move(who) => self.act(who),
            Event::HangUp(who, number) => self.hang_up(who, number),
            Event::Start(process) => self.start(process),
            Event::Resume(process) => {
                self.core.lock().note("resume", process as u64, String::new);
                if let Some(it) = self.processes.get_mut(process) {
                    it.paused = false;
                }
                self.let_in(process);
                self.drive(process);
            }
            Event::Gate(process) => self.open_gate(process),
            Event::Leap(by) => {
                let mut core = self.core.lock();
                if !core.calm {
                    core.leap(by);
                }
            }
            Event::Accept => self.accept(),
            Event::Sweep => {
                let mut core = self.core.lock();
                core.sweep();
                core.after(500_000, Event::Sweep);
            }
            Event::Tick => {
                self.fold();
                for process in 0..self.processes.len() {
                    self.drive(process);
                }
                let mut core = self.core.lock();
                let tick = core.plan.tick;
                core.after(tick, Event::Tick);
            }
        }
        true
    }

    /// Lets the embedded engine fold, now and then.
    fn fold(&mut self) {
        if self.disk.is_none() || !self.core.lock().rng.chance(1_500) {
            return;
        }
        let Some(it) = self.processes.first() else { return };
        if let (Some(Inside::Embedded(store)), Some(runtime)) = (&it.inside, &it.runtime) {
            let _inside = runtime.enter();
            store.fold();
        }
    }

    fn accept(&mut self) {
        let mut core = self.core.lock();
        core.note("accept", 0, String::new);
        core.accept();
        if let Some(disk) = &self.disk {
            disk.refuse.store(false, Ordering::Release);
        }
        self.unwritten_until = core.now + 3_000_000;
        self.refused_until = self.unwritten_until;
    }

    /// Lets a process do what it has to do, and calls whoever is told something by that.
    fn drive(&mut self, process: usize) {
        let now = self.core.lock().now;
        let Some(it) = self.processes.get_mut(process) else { return };
        it.drive(now);
        if it.paused {
            return;
        }
        self.observe(process);
        self.core.lock().compare();
        let ready = |it: &Somebody| it.process == process && !it.called && it.act.is_some();
        for (who, somebody) in self.people.iter_mut().enumerate().filter(|(_, it)| ready(it)) {
            if somebody.flag.0.swap(false, Ordering::AcqRel) {
                somebody.called = true;
                let mut core = self.core.lock();
                let delay = core.rng.below(150);
                core.after(delay, Event::Poll(who));
            }
        }
    }

    /// Shows the model what the embedded engine wrote.
    fn observe(&mut self, process: usize) {
        let Some(disk) = &self.disk else { return };
        let Some(Inside::Embedded(store)) = self.processes.get(process).and_then(|it| it.inside.as_ref()) else {
            return;
        };
        let mut core = self.core.lock();
        let now = core.wall();
        let Some(durable) = disk.written(store, now) else { return };
        let scopes: Vec<_> = {
            let holds = durable.holds.iter().map(|(_, open, _)| open.spender);
            let ends = durable.ends.iter().map(|(_, open, ..)| open.spender);
            let mut scopes: Vec<_> = holds.chain(ends).flat_map(|spender| spender.scopes()).collect();
            scopes.sort();
            scopes.dedup();
            scopes
        };
        let checked = core.oracle.durable(durable, |_| self.processes.first().is_some_and(|it| it.store.is_some()));
        core.check(checked);
        let chats = core.plan.data.open && (core.data.is_busy() || core.is_murky());
        let idle = !chats && !self.people.iter().any(|it| it.act.is_some());
        if idle && core.now > self.unwritten_until && !core.server.nodes.are_shut() {
            for scope in scopes {
                let checked =
                    embedded::balance(store, scope).map_or(Ok(()), |it| core.oracle.check_balance(scope, &it));
                core.check(checked);
            }
        }
    }

    fn check_all(&mut self) {
        if self.recipe.engine == EngineKind::Nodes {
            self.core.lock().check_all();
        }
    }

    // ---- People ----

    /// Lets somebody act after a while.
    fn later(&mut self, who: usize) {
        let mut core = self.core.lock();
        let admin = self.people.get(who).is_some_and(|it| it.role == Role::Admin);
        let think = if admin { core.plan.think * 6 } else { core.plan.think };
        let delay = core.rng.below(think) + 1;
        core.after(delay, Event::Move(who));
    }

    /// Begins an act on a process.
    fn begin(&mut self, who: usize, process: usize, act: Act) {
        let Some(somebody) = self.people.get_mut(who) else { return };
        somebody.process = process;
        somebody.act = Some(act);
        somebody.number += 1;
        somebody.flag = Arc::default();
        let number = somebody.number;
        {
            let mut core = self.core.lock();
            if somebody.role != Role::Starter && core.fault(Fault::HangUp) {
                let (soon, late) = if somebody.chat.is_some() { (20_000, 700_000) } else { (3_000, 40_000) };
                let most = if core.rng.chance(5_000) { soon } else { late };
                let after = core.rng.below(most);
                core.after(after, Event::HangUp(who, number));
            }
        }
        self.poll(who);
    }

    fn poll(&mut self, who: usize) {
        let Some(somebody) = self.people.get_mut(who) else { return };
        let Some(process) = self.processes.get(somebody.process) else { return };
        let (Some(runtime), false) = (&process.runtime, process.paused) else {
            somebody.flag.0.store(true, Ordering::Release);
            return;
        };
        let Some(mut act) = somebody.act.take() else { return };
        let process = somebody.process;
        let waker = Waker::from(Arc::clone(&somebody.flag));
        if self.disk.is_some() {
            let mut core = self.core.lock();
            let now = core.wall();
            core.oracle.look_at(now);
            // The ledger's own time does not go back with the calendar.
            self.latest = self.latest.max(now);
            core.oracle.look_at(self.latest);
        }
        self.core.lock().data.current = somebody.chat;
        let polled = {
            let _inside = runtime.enter();
            let polled = act.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_pending() {
                somebody.act = Some(act);
            } else {
                drop(act);
            }
            polled
        };
        self.drive(process);
        if let Poll::Ready(told) = polled {
            self.told(who, told);
        }
    }

    /// Somebody leaves in the middle of an act.
    fn hang_up(&mut self, who: usize, number: u64) {
        let Some(somebody) = self.people.get_mut(who).filter(|it| it.number == number && it.act.is_some()) else {
            return;
        };
        let (process, act, chat) = (somebody.process, somebody.act.take(), somebody.chat.take());
        // Whoever leaves while it settles leaves it to the engine; an attempt that is given up is still settled.
        if somebody.call.as_ref().is_some_and(|call| call.settles > 0) {
            somebody.call = None;
        }
        {
            let mut core = self.core.lock();
            core.note("hang-up", who as u64, String::new);
            core.oracle.watches.remove(&who);
            self.unwritten_until = self.unwritten_until.max(core.now + 2_000_000);
            core.murky();
        }
        if let Some(runtime) = self.processes.get(process).and_then(|it| it.runtime.as_ref()) {
            let _inside = runtime.enter();
            if let Some(chat) = chat {
                self.core.lock().data.left(chat, tokio::time::Instant::now());
            }
            drop(act);
        }
        self.drive(process);
        self.later(who);
    }

    /// A process that somebody can turn to.
    fn some_process(&mut self) -> Option<usize> {
        let up = |it: &Process| it.store.is_some() && !it.paused;
        let up: Vec<usize> = self.processes.iter().enumerate().filter(|(_, it)| up(it)).map(|(at, _)| at).collect();
        self.core.lock().rng.pick(&up)
    }

    // ---- The end ----

    /// Faults stop, and everything that is in flight ends.
    fn calm_down(&mut self) -> Checked {
        self.ending = true;
        {
            let mut core = self.core.lock();
            core.note("calm", 0, String::new);
            core.calm = true;
            core.plan.calm();
            core.plan.tick = core.plan.tick.max(50_000);
        }
        self.accept();
        for it in &mut self.processes {
            it.paused = false;
        }
        for who in self.processes.len()..self.people.len() {
            self.later(who);
        }
        let busy = |sim: &Self| {
            sim.people.iter().any(|it| it.act.is_some() || it.call.is_some())
                || sim.processes.iter().any(|it| it.store.is_none())
        };
        let wait = |sim: &mut Self, most: u64, go_on: &dyn Fn(&Self) -> bool| {
            let until = sim.core.lock().now + most;
            while go_on(sim) && sim.core.lock().now < until && sim.core.lock().broken.is_none() && sim.step() {}
            go_on(sim)
        };
        if wait(self, 600_000_000, &busy) && self.core.lock().broken.is_none() {
            let waiting = self.people.iter().filter(|it| it.act.is_some()).count();
            return broken!("everything ends", "{waiting} still wait ten minutes after the last fault");
        }
        self.core.lock().plan.tick = 1_000_000;
        let held = |sim: &Self| !sim.core.lock().oracle.open.is_empty();
        wait(self, 4 * 3_600_000_000, &held);
        wait(self, 25_000_000, &|_| true);
        self.serve_all()?;
        // What they let go of reaches the database.
        wait(self, 3_000_000, &|_| true);
        if self.core.lock().broken.is_some() {
            return Ok(());
        }
        if self.disk.is_some() {
            self.sums_by_hour()?;
            self.crash(0);
            self.start(0);
            // What a start finds is folded and found again.
            self.sums_by_hour()?;
        }
        self.check_all();
        let core = self.core.lock();
        core.oracle.quiet()?;
        if self.disk.is_none() { core.server.quiet() } else { Ok(()) }
    }

    /// Long after the last fault each process lets a call of each key in, where it fits.
    fn serve_all(&mut self) -> Checked {
        self.core.lock().firm = true;
        let Some(who) = self.people.iter().position(|it| it.role == Role::Caller) else { return Ok(()) };
        for process in 0..self.processes.len() {
            for (key, hash) in self.world.keys.clone() {
                self.reserve(who, process, key, hash);
                let until = self.core.lock().now + 60_000_000;
                let busy = |sim: &Self| sim.people.get(who).is_some_and(|it| it.act.is_some() || it.call.is_some());
                while busy(self) && self.core.lock().now < until && self.core.lock().broken.is_none() && self.step() {}
                if busy(self) && self.core.lock().broken.is_none() {
                    return broken!("everything ends", "a call of key {} waits for a minute, and nothing ails", key.0);
                }
            }
        }
        Ok(())
    }

    /// Whether the sums by hour of the embedded engine are those of the entries, once they are folded.
    fn sums_by_hour(&mut self) -> Checked {
        if let (Some(Inside::Embedded(store)), Some(runtime)) =
            self.processes.first().map_or((None, None), |it| (it.inside.as_ref(), it.runtime.as_ref()))
        {
            let _inside = runtime.enter();
            store.fold();
        }
        for _ in 0..4 {
            self.drive(0);
        }
        let Some(Inside::Embedded(store)) = self.processes.first().and_then(|it| it.inside.as_ref()) else {
            return Ok(());
        };
        let read = embedded::rollups(store);
        let core = self.core.lock();
        let summed = core.oracle.rollups.iter().filter(|(_, sum)| **sum != [0; 3]);
        if read.iter().filter(|(_, sum)| **sum != [0; 3]).ne(summed) {
            return broken!(
                "3 entries sum to the balance",
                "sums by hour are {read:?}; they should be {:?}",
                core.oracle.rollups
            );
        }
        Ok(())
    }

    /// Lets go of everything.
    fn end(&mut self) {
        for process in 0..self.processes.len() {
            self.crash(process);
        }
        loop {
            let event = self.core.lock().next();
            if event.is_none() {
                break;
            }
        }
    }
}
