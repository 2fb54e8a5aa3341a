//! A request for the output of a step, or a part of it.

use super::Rest;
use crate::http::Conditions;
use crate::http::range::Selection;
use crate::model::OutputStream;

/// The part of a step's output that a call asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedOutput {
    /// That of this item; the step's own where none is named.
    pub item: Option<u32>,
    /// This stream of it; the output itself where none is named.
    pub stream: Option<OutputStream>,
    /// Which part, and whether it is known already.
    pub asked: Conditions,
    /// About so many bytes at once at most; none if it is 0, and the length alone is wanted.
    pub bytes_max: usize,
}

/// A step's output, or a part of it.
#[derive(Debug, PartialEq)]
pub struct Output {
    /// Bytes that there are in all.
    pub length: u64,
    /// They are JSON.
    pub is_json: bool,
    /// The attempt that wrote them; 0 if there was none.
    pub attempt: u32,
    /// Their entity tag, quoted, where they stay as they are: the step has ended.
    pub tag: Option<String>,
    /// The selected part; none if the client has the output already.
    pub selected: Option<Selection>,
    /// The first of the bytes that were.
    pub bytes: Vec<u8>,
    /// Where the others are.
    pub rest: Option<Box<Rest>>,
}
