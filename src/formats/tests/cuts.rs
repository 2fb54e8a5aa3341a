//! Wherever a stream is cut, whoever attaches then has what one has who was there from the beginning. Random runs of the
//! executor's simulation are played to models of the clients.

use super::agui_client::Client as AgUiClient;
use super::ai_client::Client as AiClient;
use super::*;
use crate::executor::run::simulation::random_run;
use crate::executor::testing::Rng;
use crate::model::{OutputStream, RunEventKind};

/// Seeds played by default; `STEPCAST_SEEDS=n` plays n, `STEPCAST_SEED=x` one alone.
const SEEDS: u64 = 12;

#[test]
fn whoever_attaches_has_what_one_has_who_was_always_there() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = number("STEPCAST_SEEDS").unwrap_or(SEEDS);
    for seed in number("STEPCAST_SEED").map_or(0..seeds, |seed| seed..seed + 1) {
        let (head, events) = run(seed);
        let played = std::panic::catch_unwind(|| {
            for knows_cancelled in [true, false] {
                agui(&head, &events, knows_cancelled, &mut Rng::new(seed));
            }
            ai_sdk(&head, &events);
            ai_sdk_goes_on(&head, &events, &mut Rng::new(seed));
            agui_in_turns(&head, &events, &mut Rng::new(seed));
            ai_sdk_in_turns(&head, &events, &mut Rng::new(seed));
            from_state(&head, &events);
        });
        assert!(played.is_ok(), "STEPCAST_SEED={seed}");
    }
}

/// A random run, some of whose output is text.
fn run(seed: u64) -> (Arc<RunHead>, Vec<RunEvent>) {
    let (plan, mut events) = random_run(seed);
    for event in &mut events {
        if let RunEventKind::StepOutput(said) = &mut event.kind
            && said.step_id.as_str().ends_with(['1', '3', '5'])
        {
            said.stream = OutputStream::Text;
        }
    }
    let state = RunState::new(events[0].run_id.clone(), &plan, Timestamp::from_millis(0));
    (Arc::new(RunHead::new(ProjectId::parse("p").expect("an id"), &state, b"{}")), events)
}

/// What a stream begins with after each number of messages, and what each message tells.
fn told(format: Format, head: &Arc<RunHead>, events: &[RunEvent]) -> (Vec<Vec<Value>>, Vec<Vec<Value>>) {
    let mut encoder = Encoder::new(format, head.clone());
    let prelude = |encoder: &Encoder| written(|to| encoder.prelude(&Opening::default(), "id", to));
    let (mut preludes, mut frames) = (vec![prelude(&encoder)], Vec::new());
    for event in events {
        frames.push(written(|to| _ = encoder.tell(event, "id", to)));
        preludes.push(prelude(&encoder));
    }
    assert!(encoder.is_over());
    (preludes, frames)
}

fn agui(head: &Arc<RunHead>, events: &[RunEvent], knows_cancelled: bool, rng: &mut Rng) {
    let (preludes, frames) = told(Format::AgUi { knows_cancelled, in_turns: false }, head, events);
    let mut always = AgUiClient::default();
    always.take(&preludes[0]);
    let mut once = Vec::new();
    for (count, prelude) in preludes.iter().enumerate() {
        let mut late = AgUiClient::default();
        late.take(prelude);
        assert_eq!(late, always, "after {count} messages");
        for mut back in once.iter().filter(|_| rng.one_in(3)).cloned() {
            AgUiClient::disconnect(&mut back);
            back.take(prelude);
            assert_eq!(back, always, "back after {count} messages");
        }
        once.push(always.clone());
        frames.get(count).into_iter().for_each(|frame| always.take(frame));
    }
    assert!(always.end.is_some());
}

fn ai_sdk(head: &Arc<RunHead>, events: &[RunEvent]) {
    let (preludes, frames) = told(Format::AiSdk { in_turns: false }, head, events);
    let mut always = AiClient::default();
    always.take(&preludes[0]);
    for (count, prelude) in preludes.iter().enumerate() {
        let mut late = AiClient::default();
        late.take(prelude);
        assert_eq!(late, always, "after {count} messages");
        frames.get(count).into_iter().for_each(|frame| always.take(frame));
    }
    assert!(always.is_done && !always.end.is_empty());
}

/// A client whose stream is cut after any event, and that continues with what it has of the message, has all of it in
/// the end.
fn ai_sdk_goes_on(head: &Arc<RunHead>, events: &[RunEvent], rng: &mut Rng) {
    let mut encoder = Encoder::new(Format::AiSdk { in_turns: false }, head.clone());
    let mut always = AiClient::default();
    always.take(&written(|to| encoder.prelude(&Opening::default(), "id", to)));
    let mut back: Vec<AiClient> = Vec::new();
    for event in events {
        let told = written(|to| _ = encoder.tell(event, "id", to));
        back.iter_mut().for_each(|client| client.take(&told));
        for chunk in &told {
            if !always.is_done && rng.one_in(3) {
                let mut client = always.clone();
                let had = client.answer();
                let opening = Opening { had: Some(&had), ..Opening::default() };
                client.take(&written(|to| encoder.prelude(&opening, "id", to)));
                back.push(client);
            }
            always.take(std::slice::from_ref(chunk));
        }
    }
    for client in back {
        assert!(client.is_done);
        assert_eq!(client.whole_parts(), always.whole_parts());
    }
}

