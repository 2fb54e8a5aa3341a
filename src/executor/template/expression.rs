//! Reads an expression before Jinja does: finds the values that it uses, and translates what Jinja would not accept.
//!
//! Plans are often written by people and programs that think in JavaScript, so outside of strings
//! - `&&`, `||`, `!`, `===`, `!==` and `null` are translated to `and`, `or`, `not`, `==`, `!=` and `none`;
//! - `steps.my-step.output` refers to the step `my-step`. After `steps.` a step id extends as far as the characters of
//!   ids allow; a subtraction would make no sense there, because a step is not a number.
//!
//! `a ~ b` becomes a filter over `[a, b]`, so that its values are spelled as everywhere else (see
//! [`spelling`](super::spelling)).

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use super::scope::{Key, Scope};
use super::spelling::CONCAT;
use super::text::string_end;

/// The most lexemes of one expression. Jinja's compiler recurses once for each operator in a row, so this bounds the
/// stack that it takes: tests try the worst of each kind on 2 MiB, in a debug build.
const LEXEMES_MAX: usize = 500;

/// Names that are no values.
const KEYWORDS: &[&str] =
    &["and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None"];

/// What JavaScript writes, and Jinja.
const TRANSLATIONS: &[(&str, &str)] =
    &[("===", "=="), ("!==", "!="), ("&&", " and "), ("||", " or "), ("!", " not "), ("null", "none")];

/// Signs of more than one character, longest first.
const LONG_SIGNS: &[&str] = &["===", "!==", "&&", "||", "==", "!=", "<=", ">=", "**", "//"];

/// Is this nothing but names with dots between them, which Jinja takes for certain?
pub(super) fn is_plain_path(text: &str) -> bool {
    text.trim().split('.').all(|name| {
        let mut bytes = name.bytes();
        bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !KEYWORDS.contains(&name)
            && name != "null"
    })
}

/// An expression as Jinja takes it, and the names it uses.
#[derive(Debug, PartialEq)]
pub(super) struct Parsed<'a> {
    /// As written.
    pub text: &'a str,
    /// As Jinja takes it.
    pub source: String,
    /// The values that it names.
    pub paths: Vec<Path<'a>>,
    /// The filters that it names.
    pub filters: Vec<&'a str>,
    /// The tests that it names.
    pub tests: Vec<&'a str>,
    /// The functions that it calls.
    pub functions: Vec<&'a str>,
}

/// A value that an expression names, as far as it names it literally.
#[derive(Debug, PartialEq)]
pub(super) struct Path<'a> {
    root: &'a str,
    keys: Vec<Key>,
    /// May the value be undefined, because a `default` or a test follows?
    is_tentative: bool,
    /// Does it stand just after a minus?
    is_subtracted: bool,
}

impl<'a> Parsed<'a> {
    /// Reads an expression.
    ///
    /// # Errors
    /// If a string is not closed, or the expression is too long or empty.
    pub fn read(text: &'a str) -> Result<Self, Cow<'static, str>> {
        let lexemes = lexemes(text)?;
        if lexemes.is_empty() {
            return Err("the expression is empty".into());
        }
        let mut parsed = Self {
            text,
            source: String::new(),
            paths: Vec::new(),
            filters: Vec::new(),
            tests: Vec::new(),
            functions: Vec::new(),
        };
        let reader = Reader { lexemes: &lexemes };
        let mut edits = reader.concatenations();
        for at in 0..lexemes.len() {
            edits.extend(reader.translation(at));
            reader.note(at, &mut parsed);
        }
        edits.sort_by_key(|(range, _)| (range.start, range.end));
        let mut copied = 0;
        for (replaced, replacement) in edits {
            parsed.source.push_str(&text[copied..replaced.start]);
            parsed.source.push_str(&replacement);
            copied = replaced.end;
        }
        parsed.source.push_str(&text[copied..]);
        Ok(parsed)
    }

    /// The ids that follow `steps`.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().filter(|path| path.root == "steps").filter_map(|path| match path.keys.first() {
            Some(Key::Name(id)) => Some(id.as_str()),
            _ => None,
        })
    }

    /// The inputs that it names; none for one that stands for all of them.
    pub fn inputs(&self) -> impl Iterator<Item = Option<&str>> {
        self.paths.iter().filter(|path| path.root == "inputs").map(|path| match path.keys.first() {
            Some(Key::Name(name)) => Some(name.as_str()),
            _ => None,
        })
    }

    /// What is wrong with the values that it names, where only `roots` exist.
    pub fn problems(&self, roots: &[&str]) -> impl Iterator<Item = String> {
        self.paths.iter().filter_map(move |path| path.problem(roots))
    }

    /// The first value that it names and `scope` does not hold.
    pub fn first_missing(&self, scope: &Scope) -> Option<String> {
        self.paths.iter().find_map(|path| path.missing(scope))
    }
}

