//! What the doctor looks at, and how it is put right while the nodes are at work.
//!
//! Entries and balances grow together, so what they differ by stays the same however much is spent meanwhile. It is found
//! without a lock, however long that takes, and then added in one short change.

use std::collections::BTreeMap;

use tollgate_domain::ledger::{Balance, Counter, MoneyKind, Scope};
use tollgate_domain::time::{WindowKind, Windows};
use tollgate_domain::{Timestamp, Usd};
use tollgate_engine::doctor::{self, COUNTS, ENTRY, HOURS, Question, Report, Sighting, Wrong};
use tollgate_engine::{CLOCK, Ground, Row, SET_META, Statement, Unreadable, Value, no_sums, scope_columns, statement};
use tollgate_store::StoreError;

use crate::ground::Acting;
use crate::node::{Node, unavailable};
use crate::seam::{Change, Database};

/// How often a sighting is tried that finds what another node gave up a moment ago.
const SIGHTINGS_MAX: usize = 3;

/// How often it is tried to find a moment in which nothing is settled.
const ACCEPTS_MAX: usize = 10;

const CLOCK_ITSELF: &str = "SELECT ledger_clock()";

/// From here on the server lets the change think; and then as long as any.
const PATIENT: &str = "SELECT set_config('idle_in_transaction_session_timeout', '60s', true)";
const USUAL: &str = "SELECT set_config(name, reset_val, true) FROM pg_settings
WHERE name = 'idle_in_transaction_session_timeout'";

/// What one change puts right, at most.
const MENDED_MAX: usize = 1_000;

// The oldest few say enough.
const ORPHANS: &str = "SELECT row, admitted_at FROM holds h
WHERE NOT EXISTS (SELECT FROM nodes n WHERE n.boot = h.row >> 37) ORDER BY row LIMIT 100";

const BALANCES: &str = "SELECT scope, id, CASE WHEN place <= 4 THEN 'credits' ELSE 'byok' END,
    (ARRAY['lifetime', 'daily', 'weekly', 'monthly'])[(place - 1) % 4 + 1], u.number, u.spent, u.held
FROM balances, unnest(number, spent, held) WITH ORDINALITY AS u (number, spent, held, place)";

const HOLDS: &str = "SELECT key, workspace, member, credits, byok, admitted_at FROM holds";

/// When something was put right last.
const MENDED: &str = "SELECT value FROM meta WHERE name = 'mended'";

const ADD_HOUR: &str = "INSERT INTO rollups AS r
    (hour, key, workspace, price, node, requests, prompt, cached, completion, reasoning, credits, byok)
VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
ON CONFLICT (hour, key, workspace, price, node) DO UPDATE SET requests = r.requests + excluded.requests,
    prompt = r.prompt + excluded.prompt, cached = r.cached + excluded.cached,
    completion = r.completion + excluded.completion, reasoning = r.reasoning + excluded.reasoning,
    credits = r.credits + excluded.credits, byok = r.byok + excluded.byok";

fn question(sql: &str) -> Question {
    (sql.to_owned(), Vec::new())
}

impl<D: Database> Node<D> {
    /// What the doctor looks at, in the windows of now or of another time, and when something was put right last.
    pub(crate) async fn look_at_all(&self, at: Option<Timestamp>) -> Result<(Sighting, Vec<Row>), StoreError> {
        let mut tries = 0;
        loop {
            tries += 1;
            // What is nobody's is every node's to end.
            self.expire_orphans().await?;
            let now = if let Some(at) = at { at } else { self.look(no_sums, |_, now| now).await? };
            let both = format!("SELECT {ENTRY} FROM settlements UNION ALL SELECT {ENTRY} FROM corrections");
            let plain = [COUNTS, BALANCES, HOLDS, HOURS, ORPHANS, MENDED].map(question);
            let questions = plain.into_iter().chain([(doctor::entries(&both), doctor::spans(now))]).collect();
            let mut answers = self.shared.database.snapshot(questions).await.map_err(unavailable)?.into_iter();
            let mut next = || answers.next().unwrap_or_default();
            let (counts, balances, holds, hours, orphans, mended) = (next(), next(), next(), next(), next(), next());
            let entries = next();
            // A window may have ended meanwhile.
            let later = if at.is_some() { now } else { self.look(no_sums, |_, now| now).await? };
            let passed = Windows::at(later) != Windows::at(now);
            if (passed || !orphans.is_empty()) && tries < SIGHTINGS_MAX {
                continue;
            }
            let oldest = holds.iter().map(|row| row.get(5)).collect::<Result<Vec<i64>, _>>()?.into_iter().min();
            let in_flight = (holds.len(), oldest.map(Timestamp::from_micros));
            let sighting = Sighting { now, counts, balances, holds, hours, orphans, entries, in_flight };
            return Ok((sighting, mended));
        }
    }

