//! Amounts and prices as checked integers.
//!
//! An amount is a whole number of nano-dollars, a price a whole number of pico-dollars per unit. Nothing here touches a
//! float: text goes in, text comes out, and an amount that does not fit is an error, never zero and never the maximum.

use std::fmt;

/// Nano-dollars in one dollar.
pub const NANOS_PER_USD: i64 = 1_000_000_000;
/// Pico-dollars in one nano-dollar.
pub const PICOS_PER_NANO: i128 = 1_000;
/// The largest amount that is accepted from outside, in dollars. Nine of them add up to what an amount can hold.
pub const USD_MAX: i64 = 1_000_000_000;

/// An amount of US dollars in nano-dollars. May be negative: what is left of a limit that was lowered is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(i64);

/// Why a text is not an amount of money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The text is not a decimal number.
    #[error("is not a decimal number")]
    NotANumber,
    /// The amount is below zero where only zero and more make sense.
    #[error("must not be negative")]
    Negative,
    /// The amount is larger than [`USD_MAX`] dollars, or a sum left the range of `i64` nano-dollars.
    #[error("is too large; the most is 1000000000")]
    TooLarge,
    /// The number has digits beyond the ninth decimal where an exact amount is asked for.
    #[error("has more than nine decimals")]
    TooPrecise,
}

/// What to do with digits beyond the precision that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// Drop them: a limit is never raised by rounding.
    RoundDown,
    /// Count them as one more unit: a price is never lowered by rounding.
    RoundUp,
    /// Refuse the number: credits and adjustments are exact or they are not booked.
    Refuse,
}

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// An amount of `nanos` nano-dollars.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The amount in nano-dollars.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// The sum, or [`MoneyError::TooLarge`] where it does not fit.
    pub fn plus(self, other: Self) -> Result<Self, MoneyError> {
        self.0.checked_add(other.0).map(Self).ok_or(MoneyError::TooLarge)
    }

    /// The difference, or [`MoneyError::TooLarge`] where it does not fit.
    pub fn minus(self, other: Self) -> Result<Self, MoneyError> {
        self.0.checked_sub(other.0).map(Self).ok_or(MoneyError::TooLarge)
    }

    /// What `self` is more than `other`, at least zero: how much of a limit is left.
    #[must_use]
    pub fn left_of(limit: Self, used: Self) -> Self {
        Self(limit.0.saturating_sub(used.0))
    }

    /// Parses a JSON number or decimal text in dollars, exponents included.
    ///
    /// # Errors
    /// Text that is no number, is negative, exceeds [`USD_MAX`], or (with [`Excess::Refuse`]) is finer than a nano-dollar.
    pub fn parse(text: &str, excess: Excess) -> Result<Self, MoneyError> {
        let amount = scaled(text, 9, excess)?;
        let nanos = i64::try_from(amount).map_err(|_| MoneyError::TooLarge)?;
        let most = USD_MAX.saturating_mul(NANOS_PER_USD);
        match nanos {
            n if n < 0 => Err(MoneyError::Negative),
            n if n > most => Err(MoneyError::TooLarge),
            n => Ok(Self(n)),
        }
    }

    /// The same, of an amount that may be negative.
    ///
    /// # Errors
    /// As [`Usd::parse`], but for the sign.
    pub fn parse_signed(text: &str, excess: Excess) -> Result<Self, MoneyError> {
        match text.strip_prefix('-') {
            None => Self::parse(text, excess),
            Some(size) => Self::parse(size, excess).map(|amount| Self(amount.0.saturating_neg())),
        }
    }

    /// Rounds pico-dollars up to a nano-dollar: the one place where a cost is rounded.
    ///
    /// # Errors
    /// [`MoneyError::TooLarge`] where the cost does not fit.
    pub fn from_picos_up(picos: i128) -> Result<Self, MoneyError> {
        let nanos =
            picos.checked_add(PICOS_PER_NANO.saturating_sub(1)).ok_or(MoneyError::TooLarge)?.div_euclid(PICOS_PER_NANO);
        i64::try_from(nanos).map(Self).map_err(|_| MoneyError::TooLarge)
    }

    /// The amount in pico-dollars, as costs are summed.
    pub fn picos(self) -> i128 {
        i128::from(self.0).saturating_mul(PICOS_PER_NANO)
    }
}

