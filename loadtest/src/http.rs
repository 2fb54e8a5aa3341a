//! As much of HTTP/1.1 answers as a client on loopback needs.

use memchr::memmem;

/// A head longer than this is none.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// Its status.
    pub status: u16,
    /// `Content-Length`, where there is one.
    pub length: Option<usize>,
    /// `Retry-After`, where it is a number of seconds.
    pub retry_after: Option<u32>,
    /// `Content-Type` is that of event streams.
    pub is_event_stream: bool,
    /// `Transfer-Encoding` names chunks.
    pub is_chunked: bool,
    /// Its bytes with the blank line: the body begins behind them.
    pub bytes: usize,
}

/// Reads a head off the beginning of `bytes`; none while it is not complete.
///
/// # Errors
/// Where it is no head.
pub fn read_head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
        return if bytes.len() > HEAD_BYTES_MAX { Err("a head without end".to_owned()) } else { Ok(None) };
    };
    let text = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    let status = status.ok_or_else(|| format!("not a status line: {first:?}"))?;
    let mut head =
        Head { status, length: None, retry_after: None, is_event_stream: false, is_chunked: false, bytes: end + 4 };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.length = value.parse().ok(),
            "retry-after" => head.retry_after = value.parse().ok(),
            "content-type" => head.is_event_stream = value.starts_with("text/event-stream"),
            "transfer-encoding" => head.is_chunked = value.eq_ignore_ascii_case("chunked"),
            _ => {}
        }
    }
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_complete() {
        let bytes =
            b"HTTP/1.1 429 No\r\nContent-Type: application/json\r\nRetry-After: 5\r\ncontent-length: 12\r\n\r\n{}";
        let whole = bytes.len() - 2;
        for cut in 0..whole {
            assert_eq!(read_head(&bytes[..cut]), Ok(None), "{cut}");
        }
        let head = Head {
            status: 429,
            length: Some(12),
            retry_after: Some(5),
            is_event_stream: false,
            is_chunked: false,
            bytes: whole,
        };
        assert_eq!(read_head(bytes), Ok(Some(head)));
        let stream = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let head = read_head(stream).expect("a head").expect("complete");
        assert!(head.is_event_stream && head.is_chunked && head.length.is_none());
        assert!(read_head(b"SSH-2.0-x\r\n\r\n").is_err());
        assert!(read_head(&[b'x'; HEAD_BYTES_MAX + 1]).is_err());
    }
}
