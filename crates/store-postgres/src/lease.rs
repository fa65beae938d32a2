//! What a node does at its own pace: it renews its lease, ends what nobody owns, and hears of changes.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::node::Node;
use crate::seam::Database;

/// How often the lease is renewed; it lapses after [`LEASE`].
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long a lease lasts that is not renewed.
pub const LEASE: Duration = Duration::from_secs(30);
/// How often a node that was told of nothing asks whether something changed.
const FALLBACK: Duration = Duration::from_secs(1);

impl<D: Database> Node<D> {
    /// Keeps the node alive until the returned future is dropped. Run it for as long as the node serves.
    pub async fn keep(&self) {
        let mut heartbeats = interval(HEARTBEAT);
        let mut fallback = interval(FALLBACK);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        fallback.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                biased;
                _ = heartbeats.tick() => self.beat().await,
                () = self.shared.database.changed() => self.catch_up().await,
                _ = fallback.tick() => self.look_around().await,
            };
            if let Err(error) = done {
                tracing::debug!(%error, "the database was not reached");
            }
        }
    }

    async fn beat(&self) -> Result<(), tollgate_store::StoreError> {
        self.renew().await?;
        self.fence_silent().await?;
        self.expire_orphans().await
    }

    /// Gives up nodes that were silent for as long as a lease lasts, by this node's own clock and over more than one look.
    async fn fence_silent(&self) -> Result<(), tollgate_store::StoreError> {
        let found = self.shared.database.nodes().await?;
        let progress = self.shared.clock.read().progress;
        let silent = {
            let mut live = self.shared.live.lock();
            let own = live.identity;
            live.watched.retain(|seen, _| found.contains(seen));
            let mut silent = Vec::new();
            for seen in found.into_iter().filter(|(node, _)| *node != own) {
                let since = *live.watched.entry(seen).or_insert(progress);
                if progress.saturating_sub(since) >= LEASE {
                    silent.push(seen);
                }
            }
            silent
        };
        for (node, count) in silent {
            tracing::warn!(node = node.number.0, "a node has been silent for too long and is given up");
            self.shared.database.fence(node, count).await?;
        }
        Ok(())
    }

    /// Asks for the time and the version, and what changed since.
    async fn look_around(&self) -> Result<(), tollgate_store::StoreError> {
        self.probe().await?;
        let glimpse = self.shared.database.glimpse(&[]).await?;
        let behind = {
            let mut live = self.shared.live.lock();
            // A jump is told to whoever wants to reserve.
            let _ = self.time(&mut live, glimpse.now);
            live.version < glimpse.version
        };
        if behind { self.catch_up().await } else { Ok(()) }
    }
}
