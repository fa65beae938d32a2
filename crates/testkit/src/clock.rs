//! A clock that moves when it is told to.

use std::time::Duration;

use parking_lot::Mutex;
use tollgate_domain::Timestamp;
use tollgate_store::{Clock, Reading};

/// A clock that moves when it is told to.
#[derive(Debug)]
pub struct ManualClock(Mutex<Reading>);

impl ManualClock {
    /// A clock at an instant such as `2026-01-31T23:59:00Z`.
    pub fn at(text: &str) -> Self {
        let wall = Timestamp::parse_utc(text).unwrap();
        Self(Mutex::new(Reading { wall, progress: Duration::ZERO }))
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let mut reading = self.0.lock();
        reading.progress += by;
        reading.wall = reading.wall.plus_micros(i64::try_from(by.as_micros()).unwrap());
    }

    /// Steps the calendar without letting time pass, as a bad time server would.
    pub fn step(&self, micros: i64) {
        let mut reading = self.0.lock();
        reading.wall = reading.wall.plus_micros(micros);
    }
}

impl Clock for ManualClock {
    fn read(&self) -> Reading {
        *self.0.lock()
    }
}
