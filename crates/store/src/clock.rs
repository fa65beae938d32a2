//! Where time comes from. Engines guard it; tests replace it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use tollgate_domain::Timestamp;

/// One look at the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The calendar's time, which people and time servers may step.
    pub wall: Timestamp,
    /// Progress since some start, which only moves forward.
    pub progress: Duration,
}

/// A source of time.
pub trait Clock: Send + Sync {
    /// Reads both clocks.
    fn read(&self) -> Reading;
}

/// The system's clocks: the only place that asks them for the ledger's time.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// The clock that goes on while a machine sleeps, so that waking up is no jump of the calendar.
#[cfg(target_os = "linux")]
const PROGRESS: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const PROGRESS: ClockId = ClockId::Monotonic;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system clock")]
    fn read(&self) -> Reading {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since_start = clock_gettime(PROGRESS);
        let seconds = Duration::from_secs(u64::try_from(since_start.tv_sec).unwrap_or(0));
        let progress = seconds + Duration::from_nanos(u64::try_from(since_start.tv_nsec).unwrap_or(0));
        let micros = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
        Reading { wall: Timestamp::from_micros(micros), progress }
    }
}
