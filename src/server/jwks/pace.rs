//! How long keys are used before they are fetched again. Pure.

use std::time::Duration;

use super::source::Fetched;

/// How often keys are fetched if the provider does not say.
const INTERVAL: Duration = Duration::from_secs(10 * 60);

/// The shortest and the longest that a provider may ask for with `Cache-Control: max-age`.
const INTERVAL_MIN: Duration = Duration::from_secs(60);
const INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);

/// The delay after a failure. It doubles with each further one, up to a minute.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// The delays between fetches.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The number of failures in a row.
    failures: u32,
}

impl Pace {
    /// The delay after a fetch with this result.
    pub(super) fn wait(&mut self, fetched: &Result<Fetched, String>) -> Duration {
        match fetched {
            Ok(fetched) => {
                self.failures = 0;
                fetched.max_age.unwrap_or(INTERVAL).clamp(INTERVAL_MIN, INTERVAL_MAX)
            }
            Err(_) => {
                let wait = RETRY_MIN.saturating_mul(2_u32.saturating_pow(self.failures)).min(RETRY_MAX);
                self.failures = self.failures.saturating_add(1);
                wait
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::news::tests::fetched;
    use super::*;

    #[test]
    fn keys_are_fetched_every_ten_minutes_unless_the_provider_says_otherwise() {
        let mut pace = Pace::default();
        for (max_age, wait) in [(None, 600), (Some(0), 60), (Some(90), 90), (Some(3600), 3600), (Some(86_400), 3600)] {
            let max_age = max_age.map(Duration::from_secs);
            assert_eq!(
                pace.wait(&Ok(Fetched { max_age, ..fetched(&["a"]) })),
                Duration::from_secs(wait),
                "{max_age:?}"
            );
        }
    }

    #[test]
    fn after_failures_it_is_tried_again_less_and_less_often() {
        let mut pace = Pace::default();
        let fail = |pace: &mut Pace| pace.wait(&Err("it is down".to_owned())).as_secs();
        let waits: Vec<u64> = (0..9).map(|_| fail(&mut pace)).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        (0..100).for_each(|_| assert_eq!(fail(&mut pace), 60));
        pace.wait(&Ok(fetched(&["a"])));
        assert_eq!(fail(&mut pace), 1);
    }
}
