//! A change of a plan: applies added, replaced and removed steps to the document of the plan.
//!
//! Documents stay text, so unchanged parts keep every number as it was written. The result is checked like any plan,
//! and its issues have paths within the change.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::fields::{Fields, Location, kind};
use super::{Issue, Issues, planned};
use crate::model::{Exact, Quoted, StepId};

/// The result of a change: the document of the new plan, and which of its steps are new, removed or replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Patched {
    /// The new document: as before except for the steps of the plan, and without the notes of the run.
    pub document: Vec<u8>,
    /// Steps that are new, in their order.
    pub added: Vec<StepId>,
    /// Steps that were removed.
    pub removed: Vec<StepId>,
    /// Steps that were replaced by others of the same id.
    pub changed: Vec<StepId>,
    /// For each step of the new plan, its place in the change, such as `add[0]`; `None` if it is unchanged.
    places: Vec<Option<String>>,
}

/// The contents of a change, with their places in its text.
struct Change {
    adds: usize,
    replaced: HashMap<StepId, usize>,
    removed: Vec<StepId>,
}

/// The members that a run adds to the document that it keeps: see [`noted_document`].
const NOTED: [&str; 3] = ["revision", "levels", "retryOf"];

impl Patched {
    /// Applies the change `patch`, an object with `add`, `replace` and `remove`, to a stored document (`{plan,
    /// inputs}`). Other members of the change are ignored. If a step `by` makes the change, the document records what
    /// it replaces, so that it can be undone. If a person makes it, the document records that no step's tool may undo
    /// it.
    ///
    /// # Errors
    /// The problems of the change itself, with their places. `patch` and `document` must be valid JSON.
    pub fn new(document: &str, patch: &str, by: Option<&StepId>) -> Result<Self, Vec<Issue>> {
        let by = by.map(|by| format!("\"{by}\""));
        let whole = |message: &str| vec![issue("", message)];
        let value: Value = serde_json::from_str(patch).map_err(|error| whole(&error.to_string()))?;
        let Some(object) = value.as_object() else {
            return Err(whole(&format!("a plan change must be an object, not {}", kind(&value))));
        };
        let unreadable = || whole("the run's plan can't be read, so it can't be changed");
        let mut document = Exact::read(document).ok_or_else(unreadable)?;
        let steps = steps_of(&mut document).ok_or_else(unreadable)?;
        let change = Change::read(object, steps)?;
        let mut patched = Self { removed: change.removed.clone(), ..Self::default() };
        let patch = Exact::read(patch).ok_or_else(unreadable)?;
        let before = patched.put(steps, &change, &patch);
        drop_notes(&mut document);
        match &by {
            Some(by) => planned::note(&mut document, by, member(&patch, "add"), before),
            None => {
                let all = patched.added.iter().chain(&patched.removed).chain(&patched.changed);
                planned::leave_to_people(&mut document, &all.collect());
            }
        }
        document.write(&mut patched.document);
        Ok(patched)
    }

    /// Applies the change to `steps`. Returns the steps that it removes or replaces, as they were.
    fn put<'a>(&mut self, steps: &mut Vec<Exact<'a>>, change: &Change, patch: &Exact<'a>) -> Vec<Exact<'a>> {
        let mut before = Vec::new();
        let removed: HashSet<&StepId> = change.removed.iter().collect();
        let (added, replacing) = (member(patch, "add"), member(patch, "replace"));
        let mut kept = Vec::with_capacity(steps.len());
        for step in steps.drain(..) {
            let id = id_of(&step);
            if id.as_ref().is_some_and(|id| removed.contains(id)) {
                before.push(step);
                continue;
            }
            let replaced = id.and_then(|id| Some((*change.replaced.get(&id)?, id)));
            match replaced.and_then(|(at, id)| Some((at, id, replacing.get(at)?))) {
                Some((at, id, other)) => {
                    self.places.push(Some(format!("replace[{at}]")));
                    self.changed.push(id);
                    kept.push(other.clone());
                    before.push(step);
                }
                None => {
                    self.places.push(None);
                    kept.push(step);
                }
            }
        }
        for (at, step) in added.iter().enumerate().take(change.adds) {
            self.places.push(Some(format!("add[{at}]")));
            self.added.extend(id_of(step));
            kept.push(step.clone());
        }
        *steps = kept;
        before
    }

