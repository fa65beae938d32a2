//! `offset` and `limit` of lists that say how long they are.

use tollgate_store::PageQuery;

use super::QueryPairs;
use crate::error::ApiError;

/// Items on a page where nothing else is asked for.
const LIMIT_DEFAULT: u64 = 50;
/// Items on a page at the most.
const LIMIT_MAX: u64 = 100;

impl QueryPairs {
    /// The part of a list that is asked for: `offset` 0 and `limit` 50 by default. More than 100 at a time are not given, however
    /// many are asked for.
    pub fn page(&self) -> Result<PageQuery, ApiError> {
        let (offset, limit) = (self.count("offset")?.unwrap_or(0), self.count("limit")?.unwrap_or(LIMIT_DEFAULT));
        let limit = usize::try_from(limit.clamp(1, LIMIT_MAX)).unwrap_or(usize::MAX);
        Ok(PageQuery { offset, limit })
    }
}
