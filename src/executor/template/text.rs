//! Splits a string into text and expressions.

/// A piece of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::executor) enum Segment<'a> {
    /// Stands for itself.
    Text(&'a str),
    /// What stood between `{{` and `}}`.
    Expression(&'a str),
}

/// Cuts `text` at its templates. A `-` just inside the braces, followed or preceded by white space, takes away the
/// white space outside, as in Jinja. Text is never empty.
///
/// # Errors
/// If a template is not closed.
pub(in crate::executor) fn segments(text: &str) -> Result<Vec<Segment<'_>>, &'static str> {
    let mut segments = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find("{{") {
        let (before, inside) = (&rest[..open], &rest[open + 2..]);
        let close =
            closing(inside).ok_or("`{{` is not closed by `}}`; to write two literal braces, use `{{ \"{{\" }}`")?;
        let (expression, after) = (&inside[..close], &inside[close + 2..]);
        let (expression, before) = match expression.strip_prefix('-') {
            Some(trimmed) if trimmed.starts_with(char::is_whitespace) => (trimmed, before.trim_end()),
            _ => (expression, before),
        };
        let (expression, after) = match expression.strip_suffix('-') {
            Some(trimmed) if trimmed.ends_with(char::is_whitespace) => (trimmed, after.trim_start()),
            _ => (expression, after),
        };
        push_text(&mut segments, before);
        segments.push(Segment::Expression(expression));
        rest = after;
    }
    push_text(&mut segments, rest);
    Ok(segments)
}

fn push_text<'a>(segments: &mut Vec<Segment<'a>>, text: &'a str) {
    if !text.is_empty() {
        segments.push(Segment::Text(text));
    }
}

/// Where the `}}` lies that ends an expression: outside of its strings, and of its own braces.
fn closing(inside: &str) -> Option<usize> {
    let bytes = inside.as_bytes();
    let (mut at, mut braces) = (0, 0usize);
    while at < bytes.len() {
        match bytes[at] {
            b'"' | b'\'' => at = string_end(inside, at)?,
            b'{' => braces += 1,
            b'}' if braces > 0 => braces -= 1,
            b'}' if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where the string literal that begins at `start` has its closing quote.
pub(super) fn string_end(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            quote if quote == bytes[start] => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}
