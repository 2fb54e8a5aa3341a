//! Compiles the JSON of a schema into nodes.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;
use regex_lite::Regex;
use serde_json::{Map, Value};

use super::decimal::Decimal;
use super::format::Format;
use super::{Bound, Keyword, Limit, Members, Node, NodeId, Type};

/// How many subschemas a schema may have.
const NODES_MAX: usize = 10_000;

/// How deep subschemas may lie inside each other, references included.
const DEPTH_MAX: usize = 256;

/// Keywords that say nothing about validity.
const ANNOTATIONS: [&str; 14] = [
    "title",
    "description",
    "default",
    "examples",
    "example",
    "$schema",
    "$id",
    "$anchor",
    "$comment",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentEncoding",
    "contentMediaType",
];

/// Keywords that are compiled together, or with the one that makes use of them.
const GROUPED: [&str; 9] = [
    "properties",
    "patternProperties",
    "additionalProperties",
    "prefixItems",
    "items",
    "then",
    "else",
    "$defs",
    "definitions",
];

pub(super) fn compile(schema: &Value) -> Result<Vec<Node>, String> {
    let mut compiler = Compiler { root: schema, nodes: Vec::new(), known: HashMap::new(), depth: 0 };
    compiler.node(String::new())?;
    refuse_endless_references(&compiler.nodes)?;
    Ok(compiler.nodes)
}

/// `pointer` is always the JSON pointer, from the root, of what is compiled.
struct Compiler<'s> {
    root: &'s Value,
    nodes: Vec<Node>,
    known: HashMap<String, NodeId>,
    depth: usize,
}

impl<'s> Compiler<'s> {
    fn node(&mut self, pointer: String) -> Result<NodeId, String> {
        if let Some(&known) = self.known.get(&pointer) {
            return Ok(known);
        }
        let Some(schema) = self.root.pointer(&pointer) else {
            return Err(format!("$ref to {}, which does not exist", shown(&pointer)));
        };
        let id = self.nodes.len();
        if id == NODES_MAX || self.depth == DEPTH_MAX {
            return Err(format!(
                "has more than {NODES_MAX} subschemas, or nests them more than {DEPTH_MAX} levels deep"
            ));
        }
        self.depth += 1;
        self.nodes.push(Node::default());
        self.known.insert(pointer.clone(), id);
        self.nodes[id].keywords = match schema {
            Value::Bool(true) => Vec::new(),
            Value::Bool(false) => vec![Keyword::Never],
            Value::Object(members) => self.keywords(members, &pointer)?,
            _ => return Err(format!("{} must be a schema: an object, true or false", shown(&pointer))),
        };
        self.depth -= 1;
        Ok(id)
    }

    fn keywords(&mut self, schema: &'s Map<String, Value>, pointer: &str) -> Result<Vec<Keyword>, String> {
        let mut keywords = Vec::new();
        for (name, value) in schema {
            let at = below(pointer, name);
            let known = match self.assertion(name, value, &at)? {
                Some(keyword) => Some(keyword),
                None => self.applicator(schema, name, value, pointer)?,
            };
            match known {
                Some(keyword) => keywords.push(keyword),
                None if ANNOTATIONS.contains(&name.as_str()) || GROUPED.contains(&name.as_str()) => {}
                None => return Err(format!("{}: the keyword `{name}` is not supported", shown(pointer))),
            }
        }
        for name in ["$defs", "definitions"] {
            if let Some(value) = schema.get(name) {
                self.named(value, &below(pointer, name))?;
            }
        }
        keywords.extend(self.members(schema, pointer)?);
        keywords.extend(self.items(schema, pointer)?);
        Ok(keywords)
    }

