//! Records in a plan's document which changes were made by the tools of its steps, so that they can be undone: a run
//! that starts again, or is retried from such a step, lets that tool plan again, and would find its additions already
//! present.
//!
//! `"plannedBy": [{"step", "added": [ids], "before": [steps], "stays": [ids]}]`, in the order of the changes. `before`
//! are the steps that were replaced or removed. `stays` are steps that no longer belong to the tool: people have
//! changed them since, or the plan would be invalid without them. They are not undone, and when the tool plans again it
//! does not change them. So a tool that plans the same results in the same plan.

use std::collections::{HashMap, HashSet};

use super::patch::{id_of, last_member, member, steps_of};
use crate::model::{Exact, StepId};

/// The name of the member in a document.
pub(super) const NAME: &str = "plannedBy";

/// The lists in a change.
const LISTS: [&str; 3] = ["add", "replace", "remove"];

/// The changes that a step has made.
struct Entry<'a> {
    by: StepId,
    by_text: &'a str,
    added: Vec<Exact<'a>>,
    before: Vec<Exact<'a>>,
    stays: Vec<Exact<'a>>,
}

/// The earlier version of a step whose changes are undone.
struct Earlier<'a> {
    at: usize,
    /// `None` if the step did not exist.
    was: Option<Exact<'a>>,
    /// The entries that have changed it.
    by: Vec<usize>,
}

