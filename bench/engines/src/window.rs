//! What is counted: what ends between a warm-up and the end.

use std::time::Duration;

use tokio::time::Instant;

const WARM_UP: Duration = Duration::from_millis(500);

/// The time of one measurement.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    opens: Instant,
    closes: Instant,
}

/// What was done in it, and at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    within: u64,
    /// With what was done before and after.
    pub total: u64,
}

impl Window {
    /// A warm-up from now on, then `length`.
    pub fn from_now(length: Duration) -> Self {
        let opens = Instant::now() + WARM_UP;
        Self { opens, closes: opens + length }
    }

    pub fn is_over(&self) -> bool {
        Instant::now() >= self.closes
    }

    /// What was done each second.
    #[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
    pub fn rate(&self, tally: Tally) -> f64 {
        tally.within as f64 / (self.closes - self.opens).as_secs_f64()
    }
}

impl Tally {
    /// Counts what was just done.
    pub fn add(&mut self, done: u64, window: &Window) {
        self.total += done;
        if (window.opens..window.closes).contains(&Instant::now()) {
            self.within += done;
        }
    }

    pub fn and(self, other: Self) -> Self {
        Self { within: self.within + other.within, total: self.total + other.total }
    }
}
