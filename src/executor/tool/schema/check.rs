//! Checks a value against the nodes of a schema.

use serde_json::{Map, Value};

use super::decimal::Decimal;
use super::{Bound, Keyword, Members, Node, NodeId, Type};

/// How many issues are told at once.
const ISSUES_MAX: usize = 100;

/// How many times a node may be applied in one check: 64 Ki values against 16 subschemas each. Nested alternatives can
/// multiply, so that without a limit a small schema could keep a thread for ever.
const WORK_MAX: usize = 1024 * 1024;

/// How deep nodes may be applied inside each other: JSON's own 128 levels, four subschemas each.
const DEPTH_MAX: usize = 512;

/// The longest piece of a value or schema that a message quotes, in characters.
const QUOTE_MAX: usize = 80;

pub(super) fn check(nodes: &[Node], value: &Value, is_template: &dyn Fn(&str) -> bool) -> Vec<(String, String)> {
    let mut check = Check { nodes, is_template, issues: Vec::new(), work_left: WORK_MAX, depth: 0 };
    check.apply(0, value, &mut String::new());
    if check.work_left == 0 {
        return vec![(String::new(), "takes too much work to check against this schema".to_owned())];
    }
    check.issues
}

/// `path` is always where the value at hand is; it is given back as it was taken.
struct Check<'a> {
    nodes: &'a [Node],
    is_template: &'a dyn Fn(&str) -> bool,
    issues: Vec<(String, String)>,
    work_left: usize,
    depth: usize,
}

impl<'a> Check<'a> {
    fn apply(&mut self, id: NodeId, value: &Value, path: &mut String) {
        if self.work_left == 0 || value.as_str().is_some_and(self.is_template) {
            return;
        }
        if self.depth == DEPTH_MAX {
            self.work_left = 0;
            return;
        }
        self.work_left -= 1;
        self.depth += 1;
        let nodes = self.nodes;
        for keyword in &nodes[id].keywords {
            match value {
                Value::Object(members) => self.object(keyword, members, path),
                Value::Array(items) => self.array(keyword, items, path),
                Value::String(text) => self.string(keyword, text, path),
                Value::Number(number) => {
                    Decimal::of(number).into_iter().for_each(|number| self.number(keyword, number, path));
                }
                Value::Null | Value::Bool(_) => {}
            }
            self.any(keyword, value, path);
        }
        self.depth -= 1;
    }

    /// Keywords for values of every type.
    fn any(&mut self, keyword: &'a Keyword, value: &Value, path: &mut String) {
        match keyword {
            Keyword::Never => self.issue(path, "is not allowed here".to_owned()),
            Keyword::Type(types) if !types.iter().any(|kind| kind.holds(value)) => {
                let names: Vec<_> = types.iter().map(|kind| kind.name()).collect();
                self.issue(path, format!("must be of type {}, not {}", names.join(" or "), type_name(value)));
            }
            Keyword::Enum(allowed) if !allowed.iter().any(|one| self.may_equal(one, value)) => {
                let allowed: Vec<_> = allowed.iter().map(Value::to_string).collect();
                self.issue(path, format!("must be one of {}", quote(&allowed.join(", "))));
            }
            Keyword::Const(only) if !self.may_equal(only, value) => {
                self.issue(path, format!("must be {}", quote(&only.to_string())));
            }
            Keyword::Ref(id) => self.apply(*id, value, path),
            Keyword::AllOf(ids) => ids.iter().for_each(|&id| self.apply(id, value, path)),
            Keyword::AnyOf(ids) if !ids.iter().any(|&id| self.holds(id, value)) => {
                self.alternatives(ids, value, path, "must match at least one schema in `anyOf`");
            }
            Keyword::OneOf(ids) => self.one_of(ids, value, path),
            Keyword::Not(id) if !self.is_open(value) && self.holds(*id, value) => {
                self.issue(path, "must not match the schema in `not`".to_owned());
            }
            Keyword::If { condition, then, otherwise } if !self.is_open(value) => {
                let branch = if self.holds(*condition, value) { then } else { otherwise };
                branch.iter().for_each(|&id| self.apply(id, value, path));
            }
            _ => {}
        }
    }

    fn one_of(&mut self, ids: &[NodeId], value: &Value, path: &mut String) {
        match ids.iter().filter(|&&id| self.holds(id, value)).count() {
            0 => self.alternatives(ids, value, path, "must match exactly one schema in `oneOf`, but matches none"),
            1 => {}
            _ if self.is_open(value) => {}
            many => self.issue(path, format!("must match exactly one schema in `oneOf`, but matches {many}")),
        }
    }

    /// None of `ids` holds. Where there is but one, what it says is told.
    fn alternatives(&mut self, ids: &[NodeId], value: &Value, path: &mut String, message: &str) {
        match ids {
            [only] => self.apply(*only, value, path),
            _ => self.issue(path, message.to_owned()),
        }
    }

    fn object(&mut self, keyword: &'a Keyword, members: &Map<String, Value>, path: &mut String) {
        match keyword {
            Keyword::Required(names) => {
                for name in names.iter().filter(|name| !members.contains_key(*name)) {
                    self.issue(path, format!("`{}` is missing", quote(name)));
                }
            }
            Keyword::Members(rules) => {
                for (name, value) in members {
                    self.member(name, value, rules, path);
                }
            }
            Keyword::MemberNames(id) => {
                for name in members.keys() {
                    if !self.holds(*id, &Value::from(name.as_str())) {
                        self.issue(path, format!("`{}` is a name that `propertyNames` does not allow", quote(name)));
                    }
                }
            }
            Keyword::MemberCount { least, count } => self.count(*least, *count, members.len(), "members", path),
            _ => {}
        }
    }

