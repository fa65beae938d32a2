//! What the doctor looks at in the file, and how it is put right.
//!
//! A fold comes first. What it wrote is read at once; entries before it change no more, so they are read in spans, and whatever
//! is to be written meanwhile is written between two of them.

use rusqlite::Connection;
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::{Amounts, Balance, Closed, MoneyKind, Open, Scope, Spender};
use tollgate_domain::member::MemberId;
use tollgate_domain::model::PriceVersion;
use tollgate_domain::time::{WindowKind, Windows};
use tollgate_domain::workspace::WorkspaceId;
use tollgate_domain::{KeyId, Timestamp, Usd};
use tollgate_engine::doctor::{self, ENTRY, Finding, HOURS, Report, Sighting, Wrong};
use tollgate_engine::{Ground, GuardedClock, Row, Value, lost};
use tollgate_store::StoreError;

use crate::database::query;
use crate::engine::{Embedded, Live};
use crate::ledger::enqueue_settlement;
use crate::record::{FOLD_ROLLUP, Record};

/// Entries that are summed up under one lock: a few hundredths of a second.
const SPAN: i64 = 50_000;

/// How often it is tried to find a moment in which nothing is settled.
const ACCEPTS_MAX: usize = 10;

/// Orphans that are reported, at most.
const ORPHANS_MAX: usize = 100;

const BALANCES: &str = "SELECT scope, id, kind, span, number, spent, 0 FROM balances";

const PLACES: &str =
    "SELECT (SELECT value FROM meta WHERE name = 'epoch'), (SELECT coalesce(max(row), 0) FROM settlements),
    (SELECT coalesce(max(id), 0) FROM corrections)";

const ORPHANS: &str = "SELECT r.row, r.admitted_at FROM reservations r
WHERE r.row >= ?1 AND r.row < ?2 AND r.row < ?3 AND NOT EXISTS (SELECT 1 FROM settlements s WHERE s.row = r.row)
ORDER BY r.row";

const ORPHAN: &str = "SELECT r.key, r.workspace, k.creator, r.admitted_at, r.credits, r.byok, r.price
FROM reservations r LEFT JOIN keys k ON k.id = r.key WHERE r.row = ?1";

/// What stands in the file at one moment, and how far its entries go.
struct Folded {
    sighting: Sighting,
    epoch: i64,
    last: [i64; 2],
}

/// What the doctor looks at.
pub async fn sight(store: &Embedded) -> Result<Sighting, StoreError> {
    sight_at(store, None).await.map(|(sighting, _)| sighting)
}

/// The same in the windows of a time, and the fold that it is as of.
async fn sight_at(store: &Embedded, at: Option<Timestamp>) -> Result<(Sighting, i64), StoreError> {
    store.summed_up().await?;
    let folded = store.read(folded).await?;
    let Folded { mut sighting, epoch, last: [settlements, corrections] } = folded;
    sighting.now = at.unwrap_or_else(|| store.glance(|_, now| now));
    sighting.in_flight = {
        let live = store.live.lock();
        (live.book.open_count(), live.book.open().map(|(_, open)| open.admitted_at).min())
    };
    let mut counts = [0, 0];
    for (place, (table, column, last)) in
        [("settlements", "row", settlements), ("corrections", "id", corrections)].into_iter().enumerate()
    {
        let count = format!("SELECT count(*) FROM {table} WHERE {column} >= ?1 AND {column} < ?2");
        let sum = doctor::entries(&format!(
            "SELECT {ENTRY} FROM {table} WHERE {column} >= ?7 AND {column} < ?8 AND epoch < ?9"
        ));
        for first in (0..=last).step_by(usize::try_from(SPAN).unwrap_or(1)) {
            let mut values = doctor::spans(sighting.now);
            values.extend([first, first.saturating_add(SPAN), epoch].map(Value::from));
            sighting.entries.extend(store.query(&sum, values).await?);
            let values = [first, first.saturating_add(SPAN)].map(Value::from).to_vec();
            if let (Some(counted), Some(sum)) = (store.query(&count, values).await?.first(), counts.get_mut(place)) {
                *sum += counted.get::<i64>(0)?;
            }
        }
    }
    sighting.counts = vec![Row::new(counts.map(Value::from).to_vec())];
    let began = store.began_at_row;
    for first in (0..began).step_by(usize::try_from(SPAN).unwrap_or(1)) {
        if sighting.orphans.len() >= ORPHANS_MAX {
            break;
        }
        let values = [first, first.saturating_add(SPAN), began].map(Value::from).to_vec();
        sighting.orphans.extend(store.query(ORPHANS, values).await?);
    }
    Ok((sighting, epoch))
}

