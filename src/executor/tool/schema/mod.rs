//! JSON Schema (2020-12) for the inputs of tools, with the commonly used keywords. A schema with any other keyword is
//! refused when it is compiled, so that none is silently ignored.
//!
//! A schema becomes a flat list of nodes, in which references are indices. A value is checked against node 0.

mod check;
mod compile;
mod decimal;
mod format;

use regex_lite::Regex;
use serde_json::{Number, Value};

use self::decimal::Decimal;
use self::format::Format;

/// A compiled schema.
#[derive(Debug, Clone)]
pub struct Schema {
    nodes: Vec<Node>,
}

impl Schema {
    /// Compiles `schema`.
    ///
    /// # Errors
    /// One sentence that says what is malformed or not supported, and where.
    pub fn compile(schema: &Value) -> Result<Self, String> {
        compile::compile(schema).map(|nodes| Self { nodes })
    }

    /// What is wrong with `value`, as (path, message); nothing where it satisfies the schema. At most 100 issues.
    ///
    /// A string for which `is_template` holds may become any value, so it passes everything.
    pub fn validate(&self, value: &Value, is_template: &dyn Fn(&str) -> bool) -> Vec<(String, String)> {
        check::check(&self.nodes, value, is_template)
    }
}

/// Index of a [`Node`].
type NodeId = usize;

/// One (sub)schema: every keyword must hold.
#[derive(Debug, Clone, Default)]
struct Node {
    keywords: Vec<Keyword>,
}

/// What a schema asks for.
#[derive(Debug, Clone)]
enum Keyword {
    /// The schema `false`.
    Never,
    Type(Vec<Type>),
    Enum(Vec<Value>),
    Const(Value),
    Ref(NodeId),
    AllOf(Vec<NodeId>),
    AnyOf(Vec<NodeId>),
    OneOf(Vec<NodeId>),
    Not(NodeId),
    If {
        condition: NodeId,
        then: Option<NodeId>,
        otherwise: Option<NodeId>,
    },
    Required(Vec<String>),
    Members(Members),
    MemberNames(NodeId),
    MemberCount {
        least: bool,
        count: u64,
    },
    Items {
        first: Vec<NodeId>,
        rest: Option<NodeId>,
    },
    ItemCount {
        least: bool,
        count: u64,
    },
    UniqueItems,
    Length {
        least: bool,
        count: u64,
    },
    Pattern(Regex),
    Format(Format),
    Bound {
        bound: Bound,
        limit: Limit,
    },
    MultipleOf(Limit),
}

/// A number of a schema.
#[derive(Debug, Clone)]
struct Limit {
    value: Decimal,
    /// As messages show it.
    shown: Number,
}

/// What the members of an object must satisfy.
#[derive(Debug, Clone)]
struct Members {
    named: Vec<(String, NodeId)>,
    matching: Vec<(Regex, NodeId)>,
    /// For members that neither of the others names.
    other: Option<NodeId>,
}

/// The types that `type` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

impl Type {
    const ALL: [(&'static str, Self); 7] = [
        ("null", Self::Null),
        ("boolean", Self::Boolean),
        ("integer", Self::Integer),
        ("number", Self::Number),
        ("string", Self::String),
        ("array", Self::Array),
        ("object", Self::Object),
    ];

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|&(_, kind)| kind)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |&(name, _)| name)
    }

    fn holds(self, value: &Value) -> bool {
        match self {
            Self::Null => value.is_null(),
            Self::Boolean => value.is_boolean(),
            Self::Integer => value.as_number().and_then(Decimal::of).is_some_and(Decimal::is_integer),
            Self::Number => value.is_number(),
            Self::String => value.is_string(),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
        }
    }
}

/// The keywords that bound a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    Minimum,
    Maximum,
    ExclusiveMinimum,
    ExclusiveMaximum,
}

#[cfg(test)]
mod tests;
