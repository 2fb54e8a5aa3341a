//! Streams of several projects beside each other and beside those of one, with anything in any order, by seed.

use super::bundles::{Checked, Told, add, bench_of};
use super::*;

/// Joins at any positions, leaves, broadcasts, slices, small rooms, late pages and time, in any order: each client has at
/// every moment the beginning of what it should have of each of its projects, and all of it in the end.
#[test]
fn whatever_happens_each_client_of_several_projects_gets_everything_of_each_once_and_in_order() {
    for seed in 0..32 {
        simulate(seed);
    }
}

struct Client {
    key: SlabKey,
    socket: FakeSocket,
    starts: Vec<(ProjectId, u64)>,
    coding: Coding,
    /// What it had when it was last checked.
    checked: Checked,
}

fn simulate(seed: u64) {
    let mut rng = Rng::new(seed);
    let projects = [id("p"), id("q"), id("r"), id("s")];
    let mut bench = bench_of(&projects);
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..400 {
        let project = &projects[rng.below(4)];
        match rng.below(10) {
            0 if clients.len() < 24 => {
                let newcomers = if rng.one_in(4) { 12 } else { 1 };
                (0..newcomers).for_each(|_| clients.push(join_somewhere(&mut bench, &projects, &mut rng)));
            }
            1 if !clients.is_empty() => {
                let gone = clients.swap_remove(rng.below(clients.len()));
                bench.manager.hangup(gone.key.index());
            }
            2..=4 => {
                if bench.manager.is_open(project) {
                    bench.keep(project, [20, 30, 400, 3000, 9000][rng.below(5)], None, false);
                }
                bench.broadcast_kept(rng.below(6));
            }
            5 => drop(bench.manager.flush(rng.below(4), bench.now)),
            6 | 7 => {
                if let Some(client) = clients.get(rng.below(clients.len().max(1))) {
                    bench.make_room(client.key, &client.socket, [1, 7, 500, 20_000][rng.below(4)]);
                }
            }
            8 => drop(bench.turn_pages([1, 2000, 1 << 20][rng.below(3)])),
            _ => bench.wait(Duration::from_millis(rng.below(4000) as u64)),
        }
        bench.reap();
        clients.retain(|client| bench.manager.is_current(client.key));
        clients.iter_mut().for_each(|client| check(client, &bench, seed));
    }
    bench.broadcast_kept(usize::MAX);
    for _ in 0..10_000 {
        clients.iter().for_each(|client| bench.make_room(client.key, &client.socket, 1 << 20));
        bench.flush();
        if bench.turn_pages(1 << 20) == 0 {
            break;
        }
    }
    for client in &mut clients {
        check(client, &bench, seed);
        let newest: Vec<_> = client.starts.iter().map(|(project, _)| bench.logs[project].newest()).collect();
        assert_eq!(client.checked.at, newest, "seed {seed}: it has all");
        let is_plain = client.coding == Coding::Chunked;
        assert!(!is_plain || bench.manager.is_bare(client.key), "seed {seed}: it has joined the others");
    }
}

fn join_somewhere(bench: &mut Bench, projects: &[ProjectId], rng: &mut Rng) -> Client {
    let mut starts = Vec::new();
    let all = rng.one_in(2);
    for project in projects {
        if all || rng.one_in(2) || starts.is_empty() {
            if !bench.manager.is_open(project) {
                bench.open(project);
            }
            let newest = bench.newest_broadcast(project);
            let after = if rng.one_in(2) { newest } else { rng.below(newest as usize + 1) as u64 };
            starts.push((project.clone(), after));
        }
    }
    let coding = if rng.one_in(4) { Coding::UntilClose } else { Coding::Chunked };
    let socket = FakeSocket::with_room([0, 10, 1000, usize::MAX, usize::MAX][rng.below(5)]);
    let key = add(bench, &starts, &socket, coding);
    let checked = Checked::before(&starts);
    Client { key, socket, starts, coding, checked }
}

fn check(client: &mut Client, bench: &Bench, seed: u64) {
    let text = client.socket.text();
    if text.len() != client.checked.bytes {
        client.checked.bytes = text.len();
        client.checked.go_on(bench, &Told::read(&text, client.coding), &client.starts, &format!("seed {seed}"));
    }
}