impl Path<'_> {
    /// As much of it as it takes to see that `scope` does not hold it.
    fn missing(&self, scope: &Scope) -> Option<String> {
        let found = scope.reaches(self.root, &self.keys);
        // Keys that must lead to something for the next one to be asked for; the root counts as one.
        let needed = self.keys.len() + 1 - usize::from(self.is_tentative);
        let reached = found.map_or(0, |keys| keys + 1);
        (reached < needed).then(|| Shown { root: self.root, keys: &self.keys[..reached] }.to_string())
    }

    fn problem(&self, roots: &[&str]) -> Option<String> {
        let root = self.root;
        if !roots.contains(&root) {
            let known = roots.join(", ");
            let hint = if self.is_subtracted { "; write a key with a dash as [\"a-b\"]" } else { "" };
            return Some(format!("unknown name `{root}`; available here: {known}{hint}"));
        }
        match (root, self.keys.as_slice()) {
            ("steps", [] | [Key::Index(_), ..]) => {
                Some("`steps` must be followed by a step id: steps.ID.output or steps[\"ID\"].output".to_owned())
            }
            ("steps", [_, Key::Name(field), ..]) if field != "output" => {
                let step = Shown { root, keys: &self.keys[..1] };
                Some(format!("a step has no field `{field}`; use {step}.output"))
            }
            _ => None,
        }
    }
}

/// A path as people write it.
struct Shown<'a> {
    root: &'a str,
    keys: &'a [Key],
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.root)?;
        self.keys.iter().try_for_each(|key| match key {
            Key::Index(index) => write!(f, "[{index}]"),
            Key::Name(name) if name.bytes().all(is_id_byte) => write!(f, ".{name}"),
            Key::Name(name) => write!(f, "[{name:?}]"),
        })
    }
}

/// A piece of an expression, and what takes its place.
type Edit = (Range<usize>, Cow<'static, str>);

/// One lexeme of an expression and where it lies.
#[derive(Debug, Clone, Copy)]
struct Lexeme<'a> {
    kind: Kind,
    text: &'a str,
    start: usize,
}

impl Lexeme<'_> {
    fn range(&self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Name,
    /// What follows `steps.`
    StepId,
    Number,
    Text,
    Sign,
}

/// Looks at lexemes in their surroundings.
struct Reader<'a, 't> {
    lexemes: &'t [Lexeme<'a>],
}

