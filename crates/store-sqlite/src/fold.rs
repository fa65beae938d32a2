//! Folding: writing down what balances sum to, so that a start need not read the whole log.

use std::time::Duration;

use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::MoneyKind;
use tollgate_domain::time::WindowKind;

use crate::audit::forget;
use crate::committer::Ticket;
use crate::engine::{SqliteStore, State};
use crate::record::{Fold, Record};

/// How often balances that changed are written down. It bounds what a start has to replay.
pub const FOLD_INTERVAL: Duration = Duration::from_secs(1);

/// How often answers that are older than a day are forgotten: at the start, too.
const FORGET_INTERVAL: Duration = Duration::from_hours(1);

/// How many generations may be numbered after one that is not reserved yet; a reservation that comes later is refused.
pub const ROWS_IN_HAND_MAX: i64 = 10_000;

impl SqliteStore {
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
        let (mut state, now) = self.lock_seen();
        state.queue.push(Record::Run(vec![forget(now)]));
        drop(state);
        self.committer.attend();
    }

    /// Puts a fold into the queue, if any balance changed.
    pub fn fold(&self) {
        if self.committer.stalled() {
            return;
        }
        let fold = {
            let mut state = self.state.lock();
            let fold = self.take_fold(&mut state);
            let changed = !fold.balances.is_empty();
            if changed {
                state.epoch = fold.epoch;
                state.queue.push(Record::Fold(Box::new(fold)));
            }
            changed
        };
        if fold {
            self.committer.attend();
        }
    }

    pub(crate) fn fold_waited(&self, state: &mut State) -> Ticket {
        let fold = self.take_fold(state);
        state.epoch = fold.epoch;
        state.queue.push_waited(Record::Fold(Box::new(fold)), true)
    }

    fn take_fold(&self, state: &mut State) -> Fold {
        let mut balances = Vec::new();
        for scope in state.book.take_dirty() {
            let Some(balance) = state.book.balance(scope) else { continue };
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
        let low_row = state.book.open().map(|(row, _)| row.0).fold(unreserved, i64::min).max(state.low_row);
        state.low_row = low_row;
        state.book.forget_below(GenerationRow(low_row));
        Fold {
            epoch: state.epoch.saturating_add(1),
            low_row: GenerationRow(low_row),
            low_correction: state.next_correction,
            seen: state.clock.seen(),
            balances,
            rollups: state.rollups.take(),
            key_use: state.used.drain().collect(),
        }
    }
}
