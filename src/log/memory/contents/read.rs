//! Lookups.

use super::*;

impl History for Contents {
    fn newest(&self, project: &ProjectId) -> Result<u64, StoreError> {
        Ok(self.project(project).map_or(0, |log| log.newest))
    }

    fn ends(&self, number: RunNumber) -> Result<Option<Ends>, StoreError> {
        let ends = |run: &Run| Ends {
            first: run.kept.first().map(|message| message.seq).or(run.seqs.front().copied()),
            last: run.ended.as_ref().map(|ended| ended.last_seq),
        };
        Ok(self.runs.get(&number).map(ends))
    }

    fn floor(&self, project: &ProjectId) -> Result<u64, StoreError> {
        Ok(self.project(project).map_or(1, Project::floor))
    }

    fn messages(
        &self,
        project: &ProjectId,
        after: u64,
        run: Option<RunNumber>,
        each: &mut dyn FnMut(&StoredMessage) -> Flow,
    ) -> Result<(), StoreError> {
        let Some(log) = self.project(project) else { return Ok(()) };
        match run {
            None => {
                let skipped = usize::try_from((after + 1).saturating_sub(log.floor())).unwrap_or(usize::MAX);
                let _ = log.messages.iter().skip(skipped).try_for_each(|message| proceed(each(message)));
            }
            Some(number) => {
                let Some(run) = self.runs.get(&number) else { return Ok(()) };
                let kept = run.kept.iter().filter(|message| message.seq > after);
                let from = run.seqs.partition_point(|&seq| seq <= after);
                let held = run.seqs.range(from..).filter_map(|&seq| log.message(seq));
                let _ = kept.chain(held).try_for_each(|message| proceed(each(message)));
            }
        }
        Ok(())
    }

    fn messages_before(
        &self,
        project: &ProjectId,
        before: u64,
        each: &mut dyn FnMut(&StoredMessage) -> Flow,
    ) -> Result<(), StoreError> {
        let Some(log) = self.project(project) else { return Ok(()) };
        let older = usize::try_from(before.saturating_sub(log.floor())).unwrap_or(usize::MAX).min(log.messages.len());
        let _ = log.messages.range(..older).rev().try_for_each(|message| proceed(each(message)));
        Ok(())
    }

    fn ended_state(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        Ok(self.runs.get(&number).and_then(|run| run.ended.as_ref()).map(|ended| ended.state.clone()))
    }

    fn ended_summary(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        Ok(self.runs.get(&number).and_then(|run| run.ended.as_ref()).map(|ended| ended.summary.clone()))
    }

    fn runs(
        &self,
        project: &ProjectId,
        before: Option<RunNumber>,
        ended_as: Option<RunStatus>,
        each: &mut dyn FnMut(RunNumber) -> Flow,
    ) -> Result<(), StoreError> {
        let Some(log) = self.project(project) else { return Ok(()) };
        let status =
            |number: &RunNumber| self.runs.get(number).and_then(|run| run.ended.as_ref()).map(|ended| ended.status);
        let is_meant = |number: &&RunNumber| {
            before.is_none_or(|before| **number < before) && (ended_as.is_none() || status(number) == ended_as)
        };
        let _ = log.runs.iter().rev().filter(is_meant).copied().try_for_each(|number| proceed(each(number)));
        Ok(())
    }

    fn run_number(&self, project: &ProjectId, run: &RunId) -> Result<Option<RunNumber>, StoreError> {
        Ok(self.project(project).and_then(|log| log.run_numbers.get(run)).copied())
    }

    fn document(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        Ok(self.run(number)?.map(|row| row.document))
    }

    fn output(&self, number: RunNumber, step: &StepId) -> Result<Option<StoredOutput>, StoreError> {
        let size = |(attempt, output): &(u32, OutputContent)| {
            let length = |stream| output.stream(stream).len() as u64;
            let [stdout, stderr, text] = [OutputStream::Stdout, OutputStream::Stderr, OutputStream::Text].map(length);
            StoredOutput { attempt: *attempt, stdout, stderr, text }
        };
        Ok(self.output(number, step).map(size))
    }

    fn output_bytes(
        &self,
        number: RunNumber,
        step: &StepId,
        stream: OutputStream,
        range: Range<u64>,
        to: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        if let Some((_, output)) = self.output(number, step) {
            to.extend_from_slice(part(output.stream(stream), range));
        }
        Ok(())
    }

    fn whole_length(&self, number: RunNumber, step: &StepId) -> Result<Option<u64>, StoreError> {
        let whole = self.output(number, step).and_then(|(_, output)| output.whole.as_ref());
        Ok(whole.map(|json| json.len() as u64))
    }

    fn whole_bytes(
        &self,
        number: RunNumber,
        step: &StepId,
        range: Range<u64>,
        to: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        if let Some(json) = self.output(number, step).and_then(|(_, output)| output.whole.as_ref()) {
            to.extend_from_slice(part(json, range));
        }
        Ok(())
    }

    fn items(
        &self,
        number: RunNumber,
        step: &StepId,
        from: u32,
        each: &mut dyn FnMut(u32, &[u8]) -> Flow,
    ) -> Result<(), StoreError> {
        let Some(run) = self.runs.get(&number) else { return Ok(()) };
        let items = run.items.range((step.clone(), from)..=(step.clone(), u32::MAX));
        let _ = { items }.try_for_each(|((_, item), row)| proceed(each(*item, row)));
        Ok(())
    }

    fn outbox(&self) -> Result<Vec<(Arc<str>, u64)>, StoreError> {
        Ok(self.outbox.counts())
    }

    fn due(&self, webhook: &str, times: DueTimes, each: &mut dyn FnMut(&DueRow) -> Flow) -> Result<(), StoreError> {
        self.outbox.due(webhook, times, each);
        Ok(())
    }

    fn next_due(&self, webhook: &str, times: DueTimes) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.outbox.next_due(webhook, times))
    }

    fn plans(&self, wanted: WantedPlans<'_>, each: &mut dyn FnMut(&PlanRow) -> Flow) -> Result<(), StoreError> {
        self.plans.each(wanted, each);
        Ok(())
    }

    fn plan_document(&self, project: &ProjectId, name: &PlanName) -> Result<Option<Arc<[u8]>>, StoreError> {
        Ok(self.plans.document(project, name))
    }

    fn plan_counts(&self, project: &ProjectId) -> Result<PlanCounts, StoreError> {
        Ok(self.plans.counts(project))
    }
}

/// The `range` of `bytes`, as much of it as there is.
fn part(bytes: &[u8], range: Range<u64>) -> &[u8] {
    let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    bytes.get(at(range.start)..at(range.end)).unwrap_or_default()
}

/// A reader's wish, as an iterator takes it.
fn proceed(flow: Flow) -> Result<(), ()> {
    match flow {
        Flow::More => Ok(()),
        Flow::Stop => Err(()),
    }
}
