#!/usr/bin/env bash
# An HTTP client's pool closes a connection that was idle for too long. ureq 3.5.2 does so only when the next request is
# made: until then a connection that its server has closed stays open on the client's side, whatever max_idle_age says.
#
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
mkdir src
cat > Cargo.toml <<'END'
[package]
name = "probe"
version = "0.0.0"
edition = "2021"

[dependencies]
ureq = { version = "=3.5.2", default-features = false }
END
cat > src/main.rs <<'END'
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

/// Sockets of this process whose other side has closed: state 08 of /proc/net/tcp, towards `port`.
fn close_wait(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    let to = format!("0100007F:{port:04X}");
    table.lines().filter(|line| line.split_whitespace().nth(2) == Some(&to)).filter(|line| line.contains(" 08 ")).count()
}

fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.expect("a client");
            let _ = socket.read(&mut [0; 4096]);
            // It is kept for one answer, and closed a moment later, as any server's idle timeout does.
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let agent: ureq::Agent = ureq::Agent::config_builder().max_idle_age(Duration::from_secs(1)).build().into();
    let url = format!("http://127.0.0.1:{port}/");
    agent.get(&url).call().expect("an answer").body_mut().read_to_string().expect("a body");
    std::thread::sleep(Duration::from_secs(4));
    let left = close_wait(port);
    println!("ureq 3.5.2, max_idle_age 1 s: 4 s after the answer {left} closed connection is still held");
    std::process::exit(i32::from(left != 1));
}
END
cargo build --quiet --release 2>build.log || { cat build.log; exit 2; }
target/release/probe
