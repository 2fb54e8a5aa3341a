//! The log of the program: one line per record, on stderr or above the progress display.

use std::io::{self, Write};

use log::{LevelFilter, Log, Metadata, Record, SetLoggerError};
use simplelog::{ConfigBuilder, LevelPadding, WriteLogger};

use crate::text::{neutral, shortened};

/// The longest text of a record, in characters: a page, where a record is a sentence. The rest is cut.
const TEXT_CHARS_MAX: usize = 4096;

/// Libraries whose finest records repeat requests with their headers, or statements with their values, and so secrets. Warnings and errors don't.
const SECRETIVE: [&str; 4] = ["ureq", "ureq_proto", "rustls", "tokio_postgres"];

/// Starts the log at `level`, with times in RFC 3339, written to `output` one line at a time.
///
/// # Errors
/// If a log was started before.
pub fn start(level: LevelFilter, output: Box<dyn Write + Send>) -> Result<(), SetLoggerError> {
    log::set_boxed_logger(Box::new(Harmless::new(level, output)))?;
    log::set_max_level(level);
    Ok(())
}

/// Makes each record's text one harmless line before it is written: it may repeat what a client sent.
struct Harmless<W: Write + Send + 'static>(Box<WriteLogger<Lines<W>>>);

impl<W: Write + Send + 'static> Harmless<W> {
    fn new(level: LevelFilter, output: W) -> Self {
        let format = ConfigBuilder::new()
            .set_time_format_rfc3339()
            .set_level_padding(LevelPadding::Right)
            .set_target_level(LevelFilter::Error)
            .set_thread_level(LevelFilter::Off)
            .set_location_level(LevelFilter::Off)
            .build();
        Self(WriteLogger::new(level, format, Lines { inner: output, line: Vec::new() }))
    }
}

impl<W: Write + Send + 'static> Log for Harmless<W> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let library = metadata.target().split("::").next().unwrap_or_default();
        let may_hold_secrets = metadata.level() > LevelFilter::Info && SECRETIVE.contains(&library);
        !may_hold_secrets && self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let text = record.args().to_string();
            let text = shortened(&text, TEXT_CHARS_MAX);
            let text = neutral(&text);
            let (metadata, module) = (record.metadata().clone(), record.module_path());
            self.0.log(&Record::builder().metadata(metadata).module_path(module).args(format_args!("{text}")).build());
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// Gathers what is written until a line is whole, and hands it on in one write, so that lines of several processes on
/// one stderr don't mix. As long as a record at most, for each ends its line.
struct Lines<W> {
    inner: W,
    line: Vec<u8>,
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if self.line.ends_with(b"\n") {
            let written = self.inner.write_all(&self.line);
            self.line.clear();
            written?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use log::Level;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<String>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").push(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn writes(&self) -> Vec<String> {
            self.0.lock().expect("no panic").clone()
        }
    }

    #[test]
    fn a_record_is_one_write_of_one_harmless_line() {
        let written = Written::default();
        let logger = Harmless::new(LevelFilter::Info, written.clone());
        let log = |level, text: &str| {
            logger.log(&Record::builder().level(level).target("stepcast").args(format_args!("{text}")).build());
        };
        log(Level::Info, "listens");
        log(Level::Debug, "not seen");
        log(Level::Warn, "\x1b[2Jforged\n2026 [ERROR] line\n");
        let writes = written.writes();
        assert_eq!(writes.len(), 2, "{writes:?}");
        let (time, rest) = writes[0].split_once(' ').expect("a time");
        assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");
        assert_eq!(rest, "[INFO ] stepcast: listens\n");
        assert!(writes[1].ends_with("[WARN ] stepcast: forged␊2026 [ERROR] line␊\n"), "{writes:?}");
    }

    #[test]
    fn what_libraries_say_of_requests_is_left_out() {
        let written = Written::default();
        let logger = Harmless::new(LevelFilter::Trace, written.clone());
        let log = |level, target: &str| {
            logger.log(&Record::builder().level(level).target(target).args(format_args!("Bearer x")).build());
        };
        for target in
            ["ureq", "ureq::run", "ureq_proto::client", "rustls::client::hs", "tokio_postgres::query", "tokio_postgres"]
        {
            log(Level::Trace, target);
            log(Level::Debug, target);
        }
        assert_eq!(written.writes(), [""; 0]);
        log(Level::Warn, "rustls::conn");
        log(Level::Debug, "stepcast::server");
        log(Level::Debug, "ureqs");
        assert_eq!(written.writes().len(), 3);
    }

    #[test]
    fn an_endless_record_is_cut() {
        let written = Written::default();
        let text = "x".repeat(TEXT_CHARS_MAX + 1);
        let logger = Harmless::new(LevelFilter::Info, written.clone());
        logger.log(&Record::builder().level(Level::Error).args(format_args!("{text}")).build());
        assert!(written.writes()[0].ends_with("x…\n"));
    }
}
