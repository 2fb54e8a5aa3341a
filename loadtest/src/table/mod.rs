//! The table: our server, the floor and other servers side by side, each cell with all of them in turn, so that what
//! else the machine does meets all alike. What counts are the ratios.

mod cells;
mod figure;
mod lines;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

use lexopt::prelude::*;
use serde_json::{Value, json};

use crate::command_line::{self, Request};
use crate::failure::{Failure, Outcome, failure};
use crate::peers::Peer;
use crate::proc;
use crate::scenario;

use cells::{Cell, OURS, ReportRef};
pub use figure::show;
use lines::Line;

/// What is compared with where nothing else is asked for.
const PEERS: &str = "nchan,axum,node,restate,dbos";

/// Seconds that one cell may take with one server.
const CELL_LIMIT_S: u64 = 90;

/// Runs of each cell where time is not short; the median counts.
const RUNS: usize = 3;

/// How the table is used.
pub const HELP: &str = "\
Tables and pictures:
  table           compare our server, the floor and peers; the ratios are what matters
  --quick         one short run of each cell instead of the median of three longer runs
  --runs N        number of runs of each cell
  --peers LIST    peers to compare with (nchan,axum,node,restate,dbos); peers that are not installed are listed and skipped
  --only LIST     measure only these cells, such as burst-1000,idle
  --server PATH   our program (default: target/release/stepcast); --data none or temp (default: none)
  --no-pin        let server and generator share all processors
  --to FILE       write the figures as JSON
  draw FILE       draw the figures of a table as SVG, to standard output
";

/// What was asked for.
struct Plan {
    is_quick: bool,
    is_pinned: bool,
    runs: usize,
    peers: Vec<String>,
    only: Vec<String>,
    server: String,
    data: String,
    to: Option<PathBuf>,
}

/// Makes the table that the arguments ask for, and prints it; is everything in it as it should be?
///
/// # Errors
/// Where the arguments make no sense, or nothing can be started.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Outcome<bool> {
    let plan = Plan::parse(arguments)?;
    proc::raise_descriptors()?;
    let mut table = Table::new(&plan)?;
    let cells: Vec<&Cell> = cells::ALL.iter().filter(|cell| plan.includes(cell)).collect();
    let mut lines = Vec::new();
    for (number, cell) in cells.iter().enumerate() {
        let subjects = table.subjects(cell);
        let mut values = vec![vec![Vec::new(); subjects.len()]; cell.rows.len()];
        let mut flawed: Vec<String> = Vec::new();
        for run in 0..plan.runs {
            for (subject, name) in subjects.iter().enumerate() {
                say(&format!("[{} of {}] {}, run {}: {name}", number + 1, cells.len(), cell.name, run + 1));
                let notes = table.notes.len();
                for (row, value) in table.measure(&plan, cell, name).into_iter().enumerate() {
                    values[row][subject].extend(value);
                }
                if table.notes.len() > notes {
                    flawed.push(name.clone());
                }
            }
        }
        for (row, values) in cell.rows.iter().zip(values) {
            lines.push(Line::new(cell, row, subjects.iter().cloned().zip(values).collect(), &flawed));
        }
    }
    table.print(&plan, &lines)?;
    Ok(table.notes.is_empty())
}

impl Plan {
    fn parse(arguments: impl IntoIterator<Item = OsString>) -> Outcome<Self> {
        let list = |text: String| text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect();
        let mut plan = Self {
            is_quick: false,
            is_pinned: true,
            runs: 0,
            peers: list(PEERS.to_owned()),
            only: Vec::new(),
            server: "target/release/stepcast".to_owned(),
            data: "none".to_owned(),
            to: None,
        };
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Long("quick") => plan.is_quick = true,
                Long("no-pin") => plan.is_pinned = false,
                Long("runs") => plan.runs = parser.value()?.parse()?,
                Long("peers") => plan.peers = list(parser.value()?.string()?),
                Long("only") => plan.only = list(parser.value()?.string()?),
                Long("server") => plan.server = parser.value()?.string()?,
                Long("data") => plan.data = parser.value()?.string()?,
                Long("to") => plan.to = Some(parser.value()?.into()),
                _ => return Err(argument.unexpected().into()),
            }
        }
        if plan.runs == 0 {
            plan.runs = if plan.is_quick { 1 } else { RUNS };
        }
        match plan.only.iter().find(|name| cells::ALL.iter().all(|cell| cell.name != name.as_str())) {
            Some(name) => failure(format!("unknown cell {name}; expected one or more of {}", cell_names().join(", "))),
            None => Ok(plan),
        }
    }

    fn includes(&self, cell: &Cell) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == cell.name)
    }

    /// The command line of a cell with one server.
    fn arguments(&self, cell: &Cell, subject: &str) -> Vec<OsString> {
        let limit = CELL_LIMIT_S.to_string();
        let mut words = vec![cell.scenario, "--server", &self.server, "--data", &self.data, "--limit", &limit];
        words.extend(cell.arguments.split_whitespace());
        words.extend(if self.is_quick { cell.quick } else { cell.full }.split_whitespace());
        words.extend(self.is_pinned.then_some("--pin"));
        if subject != OURS {
            words.extend(["--peer", subject]);
        }
        words.into_iter().map(OsString::from).collect()
    }
}

fn cell_names() -> Vec<&'static str> {
    cells::ALL.iter().map(|cell| cell.name).collect()
}

/// The table on its way.
struct Table {
    /// Those that are installed.
    peers: Vec<String>,
    /// Those that are not, and why.
    skipped: Vec<String>,
    /// What went wrong.
    notes: Vec<String>,
    load_before: Option<f64>,
    /// As many as there are before this program keeps to some of them.
    processors: usize,
}

