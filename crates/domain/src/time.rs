//! Instants and the calendar windows that limits reset by.
//!
//! A window is a function of an instant: nothing runs at midnight. All windows are UTC (contract section 3).

use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Microseconds in a second.
pub const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
/// The last instant that is handled, 9999-12-30: windows near the end of the calendar stay computable.
const MICROS_MAX: i64 = 253_402_214_400 * MICROS_PER_SECOND;

/// An instant: microseconds since 1970-01-01T00:00:00Z, within the years 1970 to 9999.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Why a text is not an accepted instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Not `YYYY-MM-DDTHH:MM:SS[.fraction]` followed by an offset; seconds are required.
    #[error("is not an ISO 8601 date-time with seconds, such as 2027-01-31T00:00:00Z")]
    Malformed,
    /// The offset is not UTC (contract section 3.1).
    #[error("must be in UTC: end it with Z")]
    NotUtc,
}

impl Timestamp {
    /// The instant `micros` microseconds after the epoch, clamped to the years handled.
    pub fn from_micros(micros: i64) -> Self {
        Self(micros.clamp(0, MICROS_MAX))
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(MICROS_PER_SECOND)
    }

    /// The instant `micros` later (earlier where negative).
    #[must_use]
    pub fn plus_micros(self, micros: i64) -> Self {
        Self::from_micros(self.0.saturating_add(micros))
    }

    /// Microseconds from `earlier` to `self`; negative where `earlier` is later.
    pub fn micros_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Parses an RFC 3339 instant that must be in UTC (`Z` or `+00:00`) and carry seconds.
    ///
    /// # Errors
    /// [`TimeError`] names what is wrong.
    pub fn parse_utc(text: &str) -> Result<Self, TimeError> {
        let bytes = text.as_bytes();
        let shaped = bytes.len() >= 20
            && bytes.get(10).is_some_and(|b| matches!(b, b'T' | b't'))
            && bytes.get(16) == Some(&b':')
            && bytes.get(4) == Some(&b'-');
        if !shaped {
            return Err(TimeError::Malformed);
        }
        let instant: jiff::Timestamp = text.parse().map_err(|_| TimeError::Malformed)?;
        let utc = ["Z", "z", "+00:00"].iter().any(|end| text.ends_with(end));
        if !utc {
            return Err(TimeError::NotUtc);
        }
        Ok(Self::from_micros(instant.as_microsecond()))
    }

    fn date(self) -> Date {
        // In range by construction: `from_micros` clamps to 1970..=9999.
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_zoned(TimeZone::UTC).date()
    }

    fn day_number(self) -> i64 {
        self.0.div_euclid(MICROS_PER_DAY)
    }

    fn start_of_day(day: i64) -> Self {
        Self::from_micros(day.saturating_mul(MICROS_PER_DAY))
    }
}

impl fmt::Display for Timestamp {
    /// `2026-11-21T14:03:07.123Z`, the one form that every SDK decodes (contract section 1.3).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        write!(f, "{instant:.3}")
    }
}

/// How often a limit starts afresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitReset {
    /// At 00:00 UTC.
    Daily,
    /// On Monday at 00:00 UTC.
    Weekly,
    /// On the first of the month at 00:00 UTC.
    Monthly,
}

impl LimitReset {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
        }
    }

    /// The reset that `word` names, if any.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Daily, Self::Weekly, Self::Monthly].into_iter().find(|reset| reset.as_str() == word)
    }
}

/// A kind of window that a balance is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WindowKind {
    /// From the beginning, never resets.
    Lifetime,
    /// A UTC day.
    Daily,
    /// An ISO week, Monday to Sunday.
    Weekly,
    /// A calendar month.
    Monthly,
}

impl WindowKind {
    /// All kinds, in the order balances are stored in.
    pub const ALL: [Self; 4] = [Self::Lifetime, Self::Daily, Self::Weekly, Self::Monthly];

    /// The window that a limit with this reset counts in; no reset counts for life.
    pub const fn of(reset: Option<LimitReset>) -> Self {
        match reset {
            None => Self::Lifetime,
            Some(LimitReset::Daily) => Self::Daily,
            Some(LimitReset::Weekly) => Self::Weekly,
            Some(LimitReset::Monthly) => Self::Monthly,
        }
    }

    /// The reset of limits that count in this window: the inverse of [`WindowKind::of`].
    pub const fn reset(self) -> Option<LimitReset> {
        match self {
            Self::Lifetime => None,
            Self::Daily => Some(LimitReset::Daily),
            Self::Weekly => Some(LimitReset::Weekly),
            Self::Monthly => Some(LimitReset::Monthly),
        }
    }

    /// The position in [`WindowKind::ALL`].
    pub const fn index(self) -> usize {
        match self {
            Self::Lifetime => 0,
            Self::Daily => 1,
            Self::Weekly => 2,
            Self::Monthly => 3,
        }
    }
}

/// The number of a window among those of its kind. Only ever advances with time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowId(pub i64);

/// The four windows that an instant lies in, one a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Windows([WindowId; 4]);