    /// A keyword that looks at the value alone.
    fn assertion(&mut self, name: &str, value: &Value, at: &str) -> Result<Option<Keyword>, String> {
        let bound = |bound| number(value, at).map(|limit| Keyword::Bound { bound, limit });
        let keyword = match name {
            "type" => Keyword::Type(types(value, at)?),
            "enum" => Keyword::Enum(value.as_array().ok_or_else(|| must_be(at, "an array"))?.clone()),
            "const" => Keyword::Const(value.clone()),
            "required" => Keyword::Required(names(value, at)?),
            "minProperties" => Keyword::MemberCount { least: true, count: count(value, at)? },
            "maxProperties" => Keyword::MemberCount { least: false, count: count(value, at)? },
            "minItems" => Keyword::ItemCount { least: true, count: count(value, at)? },
            "maxItems" => Keyword::ItemCount { least: false, count: count(value, at)? },
            "uniqueItems" => match value.as_bool() {
                Some(true) => Keyword::UniqueItems,
                Some(false) => Keyword::ItemCount { least: true, count: 0 },
                None => return Err(must_be(at, "true or false")),
            },
            "minLength" => Keyword::Length { least: true, count: count(value, at)? },
            "maxLength" => Keyword::Length { least: false, count: count(value, at)? },
            "pattern" => Keyword::Pattern(pattern(value.as_str().ok_or_else(|| must_be(at, "a string"))?, at)?),
            "minimum" => bound(Bound::Minimum)?,
            "maximum" => bound(Bound::Maximum)?,
            "exclusiveMinimum" => bound(Bound::ExclusiveMinimum)?,
            "exclusiveMaximum" => bound(Bound::ExclusiveMaximum)?,
            "multipleOf" => match number(value, at)? {
                divisor if divisor.value.is_positive() => Keyword::MultipleOf(divisor),
                _ => return Err(must_be(at, "a number greater than 0")),
            },
            "format" => Keyword::Format(format(value.as_str().ok_or_else(|| must_be(at, "a string"))?, at)?),
            _ => return Ok(None),
        };
        Ok(Some(keyword))
    }

    /// A keyword that applies other schemas.
    fn applicator(
        &mut self,
        schema: &'s Map<String, Value>,
        name: &str,
        value: &'s Value,
        pointer: &str,
    ) -> Result<Option<Keyword>, String> {
        let at = below(pointer, name);
        let keyword = match name {
            "$ref" => Keyword::Ref(self.node(target(value, &at)?)?),
            "allOf" => Keyword::AllOf(self.list(value, &at)?),
            "anyOf" => Keyword::AnyOf(self.list(value, &at)?),
            "oneOf" => Keyword::OneOf(self.list(value, &at)?),
            "not" => Keyword::Not(self.node(at)?),
            "propertyNames" => Keyword::MemberNames(self.node(at)?),
            "if" => Keyword::If {
                condition: self.node(at)?,
                then: self.optional(schema, "then", pointer)?,
                otherwise: self.optional(schema, "else", pointer)?,
            },
            _ => return Ok(None),
        };
        Ok(Some(keyword))
    }

    /// `properties`, `patternProperties` and `additionalProperties`, which read each other.
    fn members(&mut self, schema: &'s Map<String, Value>, pointer: &str) -> Result<Option<Keyword>, String> {
        let named = match schema.get("properties") {
            Some(value) => self.named(value, &below(pointer, "properties"))?,
            None => Vec::new(),
        };
        let mut matching = Vec::new();
        if let Some(value) = schema.get("patternProperties") {
            let at = below(pointer, "patternProperties");
            for (expression, id) in self.named(value, &at)? {
                matching.push((pattern(&expression, &at)?, id));
            }
        }
        let other = self.optional(schema, "additionalProperties", pointer)?;
        let asks = !named.is_empty() || !matching.is_empty() || other.is_some();
        Ok(asks.then_some(Keyword::Members(Members { named, matching, other })))
    }

    /// `prefixItems` and `items`.
    fn items(&mut self, schema: &'s Map<String, Value>, pointer: &str) -> Result<Option<Keyword>, String> {
        let first = match schema.get("prefixItems") {
            Some(value) => self.list(value, &below(pointer, "prefixItems"))?,
            None => Vec::new(),
        };
        if schema.get("items").is_some_and(Value::is_array) {
            return Err(format!(
                "{} must be a schema; for a tuple, use `prefixItems`",
                shown(&below(pointer, "items"))
            ));
        }
        let rest = self.optional(schema, "items", pointer)?;
        let asks = !first.is_empty() || rest.is_some();
        Ok(asks.then_some(Keyword::Items { first, rest }))
    }

    fn optional(&mut self, schema: &Map<String, Value>, name: &str, pointer: &str) -> Result<Option<NodeId>, String> {
        schema.contains_key(name).then(|| self.node(below(pointer, name))).transpose()
    }

    fn named(&mut self, value: &Value, at: &str) -> Result<Vec<(String, NodeId)>, String> {
        let members = value.as_object().ok_or_else(|| must_be(at, "an object"))?;
        members.keys().map(|name| Ok((name.clone(), self.node(below(at, name))?))).collect()
    }

