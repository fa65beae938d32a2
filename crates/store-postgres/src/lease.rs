//! What a node does at its own pace: it renews its lease, ends what nobody owns, and hears of changes.

use std::time::Duration;

use foldhash::HashMap;
use tokio::time::{MissedTickBehavior, interval};
use tollgate_domain::Timestamp;

use crate::node::Node;
use crate::seam::{Database, Identity};

/// How often the lease is renewed; it lapses after [`LEASE`].
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long a lease lasts that is not renewed.
pub const LEASE: Duration = Duration::from_secs(30);
/// How often a node that was told of nothing asks whether something changed.
const FALLBACK: Duration = Duration::from_secs(1);
/// How often a node that looks around catches up with what changed meanwhile.
const LOOKS_MAX: usize = 3;
/// Two looks at the others that are further apart say nothing of the time between: whoever could not look could not be seen, perhaps.
const LOOKS_APART_MAX: Duration = Duration::from_secs(15);

/// Other nodes, as far as they are watched without a break.
#[derive(Debug, Default)]
pub struct Watch {
    /// Each with the count that it was seen at, and since when, by this node's own clock.
    since: HashMap<(Identity, i64), Duration>,
    looked: Option<Duration>,
}

impl Watch {
    /// Those that have not moved for as long as a lease lasts, over more than one look.
    fn silent(&mut self, found: Vec<(Identity, i64)>, own: Identity, at: Duration) -> Vec<(Identity, i64)> {
        if self.looked.is_none_or(|before| at.saturating_sub(before) > LOOKS_APART_MAX) {
            self.since.clear();
        }
        self.looked = Some(at);
        self.since.retain(|seen, _| found.contains(seen));
        let others = found.into_iter().filter(|(node, _)| *node != own);
        others.filter(|seen| at.saturating_sub(*self.since.entry(*seen).or_insert(at)) >= LEASE).collect()
    }

    /// The database could not be asked: the others could not reach it either, perhaps.
    fn interrupt(&mut self) {
        self.looked = None;
    }
}

impl<D: Database> Node<D> {
    /// Keeps the node alive until the returned future is dropped. Run it for as long as the node serves.
    pub async fn keep(&self) {
        // The lease waits for nothing else.
        tokio::join!(self.keep_lease(), self.keep_up_to_date());
    }

    async fn keep_lease(&self) {
        let mut heartbeats = interval(HEARTBEAT);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            heartbeats.tick().await;
            unreached(self.beat().await);
        }
    }

    async fn keep_up_to_date(&self) {
        let mut orphans = interval(HEARTBEAT);
        let mut fallback = interval(FALLBACK);
        orphans.set_missed_tick_behavior(MissedTickBehavior::Delay);
        fallback.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            unreached(tokio::select! {
                biased;
                _ = orphans.tick() => self.expire_orphans().await,
                () = self.shared.database.changed() => self.look_around().await.map(|_| ()),
                _ = fallback.tick() => self.look_around().await.map(|_| ()),
            });
        }
    }

    async fn beat(&self) -> Result<(), tollgate_store::StoreError> {
        let looked = async {
            self.renew().await?;
            Ok::<_, tollgate_store::StoreError>(self.shared.database.nodes().await?)
        };
        match looked.await {
            Ok(found) => self.fence_silent(found).await,
            Err(error) => {
                self.shared.live.lock().watch.interrupt();
                Err(error)
            }
        }
    }

    /// Gives up nodes that were silent for as long as a lease lasts.
    async fn fence_silent(&self, found: Vec<(Identity, i64)>) -> Result<(), tollgate_store::StoreError> {
        let progress = self.shared.clock.read().progress;
        let silent = {
            let mut live = self.shared.live.lock();
            let own = live.identity;
            live.watch.silent(found, own, progress)
        };
        let mut done = Ok(());
        for (node, count) in silent {
            tracing::warn!(node = node.number.0, "a node has been silent for too long and is given up");
            // The others are given up all the same.
            done = self.shared.database.fence(node, count).await.map_err(Into::into).and(done);
        }
        done
    }

    /// Asks for the time and the version, and what changed since. The time, or by how many seconds the clock jumped.
    pub(crate) async fn look_around(&self) -> Result<Result<Timestamp, i64>, tollgate_store::StoreError> {
        self.probe().await?;
        for _ in 0..LOOKS_MAX {
            let glimpse = self.shared.database.glimpse(&[]).await?;
            {
                let mut live = self.shared.live.lock();
                // The time of an older moment is not believed: another clock may have been accepted since.
                if live.acting || live.version > glimpse.version {
                    return Ok(Ok(live.clock.seen()));
                }
                if live.version == glimpse.version {
                    return Ok(self.time(&mut live, glimpse.time));
                }
            }
            self.catch_up(glimpse.version).await?;
        }
        // Too much changes to be told just now.
        Ok(Ok(self.shared.live.lock().clock.seen()))
    }
}

fn unreached(done: Result<(), tollgate_store::StoreError>) {
    if let Err(error) = done {
        tracing::debug!(%error, "the database was not reached");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::{Boot, NodeNumber};

    const fn node(number: i32) -> Identity {
        Identity { number: NodeNumber(number), boot: Boot(number as i64) }
    }

    fn seconds(of: u64) -> Duration {
        Duration::from_secs(of)
    }

    #[test]
    fn who_is_silent_for_a_lease_is_given_up_and_who_moves_is_not() {
        let mut watch = Watch::default();
        for at in [0, 10, 20] {
            let moving = (node(3), i64::try_from(at).unwrap());
            assert_eq!(watch.silent(vec![(node(1), 7), (node(2), 7), moving], node(1), seconds(at)), []);
        }
        let found = vec![(node(1), 7), (node(2), 7), (node(3), 30)];
        assert_eq!(watch.silent(found, node(1), seconds(30)), [(node(2), 7)]);
    }

    #[test]
    fn after_a_break_everybody_has_a_lease_again() {
        let mut watch = Watch::default();
        let other = vec![(node(2), 7)];
        assert_eq!(watch.silent(other.clone(), node(1), seconds(0)), []);
        // The database was not there.
        watch.interrupt();
        for at in [10, 20, 30] {
            assert_eq!(watch.silent(other.clone(), node(1), seconds(at)), []);
        }
        // This node was not there.
        for at in [46, 56, 66] {
            assert_eq!(watch.silent(other.clone(), node(1), seconds(at)), []);
        }
        assert_eq!(watch.silent(other.clone(), node(1), seconds(76)), other);
    }
}
