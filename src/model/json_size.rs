//! The size of a value as JSON.

use std::io::{self, Write};

use serde::Serialize;

/// The size of a value as JSON in bytes, without creating the JSON. Works for values that can be written as JSON: their
/// keys are text.
pub fn json_bytes(value: &impl Serialize) -> u64 {
    let mut counted = Counted(0);
    // Neither the writer nor such a value can fail.
    let _ = serde_json::to_writer(&mut counted, value);
    counted.0
}

/// A value as JSON. `None` if it takes more than `bytes_max` bytes.
pub fn json_within(value: &impl Serialize, bytes_max: usize) -> Option<Vec<u8>> {
    let mut bounded = Bounded { bytes: Vec::new(), bytes_max };
    serde_json::to_writer(&mut bounded, value).ok().map(|()| bounded.bytes)
}

struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.bytes_max - self.bytes.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_made_as_json_where_it_fits() {
        for value in [json!("\u{1}"), json!({"a": [1, null]}), json!("é".repeat(1000))] {
            let json = value.to_string();
            assert_eq!(json_bytes(&value), json.len() as u64);
            assert_eq!(json_within(&value, json.len()), Some(json.clone().into_bytes()));
            assert_eq!(json_within(&value, json.len() - 1), None);
        }
    }
}
