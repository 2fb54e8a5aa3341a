//! Why a scenario could not be carried out.

use std::fmt;
use std::io;

/// One sentence for whoever started it.
#[derive(Debug)]
pub struct Failure(pub String);

/// What most things here give.
pub type Outcome<T> = Result<T, Failure>;

/// A failure with this text.
pub fn failure<T>(text: impl Into<String>) -> Outcome<T> {
    Err(Failure(text.into()))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<rustls::Error> for Failure {
    fn from(error: rustls::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<rustls::pki_types::InvalidDnsNameError> for Failure {
    fn from(error: rustls::pki_types::InvalidDnsNameError) -> Self {
        Self(error.to_string())
    }
}

impl From<rcgen::Error> for Failure {
    fn from(error: rcgen::Error) -> Self {
        Self(error.to_string())
    }
}
