//! One request and its complete response, within a time and a size limit. Every request uses a connection of its own.

use std::io::Read;
use std::time::Duration;

use ureq::http::HeaderMap;
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Timeout};

use super::guard::{Guard, Reach};
use super::wire::{self, Request, broke_off, describe, reason};

/// How a client behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// From the look-up of the name to the last byte of the answer.
    pub(crate) timeout: Duration,
    /// How much of an answer's body is read; the rest is left.
    pub(crate) body_bytes_max: usize,
    /// Is the proxy that the environment names used?
    pub(crate) proxy_from_env: bool,
}

/// Sends requests. Cheap to clone; a clone shares what [`shut_down`](Self::shut_down) ends.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    agent: Agent,
    settings: Settings,
}

/// A response of any status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// There was more of the body than is read.
    pub(crate) is_cut: bool,
}

impl Client {
    /// A client whose requests may go anywhere.
    pub(crate) fn new(settings: Settings) -> Self {
        Self::within(Reach::Any, settings)
    }

    /// A client whose requests may go so far. Of one that goes by a proxy it is the proxy's address that is looked at.
    pub(crate) fn within(reach: Reach, settings: Settings) -> Self {
        let config = wire::config(settings.proxy_from_env)
            .timeout_global(Some(settings.timeout))
            .max_idle_connections(0)
            .max_idle_connections_per_host(0);
        let (connector, guard) = (DefaultConnector::default(), Guard::new(reach));
        Self { agent: Agent::with_parts(config.build(), connector, guard), settings }
    }

    /// Sends `request` and reads its answer. Redirects are answers as others: they are not followed. Blocks.
    ///
    /// # Errors
    /// One sentence that names the method and the origin, and no more of the url.
    pub(crate) fn send(&self, request: &Request) -> Result<Answer, String> {
        let response = wire::send(&self.agent, request).map_err(|error| describe(request, &self.reason(&error)))?;
        let (head, body) = response.into_parts();
        let mut bytes = Vec::new();
        let read = body.into_reader().take(self.settings.body_bytes_max as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| match error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
            Some(error @ ureq::Error::Timeout(_)) => describe(request, &self.reason(error)),
            _ => broke_off(request, &error),
        })?;
        let is_cut = bytes.len() > self.settings.body_bytes_max;
        bytes.truncate(self.settings.body_bytes_max);
        Ok(Answer { status: head.status.as_u16(), headers: headers(&head.headers), body: bytes, is_cut })
    }

    /// Ends the requests that are on their way, of all clones; later ones fail.
    pub(crate) fn shut_down(&self) {
        self.agent.clone().shutdown();
    }

    fn reason(&self, error: &ureq::Error) -> String {
        match error {
            ureq::Error::Timeout(Timeout::Global) => format!("no complete response within {:?}", self.settings.timeout),
            other => reason(other),
        }
    }
}

impl Answer {
    /// The first header of this name, which is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn headers(map: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &ureq::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    map.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread::{JoinHandle, spawn};

    use super::*;

    fn client(timeout: Duration) -> Client {
        Client::new(Settings { timeout, body_bytes_max: 10, proxy_from_env: false })
    }

    fn request(method: &str, url: &str, body: Option<&[u8]>) -> Request {
        let headers = vec![("x-key".to_owned(), "secret".to_owned())];
        Request { method: method.to_owned(), url: url.to_owned(), headers, body: body.map(<[u8]>::to_vec) }
    }

    /// A server that does this with its one connection, once it has read the head of a request; the head comes back.
    fn served(with: impl FnOnce(TcpStream) + Send + 'static) -> (String, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/hook?token=hunter2", listener.local_addr().expect("bound"));
        let head = spawn(move || {
            let mut stream = BufReader::new(listener.accept().expect("a client").0);
            let mut head = String::new();
            while stream.read_line(&mut head).is_ok_and(|n| n > 2) {}
            with(stream.into_inner());
            head
        });
        (url, head)
    }