fn folded(db: &Connection) -> rusqlite::Result<Folded> {
    let [epoch, settlements, corrections] =
        db.query_row(PLACES, [], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))?;
    let sighting =
        Sighting { balances: query(db, BALANCES, &[])?, hours: query(db, HOURS, &[])?, ..Sighting::default() };
    Ok(Folded { sighting, epoch, last: [settlements, corrections] })
}

/// Puts right what does not add up. Nothing may be in flight.
pub async fn mend(store: &Embedded) -> Result<Report, StoreError> {
    let sighting = sight(store).await?;
    let (report, wrong) = store.glance(|state, _| doctor::examine(state, &sighting))?;
    let missing =
        if report.misses_hours() { store.query(&doctor::missing_hours(), Vec::new()).await? } else { Vec::new() };
    let mut orphans = Vec::new();
    for finding in &report.findings {
        if let Finding::Orphan { row, .. } = *finding
            && let Some(found) = store.query(ORPHAN, vec![Value::from(row.0)]).await?.first()
        {
            orphans.push(orphan(row, found)?);
        }
    }
    let ticket = {
        let mut live = store.live.lock();
        if live.book.open_count() > 0 {
            return Err(StoreError::Unavailable("calls are in flight".to_owned()));
        }
        for wrong in wrong {
            live.book.restore_balance(wrong.scope, wrong.right);
        }
        if !missing.is_empty() {
            let add = |row: &Row| tollgate_engine::statement(FOLD_ROLLUP, row.values().to_vec());
            live.queue.push(Record::Run(missing.iter().map(add).collect()));
        }
        // As a start would have done.
        for (row, open, price) in orphans {
            let settlement = lost(row, open.hold, price);
            live.book.restore_open(row, open);
            if let Closed::Now(open) = live.book.settle(row, settlement.charge) {
                drop(enqueue_settlement(&mut live, open, settlement));
            }
        }
        store.fold_waited(&mut live)
    };
    store.wait(ticket).await?;
    Ok(report)
}

/// Takes the clock as it is. Where it went back, counters of windows that have not begun are summed anew for those of that time,
/// from the entries: else nothing would count in them until then. While the clock is off nothing is admitted, so it is quiet.
pub async fn accept_clock(store: &Embedded) -> Result<Timestamp, StoreError> {
    for _ in 0..ACCEPTS_MAX {
        let now = store.clock.read().wall;
        let (sighting, epoch) = sight_at(store, Some(now)).await?;
        let (_, mut wrong) = store.glance(|state, _| doctor::examine(state, &sighting))?;
        wrong.retain(|wrong| wrong.ahead);
        let ticket = {
            let mut live = store.live.lock();
            if !wrong.is_empty() {
                if live.book.open().any(|(_, open)| open.admitted_at > now) {
                    return Err(StoreError::Unavailable(doctor::ADMITTED_LATER.to_owned()));
                }
                if live.epoch != epoch || !live.rollups.is_empty() {
                    // Something was settled meanwhile.
                    continue;
                }
            }
            for Wrong { scope, right, .. } in wrong {
                let held = held(&live, scope, right, now);
                live.book.restore_balance(scope, held);
            }
            live.clock = GuardedClock::new(now);
            store.fold_waited(&mut live)
        };
        store.wait(ticket).await?;
        return Ok(now);
    }
    Err(StoreError::Unavailable(doctor::NOT_QUIET.to_owned()))
}

/// A balance with what calls in flight hold in its windows.
fn held(live: &Live, scope: Scope, mut balance: Balance, now: Timestamp) -> Balance {
    let windows = Windows::at(now);
    for (_, open) in live.book.open().filter(|(_, open)| open.spender.scopes().any(|of| of == scope)) {
        let admitted = Windows::at(open.admitted_at);
        for kind in MoneyKind::ALL {
            for window in WindowKind::ALL.into_iter().filter(|window| admitted.of(*window) == windows.of(*window)) {
                let mut counter = balance.counter(kind, window);
                counter.held = [counter.held, open.hold.of(kind)].into_iter().sum();
                balance.put(kind, window, counter);
            }
        }
    }
    balance
}

fn orphan(row: GenerationRow, found: &Row) -> Result<(GenerationRow, Open, PriceVersion), tollgate_engine::Unreadable> {
    let spender = Spender {
        key: KeyId(found.get(0)?),
        workspace: WorkspaceId(found.get(1)?),
        member: found.get::<Option<i64>>(2)?.map(MemberId),
    };
    let hold = Amounts { credits: Usd::from_nanos(found.get(4)?), byok: Usd::from_nanos(found.get(5)?) };
    let open = Open { spender, admitted_at: Timestamp::from_micros(found.get(3)?), hold };
    Ok((row, open, PriceVersion(found.get(6)?)))
}