impl fmt::Display for Usd {
    /// A plain decimal number without trailing zeros: `25.5`, `0.00000579`, `-3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_decimal(f, self.0, 9)
    }
}

impl std::iter::Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, |sum, item| Self(sum.0.saturating_add(item.0)))
    }
}

/// A price in pico-dollars per unit (token, request, image).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(i64);

impl Price {
    /// Free.
    pub const ZERO: Self = Self(0);

    /// A price of `picos` pico-dollars per unit.
    pub const fn from_picos(picos: i64) -> Self {
        Self(picos)
    }

    /// The price in pico-dollars per unit.
    pub const fn picos(self) -> i64 {
        self.0
    }

    /// Parses dollars per unit, as in `GET /models`; digits beyond a pico-dollar are rounded up.
    ///
    /// # Errors
    /// As [`Usd::parse`].
    pub fn parse(text: &str) -> Result<Self, MoneyError> {
        let amount = scaled(text, 12, Excess::RoundUp)?;
        let picos = i64::try_from(amount).map_err(|_| MoneyError::TooLarge)?;
        if picos < 0 {
            return Err(MoneyError::Negative);
        }
        Ok(Self(picos))
    }

    /// `units` at this price, in pico-dollars.
    pub fn times(self, units: u64) -> i128 {
        i128::from(self.0).saturating_mul(i128::from(units))
    }
}

impl fmt::Display for Price {
    /// Dollars per unit as a plain decimal number: `0.00000015`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_decimal(f, self.0, 12)
    }
}

/// Reads `[-]digits[.digits][e[+-]digits]` as a whole number of 10^-`decimals`.
fn scaled(text: &str, decimals: i32, excess: Excess) -> Result<i128, MoneyError> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits_only = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits_only(whole) || !digits_only(fraction) {
        return Err(MoneyError::NotANumber);
    }
    if mantissa.ends_with('.') {
        return Err(MoneyError::NotANumber);
    }
    let fraction_digits = i32::try_from(fraction.len()).map_err(|_| MoneyError::NotANumber)?;
    // Digits that stay: all of them moved by the exponent, cut at `decimals` after the point.
    let shift = decimals.saturating_add(exponent).saturating_sub(fraction_digits);
    let mut value: i128 = 0;
    let mut lost = false;
    let total = whole.len().saturating_add(fraction.len());
    let keep = if shift < 0 {
        let cut = usize::try_from(shift.unsigned_abs()).unwrap_or(usize::MAX);
        total.saturating_sub(cut)
    } else {
        total
    };
    for (index, byte) in whole.bytes().chain(fraction.bytes()).enumerate() {
        let digit = i128::from(byte.saturating_sub(b'0'));
        if index < keep {
            value = value.checked_mul(10).and_then(|v| v.checked_add(digit)).ok_or(MoneyError::TooLarge)?;
        } else if digit != 0 {
            lost = true;
        }
    }
    if value != 0 {
        for _ in 0..shift.max(0) {
            value = value.checked_mul(10).ok_or(MoneyError::TooLarge)?;
        }
    }
    if negative && (value != 0 || lost) {
        return Err(MoneyError::Negative);
    }
    match (lost, excess) {
        (false, _) | (true, Excess::RoundDown) => Ok(value),
        (true, Excess::RoundUp) => value.checked_add(1).ok_or(MoneyError::TooLarge),
        (true, Excess::Refuse) => Err(MoneyError::TooPrecise),
    }
}

/// The exponent of a number; one too long for `i32` is clamped: no text has digits enough to make up for it.
fn parse_exponent(text: &str) -> Result<i32, MoneyError> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(MoneyError::NotANumber);
    }
    let size: i32 = digits.parse().unwrap_or(i32::MAX);
    Ok(if negative { size.saturating_neg() } else { size })
}

