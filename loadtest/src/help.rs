//! How this is used.

use crate::options::Parameter;
use crate::{scenario, table};

/// All of it.
pub fn text() -> String {
    let mut text = String::from(
        "Puts load on a stepcast server on this machine, and checks every message that comes back.\n\n\
         Usage: stepcast-loadtest SCENARIO [options] [-- flags for the server]\n\n\
         Options of every scenario:\n  \
         --server PATH   the program to start (target/release/stepcast)\n  \
         --data LIST     none, temp (a directory that is removed at the end), or both\n  \
         --url URL       a server that runs already, on loopback; --pid PID to look at its memory\n  \
         --peer NAME     floor, floor-8, or what stands under peers/, instead\n  \
         --tls           streams come by TLS, to a program that was built with it; publishers stay plain\n  \
         --pin           the server on the first processor, everything else on the others\n  \
         --limit S       the scenario fails when it takes longer\n  \
         --json          the report as JSON\n",
    );
    for scenario in scenario::ALL {
        text += &format!("\n{}: {}\n", scenario.name, scenario.about);
        for Parameter { name, default, help } in scenario.parameters {
            text += &format!("  --{name:<16} {help} ({default})\n");
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
