//! Rates: so many at once, and after that so many a minute.
//!
//! A bucket is one number, the time at which it is full again (the generic cell rate algorithm). One that is full by now
//! says no more than one that was never touched, so whoever is idle needs no memory. Times are counted from any fixed
//! instant, on a clock that never goes back.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

const MINUTE_NANOS: u64 = 60_000_000_000;
/// Full buckets that are forgotten with each one that is touched: more than come, so that none stay for long.
const FORGOTTEN_AT_ONCE: usize = 2;

/// So many at once, refilled evenly within a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_minute: NonZeroU32,
}

impl Rate {
    /// A rate of `per_minute`, all of them at once if need be.
    pub const fn per_minute(per_minute: NonZeroU32) -> Self {
        Self { per_minute }
    }

    /// How many it is in a minute, and at once.
    pub const fn limit(self) -> u32 {
        self.per_minute.get()
    }

    /// Until one more is there; rounded up, so that a rate is never exceeded.
    fn interval(self) -> Duration {
        Duration::from_nanos(MINUTE_NANOS.div_ceil(u64::from(self.limit())))
    }

    /// Takes one from a bucket that is full again at `full_at`: when it is full then.
    ///
    /// # Errors
    /// It is empty; how long it takes until one is there.
    pub fn take(self, full_at: Duration, now: Duration) -> Result<Duration, Duration> {
        let after = full_at.max(now).saturating_add(self.interval());
        let latest = now.saturating_add(self.interval().saturating_mul(self.limit()));
        if after <= latest { Ok(after) } else { Err(after.saturating_sub(latest)) }
    }
}

/// Buckets by key, no more than a given number of them.
///
/// Where there is no room, the fullest is forgotten. So whoever wants an empty one forgotten must empty all others further,
/// at the price of as many refusals; keys that were seen once or twice push out each other.
#[derive(Debug)]
pub struct Buckets<K> {
    full_at: BTreeMap<K, Duration>,
    fullest: BTreeSet<(Duration, K)>,
    most: usize,
}

impl<K: Ord + Copy> Buckets<K> {
    /// Room for `most` of them.
    pub const fn new(most: usize) -> Self {
        Self { full_at: BTreeMap::new(), fullest: BTreeSet::new(), most }
    }

    /// Takes one from the bucket of `key`.
    ///
    /// # Errors
    /// It is empty; how long it takes until one is there.
    pub fn take(&mut self, key: K, rate: Rate, now: Duration) -> Result<(), Duration> {
        for _ in 0..FORGOTTEN_AT_ONCE {
            if self.fullest.first().is_some_and(|(full_at, _)| *full_at <= now) {
                self.forget_fullest();
            }
        }
        let after = rate.take(self.full_at.get(&key).copied().unwrap_or(now), now)?;
        if let Some(before) = self.full_at.insert(key, after) {
            self.fullest.remove(&(before, key));
        }
        self.fullest.insert((after, key));
        if self.full_at.len() > self.most {
            self.forget_fullest();
        }
        Ok(())
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.full_at.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.full_at.is_empty()
    }

