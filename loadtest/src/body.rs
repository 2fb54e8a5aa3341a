//! The requests of a publisher: made once, and patched with the due time before each sending.

use crate::clock::{DIGITS, digits, now_ns};
use crate::loopback::Target;
use crate::message::DUE_PREFIX;

/// A payload is at least this long: the due time and the braces.
pub const PAYLOAD_BYTES_MIN: usize = DUE_PREFIX.len() + DIGITS + r#","x":""}"#.len();

/// A request to publish one event, or an array of them.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Vec<u8>,
    /// Where the due times stand.
    dues: Vec<usize>,
}

impl Template {
    /// A call with `batch` events of `payload_bytes` each; one alone is sent as an object.
    pub fn new(target: Target, project: &str, token: Option<&str>, (payload_bytes, batch): (usize, usize)) -> Self {
        let event = event(payload_bytes);
        let body = if batch == 1 { event } else { format!("[{}]", vec![event; batch].join(",")) };
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let bytes = format!(
            "POST /api/projects/{project}/events HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{token}\
             Content-Length: {}\r\n\r\n{body}",
            target.address(),
            body.len()
        )
        .into_bytes();
        let dues = memchr::memmem::find_iter(&bytes, DUE_PREFIX).map(|at| at + DUE_PREFIX.len()).collect();
        Self { bytes, dues }
    }

    /// The request with this due time in each of its events.
    pub fn at(&mut self, due_ns: u64) -> &[u8] {
        let digits = digits(due_ns);
        for due in &self.dues {
            self.bytes[*due..due + DIGITS].copy_from_slice(&digits);
        }
        &self.bytes
    }
}

fn event(payload_bytes: usize) -> String {
    let fill = "x".repeat(payload_bytes.saturating_sub(PAYLOAD_BYTES_MIN));
    let (prefix, due) = (String::from_utf8_lossy(DUE_PREFIX), now_ns());
    format!("{{\"type\":\"load\",\"payload\":{prefix}{due},\"x\":\"{fill}\"}}}}")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_request_is_json_of_the_size_asked_for_with_its_due_time() {
        let target = Target::parse("http://127.0.0.1:1").expect("loopback");
        for (payload_bytes, batch) in [(PAYLOAD_BYTES_MIN, 1), (250, 1), (250, 3)] {
            let mut template = Template::new(target, "p", None, (payload_bytes, batch));
            let due_ns = crate::clock::now_ns();
            let text = String::from_utf8(template.at(due_ns).to_vec()).expect("text");
            let (head, body) = text.split_once("\r\n\r\n").expect("a head");
            assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
            let body: Value = serde_json::from_str(body).expect("JSON");
            let events = body.as_array().cloned().unwrap_or_else(|| vec![body]);
            assert_eq!(events.len(), batch);
            for event in events {
                assert_eq!(event["payload"]["due"], due_ns);
                assert_eq!(event["payload"].to_string().len(), payload_bytes);
            }
        }
    }
}
