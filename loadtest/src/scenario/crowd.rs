//! Subscribers of one or many projects on one server, and what was delivered to them in a window of time: what `burst`
//! and `steady` have in common.

use std::time::Duration;

use super::steps::{NO_BOUNDS, check_published, settings, wait_for_streams};
use crate::clock::now_ns;
use crate::failure::{Outcome, failure};
use crate::fleet::{Fleet, Settings};
use crate::options::Options;
use crate::publisher::{Pace, Plan, Published, Publisher};
use crate::report::Report;
use crate::server::{Data, Server};
use crate::watch::Watch;

/// So many subscribers, shared out evenly over so many projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub projects: usize,
    /// In all.
    pub subscribers: usize,
}

impl Shape {
    /// Those that were asked for: the lists of projects and of subscribers, pair by pair.
    pub fn all(options: &Options) -> Outcome<Vec<Self>> {
        let (projects, subscribers): (Vec<usize>, Vec<usize>) =
            (options.numbers("projects")?, options.numbers("subscribers")?);
        if projects.len() != subscribers.len() {
            return failure("--projects and --subscribers: expected the same number of values");
        }
        let shapes = projects.into_iter().zip(subscribers);
        let shapes: Vec<Self> = shapes.map(|(projects, subscribers)| Self { projects, subscribers }).collect();
        match shapes.iter().find(|shape| shape.projects == 0 || !shape.subscribers.is_multiple_of(shape.projects)) {
            Some(shape) => failure(format!(
                "{shape}: expected a number of subscribers that can be divided by the number of projects"
            )),
            None => Ok(shapes),
        }
    }

    /// Deliveries that come of one message.
    pub fn fan_out(self) -> usize {
        self.subscribers.checked_div(self.projects).unwrap_or(0)
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {}", self.projects, self.fan_out())
    }
}

/// One project that gets everything needs a history that holds a burst: without that, whoever falls behind in one is
/// told that something is gone.
const HOLDS_A_BURST: [&str; 2] = ["--history-messages", "1000000"];

/// A server and its subscribers.
pub struct Crowd {
    pub server: Server,
    pub fleet: Fleet,
    shape: Shape,
    projects: Vec<String>,
}

/// What happened in a window of time.
pub struct Window {
    pub seconds: f64,
    pub deliveries: u64,
    /// The server's processor time, in seconds.
    pub cpu_s: Option<f64>,
}

impl Crowd {
    /// Starts the server, and waits until all streams are open.
    pub fn gather(options: &Options, data: Data, shape: Shape, watch: &mut Watch) -> Outcome<Self> {
        let flags = if shape.projects == 1 { &HOLDS_A_BURST[..] } else { &[] };
        let server = Server::start(&options.server, data, &[&NO_BOUNDS[..], flags].concat())?;
        let projects: Vec<String> = (0..shape.projects).map(|number| format!("p{number}")).collect();
        let settings = Settings { projects: projects.clone(), ..settings(&server, "", shape.subscribers) };
        let fleet = Fleet::open_new(&settings)?;
        wait_for_streams(watch, &fleet, shape.subscribers)?;
        Ok(Self { server, fleet, shape, projects })
    }

    /// A publisher to all projects in turn, until it is stopped.
    pub fn publish(&self, pace: Pace, connections: usize, payload_bytes: usize) -> Outcome<Publisher> {
        Publisher::start(Plan {
            target: self.server.target(),
            projects: self.projects.clone(),
            payload_bytes,
            batch: 1,
            connections,
            pace,
            requests: u64::MAX,
            token: self.server.token(),
        })
    }

    /// Lets it go on for a while, and counts.
    pub fn count(&self, watch: &mut Watch, time: Duration) -> Outcome<Window> {
        let reading = || (now_ns(), self.fleet.gauges().messages(), self.server.cpu_seconds());
        let (began_ns, before, cpu_before) = reading();
        self.pass(watch, time)?;
        let (ended_ns, after, cpu_after) = reading();
        Ok(Window {
            seconds: (ended_ns - began_ns) as f64 / 1e9,
            deliveries: after - before,
            cpu_s: cpu_after.zip(cpu_before).map(|(after, before)| after - before),
        })
    }

    /// Lets it go on for a while.
    pub fn pass(&self, watch: &mut Watch, time: Duration) -> Outcome<()> {
        watch.pass(&self.shape.to_string(), time, || format!("{} deliveries", self.fleet.gauges().messages()))
    }

    /// Waits until everyone has everything, and looks whether it came once and in order.
    pub fn end(self, watch: &mut Watch, published: &Published, report: &mut Report) -> Outcome<()> {
        let what = self.shape.to_string();
        check_published(report, &what, published);
        let due = published.messages * self.shape.fan_out() as u64;
        let received = || self.fleet.gauges().messages();
        let complete =
            watch.until("everyone has everything", || received() >= due, || format!("{} of {due}", received()));
        let tally = self.fleet.tally()?;
        report.fail_all(tally.complaints(&what));
        if let Err(failure) = complete {
            report.fail(failure.to_string());
        }
        if tally.messages > due {
            report.fail(format!("{what}: {} deliveries instead of {due}", tally.messages));
        }
        self.server.stop()
    }
}

impl Window {
    /// Deliveries a second.
    pub fn per_second(&self) -> f64 {
        self.deliveries as f64 / self.seconds
    }

    /// The server's processor seconds for a million deliveries.
    pub fn cpu_s_per_million(&self) -> Option<f64> {
        self.cpu_s.filter(|_| self.deliveries > 0).map(|cpu_s| cpu_s * 1e6 / self.deliveries as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::{Request, parse};

    fn shapes(line: &str) -> Outcome<Vec<Shape>> {
        match parse(line.split_whitespace().map(std::ffi::OsString::from))? {
            Request::Run(options) => Shape::all(&options),
            _ => failure("no scenario"),
        }
    }

    #[test]
    fn shapes_are_pairs_that_come_out_even() {
        let texts = |line| shapes(line).map(|shapes| shapes.iter().map(Shape::to_string).collect::<Vec<_>>());
        assert_eq!(texts("burst").expect("defaults"), ["1 x 1000", "1 x 10000", "1000 x 10"]);
        assert_eq!(texts("burst --projects 4 --subscribers 12").expect("good"), ["4 x 3"]);
        for line in ["burst --projects 3 --subscribers 10", "burst --projects 1", "burst --projects 0 --subscribers 0"]
        {
            assert!(shapes(line).is_err(), "{line}");
        }
    }
}