    fn list(&mut self, value: &Value, at: &str) -> Result<Vec<NodeId>, String> {
        let schemas = value.as_array().filter(|schemas| !schemas.is_empty());
        let schemas = schemas.ok_or_else(|| must_be(at, "an array of schemas"))?;
        (0..schemas.len()).map(|index| self.node(format!("{at}/{index}"))).collect()
    }
}

/// Refuses a schema that applies itself to the same value again, which would never end.
fn refuse_endless_references(nodes: &[Node]) -> Result<(), String> {
    // Nodes that are `done` reach no cycle; walked with a stack of our own, since chains may be long.
    let mut done = vec![false; nodes.len()];
    for start in 0..nodes.len() {
        let mut path = vec![(start, in_place(&nodes[start]))];
        while let Some((id, next)) = path.last_mut() {
            let (id, target) = (*id, next.pop());
            match target {
                Some(target) if path.iter().any(|&(on_path, _)| on_path == target) => {
                    return Err("has a $ref that leads back to itself".to_owned());
                }
                Some(target) if !done[target] => path.push((target, in_place(&nodes[target]))),
                Some(_) => {}
                None => {
                    done[id] = true;
                    path.pop();
                }
            }
        }
    }
    Ok(())
}

/// The nodes that `node` applies to the very value that it is applied to.
fn in_place(node: &Node) -> Vec<NodeId> {
    let mut found = Vec::new();
    for keyword in &node.keywords {
        match keyword {
            Keyword::Ref(id) | Keyword::Not(id) => found.push(*id),
            Keyword::AllOf(ids) | Keyword::AnyOf(ids) | Keyword::OneOf(ids) => found.extend(ids),
            Keyword::If { condition, then, otherwise } => {
                found.extend([Some(*condition), *then, *otherwise].into_iter().flatten());
            }
            _ => {}
        }
    }
    found
}

fn below(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn shown(pointer: &str) -> String {
    format!("#{pointer}")
}

fn must_be(at: &str, what: &str) -> String {
    format!("{} must be {what}", shown(at))
}

/// The pointer that a `$ref` names.
fn target(value: &Value, at: &str) -> Result<String, String> {
    let local = value.as_str().and_then(|text| text.strip_prefix('#'));
    let pointer = local.filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
    let pointer = pointer.ok_or_else(|| must_be(at, "a pointer into this schema, such as `#/$defs/name`"))?;
    Ok(percent_decode_str(pointer).decode_utf8_lossy().into_owned())
}

fn types(value: &Value, at: &str) -> Result<Vec<Type>, String> {
    let names = match value {
        Value::Array(names) => names.as_slice(),
        one => std::slice::from_ref(one),
    };
    let parsed = names.iter().map(|name| name.as_str().and_then(Type::parse)).collect::<Option<Vec<_>>>();
    let known = || Type::ALL.map(|(name, _)| name).join(", ");
    parsed.filter(|types| !types.is_empty()).ok_or_else(|| must_be(at, &format!("one of, or a list of: {}", known())))
}

fn names(value: &Value, at: &str) -> Result<Vec<String>, String> {
    let names = value.as_array().map(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect());
    names.flatten().ok_or_else(|| must_be(at, "an array of strings"))
}

fn number(value: &Value, at: &str) -> Result<Limit, String> {
    let number = value.as_number().and_then(|shown| Some(Limit { value: Decimal::of(shown)?, shown: shown.clone() }));
    number.ok_or_else(|| must_be(at, "a number"))
}

fn count(value: &Value, at: &str) -> Result<u64, String> {
    let count = value.as_number().and_then(Decimal::of).and_then(Decimal::as_u64);
    count.ok_or_else(|| must_be(at, "an integer of 0 or more"))
}

fn format(name: &str, at: &str) -> Result<Format, String> {
    let known = || Format::ALL.map(|format| format!("`{}`", format.name())).join(", ");
    Format::parse(name).ok_or_else(|| {
        let at = shown(at);
        format!("{at}: the format `{name}` is not supported; use `pattern`, leave it out, or use one of {}", known())
    })
}

fn pattern(expression: &str, at: &str) -> Result<Regex, String> {
    Regex::new(expression).map_err(|error| format!("{}: `{expression}`: {error}", shown(at)))
}
