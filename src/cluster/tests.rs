//! Tests of the threads, with fakes for the database and the log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::tail_thread::TailThread;
use super::{Bell, Hands, LeaseThread, Pace, PendingHands, SharedPulse, Vitals};
use crate::clock;
use crate::log::{
    Answer, Beat, BeatError, Command, Followed, Hints, Lease, Outgoing, ReplyTo, Standing, StoreError, Tail, WishId,
    Wishes,
};
use crate::model::ProjectId;

const PACE: Duration = Duration::from_secs(15);

fn project() -> ProjectId {
    ProjectId::parse("p").expect("an id")
}

/// What hands were told, and what they have room for.
#[derive(Default)]
struct FakeHands {
    told: Mutex<Vec<Command>>,
    fences: Mutex<u32>,
    has_no_room: Mutex<bool>,
    is_busy: Mutex<bool>,
}

impl Hands for FakeHands {
    fn fence(&self) {
        *self.fences.lock().expect("whole") += 1;
    }

    fn try_send(&self, commands: Vec<Command>) -> Result<(), Vec<Command>> {
        if *self.has_no_room.lock().expect("whole") {
            return Err(commands);
        }
        self.told.lock().expect("whole").extend(commands);
        Ok(())
    }

    fn is_log_idle(&self) -> bool {
        !*self.is_busy.lock().expect("whole")
    }

    fn standings(&self, _: Option<&[ProjectId]>) -> Vec<Standing> {
        vec![Standing { project: project(), newest: 1, revision: 1 }]
    }

    fn put_off(&self) -> Vec<ProjectId> {
        Vec::new()
    }

    fn joined_at(&self) -> Duration {
        Duration::ZERO
    }

    fn wishes(&self) -> Vec<WishId> {
        Vec::new()
    }
}

impl FakeHands {
    fn take(&self) -> Vec<Command> {
        std::mem::take(&mut *self.told.lock().expect("whole"))
    }
}

/// Finds something of one project whenever it is asked.
struct FakeTail {
    hears: VecDeque<Result<Hints, StoreError>>,
    looks: Arc<Mutex<u32>>,
    probed: u64,
    /// So much is never numbered.
    published: u64,
    can_read_published: bool,
}

impl Default for FakeTail {
    fn default() -> Self {
        Self { hears: VecDeque::new(), looks: Arc::default(), probed: 0, published: 0, can_read_published: true }
    }
}

impl Tail for FakeTail {
    fn wait(&mut self, _: Duration) -> Result<Hints, StoreError> {
        self.hears.pop_front().unwrap_or_else(|| Ok(Hints::default()))
    }

    fn changes_since(&mut self, standings: &[Standing], _: usize) -> Result<Vec<Followed>, StoreError> {
        *self.looks.lock().expect("whole") += 1;
        let followed = |it: &Standing| Followed { project: it.project.clone(), revision: 2, messages: Vec::new() };
        Ok(standings.iter().map(followed).collect())
    }

    fn wishes(&mut self, _: &[WishId]) -> Result<Wishes, StoreError> {
        Ok(Wishes::default())
    }

    fn published(&mut self, max: usize, _: &[ProjectId]) -> Result<Vec<Outgoing>, StoreError> {
        if !self.can_read_published {
            return Err(StoreError("too much".into()));
        }
        let one = |id| Outgoing { id, project: project(), message_type: "note".into(), payload: b"{}".to_vec() };
        Ok((1..=self.published).take(max).map(one).collect())
    }

    fn probed(&self) -> u64 {
        self.probed
    }
}

fn hint() -> Result<Hints, StoreError> {
    Ok(Hints { projects: vec![project()], ..Hints::default() })
}

fn tail(hears: impl IntoIterator<Item = Result<Hints, StoreError>>) -> (TailThread, Arc<FakeHands>, Arc<Mutex<u32>>) {
    let hears = hears.into_iter().collect();
    tail_of(FakeTail { hears, ..FakeTail::default() })
}

fn tail_of(fake: FakeTail) -> (TailThread, Arc<FakeHands>, Arc<Mutex<u32>>) {
    let (hands, looks) = (Arc::<FakeHands>::default(), Arc::clone(&fake.looks));
    let vitals = Arc::new(Vitals::new(Duration::ZERO));
    let pulse = SharedPulse::new(Pace::notified(PACE), Duration::ZERO);
    let (thread, _) =
        TailThread::new(Box::new(fake), Pace::notified(PACE), (pulse, Bell::new().0), vitals, hands.clone());
    (thread, hands, looks)
}

#[test]
fn what_others_have_written_is_handed_over_and_nothing_more_before_the_log_has_come_to_it() {
    let (mut tail, hands, looks) = tail([Ok(Hints::default()), hint(), hint()]);
    tail.turn().expect("it can be read");
    let told = hands.take();
    let [Command::Probe, Command::Follow(found), Command::Barrier(ReplyTo::Caller(reply))] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((found.len(), &found[0].project), (1, &project()));
    tail.turn().expect("it can be read");
    assert_eq!((hands.take().len(), *looks.lock().expect("whole")), (0, 1), "it would be found a second time");
    reply.send(Answer::Reached).expect("someone waits");
    tail.turn().expect("it can be read");
    assert!(matches!(hands.take()[..], [Command::Follow(_), Command::Barrier(_)]));
}