    /// The issues of the new plan, with places in the change for those that come from there.
    pub fn in_change(&self, issues: Vec<Issue>) -> Vec<Issue> {
        issues.into_iter().map(|issue| Issue { path: self.path_in_change(&issue.path), ..issue }).collect()
    }

    fn path_in_change(&self, path: &str) -> String {
        let inside = path.strip_prefix("steps[").and_then(|rest| rest.split_once(']'));
        let place = inside.and_then(|(at, rest)| Some((self.places.get(at.parse::<usize>().ok()?)?.as_ref()?, rest)));
        place.map_or_else(|| path.to_owned(), |(place, rest)| format!("{place}{rest}"))
    }
}

impl Change {
    fn read(object: &Map<String, Value>, steps: &[Exact<'_>]) -> Result<Self, Vec<Issue>> {
        let known: HashSet<StepId> = steps.iter().filter_map(id_of).collect();
        let mut issues = Issues::new();
        let mut fields = Fields::new(object, Location::default(), &mut issues);
        let list = |fields: &mut Fields<'_, '_>, name| fields.array(name).cloned().unwrap_or_default();
        let (added, replacing, removing) =
            (list(&mut fields, "add"), list(&mut fields, "replace"), list(&mut fields, "remove"));
        if issues.is_empty() && added.is_empty() && replacing.is_empty() && removing.is_empty() {
            let message = format_args!("a plan change must have at least one step in add, replace or remove");
            issues.report(None, None, format_args!(""), message);
        }
        let removed = read_removed(&removing, &known, &mut issues);
        let gone: HashSet<&StepId> = removed.iter().collect();
        let replaced = read_replaced(&replacing, &known, &gone, &mut issues);
        for (at, step) in added.iter().enumerate() {
            let id = step.get("id").and_then(Value::as_str).and_then(|id| StepId::parse(id).ok());
            if let Some(id) = id.filter(|id| gone.contains(id)) {
                let message =
                    format_args!("the change also removes step {id}; to put another step in its place, use replace");
                issues.report(None, Some(&id), format_args!("add[{at}].id"), message);
            }
        }
        if issues.is_empty() { Ok(Self { adds: added.len(), replaced, removed }) } else { Err(issues.into_vec()) }
    }
}

fn read_removed(ids: &[Value], known: &HashSet<StepId>, issues: &mut Issues) -> Vec<StepId> {
    let mut removed = Vec::new();
    for (at, value) in ids.iter().enumerate() {
        let mut report = |message| issues.report(None, None, format_args!("remove[{at}]"), message);
        let Some(text) = value.as_str() else {
            report(format_args!("must be a step id, not {}", kind(value)));
            continue;
        };
        match StepId::parse(text).ok().filter(|id| known.contains(id)) {
            None => report(format_args!("unknown step {}", Quoted(text))),
            Some(id) if removed.contains(&id) => report(format_args!("step {id} is already removed")),
            Some(id) => removed.push(id),
        }
    }
    removed
}

fn read_replaced(
    steps: &[Value],
    known: &HashSet<StepId>,
    gone: &HashSet<&StepId>,
    issues: &mut Issues,
) -> HashMap<StepId, usize> {
    let mut replaced = HashMap::new();
    for (at, step) in steps.iter().enumerate() {
        let Some(object) = step.as_object() else {
            let message = format_args!("a step must be an object, not {}", kind(step));
            issues.report(None, None, format_args!("replace[{at}]"), message);
            continue;
        };
        let mut report = |message| issues.report(None, None, format_args!("replace[{at}].id"), message);
        let Some(text) = object.get("id").and_then(Value::as_str) else {
            report(format_args!("is required and must be the id of the step to replace"));
            continue;
        };
        match StepId::parse(text).ok().filter(|id| known.contains(id)) {
            None => report(format_args!("unknown step {}: only an existing step can be replaced", Quoted(text))),
            Some(id) if gone.contains(&id) => report(format_args!("the change also removes step {id}")),
            Some(id) if replaced.contains_key(&id) => report(format_args!("step {id} is already replaced")),
            Some(id) => drop(replaced.insert(id, at)),
        }
    }
    replaced
}

/// Adds the notes of a run to a document: the plan's revision; its levels, which may not follow from the steps alone
/// because some steps had started before others were added; and, as JSON, what it keeps of the run that it retries.
pub fn noted_document(document: &[u8], revision: u32, levels: &[Vec<StepId>], retry_of: Option<&str>) -> Vec<u8> {
    let end = document.iter().rposition(|&byte| byte == b'}').unwrap_or(document.len());
    let mut noted = document[..end].to_vec();
    noted.extend_from_slice(format!(",\"revision\":{revision},\"levels\":{}", serde_json::json!(levels)).as_bytes());
    if let Some(retry_of) = retry_of {
        noted.extend_from_slice(b",\"retryOf\":");
        noted.extend_from_slice(retry_of.as_bytes());
    }
    noted.push(b'}');
    noted
}

/// A stored document without the notes of its run, as a change needs it. Outputs kept of another run are left out, so
/// that no change has to read them. `None` if it is not JSON.
pub fn unnoted_document(document: &str) -> Option<String> {
    let mut document = Exact::read(document)?;
    drop_notes(&mut document);
    let mut text = Vec::new();
    document.write(&mut text);
    String::from_utf8(text).ok()
}

fn drop_notes(document: &mut Exact<'_>) {
    if let Exact::Object(members) = document {
        members.retain(|(name, _)| !NOTED.iter().any(|noted| Exact::text(name).as_deref() == Some(*noted)));
    }
}

/// The text that every document with notes of a run contains.
pub const NOTED_REVISION: &[u8] = b",\"revision\":";

/// Whether a document may have notes of a run. If not, the plan is as it was submitted.
pub fn is_noted(document: &[u8]) -> bool {
    memchr::memmem::rfind(document, NOTED_REVISION).is_some()
}

/// The steps of the plan in a stored document.
pub(super) fn steps_of<'d, 'a>(document: &'d mut Exact<'a>) -> Option<&'d mut Vec<Exact<'a>>> {
    match last_member(last_member(document, "plan")?, "steps")? {
        Exact::Array(steps) => Some(steps),
        _ => None,
    }
}

/// If a name occurs twice, the last one counts, as for every reader of the value.
pub(super) fn last_member<'d, 'a>(object: &'d mut Exact<'a>, name: &str) -> Option<&'d mut Exact<'a>> {
    let Exact::Object(members) = object else { return None };
    members.iter_mut().rev().find(|(key, _)| Exact::text(key).as_deref() == Some(name)).map(|(_, value)| value)
}

/// The items of an array. Empty if it is absent.
pub(super) fn member<'p, 'a>(object: &'p Exact<'a>, name: &str) -> &'p [Exact<'a>] {
    let Exact::Object(members) = object else { return &[] };
    let value = members.iter().rev().find(|(key, _)| Exact::text(key).as_deref() == Some(name)).map(|(_, value)| value);
    match value {
        Some(Exact::Array(items)) => items,
        _ => &[],
    }
}

