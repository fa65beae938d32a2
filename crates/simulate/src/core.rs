//! What everything in a run shares: the time, what is to come, chance, the model, and the database below the nodes.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use tokio::sync::oneshot;
use tollgate_domain::Timestamp;
use tollgate_store::{Clock, Reading};

use crate::bugs::Bug;
use crate::data::Data;
use crate::oracle::{Broken, Checked, Oracle};
use crate::plan::{Fault, Plan};
use crate::rng::Rng;
use crate::seam::Request;
use crate::server::{Server, TxId};

/// When every run begins: a minute before a day, a week and a month end.
const START: &str = "2026-08-30T23:59:00Z";

/// Something that happens.
pub enum Event {
    /// A request reaches the database.
    Request(usize, Request),
    /// Something reaches a process.
    Reply(usize, Box<dyn FnOnce() + Send>),
    /// A commit that nobody waits for any more is done.
    Later(TxId),
    /// Somebody who waited is told, or acts.
    Poll(usize),
    Move(usize),
    HangUp(usize, u64),
    /// A process is started, or goes on.
    Start(usize),
    Resume(usize),
    /// The data path of a process is to be opened.
    Gate(usize),
    /// So much time passes at once.
    Leap(u64),
    /// The database is there, and takes writes again.
    Accept,
    /// The database ends sessions that idle, and waits for locks that take too long.
    Sweep,
    /// Timers are looked at.
    Tick,
}

struct Entry {
    at: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// What happened, as a number that two equal runs share, and in words where they are asked for.
#[derive(Debug, Default)]
pub struct Trace {
    pub hash: u64,
    pub told: bool,
    pub last: Vec<String>,
    /// How often each kind of thing happened.
    pub counts: BTreeMap<&'static str, u64>,
}

/// The time as processes read it.
#[derive(Debug, Default)]
pub struct Time {
    now: AtomicU64,
    wall: AtomicI64,
}

impl Clock for Time {
    fn read(&self) -> Reading {
        let (now, wall) = (self.now.load(Relaxed), self.wall.load(Relaxed));
        Reading { wall: Timestamp::from_micros(wall), progress: Duration::from_micros(now) }
    }
}

/// A clock that is off by so many microseconds.
pub struct Off {
    pub clock: Arc<dyn Clock>,
    pub by: i64,
}

impl Clock for Off {
    fn read(&self) -> Reading {
        let Reading { wall, progress } = self.clock.read();
        Reading { wall: wall.plus_micros(self.by), progress }
    }
}

pub struct Core {
    pub time: Arc<Time>,
    /// Microseconds since the start.
    pub now: u64,
    /// What the calendar is off by.
    pub skew: i64,
    start: Timestamp,
    number: u64,
    heap: BinaryHeap<Entry>,
    pub rng: Rng,
    pub plan: Plan,
    /// While the world is set up, and at the end, nothing goes wrong.
    pub calm: bool,
    /// Whether everybody who fits must be let in.
    pub firm: bool,
    pub oracle: Oracle,
    pub server: Server,
    pub data: Data,
    pub bug: Option<Bug>,
    pub broken: Option<Broken>,
    pub trace: Trace,
    murky_until: u64,
}

impl Core {
    pub fn new(rng: Rng, plan: Plan, server: Server, bug: Option<Bug>, told: bool) -> Self {
        let start = Timestamp::parse_utc(START).unwrap_or_default();
        let trace = Trace { hash: 0xCBF2_9CE4_8422_2325, told, ..Trace::default() };
        let data = Data::new(plan.data.limits, plan.data.fee.parse().unwrap_or(0));
        let core = Self {
            data,
            time: Arc::default(),
            now: 0,
            skew: 0,
            start,
            number: 0,
            heap: BinaryHeap::new(),
            rng,
            plan,
            calm: true,
            firm: false,
            oracle: Oracle::default(),
            server,
            bug,
            broken: None,
            trace,
            murky_until: 0,
        };
        core.tell_time();
        core
    }

    /// Shows processes what time it is.
    pub fn tell_time(&self) {
        self.time.now.store(self.now, Relaxed);
        self.time.wall.store(self.wall().micros(), Relaxed);
    }