    fn forget_fullest(&mut self) {
        if let Some((_, key)) = self.fullest.pop_first() {
            self.full_at.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(per_minute: u32) -> Rate {
        Rate::per_minute(NonZeroU32::new(per_minute).unwrap())
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate_and_says_when() {
        let mut buckets = Buckets::new(10);
        let taken = |buckets: &mut Buckets<u8>, now| buckets.take(1, rate(3), now);
        assert_eq!([0; 3].map(|_| taken(&mut buckets, at(100))), [Ok(()); 3]);
        assert_eq!(taken(&mut buckets, at(100)), Err(at(20)));
        assert_eq!(taken(&mut buckets, at(119)), Err(at(1)));
        assert_eq!(taken(&mut buckets, at(120)), Ok(()));
        assert_eq!(taken(&mut buckets, at(120)), Err(at(20)));
        assert_eq!(buckets.take(2, rate(3), at(120)), Ok(()), "another key has its own");
        assert_eq!([0; 3].map(|_| taken(&mut buckets, at(1_000))), [Ok(()); 3], "never more than the burst");
        assert!(taken(&mut buckets, at(1_000)).is_err());
    }

    #[test]
    fn a_rate_that_changes_holds_at_once_and_never_for_longer_than_a_minute() {
        let mut buckets = Buckets::new(10);
        for _ in 0..600 {
            buckets.take(1, rate(600), at(0)).unwrap();
        }
        assert_eq!(buckets.take(1, rate(1), at(0)), Err(at(60)), "nothing is left of the old one");
        assert_eq!(buckets.take(1, rate(1_200), at(1)), Ok(()), "what was refilled counts at the new rate");
        let wait = buckets.take(1, rate(1), at(1)).unwrap_err();
        assert!(wait <= at(61), "{wait:?}");
    }

    #[test]
    fn those_seen_once_push_out_each_other_and_never_one_that_is_empty() {
        let mut buckets = Buckets::new(100);
        for _ in 0..30 {
            buckets.take(0, rate(30), at(0)).unwrap();
        }
        for stranger in 1..10_000 {
            buckets.take(stranger, rate(30), at(0)).unwrap();
        }
        assert_eq!(buckets.len(), 100);
        assert!(buckets.take(0, rate(30), at(0)).is_err(), "still empty");
    }

    #[test]
    fn those_that_are_full_again_are_forgotten() {
        let mut buckets = Buckets::new(usize::MAX);
        for key in 0..1_000 {
            buckets.take(key, rate(60), at(0)).unwrap();
        }
        for _ in 0..1_000 {
            buckets.take(0, rate(6_000), at(60)).unwrap();
        }
        assert_eq!(buckets.len(), 1);
        assert!(!buckets.is_empty());
    }

    proptest! {
        /// In every stretch of time no more passes than the burst and what the rate refills, and whoever waits as long as
        /// was said passes.
        #[test]
        fn never_more_than_the_burst_and_the_rate(
            per_minute in 1_u32..200,
            steps in prop::collection::vec((0_u64..2_000_000_000, any::<bool>()), 1..300),
        ) {
            let (mut buckets, mut now, mut passed) = (Buckets::new(1), Duration::ZERO, Vec::new());
            for (nanos, patient) in steps {
                now += Duration::from_nanos(nanos);
                let mut taken = buckets.take((), rate(per_minute), now);
                if let (Err(wait), true) = (taken, patient) {
                    now += wait;
                    taken = buckets.take((), rate(per_minute), now);
                    prop_assert!(taken.is_ok(), "waited {wait:?} in vain");
                }
                if taken.is_ok() {
                    passed.push(now);
                }
            }
            let minute = u128::from(MINUTE_NANOS);
            for (first, start) in passed.iter().enumerate() {
                for (last, end) in passed.iter().enumerate().skip(first) {
                    let refilled = end.saturating_sub(*start).as_nanos() * u128::from(per_minute);
                    let count = (last - first + 1) as u128;
                    prop_assert!(count * minute <= u128::from(per_minute) * minute + refilled);
                }
            }
        }

        /// Whatever is asked of whom, there are never more buckets than there is room for, and both orders agree.
        #[test]
        fn memory_is_bounded(
            most in 1_usize..20,
            steps in prop::collection::vec((0_u16..100, 0_u64..5_000), 1..500),
        ) {
            let (mut buckets, mut now) = (Buckets::new(most), Duration::ZERO);
            for (key, millis) in steps {
                now += Duration::from_millis(millis);
                let _ = buckets.take(key, rate(5), now);
                prop_assert!(buckets.len() <= most);
                prop_assert_eq!(buckets.full_at.len(), buckets.fullest.len());
                prop_assert!(buckets.fullest.iter().all(|(full_at, key)| buckets.full_at[key] == *full_at));
            }
        }
    }
}
