//! The readers beside the log, stepped by hand: for simulations, which answer one question at a time, in any order.

use super::history_thread::{Historian, is_history};
use super::lookup::{self, Asked, Known, Question};
use super::store::Reader;
use super::{Answer, Command, Delivery, Journal, Refusal};

/// See the top of this file.
pub(crate) struct Beside {
    historian: Historian,
}

impl Beside {
    /// Those who read beside `journal`, which from now on leaves to them what they can answer.
    pub(crate) fn of(journal: &mut Journal, reader: Box<dyn Reader>) -> Self {
        journal.has_readers = true;
        Self { historian: Historian::new(reader, journal.signer.clone(), journal.heads.clone()) }
    }

    /// Takes out of `commands` what is theirs.
    pub(crate) fn divert(commands: &mut Vec<Command>) -> Vec<Question> {
        let questions = commands.extract_if(.., |command| is_history(command)).filter_map(|command| match command {
            Command::Read { query, reply } => Some(Question { reply, asked: Asked::Look(query, Known::Untold) }),
            _ => None,
        });
        questions.collect()
    }

    /// The answer.
    ///
    /// # Errors
    /// A batch for the log, where that has to be asked.
    pub(crate) fn answer(&mut self, question: Question) -> Result<Delivery, Vec<Command>> {
        let Question { reply, asked } = question;
        let answer = match asked {
            Asked::Items(steps) => self.historian.items_in_progress(&steps),
            Asked::Snapshots(attached) => lookup::begun(attached, self.historian.signer()),
            Asked::Retold(start) => self.historian.begin_retold(start),
            Asked::Look(query, known) => match (self.historian.answer(&query, &known), known) {
                (Some(answer), _) => answer,
                (None, Known::Untold) => return Err(vec![Command::Read { query, reply }]),
                (None, Known::Told(_)) => Answer::Refused(Refusal::StoreUnavailable),
            },
        };
        Ok(Delivery::Reply { to: reply, answer })
    }
}