    /// What the calendar says.
    pub fn wall(&self) -> Timestamp {
        self.start.plus_micros(i64::try_from(self.now).unwrap_or(i64::MAX).saturating_add(self.skew))
    }

    /// Lets something happen later.
    pub fn after(&mut self, delay: u64, event: Event) {
        self.number += 1;
        self.heap.push(Entry { at: self.now + delay, number: self.number, event });
    }

    /// What happens next. Time goes on to it.
    pub fn next(&mut self) -> Option<Event> {
        let Entry { at, event, .. } = self.heap.pop()?;
        self.now = self.now.max(at);
        self.tell_time();
        Some(event)
    }

    pub fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug) && !self.calm
    }

    /// Whether a fault happens here.
    pub fn fault(&mut self, fault: Fault) -> bool {
        let rate = if self.calm { 0 } else { self.plan.rate(fault) };
        let happens = self.rng.chance(rate);
        if happens {
            self.count(fault.word());
        }
        happens
    }

    /// How long a message is on its way.
    pub fn delay(&mut self) -> u64 {
        if self.fault(Fault::Slow) {
            return self.rng.below(14_000_000);
        }
        20 + self.rng.below(self.plan.delay)
    }

    /// Counts what happened.
    pub fn count(&mut self, kind: &'static str) {
        *self.trace.counts.entry(kind).or_default() += 1;
    }

    /// Notes what happened.
    pub fn note(&mut self, kind: &'static str, who: u64, what: impl FnOnce() -> String) {
        self.count(kind);
        for number in [kind.len() as u64, u64::from(kind.as_bytes().first().copied().unwrap_or(0)), who, self.now] {
            self.trace.hash = (self.trace.hash ^ number).wrapping_mul(0x0100_0000_01B3);
        }
        if self.trace.told {
            self.trace.last.push(format!("{:>12.6} {kind} {who} {}", self.now as f64 / 1e6, what()));
        }
    }

    /// Keeps the first promise that was broken.
    pub fn check(&mut self, checked: Checked) {
        if let Err(broken) = checked
            && self.broken.is_none()
        {
            self.broken = Some(broken);
        }
    }

    /// Sends a request to the database.
    pub fn send(&mut self, process: usize, request: Request) {
        if self.fault(Fault::LostRequest) && !matches!(request, Request::Abort(_)) {
            let after = if self.rng.chance(7_000) { self.rng.below(20_000) } else { self.rng.below(15_000_000) };
            self.after(after, Event::Reply(process, request.fail()));
            return;
        }
        let delay = self.delay();
        self.after(delay, Event::Request(process, request));
    }

    /// Sends an answer to a process.
    pub fn reply<T: Lost + Send + 'static>(&mut self, process: usize, to: oneshot::Sender<T>, value: T) {
        if self.fault(Fault::LostAnswer) {
            let after = if self.rng.chance(7_000) { self.rng.below(20_000) } else { self.rng.below(15_000_000) };
            let tell = move || {
                drop(value);
                // Whoever asked may be gone.
                let _ = to.send(T::lost());
            };
            self.after(after, Event::Reply(process, Box::new(tell)));
            return;
        }
        let delay = self.delay();
        let tell = move || {
            let _ = to.send(value);
        };
        self.after(delay, Event::Reply(process, Box::new(tell)));
    }
}

/// What somebody is told whose answer is lost.
pub trait Lost {
    fn lost() -> Self;
}

/// How long an act that was given up may still explain a refusal, in microseconds.
const MURKY: u64 = 20_000_000;

impl Core {
    /// Something was given up whose fate nobody knows for a while: the embedded engine decides on what is not written. What nodes
    /// decide on the model has seen written.
    pub const fn murky(&mut self) {
        if self.server.tables.is_none() {
            self.murky_until = self.now + MURKY;
        }
    }

    /// So much time passes at once.
    pub fn leap(&mut self, by: u64) {
        self.note("leap", 0, || format!("by {by} us"));
        self.now += by;
        self.tell_time();
    }

    /// Whether that may explain a refusal.
    pub const fn is_murky(&self) -> bool {
        self.now < self.murky_until
    }
}