/// Writes an amount with at most `decimals` decimals, without zeros at the end.
fn write_decimal(f: &mut fmt::Formatter<'_>, value: i64, decimals: usize) -> fmt::Result {
    // By hand: every answer carries several amounts, and what the standard library offers costs ten times as much.
    let (mut digits, mut rest, mut at) = ([b'0'; 24], value.unsigned_abs(), 24_usize);
    let mut put = |byte: u8| {
        at = at.saturating_sub(1);
        if let Some(place) = digits.get_mut(at) {
            *place = byte;
        }
    };
    let mut written = false;
    for place in 0.. {
        if place == decimals && written {
            put(b'.');
        }
        if place > decimals && rest == 0 {
            break;
        }
        let digit = u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        written |= place >= decimals || digit > 0;
        if written {
            put(digit.saturating_add(b'0'));
        }
    }
    if value < 0 {
        put(b'-');
    }
    f.write_str(digits.get(at..).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_as_json_writes_them_become_nanos() {
        let cases = [
            ("25.5", 25_500_000_000),
            ("0.00000579", 5_790),
            ("1e-7", 100),
            ("1.2E-7", 120),
            ("3e2", 300_000_000_000),
            ("0", 0),
            ("-0", 0),
            ("0e999999999999", 0),
            ("1e-999999999999", 0),
        ];
        for (text, nanos) in cases {
            assert_eq!(Usd::parse(text, Excess::RoundDown), Ok(Usd(nanos)), "{text}");
        }
    }

    #[test]
    fn an_exponent_moves_the_point_however_far() {
        let zeros = "0".repeat(1_499);
        let one = Ok(Usd(NANOS_PER_USD));
        for text in [format!("0.{zeros}1e1500"), format!("1{zeros}0e-1500"), format!("0.{zeros}1E+0001500")] {
            assert_eq!(Usd::parse(&text, Excess::Refuse), one);
        }
        assert_eq!(Price::parse(&format!("0.{zeros}1e1497")), Ok(Price::from_picos(1_000_000_000)));
    }

    #[test]
    fn amounts_are_written_without_zeros_that_say_nothing() {
        let cases = [
            (0, "0"),
            (1, "0.000000001"),
            (-1, "-0.000000001"),
            (100, "0.0000001"),
            (1_000_000_000, "1"),
            (10_050_000_000, "10.05"),
            (-120_000_000_000, "-120"),
            (i64::MAX, "9223372036.854775807"),
            (i64::MIN, "-9223372036.854775808"),
        ];
        for (nanos, text) in cases {
            assert_eq!(Usd(nanos).to_string(), text);
        }
        assert_eq!(Price(150_000).to_string(), "0.00000015");
        assert_eq!(Price(i64::MAX).to_string(), "9223372.036854775807");
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_never_another_amount() {
        use MoneyError::{Negative, NotANumber, TooLarge, TooPrecise};
        let cases = [
            ("-1", Negative),
            ("-1e-20", Negative),
            ("1e300", TooLarge),
            ("1e999999999999", TooLarge),
            ("1000000000.1", TooLarge),
            ("0.0000000001", TooPrecise),
            ("", NotANumber),
            ("1.", NotANumber),
            (".5", NotANumber),
            ("1_0", NotANumber),
            ("NaN", NotANumber),
            ("1e", NotANumber),
            ("0x10", NotANumber),
        ];
        for (text, error) in cases {
            assert_eq!(Usd::parse(text, Excess::Refuse), Err(error), "{text}");
        }
    }

    #[test]
    fn a_limit_rounds_down_and_a_price_rounds_up() {
        assert_eq!(Usd::parse("0.0000000019", Excess::RoundDown), Ok(Usd::from_nanos(1)));
        assert_eq!(Price::parse("0.0000000000001"), Ok(Price::from_picos(1)));
        assert_eq!(Price::parse("0.00000015"), Ok(Price::from_picos(150_000)));
        assert_eq!(Usd::from_picos_up(1), Ok(Usd::from_nanos(1)));
        assert_eq!(Usd::from_picos_up(1_000), Ok(Usd::from_nanos(1)));
        assert_eq!(Usd::from_picos_up(1_001), Ok(Usd::from_nanos(2)));
    }

    proptest! {
        #[test]
        fn an_amount_survives_its_own_text(nanos in 0_i64..=USD_MAX * NANOS_PER_USD) {
            let amount = Usd::from_nanos(nanos);
            prop_assert_eq!(Usd::parse(&amount.to_string(), Excess::Refuse), Ok(amount));
        }

        #[test]
        fn any_text_is_an_amount_or_an_error(text in "[-+0-9.eE]{0,40}") {
            if let Ok(amount) = Usd::parse(&text, Excess::RoundDown) {
                prop_assert!(amount >= Usd::ZERO);
            }
        }
    }
}
