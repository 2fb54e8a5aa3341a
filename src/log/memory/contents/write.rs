//! What a batch adds.

use super::*;

impl Contents {
    pub(super) fn write(&mut self, write: &Write, wall: Timestamp) {
        match write {
            Write::Message(message, project) => self.write_message(message, project, wall),
            Write::RunCreated { number, project, row } => self.write_run(*number, project, row, wall),
            Write::Document { number, document } => {
                if let Some(run) = self.runs.get_mut(number) {
                    self.run_bytes += document.len() as u64;
                    self.run_bytes -= std::mem::replace(&mut run.row.document, document.clone()).len() as u64;
                }
            }
            Write::Key(row) => self.write_key(row),
            Write::CancelRequested(number) => {
                if let Some(run) = self.runs.get_mut(number) {
                    run.cancelled = true;
                }
            }
            Write::OutputsKept { number, of, steps } => self.keep_outputs(*number, *of, steps),
            // The last of these are of stores that are shared alone.
            Write::Ticket(_) | Write::Wish(_) | Write::WishAnswered { .. } | Write::Drained(_) => {}
            Write::Outbox(change) => self.outbox.change(change),
            Write::Plan(change) => self.plans.change(change),
            Write::Item { number, step, item, row } => self.write_item(*number, step, *item, row),
            Write::RunEnded { number, status, summary, state, last_seq } => {
                let (last_seq, status, summary, state) = (*last_seq, *status, summary.clone(), state.clone());
                self.write_end(*number, Ended { last_seq, outer_bytes: 0, status, summary, state });
            }
            Write::Output { number, step, attempt, stream, bytes } => {
                self.write_output(*number, step, *attempt, *stream, bytes);
            }
            Write::Whole { number, step, json } => {
                if let Some(run) = self.runs.get_mut(number) {
                    let replaced = run.outputs.entry(step.clone()).or_default().1.whole.replace(json.clone());
                    self.run_bytes += json.len() as u64;
                    self.run_bytes -= replaced.map_or(0, |json| json.len() as u64);
                }
            }
        }
    }

    fn keep_outputs(&mut self, number: RunNumber, of: RunNumber, steps: &[StepId]) {
        let Some(other) = self.runs.get(&of) else { return };
        let kept = steps.iter().filter_map(|step| Some((step.clone(), (0, other.outputs.get(step)?.1.clone()))));
        let kept: Vec<_> = kept.collect();
        let Some(run) = self.runs.get_mut(&number) else { return };
        self.run_bytes += kept.iter().map(|(_, (_, output))| output.weight()).sum::<u64>();
        run.outputs.extend(kept);
    }

    fn write_message(&mut self, message: &StoredMessage, project: &ProjectId, wall: Timestamp) {
        let index = self.fill(project, wall);
        self.clock = self.clock.max(message.at);
        let log = &mut self.projects[index as usize];
        debug_assert_eq!(message.seq, log.newest + 1, "messages come without a gap");
        log.newest = message.seq;
        log.messages.push_back(message.clone());
        match log.segments.back_mut().filter(|(last, began)| last.takes(message, *began == self.commits)) {
            Some((last, _)) => last.add(message),
            None => {
                log.segments.push_back((Extent::begin(message), self.commits));
                self.order.push_back((index, message.seq));
                self.held += 1;
            }
        }
        self.message_bytes += message.weight();
        if self.grown.last() != Some(&index) {
            self.grown.push(index);
        }
        if let Some(run) = message.run.and_then(|number| self.runs.get_mut(&number)) {
            run.seqs.push_back(message.seq);
            if run.ended.is_none() {
                run.last_at = message.at;
            }
        }
    }

    fn write_end(&mut self, number: RunNumber, mut ended: Ended) {
        let Some(run) = self.runs.get_mut(&number).filter(|run| run.ended.is_none()) else { return };
        let log = &mut self.projects[run.project as usize];
        run.kept.retain(|message| message.place.outlasts_floor(true));
        let held = run.seqs.iter().filter_map(|&seq| log.message(seq));
        let outer = held.filter(|message| matches!(message.place, PlaceInRun::First | PlaceInRun::Last));
        ended.outer_bytes = run.kept.iter().chain(outer).map(StoredMessage::weight).sum();
        log.ended.insert(number);
        self.run_bytes += ended.weight();
        run.ended = Some(ended);
        self.ended.insert((run.last_at, number));
    }

    fn write_run(&mut self, number: RunNumber, project: &ProjectId, row: &RunRow, wall: Timestamp) {
        let index = self.fill(project, wall);
        let log = &mut self.projects[index as usize];
        log.runs.insert(number);
        self.newest_run = number.0.get();
        log.run_numbers.insert(row.run.clone(), number);
        self.run_bytes += (row.document.len() + row.answer.len()) as u64;
        let run = Run {
            project: index,
            row: row.clone(),
            cancelled: false,
            seqs: VecDeque::new(),
            kept: Vec::new(),
            ended: None,
            last_at: row.created_at,
            outputs: HashMap::new(),
            items: BTreeMap::new(),
        };
        self.runs.insert(number, run);
    }

    fn write_key(&mut self, row: &KeyRow) {
        let index = self.project_index(&row.project);
        self.keys.push_back((row.at, index, row.name.clone()));
        let replaced = self.projects[index as usize].keys.insert(row.name.clone(), row.clone());
        self.weigh_key(index, replaced.map_or(0, |row| row.weight()), row.weight());
    }

    pub(super) fn weigh_key(&mut self, index: u32, less: u64, more: u64) {
        let of_project = &mut self.projects[index as usize].key_bytes;
        for bytes in [of_project, &mut self.key_bytes] {
            *bytes = *bytes + more - less;
        }
    }

    fn write_item(&mut self, number: RunNumber, step: &StepId, item: u32, row: &Arc<[u8]>) {
        let Some(run) = self.runs.get_mut(&number) else { return };
        let replaced = run.items.insert((step.clone(), item), row.clone());
        self.run_bytes += item_weight(row);
        self.run_bytes -= replaced.map_or(0, |row| item_weight(&row));
    }

    fn write_output(&mut self, number: RunNumber, step: &StepId, attempt: u32, stream: OutputStream, bytes: &[u8]) {
        let Some(run) = self.runs.get_mut(&number) else { return };
        let (of_attempt, output) = run.outputs.entry(step.clone()).or_default();
        if attempt < *of_attempt {
            return;
        }
        if *of_attempt != attempt {
            self.run_bytes -= output.weight();
            (*of_attempt, *output) = (attempt, OutputContent::default());
        }
        let piece = match stream {
            OutputStream::Stdout => &mut output.stdout,
            OutputStream::Stderr => &mut output.stderr,
            OutputStream::Text => &mut output.text,
        };
        piece.extend_from_slice(bytes);
        self.run_bytes += bytes.len() as u64;
    }
}
