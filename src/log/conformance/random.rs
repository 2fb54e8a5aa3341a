//! Whatever is written, let go and found again, both stores read the same.

use super::*;

/// Makes writes at random, and knows what may be written next.
pub(super) struct Generator {
    state: u64,
    /// No two messages come at the same time.
    now: u64,
    newest: [u64; 3],
    open: Vec<(RunNumber, usize)>,
    next_run: u64,
    /// Which retention is in force.
    retention: Retention,
    /// A key is used once, as in stores of several writers: by their names.
    bound: Option<std::collections::HashSet<String>>,
}

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        let mut it = Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now: 1_000_000,
            newest: [0; 3],
            open: Vec::new(),
            next_run: 1,
            retention: KEEP_ALL,
            bound: None,
        };
        it.retention = Retention {
            messages: [3, 10, 40, 100_000][it.below(4) as usize],
            bytes: [500, 4000, 20_000, u64::MAX][it.below(4) as usize],
            age_ms: [50_000, 500_000, u64::MAX][it.below(3) as usize],
            runs: [0, 1, 4, 100_000][it.below(4) as usize],
        };
        it
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 20) % n
    }

    fn batch(&mut self) -> Vec<Write> {
        let mut batch = Vec::new();
        for _ in 0..=self.below(8) {
            self.add_to(&mut batch);
        }
        batch
    }

    fn add_to(&mut self, batch: &mut Vec<Write>) {
        self.now += [1, 10_000][self.below(2) as usize];
        let of = self.below(3) as usize;
        match (self.below(14), self.open.is_empty()) {
            (0..4, _) => batch.push(self.message(of, None, PlaceInRun::Middle)),
            (4, _) | (_, true) => self.start_run(of, batch),
            (kind, false) => {
                let at = self.below(self.open.len() as u64) as usize;
                let (run, of) = self.open[at];
                match kind {
                    5 | 6 => batch.push(self.message(of, Some(run), PlaceInRun::Turn)),
                    7 => batch.push(self.message(of, Some(run), PlaceInRun::Middle)),
                    8 => batch.push(Write::CancelRequested(run)),
                    9 => batch.push(self.piece(run)),
                    12 => batch.push(Write::Document { number: run, document: self.bytes().into() }),
                    11 => {
                        let (step, item) = (self.step(), self.below(4) as u32);
                        batch.push(Write::Item { number: run, step, item, row: self.bytes().into() });
                    }
                    10 => batch.push(Write::Whole {
                        number: run,
                        step: self.step(),
                        json: [b"0", &self.bytes()[..]].concat().into(),
                    }),
                    _ => {
                        self.open.remove(at);
                        batch.push(self.message(of, Some(run), PlaceInRun::Last));
                        let (state, summary, last_seq) = (self.bytes().into(), self.bytes().into(), self.newest[of]);
                        let status =
                            [RunStatus::Completed, RunStatus::Failed, RunStatus::Cancelled][self.below(3) as usize];
                        batch.push(Write::RunEnded { number: run, status, summary, state, last_seq });
                    }
                }
            }
        }
    }

    fn start_run(&mut self, of: usize, batch: &mut Vec<Write>) {
        let run = number(self.next_run);
        let row = RunRow {
            run: run_id(self.next_run),
            created_at: Timestamp::from_millis(self.now),
            document: self.bytes().into(),
            answer: self.bytes().into(),
            fingerprint: [self.below(256) as u8; 32],
        };
        if self.below(2) == 0 {
            let (name, at, answer) =
                (format!("kkey{}", self.next_run % 7), Timestamp::from_millis(self.now), self.bytes());
            let (project, fingerprint) = (named(of), row.fingerprint);
            let is_free = |bound: &mut std::collections::HashSet<String>| bound.insert(format!("{project}/{name}"));
            if self.bound.as_mut().is_none_or(is_free) {
                batch.push(Write::Key(Box::new(KeyRow { project, name, at, fingerprint, answer: answer.into() })));
            }
        }
        self.next_run += 1;
        self.open.push((run, of));
        batch.push(Write::RunCreated { number: run, project: named(of), row: Box::new(row) });
        batch.push(self.message(of, Some(run), PlaceInRun::First));
    }

    fn message(&mut self, of: usize, run: Option<RunNumber>, place: PlaceInRun) -> Write {
        self.newest[of] += 1;
        self.now += 1;
        let at = Timestamp::from_millis(self.now);
        let message = StoredMessage { seq: self.newest[of], at, run, place, json: self.bytes().into() };
        Write::Message(message, named(of))
    }

    fn piece(&mut self, number: RunNumber) -> Write {
        let stream = [OutputStream::Stdout, OutputStream::Stderr, OutputStream::Text][self.below(3) as usize];
        Write::Output { number, step: self.step(), attempt: 1 + self.below(2) as u32, stream, bytes: self.bytes() }
    }

    fn step(&mut self) -> StepId {
        StepId::parse(["a", "b"][self.below(2) as usize]).expect("an id")
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.below(200) as usize;
        vec![b'a' + self.below(26) as u8; length]
    }
}