#[test]
fn what_the_log_has_no_room_for_is_found_again() {
    let (mut tail, hands, looks) = tail([]);
    *hands.has_no_room.lock().expect("whole") = true;
    tail.turn().expect("it can be read");
    assert_eq!(hands.take().len(), 0);
    *hands.has_no_room.lock().expect("whole") = false;
    while hands.told.lock().expect("whole").is_empty() {
        tail.turn().expect("it can be read");
    }
    assert_eq!(*looks.lock().expect("whole"), 2, "not before it may have room again");
}

#[test]
fn what_others_have_written_is_handed_over_though_what_applications_published_can_not_be_read() {
    let fake = FakeTail { can_read_published: false, ..FakeTail::default() };
    let (mut tail, hands, _) = tail_of(fake);
    assert_eq!(tail.turn(), Err(StoreError("too much".into())));
    let told = hands.take();
    assert!(matches!(&told[..], [Command::Probe, Command::Follow(_), Command::Barrier(_)]), "{told:?}");
}

/// Beats as it is told to.
struct FakeLease {
    beats: VecDeque<Result<Beat, BeatError>>,
    said: Arc<Mutex<Vec<String>>>,
}

impl FakeLease {
    fn say(&self, what: impl Into<String>) {
        self.said.lock().expect("whole").push(what.into());
    }
}

impl Lease for FakeLease {
    fn beat(&mut self) -> Result<Beat, BeatError> {
        self.say("beat");
        self.beats.pop_front().unwrap_or_else(|| Ok(Beat::default()))
    }

    fn renew(&mut self) -> Result<Beat, BeatError> {
        self.say("renew");
        self.beats.pop_front().unwrap_or_else(|| Ok(Beat::default()))
    }

    fn wake(&mut self, projects: &[ProjectId], has_wishes: bool) -> Result<(), StoreError> {
        self.say(format!("wake {projects:?} {has_wishes}"));
        Ok(())
    }

    fn leave(&mut self) -> Result<(), StoreError> {
        self.say("leave");
        Ok(())
    }
}

/// Runs a lease whose first beat is due to its end; what it said, and what hands were told.
fn run(beat: Result<Beat, BeatError>, pace: Pace, is_drained: bool) -> (Vec<String>, Arc<FakeHands>) {
    let (hands, said, (bell, rung)) = (Arc::<FakeHands>::default(), Arc::default(), Bell::new());
    let lease = FakeLease { beats: VecDeque::from([beat]), said: Arc::clone(&said) };
    let pulse = SharedPulse::new(Pace::notified(Duration::ZERO), Duration::ZERO);
    let vitals = Arc::new(Vitals::new(Duration::ZERO));
    let (thread, handle) = LeaseThread::new(Box::new(lease), pace, pulse, rung, vitals, hands.clone());
    bell.ring(vec![project()], true);
    handle.close(is_drained);
    thread.run();
    let said = said.lock().expect("whole").clone();
    (said, hands)
}

#[test]
fn a_node_beats_as_soon_as_it_begins() {
    let (pace, lease) = (Pace::notified(PACE), FakeLease { beats: VecDeque::new(), said: Arc::default() });
    let pulse = SharedPulse::new(pace, clock::mono());
    let (vitals, hands) = (Arc::new(Vitals::new(Duration::ZERO)), Arc::<FakeHands>::default());
    let _thread = LeaseThread::new(Box::new(lease), pace, pulse.clone(), Bell::new().1, vitals, hands);
    assert!(pulse.lock().beat_at() <= clock::mono(), "what was left before it came is taken over at once");
}

#[test]
fn a_node_tells_what_has_moved_before_it_leaves_and_leaves_only_where_nothing_runs_any_more() {
    let wakes = |said: &[String]| said.iter().filter(|it| it.starts_with("wake")).count();
    let (said, _) = run(Ok(Beat::default()), Pace::notified(PACE), true);
    assert_eq!((said[0].as_str(), wakes(&said), said.last().map(String::as_str)), ("beat", 1, Some("leave")));
    let (said, _) = run(Ok(Beat::default()), Pace::notified(PACE), false);
    assert!(wakes(&said) == 1 && !said.contains(&"leave".to_owned()), "{said:?}");
    let (said, _) = run(Ok(Beat::default()), Pace::polling(PACE, PACE), true);
    assert_eq!(wakes(&said), 0, "others look by themselves");
}

#[test]
fn runs_that_a_beat_has_taken_over_are_the_logs_to_go_on_with_and_a_fenced_node_lets_go() {
    let beat = Beat { taken_over: vec![project()], nodes: 2, dead: 1 };
    let (_, hands) = run(Ok(beat), Pace::notified(PACE), true);
    let told = hands.take();
    assert!(matches!(&told[..], [Command::Adopt(projects)] if *projects == [project()]), "{told:?}");
    let (_, hands) = run(Err(BeatError::Fenced), Pace::notified(PACE), true);
    assert_eq!(*hands.fences.lock().expect("whole"), 1);
}