impl Windows {
    /// The windows of `at`.
    pub fn at(at: Timestamp) -> Self {
        let day = at.day_number();
        let date = at.date();
        let month = i64::from(date.year()).saturating_mul(12).saturating_add(i64::from(date.month()).saturating_sub(1));
        // 1970-01-01 was a Thursday: three days after a Monday.
        let week = day.saturating_add(3).div_euclid(7);
        Self([WindowId(0), WindowId(day), WindowId(week), WindowId(month)])
    }

    /// The window of `kind`.
    pub const fn of(&self, kind: WindowKind) -> WindowId {
        self.0[kind.index()]
    }
}

/// A day, counted from 1970-01-01 UTC, as `YYYY-MM-DD`.
pub fn day_text(day: i64) -> String {
    Timestamp::start_of_day(day).date().to_string()
}

/// The day that `YYYY-MM-DD` names, counted from 1970-01-01 UTC.
pub fn day_number(text: &str) -> Option<i64> {
    let date: Date = if text.len() == 10 { text.parse().ok()? } else { return None };
    let start = date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_microsecond();
    Some(start.div_euclid(MICROS_PER_DAY))
}

/// When a window begins; `None` for a lifetime.
pub fn window_start(kind: WindowKind, WindowId(number): WindowId) -> Option<Timestamp> {
    match kind {
        WindowKind::Lifetime => None,
        WindowKind::Daily => Some(Timestamp::start_of_day(number)),
        WindowKind::Weekly => Some(Timestamp::start_of_day(number.saturating_mul(7).saturating_sub(3))),
        WindowKind::Monthly => {
            let (year, month) = (number.div_euclid(12), number.rem_euclid(12).saturating_add(1));
            let date = Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, 1).ok()?;
            let start = date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_microsecond();
            Some(Timestamp::from_micros(start))
        }
    }
}

/// When the window of `kind` that holds `at` ends; `None` for a lifetime.
pub fn window_end(kind: WindowKind, at: Timestamp) -> Option<Timestamp> {
    let day = at.day_number();
    match kind {
        WindowKind::Lifetime => None,
        WindowKind::Daily => Some(Timestamp::start_of_day(day.saturating_add(1))),
        WindowKind::Weekly => {
            let week = day.saturating_add(3).div_euclid(7);
            let monday = week.saturating_add(1).saturating_mul(7).saturating_sub(3);
            Some(Timestamp::start_of_day(monday))
        }
        WindowKind::Monthly => {
            let date = at.date();
            let left = i64::from(date.days_in_month()).saturating_sub(i64::from(date.day()));
            Some(Timestamp::start_of_day(day.saturating_add(left).saturating_add(1)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_utc(text).unwrap()
    }

    #[test]
    fn windows_end_at_midnight_utc_on_monday_and_on_the_first() {
        let now = at("2026-11-21T14:03:07Z"); // a Saturday
        let end = |kind| window_end(kind, now).unwrap().to_string();
        assert_eq!(end(WindowKind::Daily), "2026-11-22T00:00:00.000Z");
        assert_eq!(end(WindowKind::Weekly), "2026-11-23T00:00:00.000Z");
        assert_eq!(end(WindowKind::Monthly), "2026-12-01T00:00:00.000Z");
        assert_eq!(window_end(WindowKind::Lifetime, now), None);
    }

    #[test]
    fn a_day_is_a_number_and_a_text() {
        for (day, text) in [(0, "1970-01-01"), (20_778, "2026-11-21"), (19_782, "2024-02-29")] {
            assert_eq!((day_text(day).as_str(), day_number(text)), (text, Some(day)));
        }
        for bad in ["2026-02-30", "2026-1-1", "tomorrow", "2026-11-21T00:00:00Z", ""] {
            assert_eq!(day_number(bad), None, "{bad}");
        }
    }

    #[test]
    fn expiry_must_be_utc_with_seconds() {
        assert_eq!(at("2026-11-21T14:03:07.5+00:00").micros() % 1_000_000, 500_000);
        for bad in ["2026-11-21T14:03Z", "2026-11-21", "2026-11-21 14:03:07Z", "soon", ""] {
            assert_eq!(Timestamp::parse_utc(bad), Err(TimeError::Malformed), "{bad}");
        }
        assert_eq!(Timestamp::parse_utc("2026-11-21T14:03:07+01:00"), Err(TimeError::NotUtc));
    }

    proptest! {
        #[test]
        fn a_window_ends_where_the_next_one_begins(micros in 0_i64..MICROS_MAX) {
            let now = Timestamp::from_micros(micros);
            for kind in [WindowKind::Daily, WindowKind::Weekly, WindowKind::Monthly] {
                let end = window_end(kind, now).unwrap();
                prop_assert!(end > now);
                let here = Windows::at(now).of(kind);
                prop_assert_eq!(Windows::at(end.plus_micros(-1)).of(kind), here);
                prop_assert_eq!(Windows::at(end).of(kind).0, here.0 + 1);
                prop_assert_eq!(window_start(kind, WindowId(here.0 + 1)), Some(end));
                prop_assert!(window_start(kind, here).unwrap() <= now);
            }
        }
    }
}
