//! TLS options in a URL. The client library knows three modes and no certificates, so these options are removed from
//! the URL here.

use percent_encoding::percent_decode_str;
use tokio_postgres::config::SslMode;

use super::super::OpenError;
use super::trust::{Roots, Trust};

/// The word for the certificates that the system trusts, in place of a file.
const SYSTEM: &str = "system";

/// How to connect to a server.
#[derive(Debug)]
pub(in crate::log::postgres) struct Asked {
    pub(in crate::log::postgres) mode: SslMode,
    pub(in crate::log::postgres) trust: Trust,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

const MODES: [(&str, Mode); 5] = [
    ("disable", Mode::Disable),
    ("prefer", Mode::Prefer),
    ("require", Mode::Require),
    ("verify-ca", Mode::VerifyCa),
    ("verify-full", Mode::VerifyFull),
];

impl Asked {
    /// Takes what is asked for out of a url, and hands back the rest of it.
    ///
    /// # Errors
    /// If it contradicts itself, or there are no certificates where it says.
    pub(in crate::log::postgres) fn taken_from(url: &str) -> Result<(String, Self), OpenError> {
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut mode, mut roots) = (None, None);
        let mut rest = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = || percent_decode_str(value).decode_utf8_lossy().into_owned();
            match key {
                "sslmode" => mode = Some(read_mode(&value())?),
                "sslrootcert" => roots = Some(value()).filter(|it| !it.is_empty()),
                _ => rest.push(pair),
            }
        }
        let rest = if rest.is_empty() { address.to_owned() } else { format!("{address}?{}", rest.join("&")) };
        Ok((rest, Self::of(mode, roots.as_deref())?))
    }

    fn of(mode: Option<Mode>, roots: Option<&str>) -> Result<Self, OpenError> {
        let is_system = roots == Some(SYSTEM);
        // Whoever says whom to believe wants it to be looked at.
        let default = if roots.is_some() { Mode::VerifyFull } else { Mode::Prefer };
        let (mode, trust) = match (mode.unwrap_or(default), roots) {
            (Mode::Disable | Mode::Prefer, Some(_)) => {
                return Err(OpenError(
                    "data: sslrootcert: requires sslmode=require, verify-ca or verify-full; the other modes check no certificate"
                        .to_owned(),
                ));
            }
            (Mode::Require | Mode::VerifyCa, Some(SYSTEM)) => {
                return Err(OpenError(
                    "data: sslrootcert=system: requires sslmode=verify-full, because these authorities issue certificates to anyone \
                     for their own names"
                        .to_owned(),
                ));
            }
            (Mode::Disable, None) => (SslMode::Disable, Trust::Anyone),
            (Mode::Prefer, None) => (SslMode::Prefer, Trust::Anyone),
            (Mode::Require, None) => (SslMode::Require, Trust::Anyone),
            (Mode::VerifyCa, None) => {
                return Err(OpenError(
                    "data: sslmode=verify-ca: requires sslrootcert to name a file with certificates".to_owned(),
                ));
            }
            (Mode::Require | Mode::VerifyCa, Some(file)) => (SslMode::Require, Trust::SignedBy(Roots::of_file(file)?)),
            (Mode::VerifyFull, Some(file)) if !is_system => (SslMode::Require, Trust::Named(Roots::of_file(file)?)),
            (Mode::VerifyFull, _) => (SslMode::Require, Trust::Named(Roots::of_system()?)),
        };
        Ok(Self { mode, trust })
    }
}

fn read_mode(text: &str) -> Result<Mode, OpenError> {
    let known = MODES.iter().find(|(name, _)| *name == text).map(|(_, mode)| *mode);
    known.ok_or_else(|| {
        OpenError(format!("data: sslmode: expected disable, prefer, require, verify-ca or verify-full, found {text:?}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(url: &str) -> Result<(String, SslMode, &'static str), String> {
        let (rest, asked) = Asked::taken_from(url).map_err(|error| error.to_string())?;
        let trust = match asked.trust {
            Trust::Anyone => "anyone",
            Trust::SignedBy(_) => "signed",
            Trust::Named(_) => "named",
        };
        Ok((rest, asked.mode, trust))
    }

    #[test]
    fn a_url_without_a_word_prefers_tls_and_what_else_it_says_is_left_as_it_is() {
        for (url, rest, mode) in [
            ("postgres://a@db/x", "postgres://a@db/x", SslMode::Prefer),
            ("postgres://a@db/x?sslmode=disable", "postgres://a@db/x", SslMode::Disable),
            ("postgres://db/x?a=b%20c&sslmode=require&d=e", "postgres://db/x?a=b%20c&d=e", SslMode::Require),
            ("postgres://db/x?sslmode=prefer&sslrootcert=", "postgres://db/x", SslMode::Prefer),
        ] {
            assert_eq!(asked(url), Ok((rest.to_owned(), mode, "anyone")), "{url}");
        }
    }

    #[test]
    fn what_contradicts_itself_or_can_not_be_read_is_refused_by_the_name_of_its_parameter() {
        for (query, why) in [
            (
                "sslmode=allow",
                "data: sslmode: expected disable, prefer, require, verify-ca or verify-full, found \"allow\"",
            ),
            ("sslmode=", "data: sslmode: expected"),
            ("sslmode=verify-ca", "data: sslmode=verify-ca: requires sslrootcert to name a file"),
            ("sslmode=disable&sslrootcert=/a", "data: sslrootcert: requires sslmode=require"),
            ("sslmode=prefer&sslrootcert=system", "data: sslrootcert: requires sslmode=require"),
            ("sslmode=require&sslrootcert=system", "data: sslrootcert=system: requires sslmode=verify-full"),
            ("sslrootcert=%2Fnone%2Fthere", "data: sslrootcert: /none/there: No such file"),
            (
                "sslmode=verify-full&sslrootcert=/dev/null",
                "data: sslrootcert: /dev/null: the file contains no certificate",
            ),
        ] {
            let refused = asked(&format!("postgres://db/x?{query}"));
            assert!(refused.as_ref().is_err_and(|error| error.contains(why)), "{query}: {refused:?}");
        }
    }
}