impl Table {
    fn new(plan: &Plan) -> Outcome<Self> {
        let mut table = Self {
            peers: Vec::new(),
            skipped: Vec::new(),
            notes: Vec::new(),
            load_before: proc::load_average(),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
        };
        for name in &plan.peers {
            match Peer::find(name)?.lack() {
                None => table.peers.push(name.clone()),
                Some(why) => table.skipped.push(format!("{name}: {why}")),
            }
        }
        if let Some(why) = Peer::find("floor")?.lack() {
            return failure(why);
        }
        Ok(table)
    }

    /// Whoever takes part in a cell, in the order in which they are shown.
    fn subjects(&self, cell: &Cell) -> Vec<String> {
        let floors = cell.floors.iter().map(|floor| (*floor).to_owned());
        let peers =
            self.peers.iter().filter(|name| Peer::find(name).is_ok_and(|peer| peer.runs_plans == cell.is_of_plans));
        floors.chain(peers.cloned()).chain([OURS.to_owned()]).collect()
    }

    /// A cell with one server: the value of each of its rows, where there is one.
    fn measure(&mut self, plan: &Plan, cell: &Cell, subject: &str) -> Vec<Option<f64>> {
        let report = match command_line::parse(plan.arguments(cell, subject)) {
            Ok(Request::Run(options)) => scenario::measure(&options),
            Ok(_) => failure("the cell has no scenario"),
            Err(failure) => Err(failure),
        };
        let report = match report.map(|reports| reports.first().map(|report| report.json())) {
            Ok(report) => report.unwrap_or_default(),
            Err(Failure(why)) => {
                self.notes.push(format!("{}, {subject}: {why}", cell.name));
                return vec![None; cell.rows.len()];
            }
        };
        for complaint in report["failures"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            self.notes.push(format!("{}, {subject}: {complaint}", cell.name));
        }
        cell.rows.iter().map(|row| value(&report, &row.source)).collect()
    }

    fn print(&self, plan: &Plan, lines: &[Line]) -> Outcome<()> {
        let conditions = json!({
            "processors": self.processors,
            "processor": proc::processor(),
            "pinned": plan.is_pinned,
            "store": plan.data,
            "runs": plan.runs,
            "quick": plan.is_quick,
            "load average before": self.load_before,
            "load average after": proc::load_average(),
        });
        println!("{}", lines::text(lines));
        for (name, value) in conditions.as_object().into_iter().flatten() {
            println!("{name}: {value}");
        }
        if !self.notes.is_empty() {
            println!("!: see the notes; such values are not compared");
        }
        self.skipped.iter().for_each(|text| println!("skipped: {text}"));
        self.notes.iter().for_each(|text| println!("NOTE {text}"));
        let Some(path) = &plan.to else { return Ok(()) };
        let lines: Vec<Value> = lines.iter().map(Line::json).collect();
        let all = json!({"conditions": conditions, "skipped": self.skipped, "notes": self.notes, "lines": lines});
        std::fs::write(path, format!("{all:#}\n")).map_err(|error| Failure(format!("{}: {error}", path.display())))
    }
}

fn value(report: &Value, source: &ReportRef) -> Option<f64> {
    match source {
        ReportRef::Figure(name) => report["figures"][name]["value"].as_f64(),
        ReportRef::Cell(title, row, column) => report["tables"][title][row][column].as_f64(),
    }
}

fn say(line: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{line}\x1b[K");
    } else {
        eprintln!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_a_command_line_that_its_scenario_understands() {
        for flags in [&["--quick"][..], &["--no-pin", "--runs", "2"]] {
            let plan = Plan::parse(flags.iter().map(OsString::from)).expect("good");
            for cell in cells::ALL {
                for subject in cell.floors.iter().copied().chain([OURS, "nchan", "axum", "node"]) {
                    let parsed = command_line::parse(plan.arguments(cell, subject));
                    let Ok(Request::Run(options)) = parsed else { panic!("{}, {subject}", cell.name) };
                    assert_eq!(options.scenario.name, cell.scenario);
                }
            }
        }
    }

    #[test]
    fn who_runs_plans_takes_part_where_plans_are_run_and_nowhere_else() {
        let peers = ["node", "dbos"].map(str::to_owned).to_vec();
        let table = Table { peers, skipped: Vec::new(), notes: Vec::new(), load_before: None, processors: 1 };
        for cell in cells::ALL {
            let subjects = table.subjects(cell);
            let takes_part = |name: &str| subjects.iter().any(|subject| subject == name);
            assert_eq!(
                (takes_part("dbos"), takes_part("node")),
                (cell.is_of_plans, !cell.is_of_plans),
                "{}",
                cell.name
            );
            assert!(takes_part(OURS));
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_sentence() {
        for (line, expected) in
            [("--only nothing", "unknown cell nothing"), ("--fast", "invalid option"), ("x", "unexpected")]
        {
            let failed = Plan::parse(line.split(' ').map(OsString::from)).map(drop).expect_err(line);
            assert!(failed.to_string().contains(expected), "{line}: {failed}");
        }
    }

    #[test]
    fn values_are_found_where_reports_have_them() {
        let report = json!({
            "figures": {"f": {"value": 2.5, "unit": "s"}},
            "tables": {"t": [{"c": 1}, {"c": 7}]},
        });
        assert_eq!(value(&report, &ReportRef::Figure("f")), Some(2.5));
        assert_eq!(value(&report, &ReportRef::Cell("t", 1, "c")), Some(7.0));
        assert_eq!(value(&report, &ReportRef::Cell("t", 2, "c")), None);
        assert_eq!(value(&report, &ReportRef::Figure("g")), None);
    }
}
