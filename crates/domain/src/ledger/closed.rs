//! The generations that have ended, as ranges of their rows.
//!
//! Rows end nearly in the order in which they began, so there are few more ranges than calls in flight.

use std::collections::BTreeMap;

use crate::generation::GenerationRow;

/// A set of rows that only grows, until its beginning is forgotten.
#[derive(Clone, Debug, Default)]
pub struct ClosedRows {
    /// First and last row of each range. No two touch.
    ranges: BTreeMap<i64, i64>,
}

impl ClosedRows {
    /// Adds a row.
    pub fn insert(&mut self, row: GenerationRow) {
        let GenerationRow(row) = row;
        let before = self.ranges.range(..=row).next_back().map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| last >= row) {
            return;
        }
        let first = match before {
            Some((first, last)) if last.checked_add(1) == Some(row) => first,
            _ => row,
        };
        let behind = row.checked_add(1).and_then(|next| self.ranges.remove(&next));
        self.ranges.insert(first, behind.unwrap_or(row));
    }

    /// Whether a row was added.
    pub fn contains(&self, row: GenerationRow) -> bool {
        self.ranges.range(..=row.0).next_back().is_some_and(|(_, last)| *last >= row.0)
    }

    /// Forgets ranges that lie wholly below `row`.
    pub fn forget_below(&mut self, row: GenerationRow) {
        while let Some(range) = self.ranges.first_entry()
            && *range.get() < row.0
        {
            range.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn it_holds_exactly_what_was_added_in_as_few_ranges_as_there_are(
            rows in proptest::collection::vec(prop_oneof![0_i64..40, Just(i64::MAX), Just(i64::MIN)], 0..60), below in 0_i64..40,
        ) {
            let (mut closed, mut model) = (ClosedRows::default(), HashSet::new());
            for row in rows {
                closed.insert(GenerationRow(row));
                model.insert(row);
            }
            let everywhere = || (0..41).chain([i64::MIN, i64::MAX]);
            for row in everywhere() {
                prop_assert_eq!(closed.contains(GenerationRow(row)), model.contains(&row), "{}", row);
            }
            let starts = model.iter().filter(|row| row.checked_sub(1).is_none_or(|before| !model.contains(&before)));
            prop_assert_eq!(closed.ranges.len(), starts.count());
            closed.forget_below(GenerationRow(below));
            prop_assert!(closed.ranges.values().all(|last| *last >= below), "{:?}", closed.ranges);
            for row in everywhere().filter(|row| *row >= below) {
                prop_assert_eq!(closed.contains(GenerationRow(row)), model.contains(&row), "{}", row);
            }
        }
    }
}
