//! What a run does: drawn from its seed, so that runs differ in kind and not only in order.

use std::time::Duration;

use tollgate_gateway::Limits;

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
    /// Nobody reaches the database for a while, perhaps for longer than a lease.
    Away,
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
    /// Callers go through the data path.
    Chat,
    /// A provider cannot be reached, or answers with an error status.
    Refusal,
    /// A provider breaks off, goes silent, or fails in the middle.
    Breakdown,
    /// A provider says nothing of what an answer took, or what cannot be.
    Miscount,
}

/// All of them, with their words.
pub const FAULTS: [(Fault, &str); 22] = [
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
    (Fault::Away, "away"),
    (Fault::Crash, "crash"),
    (Fault::Pause, "pause"),
    (Fault::Clock, "clock"),
    (Fault::Leap, "leap"),
    (Fault::HangUp, "hang-up"),
    (Fault::Overrun, "overrun"),
    (Fault::Edit, "edit"),
    (Fault::Chat, "chat"),
    (Fault::Refusal, "refusal"),
    (Fault::Breakdown, "breakdown"),
    (Fault::Miscount, "miscount"),
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
    pub data: DataPlan,
}

/// What of a run goes through the data path.
#[derive(Clone, Debug)]
pub struct DataPlan {
    /// Whether there is a data path in this run.
    pub open: bool,
    pub limits: Limits,
    pub providers: usize,
    /// Whether there is an own provider credential.
    pub own: Option<Own>,
    /// What a call under one of them costs, in percent.
    pub fee: &'static str,
}

/// An own provider credential.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// For one workspace only.
    pub here: bool,
    /// Tried behind the account's own capacity.
    pub last: bool,
}

impl DataPlan {
    fn draw(rng: &mut Rng, open: bool) -> Self {
        let mut pick = |list: &[u64]| Duration::from_millis(list[rng.place(list.len())]);
        let limits = Limits {
            min_output_tokens: 2,
            connect_timeout: pick(&[50, 300]),
            head_timeout: pick(&[300, 1_500]),
            idle_timeout: pick(&[200, 800]),
            keep_alive: pick(&[100, 1_000]),
            settle_wait: pick(&[3, 50, 500, 5_000]),
            drain_timeout: pick(&[50, 1_000, 60_000]),
            ..Limits::default()
        };
        let limits = Limits { attempts_max: 1 + rng.place(4), ..limits };
        let providers = 1 + rng.place(3);
        let own = Own { here: rng.chance(5_000), last: rng.chance(4_000) };
        let own = rng.chance(4_000).then_some(own);
        let fee = ["0", "5", "50", "100"][rng.place(4)];
        Self { open, limits, providers, own, fee }
    }
}

impl Plan {
    /// The plan of a run.
    ///
    /// What goes through the data path is drawn from `other`: runs without it stay what they were.
    pub fn draw(rng: &mut Rng, other: &mut Rng, engine: EngineKind, without: &[Fault]) -> Self {
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
            let place = if fault >= Fault::Chat { other.place(4) } else { rng.place(4) };
            let strength = if fault == Fault::Chat { [0, 0, 1, 3][place] } else { [0, 1, 1, 3][place] };
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
                Fault::Cut | Fault::Refusing | Fault::Away => 100,
                Fault::Crash | Fault::Leap => 150,
                Fault::Clock | Fault::Pause => 300,
                // Half of the runs have no data path at all.
                Fault::Chat => 3_000,
                Fault::Refusal | Fault::Breakdown => 1_200,
                Fault::Miscount => 800,
            };
            if !without.contains(&fault) {
                *rate = if fault == Fault::Edit { usual * strength.max(1) } else { usual * strength };
            }
        }
        let tight = rng.chance(8_000) && (rates[Fault::Chat as usize] == 0 || other.chance(6_000));
        let data = DataPlan::draw(other, rates[Fault::Chat as usize] > 0);
        Self { processes, callers, admins, keys, rates, think, delay, tick, tight, data }
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
