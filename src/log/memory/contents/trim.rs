//! What is deleted, and when.

use super::*;

impl Contents {
    /// Moves a project's floor up to `seq`; what outlasts it moves to its run.
    fn move_floor(&mut self, index: u32, seq: u64) {
        let log = &mut self.projects[index as usize];
        while let Some(message) = log.messages.pop_front_if(|message| message.seq < seq) {
            let Some(run) = message.run.and_then(|number| self.runs.get_mut(&number)) else { continue };
            run.seqs.pop_front();
            if message.place.outlasts_floor(run.ended.is_some()) {
                run.kept.push(message);
            }
        }
        while let Some((extent, _)) = log.segments.pop_front_if(|(extent, _)| extent.next_seq() <= seq) {
            self.held -= 1;
            self.message_bytes -= extent.bytes;
        }
        self.shrunk.insert(index);
    }

    fn drop_run(&mut self, number: RunNumber) {
        let Some(run) = self.runs.remove(&number) else { return };
        self.shrunk.insert(run.project);
        let log = &mut self.projects[run.project as usize];
        log.runs.remove(&number);
        log.ended.remove(&number);
        self.ended.remove(&(run.last_at, number));
        log.run_numbers.remove(&run.row.run);
        self.run_bytes -= run.outputs.values().map(|(_, output)| output.weight()).sum::<u64>();
        self.run_bytes -= run.items.values().map(|row| item_weight(row)).sum::<u64>();
        self.run_bytes -= (run.row.document.len() + run.row.answer.len()) as u64;
        self.run_bytes -= run.ended.map_or(0, |ended| ended.weight());
    }

    pub(super) fn trim_counts(&mut self, retention: &Retention) {
        for index in std::mem::take(&mut self.grown) {
            let Project { newest, ref messages, .. } = self.projects[index as usize];
            if messages.len() > retention.messages {
                self.move_floor(index, newest + 1 - retention.messages as u64);
            }
            while self.projects[index as usize].ended.len() > retention.runs {
                let Some(&oldest) = self.projects[index as usize].ended.first() else { break };
                self.drop_run(oldest);
            }
        }
    }

    pub(super) fn trim_bytes(&mut self, bytes_max: u64) {
        while self.message_bytes + self.run_bytes > bytes_max {
            let too_many = self.message_bytes + self.run_bytes - bytes_max;
            let runs_weigh_more = self.run_bytes > self.message_bytes;
            match self.ended.first() {
                Some(&(_, number)) if runs_weigh_more || self.order.is_empty() => self.drop_run(number),
                _ => match self.order.front().copied() {
                    Some((index, seq)) if self.is_first(index, seq) => {
                        let held = self.held;
                        self.drop_bytes(index, too_many);
                        if self.held == held {
                            // What is left of the segment is not too much.
                            break;
                        }
                        self.order.pop_front();
                    }
                    Some(_) => drop(self.order.pop_front()),
                    None => break,
                },
            }
        }
    }

    /// Lets so many bytes go of a project's first segment.
    fn drop_bytes(&mut self, index: u32, bytes: u64) {
        let log = &self.projects[index as usize];
        let Some((extent, _)) = log.segments.front() else { return };
        // The floor may be within it.
        let left: u64 =
            log.messages.iter().take_while(|it| it.seq < extent.next_seq()).map(StoredMessage::weight).sum();
        let mut passed = extent.bytes - left;
        let is_passed = |message: &&StoredMessage| {
            let is_passed = message.seq < extent.next_seq() && passed < bytes;
            passed += message.weight();
            is_passed
        };
        let floor = log.floor() + log.messages.iter().take_while(is_passed).count() as u64;
        self.move_floor(index, floor);
    }

    pub(super) fn trim_age(&mut self, before: Timestamp) {
        while let Some(&(index, seq)) = self.order.front() {
            if self.is_first(index, seq) {
                let Some(&(extent, _)) = self.projects[index as usize].segments.front() else { break };
                if extent.last_at >= before {
                    break;
                }
                self.move_floor(index, extent.next_seq());
            }
            self.order.pop_front();
        }
        while let Some(&(_, number)) = self.ended.first().filter(|(ended_at, _)| *ended_at < before) {
            self.drop_run(number);
        }
    }

    pub(super) fn trim_keys(&mut self, before: Timestamp) {
        while self.keys.front().is_some_and(|(at, _, _)| *at < before) {
            let Some((at, index, name)) = self.keys.pop_front() else { return };
            let keys = &mut self.projects[index as usize].keys;
            // A key may have been used anew since.
            if keys.get(&name).is_some_and(|row| row.at == at)
                && let Some(row) = keys.remove(&name)
            {
                self.weigh_key(index, row.weight(), 0);
            }
        }
    }

    /// The projects that have come to hold nothing.
    pub(super) fn take_emptied(&mut self, now: Timestamp) -> Vec<ProjectId> {
        let shrunk = std::mem::take(&mut self.shrunk).into_iter();
        let emptied: BTreeSet<u32> = shrunk.filter(|&index| self.projects[index as usize].is_empty()).collect();
        if emptied.is_empty() {
            return Vec::new();
        }
        for &index in &emptied {
            if self.projects[index as usize].empty_since.replace(now).is_none() {
                self.empty.insert((now, index));
            }
        }
        let names = self.names();
        emptied.iter().filter_map(|index| names.get(index).map(|&id| id.clone())).collect()
    }

    /// Forgets projects that have held nothing for long, but for their keys. Were there any?
    pub(super) fn forget_empty(&mut self, before: Timestamp) -> bool {
        let too_many = self.empty.len().saturating_sub(TOMBSTONES_MAX);
        let is_over = |at: usize, since: Timestamp| at < too_many || since < before;
        let oldest = self.empty.iter().enumerate().take_while(|&(at, &(since, _))| is_over(at, since));
        let gone: Vec<_> = oldest
            .map(|(_, &entry)| entry)
            .filter(|&(_, index)| self.projects[index as usize].keys.is_empty())
            .collect();
        if gone.is_empty() {
            return false;
        }
        for &(since, index) in &gone {
            self.empty.remove(&(since, index));
            self.projects[index as usize] = Project::default();
            self.free.push(index);
        }
        let gone: HashSet<u32> = gone.into_iter().map(|(_, index)| index).collect();
        let is_gone = |index: u32| gone.contains(&index);
        self.by_id.retain(|_, index| !is_gone(*index));
        // The next project in its place is not to be taken for it.
        self.order.retain(|&(index, _)| !is_gone(index));
        self.keys.retain(|&(_, index, _)| !is_gone(index));
        self.grown.retain(|&index| !is_gone(index));
        true
    }

    /// Messages that projects have dropped by count are still in the order, after messages of quiet projects. The order
    /// is cleaned once more than half of it is stale, so that each entry is visited about once.
    pub(super) fn trim_order(&mut self) {
        if self.order.len() > 2 * self.held + STALE_PLACES_MIN {
            let projects = &self.projects;
            let first = |index: u32| projects[index as usize].segments.front();
            let is_held = |index, seq| first(index).is_some_and(|(extent, _)| extent.first_seq <= seq);
            self.order.retain(|&(index, seq)| is_held(index, seq));
            self.order.shrink_to_fit();
        }
    }

    /// Is the segment that begins with `seq` the first that the project holds?
    fn is_first(&self, index: u32, seq: u64) -> bool {
        self.projects[index as usize].segments.front().is_some_and(|(extent, _)| extent.first_seq == seq)
    }
}