#[test]
fn a_node_goes_on_beating_while_the_log_has_no_room_for_what_it_has_taken_over() {
    let (hands, said, (_bell, rung)) = (Arc::<FakeHands>::default(), Arc::default(), Bell::new());
    let beats = [1, 0].map(|dead| Ok(Beat { taken_over: vec![project(); dead], nodes: 1, dead: dead as u64 }));
    let lease = FakeLease { beats: beats.into(), said: Arc::clone(&said) };
    let pace = Pace::notified(Duration::ZERO);
    let vitals = Arc::new(Vitals::new(Duration::ZERO));
    let pulse = SharedPulse::new(pace, Duration::ZERO);
    let (mut thread, _handle) = LeaseThread::new(Box::new(lease), pace, pulse, rung, vitals, hands.clone());
    *hands.has_no_room.lock().expect("whole") = true;
    thread.turn();
    thread.turn();
    assert_eq!((hands.take().len(), said.lock().expect("whole").len()), (0, 2));
    *hands.has_no_room.lock().expect("whole") = false;
    thread.turn();
    let told = hands.take();
    assert!(matches!(&told[..], [Command::Adopt(projects)] if *projects == [project()]), "{told:?}");
    thread.turn();
    assert_eq!(hands.take().len(), 0, "once");
}

/// A node whose log is still being read: what it has no hands for, what its lease is told, and the thread that beats, each turn of
/// which is a beat.
fn reading(
    beats: impl IntoIterator<Item = Result<Beat, BeatError>>,
) -> (Arc<PendingHands>, Arc<Mutex<Vec<String>>>, LeaseThread) {
    let (hands, said, (_, rung)) = (Arc::<PendingHands>::default(), Arc::default(), Bell::new());
    let lease = FakeLease { beats: beats.into_iter().collect(), said: Arc::clone(&said) };
    let (pace, vitals) = (Pace::notified(Duration::ZERO), Arc::new(Vitals::new(Duration::ZERO)));
    let pulse = SharedPulse::new(pace, Duration::ZERO);
    let (thread, _) = LeaseThread::new(Box::new(lease), pace, pulse, rung, vitals, hands.clone());
    (hands, said, thread)
}

#[test]
fn a_node_whose_log_takes_longer_to_read_than_its_lease_lasts_was_fenced_by_its_own_start() {
    let taken_over = Beat { taken_over: vec![project()], nodes: 2, dead: 1 };
    let (hands, said, mut thread) = reading([Ok(Beat::default()), Ok(Beat::default()), Ok(taken_over)]);
    (0..2).for_each(|_| thread.turn());
    assert_eq!(*said.lock().expect("whole"), ["renew"; 2], "it can't go on with what others leave");

    let own = Arc::<FakeHands>::default();
    hands.begin(own.clone());
    thread.turn();
    assert_eq!(*said.lock().expect("whole"), ["renew", "renew", "beat"]);
    let told = own.take();
    assert!(matches!(&told[..], [Command::Adopt(projects)] if *projects == [project()]), "{told:?}");
    assert_eq!(*own.fences.lock().expect("whole"), 0);
}

#[test]
fn a_node_that_is_fenced_while_its_log_is_read_lets_go_of_what_it_has_found_as_soon_as_it_can() {
    let (hands, _, mut thread) = reading([Err(BeatError::Fenced)]);
    thread.turn();
    assert!(hands.is_fenced());
    let own = Arc::<FakeHands>::default();
    hands.begin(own.clone());
    assert_eq!(*own.fences.lock().expect("whole"), 1);
    hands.fence();
    assert_eq!(*own.fences.lock().expect("whole"), 2, "later it is told at once");
}

#[test]
fn a_busy_node_is_probed_too() {
    let (mut tail, hands, _) = tail([]);
    *hands.is_busy.lock().expect("whole") = true;
    tail.turn().expect("it can be read");
    assert!(matches!(hands.take().first(), Some(Command::Probe)), "it would seem to be cut off");
}

#[test]
fn what_can_not_be_numbered_now_is_not_looked_at_again_at_once() {
    let (mut tail, hands, looks) = tail_of(FakeTail { published: 600, ..FakeTail::default() });
    let answer_all = |tail: &mut TailThread| {
        tail.turn().expect("it can be read");
        let told = hands.take();
        for command in &told {
            if let Command::Barrier(ReplyTo::Caller(reply)) = command {
                reply.send(Answer::Reached).expect("someone waits");
            }
        }
        told.iter().filter(|it| matches!(it, Command::Drain(_))).count()
    };
    let drains: Vec<_> = (0..5).map(|_| answer_all(&mut tail)).collect();
    assert_eq!((drains, *looks.lock().expect("whole")), (vec![1, 1, 0, 0, 0], 1));
}
