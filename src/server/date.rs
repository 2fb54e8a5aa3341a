//! The `Date` header, formatted once per second.

use std::time::{Duration, UNIX_EPOCH};

use crate::model::Now;

/// The value of the header, and the second that it is for.
pub(super) struct Date {
    secs: u64,
    text: String,
}

impl Default for Date {
    fn default() -> Self {
        Self { secs: u64::MAX, text: String::new() }
    }
}

impl Date {
    /// The value for the header.
    pub(super) fn at(&mut self, now: Now) -> &str {
        let secs = now.wall.as_secs();
        if self.secs != secs {
            (self.secs, self.text) = (secs, httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(secs)));
        }
        &self.text
    }
}
