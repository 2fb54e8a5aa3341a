//! Broadcasts: a message for a project is stored once in each form, and is sent in rounds over the streams of each
//! channel.

use std::io::Write;

use super::ConnectionManager;
use crate::log::Frames;
use crate::model::{Now, ProjectId};
use crate::stream::channel::Turn;

impl<S: Write> ConnectionManager<S> {
    /// Adds a project's next messages to the backlogs of its channels. The next [`flush`](Self::flush) writes them to
    /// its streams.
    pub fn broadcast(&mut self, project: &ProjectId, frames: &Frames, now: Now) {
        let share = self.backlog_share();
        self.watched.append(project, frames, share, now.mono, &mut self.dirty);
    }

    /// Makes up to `writes_max` writes of what was broadcast. `true` where there is more to do: then the next call begins
    /// with the next channel, so that a large one does not keep the small ones waiting.
    pub fn flush(&mut self, writes_max: usize, now: Now) -> bool {
        let mut left = writes_max;
        while let Some(&channel) = self.dirty.front() {
            if !self.flush_channel(channel, &mut left, now) {
                self.dirty.rotate_left(1);
                return true;
            }
            self.dirty.pop_front();
        }
        false
    }

    /// A slice of one channel's round; `true` once it is over.
    fn flush_channel(&mut self, index: u32, left: &mut usize, now: Now) -> bool {
        while let Some(newest) = self.watched.newest(index)
            && let Some(channel) = self.watched.channel_mut(index)
        {
            match channel.turn(newest) {
                Turn::Idle => return true,
                Turn::Ended { since } => {
                    self.rounds_ended.push(since);
                    self.end_bundle_round(index);
                    return true;
                }
                Turn::Of(_) if *left == 0 => return false,
                Turn::Of(key) => {
                    let is_first = channel.is_at_start();
                    channel.end_turn();
                    if is_first {
                        self.begin_bundle_round(index);
                    }
                    *left -= 1;
                    self.serve(key, now);
                }
            }
        }
        true
    }
}
