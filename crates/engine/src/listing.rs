//! The keys of each workspace in the order of their creation, so that any page of them costs the same.
//!
//! There is a list for each way to ask: with or without disabled keys, with or without expired ones. A key that expires
//! leaves the lists without expired ones when somebody next asks: nothing runs at that instant.

use std::collections::BTreeSet;

use foldhash::HashMap;
use tollgate_domain::Timestamp;
use tollgate_domain::key::{Key, KeyId};
use tollgate_domain::workspace::WorkspaceId;

/// Which keys a list holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub disabled: bool,
    pub expired: bool,
}

impl Kind {
    const ALL: [Self; 4] = [
        Self { disabled: false, expired: false },
        Self { disabled: false, expired: true },
        Self { disabled: true, expired: false },
        Self { disabled: true, expired: true },
    ];

    const fn index(self) -> usize {
        match (self.disabled, self.expired) {
            (false, false) => 0,
            (false, true) => 1,
            (true, false) => 2,
            (true, true) => 3,
        }
    }

    fn holds(self, key: &Key, now: Timestamp) -> bool {
        (self.disabled || !key.disabled) && (self.expired || !key.expired_at(now))
    }
}

/// All lists.
#[derive(Debug, Default)]
pub struct Listings {
    /// Rising ids, which is the order of creation.
    lists: HashMap<WorkspaceId, [Vec<KeyId>; 4]>,
    /// Keys that have not expired yet, by when they will.
    expiring: BTreeSet<(Timestamp, WorkspaceId, KeyId)>,
}

impl Listings {
    /// Puts a key where it belongs at `now`, in its workspace.
    pub fn place(&mut self, key: &Key, now: Timestamp) {
        let lists = self.lists.entry(key.workspace).or_default();
        for kind in Kind::ALL {
            let Some(list) = lists.get_mut(kind.index()) else { continue };
            match (list.binary_search(&key.id), kind.holds(key, now)) {
                (Err(place), true) => list.insert(place, key.id),
                (Ok(place), false) => {
                    list.remove(place);
                }
                (Ok(_), true) | (Err(_), false) => {}
            }
        }
        if let Some(end) = key.expires_at.filter(|end| *end > now) {
            self.expiring.insert((end, key.workspace, key.id));
        }
    }

    /// Takes a key out of the lists of its workspace.
    pub fn remove(&mut self, key: &Key) {
        for list in self.lists.get_mut(&key.workspace).into_iter().flatten() {
            if let Ok(place) = list.binary_search(&key.id) {
                list.remove(place);
            }
        }
        if let Some(end) = key.expires_at {
            self.expiring.remove(&(end, key.workspace, key.id));
        }
    }

    /// A page of a workspace's keys, the newest first.
    pub fn page(
        &mut self,
        workspace: WorkspaceId,
        kind: Kind,
        offset: u64,
        limit: usize,
        now: Timestamp,
    ) -> Vec<KeyId> {
        self.expire(now);
        let list = self.lists.get(&workspace).and_then(|lists| lists.get(kind.index()));
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        list.into_iter().flat_map(|list| list.iter().rev().skip(offset).take(limit)).copied().collect()
    }

    /// How many keys a workspace has, usable or not.
    pub fn count(&self, workspace: WorkspaceId) -> usize {
        let all = Kind { disabled: true, expired: true };
        self.lists.get(&workspace).and_then(|lists| lists.get(all.index())).map_or(0, Vec::len)
    }

    /// All keys, or those of a workspace, usable or not.
    pub fn all(&self, workspace: Option<WorkspaceId>) -> impl Iterator<Item = KeyId> {
        let all = Kind { disabled: true, expired: true };
        let here = self.lists.iter().filter(move |(at, _)| workspace.is_none_or(|workspace| **at == workspace));
        here.filter_map(move |(_, lists)| lists.get(all.index())).flatten().copied()
    }

    fn expire(&mut self, now: Timestamp) {
        while let Some((end, workspace, id)) = self.expiring.first().copied()
            && end <= now
        {
            self.expiring.pop_first();
            for kind in Kind::ALL.into_iter().filter(|kind| !kind.expired) {
                let list = self.lists.get_mut(&workspace).and_then(|lists| lists.get_mut(kind.index()));
                if let Some(list) = list
                    && let Ok(place) = list.binary_search(&id)
                {
                    list.remove(place);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tollgate_domain::KeyHash;
    use tollgate_domain::key::{CallLimits, NewKey};

    fn key(id: i64, workspace: i64, disabled: bool, expires: Option<i64>) -> Key {
        let new = NewKey {
            hash: KeyHash::of("k"),
            name: "k".to_owned(),
            label: "k".to_owned(),
            workspace: WorkspaceId(workspace),
            limit: None,
            limit_reset: None,
            include_byok_in_limit: false,
            expires_at: expires.map(Timestamp::from_micros),
            creator: None,
            external_user: None,
            call_limits: CallLimits::default(),
            allowed_models: None,
        };
        Key { disabled, ..new.into_key(KeyId(id), Timestamp::default()) }
    }

    proptest! {
        /// Against the keys themselves, filtered afresh each time.
        #[test]
        fn every_page_is_the_filtered_list(
            steps in proptest::collection::vec((0_i64..12, 0_i64..2, any::<bool>(), any::<bool>(), 1_i64..40), 1..60),
            offset in 0_u64..8, limit in 0_usize..6,
        ) {
            let (mut listings, mut keys) = (Listings::default(), std::collections::BTreeMap::<i64, Key>::new());
            for (now, (id, workspace, disabled, delete, expires)) in (0_i64..).zip(steps) {
                let now = Timestamp::from_micros(now);
                if let Some(old) = keys.remove(&id) {
                    listings.remove(&old);
                }
                if !delete {
                    let new = key(id, workspace, disabled, (expires % 3 > 0).then_some(expires));
                    listings.place(&new, now);
                    keys.insert(id, new);
                }
                for kind in Kind::ALL {
                    let page = listings.page(WorkspaceId(1), kind, offset, limit, now);
                    let here = keys.values().rev().filter(|key| key.workspace == WorkspaceId(1) && kind.holds(key, now));
                    let offset = usize::try_from(offset).unwrap();
                    prop_assert_eq!(page, here.skip(offset).take(limit).map(|key| key.id).collect::<Vec<_>>());
                }
                let count = keys.values().filter(|key| key.workspace == WorkspaceId(1)).count();
                prop_assert_eq!((listings.count(WorkspaceId(1)), listings.all(None).count()), (count, keys.len()));
            }
        }
    }
}