/// Everything that can be read of both is the same.
fn assert_same(one: &dyn Store, other: &dyn Store, runs: u64, context: &str) {
    let mut listed_in: HashMap<u64, ProjectId> = HashMap::new();
    for project in [0, 1, 2].map(named) {
        for n in 0..7 {
            let key = |store: &dyn Store| store.key(&project, &format!("kkey{n}"));
            assert_eq!(key(one), key(other), "{context}, key {n} of {project}");
        }
        assert_eq!(one.key_bytes(&project), other.key_bytes(&project), "{context}, keys of {project}");
        let remains = |store: &dyn Store| store.remains(&project).map(|remains| remains.map(without_revision));
        assert_eq!(remains(one), remains(other), "{context}, what is left of {project}");
        assert_eq!(one.newest(&project), other.newest(&project), "{context}, newest of {project}");
        assert_eq!(one.floor(&project), other.floor(&project), "{context}, floor of {project}");
        for after in [0, 3, 17] {
            let (a, b) = (read(one, &project, after, None), read(other, &project, after, None));
            assert_eq!(a, b, "{context}, {project} behind {after}");
        }
        for before in [3, 17, u64::MAX] {
            let (a, b) = (seqs_before(one, &project, before, 50), seqs_before(other, &project, before, 50));
            assert_eq!(a, b, "{context}, {project} before {before}");
        }
        let numbers_as = |store: &dyn Store, before, ended_as| {
            let mut numbers = Vec::new();
            let listed = store.runs(&project, before, ended_as, &mut |number| {
                numbers.push(number);
                crate::log::store::Flow::More
            });
            assert_eq!(listed, Ok(()));
            numbers
        };
        for status in [RunStatus::Completed, RunStatus::Failed, RunStatus::Cancelled].map(Some) {
            for before in [None, Some(number(5))] {
                let (a, b) = (numbers_as(one, before, status), numbers_as(other, before, status));
                assert_eq!(a, b, "{context}, runs of {project} that ended as {status:?}");
            }
        }
        let numbers = |store: &dyn Store, before| numbers_as(store, before, None);
        assert_eq!(numbers(one, Some(number(5))), numbers(other, Some(number(5))), "{context}, runs of {project}");
        let all = numbers(one, None);
        assert_eq!(all, numbers(other, None), "{context}, runs of {project}");
        listed_in.extend(all.into_iter().map(|number| (number.0.get(), project.clone())));
    }
    for n in 1..=runs {
        let project = listed_in.get(&n).cloned().unwrap_or_else(|| named(0));
        assert_eq!(one.run(number(n)), other.run(number(n)), "{context}, run {n}");
        assert_eq!(one.ended_state(number(n)), other.ended_state(number(n)), "{context}, state of run {n}");
        let summary = |store: &dyn Store| store.ended_summary(number(n));
        assert_eq!(summary(one), summary(other), "{context}, summary of run {n}");
        let found = |store: &dyn Store| store.run_number(&project, &run_id(n));
        assert_eq!(found(one), found(other), "{context}, number of run {n}");
        for after in [0, 9] {
            let (a, b) = (read(one, &project, after, Some(number(n))), read(other, &project, after, Some(number(n))));
            assert_eq!(a, b, "{context}, run {n} behind {after}");
        }
        assert_eq!(one.ends(number(n)), other.ends(number(n)), "{context}, ends of run {n}");
        for step in ["a", "b"].map(|step| StepId::parse(step).expect("an id")) {
            assert_eq!(one.output(number(n), &step), other.output(number(n), &step), "{context}, {step} of run {n}");
            assert_eq!(written(one, n, &step), written(other, n, &step), "{context}, {step} of run {n}");
            let whole = |store: &dyn Store| store.whole_output(number(n), &step);
            assert_eq!(whole(one), whole(other), "{context}, {step} of run {n}");
            for from in [0, 2] {
                let (a, b) = (items(one, n, &step, from), items(other, n, &step, from));
                assert_eq!(a, b, "{context}, items of {step} of run {n} from {from}");
            }
        }
    }
}

