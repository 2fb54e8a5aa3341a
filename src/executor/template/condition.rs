//! Removes the wrapping of conditions. `{{ }}` and `${ }` may surround the whole condition or parts of it, as in `{{
//! steps.a.output.n }} > 3`; in both cases only the content matters.

use super::text::string_end;

/// What closes an open brace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opened {
    /// `{{`, closed by `}}`.
    Template,
    /// `${`, closed by `}`.
    Dollar,
    /// `{` of the expression itself.
    Brace,
}

/// The expression that a condition holds: each wrapping becomes a pair of parentheses, and one around the whole is
/// dropped. Text whose braces don't match comes out so that it does not parse.
pub fn unwrap(condition: &str) -> String {
    let condition = condition.trim();
    let (mut expression, mut opened) = (String::with_capacity(condition.len()), Vec::new());
    let mut at = 0;
    // Where the wrapping that began with the text ended.
    let mut first_end = None;
    while let Some(next) = condition[at..].chars().next() {
        let rest = &condition[at..];
        let (piece, taken) = match (next, opened.last()) {
            ('"' | '\'', _) => {
                let end = string_end(condition, at).map_or(condition.len(), |quote| quote + 1);
                (&condition[at..end], end - at)
            }
            _ if rest.starts_with("${") => open(&mut opened, Opened::Dollar),
            _ if rest.starts_with("{{") => open(&mut opened, Opened::Template),
            ('}', Some(Opened::Template)) if rest.starts_with("}}") => close(&mut opened, 2),
            ('}', Some(Opened::Dollar)) => close(&mut opened, 1),
            ('{', _) => {
                opened.push(Opened::Brace);
                ("{", 1)
            }
            ('}', Some(Opened::Brace)) => {
                opened.pop();
                ("}", 1)
            }
            _ => (&rest[..next.len_utf8()], next.len_utf8()),
        };
        expression.push_str(piece);
        at += taken;
        if opened.is_empty() && first_end.is_none() {
            first_end = Some(at);
        }
    }
    let is_wrapped = condition.starts_with("${") || condition.starts_with("{{");
    if is_wrapped && first_end == Some(condition.len()) && expression.len() >= 2 {
        expression = expression[1..expression.len() - 1].trim().to_owned();
    }
    expression
}

fn open(opened: &mut Vec<Opened>, what: Opened) -> (&'static str, usize) {
    opened.push(what);
    ("(", 2)
}

fn close(opened: &mut Vec<Opened>, taken: usize) -> (&'static str, usize) {
    opened.pop();
    (")", taken)
}

/// Does a string literal of the condition hold a template, which nobody would fill in?
pub(super) fn quotes_a_template(condition: &str) -> bool {
    let mut at = 0;
    while let Some(start) = condition[at..].find(['"', '\'']).map(|found| at + found) {
        let Some(end) = string_end(condition, start) else { return false };
        if condition[start..end].contains("{{") || condition[start..end].contains("${") {
            return true;
        }
        at = end + 1;
    }
    false
}
