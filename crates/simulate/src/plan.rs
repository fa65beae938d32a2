//! What a run does: drawn from its seed, so that runs differ in kind and not only in order.

use crate::rng::Rng;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A request never reaches the database.
    LostRequest,
    /// An answer never reaches its node.
    LostAnswer,
    /// A commit fails.
    FailedCommit,
    /// A commit is done, and its node is told that nobody knows.
    UnknownDone,
    /// A commit is not done, and its node is told that nobody knows.
    UnknownNever,
    /// A commit is done long after its node was told that nobody knows.
    UnknownLater,
    /// The database ends a session in the middle of a transaction.
    Killed,
    /// A message takes seconds.
    Slow,
    /// All connections of a node are cut.
    Cut,
    /// The database refuses every write for a while.
    Refusing,
    /// A process dies and is started again.
    Crash,
    /// A process stands still for a while.
    Pause,
    /// The calendar steps.
    Clock,
    /// Much time passes at once.
    Leap,
    /// A caller leaves in the middle.
    HangUp,
    /// A provider charges more than the bound.
    Overrun,
    /// Management changes something.
    Edit,
}

/// All of them, with their words.
pub const FAULTS: [(Fault, &str); 17] = [
    (Fault::LostRequest, "lost-request"),
    (Fault::LostAnswer, "lost-answer"),
    (Fault::FailedCommit, "failed-commit"),
    (Fault::UnknownDone, "unknown-done"),
    (Fault::UnknownNever, "unknown-never"),
    (Fault::UnknownLater, "unknown-later"),
    (Fault::Killed, "killed"),
    (Fault::Slow, "slow"),
    (Fault::Cut, "cut"),
    (Fault::Refusing, "refusing"),
    (Fault::Crash, "crash"),
    (Fault::Pause, "pause"),
    (Fault::Clock, "clock"),
    (Fault::Leap, "leap"),
    (Fault::HangUp, "hang-up"),
    (Fault::Overrun, "overrun"),
    (Fault::Edit, "edit"),
];

impl Fault {
    /// Its word.
    pub const fn word(self) -> &'static str {
        FAULTS[self as usize].1
    }
}

/// The engine that is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// SQLite, one process.
    Embedded,
    /// One to four nodes on one database.
    Nodes,
}

/// The shape of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub processes: usize,
    pub callers: usize,
    pub admins: usize,
    pub keys: usize,
    /// How often each kind of fault happens, in ten thousand chances.
    rates: [u64; FAULTS.len()],
    /// The longest that a caller thinks between two acts, in microseconds.
    pub think: u64,
    /// The usual delay of a message, in microseconds.
    pub delay: u64,
    /// Between two looks at timers.
    pub tick: u64,
    /// Whether limits are small.
    pub tight: bool,
}

impl Plan {
    /// The plan of a run.
    pub fn draw(rng: &mut Rng, engine: EngineKind, without: &[Fault]) -> Self {
        let processes = if engine == EngineKind::Embedded { 1 } else { [1, 2, 2, 3, 3, 4][rng.place(6)] };
        let callers = 1 + rng.place(12);
        let admins = 1 + rng.place(2);
        let keys = 1 + rng.place(4);
        let tempo = rng.below(8);
        let (think, tick) = match tempo {
            0..=3 => (4_000, 5_000),
            4..=5 => (60_000, 20_000),
            6 => (600_000, 60_000),
            _ => (4_000_000, 250_000),
        };
        let delay = if rng.chance(7_000) { 500 } else { 8_000 };
        let mut rates = [0; FAULTS.len()];
        for (rate, (fault, _)) in rates.iter_mut().zip(FAULTS) {
            // Some runs do without a kind of fault altogether, some have much of it.
            let strength = [0, 1, 1, 3][rng.place(4)];
            let usual = match fault {
                Fault::LostRequest
                | Fault::LostAnswer
                | Fault::FailedCommit
                | Fault::UnknownDone
                | Fault::UnknownNever
                | Fault::UnknownLater => 40,
                Fault::Killed => 15,
                Fault::Slow => 10,
                Fault::HangUp => 500,
                Fault::Overrun => 400,
                Fault::Edit => 10_000,
                // Of one chance in a hundred steps.
                Fault::Cut | Fault::Refusing => 100,
                Fault::Crash | Fault::Leap => 150,
                Fault::Clock | Fault::Pause => 300,
            };
            if !without.contains(&fault) {
                *rate = if fault == Fault::Edit { usual * strength.max(1) } else { usual * strength };
            }
        }
        let tight = rng.chance(8_000);
        Self { processes, callers, admins, keys, rates, think, delay, tick, tight }
    }

    /// How often a fault happens.
    pub fn rate(&self, fault: Fault) -> u64 {
        self.rates[fault as usize]
    }

    /// Ends all faults.
    pub fn calm(&mut self) {
        self.rates = [0; FAULTS.len()];
    }
}
