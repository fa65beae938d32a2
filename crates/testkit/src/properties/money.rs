//! A text is the amount that it says, or an error; and an amount that is printed is read as itself.

use std::cmp::Ordering;

use tollgate_domain::ledger::Fee;
use tollgate_domain::money::{Excess, NANOS_PER_USD, USD_MAX};
use tollgate_domain::{Price, Usd};
use tollgate_wire::Amount;

/// Digits that no amount has.
const DIGITS_MAX: i128 = 40;

pub fn holds(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let nanos = Decimal::read(text, 9);
    let most = i128::from(USD_MAX) * i128::from(NANOS_PER_USD);
    for excess in [Excess::RoundDown, Excess::RoundUp, Excess::Refuse] {
        let expected = nanos.and_then(|decimal| decimal.rounded(excess)).filter(|amount| (0..=most).contains(amount));
        let found = Usd::parse(text, excess);
        assert_eq!(found.ok().map(|amount| i128::from(amount.nanos())), expected, "{text} {excess:?}: {found:?}");
        if let Ok(amount) = found {
            assert_eq!(Usd::parse(&amount.to_string(), Excess::Refuse), Ok(amount));
        }
    }
    let signed = Usd::parse_signed(text, Excess::RoundDown);
    if let Ok(amount) = signed {
        assert_eq!(Usd::parse_signed(&amount.to_string(), Excess::Refuse), Ok(amount));
        assert_eq!(amount.nanos().cmp(&0) == Ordering::Less, text.starts_with('-') && amount != Usd::ZERO);
    }
    if let Ok(Amount(amount)) = serde_json::from_str(text) {
        assert_eq!(Usd::parse_signed(text.trim_ascii(), Excess::RoundDown), Ok(amount));
        assert_eq!(serde_json::to_string(&Amount(amount)).unwrap(), amount.to_string());
    }
    let picos = Decimal::read(text, 12).and_then(|decimal| decimal.rounded(Excess::RoundUp));
    let picos = picos.and_then(|picos| i64::try_from(picos).ok()).filter(|picos| *picos >= 0);
    let price = Price::parse(text);
    assert_eq!(price.ok().map(Price::picos), picos, "{text}: {price:?}");
    if let Ok(price) = price {
        assert_eq!(Price::parse(&price.to_string()), Ok(price));
    }
    if Fee::percent(text).is_ok() {
        let percent = Usd::parse(text, Excess::Refuse).unwrap();
        assert!(percent.nanos() <= 100 * NANOS_PER_USD);
    }
}

/// A number, cut behind the digits that are kept: the plain way, on its digits.
#[derive(Clone, Copy, Debug)]
struct Decimal {
    negative: bool,
    /// `None`: more than any amount.
    whole: Option<i128>,
    lost: bool,
}

impl Decimal {
    /// `None` where the text is no number.
    fn read(text: &str, decimals: i128) -> Option<Self> {
        let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = match rest.find(['e', 'E']) {
            None => (rest, 0),
            Some(at) => (&rest[..at], exponent(&rest[at + 1..])?),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return None;
        }
        let all = format!("{whole}{fraction}");
        let all = all.trim_start_matches('0');
        let shift = decimals + exponent - i128::try_from(fraction.len()).unwrap();
        let kept = i128::try_from(all.len()).unwrap() + shift;
        if all.is_empty() || kept <= 0 {
            return Some(Self { negative, whole: Some(0), lost: !all.is_empty() });
        }
        if kept > DIGITS_MAX {
            return Some(Self { negative, whole: None, lost: false });
        }
        let kept = usize::try_from(kept).unwrap();
        let (kept_digits, cut) = all.split_at(kept.min(all.len()));
        let whole = format!("{kept_digits:0<kept$}").parse().ok();
        Some(Self { negative, whole, lost: cut.bytes().any(|byte| byte != b'0') })
    }

    /// The amount; `None` where there is none.
    fn rounded(self, excess: Excess) -> Option<i128> {
        let whole = self.whole?;
        if self.negative && (whole != 0 || self.lost) {
            return None;
        }
        match (self.lost, excess) {
            (false, _) | (true, Excess::RoundDown) => Some(whole),
            (true, Excess::RoundUp) => whole.checked_add(1),
            (true, Excess::Refuse) => None,
        }
    }
}

/// An exponent; one of more than thirty digits is as good as any other of them.
fn exponent(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    let size: i128 = if digits.len() > 30 { 10_i128.pow(30) } else { digits.parse().unwrap_or(0) };
    Some(if negative { -size } else { size })
}
