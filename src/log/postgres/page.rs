//! The size of pages in which rows are asked for.

use tokio_postgres::Row;

use super::codes::int;
use crate::log::store::Flow;

/// Rows of a first page: most readers need no more.
const FIRST_PAGE: i64 = 64;

/// Rows of a page at most.
const PAGE_MAX: i64 = 1024;

/// Bytes of a page, about.
const PAGE_BYTES: u64 = 1024 * 1024;

/// How much is asked for at once, and whether more is.
pub(super) struct Page {
    pub(super) rows: i64,
    pub(super) is_over: bool,
    /// The last page had fewer rows than requested.
    is_last: bool,
}

impl Page {
    pub(super) fn first() -> Self {
        Self { rows: FIRST_PAGE, is_over: false, is_last: false }
    }

    pub(super) fn is_wanted(&self) -> bool {
        !self.is_over && !self.is_last
    }

    /// Rows whose weight is in one column have come: the next page is of as many as weigh enough.
    pub(super) fn has_come(&mut self, rows: &[Row], column: usize) {
        let weight: u64 =
            rows.iter().filter_map(|row| row.try_get::<_, &[u8]>(column).ok()).map(|it| it.len() as u64).sum();
        self.is_last = (rows.len() as i64) < self.rows;
        let each = 1 + weight / (rows.len().max(1) as u64);
        self.rows = int(PAGE_BYTES / each).clamp(1, PAGE_MAX);
    }

    pub(super) fn has_come_small(&mut self, rows: &[Row]) {
        self.is_last = (rows.len() as i64) < self.rows;
        self.rows = PAGE_MAX;
    }

    pub(super) fn note(&mut self, flow: Flow) {
        self.is_over = flow == Flow::Stop;
    }
}
