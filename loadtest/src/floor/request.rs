//! The few bytes of the load generator's requests that the floor needs.

use memchr::{memchr2, memmem};

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// `GET /healthz`.
    Health,
    /// A stream of this project.
    Subscribe { project: &'a [u8] },
    /// An event for this project; `rest` is its JSON behind the type.
    Publish { project: &'a [u8], rest: &'a [u8] },
    /// Anything else.
    Other,
}

/// What every event of the load generator begins with.
const EVENT: &[u8] = b"{\"type\":\"load\"";

/// Reads a request; none while it is not complete.
pub fn read(bytes: &[u8]) -> Option<Request<'_>> {
    let end = memmem::find(bytes, b"\r\n\r\n")?;
    if bytes.starts_with(b"GET /healthz ") {
        return Some(Request::Health);
    }
    if let Some(rest) = bytes.strip_prefix(b"GET /api/sse/projects/") {
        let project = memchr2(b'?', b' ', rest).map(|end| &rest[..end]);
        return Some(project.map_or(Request::Other, |project| Request::Subscribe { project }));
    }
    read_event(&bytes[..end], &bytes[end + 4..])
}

fn read_event<'a>(head: &'a [u8], body: &'a [u8]) -> Option<Request<'a>> {
    const LENGTH: &[u8] = b"\r\nContent-Length: ";
    let project = head.strip_prefix(b"POST /api/projects/").and_then(|rest| Some(&rest[..memchr2(b'/', b' ', rest)?]));
    let length = memmem::find(head, LENGTH).and_then(|at| {
        let digits = head[at + LENGTH.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        digits.take(9).fold(None, |sum, digit| Some(sum.unwrap_or(0) * 10 + usize::from(digit - b'0')))
    });
    let (Some(project), Some(length)) = (project, length) else { return Some(Request::Other) };
    if body.len() < length {
        return None;
    }
    let rest = body[..length].strip_prefix(EVENT).filter(|_| body.len() == length);
    Some(rest.map_or(Request::Other, |rest| Request::Publish { project, rest }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generators_requests_are_known_and_others_are_not() {
        let publish = b"POST /api/projects/p1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 31\r\n\r\n\
            {\"type\":\"load\",\"payload\":{    }";
        for cut in 0..publish.len() {
            assert_eq!(read(&publish[..cut]), None, "{cut}");
        }
        assert_eq!(read(publish), Some(Request::Publish { project: b"p1", rest: b",\"payload\":{    }" }));
        assert_eq!(read(b"GET /healthz HTTP/1.1\r\n\r\n"), Some(Request::Health));
        for project in
            [&b"GET /api/sse/projects/p HTTP/1.1\r\n\r\n"[..], b"GET /api/sse/projects/p?a=1 HTTP/1.1\r\n\r\n"]
        {
            assert_eq!(read(project), Some(Request::Subscribe { project: b"p" }));
        }
        for other in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"POST /api/projects/p/events HTTP/1.1\r\n\r\n",
            b"POST /api/projects/p/events HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]",
            b"GET /api/sse/projects/p\r\n\r\n",
        ] {
            assert_eq!(read(other), Some(Request::Other), "{}", String::from_utf8_lossy(other));
        }
    }
}