    fn member(&mut self, name: &str, value: &Value, rules: &Members, path: &mut String) {
        let by_name = rules.named.iter().filter(|(known, _)| known == name).map(|&(_, id)| id);
        let by_pattern = rules.matching.iter().filter(|(pattern, _)| pattern.is_match(name)).map(|&(_, id)| id);
        let mut ids: Vec<_> = by_name.chain(by_pattern).collect();
        if ids.is_empty() {
            ids.extend(rules.other);
        }
        let len = path.len();
        if len > 0 {
            path.push('.');
        }
        path.push_str(name);
        for id in ids {
            self.apply(id, value, path);
        }
        path.truncate(len);
    }

    fn array(&mut self, keyword: &'a Keyword, items: &[Value], path: &mut String) {
        match keyword {
            Keyword::Items { first, rest } => {
                for (index, item) in items.iter().enumerate() {
                    let Some(&id) = first.get(index).or(rest.as_ref()) else { break };
                    let len = path.len();
                    path.push_str(&format!("[{index}]"));
                    self.apply(id, item, path);
                    path.truncate(len);
                }
            }
            Keyword::ItemCount { least, count } => self.count(*least, *count, items.len(), "items", path),
            Keyword::UniqueItems => {
                if let Some(index) = self.repeated(items) {
                    self.issue(path, format!("must not contain duplicates, but item {index} repeats an earlier item"));
                }
            }
            _ => {}
        }
    }

    /// The index of the first item that equals an earlier one, compared in a form in which equal values are equal texts.
    fn repeated(&self, items: &[Value]) -> Option<usize> {
        let mut seen = std::collections::HashSet::new();
        let mut open = items.iter().map(|item| self.is_open(item));
        items.iter().position(|item| !open.next().unwrap_or_default() && !seen.insert(canonical(item)))
    }

    fn string(&mut self, keyword: &Keyword, text: &str, path: &str) {
        match keyword {
            Keyword::Length { least, count } => self.count(*least, *count, text.chars().count(), "characters", path),
            Keyword::Pattern(pattern) if !pattern.is_match(text) => {
                self.issue(path, format!("must match `{}`", quote(pattern.as_str())));
            }
            Keyword::Format(format) if !format.holds(text) => {
                self.issue(path, format!("must be {}", format.description()));
            }
            _ => {}
        }
    }

    fn number(&mut self, keyword: &Keyword, number: Decimal, path: &str) {
        match keyword {
            Keyword::Bound { bound, limit } => {
                let (holds, rule) = match bound {
                    Bound::Minimum => (number >= limit.value, "at least"),
                    Bound::Maximum => (number <= limit.value, "at most"),
                    Bound::ExclusiveMinimum => (number > limit.value, "more than"),
                    Bound::ExclusiveMaximum => (number < limit.value, "less than"),
                };
                if !holds {
                    self.issue(path, format!("must be {rule} {}", limit.shown));
                }
            }
            Keyword::MultipleOf(divisor) if !number.is_multiple_of(divisor.value) => {
                self.issue(path, format!("must be a multiple of {}", divisor.shown));
            }
            _ => {}
        }
    }

    fn count(&mut self, least: bool, limit: u64, found: usize, what: &str, path: &str) {
        let found = found as u64;
        if if least { found < limit } else { found > limit } {
            let rule = if least { "at least" } else { "at most" };
            self.issue(path, format!("must have {rule} {limit} {what}, not {found}"));
        }
    }

    /// Would nothing be wrong?
    fn holds(&mut self, id: NodeId, value: &Value) -> bool {
        let told = std::mem::take(&mut self.issues);
        self.apply(id, value, &mut String::new());
        std::mem::replace(&mut self.issues, told).is_empty()
    }

    /// May this value still become another, since it holds a template?
    fn is_open(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => (self.is_template)(text),
            Value::Array(items) => items.iter().any(|item| self.is_open(item)),
            Value::Object(members) => members.values().any(|member| self.is_open(member)),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    fn may_equal(&self, wanted: &Value, value: &Value) -> bool {
        self.is_open(value) || canonical(wanted) == canonical(value)
    }

    fn issue(&mut self, path: &str, message: String) {
        if self.issues.len() < ISSUES_MAX {
            self.issues.push((path.to_owned(), message));
        }
    }
}

/// The same text for values that JSON Schema takes as equal: 1 and 1.0, objects in any order.
fn canonical(value: &Value) -> String {
    match value {
        Value::Number(number) => match Decimal::of(number) {
            Some(decimal) => format!("{decimal:?}"),
            None => number.to_string(),
        },
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Object(members) => {
            let mut texts: Vec<_> = members
                .iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)))
                .collect();
            texts.sort_unstable();
            format!("{{{}}}", texts.join(","))
        }
        other => other.to_string(),
    }
}

fn type_name(value: &Value) -> &'static str {
    Type::ALL.iter().find(|(_, kind)| kind.holds(value)).map_or("", |&(name, _)| name)
}

fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTE_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
