//! How often a key may call, and how many of its calls may be in flight: counted in memory, by this process alone.
//!
//! Only keys with such a limit are known here, and only while they call: one without calls in flight whose bucket is full
//! again is forgotten. So nothing needs to be told of keys that are changed or deleted.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tollgate_domain::KeyId;
use tollgate_domain::key::CallLimits;
use tollgate_domain::rate::{Buckets, Rate};

/// What callers are told to wait for a place: nobody knows when a call will end.
const PLACE_WAIT: Duration = Duration::from_secs(1);

/// The calls of all keys that have a limit on them.
#[derive(Debug)]
pub struct Rates {
    /// What the time of buckets is counted from.
    origin: Instant,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    requests: Buckets<KeyId>,
    /// Never zero.
    in_flight: BTreeMap<KeyId, u32>,
}

/// A limit on calls, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallLimit {
    /// As [`CallLimits::requests_per_minute`].
    RequestsPerMinute(u32),
    /// As [`CallLimits::calls_in_flight_max`].
    CallsInFlight(u32),
}

/// A call that came too soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSoon {
    /// What it met.
    pub limit: CallLimit,
    /// When it is worth another try.
    pub wait: Duration,
}

/// A place among a key's calls in flight, free again when this is dropped: it goes with the reservation.
#[derive(Debug)]
pub struct Place {
    rates: Arc<Rates>,
    key: KeyId,
}

impl Default for Rates {
    fn default() -> Self {
        // One bucket a key, and there are no more keys than the store holds.
        let counts = Counts { requests: Buckets::new(usize::MAX), in_flight: BTreeMap::new() };
        Self { origin: Instant::now(), counts: Mutex::new(counts) }
    }
}

impl Rates {
    /// Lets a call in, and gives it a place where the key's places are counted.
    ///
    /// # Errors
    /// The call came too soon. A call without a place is not counted as a request.
    pub fn enter(self: &Arc<Self>, key: KeyId, limits: CallLimits) -> Result<Option<Place>, TooSoon> {
        self.enter_at(key, limits, self.origin.elapsed())
    }

    fn enter_at(self: &Arc<Self>, key: KeyId, limits: CallLimits, now: Duration) -> Result<Option<Place>, TooSoon> {
        let counts = &mut *self.counts.lock();
        let in_flight = counts.in_flight.get(&key).copied().unwrap_or(0);
        let places = limits.calls_in_flight_max.map(NonZeroU32::get);
        if let Some(most) = places.filter(|most| in_flight >= *most) {
            return Err(TooSoon { limit: CallLimit::CallsInFlight(most), wait: PLACE_WAIT });
        }
        if let Some(rate) = limits.requests_per_minute.map(Rate::per_minute) {
            let limit = CallLimit::RequestsPerMinute(rate.limit());
            counts.requests.take(key, rate, now).map_err(|wait| TooSoon { limit, wait })?;
        }
        Ok(places.map(|_| {
            counts.in_flight.insert(key, in_flight.saturating_add(1));
            Place { rates: Arc::clone(self), key }
        }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let in_flight = &mut self.rates.counts.lock().in_flight;
        match in_flight.get_mut(&self.key) {
            Some(count) if *count > 1 => *count = count.saturating_sub(1),
            _ => {
                in_flight.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: KeyId = KeyId(1);
    const START: Duration = Duration::from_hours(1);

    fn limits(requests_per_minute: u32, calls_in_flight_max: u32) -> CallLimits {
        CallLimits {
            requests_per_minute: NonZeroU32::new(requests_per_minute),
            calls_in_flight_max: NonZeroU32::new(calls_in_flight_max),
        }
    }

    #[test]
    fn requests_come_back_with_time() {
        let rates = Arc::new(Rates::default());
        let enter = |now| rates.enter_at(KEY, limits(2, 0), now).map(|place| place.is_some());
        assert_eq!([enter(START), enter(START)], [Ok(false); 2], "no places are counted");
        let wait = Duration::from_secs(30);
        assert_eq!(enter(START), Err(TooSoon { limit: CallLimit::RequestsPerMinute(2), wait }));
        assert_eq!(enter(START + wait), Ok(false));
        assert!(enter(START + wait).is_err());
        assert!(rates.enter_at(KeyId(2), limits(2, 0), START).is_ok(), "another key's");
        assert!(rates.enter_at(KEY, limits(0, 1), START).is_ok(), "the limit was removed");
    }

    #[test]
    fn a_place_is_free_again_when_its_call_ends_and_leaves_nothing_behind() {
        let rates = Arc::new(Rates::default());
        let enter = || rates.enter_at(KEY, limits(3, 2), START);
        let (first, second) = (enter().unwrap(), enter().unwrap());
        assert_eq!(enter().unwrap_err(), TooSoon { limit: CallLimit::CallsInFlight(2), wait: PLACE_WAIT });
        drop(first);
        let third = enter().expect("what was refused a place cost no request");
        assert_eq!(enter().unwrap_err().limit, CallLimit::CallsInFlight(2));
        drop(second);
        assert_eq!(enter().unwrap_err().limit, CallLimit::RequestsPerMinute(3));
        drop(third);
        assert!(rates.counts.lock().in_flight.is_empty());
        drop(rates.enter_at(KeyId(2), limits(3, 2), START + Duration::from_mins(1)).unwrap());
        assert_eq!(rates.counts.lock().requests.len(), 1, "the idle key is forgotten");
    }
}
