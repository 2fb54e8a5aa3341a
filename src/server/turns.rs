//! Memory for requests of chat frontends that wait: their plans and messages, each up to the size of a request body.
//! The total is bounded.

use crate::http::Problem;
use crate::model::{Lender, Taken};

/// The most bytes of messages and plans that may wait. Further ones are refused with 429. Each waits for a moment,
/// until the log has answered whether its run is known and where its stream begins.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The memory of waiting requests.
#[derive(Debug, Default)]
pub(super) struct Turns {
    lender: Lender<usize>,
    bytes: usize,
}

impl Turns {
    /// Reserves `bytes` bytes, if there is enough room. Dropping the result releases them.
    pub(super) fn take(&mut self, bytes: usize) -> Result<Taken<usize>, Problem> {
        self.bytes -= self.lender.returned().into_iter().sum::<usize>();
        if self.bytes + bytes > WAITING_BYTES_MAX {
            let detail = format!(
                "too many bytes of messages and plans are waiting for their runs (limit {WAITING_BYTES_MAX} bytes, not configurable)"
            );
            return Err(Problem::too_many("too_many_plans", detail, 1));
        }
        self.bytes += bytes;
        Ok(self.lender.lend(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_goes_back() {
        let mut turns = Turns::default();
        let half = turns.take(WAITING_BYTES_MAX / 2).expect("there is room");
        let other = turns.take(WAITING_BYTES_MAX / 2).expect("there is room");
        assert_eq!(turns.take(1).map_err(|problem| (problem.status, problem.retry_after)).err(), Some((429, Some(1))));
        drop(half);
        assert!(turns.take(WAITING_BYTES_MAX / 2).is_ok() && turns.take(1).is_ok());
        drop(other);
    }
}
