//! Does it all add up? Entries against balances, window by window; holds against what is held and against who owns them; sums by
//! hour against entries.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::{Amounts, Balance, Counter, MoneyKind, Scope};
use tollgate_domain::member::MemberId;
use tollgate_domain::time::{WindowId, WindowKind, Windows, window_end, window_start};
use tollgate_domain::workspace::WorkspaceId;
use tollgate_domain::{KeyId, Timestamp, Usd};
use tollgate_store::StoreError;

use crate::ground::{Engine, Ground};
use crate::rows;
use crate::state::State;
use crate::value::{Row, Unreadable, Value};

/// Why a clock that went back is not accepted: the end of such a call would be counted in a window that has not begun.
pub const ADMITTED_LATER: &str =
    "calls are in flight that were admitted after the time that is to be accepted; wait until they have ended";

/// Why a clock that went back is not accepted: what was spent could not be summed up in a moment of quiet.
pub const NOT_QUIET: &str = "calls were settled all the while; try again, or stop whoever calls";

/// What does not add up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A balance is not what its entries sum to.
    Spent {
        /// Whose.
        scope: Scope,
        /// In which money.
        kind: MoneyKind,
        /// In which window.
        window: WindowKind,
        /// What its entries sum to.
        entries: Usd,
        /// What it says.
        balance: Usd,
    },
    /// What a balance says is held is not what calls in flight hold.
    Held {
        /// Whose.
        scope: Scope,
        /// In which money.
        kind: MoneyKind,
        /// In which window.
        window: WindowKind,
        /// What calls hold.
        holds: Usd,
        /// What the balance says.
        balance: Usd,
    },
    /// The sums by hour of a key are not what its entries sum to.
    Rollup {
        /// The key.
        key: KeyId,
        /// In which money.
        kind: MoneyKind,
        /// What its entries sum to.
        entries: Usd,
        /// What its hours sum to.
        rollups: Usd,
    },
    /// A call is held as in flight that nobody owns: a reservation may be as old as its owner, and no older.
    Orphan {
        /// The generation.
        row: GenerationRow,
        /// When it was admitted.
        admitted_at: Timestamp,
    },
}

/// What was looked at, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Generations that have ended.
    pub generations: u64,
    /// Corrections.
    pub corrections: u64,
    /// Balances.
    pub balances: usize,
    /// Calls in flight, and when the oldest of them was admitted.
    pub in_flight: (usize, Option<Timestamp>),
    /// What was charged to the account for life, by its entries.
    pub charged: Amounts,
    /// What does not add up.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether sums by hour are among what does not add up.
    pub fn misses_hours(&self) -> bool {
        self.findings.iter().any(|finding| matches!(finding, Finding::Rollup { .. }))
    }
}

/// A balance that does not add up: as it was found, and as its entries say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Whose.
    pub scope: Scope,
    /// In the windows of the moment that was looked at.
    pub found: Balance,
    /// The same.
    pub right: Balance,
    /// Whether a counter of it belongs to a window that has not begun: nothing is counted in it until then.
    pub ahead: bool,
}

/// What is looked at, as of one moment.
#[derive(Clone, Debug, Default)]
pub struct Sighting {
    /// The moment.
    pub now: Timestamp,
    /// How many settlements there are, and how many corrections: one row.
    pub counts: Vec<Row>,
    /// Counters of balances: `scope, id, kind, span, number, spent, held`, any number of rows each.
    pub balances: Vec<Row>,
    /// Calls whose holds are in those balances: `key, workspace, member, credits, byok, admitted_at`.
    pub holds: Vec<Row>,
    /// What the hours of each key sum to: `key, credits, byok`.
    pub hours: Vec<Row>,
    /// Calls in flight that nobody owns: `row, admitted_at`.
    pub orphans: Vec<Row>,
    /// Entries, summed up: rows of [`entries`], any number of them each.
    pub entries: Vec<Row>,
    /// Calls in flight, and when the oldest of them was admitted.
    pub in_flight: (usize, Option<Timestamp>),
}

/// A question, with its values.
pub type Question = (String, Vec<Value>);

/// How many rows there are.
pub const COUNTS: &str = "SELECT (SELECT count(*) FROM settlements), (SELECT count(*) FROM corrections)";

/// See [`Sighting::hours`].
pub const HOURS: &str = "SELECT key, CAST(sum(credits) AS BIGINT), CAST(sum(byok) AS BIGINT) FROM rollups GROUP BY key";

/// The columns of settlements and corrections that [`entries`] sums up.
pub const ENTRY: &str = "key, workspace, admitted_at, credits, byok";

