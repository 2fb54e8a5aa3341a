//! The neighbours: what each does, in the words of the wire contract.

use super::places;
use crate::asker::{Question, Until};
use crate::failure::Outcome;
use crate::options::Options;
use crate::publisher::Publisher;
use crate::scenario::steps::publish_at;
use crate::server::Server;

/// A neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nobody: what differs is noise.
    Nobody,
    /// Asks `healthz`: what any other request costs.
    Healthz,
    /// Reads the first ten bytes of a running step's large output.
    Ranges,
    /// Reads a run whose outputs are large.
    LargeRun,
    /// Opens the stream of a running run of many steps, and leaves once it has the snapshot.
    Attaches,
    /// Downloads a large output.
    Downloads,
    /// Many clients resume at once from before many messages.
    Replay,
    /// A watcher of the publisher's own project that reads nothing.
    UnreadOwn,
    /// A watcher of another project that reads nothing while that is published to.
    UnreadOther,
    /// Lists many projects.
    Lists,
}

/// All of them.
pub(super) const ALL: &[Kind] = &[
    Kind::Nobody,
    Kind::Healthz,
    Kind::Ranges,
    Kind::LargeRun,
    Kind::Attaches,
    Kind::Downloads,
    Kind::Replay,
    Kind::UnreadOwn,
    Kind::UnreadOther,
    Kind::Lists,
];

/// Messages a second to the other project that someone does not read.
const BACKGROUND_PER_SECOND: f64 = 500.0;

/// What a neighbour does, again and again.
#[derive(Debug)]
pub(super) enum Act {
    /// Nothing.
    Nothing,
    /// Asks this.
    Ask(Question),
    /// Has all messages replayed to many clients.
    Replay,
    /// Opens a stream of this project and does not read it.
    ReadNothing(&'static str),
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody (noise)",
            Self::Healthz => "healthz (to compare)",
            Self::Ranges => "ranges of a running output",
            Self::LargeRun => "GET of a large run",
            Self::Attaches => "attaches of a long run",
            Self::Downloads => "a download",
            Self::Replay => "a replay",
            Self::UnreadOwn => "unread watcher, own project",
            Self::UnreadOther => "unread watcher, another project",
            Self::Lists => "lists of projects",
        }
    }

    /// Others are for comparison.
    pub(super) fn is_judged(self) -> bool {
        !matches!(self, Self::Nobody | Self::Healthz)
    }

    pub(super) fn act(self, server: &Server) -> Act {
        let ask = |path: &str, lines: &str| Act::Ask(Question::get(server.target(), path, lines, Until::End));
        match self {
            Self::Nobody => Act::Nothing,
            Self::Healthz => ask("/healthz", ""),
            Self::Ranges => ask(&places::output_path(places::RANGES), "Range: bytes=0-9\r\n"),
            Self::LargeRun => ask(&places::run_path(places::LARGE_RUN), ""),
            Self::Attaches => {
                let path = format!("/api/sse/projects/{}", places::LONG_RUN);
                Act::Ask(Question::get(server.target(), &path, "", Until::Snapshot))
            }
            Self::Downloads => ask(&places::output_path(places::DOWNLOAD), ""),
            Self::Replay => Act::Replay,
            Self::UnreadOwn => Act::ReadNothing(places::PUBLISHED),
            Self::UnreadOther => Act::ReadNothing(places::OTHER),
            Self::Lists => ask("/api/projects?limit=1000", ""),
        }
    }

    /// What goes on in both turns: a project that nobody publishes to has no watcher who is behind.
    pub(super) fn start_background(self, server: &Server, options: &Options) -> Outcome<Option<Publisher>> {
        match self {
            Self::UnreadOther => {
                publish_at(server, places::OTHER, BACKGROUND_PER_SECOND, options.number("payload")?).map(Some)
            }
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_neighbour_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), ALL.len());
        assert_eq!(ALL.iter().filter(|kind| !kind.is_judged()).count(), 2);
    }
}
