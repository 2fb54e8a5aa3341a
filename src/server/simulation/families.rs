//! Runs that steps of other runs start: their way from the executor to the log and back, as the thread for children
//! goes it.

use super::medium::Medium;
use super::world::{PLAN_STEPS_MAX, World};
use crate::executor::{ChildCall, ChildEnd, ChildWish};
use crate::log::{Answer, Command, ReplyTo};
use crate::server::children::{Elders, Nursery};

/// Whom those ask who have children begun.
struct House<'w, M: Medium>(&'w mut World<M>);

impl<M: Medium> Elders for House<'_, M> {
    fn ask(&mut self, command: impl FnOnce(ReplyTo) -> Command) -> Option<Answer> {
        Some(self.0.hear_from_log(command))
    }

    fn tell(&mut self, child: &ChildCall, end: ChildEnd) {
        self.0.meet(if end.result.is_ok() { "child had ended" } else { "child could not begin" });
        self.0.shop.child_ended(child.project.clone(), child.parent.run_id.clone(), child.run.clone(), end);
    }
}

impl<M: Medium> World<M> {
    /// Up to so many things that the executor wishes of children are done.
    pub(super) fn hear_wishes(&mut self, wishes_max: usize) {
        for _ in 0..wishes_max {
            let Some(wish) = self.wishes.pop_front() else { break };
            self.meet(match wish {
                ChildWish::Begin(_) => "child wished",
                ChildWish::Cancel(..) => "child given up",
                ChildWish::Forget => "children forgotten",
            });
            self.with_nursery(|nursery, house| nursery.hear(wish, house).expect("the log goes on"));
        }
        if self.nursery.has_put_off() {
            self.meet("child put off");
        }
    }

    /// What had to be put off is wished again. `true` where there was anything.
    pub(super) fn wish_again(&mut self) -> bool {
        let has_put_off = self.nursery.has_put_off();
        if has_put_off {
            self.with_nursery(|nursery, house| nursery.ask_again(house).expect("the log goes on"));
        }
        has_put_off
    }

    fn with_nursery(&mut self, act: impl FnOnce(&mut Nursery, &mut House<'_, M>)) {
        let empty = Nursery::new(self.context.clone(), PLAN_STEPS_MAX);
        let mut nursery = std::mem::replace(&mut self.nursery, empty);
        act(&mut nursery, &mut House(self));
        self.nursery = nursery;
    }
}
