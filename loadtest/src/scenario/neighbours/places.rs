//! The projects that neighbours are busy with, and where their runs are found.

/// Where the measured publisher publishes.
pub(super) const PUBLISHED: &str = "published";
/// Where someone else does.
pub(super) const OTHER: &str = "other";
/// The project of the running step with a large output.
pub(super) const RANGES: &str = "ranges";
/// The project of the run with large outputs.
pub(super) const LARGE_RUN: &str = "large-run";
/// The project of the running run of many steps.
pub(super) const LONG_RUN: &str = "long-run";
/// The project of the output that is downloaded.
pub(super) const DOWNLOAD: &str = "download";
/// The project whose messages are replayed.
pub(super) const REPLAYED: &str = "replayed";

/// The id of a project's run.
pub(super) fn run_id(project: &str) -> String {
    format!("{project}-run")
}

/// The run of a project.
pub(super) fn run_path(project: &str) -> String {
    format!("/api/projects/{project}/workflows/{}", run_id(project))
}

/// What the first step of a project's run has printed.
pub(super) fn output_path(project: &str) -> String {
    format!("{}/steps/s0/output", run_path(project))
}
