//! The source of keys: a file, or a URL that is fetched.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::auth::{JWKS_BYTES_MAX, KeySet, ReadKeySet};
use crate::config::KeyLocation;

/// How long a fetch may take, from resolving the name to the last byte.
pub(in crate::server) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The result of a fetch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fetched {
    pub(super) read: ReadKeySet,
    /// How long the keys are valid according to the provider.
    pub(super) max_age: Option<Duration>,
}

/// The source of keys.
#[derive(Debug)]
pub(in crate::server) enum Source {
    File(PathBuf),
    #[cfg(feature = "http-tool")]
    Url(web::Web),
}

impl Source {
    /// Opens the source that `location` names. Checks that a file holds keys.
    ///
    /// # Errors
    /// The problem of the file, which is the operator's mistake and will not pass by itself. Or that it is a url, and
    /// the program was built without an HTTP client.
    pub(in crate::server) fn new(location: &KeyLocation) -> Result<Self, String> {
        match (location.file(), location.url()) {
            (Some(path), _) => read_file(path).map(|_| Self::File(path.to_owned())),
            #[cfg(feature = "http-tool")]
            (None, Some(url)) => Ok(Self::Url(web::Web::new(url))),
            _ => Err("expected a file, because this program was built without the feature http-tool".to_owned()),
        }
    }

    /// Ends a fetch that is in progress. No fetch succeeds after that.
    pub(super) fn give_up(&self) {
        #[cfg(feature = "http-tool")]
        if let Self::Url(web) = self {
            web.give_up();
        }
    }

    /// Returns the current keys. Blocks.
    ///
    /// # Errors
    /// The problem, in one sentence.
    pub(super) fn fetch(&self) -> Result<Fetched, String> {
        match self {
            Self::File(path) => Ok(Fetched { read: read_file(path)?, max_age: None }),
            #[cfg(feature = "http-tool")]
            Self::Url(web) => web.fetch(),
        }
    }
}

fn read_file(path: &Path) -> Result<ReadKeySet, String> {
    let bytes = read_bytes(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
    KeySet::read(&bytes).map_err(|why| format!("{}: {why}", path.display()))
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    // One byte more than the limit shows that it is too large.
    file.take(JWKS_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(feature = "http-tool")]
mod web {
    use std::time::Duration;

    use super::{FETCH_TIMEOUT, Fetched};
    use crate::auth::{JWKS_BYTES_MAX, KeySet};
    use crate::outbound::{Answer, Client, Request, Settings, Url};

    /// A url, and the client that fetches it.
    #[derive(Debug)]
    pub(in crate::server) struct Web {
        client: Client,
        request: Request,
    }

    impl Web {
        pub(super) fn new(url: &Url) -> Self {
            let settings =
                Settings { timeout: FETCH_TIMEOUT, body_bytes_max: JWKS_BYTES_MAX, proxy_from_env: !url.is_loopback() };
            let accept = ("Accept".to_owned(), "application/jwk-set+json, application/json".to_owned());
            let request =
                Request { method: "GET".to_owned(), url: url.as_str().to_owned(), headers: vec![accept], body: None };
            Self { client: Client::new(settings), request }
        }

        pub(super) fn give_up(&self) {
            self.client.shut_down();
        }

        pub(super) fn fetch(&self) -> Result<Fetched, String> {
            let answer = self.client.send(&self.request)?;
            let server = crate::outbound::origin(&self.request.url);
            let read = read(&answer).map_err(|why| format!("{server}: {why}"))?;
            Ok(Fetched { read, max_age: answer.header("cache-control").and_then(max_age) })
        }
    }

    fn read(answer: &Answer) -> Result<crate::auth::ReadKeySet, String> {
        match answer.status {
            200 if answer.is_cut => {
                Err(format!("the key set is too large (limit {JWKS_BYTES_MAX} bytes, not configurable)"))
            }
            200 => KeySet::read(&answer.body),
            status @ 300..400 => Err(format!("the server answered {status}; redirects are not followed")),
            status => Err(format!("the server answered {status}")),
        }
    }

    /// The seconds in `max-age`.
    fn max_age(cache_control: &str) -> Option<Duration> {
        cache_control.split(',').find_map(|directive| {
            let (name, value) = directive.trim().split_once('=')?;
            let seconds = value.trim_matches('"').parse().ok()?;
            name.eq_ignore_ascii_case("max-age").then_some(Duration::from_secs(seconds))
        })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn how_long_keys_are_good_is_told_in_seconds() {
            for (value, seconds) in [
                ("max-age=600", Some(600)),
                ("public, Max-Age=\"60\", must-revalidate", Some(60)),
                ("s-maxage=5,max-age=0", Some(0)),
                ("no-store", None),
                ("max-age=soon", None),
                ("max-age", None),
                ("", None),
            ] {
                assert_eq!(max_age(value), seconds.map(Duration::from_secs), "{value}");
            }
        }
    }
}