    /// Takes the clock as it is, on every node. Where it went back, counters of windows that have not begun are summed anew for those
    /// of that time, from the entries: else nothing would count in them until then. While the clock is off nothing is admitted, so it is
    /// quiet.
    pub(crate) async fn take_clock(&self) -> Result<Timestamp, StoreError> {
        let clock =
            |rows: &[Row]| Ok::<_, Unreadable>(Timestamp::from_micros(rows.first().map_or(Ok(0), |row| row.get(0))?));
        for _ in 0..ACCEPTS_MAX {
            // By itself: what any node saw may be what is to be forgotten.
            let told = self.shared.database.query(CLOCK_ITSELF, Vec::new()).await.map_err(unavailable)?;
            let (mut sighting, _) = self.look_at_all(Some(clock(&told)?)).await?;
            let (_alone, mut change) = self.begin_change().await?;
            let now = clock(&change.query(CLOCK_ITSELF, Vec::new()).await.map_err(unavailable)?)?;
            // A large ledger takes longer to add up than a batch may think.
            change.query(PATIENT, Vec::new()).await.map_err(unavailable)?;
            let hours = change.query(HOURS, Vec::new()).await.map_err(unavailable)?;
            let quiet = by_key(&hours)? == by_key(&sighting.hours)? && Windows::at(now) == Windows::at(sighting.now);
            sighting.holds = change.query(HOLDS, Vec::new()).await.map_err(unavailable)?;
            let admitted = sighting.holds.iter().map(|row| row.get::<i64>(5)).collect::<Result<Vec<_>, _>>()?;
            let acting = loop {
                let (_, version) = self.keep_up(&mut change).await?;
                let mut live = self.shared.live.lock();
                if live.version == version {
                    break Acting::begin(self, &mut live);
                }
            };
            let (_, mut wrong) = self.glance(|state, _| doctor::examine(state, &sighting))?;
            wrong.retain(|wrong| wrong.ahead);
            if !wrong.is_empty() {
                if admitted.iter().any(|at| *at > now.micros()) {
                    return acting.undone(Err(StoreError::Unavailable(doctor::ADMITTED_LATER.to_owned())));
                }
                if !quiet {
                    acting.undone(());
                    continue;
                }
            }
            change.query(USUAL, Vec::new()).await.map_err(unavailable)?;
            self.glance(|state, _| state.accept_clock(now));
            let balances = wrong.iter().flat_map(|wrong| rewritten(wrong.scope, &wrong.right));
            // Every node hears of it with what else management changed.
            let seen = statement("UPDATE nodes SET seen = ?1", vec![Value::from(now.micros())]);
            let statements = [seen, noted(CLOCK, now)].into_iter().chain(balances).collect();
            self.end_change(change, statements, acting).await?;
            return Ok(now);
        }
        Err(StoreError::Unavailable(doctor::NOT_QUIET.to_owned()))
    }

