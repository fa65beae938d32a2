//! Does it all add up? Entries against balances, window by window; holds against what is held; sums by hour against entries.

use std::collections::BTreeMap;

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
    /// Calls in flight, and those of them that nobody owns any more.
    pub holds: usize,
    /// What the entries of the account sum to.
    pub charged: Amounts,
    /// What does not add up.
    pub findings: Vec<Finding>,
}

// `{only}` leaves out entries that are not in the balances yet.
const ENTRIES: &str =
    "SELECT e.key, e.workspace, k.creator, CAST(sum(e.credits) AS BIGINT), CAST(sum(e.byok) AS BIGINT)
FROM (SELECT key, workspace, admitted_at, credits, byok FROM settlements{only}
    UNION ALL SELECT key, workspace, admitted_at, credits, byok FROM corrections{only}) e
    LEFT JOIN keys k ON k.id = e.key
WHERE e.admitted_at >= ?1 AND e.admitted_at < ?2
GROUP BY e.key, e.workspace, k.creator";

const ROLLUPS: &str = "SELECT key, CAST(sum(credits) AS BIGINT), CAST(sum(byok) AS BIGINT) FROM rollups GROUP BY key";

const COUNTS: &str = "SELECT (SELECT count(*) FROM settlements), (SELECT count(*) FROM corrections)";

/// A question, with its values.
pub type Question = (String, Vec<Value>);

/// What entries sum to.
#[derive(Default)]
struct Sums(BTreeMap<Scope, Amounts>);

impl Sums {
    fn add(&mut self, rows: &[Row]) -> Result<(), Unreadable> {
        for row in rows {
            let key = KeyId(row.get(0)?);
            let amounts = amounts(row, 3)?;
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

/// Everything that is asked, of one moment: counts, balances, holds, sums by hour, then the entries of each window.
pub fn questions((balances, holds, only): (&str, &str, &str), now: Timestamp) -> Vec<Question> {
    let plain = [COUNTS, balances, holds, ROLLUPS].map(|sql| (sql.to_owned(), Vec::new()));
    let windows = Windows::at(now);
    let entries = WindowKind::ALL.into_iter().map(|kind| {
        let from = window_start(kind, windows.of(kind));
        let end = window_end(kind, now).map_or(i64::MAX, Timestamp::micros);
        (ENTRIES.replace("{only}", only), vec![Value::from(from.map_or(i64::MIN, Timestamp::micros)), Value::from(end)])
    });
    plain.into_iter().chain(entries).collect()
}

/// What the answers come to: a report, and the balances as they should be.
pub fn examine(
    state: &State,
    now: Timestamp,
    answers: &[Vec<Row>],
) -> Result<(Report, Vec<(Scope, Balance)>), Unreadable> {
    let empty = Vec::new();
    let answer = |place: usize| answers.get(place).unwrap_or(&empty);
    let mut report = Report::default();
    if let Some(counts) = answer(0).first() {
        report.generations = counts.get::<i64>(0)?.unsigned_abs();
        report.corrections = counts.get::<i64>(1)?.unsigned_abs();
    }
    let stored = stored(answer(1))?;
    report.holds = answer(2).len();
    let windows = Windows::at(now);
    let mut held = Vec::new();
    for window in WindowKind::ALL {
        // What was held in an older window is no longer held in this one.
        let mut here = Vec::new();
        for row in answer(2) {
            let admitted = Windows::at(Timestamp::from_micros(row.get(5)?));
            here.extend((admitted.of(window) == windows.of(window)).then(|| row.clone()));
        }
        let mut sums = Sums::default();
        sums.add(&here)?;
        held.push(sums);
    }
    let mut entries = Vec::new();
    for (place, _) in WindowKind::ALL.into_iter().enumerate() {
        let mut sums = Sums::default();
        sums.add(answer(place + 4))?;
        entries.push(sums);
    }
    let Some(for_life) = entries.first() else { return Ok((report, Vec::new())) };
    report.charged = for_life.0.get(&Scope::Account).copied().unwrap_or_default();
    // What was spent with a key that is gone is kept with its workspace and its member.
    let counts = |scope: &Scope| !matches!(scope, Scope::Key(key) if state.book.key(*key).is_none());
    let scopes: std::collections::BTreeSet<Scope> =
        stored.keys().chain(for_life.0.keys()).copied().filter(counts).collect();
    report.balances = scopes.len();
    let mut right = Vec::new();
    for scope in scopes {
        let found = stored.get(&scope).cloned().unwrap_or_default();
        let mut balance = Balance::default();
        let before = report.findings.len();
        for kind in MoneyKind::ALL {
            for (window, (sums, held)) in WindowKind::ALL.into_iter().zip(entries.iter().zip(&held)) {
                let (spent, held) = (sums.of(scope, kind), held.of(scope, kind));
                balance.put(kind, window, Counter { window: windows.of(window), spent, held });
                let balance = found.spent(kind, window, &windows);
                if balance != spent {
                    report.findings.push(Finding::Spent { scope, kind, window, entries: spent, balance });
                }
                let balance = found.held(kind, window, &windows);
                if balance != held {
                    report.findings.push(Finding::Held { scope, kind, window, holds: held, balance });
                }
            }
        }
        if report.findings.len() > before {
            right.push((scope, balance));
        }
    }
    rollups(answer(3), for_life, &mut report)?;
    Ok((report, right))
}

fn rollups(rows: &[Row], entries: &Sums, report: &mut Report) -> Result<(), Unreadable> {
    let mut by_key = BTreeMap::new();
    for row in rows {
        by_key.insert(KeyId(row.get(0)?), amounts(row, 1)?);
    }
    for scope in entries.0.keys() {
        let Scope::Key(key) = scope else { continue };
        let sums = by_key.get(key).copied().unwrap_or_default();
        for kind in MoneyKind::ALL {
            let (entries, rollups) = (entries.of(*scope, kind), sums.of(kind));
            if entries != rollups {
                report.findings.push(Finding::Rollup { key: *key, kind, entries, rollups });
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
        let now = self.look(crate::no_sums, |_, now| now).await?;
        let answers = self.snapshot(questions(self.inspection(), now)).await?;
        let examined = self.glance(|state, _| examine(state, now, &answers));
        Ok(examined?.0)
    }

    /// The same, and writes balances that do not add up anew, as their entries say. What is reported is what was found.
    ///
    /// # Errors
    /// The database cannot be read or written; nothing was changed.
    pub async fn mend(&self) -> Result<Report, StoreError> {
        self.mend_with(examine).await
    }
}
