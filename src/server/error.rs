//! Why a server does not start.

use std::{fmt, io};

use ring::rand::{SecureRandom, SystemRandom};

/// Why a server does not start.
#[derive(Debug)]
pub struct StartError(pub(super) String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// The system refused to do `what`.
pub(super) fn failed(what: &str, error: &io::Error) -> StartError {
    StartError(format!("can't {what}: {error}"))
}

/// Random bits.
pub(super) fn random_bits<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bits = [0; N];
    match SystemRandom::new().fill(&mut bits) {
        Ok(()) => Ok(bits),
        Err(_) => Err(StartError("the system gives no random numbers".into())),
    }
}
