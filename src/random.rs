//! The one place that randomness comes from. Only shells ask it; whatever decides is handed its bits or its seed.

use std::fmt;

use ring::rand::{SecureRandom, SystemRandom};

/// The system gave none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoRandomness;

impl fmt::Display for NoRandomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the operating system provides no random numbers")
    }
}

impl std::error::Error for NoRandomness {}

/// Bits that nobody can guess.
///
/// # Errors
/// If the system gives none.
pub(crate) fn bits<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bits = [0; N];
    match SystemRandom::new().fill(&mut bits) {
        Ok(()) => Ok(bits),
        Err(_) => Err(NoRandomness),
    }
}
