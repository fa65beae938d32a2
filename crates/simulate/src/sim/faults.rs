//! Processes start and die, and what else goes wrong.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tollgate_domain::Timestamp;
use tollgate_domain::time::{WindowKind, window_end};

use super::{Role, Sim};
use crate::acts::{Enter, Told};
use crate::core::{Core, Event};
use crate::embedded;
use crate::oracle::{Broken, broken};
use crate::plan::Fault;
use crate::process::{Inside, Process};
use crate::seam::Link;

impl Sim {
    pub(super) fn start(&mut self, process: usize) {
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
        let wrong = self.wrong_clock(process);
        let link = Link { core: Arc::clone(&self.core), process, cipher };
        let starting = async move {
            match tollgate_store_postgres::open_on(link, wrong).await {
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

    pub(super) fn started(&mut self, process: usize, started: Result<Enter, String>) {
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
    pub(super) fn crash(&mut self, process: usize) {
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

    pub(super) fn chaos(&mut self) {
        let mut core = self.core.lock();
        if !core.rng.chance(500) {
            return;
        }
        let kinds = [Fault::Cut, Fault::Refusing, Fault::Away, Fault::Crash, Fault::Pause, Fault::Clock, Fault::Leap];
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
                core.refuse();
                let most = if core.rng.chance(8_000) { 300_000 } else { 20_000_000 };
                let after = core.rng.below(most);
                core.after(after, Event::Accept);
                if let Some(disk) = &self.disk {
                    disk.refuse.store(true, Ordering::Release);
                    self.unwritten_until = u64::MAX;
                    self.refused_until = u64::MAX;
                }
            }
            Fault::Away => {
                if self.disk.is_none() {
                    core.note("away", 0, String::new);
                    core.go_away(self.processes.len());
                    let after = if core.rng.chance(5_000) {
                        core.rng.below(3_000_000)
                    } else {
                        // All come back at the same moment.
                        let last = outlast(&mut core);
                        core.after(last, Event::Leap(11_000_000));
                        last
                    };
                    core.after(after, Event::Accept);
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
}

/// Lets a lease pass in a few moments, in which the others look again and again; when to come back, a little after that.
fn outlast(core: &mut Core) -> u64 {
    let mut at = core.rng.below(100_000);
    for _ in 0..5 {
        let by = 11_000_000 + core.rng.below(3_000_000);
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
