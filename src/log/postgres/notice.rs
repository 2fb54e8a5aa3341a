//! The notifications between nodes: the sender, what has happened, and the projects that have changed, separated by
//! spaces.

use crate::log::store::{Hints, NodeId};
use crate::model::ProjectId;

/// The engine accepts at most 7,999 bytes.
const BYTES_MAX: usize = 7900;

/// In place of projects: there are too many to list.
const ANYTHING: &str = "*";

/// There are wishes, or answers.
const WISHES: &str = "!";

/// Applications have published.
const PUBLISHED: &str = "+";

/// The node leaves.
const LEFT: &str = "-";

/// A node's own probe, with its number.
const PROBE: &str = "?";

/// These projects have moved.
pub(super) fn of_moved<'p>(node: NodeId, projects: impl Iterator<Item = &'p str> + Clone, has_wishes: bool) -> String {
    let mut text = node.to_string();
    if has_wishes {
        text.push(' ');
        text.push_str(WISHES);
    }
    let bytes: usize = projects.clone().map(|project| project.len() + 1).sum();
    match text.len() + bytes > BYTES_MAX {
        true => {
            text.push(' ');
            text.push_str(ANYTHING);
        }
        false => projects.for_each(|project| {
            text.push(' ');
            text.push_str(project);
        }),
    }
    text
}

/// A node leaves.
pub(super) fn of_leaving(node: NodeId) -> String {
    format!("{node} {LEFT}")
}

/// A node has written its probe of this number.
pub(super) fn of_probe(node: NodeId, number: u64) -> String {
    format!("{node} {PROBE} {number}")
}

/// Adds what `text` says to `hints`, unless `node` itself says so; the number of that one's probe.
pub(super) fn read(text: &str, node: NodeId, hints: &mut Hints) -> Option<u64> {
    let mut words = text.split_ascii_whitespace();
    let is_own = words.next().is_some_and(|from| from == node.to_string());
    while let Some(word) = words.next() {
        match word {
            PROBE => {
                let number = words.next()?.parse().ok();
                return number.filter(|_| is_own);
            }
            _ if is_own => {}
            WISHES => hints.has_wishes = true,
            PUBLISHED => hints.has_published = true,
            LEFT => hints.has_left = true,
            ANYTHING => hints.is_anything = true,
            // A notification that can't be parsed still means that something has changed.
            project => match ProjectId::parse(project) {
                Ok(project) => hints.projects.push(project),
                Err(_) => hints.is_anything = true,
            },
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId([1; 8]);
    const OTHER: NodeId = NodeId([2; 8]);

    fn moved(node: NodeId, projects: &[ProjectId]) -> String {
        of_moved(node, projects.iter().map(ProjectId::as_str), true)
    }

    fn heard(text: &str) -> (Hints, Option<u64>) {
        let mut hints = Hints::default();
        let probed = read(text, ME, &mut hints);
        (hints, probed)
    }

    #[test]
    fn what_others_say_is_heard_and_of_a_nodes_own_words_the_probes_alone() {
        let projects = ["p", "q:1"].map(|text| ProjectId::parse(text).expect("an id"));
        let (hints, probed) = heard(&moved(OTHER, &projects));
        assert_eq!((hints.projects, hints.has_wishes, probed), (projects.to_vec(), true, None));
        assert_eq!(heard(&moved(ME, &projects)), (Hints::default(), None));
        assert_eq!(heard(&of_probe(ME, 7)), (Hints::default(), Some(7)));
        assert_eq!(heard(&of_probe(OTHER, 7)), (Hints::default(), None));
        assert!(heard(&of_leaving(OTHER)).0.has_left);
        assert!(heard("0000000000000000 +").0.has_published);
    }

    #[test]
    fn more_projects_than_fit_are_anything() {
        let projects: Vec<_> = (0..1000).map(|n| ProjectId::parse(&format!("project-{n}")).expect("an id")).collect();
        let text = moved(OTHER, &projects);
        assert!(text.len() < 100 && heard(&text).0.is_anything, "{text}");
    }
}