/// The query that sums up entries by whom they count for: for life, and in the three windows whose starts and ends are its first
/// six values.
pub fn entries(from: &str) -> String {
    let sum = |window: &str| {
        let of = |column| format!("CAST(sum({}) AS BIGINT)", window.replace("{}", column));
        format!("{}, {}", of("e.credits"), of("e.byok"))
    };
    let within = |first: usize| {
        sum(&format!("CASE WHEN e.admitted_at >= ?{first} AND e.admitted_at < ?{} THEN {{}} ELSE 0 END", first + 1))
    };
    format!(
        "SELECT e.key, e.workspace, k.creator, {}, {}, {}, {}
FROM ({from}) e LEFT JOIN keys k ON k.id = e.key
GROUP BY e.key, e.workspace, k.creator",
        sum("{}"),
        within(1),
        within(3),
        within(5)
    )
}

/// The first values of [`entries`]: the windows at `now`.
pub fn spans(now: Timestamp) -> Vec<Value> {
    let windows = Windows::at(now);
    let span = |kind: &WindowKind| {
        let from = window_start(*kind, windows.of(*kind)).map_or(i64::MIN, Timestamp::micros);
        let end = window_end(*kind, now).map_or(i64::MAX, Timestamp::micros);
        [Value::from(from), Value::from(end)]
    };
    WindowKind::ALL.iter().skip(1).flat_map(span).collect()
}

/// The query of what the sums by hour lack, and of what they have too much: rows of `rollups`, where any number is not 0.
pub fn missing_hours() -> String {
    const NUMBERS: [&str; 7] = ["requests", "prompt", "cached", "completion", "reasoning", "credits", "byok"];
    let list = |each: &dyn Fn(&str) -> String, between| NUMBERS.map(each).join(between);
    format!(
        "SELECT hour, key, workspace, price, {}
FROM (SELECT admitted_at / 3600000000 AS hour, key, workspace, price, 1 AS requests, coalesce(prompt, 0) AS prompt,
        coalesce(cached, 0) AS cached, coalesce(completion, 0) AS completion, coalesce(reasoning, 0) AS reasoning, credits, byok
    FROM settlements WHERE outcome <> 'released'
    UNION ALL SELECT c.admitted_at / 3600000000, c.key, c.workspace, s.price, 0, 0, 0, 0, 0, c.credits, c.byok
    FROM corrections c JOIN settlements s ON s.row = c.row
    UNION ALL SELECT hour, key, workspace, price, {} FROM rollups) AS d
GROUP BY hour, key, workspace, price HAVING {}",
        list(&|name| format!("CAST(sum({name}) AS BIGINT)"), ", "),
        list(&|name| format!("-{name}"), ", "),
        list(&|name| format!("sum({name}) <> 0"), " OR "),
    )
}

/// What entries sum to.
#[derive(Default)]
struct Sums(BTreeMap<Scope, Amounts>);

impl Sums {
    /// Adds rows that begin with a key, its workspace and its creator, with the amounts that begin in this column.
    fn add<'a>(&mut self, rows: impl IntoIterator<Item = &'a Row>, column: usize) -> Result<(), Unreadable> {
        for row in rows {
            let key = KeyId(row.get(0)?);
            let amounts = amounts(row, column)?;
            let member = row.get::<Option<i64>>(2)?.map(|id| Scope::Member(MemberId(id)));
            let scopes = [Scope::Account, Scope::Workspace(WorkspaceId(row.get(1)?)), Scope::Key(key)];
            for scope in scopes.into_iter().chain(member) {
                let sum = self.0.entry(scope).or_default();
                *sum = Amounts {
                    credits: [sum.credits, amounts.credits].into_iter().sum(),
                    byok: [sum.byok, amounts.byok].into_iter().sum(),
                };
            }
        }
        Ok(())
    }

    fn of(&self, scope: Scope, kind: MoneyKind) -> Usd {
        self.0.get(&scope).copied().unwrap_or_default().of(kind)
    }
}

fn amounts(row: &Row, column: usize) -> Result<Amounts, Unreadable> {
    Ok(Amounts { credits: Usd::from_nanos(row.get(column)?), byok: Usd::from_nanos(row.get(column + 1)?) })
}

