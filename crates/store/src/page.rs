//! A part of a list.

/// Which part of a list to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageQuery {
    /// How many to pass over.
    pub offset: u64,
    /// How many at the most.
    pub limit: usize,
}

/// A part of a list, and how long the whole is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The part.
    pub items: Vec<T>,
    /// How many there are in all.
    pub total: usize,
}

impl<T> Page<T> {
    /// The part of `all` that is asked for.
    pub fn of(all: impl IntoIterator<Item = T>, query: PageQuery) -> Self {
        let (mut items, mut total) = (Vec::new(), 0_usize);
        let offset = usize::try_from(query.offset).unwrap_or(usize::MAX);
        for item in all {
            if total >= offset && items.len() < query.limit {
                items.push(item);
            }
            total = total.saturating_add(1);
        }
        Self { items, total }
    }

    /// The same part of another list.
    pub fn map<U>(self, into: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(into).collect(), total: self.total }
    }
}
