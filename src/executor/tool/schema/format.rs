//! The keyword `format`, for the formats that can be checked exactly. Other formats are refused when a schema is
//! compiled, so that none is silently ignored.

use std::net::{Ipv4Addr, Ipv6Addr};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What a string is written like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    DateTime,
    Date,
    Time,
    Ipv4,
    Ipv6,
    Uuid,
}

impl Format {
    pub(super) const ALL: [Self; 6] = [Self::DateTime, Self::Date, Self::Time, Self::Ipv4, Self::Ipv6, Self::Uuid];

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::DateTime => "date-time",
            Self::Date => "date",
            Self::Time => "time",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Uuid => "uuid",
        }
    }

    /// What a value of this format is.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::DateTime => "an RFC 3339 date and time, such as 2025-03-01T02:00:00Z",
            Self::Date => "an RFC 3339 date, such as 2025-03-01",
            Self::Time => "an RFC 3339 time, such as 02:00:00Z",
            Self::Ipv4 => "an IPv4 address",
            Self::Ipv6 => "an IPv6 address",
            Self::Uuid => "a UUID",
        }
    }

    pub(super) fn holds(self, text: &str) -> bool {
        match self {
            Self::DateTime => is_date_time(text),
            Self::Date => is_date_time(&format!("{text}T00:00:00Z")),
            Self::Time => is_date_time(&format!("1970-01-01T{text}")),
            Self::Ipv4 => text.parse::<Ipv4Addr>().is_ok(),
            Self::Ipv6 => text.parse::<Ipv6Addr>().is_ok(),
            Self::Uuid => is_uuid(text),
        }
    }
}

fn is_date_time(text: &str) -> bool {
    OffsetDateTime::parse(text, &Rfc3339).is_ok()
}

/// RFC 9562, section 4.
fn is_uuid(text: &str) -> bool {
    let groups = text.split('-').map(|group| (group.len(), group.bytes().all(|b| b.is_ascii_hexdigit())));
    groups.eq([8, 4, 4, 4, 12].map(|length| (length, true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_hold_to_the_letter() {
        let table: [(Format, &[&str], &[&str]); 6] = [
            (
                Format::DateTime,
                &[
                    "1985-04-12T23:20:50.52Z",
                    "1990-12-31T23:59:60Z",
                    "1996-12-19T16:39:57-08:00",
                    "2024-02-29T00:00:00z",
                ],
                &[
                    "",
                    "2023-02-29T00:00:00Z",
                    "1985-04-12",
                    "1985-04-12T23:20:50",
                    "1985-04-12T24:00:00Z",
                    " 1985-04-12T23:20:50Z",
                ],
            ),
            (
                Format::Date,
                &["2024-02-29", "0001-01-01"],
                &["2023-02-29", "24-02-28", "2024-2-1", "2024-02-29 ", "2024-060"],
            ),
            (Format::Time, &["08:30:06Z", "08:30:06.283185+01:00"], &["08:30:06", "8:30:06Z", "24:00:00Z", "08:30Z"]),
            (Format::Ipv4, &["127.0.0.1"], &["127.0.0.256", "127.1", "0127.0.0.1", "::1"]),
            (Format::Ipv6, &["::1", "::ffff:127.0.0.1"], &["127.0.0.1", "[::1]", "::1%eth0", "1::2::3"]),
            (
                Format::Uuid,
                &["2eb8aa08-aa98-11ea-b4aa-73b441d16380", "2EB8AA08-AA98-11EA-B4AA-73B441D16380"],
                &[
                    "2eb8aa08-aa98-11ea-b4aa-73b441d1638",
                    "2eb8aa08aa9811eab4aa73b441d16380",
                    "2eb8aa08-aa98-11ea-b4ga-73b441d16380",
                ],
            ),
        ];
        for (format, good, bad) in table {
            assert_eq!(Format::parse(format.name()), Some(format));
            good.iter().for_each(|text| assert!(format.holds(text), "{format:?} {text}"));
            bad.iter().for_each(|text| assert!(!format.holds(text), "{format:?} {text}"));
        }
    }
}
