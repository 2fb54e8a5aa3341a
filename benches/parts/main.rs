//! What each of the parts that decide costs, alone, without sockets or threads.
//!
//! `cargo bench --bench parts` tells wall times; `benches/instructions.sh` counts instructions, which do not change with
//! whatever else the machine is doing.

mod cases;
mod log;
mod plans;
mod streams;
mod work;

use cases::{CASES, Case};
use divan::Bencher;
use divan::counter::ItemsCount;
use work::Done;

/// Told to do a case's work so many times and no more, for `instructions.sh`.
const REPEAT: &str = "--repeat";

/// Told to print the names of the cases, with how many operations each is.
const LIST: &str = "--list-cases";

fn main() -> Done<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [REPEAT, name, times] => repeat(name, times.parse()?),
        [LIST] => CASES.iter().try_for_each(|case| {
            println!("{} {}", case.name, case.operations);
            Ok(())
        }),
        _ => {
            divan::main();
            Ok(())
        }
    }
}

fn repeat(name: &str, times: u32) -> Done<()> {
    let case = CASES.iter().find(|case| case.name == name).ok_or("there is no such case")?;
    let mut work = (case.prepare)()?;
    (0..times).try_for_each(|_| work())
}

#[divan::bench(args = CASES)]
fn part(bencher: Bencher<'_, '_>, case: &Case) {
    let mut work = (case.prepare)().unwrap_or_else(|error| panic!("{case}: {error}"));
    bencher
        .counter(ItemsCount::new(case.operations))
        .bench_local(|| work().unwrap_or_else(|error| panic!("{case}: {error}")));
}
