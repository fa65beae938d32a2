//! Folding: writing down what balances sum to, so that a start need not read the whole log.

use std::time::Duration;

use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::MoneyKind;
use tollgate_domain::time::WindowKind;
use tollgate_engine::forget;

use crate::committer::Ticket;
use crate::engine::{Embedded, Live};
use crate::record::{Fold, Record};

/// How often balances that changed are written down. It bounds what a start has to replay.
pub const FOLD_INTERVAL: Duration = Duration::from_secs(1);

/// How often answers that are older than a day are forgotten: at the start, too.
const FORGET_INTERVAL: Duration = Duration::from_hours(1);

/// How many generations may be numbered after one that is not reserved yet; a reservation that comes later is refused.
pub const ROWS_IN_HAND_MAX: i64 = 10_000;

impl Embedded {
    /// Folds at [`FOLD_INTERVAL`] until the returned future is dropped. Run it for as long as the store serves.
    pub async fn fold_regularly(&self) {
        let mut ticks = tokio::time::interval(FOLD_INTERVAL);
        let mut hours = tokio::time::interval(FORGET_INTERVAL);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.fold(),
                _ = hours.tick() => self.forget_answers(),
            }
        }
    }

    /// Forgets answers that were kept for a day.
    fn forget_answers(&self) {
        if self.committer.stalled() {
            return;
        }
        let (mut live, now) = self.lock_seen();
        live.queue.push(Record::Run(vec![forget(now)]));
        drop(live);
        self.committer.attend();
    }

    /// Puts a fold into the queue, if any balance changed.
    pub fn fold(&self) {
        if self.committer.stalled() {
            return;
        }
        let fold = {
            let mut live = self.live.lock();
            let fold = self.take_fold(&mut live);
            let changed = !fold.balances.is_empty();
            if changed {
                live.epoch = fold.epoch;
                live.queue.push(Record::Fold(Box::new(fold)));
            }
            changed
        };
        if fold {
            self.committer.attend();
        }
    }

    pub(crate) fn fold_waited(&self, live: &mut Live) -> Ticket {
        let fold = self.take_fold(live);
        live.epoch = fold.epoch;
        live.queue.push_waited(Record::Fold(Box::new(fold)), true)
    }

    fn take_fold(&self, live: &mut Live) -> Fold {
        let mut balances = Vec::new();
        for scope in live.book.take_dirty() {
            let Some(balance) = live.book.balance(scope) else { continue };
            for kind in MoneyKind::ALL {
                for window in WindowKind::ALL {
                    let counter = balance.counter(kind, window);
                    balances.push((scope, kind, window, counter.window, counter.spent));
                }
            }
        }
        // Rows that were handed out and not reserved yet are the newest few.
        let next_row = self.next_row.load(std::sync::atomic::Ordering::Relaxed);
        let unreserved = next_row.saturating_sub(ROWS_IN_HAND_MAX);
        let low_row = live.book.open().map(|(row, _)| row.0).fold(unreserved, i64::min).max(live.low_row);
        live.low_row = low_row;
        live.book.forget_below(GenerationRow(low_row));
        Fold {
            epoch: live.epoch.saturating_add(1),
            low_row: GenerationRow(low_row),
            low_correction: live.next_correction,
            seen: live.clock.seen(),
            balances,
            rollups: live.rollups.take(),
            key_use: live.used.drain().collect(),
        }
    }
}