/// Records a change. `by` is the id of the step as JSON.
pub(super) fn note<'a>(document: &mut Exact<'a>, by: &'a str, added: &[Exact<'a>], before: Vec<Exact<'a>>) {
    let ids = added.iter().filter_map(|step| member_of(step, "id")).cloned().collect();
    let entry = Exact::Object(vec![
        (r#""step""#, Exact::Scalar(by)),
        (r#""added""#, Exact::Array(ids)),
        (r#""before""#, Exact::Array(before)),
    ]);
    match last_member(document, NAME) {
        Some(Exact::Array(entries)) => entries.push(entry),
        _ => {
            if let Exact::Object(members) = document {
                members.push((r#""plannedBy""#, Exact::Array(vec![entry])));
            }
        }
    }
}

/// A person has changed these steps, so they no longer belong to a tool.
pub(super) fn leave_to_people(document: &mut Exact<'_>, changed: &HashSet<&StepId>) {
    let Some(Exact::Array(entries)) = last_member(document, NAME) else { return };
    for entry in entries {
        if let Some(mut read) = Entry::read(entry) {
            read.let_go(|id| changed.contains(id));
            *entry = read.into_json();
        }
    }
}

/// A stored document without the changes of the steps that run `again`, and of the steps that these have added. What
/// others have changed since stays. `None` if there is nothing to undo.
pub fn unplanned_document(document: &[u8], again: impl Fn(&StepId) -> bool) -> Option<Vec<u8>> {
    with_entries(document, |steps, entries| {
        let mut is_changed = false;
        while take_back(steps, entries, &again) {
            is_changed = true;
        }
        is_changed
    })
}

/// A stored document in which the changes of the steps that run `again` become permanent. `None` if there are none.
pub fn standing_document(document: &[u8], again: impl Fn(&StepId) -> bool) -> Option<Vec<u8>> {
    with_entries(document, |_, entries| {
        let own = entries.iter_mut().filter(|entry| entry.changes_any() && again(&entry.by));
        own.map(|entry| entry.let_go(|_| true)).count() > 0
    })
}

/// A change of the plan by a step, without the steps that no longer belong to it. `None` if nothing is left of it.
pub fn open_change(document: &str, by: &StepId, change: &str) -> Option<String> {
    let unchanged = || Some(change.to_owned());
    if memchr::memmem::find(document.as_bytes(), br#""stays""#).is_none() {
        return unchanged();
    }
    let (Some(document), Some(mut open)) = (Exact::read(document), Exact::read(change)) else { return unchanged() };
    let entries = member(&document, NAME).iter().filter_map(Entry::read).filter(|entry| entry.by == *by);
    let stays: HashSet<StepId> = entries.flat_map(|entry| entry.stays).filter_map(|id| scalar_id(&id)).collect();
    let (mut left, mut passed_over) = (0, 0);
    for name in LISTS {
        let Some(Exact::Array(items)) = last_member(&mut open, name) else { continue };
        let all = items.len();
        items.retain(|item| id_of(item).or_else(|| scalar_id(item)).is_none_or(|id| !stays.contains(&id)));
        (left, passed_over) = (left + items.len(), passed_over + all - items.len());
    }
    if passed_over == 0 {
        return unchanged();
    }
    let mut text = Vec::new();
    open.write(&mut text);
    String::from_utf8(text).ok().filter(|_| left > 0)
}

fn with_entries<'a>(
    document: &'a [u8],
    change: impl FnOnce(&mut Vec<Exact<'a>>, &mut Vec<Entry<'a>>) -> bool,
) -> Option<Vec<u8>> {
    memchr::memmem::find(document, NAME.as_bytes())?;
    let mut document = Exact::read(str::from_utf8(document).ok()?)?;
    let mut entries: Vec<Entry<'a>> = member(&document, NAME).iter().filter_map(Entry::read).collect();
    let steps = steps_of(&mut document)?;
    if !change(steps, &mut entries) {
        return None;
    }
    let there: HashSet<StepId> = steps.iter().filter_map(id_of).collect();
    entries.retain(|entry| there.contains(&entry.by) && (entry.changes_any() || !entry.stays.is_empty()));
    if let Exact::Object(members) = &mut document {
        members.retain(|(name, _)| Exact::text(name).as_deref() != Some(NAME));
        if !entries.is_empty() {
            members.push((r#""plannedBy""#, Exact::Array(entries.into_iter().map(Entry::into_json).collect())));
        }
    }
    let mut text = Vec::new();
    document.write(&mut text);
    Some(text)
}

/// Undoes the changes of steps that run `again` and of steps that no longer exist. Returns whether there were any.
fn take_back<'a>(steps: &mut Vec<Exact<'a>>, entries: &mut [Entry<'a>], again: impl Fn(&StepId) -> bool) -> bool {
    let there: HashSet<StepId> = steps.iter().filter_map(id_of).collect();
    let mut earlier: HashMap<StepId, Earlier<'a>> = HashMap::new();
    let mut is_any = false;
    for at in 0..entries.len() {
        let entry = &mut entries[at];
        if entry.changes_any() && (again(&entry.by) || !there.contains(&entry.by)) {
            is_any = true;
            for (id, was) in entry.versions() {
                let order = earlier.len();
                earlier.entry(id).or_insert(Earlier { at: order, was, by: Vec::new() }).by.push(at);
            }
            continue;
        }
        // A change that is kept now builds on the version before the undone one.
        let theirs: Vec<_> = entry.versions().into_iter().filter_map(|(id, _)| earlier.remove_entry(&id)).collect();
        for (id, Earlier { was, by, .. }) in theirs {
            entries[at].builds_on(&id, was);
            by.into_iter().for_each(|at| entries[at].let_go(|own| *own == id));
        }
    }
    let mut earlier: Vec<_> = earlier.into_iter().collect();
    earlier.sort_unstable_by_key(|(_, earlier)| earlier.at);
    for (_, Earlier { by, .. }) in &earlier {
        by.iter().for_each(|&at| entries[at].forget_changes());
    }
    restore(steps, earlier);
    is_any
}

fn restore<'a>(steps: &mut Vec<Exact<'a>>, earlier: Vec<(StepId, Earlier<'a>)>) {
    let absent: HashSet<&StepId> = earlier.iter().filter(|(_, step)| step.was.is_none()).map(|(id, _)| id).collect();
    steps.retain(|step| id_of(step).is_none_or(|id| !absent.contains(&id)));
    let places: HashMap<StepId, usize> =
        steps.iter().enumerate().filter_map(|(at, step)| Some((id_of(step)?, at))).collect();
    for (id, Earlier { was, .. }) in earlier {
        match (was, places.get(&id)) {
            (Some(was), Some(&at)) => steps[at] = was,
            (Some(was), None) => steps.push(was),
            (None, _) => {}
        }
    }
}

impl<'a> Entry<'a> {
    fn read(entry: &Exact<'a>) -> Option<Self> {
        let list = |name| member(entry, name).to_vec();
        let Some(Exact::Scalar(by_text)) = member_of(entry, "step") else { return None };
        let by = StepId::parse(&Exact::text(by_text)?).ok()?;
        Some(Self { by, by_text, added: list("added"), before: list("before"), stays: list("stays") })
    }

    fn into_json(self) -> Exact<'a> {
        let mut members = vec![
            (r#""step""#, Exact::Scalar(self.by_text)),
            (r#""added""#, Exact::Array(self.added)),
            (r#""before""#, Exact::Array(self.before)),
        ];
        if !self.stays.is_empty() {
            members.push((r#""stays""#, Exact::Array(self.stays)));
        }
        Exact::Object(members)
    }

    fn changes_any(&self) -> bool {
        !self.added.is_empty() || !self.before.is_empty()
    }

    /// The steps that it has changed, with their versions before.
    fn versions(&self) -> Vec<(StepId, Option<Exact<'a>>)> {
        let added = self.added.iter().filter_map(|id| Some((scalar_id(id)?, None)));
        let before = self.before.iter().filter_map(|step| Some((id_of(step)?, Some(step.clone()))));
        added.chain(before).collect()
    }

    /// Gives up steps, which then no longer belong to it.
    fn let_go(&mut self, is_theirs: impl Fn(&StepId) -> bool) {
        let is_theirs = |id: Option<StepId>| id.is_some_and(|id| is_theirs(&id));
        self.stays.extend(self.added.extract_if(.., |id| is_theirs(scalar_id(id))));
        let before = self.before.extract_if(.., |step| is_theirs(id_of(step)));
        self.stays.extend(before.filter_map(|step| member_of(&step, "id").cloned()));
    }

    /// Makes `was` the version of a step before its change.
    fn builds_on(&mut self, id: &StepId, was: Option<Exact<'a>>) {
        let own = self.added.extract_if(.., |own| scalar_id(own).as_ref() == Some(id)).next();
        let before = self.before.extract_if(.., |step| id_of(step).as_ref() == Some(id)).next();
        match was {
            Some(was) => self.before.push(was),
            None => self.added.extend(own.or_else(|| member_of(&before?, "id").cloned())),
        }
    }

    fn forget_changes(&mut self) {
        self.added.clear();
        self.before.clear();
    }
}

fn scalar_id(scalar: &Exact<'_>) -> Option<StepId> {
    match scalar {
        Exact::Scalar(text) => StepId::parse(&Exact::text(text)?).ok(),
        _ => None,
    }
}

fn member_of<'p, 'a>(object: &'p Exact<'a>, name: &str) -> Option<&'p Exact<'a>> {
    let Exact::Object(members) = object else { return None };
    members.iter().rev().find(|(key, _)| Exact::text(key).as_deref() == Some(name)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::super::Patched;
    use super::*;

    const FIRST: &str =
        r#"{"plan":{"steps":[{"id":"agent"},{"id":"b","n":1.10},{"id":"c"},{"id":"other"}]},"inputs":{"x":2.0}}"#;

    fn step(id: &str) -> StepId {
        StepId::parse(id).expect("an id")
    }

    fn change(document: &str, by: Option<&str>, change: &str) -> String {
        let by = by.map(step);
        let patched = Patched::new(document, change, by.as_ref()).expect(change);
        String::from_utf8(patched.document).expect("text")
    }

    /// The plan's steps and the records, without the rest.
    fn steps(document: &str) -> &str {
        let rest = document.strip_prefix(r#"{"plan":{"steps":"#).expect("a plan");
        rest.split_once("},\"inputs\"").expect("inputs").0
    }

    fn without(document: &str, again: &[&str]) -> Option<String> {
        let taken_back = unplanned_document(document.as_bytes(), |step| again.contains(&step.as_str()))?;
        Some(String::from_utf8(taken_back).expect("text"))
    }

    #[test]
    fn what_a_step_has_planned_is_taken_back_where_it_runs_again_and_what_others_have_stays() {
        assert_eq!(without(FIRST, &["agent"]), None);
        let planned = r#"{"add":[{"id":"new"}],"replace":[{"id":"b"}],"remove":["c"]}"#;
        let document = change(FIRST, Some("agent"), planned);
        assert_eq!(without(&document, &["b", "new"]), None, "it is not made again");
        let back = without(&document, &["agent"]).expect("taken back");
        let steps = r#"[{"id":"agent"},{"id":"b","n":1.10},{"id":"other"},{"id":"c"}]"#;
        let expected = format!(r#"{{"plan":{{"steps":{steps}}},"inputs":{{"x":2.0}}}}"#);
        assert_eq!(back, expected);

        let document = change(&document, None, r#"{"add":[{"id":"anns"}]}"#);
        let document = change(&document, Some("new"), r#"{"add":[{"id":"newer"}]}"#);
        let document = change(&document, Some("other"), r#"{"add":[{"id":"others"}]}"#);
        let back = without(&document, &["agent"]).expect("taken back");
        assert!(back.contains(r#"{"id":"anns"}"#) && back.contains(r#"{"id":"others"}"#), "{back}");
        assert!(!back.contains("new"), "what a planned step has planned goes with it: {back}");
        let back = without(&document, &["new"]).expect("taken back");
        assert!(back.contains(r#"{"id":"new"}"#) && !back.contains("newer"), "{back}");
        let added = change(&back, Some("new"), r#"{"add":[{"id":"newer"}]}"#);
        assert!(added.contains(r#"{"id":"newer"}"#), "it can be made again");
    }
    /// A person's version of a step was overwritten, and a step that a person had added again was removed.
    #[test]
    fn what_a_person_has_changed_of_a_plan_since_stays_where_a_planner_plans_again() {
        let planned = r#"{"add":[{"id":"new","n":1}],"replace":[{"id":"b","n":1}],"remove":["c"]}"#;
        let document = change(FIRST, Some("agent"), planned);
        let decided = r#"{"replace":[{"id":"b","n":2},{"id":"new","n":2}],"add":[{"id":"c","n":2}]}"#;
        let document = change(&document, None, decided);
        let stays = r#"[{"id":"agent"},{"id":"b","n":2},{"id":"other"},{"id":"new","n":2},{"id":"c","n":2}]"#;
        assert_eq!(without(&document, &["agent"]), None, "nothing is its own any more");
        assert_eq!(steps(&document), stays);

        assert_eq!(open(&document, "agent", planned), None, "the same again is no change");
        let others = r#"{"add":[{"id":"new"},{"id":"newer"}],"remove":["b","other"]}"#;
        let open = open(&document, "agent", others).expect("something is left");
        assert_eq!(open, r#"{"add":[{"id":"newer"}],"remove":["other"]}"#);
        assert_eq!(super::open_change(&document, &step("other"), others).as_deref(), Some(others));
        let document = change(&document, Some("agent"), &open);
        let back = without(&document, &["agent"]).expect("taken back");
        assert!(back.contains(r#""stays":["new","b","c"]"#) && !back.contains("newer"), "still: {back}");
    }

    /// What the first step had replaced overwrote what the second one had made of it.
    #[test]
    fn what_a_kept_planner_has_made_of_a_planned_step_stays_and_is_taken_back_to_what_was_there_first() {
        let document = change(FIRST, Some("agent"), r#"{"add":[{"id":"new"}],"replace":[{"id":"b","n":1}]}"#);
        let document = change(&document, Some("other"), r#"{"replace":[{"id":"b","n":2}],"remove":["new"]}"#);
        let back = without(&document, &["agent"]).expect("taken back");
        assert_eq!(steps(&back), r#"[{"id":"agent"},{"id":"b","n":2},{"id":"c"},{"id":"other"}]"#);
        let all = without(&back, &["other"]).expect("taken back");
        assert_eq!(steps(&all), r#"[{"id":"agent"},{"id":"b","n":1.10},{"id":"c"},{"id":"other"}]"#);
        assert_eq!(steps(&without(&document, &["agent", "other"]).expect("taken back")), steps(&all));
    }

    #[test]
    fn what_stands_is_not_changed_by_the_planner_that_plans_again() {
        let planned = r#"{"add":[{"id":"new"}],"replace":[{"id":"b","n":1}]}"#;
        let document = change(FIRST, Some("agent"), planned);
        let stands = standing_document(document.as_bytes(), |step| step.as_str() == "agent").expect("it stands");
        let stands = String::from_utf8(stands).expect("text");
        assert_eq!(steps(&stands), steps(&document));
        assert_eq!((without(&stands, &["agent"]), open(&stands, "agent", planned)), (None, None));
        assert_eq!(standing_document(stands.as_bytes(), |_| true), None);
    }

    fn open(document: &str, by: &str, change: &str) -> Option<String> {
        open_change(document, &step(by), change)
    }
}
