//! Identifiers. They are validated when they are made, share their text, and are cheap to clone and compare.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest identifier, in bytes.
const ID_BYTES_MAX: usize = 128;

/// Why a text is no identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdError {
    what: &'static str,
    allowed: &'static str,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {} must be 1 to {ID_BYTES_MAX} characters from {}", self.what, self.allowed)
    }
}

impl std::error::Error for IdError {}

fn is_project_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-')
}

fn is_step_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $allowed:literal, $is_byte:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and takes it as an identifier.
            ///
            /// # Errors
            /// [`IdError`] names the length and the characters allowed.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let fits = (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all($is_byte);
                if fits { Ok(Self(text.into())) } else { Err(IdError { what: $what, allowed: $allowed }) }
            }

            /// The identifier's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The identifier's text, for whoever keeps it.
            pub fn to_shared(&self) -> Arc<str> {
                self.0.clone()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// Names a project: what subscribers watch and publishers write to.
    ProjectId, "project id", "A-Z a-z 0-9 . _ : -", is_project_byte
);
id!(
    /// Names a plan that is stored in a project.
    PlanName, "plan name", "A-Z a-z 0-9 . _ : -", is_project_byte
);
id!(
    /// Names one execution of a plan. Made by the server, or chosen by the client.
    RunId, "run id", "A-Z a-z 0-9 . _ : -", is_project_byte
);
id!(
    /// Names a step within its plan.
    StepId, "step id", "A-Z a-z 0-9 _ -", is_step_byte
);

impl RunId {
    /// A server-made id: `run_` and 128 random bits as 22 characters of URL-safe base64.
    pub(crate) fn from_random(bits: [u8; 16]) -> Self {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bits);
        Self(format!("run_{text}").into())
    }
}

impl StepId {
    /// As what an item of this step is known within its run: `id[3]`. No step has such an id, for `[` is in none.
    #[must_use]
    pub fn of_item(&self, item: u32) -> Self {
        Self(format!("{}[{item}]", self.0).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_take_their_alphabet_and_nothing_else() {
        for good in ["p", "A-z.0_9:x", &"x".repeat(128)] {
            assert_eq!(ProjectId::parse(good).map(|id| id.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "a b", "a/b", "é", "a\0", &"x".repeat(129)] {
            assert!(ProjectId::parse(bad).is_err(), "{bad:?}");
        }
        assert!(StepId::parse("a.b").is_err(), "a step id has no dot: templates split at it");
    }

    #[test]
    fn a_made_run_id_is_a_run_id() {
        let id = RunId::from_random([0xff; 16]);
        assert_eq!(id.as_str().len(), 26);
        assert_eq!(RunId::parse(id.as_str()), Ok(id));
    }
}
