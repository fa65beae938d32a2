//! What a scope has spent and holds, per kind of money and per window.

use std::cmp::Ordering;

use crate::Usd;
use crate::money::MoneyError;
use crate::time::{WindowId, WindowKind, Windows};

/// Whose money a call spends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MoneyKind {
    /// The account's own: `usage` on the wire.
    Credits,
    /// List price of calls under a workspace's own provider credential: `byok_usage` on the wire.
    Byok,
}

impl MoneyKind {
    /// Both kinds, in the order balances are stored in.
    pub const ALL: [Self; 2] = [Self::Credits, Self::Byok];

    const fn index(self) -> usize {
        match self {
            Self::Credits => 0,
            Self::Byok => 1,
        }
    }
}

/// An amount of each kind of money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Of the account's own money.
    pub credits: Usd,
    /// At list price, under own provider credentials.
    pub byok: Usd,
}

impl Amounts {
    /// So much of the account's own money and nothing else.
    pub const fn credits(credits: Usd) -> Self {
        Self { credits, byok: Usd::ZERO }
    }

    /// What of it counts in a budget that includes BYOK usage, or does not.
    pub fn counted(&self, include_byok: bool) -> Usd {
        if include_byok { [self.credits, self.byok].into_iter().sum() } else { self.credits }
    }

    /// Whether a hold of this is one for `wanted`: as much at least, and no BYOK usage where none is wanted.
    pub fn covers(&self, wanted: &Self) -> bool {
        let alike = (self.byok == Usd::ZERO) == (wanted.byok == Usd::ZERO);
        alike && self.credits >= wanted.credits && self.byok >= wanted.byok
    }

    /// No more than `most` of each kind.
    #[must_use]
    pub fn at_most(&self, most: &Self) -> Self {
        Self { credits: self.credits.min(most.credits), byok: self.byok.min(most.byok) }
    }

    /// The amount of `kind`.
    pub const fn of(&self, kind: MoneyKind) -> Usd {
        match kind {
            MoneyKind::Credits => self.credits,
            MoneyKind::Byok => self.byok,
        }
    }

    /// These with a correction.
    ///
    /// # Errors
    /// [`MoneyError::Negative`]: more is given back than there is. [`MoneyError::TooLarge`]: it does not fit.
    pub fn corrected(self, by: Self) -> Result<Self, MoneyError> {
        let sum = |one: Usd, other: Usd| {
            let sum = one.plus(other)?;
            if sum < Usd::ZERO && other < Usd::ZERO { Err(MoneyError::Negative) } else { Ok(sum) }
        };
        Ok(Self { credits: sum(self.credits, by.credits)?, byok: sum(self.byok, by.byok)? })
    }

    fn each(self, apply: impl Fn(Usd) -> Usd) -> Self {
        Self { credits: apply(self.credits), byok: apply(self.byok) }
    }
}

/// What was spent and is held in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// The window that the sums belong to.
    pub window: WindowId,
    /// Settled.
    pub spent: Usd,
    /// Reserved by calls in flight.
    pub held: Usd,
}

/// The balances of one scope: a [`Counter`] for each kind of money and each kind of window.
///
/// Windows only advance. A sum that belongs to an older window than the stored one is dropped: it counted in a window
/// that nobody can ask about any more. The lifetime takes every sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    counters: [[Counter; 4]; 2],
}

impl Balance {
    /// What was spent in the current window of `window`; zero where that window has no entry yet.
    pub fn spent(&self, kind: MoneyKind, window: WindowKind, now: &Windows) -> Usd {
        self.current(kind, window, now).spent
    }

    /// What calls in flight hold in the current window of `window`.
    pub fn held(&self, kind: MoneyKind, window: WindowKind, now: &Windows) -> Usd {
        self.current(kind, window, now).held
    }

    /// Holds `amounts` in the windows of an admission.
    pub fn hold(&mut self, amounts: Amounts, admission: &Windows) {
        self.book(Amounts::default(), amounts, admission);
    }

    /// Gives back what was held in the windows of an admission.
    pub fn unhold(&mut self, amounts: Amounts, admission: &Windows) {
        let back = amounts.each(|amount| Usd::from_nanos(amount.nanos().saturating_neg()));
        self.book(Amounts::default(), back, admission);
    }

    /// Books `amounts` as spent in the windows of an admission; a correction may be negative.
    pub fn spend(&mut self, amounts: Amounts, admission: &Windows) {
        self.book(amounts, Amounts::default(), admission);
    }

    /// What was ever spent.
    pub fn spent_for_life(&self) -> Amounts {
        let of = |kind| self.counter(kind, WindowKind::Lifetime).spent;
        Amounts { credits: of(MoneyKind::Credits), byok: of(MoneyKind::Byok) }
    }