impl<'a> Reader<'a, '_> {
    /// The text at `at`, unless it is a string literal; nothing beyond the ends.
    fn word(&self, at: usize) -> &'a str {
        self.lexemes.get(at).filter(|lexeme| lexeme.kind != Kind::Text).map_or("", |lexeme| lexeme.text)
    }

    fn before(&self, at: usize, by: usize) -> &'a str {
        at.checked_sub(by).map_or("", |before| self.word(before))
    }

    /// What takes the place of a lexeme, if anything does.
    fn translation(&self, at: usize) -> Option<Edit> {
        let lexeme = &self.lexemes[at];
        match lexeme.kind {
            Kind::StepId => {
                let dot = self.lexemes[at - 1].start;
                Some((dot..lexeme.range().end, format!("[\"{}\"]", lexeme.text).into()))
            }
            Kind::Sign | Kind::Name if self.before(at, 1) != "." => {
                let found = TRANSLATIONS.iter().find(|(from, _)| *from == lexeme.text);
                found.map(|&(_, to)| (lexeme.range(), to.into()))
            }
            _ => None,
        }
    }

    /// What makes a filter of each row of `~`. One that lacks an operand stays as it is, for Jinja to refuse.
    fn concatenations(&self) -> Vec<Edit> {
        let mut edits = Vec::new();
        let mut seen = 0;
        let mut taken = vec![false; self.lexemes.len()];
        while let Some(first) = (seen..self.lexemes.len()).find(|&at| self.word(at) == "~") {
            seen = first + 1;
            if std::mem::replace(&mut taken[first], true) {
                continue;
            }
            let start = self.operand_start(first);
            let (mut signs, mut end) = (vec![first], self.operand_end(first + 1));
            while self.word(end) == "~" {
                taken[end] = true;
                signs.push(end);
                end = self.operand_end(end + 1);
            }
            let ends = signs.iter().skip(1).chain([&end]);
            if start == first || signs.iter().zip(ends).any(|(sign, end)| sign + 1 == *end) {
                continue;
            }
            let (before, after) = (self.lexemes[start].start, self.lexemes[end - 1].range().end);
            edits.push((before..before, "([".into()));
            edits.extend(signs.into_iter().map(|sign| (self.lexemes[sign].range(), ",".into())));
            edits.push((after..after, format!("]|{CONCAT})").into()));
        }
        edits
    }

    /// Where the operand begins that ends before the lexeme at `end`.
    fn operand_start(&self, end: usize) -> usize {
        let (mut start, mut depth) = (end, 0usize);
        while let Some(at) = start.checked_sub(1) {
            match self.word(at) {
                ")" | "]" | "}" => depth += 1,
                "(" | "[" | "{" if depth == 0 => break,
                "(" | "[" | "{" => depth -= 1,
                _ if depth == 0 && self.binds_weaker(at) => break,
                _ => {}
            }
            start = at;
        }
        start
    }

    /// Where the operand ends that begins with the lexeme at `start`: the lexeme after it.
    fn operand_end(&self, start: usize) -> usize {
        let (mut end, mut depth) = (start, 0usize);
        while end < self.lexemes.len() {
            match self.word(end) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" if depth == 0 => break,
                ")" | "]" | "}" => depth -= 1,
                _ if depth == 0 && self.binds_weaker(end) => break,
                _ => {}
            }
            end += 1;
        }
        end
    }

    /// Does the lexeme separate operands of `~`? `*` and the like bind stronger.
    fn binds_weaker(&self, at: usize) -> bool {
        match self.word(at) {
            "-" => self.ends_a_value(at),
            "~" | "+" | "==" | "!=" | "<" | ">" | "<=" | ">=" | "===" | "!==" | "&&" | "||" | "!" | "," | ":" | "=" => {
                true
            }
            _ => self.is_operator_word(at),
        }
    }

    /// Is what stands before the lexeme at `at` a value, so that a `-` there subtracts?
    fn ends_a_value(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1) else { return false };
        match self.lexemes[before].kind {
            Kind::Sign => matches!(self.word(before), ")" | "]" | "}"),
            Kind::Name => !self.is_operator_word(before) && self.word(before) != "is",
            Kind::StepId | Kind::Number | Kind::Text => true,
        }
    }

    /// A word that is an operator, and neither a member's name nor that of a filter or test.
    fn is_operator_word(&self, at: usize) -> bool {
        let is_named = matches!(self.before(at, 1), "." | "|" | "is")
            || (self.before(at, 1) == "not" && self.before(at, 2) == "is");
        self.lexemes[at].kind == Kind::Name
            && !is_named
            && matches!(self.word(at), "and" | "or" | "not" | "in" | "if" | "else")
    }

    /// Notes what a name is the name of.
    fn note(&self, at: usize, parsed: &mut Parsed<'a>) {
        let name = self.lexemes[at].text;
        if self.lexemes[at].kind != Kind::Name || self.before(at, 1) == "." {
            return;
        }
        let is_tested = self.before(at, 1) == "is" || (self.before(at, 1) == "not" && self.before(at, 2) == "is");
        if self.before(at, 1) == "|" {
            parsed.filters.push(name);
        } else if is_tested && name != "not" {
            parsed.tests.push(if name == "null" { "none" } else { name });
        } else if KEYWORDS.contains(&name) || name == "null" || self.word(at + 1) == "=" {
            // A keyword, or the name of an argument.
        } else if self.word(at + 1) == "(" {
            parsed.functions.push(name);
        } else {
            parsed.paths.push(self.path(at));
        }
    }

    /// The path that begins with the name at `at`.
    fn path(&self, at: usize) -> Path<'a> {
        let mut keys = Vec::new();
        let mut next = at + 1;
        while let Some((key, taken)) = self.key(next) {
            keys.push(key);
            next += taken;
        }
        let is_defaulted = self.word(next) == "|" && matches!(self.word(next + 1), "default" | "d");
        Path {
            root: self.lexemes[at].text,
            keys,
            is_tentative: is_defaulted || self.word(next) == "is",
            is_subtracted: self.before(at, 1) == "-",
        }
    }

    /// The literal key at `at`, and how many lexemes it takes.
    fn key(&self, at: usize) -> Option<(Key, usize)> {
        let key = self.lexemes.get(at + 1)?;
        match (self.word(at), key.kind) {
            (".", Kind::Name | Kind::StepId) => Some((Key::Name(key.text.to_owned()), 2)),
            (".", Kind::Number) => Some((Key::Index(key.text.parse().ok()?), 2)),
            ("[", Kind::Number) if self.word(at + 2) == "]" => Some((Key::Index(key.text.parse().ok()?), 3)),
            ("[", Kind::Text) if self.word(at + 2) == "]" && !key.text.contains('\\') => {
                Some((Key::Name(key.text[1..key.text.len() - 1].to_owned()), 3))
            }
            _ => None,
        }
    }
}