/// What a sighting comes to: a report, and the balances that do not add up.
///
/// # Errors
/// A row is not what it should be.
pub fn examine(state: &State, sighting: &Sighting) -> Result<(Report, Vec<Wrong>), Unreadable> {
    let mut report = Report { in_flight: sighting.in_flight, ..Report::default() };
    if let Some(counts) = sighting.counts.first() {
        report.generations = counts.get::<i64>(0)?.unsigned_abs();
        report.corrections = counts.get::<i64>(1)?.unsigned_abs();
    }
    let stored = stored(&sighting.balances)?;
    let windows = Windows::at(sighting.now);
    let (mut held, mut entries) = (Vec::new(), Vec::new());
    for (place, window) in WindowKind::ALL.into_iter().enumerate() {
        // What was held in an older window is no longer held in this one.
        let mut here = Vec::new();
        for row in &sighting.holds {
            let admitted = Windows::at(Timestamp::from_micros(row.get(5)?));
            here.extend((admitted.of(window) == windows.of(window)).then_some(row));
        }
        let mut sums = Sums::default();
        sums.add(here, 3)?;
        held.push(sums);
        let mut sums = Sums::default();
        sums.add(&sighting.entries, 3 + 2 * place)?;
        entries.push(sums);
    }
    let Some(for_life) = entries.first() else { return Ok((report, Vec::new())) };
    report.charged = for_life.0.get(&Scope::Account).copied().unwrap_or_default();
    // What was spent with a key that is gone is kept with its workspace and its member.
    let counts = |scope: &Scope| !matches!(scope, Scope::Key(key) if state.book.key(*key).is_none());
    let scopes: BTreeSet<Scope> = stored.keys().chain(for_life.0.keys()).copied().filter(counts).collect();
    report.balances = scopes.len();
    let mut wrong = Vec::new();
    for scope in scopes {
        let stored = stored.get(&scope).cloned().unwrap_or_default();
        let (mut found, mut right) = (Balance::default(), Balance::default());
        let (before, mut ahead) = (report.findings.len(), false);
        for kind in MoneyKind::ALL {
            for (window, (sums, holds)) in WindowKind::ALL.into_iter().zip(entries.iter().zip(&held)) {
                let id = windows.of(window);
                ahead |= stored.counter(kind, window).window > id;
                let is = Counter {
                    window: id,
                    spent: stored.spent(kind, window, &windows),
                    held: stored.held(kind, window, &windows),
                };
                let should = Counter { window: id, spent: sums.of(scope, kind), held: holds.of(scope, kind) };
                found.put(kind, window, is);
                right.put(kind, window, should);
                if is.spent != should.spent {
                    let (entries, balance) = (should.spent, is.spent);
                    report.findings.push(Finding::Spent { scope, kind, window, entries, balance });
                }
                if is.held != should.held {
                    let (holds, balance) = (should.held, is.held);
                    report.findings.push(Finding::Held { scope, kind, window, holds, balance });
                }
            }
        }
        if ahead || report.findings.len() > before {
            wrong.push(Wrong { scope, found, right, ahead });
        }
    }
    hours(&sighting.hours, for_life, &mut report)?;
    for row in &sighting.orphans {
        let (row, admitted_at) = (GenerationRow(row.get(0)?), Timestamp::from_micros(row.get(1)?));
        report.findings.push(Finding::Orphan { row, admitted_at });
    }
    Ok((report, wrong))
}

fn hours(rows: &[Row], entries: &Sums, report: &mut Report) -> Result<(), Unreadable> {
    let mut by_key = BTreeMap::new();
    for row in rows {
        by_key.insert(KeyId(row.get(0)?), amounts(row, 1)?);
    }
    let with_entries = entries.0.keys().filter_map(|scope| if let Scope::Key(key) = scope { Some(*key) } else { None });
    for key in with_entries.chain(by_key.keys().copied()).collect::<BTreeSet<_>>() {
        let sums = by_key.get(&key).copied().unwrap_or_default();
        for kind in MoneyKind::ALL {
            let (entries, rollups) = (entries.of(Scope::Key(key), kind), sums.of(kind));
            if entries != rollups {
                report.findings.push(Finding::Rollup { key, kind, entries, rollups });
            }
        }
    }
    Ok(())
}

/// Balances from their counters: `scope, id, kind, span, number, spent, held`, any number of rows each.
fn stored(rows: &[Row]) -> Result<BTreeMap<Scope, Balance>, Unreadable> {
    let mut stored: BTreeMap<Scope, Balance> = BTreeMap::new();
    for row in rows {
        let scope = rows::scope(&row.get::<String>(0)?, row.get(1)?);
        let kind = rows::kind(&row.get::<String>(2)?);
        let window = rows::window(&row.get::<String>(3)?);
        let (Some(scope), Some(kind), Some(window)) = (scope, kind, window) else {
            return Err(Unreadable::new(0, "there is no such balance"));
        };
        let counter = Counter {
            window: WindowId(row.get(4)?),
            spent: Usd::from_nanos(row.get(5)?),
            held: Usd::from_nanos(row.get(6)?),
        };
        let mut part = Balance::default();
        part.put(kind, window, counter);
        let sum = stored.entry(scope).or_default();
        *sum = sum.plus(&part);
    }
    Ok(stored)
}

impl<G: Ground> Engine<G> {
    /// Looks whether everything adds up, as of one moment.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn examine(&self) -> Result<Report, StoreError> {
        let sighting = self.sight().await?;
        let examined = self.glance(|state, _| examine(state, &sighting));
        Ok(examined?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_of_a_key_without_entries_do_not_add_up() {
        let row = Row::new([7_i64, 100, 0].map(Value::from).to_vec());
        let mut report = Report::default();
        hours(&[row], &Sums::default(), &mut report).unwrap();
        let (key, kind) = (KeyId(7), MoneyKind::Credits);
        let rollups = Usd::from_nanos(100);
        assert_eq!(report.findings, [Finding::Rollup { key, kind, entries: Usd::ZERO, rollups }]);
    }
}