pub(super) fn id_of(step: &Exact<'_>) -> Option<StepId> {
    let Exact::Object(members) = step else { return None };
    let id = members.iter().rev().find(|(key, _)| Exact::text(key).as_deref() == Some("id"))?;
    match &id.1 {
        Exact::Scalar(text) => StepId::parse(&Exact::text(text)?).ok(),
        _ => None,
    }
}

fn issue(path: &str, message: &str) -> Issue {
    Issue { path: path.to_owned(), message: message.to_owned(), step_id: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{"plan":{"name":"p","steps":[{"id":"a","n":1.10},{"id":"b"},{"id":"c"}]},"inputs":{"x":2.0},"revision":3,"levels":[["a"]]}"#;

    fn ids(ids: &[StepId]) -> Vec<&str> {
        ids.iter().map(StepId::as_str).collect()
    }

    #[test]
    fn steps_are_replaced_where_they_stand_and_new_ones_come_behind() {
        let patch =
            r#"{"expectedRevision":3, "remove":["b"], "add":[{"id":"d","n":1e3}], "replace":[{"id":"c","n":2.50}]}"#;
        let patched = Patched::new(DOCUMENT, patch, None).expect("a change");
        let expected = r#"{"plan":{"name":"p","steps":[{"id":"a","n":1.10},{"id":"c","n":2.50},{"id":"d","n":1e3}]},"inputs":{"x":2.0}}"#;
        assert_eq!(str::from_utf8(&patched.document), Ok(expected));
        assert_eq!(
            (ids(&patched.added), ids(&patched.removed), ids(&patched.changed)),
            (vec!["d"], vec!["b"], vec!["c"])
        );
        for (path, place) in [
            ("steps[0].tool", "steps[0].tool"),
            ("steps[1].inputs.n", "replace[0].inputs.n"),
            ("steps[2].dependencies[0]", "add[0].dependencies[0]"),
            ("steps[2]", "add[0]"),
            ("steps", "steps"),
            ("steps[7].x", "steps[7].x"),
        ] {
            assert_eq!(patched.path_in_change(path), place);
        }
        let noted = noted_document(&patched.document, 4, &[vec![StepId::parse("a").expect("an id")]], None);
        assert!(
            str::from_utf8(&noted).expect("text").ends_with(r#""inputs":{"x":2.0},"revision":4,"levels":[["a"]]}"#)
        );
        assert_eq!(
            Patched::new(str::from_utf8(&noted).expect("text"), r#"{"remove":["d"]}"#, None)
                .expect("one")
                .removed
                .len(),
            1
        );
    }

    #[test]
    fn what_is_wrong_with_a_change_is_told_by_its_places() {
        for (patch, expected) in [
            ("[]", ": a plan change must be an object, not an array"),
            ("{}", ": a plan change must have at least one step in add, replace or remove"),
            (r#"{"add":{}}"#, "add: must be an array, not an object"),
            (r#"{"remove":["z"]}"#, "remove[0]: unknown step \"z\""),
            (r#"{"remove":["a",1]}"#, "remove[1]: must be a step id, not a number"),
            (r#"{"remove":["a","a"]}"#, "remove[1]: step a is already removed"),
            (r#"{"replace":[{"id":"z"}]}"#, "replace[0].id: unknown step \"z\": only an existing step can be replaced"),
            (r#"{"replace":[7]}"#, "replace[0]: a step must be an object, not a number"),
            (r#"{"replace":[{}]}"#, "replace[0].id: is required and must be the id of the step to replace"),
            (r#"{"replace":[{"id":"a"},{"id":"a"}]}"#, "replace[1].id: step a is already replaced"),
            (r#"{"remove":["a"],"replace":[{"id":"a"}]}"#, "replace[0].id: the change also removes step a"),
            (
                r#"{"remove":["a"],"add":[{"id":"a"}]}"#,
                "add[0].id: the change also removes step a; to put another step in its place, use replace",
            ),
        ] {
            let issues = Patched::new(DOCUMENT, patch, None).expect_err(patch);
            let said = issues.iter().map(|issue| format!("{}: {}", issue.path, issue.message)).collect::<Vec<_>>();
            assert_eq!(said, [expected], "{patch}");
        }
    }
}