    fn answering(bytes: &'static str) -> (String, JoinHandle<String>) {
        served(move |mut stream| stream.write_all(bytes.as_bytes()).expect("is taken"))
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn any_status_is_an_answer_and_no_redirect_is_followed() {
        for (bytes, status, location) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, None),
            ("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 2\r\n\r\nok", 302, Some("/x")),
            ("HTTP/1.1 500 Oh\r\nConnection: close\r\n\r\nok", 500, None),
        ] {
            let (url, head) = answering(bytes);
            let answer = client(LONG).send(&request("POST", &url, Some(b"{}"))).expect("an answer");
            assert_eq!((answer.status, answer.header("location"), &*answer.body), (status, location, &b"ok"[..]));
            let head = head.join().expect("served").to_ascii_lowercase();
            assert!(head.starts_with("post /hook?token=hunter2 http/1.1\r\n"), "{head}");
            assert!(head.contains("x-key: secret") && head.contains("content-length: 2"), "{head}");
        }
    }

    #[test]
    fn what_is_out_of_reach_is_not_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("set");
        let port = listener.local_addr().expect("bound").port();
        for host in ["127.0.0.1", "localhost", "2130706433"] {
            let settings = Settings { timeout: LONG, body_bytes_max: 10, proxy_from_env: false };
            let url = format!("http://{host}:{port}/x");
            let error =
                Client::within(Reach::Public, settings).send(&request("GET", &url, None)).expect_err("out of reach");
            assert!(
                error.ends_with(&format!("{host} has no public address and is not listed in allow_hosts")),
                "{error}"
            );
        }
        assert!(listener.accept().is_err(), "nobody came");
    }

    #[test]
    fn a_body_is_read_up_to_its_bound() {
        for (bytes, body, is_cut) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789", "0123456789", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n0123456789a", "0123456789", true),
            ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n0123456789abc", "0123456789", true),
            ("HTTP/1.1 204 No\r\n\r\n", "", false),
        ] {
            let (url, _head) = answering(bytes);
            let answer = client(LONG).send(&request("GET", &url, None)).expect("an answer");
            assert_eq!((&*answer.body, answer.is_cut), (body.as_bytes(), is_cut), "{bytes}");
        }
    }

    #[test]
    fn what_comes_to_nothing_is_said_without_the_rest_of_the_url() {
        let gone = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
        let error = client(LONG).send(&request("GET", &format!("http://{gone}/x?hunter2"), None)).expect_err("refused");
        assert!(error.starts_with(&format!("GET http://{gone}: ")) && !error.contains("hunter2"), "{error}");
        for (bytes, said) in [
            ("", "the server closed the connection without a response"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "was complete"),
        ] {
            let (url, _head) = answering(bytes);
            let error = client(LONG).send(&request("GET", &url, None)).expect_err("no answer");
            assert!(error.contains(said) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn an_answer_that_never_ends_is_given_up_wherever_it_stands() {
        for bytes in ["", "HTTP/1.1 200 OK\r\nContent-", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"] {
            let (url, head) = served(move |mut stream| {
                stream.write_all(bytes.as_bytes()).expect("is taken");
                // Until the client has gone.
                let _ = stream.read_to_end(&mut Vec::new());
            });
            let error = client(Duration::from_millis(50)).send(&request("GET", &url, None)).expect_err("given up");
            assert!(error.ends_with(": no complete response within 50ms"), "{bytes}: {error}");
            head.join().expect("the connection was closed");
        }
    }

    #[test]
    fn shutting_down_ends_what_is_on_its_way() {
        let client = client(LONG);
        let other = client.clone();
        let (url, head) = served(move |mut stream| {
            other.shut_down();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        assert!(client.send(&request("GET", &url, None)).is_err());
        head.join().expect("the connection was closed");
        assert!(client.send(&request("GET", &url, None)).is_err(), "and so is what comes later");
    }
}
