//! How figures and tables look in a terminal, and how they are piped.
#![expect(clippy::print_stderr, reason = "this is where the command speaks")]

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use tollgate_domain::money::NANOS_PER_USD;
use tollgate_domain::{Timestamp, Usd};

/// How far something long is, on stderr; nothing where that is no terminal.
pub fn progress(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(0).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent}%, {eta} left") {
        bar.set_style(style);
    }
    bar
}

/// Which way an amount is rounded for display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Spent, held, charged: never shown as less.
    Up,
    /// Left: never shown as more.
    Down,
}

/// An amount for people: two decimals from a dollar on, four below, three significant digits below a cent.
pub fn short(amount: Usd, rounding: Rounding) -> String {
    let nanos = amount.nanos();
    let (sign, size) = if nanos < 0 { ("-", nanos.unsigned_abs()) } else { ("", nanos.unsigned_abs()) };
    let dollar = NANOS_PER_USD.unsigned_abs();
    let decimals: u32 = if size >= dollar {
        2
    } else if size >= dollar / 100 {
        4
    } else {
        // Three significant digits, down to the nano-dollar.
        9_u32.saturating_sub(size.checked_ilog10().unwrap_or(0).saturating_sub(2))
    };
    let unit = 10_u64.pow(9_u32.saturating_sub(decimals));
    let units = if (rounding == Rounding::Up) == sign.is_empty() { size.div_ceil(unit) } else { size / unit };
    let whole = units * unit / dollar;
    let rest = units * unit % dollar;
    let digits = format!("{rest:09}");
    let shown = digits.get(..usize::try_from(decimals).unwrap_or(9)).unwrap_or_default();
    let shown = if decimals == 2 { shown } else { shown.trim_end_matches('0') };
    match (whole, rest) {
        (0, 0) => "$0".to_owned(),
        (_, _) if shown.is_empty() || rest == 0 && decimals != 2 => format!("{sign}${}", grouped(whole)),
        (_, _) => format!("{sign}${}.{shown}", grouped(whole)),
    }
}

/// A limit as it was typed: no more decimals than it has.
pub fn typed(amount: Usd) -> String {
    format!("${amount}")
}

/// How long it is from one instant to another, in its two largest units: `9 d 9 h`, `12 min`, `less than 1 min`.
pub fn span(from: Timestamp, to: Timestamp) -> String {
    let minutes = to.micros_since(from).max(0) / 60_000_000;
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => "less than 1 min".to_owned(),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, 0) => format!("{hours} h"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, 0, _) => format!("{days} d"),
        (_, _, _) => format!("{days} d {hours} h"),
    }
}

/// How long ago something was, in its largest unit: `just now`, `2 min ago`, `3 h ago`.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    let minutes = now.micros_since(then) / 60_000_000;
    match minutes {
        ..1 => "just now".to_owned(),
        1..60 => format!("{minutes} min ago"),
        60..1440 => format!("{} h ago", minutes / 60),
        _ => format!("{} d ago", minutes / 1440),
    }
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its head.
    pub head: &'static str,
    /// Whether its cells stand at the right.
    pub right: bool,
}

/// Prints a table: aligned for people, tab-separated when piped.
pub fn table(columns: &[Column], rows: &[Vec<String>]) {
    let mut out = std::io::stdout().lock();
    let heads: Vec<String> = columns.iter().map(|column| column.head.to_owned()).collect();
    let text = if std::io::stdout().is_terminal() { aligned(columns, &heads, rows) } else { tabbed(&heads, rows) };
    // A reader that closed the pipe has seen enough.
    let _ = out.write_all(text.as_bytes());
}

fn tabbed(heads: &[String], rows: &[Vec<String>]) -> String {
    let lines = std::iter::once(heads).chain(rows.iter().map(Vec::as_slice));
    lines.map(|line| line.join("\t") + "\n").collect()
}

fn aligned(columns: &[Column], heads: &[String], rows: &[Vec<String>]) -> String {
    let width = |index: usize| {
        let cells = rows.iter().filter_map(|row| row.get(index)).chain(heads.get(index));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut out = String::new();
    for line in std::iter::once(heads).chain(rows.iter().map(Vec::as_slice)) {
        let cells = line.iter().zip(columns).zip(&widths).map(|((cell, column), width)| {
            if column.right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// Prints a result, alone on stdout.
pub fn result(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Tells people something beside the result.
pub fn note(text: &str) {
    eprintln!("{text}");
}

/// Whether a person reads stdout.
pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_the_units_that_matter() {
        let start = Timestamp::from_micros(0);
        let after = |minutes: i64| Timestamp::from_micros(minutes * 60_000_000);
        let spans = [
            (0, "less than 1 min"),
            (12, "12 min"),
            (60, "1 h"),
            (125, "2 h 5 min"),
            (1440, "1 d"),
            (1499, "1 d"),
            (9 * 1440 + 9 * 60 + 3, "9 d 9 h"),
        ];
        for (minutes, words) in spans {
            assert_eq!(span(start, after(minutes)), words);
        }
        let agos = [(0, "just now"), (2, "2 min ago"), (200, "3 h ago"), (5000, "3 d ago")];
        for (minutes, words) in agos {
            assert_eq!(ago(start, after(minutes)), words);
        }
        assert_eq!(ago(after(9), start), "just now", "clocks differ");
    }

    #[test]
    fn amounts_read_as_people_write_them() {
        let up = |nanos| short(Usd::from_nanos(nanos), Rounding::Up);
        assert_eq!(up(41_270_000_000), "$41.27");
        assert_eq!(up(13_700), "$0.0000137");
        assert_eq!(up(1), "$0.000000001");
        assert_eq!(up(0), "$0");
        assert_eq!(up(999_999_999), "$1");
        assert_eq!(up(4_100_000), "$0.0041");
        assert_eq!(up(1_000_000_000_000_000), "$1,000,000.00");
        assert_eq!(short(Usd::from_nanos(9_999_999_999), Rounding::Down), "$9.99");
        assert_eq!(short(Usd::from_nanos(-1_500_000_000), Rounding::Down), "-$1.50");
    }
}
