//! The question of a step that waits for a decision, and the decision.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Choice, Timestamp};

/// The question of a step that waits for a decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// The question, for people.
    pub message: String,
    /// JSON Schema of the payload of an approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Arc<Value>>,
    /// The deadline of the decision, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What happens if nobody decides before the deadline.
    #[serde(default)]
    pub on_expire: OnExpire,
    /// What a rejection does.
    #[serde(default, skip_serializing_if = "OnReject::is_default")]
    pub on_reject: OnReject,
    /// The token subjects that may decide; if empty, every subject with the scope.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deciders: Vec<String>,
}

/// What happens to a step after its deadline.
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
    /// Parses the word that plans use.
    pub fn parse(text: &str) -> Option<Self> {
        [("fail", Self::Fail), ("reject", Self::Reject), ("approve", Self::Approve)]
            .into_iter()
            .find_map(|(word, it)| (word == text).then_some(it))
    }
}

/// What happens to a step that is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnReject {
    /// It fails.
    #[default]
    Fail,
    /// It completes, with the rejection as its output.
    Continue,
}

impl OnReject {
    /// Parses the word that plans use.
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

/// A decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Approved or rejected.
    #[serde(rename = "decision")]
    pub choice: Choice,
    /// The subject that decided; none if the approval expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Arc<str>>,
    /// When.
    pub at: Timestamp,
    /// The payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Arc<Value>>,
    /// Whether the approval expired, and the plan determined the decision.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expired: bool,
}

impl Decision {
    /// The output of the completed step. Every key is present, so that templates can use it.
    pub fn output(&self) -> Value {
        let payload = self.payload.as_deref().unwrap_or(&Value::Null);
        json!({"decision": self.choice, "by": self.by, "at": self.at, "payload": payload, "expired": self.expired})
    }
}
