//! `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date.

use std::time::{Duration, UNIX_EPOCH};

use crate::model::Timestamp;

/// How long `value` asks to wait; none if it is neither seconds nor a date. A date counts from `date`, the answer's own
/// `Date`, so that a clock which differs from the server's does no harm; from `now` if there is none.
pub(crate) fn wait(value: &str, date: Option<&str>, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(value.parse().map_or(Duration::MAX, Duration::from_secs));
    }
    let now = UNIX_EPOCH + Duration::from_millis(now.as_millis());
    let until = httpdate::parse_http_date(value).ok()?;
    let from = date.and_then(|date| httpdate::parse_http_date(date.trim()).ok()).unwrap_or(now);
    Some(until.duration_since(from).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_seconds_or_a_date() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let now = httpdate::parse_http_date(date).expect("a date") + Duration::from_secs(5);
        for (value, own, expected) in [
            ("0", None, Some(0)),
            (" 120 ", None, Some(120)),
            ("99999999999999999999999", None, Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(date), Some(60)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", None, Some(55)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some("today"), Some(55)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(date), Some(60)),
            ("Sun Nov  6 08:50:37 1994", Some(date), Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(date), Some(0)),
            ("", None, None),
            ("-1", None, None),
            ("soon", None, None),
        ] {
            assert_eq!(wait(value, own, now.into()).map(|wait| wait.as_secs()), expected, "{value:?}");
        }
    }
}
