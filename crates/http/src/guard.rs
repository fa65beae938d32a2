//! What keeps guesses and runaway scripts slow: counted in memory, by this process alone.
//!
//! A bucket of failures is looked at only when a credential has turned out to be wrong: a valid one is never refused, and
//! never waits, for the address it comes from.

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderMap;
use parking_lot::Mutex;
use tokio::time::Instant;
use tollgate_domain::key::ManagementKeyId;
use tollgate_domain::rate::{Buckets, Rate};

use crate::client_address::{ClientAddress, TrustedProxies};
use crate::error::ApiError;

/// Addresses whose failures are remembered at a time; a few megabytes.
const ADDRESSES_MAX: usize = 1 << 16;
/// Management keys whose requests are remembered at a time.
const MANAGEMENT_KEYS_MAX: usize = 1 << 16;

/// What the guard lets through.
#[derive(Clone, Debug, Default)]
pub struct GuardSettings {
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: TrustedProxies,
    /// Wrong credentials of one address; `None` is any number.
    pub failed_authentications: Option<Rate>,
    /// Requests of one management key; `None` is any number.
    pub management_requests: Option<Rate>,
}

/// Counts failures by address and requests by management key.
#[derive(Debug)]
pub struct Guard {
    settings: GuardSettings,
    /// What the time of buckets is counted from.
    origin: Instant,
    failures: Mutex<Buckets<ClientAddress>>,
    requests: Mutex<Buckets<ManagementKeyId>>,
}

/// A management key that asked too soon.
#[derive(Clone, Copy, Debug)]
pub struct TooManyRequests {
    /// What it may ask in a minute.
    pub limit: u32,
    /// When it is worth another try.
    pub wait: Duration,
}

impl Guard {
    /// A guard that has seen nothing.
    pub fn new(settings: GuardSettings) -> Self {
        Self {
            settings,
            origin: Instant::now(),
            failures: Mutex::new(Buckets::new(ADDRESSES_MAX)),
            requests: Mutex::new(Buckets::new(MANAGEMENT_KEYS_MAX)),
        }
    }

    /// The client of a request.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> ClientAddress {
        ClientAddress::of(peer, headers, &self.settings.trusted_proxies)
    }

    /// Counts a credential that turned out to be wrong.
    ///
    /// # Errors
    /// There were too many from this address: the answer, in the place of the one that says what is wrong.
    pub fn failed(&self, client: ClientAddress) -> Result<(), ApiError> {
        self.failed_at(client, self.origin.elapsed())
    }

    fn failed_at(&self, client: ClientAddress, now: Duration) -> Result<(), ApiError> {
        let Some(rate) = self.settings.failed_authentications else { return Ok(()) };
        self.failures.lock().take(client, rate, now).map_err(ApiError::too_many_failures)
    }

    /// Counts a request of a management key.
    ///
    /// # Errors
    /// There were too many.
    pub fn managed(&self, key: ManagementKeyId) -> Result<(), TooManyRequests> {
        self.managed_at(key, self.origin.elapsed())
    }

    fn managed_at(&self, key: ManagementKeyId, now: Duration) -> Result<(), TooManyRequests> {
        let Some(rate) = self.settings.management_requests else { return Ok(()) };
        let taken = self.requests.lock().take(key, rate, now);
        taken.map_err(|wait| TooManyRequests { limit: rate.limit(), wait })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use axum::response::IntoResponse;

    use super::*;

    fn guard(failed: u32, management: u32) -> Guard {
        let rate = |per_minute| NonZeroU32::new(per_minute).map(Rate::per_minute);
        Guard::new(GuardSettings {
            failed_authentications: rate(failed),
            management_requests: rate(management),
            ..GuardSettings::default()
        })
    }

    fn client(guard: &Guard, address: &str) -> ClientAddress {
        guard.client(address.parse().unwrap(), &HeaderMap::new())
    }

    const START: Duration = Duration::from_hours(1);

    #[test]
    fn failures_are_slowed_by_address_and_recover() {
        let guard = guard(3, 0);
        let (one, other) = (client(&guard, "192.0.2.1"), client(&guard, "192.0.2.2"));
        for _ in 0..3 {
            guard.failed_at(one, START).unwrap();
        }
        let refused = guard.failed_at(one, START).unwrap_err().into_response();
        assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"20".parse().unwrap()));
        guard.failed_at(other, START).unwrap();
        let later = START + Duration::from_secs(20);
        guard.failed_at(one, later).unwrap();
        guard.failed_at(one, later).unwrap_err();
    }

    #[test]
    fn requests_are_counted_by_key_and_recover() {
        let guard = guard(0, 2);
        let (one, other) = (ManagementKeyId(1), ManagementKeyId(2));
        guard.managed_at(one, START).and(guard.managed_at(one, START)).unwrap();
        let refused = guard.managed_at(one, START).unwrap_err();
        assert_eq!((refused.limit, refused.wait), (2, Duration::from_secs(30)));
        guard.managed_at(other, START).unwrap();
        guard.managed_at(one, START + refused.wait).unwrap();
    }

    #[test]
    fn what_is_off_counts_nothing() {
        let guard = guard(0, 0);
        let client = client(&guard, "192.0.2.1");
        for _ in 0..10_000 {
            guard.failed(client).unwrap();
            guard.managed(ManagementKeyId(1)).unwrap();
        }
        assert!(guard.failures.lock().is_empty() && guard.requests.lock().is_empty());
    }
}