/// What was recovered is what the generator knows.
fn assert_recovered(store: &dyn Store, recovered: &Recovered, generator: &Generator, context: &str) {
    for (of, seq) in generator.newest.into_iter().enumerate() {
        let remains = store.remains(&named(of)).expect("readable");
        assert_eq!(remains.as_ref().map_or(0, |it| it.newest), seq, "{context}, newest of {of}");
        let holds = !read(store, &named(of), 0, None).is_empty() || generator.open.iter().any(|&(_, open)| open == of);
        let is_kept = recovered.projects.iter().any(|it| it.project == named(of));
        assert!(is_kept || !holds, "{context}, {of} holds something");
    }
    let mut open: Vec<_> = generator.open.iter().map(|&(run, of)| (run, named(of))).collect();
    open.sort_by_key(|(run, _)| *run);
    let found: Vec<_> = recovered.open_runs.iter().map(|run| (run.number, run.project.clone())).collect();
    assert_eq!(found, open, "{context}, open runs");
    if !store.is_shared() {
        assert_eq!(recovered.next_run_number.get(), generator.next_run, "{context}");
    }
}

#[test]
fn any_writes_and_trims_and_restarts_read_the_same_from_both() {
    for seed in 0..16 {
        let directory = TempDir::new();
        let mut reopen = |now| {
            let (store, identity) = open(&directory, now);
            (Box::new(store) as Box<dyn Store>, identity)
        };
        assert_reads_the_same(seed, Generator::new(seed), &mut reopen);
    }
}

#[cfg(feature = "postgres")]
#[test]
fn any_writes_and_trims_and_restarts_read_the_same_from_one_that_is_shared() {
    for seed in 0..3 {
        let Some(mut shared) = crate::log::postgres::testing::SharedStore::new() else { return };
        let mut reopen = |_| {
            let opened = shared.open();
            (opened.store as Box<dyn Store>, opened.identity)
        };
        let generator = Generator { bound: Some(std::collections::HashSet::new()), ..Generator::new(seed) };
        assert_reads_the_same(seed, generator, &mut reopen);
    }
}

fn assert_reads_the_same(
    seed: u64,
    mut generator: Generator,
    reopen: &mut dyn FnMut(u64) -> (Box<dyn Store>, Identity),
) {
    let mut memory = MemoryStore::new();
    let mut kept = reopen(0).0;
    for turn in 0..40 {
        let context = format!("seed {seed}, turn {turn}");
        let batch = generator.batch();
        commit(&mut memory, &batch);
        if generator.below(3) == 0 {
            let (retention, now) = (generator.retention, at(generator.now));
            let now = crate::log::store::Times { wall: Timestamp::from_millis(7), ..now };
            let sorted = |mut emptied: Vec<ProjectId>| {
                emptied.sort_unstable();
                emptied
            };
            let expected = memory.trim(&retention, now).expect("it does not fail").emptied;
            let trimmed = kept.append_and_trim(&[], &batch, &retention, now).expect("it does not fail");
            let emptied = trimmed.expect("nor does that").emptied;
            assert_eq!(sorted(emptied), sorted(expected), "{context}, emptied at once");
        } else {
            commit(&mut *kept, &batch);
        }
        if generator.below(3) > 0 {
            let emptied = trim(&mut memory, generator.retention, generator.now);
            assert_eq!(trim(&mut *kept, generator.retention, generator.now), emptied, "{context}, emptied");
        }
        if generator.below(10) == 0 {
            drop(kept);
            let (store, identity) = reopen(generator.now);
            assert_eq!((identity.master_key, identity.instance.to_string().len()), ([7; 32], 8), "{context}");
            assert_same_recovered(&*store, &memory, &generator, &context);
            kept = store;
        }
        // One that is shared is asked over a connection, some thousand times each.
        if !kept.is_shared() || turn % 5 == 4 {
            assert_same(&memory, &*kept, generator.next_run - 1, &context);
        }
    }
}

fn assert_same_recovered(store: &dyn Store, memory: &MemoryStore, generator: &Generator, context: &str) {
    let mut recovered = store.recover().expect("readable");
    assert_recovered(store, &recovered, generator, context);
    let remembered = memory.recover().expect("readable");
    recovered.projects = recovered.projects.into_iter().map(without_revision).collect();
    assert_eq!(recovered.projects, remembered.projects, "{context}");
    // One that is shared goes by a clock of its own, and is opened by another node each time.
    if store.is_shared() {
        recovered.open_runs.iter_mut().for_each(|run| run.is_foreign = false);
    } else {
        // The clock is kept with messages, and else now and then: it may be behind, and a little more be recent.
        assert!(recovered.clock <= remembered.clock, "{context}");
        assert!(remembered.clock.millis_since(recovered.clock) < 11 * 60 * 1000, "{context}");
        let more = recovered.ended_runs.len() - remembered.ended_runs.len();
        assert_eq!(recovered.ended_runs[more..], remembered.ended_runs, "{context}");
    }
    assert_eq!(recovered.open_runs, remembered.open_runs, "{context}");
    assert_eq!(recovered.key_bytes, remembered.key_bytes, "{context}");
}
