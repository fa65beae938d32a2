//! One run: a world from a seed, step by step.

mod chats;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::{Amounts, Tariff};
use tollgate_domain::time::{WindowKind, window_end};
use tollgate_domain::{Timestamp, Usd};
use tollgate_store::{Admission, Clock, Outcome, Reservation, Reserve, StoreError};

use crate::acts::{self, Act, Enter, Told, World};
use crate::bugs::Bug;
use crate::core::{Core, Event};
use crate::data::ChatId;
use crate::embedded::{self, Disk};
use crate::oracle::{Broken, Checked, KeySeen, Watch, broken, least};
use crate::plan::{EngineKind, Fault, Plan};
use crate::process::{Inside, Process};
use crate::rng::Rng;
use crate::seam::Link;
use crate::server::Server;
use crate::tables::Tables;

pub use self::chats::Unanswered;

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
        core.server.refusing = false;
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
        if idle && core.now > self.unwritten_until && !core.server.refusing {
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

    fn act(&mut self, who: usize) {
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
    fn let_in(&mut self, process: usize) {
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

    /// Somebody is told how their act ended.
    fn told(&mut self, who: usize, told: Told) {
        if let Told::Started(started) = told {
            self.started(who, started);
            return;
        }
        if let Told::Opened(opened) = told {
            self.opened(who, opened);
            return;
        }
        let checked = self.judge(who, told);
        {
            let mut core = self.core.lock();
            core.check(checked);
            core.oracle.watches.remove(&who);
        }
        self.later(who);
    }

    /// Whether the embedded engine may have decided what is not written, though nobody waits for it.
    fn is_ahead(&self, core: &Core) -> bool {
        // A settlement of the data path whose caller left, or that it gave up waiting for.
        let chatting = core.plan.data.open && (core.data.is_busy() || core.now < self.unwritten_until);
        // A raise that the disk refused is written when it takes writes again.
        chatting || core.now < self.refused_until
    }

    fn judge(&mut self, who: usize, told: Told) -> Checked {
        let core = Arc::clone(&self.core);
        let mut core = core.lock();
        let busy = self.is_ahead(&core);
        let Some(somebody) = self.people.get_mut(who) else { return Ok(()) };
        match told {
            Told::Chatted(number, answer) => {
                somebody.chat = None;
                Self::chatted(&mut core, who, number, answer)
            }
            Told::Reserved(row, answer) => {
                core.note("told-reserve", who as u64, || format!("generation {}: {answer:?}", row.0));
                judge_reserve(&mut core, somebody, &self.processes, who, row, answer)
            }
            Told::Raised(to, answer) => {
                core.note("told-raise", who as u64, || format!("{answer:?}"));
                let Some(call) = &mut somebody.call else { return Ok(()) };
                match answer {
                    Ok(raised) => {
                        if raised && !call.hold.covers(&to) {
                            call.hold = to;
                        }
                        core.oracle.told_raised(call.row, &to, raised)
                    }
                    Err(error) => sound(&error),
                }
            }
            Told::Settled(answer) => {
                core.note("told-settle", who as u64, || format!("{answer:?}"));
                let Some(call) = &somebody.call else { return Ok(()) };
                let alone = call.settles == 1;
                let (row, id) = (call.row, call.id.clone());
                if self.ids.len() < 400 {
                    self.ids.push((row, id));
                }
                if self.ending || !core.rng.chance(1_500) {
                    somebody.call = None;
                }
                answer.map_or_else(|error| sound(&error), |settled| core.oracle.told_settled(row, &settled, alone))
            }
            Told::Key(answer) => {
                core.note("told-look", who as u64, || format!("{answer:?}"));
                let Ok(answer) = answer else { return Ok(()) };
                let seen = answer.map_or(KeySeen::Gone, |view| KeySeen::Key {
                    credits: view.spend.credits[0].nanos(),
                    byok: view.spend.byok[0].nanos(),
                    limit: view.key.limit.map(Usd::nanos),
                    disabled: view.key.disabled,
                    workspace: view.key.workspace.0,
                });
                if self.disk.is_some() && (busy || self.people.iter().any(|it| it.act.is_some()) || core.is_murky()) {
                    // It may see what is decided and not written.
                    return Ok(());
                }
                core.oracle.told_key(who, &seen)
            }
            Told::Credits(answer) => {
                core.note("told-credits", who as u64, || format!("{answer:?}"));
                let Ok(it) = answer else { return Ok(()) };
                if self.disk.is_some() && (busy || self.people.iter().any(|it| it.act.is_some()) || core.is_murky()) {
                    return Ok(());
                }
                core.oracle.told_credits(who, (it.total.map(Usd::nanos), it.used.nanos(), it.held.nanos()))
            }
            Told::Edited(answer) => {
                core.note("told-edit", who as u64, || format!("{answer:?}"));
                match answer {
                    Ok(true) if core.oracle.edits == somebody.edits => {
                        broken!("2 on disk first", "a change was told and is not there")
                    }
                    Ok(_) => Ok(()),
                    Err(error) => sound(&error),
                }
            }
            Told::Made(answer) => {
                core.note("told-made", who as u64, || format!("{answer:?}"));
                match answer {
                    Ok(keys) => {
                        let missing = keys.iter().any(|(key, _)| !core.oracle.rules.keys.contains_key(&key.0));
                        self.world.keys.extend(keys);
                        if missing { broken!("2 on disk first", "a key was told and is not there") } else { Ok(()) }
                    }
                    Err(error) => sound(&error),
                }
            }
            Told::Adjusted(row, answer) => {
                core.note("told-adjust", who as u64, || format!("{answer:?}"));
                match answer {
                    Ok(Ok(charge)) => core.oracle.told_adjusted(row, &charge),
                    Ok(Err(_)) => Ok(()),
                    Err(error) => sound(&error),
                }
            }
            Told::SetUp(answer) => match answer {
                Ok(world) => {
                    self.world = *world;
                    Ok(())
                }
                Err(error) => broken!("the world is set up", "{error}"),
            },
            Told::Started(_) | Told::Opened(_) => Ok(()),
        }
    }

    // ---- Processes ----

    fn start(&mut self, process: usize) {
        let clock = self.clock();
        let now = {
            let mut core = self.core.lock();
            core.note("start", process as u64, String::new);
            core.now
        };
        let Some(it) = self.processes.get_mut(process).filter(|it| it.runtime.is_none()) else { return };
        if self.disk.as_ref().is_some_and(|disk| disk.refuse.load(Ordering::Acquire)) {
            // It would not open.
            self.core.lock().after(100_000, Event::Start(process));
            return;
        }
        if let Err(error) = it.boot(now) {
            self.core.lock().check(broken!("the world is set up", "{error}"));
            return;
        }
        if let Some(disk) = &mut self.disk {
            let opened = {
                let _inside = it.runtime.as_ref().map(|runtime| runtime.enter());
                disk.open(clock, [7; 32], self.recipe.bug)
            };
            match opened {
                Ok(store) => {
                    it.inside = Some(Inside::Embedded(store.clone()));
                    self.recovered(process);
                    if let Some(it) = self.processes.get_mut(process) {
                        it.store = Some(Arc::new(store));
                    }
                    self.open_gate(process);
                }
                Err(error) => self.core.lock().check(broken!("4 nothing lost on a crash", "it does not open: {error}")),
            }
            return;
        }
        let cipher = self.core.lock().server.cipher.clone();
        let Some(cipher) = cipher else { return };
        let link = Link { core: Arc::clone(&self.core), process, cipher };
        let starting = async move {
            match tollgate_store_postgres::open_on(link, clock).await {
                Err(error) => Told::Started(Err(error.to_string())),
                Ok(store) => Told::Started(Ok(Box::new(move |process: &mut Process| {
                    let node = store.0.clone();
                    if let Some(runtime) = &process.runtime {
                        runtime.spawn(async move { node.keep().await });
                    }
                    process.inside = Some(Inside::Node(store.0.clone()));
                    process.store = Some(Arc::new(store));
                }))),
            }
        };
        self.begin(process, process, Box::pin(starting));
    }

    /// Whether the embedded engine found everything.
    fn recovered(&mut self, process: usize) {
        self.observe(process);
        let Some(Inside::Embedded(store)) = self.processes.get(process).and_then(|it| it.inside.as_ref()) else {
            return;
        };
        let mut core = self.core.lock();
        let checked = core.oracle.quiet();
        core.check(checked.map_err(|it| Broken { promise: "4 nothing lost on a crash", ..it }));
        for scope in core.oracle.scopes() {
            let checked = embedded::balance(store, scope).map_or(Ok(()), |it| core.oracle.check_balance(scope, &it));
            core.check(checked);
        }
    }

    fn started(&mut self, process: usize, started: Result<Enter, String>) {
        self.core.lock().note("started", process as u64, || format!("{:?}", started.as_ref().err()));
        let Some(it) = self.processes.get_mut(process) else { return };
        match started {
            Ok(enter) => {
                enter(it);
                self.open_gate(process);
            }
            Err(_) => {
                it.runtime = None;
                let mut core = self.core.lock();
                core.cut(process);
                core.after(300_000, Event::Start(process));
            }
        }
    }

    /// A process dies where it stands.
    fn crash(&mut self, process: usize) {
        let Some(it) = self.processes.get_mut(process) else { return };
        let Some(runtime) = it.runtime.take() else { return };
        self.core.lock().note("crash", process as u64, String::new);
        let inside = it.inside.take();
        it.store = None;
        let gate = it.gate.take();
        it.paused = false;
        match &inside {
            Some(Inside::Node(node)) => node.crash(),
            Some(Inside::Embedded(store)) => {
                if let Some(disk) = &mut self.disk {
                    disk.connection = store.crash();
                }
            }
            None => {}
        }
        for who in 0..self.people.len() {
            let Some(somebody) = self.people.get_mut(who).filter(|it| it.process == process) else { continue };
            let lost = somebody.act.take();
            somebody.chat = None;
            if somebody.call.as_ref().is_some_and(|call| call.process == process) {
                somebody.call = None;
            }
            if let Some(act) = lost {
                {
                    let _inside = runtime.enter();
                    drop(act);
                }
                let starter = somebody.role == Role::Starter;
                self.core.lock().oracle.watches.remove(&who);
                if !starter {
                    self.later(who);
                }
            }
        }
        {
            let _inside = runtime.enter();
            drop(gate);
            drop(inside);
        }
        drop(runtime);
        let mut core = self.core.lock();
        core.data.died(process);
        core.murky();
        if core.rng.chance(8_000) {
            core.cut(process);
        }
        let after = match core.rng.below(10) {
            0..=4 => core.rng.below(2_000_000),
            _ if self.disk.is_some() => core.rng.below(2_000_000),
            5..=6 => core.rng.below(60_000_000),
            _ => outlast(&mut core),
        };
        core.after(after, Event::Start(process));
    }

    // ---- Faults ----

    fn chaos(&mut self) {
        let mut core = self.core.lock();
        if !core.rng.chance(500) {
            return;
        }
        let kinds = [Fault::Cut, Fault::Refusing, Fault::Crash, Fault::Pause, Fault::Clock, Fault::Leap];
        let Some(kind) = core.rng.pick(&kinds) else { return };
        let chance = core.plan.rate(kind) * 20;
        if !core.rng.chance(chance) {
            return;
        }
        // Where something is in flight, rather than anywhere.
        let busy: Vec<usize> = self.people.iter().filter_map(|it| it.call.as_ref().map(|call| call.process)).collect();
        let anywhere = core.rng.place(self.processes.len());
        let process = core.rng.pick(&busy).filter(|_| core.rng.chance(7_000)).unwrap_or(anywhere);
        match kind {
            Fault::Cut => {
                core.note("cut", process as u64, String::new);
                core.cut(process);
            }
            Fault::Refusing => {
                core.note("refusing", 0, String::new);
                core.server.refusing = true;
                let most = if core.rng.chance(8_000) { 300_000 } else { 20_000_000 };
                let after = core.rng.below(most);
                core.after(after, Event::Accept);
                if let Some(disk) = &self.disk {
                    disk.refuse.store(true, Ordering::Release);
                    self.unwritten_until = u64::MAX;
                    self.refused_until = u64::MAX;
                }
            }
            Fault::Pause => {
                let after = match core.rng.below(10) {
                    0..=4 => core.rng.below(2_000_000),
                    5..=6 => core.rng.below(50_000_000),
                    // Until its lease is gone, in which little else happens.
                    _ => outlast(&mut core),
                };
                core.note("pause", process as u64, || format!("for {after} us"));
                core.after(after, Event::Resume(process));
                if let Some(it) = self.processes.get_mut(process).filter(|it| it.runtime.is_some()) {
                    it.paused = true;
                }
            }
            Fault::Clock => {
                let most = if core.rng.chance(8_000) { 2_000_000 } else { 280_000_000 };
                let step = core.rng.between(-most, most);
                core.note("clock", 0, || format!("by {step} us"));
                core.skew += step;
                core.tell_time();
            }
            Fault::Leap => {
                let by = leap(&mut core);
                core.leap(by);
            }
            _ => {
                drop(core);
                self.crash(process);
            }
        }
    }

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
        wait(self, 15_000_000, &|_| true);
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

/// Whether the answer to a reservation may be.
fn judge_reserve(
    core: &mut Core,
    somebody: &mut Somebody,
    processes: &[Process],
    who: usize,
    row: GenerationRow,
    answer: Result<Box<Admission>, StoreError>,
) -> Checked {
    match answer.map(|it| *it) {
        Ok(Admission::Granted(reservation)) => {
            core.count("granted");
            let tariff = somebody.want.map_or(Tariff::Credits, |want| want.tariff);
            let Reservation { row, id, admitted_at, hold, .. } = reservation;
            let process = somebody.process;
            let life = processes.get(process).map_or(0, |it| it.life);
            let id = id.as_str().to_owned();
            somebody.call = Some(Call { row, id, hold, tariff, process, life, settles: 0 });
            core.oracle.told_granted(row, hold, admitted_at)
        }
        Ok(Admission::Refused(refusal)) => {
            core.count("refused");
            match core.oracle.watches.get(&who) {
                Some(Watch::Reserve { refusable: false, .. }) if !core.is_murky() => {
                    broken!("1 none is refused that fits", "generation {}: {refusal:?}", row.0)
                }
                _ => Ok(()),
            }
        }
        Ok(Admission::Rejected(why)) => {
            core.count("rejected");
            // A node may know of a later time than that at which its batch was loaded.
            let now = core.wall();
            core.oracle.look_at(now);
            match core.oracle.watches.get(&who) {
                Some(Watch::Reserve { rejectable: false, .. }) => {
                    broken!("1 none is refused that fits", "generation {}: {why}", row.0)
                }
                _ => Ok(()),
            }
        }
        Err(error) => {
            core.count("unanswered");
            core.murky();
            sound(&error)
        }
    }
}

/// Only some faults may be told.
pub fn sound(error: &StoreError) -> Checked {
    match error {
        StoreError::Unavailable(_) | StoreError::Uncertain | StoreError::ClockJumped { .. } => Ok(()),
        StoreError::Corrupt(_) | StoreError::Amount(_) | StoreError::Closed => broken!("everything ends", "{error}"),
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

/// Lets a lease pass in a few moments, in which the others look, and look again; when to come back, a little after that.
fn outlast(core: &mut Core) -> u64 {
    let mut at = core.rng.below(100_000);
    for by in [11_000_000, 31_000_000, 11_000_000] {
        let by = by + core.rng.below(9_000_000);
        core.after(at, Event::Leap(by));
        at += by + 60_000 + core.rng.below(200_000);
    }
    at
}

/// How far time leaps: past leases, or to just before a window ends.
fn leap(core: &mut Core) -> u64 {
    let wall = core.wall();
    match core.rng.below(10) {
        0..=3 => core.rng.below(60_000_000),
        4..=5 => core.rng.below(40 * 3_600_000_000),
        _ => {
            let kind = WindowKind::ALL[1 + core.rng.place(3)];
            let end = window_end(kind, wall).map_or(0, |end: Timestamp| end.micros_since(wall));
            u64::try_from(end - core.rng.between(0, 2_000_000)).unwrap_or(0)
        }
    }
}
