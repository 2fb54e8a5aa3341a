//! A stand-in for TLS in a program that was built without it.

use std::sync::Arc;

use super::TlsCounts;
use crate::config::TlsConfig;
use crate::server::error::StartError;

/// The server's TLS settings. No value exists in a program that was built without the feature `tls`.
#[derive(Debug, Clone, Copy)]
pub enum Tls {}

impl Tls {
    pub(in crate::server) fn of(config: &TlsConfig) -> Result<Option<Self>, StartError> {
        config.wrong().into_iter().next().map_or(Ok(None), |issue| Err(StartError(issue)))
    }

    /// Reads the certificate and key again.
    ///
    /// # Errors
    /// Never: no value of this type exists.
    pub fn reload(&self) -> Result<(), StartError> {
        match *self {}
    }

    pub(in crate::server) fn counts(&self) -> Arc<TlsCounts> {
        match *self {}
    }
}
