//! What can be told by its shape, and by a check where it has one: addresses, telephone and card numbers.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::LazyLock;

use super::{Builtin, Pattern, Taken, Work, alone};

/// A pattern that finds candidates, and what is one of them: how much of it, if it is.
struct Detector {
    pattern: Option<Pattern>,
    check: fn(&str, &Range<usize>) -> Option<Range<usize>>,
}

impl Detector {
    fn new(pattern: &str, check: fn(&str, &Range<usize>) -> Option<Range<usize>>) -> Self {
        Self { pattern: Pattern::built_in(pattern), check }
    }
}

static EMAIL: LazyLock<Detector> =
    LazyLock::new(|| Detector::new(r"[\w.%+'-]+@[\w-]+(?:\.[\w-]+)+", |_, range| Some(range.clone())));

static PHONE: LazyLock<Detector> = LazyLock::new(|| {
    let national = r"(?:\+?1[ .-]?)?(?:\([2-9][0-9]{2}\)[ .-]?|[2-9][0-9]{2}[ .-]?)[2-9][0-9]{2}[ .-]?[0-9]{4}";
    let elsewhere = r"\+[1-9][0-9]{0,2}(?:[ .()/-]{0,2}[0-9]){6,13}";
    Detector::new(&format!("{elsewhere}|{national}"), |text, range| {
        let within = digits(text, range).count() <= 15;
        (within && alone(text, range)).then(|| range.clone())
    })
});

static SSN: LazyLock<Detector> =
    LazyLock::new(|| Detector::new(r"\b[0-9]{3}[- ][0-9]{2}[- ][0-9]{4}\b", social_security_number));

static CREDIT_CARD: LazyLock<Detector> = LazyLock::new(|| {
    let in_fours = r"[2-6][0-9]{3}[ -][0-9]{4}[ -][0-9]{4}[ -][0-9]{1,4}(?:[ -][0-9]{3})?";
    let american_express = r"3[47][0-9]{2}[ -][0-9]{6}[ -][0-9]{5}";
    Detector::new(&format!(r"\b(?:[2-6][0-9]{{12,18}}|{in_fours}|{american_express})\b"), card_number)
});

static IP_ADDRESS: LazyLock<Detector> = LazyLock::new(|| {
    let v6 = r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,8}(?:(?:\.[0-9]{1,3}){3})?";
    Detector::new(&format!(r"(?:[0-9]{{1,3}}\.){{3}}[0-9]{{1,3}}|{v6}"), ip_address)
});

/// Where something of this kind is; `None` where that cannot be told within `work`.
pub fn find(kind: Builtin, text: &str, work: &mut Work) -> Option<Vec<Range<usize>>> {
    let detector = match kind {
        Builtin::Email => &EMAIL,
        Builtin::Phone => &PHONE,
        Builtin::Ssn => &SSN,
        Builtin::CreditCard => &CREDIT_CARD,
        Builtin::IpAddress => &IP_ADDRESS,
        Builtin::PromptInjection => return Some(Vec::new()),
    };
    let take = |range: Range<usize>| {
        (detector.check)(text, &range).map_or(Taken::No(range.start.saturating_add(1)), Taken::Yes)
    };
    detector.pattern.as_ref()?.matches(text, work, take).ok()
}

fn digits<'a>(text: &'a str, range: &Range<usize>) -> impl Iterator<Item = u32> + 'a {
    text.get(range.clone()).unwrap_or_default().chars().filter_map(|c| c.to_digit(10))
}

/// Numbers that were never given out are not one.
fn social_security_number(text: &str, range: &Range<usize>) -> Option<Range<usize>> {
    let parts: Vec<&str> = text.get(range.clone())?.split(['-', ' ']).collect();
    let [area, group, serial] = parts.as_slice() else { return None };
    let given = !matches!(*area, "000" | "666") && !area.starts_with('9') && *group != "00" && *serial != "0000";
    given.then(|| range.clone())
}

/// 13 to 19 digits whose last one checks the others, or four groups of four as they stand on a card, mistyped or not. What
/// follows a number may look like more of it.
fn card_number(text: &str, range: &Range<usize>) -> Option<Range<usize>> {
    let ends = (range.start..=range.end).rev().map(|end| range.start..end);
    ends.filter(|range| text.is_char_boundary(range.end) && alone(text, range))
        .find(|range| in_fours(text, range) || ((13..=19).contains(&digits(text, range).count()) && luhn(text, range)))
}

