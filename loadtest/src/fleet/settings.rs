//! Who comes to a fleet.

use std::sync::Arc;

use rustls::ClientConfig;

use crate::loopback::Target;
use crate::subscriber::{Pace, Position};

/// Who comes and what they do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server.
    pub target: Target,
    /// The subscribers go round these. Where one has commas in it, its streams are of several projects.
    pub projects: Vec<String>,
    /// Subscribers in all.
    pub subscribers: usize,
    /// Threads that they are shared out over.
    pub threads: usize,
    /// How they read.
    pub pace: Pace,
    /// What their first streams are resumed from.
    pub position: Option<Position>,
    /// A stream that ends is opened again, as `EventSource` would.
    pub comes_back: bool,
    /// What they show to be let in.
    pub token: Option<String>,
    /// What they speak TLS with, where they do.
    pub tls: Option<Arc<ClientConfig>>,
    /// The server numbers its messages.
    pub is_numbered: bool,
}

impl Settings {
    /// So many that read everything, on one thread.
    pub fn new(target: Target, project: &str, subscribers: usize) -> Self {
        Self {
            target,
            projects: vec![project.to_owned()],
            subscribers,
            threads: 1,
            pace: Pace::Full,
            position: None,
            comes_back: false,
            token: None,
            tls: None,
            is_numbered: true,
        }
    }
}
