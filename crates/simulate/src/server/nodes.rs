//! Nodes and their leases.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_domain::Timestamp;
use tollgate_store_postgres::seam::{Boot, Broken, Identity, NodeNumber};

use crate::oracle::{Checked, broken};

/// Whoever is given up had this long to renew its lease, at the least, in microseconds in which anybody could: half of the time
/// between two renewals.
const CHANCE: u64 = 5_000_000;

#[derive(Clone, Debug, Default)]
struct Node {
    boot: Option<i64>,
    beats: i64,
    seen: i64,
    /// For how long writes had been taken, in all, when it wrote last.
    wrote: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Nodes {
    all: BTreeMap<i32, Node>,
    last_boot: i64,
    /// Since when no writes are taken.
    shut: Option<u64>,
    /// For how long none were taken before that.
    closed: u64,
}

fn refused<T>() -> Result<T, Broken> {
    Err(Broken("the disk is full".to_owned()))
}

impl Nodes {
    /// From now on nothing can be written.
    pub fn shut(&mut self, now: u64) {
        self.shut.get_or_insert(now);
    }

    /// Writes are taken again.
    pub fn open(&mut self, now: u64) {
        self.closed += self.shut.take().map_or(0, |since| now - since);
    }

    pub const fn are_shut(&self) -> bool {
        self.shut.is_some()
    }

    /// For how long writes have been taken, in all.
    fn opened(&self, now: u64) -> u64 {
        self.shut.unwrap_or(now) - self.closed
    }

    pub fn boots(&self) -> BTreeSet<i64> {
        self.all.values().filter_map(|node| node.boot).collect()
    }

    /// The latest time that a node wrote.
    pub fn seen(&self) -> i64 {
        self.all.values().map(|node| node.seen).max().unwrap_or(0)
    }

    /// Those that are not given up, each with how often it was renewed.
    pub fn list(&self) -> Vec<(Identity, i64)> {
        let each = self.all.iter().filter_map(|(number, node)| {
            Some((Identity { number: NodeNumber(*number), boot: Boot(node.boot?) }, node.beats))
        });
        each.collect()
    }

    /// Whether it is not given up.
    pub fn is(&self, node: Identity) -> bool {
        self.all.get(&node.number.0).is_some_and(|it| it.boot == Some(node.boot.0))
    }

    fn find(&mut self, node: Identity) -> Option<&mut Node> {
        self.all.get_mut(&node.number.0).filter(|it| it.boot == Some(node.boot.0))
    }

    pub fn register(&mut self, now: u64) -> Result<Identity, Broken> {
        if self.are_shut() {
            return refused();
        }
        let free = self.all.iter().find(|(_, node)| node.boot.is_none()).map(|(number, _)| *number);
        let number = free.unwrap_or_else(|| self.all.keys().max().map_or(1, |last| last + 1));
        let wrote = self.opened(now);
        self.last_boot += 1;
        let boot = self.last_boot;
        let node = self.all.entry(number).or_default();
        *node = Node { boot: Some(boot), wrote, ..node.clone() };
        Ok(Identity { number: NodeNumber(number), boot: Boot(boot) })
    }

    /// `false` where it was given up.
    pub fn renew(&mut self, node: Identity, now: u64) -> Result<bool, Broken> {
        if self.are_shut() {
            return refused();
        }
        let opened = self.opened(now);
        let renewed = self.find(node).map(|mine| (mine.beats, mine.wrote) = (mine.beats + 1, opened));
        Ok(renewed.is_some())
    }

    /// A batch of it was written.
    pub fn wrote(&mut self, node: Identity, time: Timestamp, now: u64) {
        let opened = self.opened(now);
        if let Some(mine) = self.all.get_mut(&node.number.0) {
            *mine = Node { seen: time.micros(), beats: mine.beats + 1, wrote: opened, ..*mine };
        }
    }

    pub fn resign(&mut self, node: Identity) -> Result<(), Broken> {
        if self.are_shut() {
            return refused();
        }
        if let Some(mine) = self.find(node) {
            mine.boot = None;
        }
        Ok(())
    }

    /// Gives a node up that has not moved. Also whether it could have.
    pub fn fence(&mut self, node: Identity, count: i64, now: u64) -> (Result<(), Broken>, Checked) {
        if self.are_shut() {
            return (refused(), Ok(()));
        }
        let opened = self.opened(now);
        let Some(silent) = self.find(node).filter(|it| it.beats == count) else { return (Ok(()), Ok(())) };
        silent.boot = None;
        let chance = opened - silent.wrote;
        if chance >= CHANCE {
            return (Ok(()), Ok(()));
        }
        let number = node.number.0;
        let checked = broken!(
            "4 nobody is given up for the database's absence",
            "node {number} is given up, and for {chance} us only could it have renewed its lease"
        );
        (Ok(()), checked)
    }
}
