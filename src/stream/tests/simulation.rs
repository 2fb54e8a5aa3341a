//! Anything in any order, by seed.

use super::*;

/// Joins, leaves, broadcasts, slices, small rooms, late pages and time, in any order: each client has at every moment
/// the beginning of what it should have, heartbeats aside, and all of it in the end.
#[test]
fn whatever_happens_each_client_gets_everything_once_and_in_order() {
    for seed in 0..64 {
        simulate(seed);
    }
}

struct Client {
    key: SlabKey,
    socket: FakeSocket,
    project: ProjectId,
    after: u64,
    only_run: Option<RunNumber>,
    coding: Coding,
    /// Bytes that it had when it was last checked.
    checked: usize,
}

fn simulate(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut bench = Bench::new();
    let projects = [id("p"), id("q")];
    projects.iter().for_each(|project| bench.open(project));
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..400 {
        let project = &projects[rng.below(2)];
        match rng.below(10) {
            0 if clients.len() < 12 => clients.push(join_somewhere(&mut bench, project, &mut rng)),
            1 if !clients.is_empty() => {
                let gone = clients.swap_remove(rng.below(clients.len()));
                bench.manager.hangup(gone.key.index());
            }
            2..=4 => {
                let of = [None, Some(run(1)), Some(run(2))][rng.below(3)];
                bench.keep(project, [20, 30, 400, 3000][rng.below(4)], of, false);
                bench.broadcast_kept(rng.below(4));
            }
            5 => drop(bench.manager.flush(rng.below(4), bench.now)),
            6 | 7 => {
                if let Some(client) = clients.get(rng.below(clients.len().max(1))) {
                    bench.make_room(client.key, &client.socket, [1, 7, 500, 20_000][rng.below(4)]);
                }
            }
            8 => {
                bench.turn_pages([1, 2000, 1 << 20][rng.below(3)]);
                bench.turn_rows(rng.below(3), [1, 2000, 1 << 20][rng.below(3)]);
            }
            _ => bench.wait(Duration::from_millis(rng.below(4000) as u64)),
        }
        let stalled = |client: &Client, bench: &mut Bench| !bench.manager.is_current(client.key);
        bench.reap();
        clients.retain(|client| !stalled(client, &mut bench));
        clients.iter_mut().for_each(|client| check_news(client, &bench, seed));
    }
    bench.broadcast_kept(usize::MAX);
    for _ in 0..10_000 {
        clients.iter().for_each(|client| bench.make_room(client.key, &client.socket, 1 << 20));
        bench.flush();
        if bench.turn_pages(1 << 20) + bench.turn_rows(usize::MAX, 1 << 20) == 0 {
            break;
        }
    }
    clients.iter().for_each(|client| check(client, &bench, seed, true));
}

fn join_somewhere(bench: &mut Bench, project: &ProjectId, rng: &mut Rng) -> Client {
    if !bench.manager.is_open(project) {
        // Nobody watched it for so long that it was let go.
        bench.open(project);
    }
    let newest = bench.newest_broadcast(project);
    let after = rng.below(newest as usize + 1) as u64;
    let view = if rng.one_in(3) { View::Format(Format::AiSdk { in_turns: false }) } else { View::Events };
    let only_run = (view != View::Events || rng.one_in(3)).then(|| run(1 + rng.below(2) as u64));
    let coding = if rng.one_in(4) { Coding::UntilClose } else { Coding::Chunked };
    let socket = FakeSocket::with_room([0, 10, 1000, usize::MAX][rng.below(4)]);
    let key = bench.add(project, &socket, NewStream { after, only_run, view, coding, ..NewStream::default() });
    Client { key, socket, project: project.clone(), after, only_run, coding, checked: 0 }
}

fn check_news(client: &mut Client, bench: &Bench, seed: u64) {
    let length = client.socket.0.borrow().taken.len();
    if length != client.checked {
        client.checked = length;
        check(client, bench, seed, false);
    }
}

fn check(client: &Client, bench: &Bench, seed: u64, is_all: bool) {
    let expected = client.coding.encoded(bench.logs[&client.project].bytes(client.after, client.only_run));
    let expected = String::from_utf8_lossy(&expected);
    let comment = comment(client.coding);
    let got = client.socket.text().replace(comment, "");
    // The last heartbeat may not be whole.
    let is_begun = |n: &usize| got.ends_with(&comment[..*n]) && expected.starts_with(&got[..got.len() - n]);
    match is_all {
        true => assert!(got == expected, "seed {seed}: {} of {} bytes", got.len(), expected.len()),
        false => assert!((0..comment.len()).any(|n| is_begun(&n)), "seed {seed}: not what was said"),
    }
}
