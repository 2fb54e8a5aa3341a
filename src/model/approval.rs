//! The question of a step that waits for a decision, and the decision.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Choice, Timestamp};

/// What a step asks that waits for a decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// The question, for people.
    pub message: String,
    /// JSON Schema of the payload that an approval must come with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Arc<Value>>,
    /// Until when it can be decided; for ever where it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What comes of it where nobody has decided by then.
    #[serde(default)]
    pub on_expire: OnExpire,
    /// What a reject does.
    #[serde(default, skip_serializing_if = "OnReject::is_default")]
    pub on_reject: OnReject,
    /// The subjects that may decide; whoever has the scope where it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deciders: Vec<String>,
}

/// What comes of a step that nobody has decided in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExpire {
    /// It fails.
    #[default]
    Fail,
    /// It is rejected.
    Reject,
    /// It is approved.
    Approve,
}

impl OnExpire {
    /// Reads the word that a plan has for it.
    pub fn parse(text: &str) -> Option<Self> {
        [("fail", Self::Fail), ("reject", Self::Reject), ("approve", Self::Approve)]
            .into_iter()
            .find_map(|(word, it)| (word == text).then_some(it))
    }
}

/// What comes of a step that is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnReject {
    /// It fails.
    #[default]
    Fail,
    /// It completes, and its output says that it was rejected.
    Continue,
}

impl OnReject {
    /// Reads the word that a plan has for it.
    pub fn parse(text: &str) -> Option<Self> {
        [("fail", Self::Fail), ("continue", Self::Continue)]
            .into_iter()
            .find_map(|(word, it)| (word == text).then_some(it))
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// What.
    #[serde(rename = "decision")]
    pub choice: Choice,
    /// By whom; by nobody where it was not decided in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Arc<str>>,
    /// When.
    pub at: Timestamp,
    /// What came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Arc<Value>>,
    /// It was not decided in time, and the plan says what that means.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expired: bool,
}

impl Decision {
    /// The output of the step that it completes: every key is there, so that a template may name it.
    pub fn output(&self) -> Value {
        let payload = self.payload.as_deref().unwrap_or(&Value::Null);
        json!({"decision": self.choice, "by": self.by, "at": self.at, "payload": payload, "expired": self.expired})
    }
}
