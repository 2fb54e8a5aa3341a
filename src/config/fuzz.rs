//! Properties that every configuration file must satisfy, for the fuzzer and for the tests of its corpus.

use super::units::{parse_duration, parse_size, show_duration, show_size};
use super::{Cidr, KEYS, ListenAddress, Sources};

/// Where the file comes from, as errors name it.
const NAME: &str = "stepcast.toml";

/// The text of a file; text of one line without a `=` is a value for every key instead.
pub fn config(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if text.contains(['\n', '=']) { check_file(text) } else { check_value(text) }
}

/// Mistakes are told with a line that the file has.
fn check_file(text: &str) {
    let sources = Sources { file: Some((NAME.to_owned(), text.to_owned())), ..Sources::default() };
    let Err(error) = sources.resolve() else { return };
    assert!(!error.issues.is_empty());
    let lines = 1 + text.matches('\n').count();
    for issue in &error.issues {
        let place = issue.strip_prefix(NAME).and_then(|rest| rest.strip_prefix(':')).expect("the file's name");
        let (line, what) = place.split_once(": ").expect("a line and what is wrong there");
        let line: usize = line.parse().expect("a number");
        assert!((1..=lines).contains(&line) && !what.is_empty(), "{issue:?}");
        assert!(!issue.contains(|c: char| c.is_control()), "{issue:?}");
    }
}

/// What is read is shown so that it is read as the same again; what can't be read is told by its flag.
fn check_value(text: &str) {
    if let Some(duration) = parse_duration(text) {
        assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
    }
    if let Some(size) = parse_size(text) {
        assert_eq!(parse_size(&show_size(size)), Some(size));
    }
    if let Some(range) = Cidr::parse(text) {
        assert_eq!(Cidr::parse(&range.to_string()), Some(range));
    }
    if let Some(address) = ListenAddress::parse(text) {
        assert_eq!(ListenAddress::parse(&address.to_string()), Some(address));
    }
    let flags: Vec<_> = KEYS.iter().map(|key| (key.path, text.to_owned())).collect();
    if let Err(error) = (Sources { flags, ..Sources::default() }).resolve() {
        assert!(error.issues.iter().all(|issue| issue.starts_with("--")), "{error}");
    }
}