    /// The sum of this part of a balance and another. A part whose window has passed adds nothing to the newer one.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.each(other, |one, other| match one.window.cmp(&other.window) {
            Ordering::Less => other,
            Ordering::Greater => one,
            Ordering::Equal => Counter {
                window: one.window,
                spent: [one.spent, other.spent].into_iter().sum(),
                held: [one.held, other.held].into_iter().sum(),
            },
        })
    }

    /// The part of this sum that stands nowhere else, where `other` is the part that does.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        self.each(other, |sum, other| {
            if sum.window == other.window {
                let (spent, held) = (Usd::left_of(sum.spent, other.spent), Usd::left_of(sum.held, other.held));
                Counter { window: sum.window, spent, held }
            } else {
                sum
            }
        })
    }

    fn each(&self, other: &Self, join: impl Fn(Counter, Counter) -> Counter) -> Self {
        let mut joined = Self::default();
        for kind in MoneyKind::ALL {
            for window in WindowKind::ALL {
                joined.put(kind, window, join(self.counter(kind, window), other.counter(kind, window)));
            }
        }
        joined
    }

    /// Puts a counter in its place.
    pub fn put(&mut self, kind: MoneyKind, window: WindowKind, counter: Counter) {
        self.counters[kind.index()][window.index()] = counter;
    }

    /// The stored counter, for writing it down.
    pub fn counter(&self, kind: MoneyKind, window: WindowKind) -> Counter {
        self.counters[kind.index()][window.index()]
    }

    /// Restores a counter that was written down; what is held is rebuilt from open reservations.
    pub fn restore(&mut self, kind: MoneyKind, window: WindowKind, id: WindowId, spent: Usd) {
        self.counters[kind.index()][window.index()] = Counter { window: id, spent, held: Usd::ZERO };
    }

    fn current(&self, kind: MoneyKind, window: WindowKind, now: &Windows) -> Counter {
        let counter = self.counter(kind, window);
        // One ahead of `now` was booked by a node whose clock was read later: what was spent there was spent.
        if counter.window >= now.of(window) { counter } else { Counter::default() }
    }

    fn book(&mut self, spent: Amounts, held: Amounts, windows: &Windows) {
        for kind in MoneyKind::ALL {
            for window in WindowKind::ALL {
                let id = windows.of(window);
                let counter = &mut self.counters[kind.index()][window.index()];
                if counter.window < id {
                    *counter = Counter { window: id, ..Counter::default() };
                }
                if counter.window == id {
                    counter.spent = [counter.spent, spent.of(kind)].into_iter().sum();
                    counter.held = [counter.held, held.of(kind)].into_iter().sum();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    use proptest::prelude::*;

    proptest! {
        /// Parts may be booked in whichever row, in any order and windows: their sum is the balance of one that took all.
        #[test]
        fn parts_sum_to_the_whole_and_come_apart_again(
            steps in proptest::collection::vec((0_usize..3, 0_i64..40, -50_i64..50, -50_i64..50, any::<bool>()), 0..40),
        ) {
            let mut parts = [Balance::default(), Balance::default(), Balance::default()];
            let mut whole = Balance::default();
            let day = 86_400_000_000;
            for (part, days, spent, held, byok) in steps {
                let windows = Windows::at(Timestamp::from_micros(days * day));
                let amounts = |nanos| {
                    let usd = Usd::from_nanos(nanos);
                    if byok { Amounts { credits: Usd::ZERO, byok: usd } } else { Amounts::credits(usd) }
                };
                for balance in [&mut whole, &mut parts[part]] {
                    balance.spend(amounts(spent), &windows);
                    balance.hold(amounts(held), &windows);
                }
            }
            let [a, b, c] = parts;
            let sum = a.plus(&b).plus(&c);
            prop_assert_eq!(&sum, &c.plus(&a).plus(&b));
            prop_assert_eq!(&sum, &whole);
            let rest = b.plus(&c);
            prop_assert_eq!(sum.without(&rest).plus(&rest), sum);
        }
    }

    #[test]
    fn a_settle_after_midnight_counts_for_life_and_not_in_the_new_day() {
        let before = Windows::at(Timestamp::parse_utc("2026-01-31T23:59:00Z").unwrap());
        let after = Windows::at(Timestamp::parse_utc("2026-02-01T00:01:00Z").unwrap());
        let mut balance = Balance::default();
        let amount = |nanos| Amounts::credits(Usd::from_nanos(nanos));
        balance.hold(amount(10), &before);
        balance.hold(amount(3), &after);
        balance.unhold(amount(10), &before);
        balance.spend(amount(7), &before);
        let read = |window| {
            let kind = MoneyKind::Credits;
            (balance.spent(kind, window, &after).nanos(), balance.held(kind, window, &after).nanos())
        };
        assert_eq!(read(WindowKind::Lifetime), (7, 3));
        assert_eq!(read(WindowKind::Monthly), (0, 3));
        assert_eq!(read(WindowKind::Daily), (0, 3));
        // 2026-01-31 is a Saturday: the same ISO week.
        assert_eq!(read(WindowKind::Weekly), (7, 3));
    }
}
