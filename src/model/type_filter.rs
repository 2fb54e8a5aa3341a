//! Selects messages by their types.

use super::message::{MESSAGE_TYPE_MAX, is_valid_type};

/// The most patterns of a filter.
const TYPE_PATTERNS_MAX: usize = 32;

/// Selects types that match one of the patterns and none of the excluded ones. Without a pattern, all types match.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TypeFilter {
    wanted: Vec<Pattern>,
    left_out: Vec<Pattern>,
}

/// A type, or a prefix of types.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    text: String,
    is_prefix: bool,
}

impl TypeFilter {
    /// Reads lists of patterns separated by commas: `note`, `chat.*` for all that begin with `chat.`, `!chat.typing` to
    /// exclude one.
    ///
    /// # Errors
    /// The problem, in one sentence.
    pub fn parse<'t>(lists: impl Iterator<Item = &'t str>) -> Result<Self, String> {
        let mut filter = Self::default();
        for text in lists.flat_map(|list| list.split(',')) {
            if filter.wanted.len() + filter.left_out.len() == TYPE_PATTERNS_MAX {
                return Err(format!("expected at most {TYPE_PATTERNS_MAX} types"));
            }
            match text.strip_prefix('!') {
                None => filter.wanted.push(Pattern::parse(text)?),
                Some(text) => filter.left_out.push(Pattern::parse(text)?),
            }
        }
        Ok(filter)
    }

    /// Whether the filter selects this message, which is JSON as [`write_message`](super::write_message) writes it.
    pub fn takes(&self, message: &[u8]) -> bool {
        if self.wanted.is_empty() && self.left_out.is_empty() {
            return true;
        }
        let is_one =
            |patterns: &[Pattern]| type_of(message).is_some_and(|text| patterns.iter().any(|it| it.takes(text)));
        (self.wanted.is_empty() || is_one(&self.wanted)) && !is_one(&self.left_out)
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, is_prefix) = text.strip_suffix('*').map_or((text, false), |name| (name, true));
        if is_valid_type(name) || (is_prefix && name.is_empty()) {
            return Ok(Self { text: name.to_owned(), is_prefix });
        }
        Err(format!(
            "expected message types separated by commas, each of 1 to {MESSAGE_TYPE_MAX} characters from a-z 0-9 _ . -, \
             optionally with `!` before it and `*` at its end"
        ))
    }

    fn takes(&self, text: &[u8]) -> bool {
        match self.is_prefix {
            true => text.starts_with(self.text.as_bytes()),
            false => text == self.text.as_bytes(),
        }
    }
}

/// The type of a message. It comes first in the message and contains no escapes.
fn type_of(message: &[u8]) -> Option<&[u8]> {
    message.strip_prefix(b"{\"type\":\"")?.split(|&byte| byte == b'"').next()
}

#[cfg(test)]
mod tests {
    use super::super::{ProjectId, write_message};
    use super::*;

    fn taken(lists: &[&str]) -> Vec<&'static str> {
        let filter = TypeFilter::parse(lists.iter().copied()).expect("good patterns");
        let is_taken = |kind: &&str| {
            let mut message = Vec::new();
            write_message(&mut message, kind, &ProjectId::parse("p").expect("an id"), 1, b"{\"type\":\"note\"}");
            filter.takes(&message)
        };
        ["note", "notes", "chat.message", "chat.typing", "workflow_started"].into_iter().filter(is_taken).collect()
    }

    #[test]
    fn types_are_meant_by_name_by_beginning_and_by_being_left_out() {
        assert_eq!(taken(&[]).len(), 5);
        assert_eq!(taken(&["*"]).len(), 5);
        assert_eq!(taken(&["note"]), ["note"]);
        assert_eq!(taken(&["note*,chat.typing"]), ["note", "notes", "chat.typing"]);
        assert_eq!(taken(&["note", "workflow_*"]), ["note", "workflow_started"]);
        assert_eq!(taken(&["!workflow_*,!note*"]), ["chat.message", "chat.typing"]);
        assert_eq!(taken(&["chat.*", "!chat.typing"]), ["chat.message"]);
        assert!(taken(&["!*"]).is_empty());
    }

    #[test]
    fn what_is_no_type_is_an_error() {
        let long = "x".repeat(65);
        let most = ["a"; TYPE_PATTERNS_MAX].join(",");
        let many = format!("{most},a");
        for bad in ["", "!", "Note", "a,", "*a", "a*b", "a b", "!!a", &long, &many] {
            assert!(TypeFilter::parse([bad].into_iter()).is_err(), "{bad}");
        }
        assert!(TypeFilter::parse([most.as_str()].into_iter()).is_ok());
    }
}