    /// Puts right what does not add up.
    pub(crate) async fn put_right(&self) -> Result<Report, StoreError> {
        let mut first = None;
        loop {
            let (sighting, mended) = self.look_at_all(None).await?;
            let (report, mut wrong) = self.glance(|state, _| doctor::examine(state, &sighting))?;
            let mut missing = if report.misses_hours() {
                let questions = vec![question(&doctor::missing_hours()), question(MENDED)];
                let mut answers = self.shared.database.snapshot(questions).await.map_err(unavailable)?;
                if answers.pop().unwrap_or_default() != mended {
                    continue;
                }
                answers.pop().unwrap_or_default()
            } else {
                Vec::new()
            };
            if wrong.is_empty() && missing.is_empty() {
                return Ok(first.unwrap_or(report));
            }
            let more = wrong.len().max(missing.len()) > MENDED_MAX;
            wrong.truncate(MENDED_MAX);
            missing.truncate(MENDED_MAX);
            let (_alone, mut change) = self.begin_change().await?;
            let scopes: Vec<Scope> = wrong.iter().map(|wrong| wrong.scope).collect();
            let sums = change.sums(&scopes).await.map_err(unavailable)?;
            let same = change.query(MENDED, Vec::new()).await.map_err(unavailable)? == mended;
            let (acting, now) = loop {
                let (now, version) = self.keep_up(&mut change).await?;
                let mut live = self.shared.live.lock();
                if live.version == version {
                    break (Acting::begin(self, &mut live), now);
                }
            };
            // Another doctor was faster, or a window ended: what was found is old.
            if !same || Windows::at(now) != Windows::at(sighting.now) {
                acting.undone(());
                continue;
            }
            let windows = Windows::at(now);
            let balances = wrong
                .iter()
                .zip(&sums)
                .flat_map(|(wrong, (sum, _))| rewritten(wrong.scope, &moved(wrong, sum, &windows)));
            let hours = missing.iter().map(|row| statement(ADD_HOUR, row.values().to_vec()));
            let statements = balances.chain(hours).chain([noted("mended", now)]).collect();
            self.end_change(change, statements, acting).await?;
            let report = first.take().unwrap_or(report);
            if !more {
                return Ok(report);
            }
            first = Some(report);
        }
    }
}

/// Keeps an instant under a name.
fn noted(name: &str, at: Timestamp) -> Statement {
    statement(SET_META, vec![Value::from(name), Value::from(at.micros().to_be_bytes().to_vec())])
}

/// Sums of hours by key, whatever their order.
fn by_key(rows: &[Row]) -> Result<BTreeMap<i64, Vec<Value>>, Unreadable> {
    rows.iter().map(|row| Ok((row.get(0)?, row.values().to_vec()))).collect()
}

/// A balance as it is by now, with what was wrong with it put right.
fn moved(wrong: &Wrong, sum: &Balance, windows: &Windows) -> Balance {
    let mut moved = Balance::default();
    for kind in MoneyKind::ALL {
        for window in WindowKind::ALL {
            let (found, right) = (wrong.found.counter(kind, window), wrong.right.counter(kind, window));
            let by = |is: Usd, right: Usd, found: Usd| [is, Usd::left_of(right, found)].into_iter().sum();
            let counter = Counter {
                window: windows.of(window),
                spent: by(sum.spent(kind, window, windows), right.spent, found.spent),
                held: by(sum.held(kind, window, windows), right.held, found.held),
            };
            moved.put(kind, window, counter);
        }
    }
    moved
}

/// A balance in one row, and nothing in the rows of the nodes.
fn rewritten(scope: Scope, balance: &Balance) -> [Statement; 2] {
    let (word, id) = scope_columns(scope);
    let counters =
        || MoneyKind::ALL.into_iter().flat_map(|kind| WindowKind::ALL.map(|window| balance.counter(kind, window)));
    let array = |read: fn(Counter) -> i64| {
        let numbers: Vec<String> = counters().map(|counter| read(counter).to_string()).collect();
        Value::from(format!("{{{}}}", numbers.join(",")))
    };
    let whose = || vec![Value::from(word), Value::from(id)];
    let mut values = whose();
    values.extend([
        array(|counter| counter.window.0),
        array(|counter| counter.spent.nanos()),
        array(|counter| counter.held.nanos()),
    ]);
    let nothing = "UPDATE balances SET number = DEFAULT, spent = DEFAULT, held = DEFAULT
WHERE scope = ?1 AND id = ?2 AND node <> 0";
    let all = "INSERT INTO balances (scope, id, node, number, spent, held)
VALUES (?1, ?2, 0, CAST(CAST(?3 AS TEXT) AS BIGINT[]), CAST(CAST(?4 AS TEXT) AS BIGINT[]), CAST(CAST(?5 AS TEXT) AS BIGINT[]))
ON CONFLICT (scope, id, node) DO UPDATE SET number = excluded.number, spent = excluded.spent, held = excluded.held";
    [statement(nothing, whose()), statement(all, values)]
}
