//! Threads that read beside the log: what they are asked, and when their answers come.

use super::logging::for_loop;
use super::medium::Medium;
use super::world::World;
use crate::log::{Delivery, Question};
use crate::server::Inbox;

/// A question to those who read beside the log.
pub(super) struct Posed {
    question: Question,
    /// What the log had let out by then.
    behind: u64,
}

impl<M: Medium> World<M> {
    pub(super) fn pose(&mut self, questions: Vec<Question>) {
        let behind = self.outcomes;
        self.questions.extend(questions.into_iter().map(|question| Posed { question, behind }));
    }

    /// Those who read beside the log answer up to so many questions, whatever waits for the log. Two of them do so side by
    /// side, so that the answers come in any order, but for pages and for runs in formats.
    pub(super) fn read_beside(&mut self, answers_max: usize) {
        for _ in 0..answers_max.min(self.questions.len()) {
            let mut at = self.rng.below(self.questions.len());
            for is_in_order in [Question::is_page, Question::is_of_format] {
                if is_in_order(&self.questions[at].question) {
                    let mut questions = self.questions.iter();
                    at = questions.position(|posed| is_in_order(&posed.question)).expect("at the latest this one");
                }
            }
            let Posed { question, behind } = self.questions.remove(at).expect("one of them");
            let failed = self.disk.failed();
            match self.beside.as_mut().expect("whoever is asked").answer(question) {
                Ok(answer) => self.hand_in(answer, behind),
                Err(batch) => {
                    self.meet("handed on");
                    self.log_queue.push_back(batch);
                }
            }
            if self.disk.failed() > failed {
                self.down_at = Some(self.now.mono);
            }
        }
    }

    /// An answer may overtake what was committed last, where it was asked for before that was let out: that is on its way
    /// when the answer is made.
    fn hand_in(&mut self, answer: Delivery, behind: u64) {
        let Some(answer) = for_loop(answer) else { return };
        let answer = Inbox::Log(vec![answer]);
        if self.outcomes > behind && matches!(self.inbox.back(), Some(Inbox::Log(_))) && self.rng.one_in(2) {
            self.meet("answer ahead");
            self.inbox.insert(self.inbox.len() - 1, answer);
        } else {
            self.inbox.push_back(answer);
        }
    }
}
