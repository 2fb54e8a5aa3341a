//! One run in one format.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::Format;
use super::agui::{self, AgUi};
use super::ai_sdk;
use super::frames::Frames;
use super::had::Had;
use super::head::RunHead;
use super::story::{Move, Story};
use crate::model::{RunEvent, RunState};

/// A run, retold: a fold over its messages from its first.
#[derive(Debug)]
pub struct Encoder {
    story: Story,
    form: Form,
}

/// The state of a format besides the story.
#[derive(Debug)]
enum Form {
    AgUi(Box<AgUi>),
    AiSdk { in_turns: bool },
}

/// What a client has said about itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Opening<'a> {
    /// AG-UI: the thread that their run belongs to. The project, where they named none.
    pub thread: Option<&'a str>,
    /// AG-UI: the messages that the client has, a JSON array. A client drops messages that are missing in the first
    /// snapshot, so those of other runs are sent back to it.
    pub messages: Option<&'a RawValue>,
    /// AG-UI: what they call the run. Its own id, where they call it by no other.
    pub run: Option<&'a str>,
    /// The AI SDK: what they have of the run's message, which goes on. It begins again where they have none.
    pub had: Option<&'a Had>,
}

impl Encoder {
    /// Of a run before its first message.
    pub fn new(format: Format, head: Arc<RunHead>) -> Self {
        Self::of(format, Story::new(head))
    }

    /// An encoder of a run whose first messages are no longer stored. [`super`] says what is lost.
    pub fn from_state(format: Format, head: Arc<RunHead>, state: &RunState) -> Self {
        Self::of(format, Story::from_state(head, state))
    }

    fn of(format: Format, story: Story) -> Self {
        let form = match format {
            Format::AgUi { knows_cancelled, in_turns } => {
                Form::AgUi(Box::new(AgUi::new(knows_cancelled, in_turns, &story)))
            }
            Format::AiSdk { in_turns } => Form::AiSdk { in_turns },
        };
        Self { story, form }
    }

    /// Handles the run's next message: appends its events as one chunk whose last event carries `id`, or nothing if
    /// this format has no event for it. The last message reports the run's end, and nothing follows it; it names the
    /// project as its thread, see [`Names`](super::Names). Does a stream end after it?
    pub fn tell(&mut self, event: &RunEvent, id: &str, to: &mut Vec<u8>) -> bool {
        let moves = self.story.apply(event);
        self.tell_moves(&moves, id, to);
        self.ends_streams() && moves.iter().any(|made| matches!(made, Move::Halted | Move::Ended))
    }

    /// The run's plan is another since, as it was kept in `document`: from here on its steps' inputs are those.
    pub fn know_plan(&mut self, document: &[u8]) {
        let head = &self.story.head;
        self.story.head = Arc::new(RunHead::new(head.project.clone(), &self.story.state, document));
    }

    /// What a new stream is sent first, as one chunk: everything so far, so that the client has the same as one that
    /// has watched from the beginning. The last event carries `id`. Each stream begins with one, also before the run's
    /// first message, except those that resume by an id. See [`ends_streams`](Self::ends_streams).
    pub fn prelude(&self, opening: &Opening<'_>, id: &str, to: &mut Vec<u8>) {
        let mut frames = Frames::default();
        match &self.form {
            Form::AgUi(agui) => agui.prelude(opening, &self.story, &mut frames),
            Form::AiSdk { in_turns } => ai_sdk::prelude(*in_turns, opening.had, &self.story, &mut frames),
        }
        frames.write(Some(id), to);
    }

    /// Has the run had its last message?
    pub fn is_over(&self) -> bool {
        self.story.ending.is_some()
    }

    /// Does a stream that begins now end after its prelude?
    pub fn ends_streams(&self) -> bool {
        let in_turns = match &self.form {
            Form::AgUi(agui) => agui.is_in_turns(),
            Form::AiSdk { in_turns } => *in_turns,
        };
        self.is_over() || (in_turns && self.story.is_halted)
    }

    /// About how many bytes it holds.
    pub fn memory(&self) -> usize {
        let form = match &self.form {
            Form::AgUi(agui) => agui.memory(),
            Form::AiSdk { .. } => 0,
        };
        size_of::<Self>() + self.story.memory() + form
    }

    fn tell_moves(&mut self, moves: &[Move], id: &str, to: &mut Vec<u8>) {
        let mut frames = Frames::default();
        match &mut self.form {
            Form::AgUi(agui) => agui.tell(moves, &self.story, &mut frames),
            Form::AiSdk { in_turns } => ai_sdk::tell(moves, *in_turns, &self.story, &mut frames),
        }
        frames.write(Some(id), to);
    }
}

/// The last chunk of a stream that the server must end before its run: a stream that ends without it would be taken for
/// a run that succeeded. `reason` is a word, as `stream_closing` has it. It carries no id: the next stream begins with
/// the prelude.
pub fn closing(format: Format, reason: &str, to: &mut Vec<u8>) {
    let message = format!("the server is closing this stream ({reason}); the run continues, reconnect to follow it");
    let mut frames = Frames::default();
    match format {
        Format::AgUi { .. } => frames.push(&agui::closing(&message)),
        Format::AiSdk { .. } => {
            frames.push(&ai_sdk::closing(&message));
            frames.push_text(ai_sdk::DONE);
        }
    }
    frames.write(None, to);
}
