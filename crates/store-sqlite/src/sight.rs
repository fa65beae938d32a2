//! What the doctor looks at in the file, and how it is put right.
//!
//! A fold comes first. What it wrote is read at once; entries before it change no more, so they are read in spans, and whatever
//! is to be written meanwhile is written between two of them.

use rusqlite::Connection;
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::{Amounts, Closed, Open, Spender};
use tollgate_domain::member::MemberId;
use tollgate_domain::model::PriceVersion;
use tollgate_domain::workspace::WorkspaceId;
use tollgate_domain::{KeyId, Timestamp, Usd};
use tollgate_engine::doctor::{self, COUNTS, ENTRY, Finding, HOURS, Report, Sighting};
use tollgate_engine::{Ground, Row, Value, lost};
use tollgate_store::StoreError;

use crate::database::query;
use crate::engine::Embedded;
use crate::ledger::enqueue_settlement;
use crate::record::{FOLD_ROLLUP, Record};

/// Entries that are summed up under one lock: a few hundredths of a second.
const SPAN: i64 = 50_000;

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
    store.summed_up().await?;
    let folded = store.read(folded).await?;
    let Folded { mut sighting, epoch, last: [settlements, corrections] } = folded;
    sighting.now = store.glance(|_, now| now);
    sighting.in_flight = {
        let live = store.live.lock();
        (live.book.open_count(), live.book.open().map(|(_, open)| open.admitted_at).min())
    };
    for (table, column, last) in [("settlements", "row", settlements), ("corrections", "id", corrections)] {
        let sum = doctor::entries(&format!(
            "SELECT {ENTRY} FROM {table} WHERE {column} >= ?7 AND {column} < ?8 AND epoch < ?9"
        ));
        for first in (0..=last).step_by(usize::try_from(SPAN).unwrap_or(1)) {
            let mut values = doctor::spans(sighting.now);
            values.extend([first, first.saturating_add(SPAN), epoch].map(Value::from));
            sighting.entries.extend(store.query(&sum, values).await?);
        }
    }
    let began = store.began_at_row;
    for first in (0..began).step_by(usize::try_from(SPAN).unwrap_or(1)) {
        if sighting.orphans.len() >= ORPHANS_MAX {
            break;
        }
        let values = [first, first.saturating_add(SPAN), began].map(Value::from).to_vec();
        sighting.orphans.extend(store.query(ORPHANS, values).await?);
    }
    Ok(sighting)
}

fn folded(db: &Connection) -> rusqlite::Result<Folded> {
    let [epoch, settlements, corrections] =
        db.query_row(PLACES, [], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))?;
    let sighting = Sighting {
        counts: query(db, COUNTS, &[])?,
        balances: query(db, BALANCES, &[])?,
        hours: query(db, HOURS, &[])?,
        ..Sighting::default()
    };
    Ok(Folded { sighting, epoch, last: [settlements, corrections] })
}

/// Puts right what does not add up. Nothing may be in flight.
pub async fn mend(store: &Embedded) -> Result<Report, StoreError> {
    let sighting = sight(store).await?;
    let (report, wrong) = store.glance(|state, _| doctor::examine(state, &sighting))?;
    let missing = if report.misses_hours() {
        store.query(&doctor::missing_hours("true", "true"), Vec::new()).await?
    } else {
        Vec::new()
    };
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
