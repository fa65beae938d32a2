//! The ledger's own time: never behind what it last saw, and no friend of jumps.

use std::time::Duration;

use tollgate_domain::Timestamp;
use tollgate_store::{Reading, StoreError};

/// The most that the calendar may drift from monotonic progress between two looks before admission refuses.
pub const CLOCK_JUMP_MAX: Duration = Duration::from_mins(5);

/// Turns readings of the system's clocks into the ledger's time.
#[derive(Clone, Copy, Debug)]
pub struct GuardedClock {
    /// The pair of readings that was last in step.
    anchor: Option<Reading>,
    /// The latest time that was handed out or found on disk.
    seen: Timestamp,
}

impl GuardedClock {
    /// A guard that has seen `seen`, from the database.
    pub const fn new(seen: Timestamp) -> Self {
        Self { anchor: None, seen }
    }

    /// The latest time that others saw by the same calendar.
    pub fn others_saw(&mut self, seen: Timestamp) {
        self.seen = self.seen.max(seen);
    }

    /// The ledger's time at `reading`.
    ///
    /// # Errors
    /// [`StoreError::ClockJumped`] while the calendar is more than [`CLOCK_JUMP_MAX`] off its course, or behind what was seen: small
    /// steps back add up.
    pub fn at(&mut self, reading: Reading) -> Result<Timestamp, StoreError> {
        let expected = match self.anchor {
            Some(anchor) => {
                let progress = reading.progress.saturating_sub(anchor.progress).as_micros();
                anchor.wall.plus_micros(i64::try_from(progress).unwrap_or(i64::MAX))
            }
            // At start the time since the last run is unknown: any step forward is believed.
            None => reading.wall,
        };
        let (off, behind) = (reading.wall.micros_since(expected), reading.wall.micros_since(self.seen).min(0));
        let jump = if behind.unsigned_abs() > off.unsigned_abs() { behind } else { off };
        if jump.unsigned_abs() > u64::try_from(CLOCK_JUMP_MAX.as_micros()).unwrap_or(u64::MAX) {
            return Err(StoreError::ClockJumped { jump_seconds: jump / 1_000_000 });
        }
        self.anchor = Some(reading);
        self.seen = self.seen.max(reading.wall);
        Ok(self.seen)
    }

    /// The latest time that was handed out, for questions that need an answer even while the clock is off.
    pub const fn seen(&self) -> Timestamp {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(wall_s: i64, progress_s: u64) -> Reading {
        Reading { wall: Timestamp::from_micros(wall_s * 1_000_000), progress: Duration::from_secs(progress_s) }
    }

    #[test]
    fn time_never_goes_back_and_a_jump_refuses_until_it_is_undone() {
        let mut clock = GuardedClock::new(Timestamp::from_micros(50_000_000));
        assert_eq!(clock.at(reading(1_000, 0)).unwrap().seconds(), 1_000);
        assert_eq!(clock.at(reading(990, 1)).unwrap().seconds(), 1_000, "a small step back is waited out");
        assert!(clock.at(reading(5_000, 2)).is_err());
        assert!(clock.at(reading(600, 3)).is_err());
        assert_eq!(clock.at(reading(1_004, 4)).unwrap().seconds(), 1_004);
    }

    #[test]
    fn steps_back_add_up_however_often_one_looks() {
        let mut clock = GuardedClock::new(Timestamp::default());
        assert_eq!(clock.at(reading(10_000, 0)).unwrap().seconds(), 10_000);
        assert_eq!(clock.at(reading(9_800, 1)).unwrap().seconds(), 10_000);
        assert!(clock.at(reading(9_600, 2)).is_err(), "time would stand still for minutes");
        clock.others_saw(Timestamp::from_micros(10_500_000_000));
        assert!(clock.at(reading(10_001, 3)).is_err(), "another was ahead of this calendar");
        assert_eq!(clock.at(reading(10_300, 302)).unwrap().seconds(), 10_500);
    }

    #[test]
    fn a_clock_behind_the_database_refuses_at_start() {
        let mut clock = GuardedClock::new(Timestamp::from_micros(10_000_000_000));
        assert!(clock.at(reading(1_000, 0)).is_err());
        assert_eq!(clock.at(reading(20_000, 0)).unwrap().seconds(), 20_000);
    }
}