fn in_fours(text: &str, range: &Range<usize>) -> bool {
    let candidate = text.get(range.clone()).unwrap_or_default();
    [' ', '-'].into_iter().any(|gap| {
        let groups: Vec<&str> = candidate.split(gap).collect();
        groups.len() == 4 && groups.iter().all(|group| group.len() == 4 && group.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// Whether the last digit is the check of the others (ISO/IEC 7812).
fn luhn(text: &str, range: &Range<usize>) -> bool {
    let digits: Vec<u32> = digits(text, range).collect();
    let weigh = |(place, digit): (usize, &u32)| match (place % 2, digit.saturating_mul(2)) {
        (0, _) => *digit,
        (_, double) if double > 9 => double.saturating_sub(9),
        (_, double) => double,
    };
    digits.iter().rev().enumerate().map(weigh).sum::<u32>() % 10 == 0
}

/// What the standard library reads as one. A sentence may end behind it.
fn ip_address(text: &str, range: &Range<usize>) -> Option<Range<usize>> {
    let candidate = text.get(range.clone())?;
    let whole = alone(text, range) && !text.get(range.end..)?.starts_with(':');
    if candidate.parse::<Ipv4Addr>().is_ok() {
        let tail = text.get(range.end..)?.strip_prefix('.').unwrap_or_default();
        let version = tail.starts_with(|c: char| c.is_ascii_digit()) || text.get(..range.start)?.ends_with('.');
        return (alone(text, range) && !version).then(|| range.clone());
    }
    // `a::b` is a path in many languages: an address has a digit.
    let short = candidate.strip_suffix(':').filter(|short| !short.ends_with(':'));
    let address = short.filter(|_| !whole || candidate.parse::<Ipv6Addr>().is_err()).unwrap_or(candidate);
    let range = range.start..range.start.saturating_add(address.len());
    let numbered = address.chars().any(|c| c.is_ascii_digit());
    (numbered && alone(text, &range) && address.parse::<Ipv6Addr>().is_ok()).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(kind: Builtin, text: &str) -> Vec<&str> {
        let ranges = find(kind, text, &mut Work::on(text.len())).unwrap();
        ranges.into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn what_is_one_is_found_and_what_only_looks_like_one_is_not() {
        for (kind, text, expected) in [
            (
                Builtin::Email,
                "ask name+tag@domain.co, or jörg@bücher.example. not a@b nor @x.y",
                &["name+tag@domain.co", "jörg@bücher.example"] as &[_],
            ),
            (
                Builtin::Phone,
                "914-309-4996 914.309.4996 9143094996 (914) 309-4996 +1 914 309 4996 +49 30 901820 +44 20 7946 0958",
                &[
                    "914-309-4996",
                    "914.309.4996",
                    "9143094996",
                    "(914) 309-4996",
                    "+1 914 309 4996",
                    "+49 30 901820",
                    "+44 20 7946 0958",
                ],
            ),
            (Builtin::Phone, "at 1700000000, id 99143094996123, x9143094996", &[]),
            (Builtin::Ssn, "123-45-6789 and 123 45 6789", &["123-45-6789", "123 45 6789"]),
            (Builtin::Ssn, "000-45-6789 666-45-6789 987-65-4321 123-00-6789 123-45-0000 1123-45-6789", &[]),
            (
                Builtin::CreditCard,
                "4265 5256 0839 8752, 4265-5256-0839-8752; 5 4111111111111111 12 3782 822463 10005 4111 1111 1111 1111 123",
                &[
                    "4265 5256 0839 8752",
                    "4265-5256-0839-8752",
                    "4111111111111111",
                    "3782 822463 10005",
                    "4111 1111 1111 1111",
                ],
            ),
            (
                Builtin::CreditCard,
                "4265525608398753 4265 52560839 8753 1111111111111111 41111111111111111111 309-4996 123-45-6789 4265",
                &[],
            ),
            (
                Builtin::IpAddress,
                "192.168.0.1, 10.0.0.1. 2001:db8::ff00:42:8329 fe80::1: ::1 ::ffff:10.0.0.1",
                &["192.168.0.1", "10.0.0.1", "2001:db8::ff00:42:8329", "fe80::1", "::1", "::ffff:10.0.0.1"],
            ),
            (Builtin::IpAddress, "1.2.3.4.5 300.1.1.1 12:34:56 de::fad std::vec a :: b 00:1b:44:11:3a:b7", &[]),
        ] {
            assert_eq!(found(kind, text), expected, "{kind:?}");
        }
    }

    #[test]
    fn a_long_text_of_candidates_is_read_in_proportion() {
        for (kind, part) in [
            (Builtin::Email, "a.b%c+d-e'f"),
            (Builtin::Phone, "9143094996 91430949961 "),
            (Builtin::Ssn, "000-00-0000 "),
            (Builtin::CreditCard, "4265525608398753 "),
            (Builtin::IpAddress, "a:b:c:d:e:f:"),
        ] {
            let text = part.repeat((1 << 20) / part.len());
            let mut work = Work::on(text.len());
            find(kind, &text, &mut work);
            assert!(work.used() <= 18 * text.len(), "{kind:?}: {}", work.used());
        }
    }
}
