//! Load for a stepcast server on this machine: subscribers that check every message, publishers that measure from when
//! a message was due, and scenarios made of both. It knows the server by its wire contract alone.

mod asker;
mod body;
mod chunks;
mod clock;
mod command_line;
mod draw;
mod failure;
mod fleet;
mod flight;
mod follower;
mod habit;
mod hammer;
mod help;
mod http;
mod latency;
mod loopback;
mod message;
mod mob;
mod options;
mod peers;
#[path = "../../tests/common/postgres.rs"]
mod postgres;
mod proc;
mod publisher;
mod report;
mod scenario;
mod sequence;
mod server;
mod sse;
mod subscriber;
mod table;
mod tally;
mod watch;
mod wire;

use std::process::ExitCode;

use command_line::Request;

fn main() -> ExitCode {
    let carried_out = match command_line::parse(std::env::args_os().skip(1)) {
        Ok(Request::Help) => {
            print!("{}", help::text());
            return ExitCode::SUCCESS;
        }
        Ok(Request::Run(options)) => scenario::run(&options),
        Ok(Request::Table(arguments)) => table::run(arguments),
        Ok(Request::Draw(arguments)) => draw::run(arguments),
        Err(failure) => Err(failure),
    };
    match carried_out {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