fn lexemes(text: &str) -> Result<Vec<Lexeme<'_>>, Cow<'static, str>> {
    let mut lexemes: Vec<Lexeme<'_>> = Vec::new();
    let mut start = 0;
    while let Some(first) = text[start..].chars().next() {
        if first.is_whitespace() {
            start += first.len_utf8();
            continue;
        }
        if lexemes.len() == LEXEMES_MAX {
            return Err(format!("the expression has too many tokens (limit {LEXEMES_MAX}, not configurable)").into());
        }
        let (kind, length) = match follows(&lexemes) {
            Follows::Steps if is_id_byte_char(first) => (Kind::StepId, run(&text[start..], is_id_byte_char)),
            follows => lexeme(text, start, first, follows)?,
        };
        lexemes.push(Lexeme { kind, text: &text[start..start + length], start });
        start += length;
    }
    Ok(lexemes)
}

/// What a lexeme follows, as far as it changes its reading.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Follows {
    Steps,
    Dot,
    Other,
}

fn follows(lexemes: &[Lexeme<'_>]) -> Follows {
    let before = |by: usize| lexemes.len().checked_sub(by).map_or("", |at| lexemes[at].text);
    match before(1) {
        "." if before(2) == "steps" && before(3) != "." => Follows::Steps,
        "." => Follows::Dot,
        _ => Follows::Other,
    }
}

/// The kind and length of the lexeme at `start`.
fn lexeme(text: &str, start: usize, first: char, follows: Follows) -> Result<(Kind, usize), Cow<'static, str>> {
    let rest = &text[start..];
    Ok(match first {
        '"' | '\'' => match string_end(text, start) {
            Some(end) => (Kind::Text, end + 1 - start),
            None => return Err("unterminated string".into()),
        },
        '0'..='9' => (Kind::Number, number(rest, follows)),
        first if is_name_char(first) => (Kind::Name, run(rest, is_name_char)),
        first => {
            let long = LONG_SIGNS.iter().find(|sign| rest.starts_with(**sign));
            (Kind::Sign, long.map_or(first.len_utf8(), |sign| sign.len()))
        }
    })
}

/// The length of a number: after a dot it is an index, and has no fraction.
fn number(rest: &str, follows: Follows) -> usize {
    let whole = run(rest, |c| c.is_ascii_alphanumeric());
    let fraction = rest[whole..].strip_prefix('.').map_or(0, |digits| run(digits, |c| c.is_ascii_alphanumeric()));
    let has_fraction = fraction > 0 && rest.as_bytes()[whole + 1].is_ascii_digit() && follows == Follows::Other;
    if has_fraction { whole + 1 + fraction } else { whole }
}

fn run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

fn is_name_char(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn is_id_byte_char(c: char) -> bool {
    u8::try_from(c).is_ok_and(is_id_byte)
}

fn is_id_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
}
