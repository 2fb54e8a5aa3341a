//! No TLS: this program was built without it.

use std::sync::Arc;

use super::TlsCounts;
use crate::config::TlsConfig;
use crate::server::error::StartError;

/// What TLS is spoken with: nobody has it in a program that was built without the feature `tls`.
#[derive(Debug, Clone, Copy)]
pub enum Tls {}

impl Tls {
    pub(in crate::server) fn of(config: &TlsConfig) -> Result<Option<Self>, StartError> {
        config.wrong().into_iter().next().map_or(Ok(None), |issue| Err(StartError(issue)))
    }

    /// Reads certificate and key anew.
    ///
    /// # Errors
    /// None: there is nothing to read.
    pub fn reload(&self) -> Result<(), StartError> {
        match *self {}
    }

    pub(in crate::server) fn counts(&self) -> Arc<TlsCounts> {
        match *self {}
    }
}
