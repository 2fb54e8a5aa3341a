//! How this is used.

use crate::options::Parameter;
use crate::{scenario, table};

/// All of it.
pub fn text() -> String {
    let mut text = String::from(
        "Puts load on a stepcast server on this machine and checks every message that it sends.\n\n\
         Usage: stepcast-loadtest SCENARIO [options] [-- flags for the server]\n\n\
         Options for every scenario:\n  \
         --server PATH   server program to start (default: target/release/stepcast)\n  \
         --data LIST     where the server stores data: none, temp (a directory removed at the end), or both\n  \
         --url URL       use a server that is already running on loopback; add --pid PID to measure its memory\n  \
         --peer NAME     measure another server instead: floor, floor-8, or a directory under peers/\n  \
         --tls           open streams over TLS (the program must be built with the feature tls); publishers use plain HTTP\n  \
         --pin           run the server on the first processor and everything else on the others\n  \
         --limit S       fail the scenario if it takes longer than S seconds\n  \
         --json          print the report as JSON\n",
    );
    for scenario in scenario::ALL {
        text += &format!("\n{}: {}\n", scenario.name, scenario.about);
        for Parameter { name, default, help } in scenario.parameters {
            text += &format!("  --{name:<16} {help} (default: {default})\n");
        }
    }
    text.push('\n');
    text + table::HELP
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::command_line::{Request, parse};

    #[test]
    fn every_scenario_has_numbers_for_defaults_and_shows_in_the_help() {
        for scenario in scenario::ALL {
            let Ok(Request::Run(options)) = parse([OsString::from(scenario.name)]) else { panic!("defaults are good") };
            for parameter in scenario.parameters {
                assert!(options.numbers::<f64>(parameter.name).is_ok(), "{}", parameter.name);
                assert!(text().contains(parameter.help));
            }
        }
    }
}