/// What goes on between the turns of a client, and ends each of them.
fn in_turns(format: Format, head: &Arc<RunHead>, events: &[RunEvent], mut turn: impl FnMut(Turn<'_>), rng: &mut Rng) {
    let mut encoder = Encoder::new(format, head.clone());
    turn(Turn::Begins(&encoder));
    let mut is_there = true;
    for event in events {
        let (mut bytes, mut ends) = (Vec::new(), false);
        ends |= encoder.tell(event, "id", &mut bytes);
        if is_there {
            turn(Turn::Hears(&events_of(&bytes)));
            is_there = !ends;
            assert_eq!(ends, encoder.ends_streams(), "a stream ends where one that begins would");
        } else if encoder.is_over() || rng.one_in(3) {
            // Whoever is asked still is told so, and comes again.
            turn(Turn::Begins(&encoder));
            is_there = !encoder.ends_streams();
        }
    }
    assert!(encoder.is_over() && !is_there);
}

enum Turn<'a> {
    Begins(&'a Encoder),
    Hears(&'a [Value]),
}

fn agui_in_turns(head: &Arc<RunHead>, events: &[RunEvent], rng: &mut Rng) {
    let (mut client, mut always) = (AgUiClient::default(), AgUiClient::default());
    let (preludes, frames) = told(Format::AgUi { knows_cancelled: true, in_turns: false }, head, events);
    always.take(&preludes[0]);
    frames.iter().for_each(|frame| always.take(frame));
    let format = Format::AgUi { knows_cancelled: true, in_turns: true };
    let turn = |turn: Turn<'_>| match turn {
        Turn::Begins(encoder) => {
            client.take(&written(|to| encoder.prelude(&Opening::default(), "id", to)));
            assert_eq!(client.end.is_some(), encoder.ends_streams());
        }
        Turn::Hears(told) => {
            client.take(told);
            let asked = client.end.as_ref().and_then(|end| end["outcome"]["interrupts"].as_array());
            if let Some(asked) = asked {
                let steps = client.state["run"]["steps"].as_array().expect("steps");
                let waiting = steps.iter().filter(|step| step["status"] == "waiting").count();
                assert_eq!((asked.len(), waiting > 0), (waiting, true), "who waits is asked about");
            }
        }
    };
    in_turns(format, head, events, turn, rng);
    assert_eq!((client.state, client.messages, client.end), (always.state, always.messages, always.end));
}

fn ai_sdk_in_turns(head: &Arc<RunHead>, events: &[RunEvent], rng: &mut Rng) {
    let (mut client, mut always) = (AiClient::default(), AiClient::default());
    let (preludes, frames) = told(Format::AiSdk { in_turns: false }, head, events);
    always.take(&preludes[0]);
    frames.iter().for_each(|frame| always.take(frame));
    let turn = |turn: Turn<'_>| match turn {
        Turn::Begins(encoder) => {
            let had = client.answer();
            let opening = Opening { had: Some(&had), ..Opening::default() };
            client.take(&written(|to| encoder.prelude(&opening, "id", to)));
            assert_eq!(client.is_done, encoder.ends_streams());
        }
        Turn::Hears(told) => client.take(told),
    };
    in_turns(Format::AiSdk { in_turns: true }, head, events, turn, rng);
    assert_eq!(client, always);
}

/// A run of which the state alone is known, at any message, goes on as well, and its steps end as they do.
fn from_state(head: &Arc<RunHead>, events: &[RunEvent]) {
    let mut state = head.start.clone();
    for (count, event) in events.iter().enumerate() {
        state.apply(event);
        let format = Format::AgUi { knows_cancelled: true, in_turns: false };
        let mut encoder = Encoder::from_state(format, head.clone(), &state);
        let mut client = AgUiClient::default();
        client.take(&written(|to| encoder.prelude(&Opening::default(), "id", to)));
        for event in &events[count + 1..] {
            client.take(&written(|to| _ = encoder.tell(event, "id", to)));
        }
        assert!(encoder.is_over() && client.end.is_some());
        let ended = |step: &Value| {
            ["completed", "failed", "skipped", "cancelled"].contains(&step["status"].as_str()?).then_some(())
        };
        let steps = client.state["run"]["steps"].as_array().expect("steps");
        assert!(steps.iter().all(|step| ended(step).is_some()), "{steps:?}");
    }
}
