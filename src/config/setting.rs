//! How each type of setting is written: the kind of value it takes, and how text is parsed into it.

use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use super::units::{parse_duration, parse_size, show_duration, show_size};
use super::{
    AuthMode, Cidr, DataLocation, Hosts, JwtAlgorithm, KeyLocation, ListenAddress, Origins, PostgresUrl, Secret,
    Synchronous, Wake,
};

/// The word of `data` that keeps everything in memory.
const NO_DATA: &str = "none";

/// Can anything be kept on disk?
const CAN_KEEP: bool = cfg!(feature = "sqlite");

/// A type that a key can set.
pub(super) trait Setting {
    /// What it takes.
    fn kind(&self) -> Kind;

    /// Becomes what `raw` says.
    ///
    /// # Errors
    /// The part of `raw` that says nothing it could become; the setting keeps its value.
    fn set(&mut self, raw: &Raw<'_>, bounds: Bounds) -> Result<(), String>;

    /// Its value as it would be written. `None` if it is unset or a secret.
    fn show(&self) -> Option<String>;

    /// The items of a list. A secret has none that may be shown.
    fn items(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A value before anyone knows what it is.
pub(super) enum Raw<'a> {
    /// One text. A list in a flag or a variable comes so too, with commas; a lone comma is the empty list, for an
    /// empty variable counts as unset.
    Text(&'a str),
    /// A list out of the file.
    List(Vec<&'a str>),
}

impl<'a> Raw<'a> {
    fn text(&self) -> Result<&'a str, String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::List(items) => Err(items.join(",")),
        }
    }

    fn items(&self) -> Vec<&'a str> {
        match self {
            Self::Text(text) => text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect(),
            Self::List(items) => items.clone(),
        }
    }
}

/// The least and the greatest value of a number: milliseconds of a duration, bytes of a size, or a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) min: u64,
    pub(super) max: u64,
}

impl Bounds {
    fn hold(self, number: u64) -> bool {
        (self.min..=self.max).contains(&number)
    }
}

/// What a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `15s`
    Duration,
    /// `256KiB`
    Size,
    /// `1000`
    Count,
    /// One of these.
    Word(&'static [&'static str]),
    /// A list of what this says.
    List(&'static str),
    /// One text or a list of them, each taken as it stands; in a flag or a variable they come with commas.
    Texts,
    /// A text that is what this says.
    Text(&'static str),
    /// One text or a list of them that nobody may see. In a flag or a variable it is one: a secret may have commas.
    Secret,
}

impl Kind {
    /// The placeholder in the help of a flag.
    pub(super) fn value_name(self) -> &'static str {
        match self {
            Self::Duration => "DURATION",
            Self::Size => "SIZE",
            Self::Count => "N",
            Self::Word(_) => "WORD",
            Self::List(_) | Self::Texts => "LIST",
            Self::Text(_) => "TEXT",
            Self::Secret => "SECRET",
        }
    }

    /// What an error says was expected.
    pub(super) fn expected(self, bounds: Bounds) -> String {
        match self {
            Self::Duration => format!("a duration such as 500ms, 15s, 5m or 7d{}", range(bounds, show_millis)),
            Self::Size => format!("a size such as 256KiB, 1GiB or a number of bytes{}", range(bounds, show_size)),
            Self::Count => format!("a whole number{}", range(bounds, |n| n.to_string())),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::List(what) => format!("a list of {what}"),
            Self::Text(what) => what.to_owned(),
            Self::Texts | Self::Secret => "a string, or a list of strings".to_owned(),
        }
    }
}

fn show_millis(millis: u64) -> String {
    show_duration(Duration::from_millis(millis))
}

fn range(Bounds { min, max }: Bounds, show: impl Fn(u64) -> String) -> String {
    match (min, max) {
        (0, u64::MAX) => String::new(),
        (0, _) => format!(", at most {}", show(max)),
        (_, u64::MAX) => format!(", at least {}", show(min)),
        _ => format!(", from {} to {}", show(min), show(max)),
    }
}

impl Setting for Duration {
    fn kind(&self) -> Kind {
        Kind::Duration
    }

    fn set(&mut self, raw: &Raw<'_>, bounds: Bounds) -> Result<(), String> {
        let text = raw.text()?;
        let in_bounds = |d: &Self| u64::try_from(d.as_millis()).is_ok_and(|millis| bounds.hold(millis));
        assign(self, text, parse_duration(text).filter(in_bounds))
    }

    fn show(&self) -> Option<String> {
        Some(show_duration(*self))
    }
}

/// A `u64` among the settings is a size in bytes.
impl Setting for u64 {
    fn kind(&self) -> Kind {
        Kind::Size
    }

    fn set(&mut self, raw: &Raw<'_>, bounds: Bounds) -> Result<(), String> {
        let text = raw.text()?;
        assign(self, text, parse_size(text).filter(|size| bounds.hold(*size)))
    }

    fn show(&self) -> Option<String> {
        Some(show_size(*self))
    }
}

/// Counts: `usize` of what lies in memory, `u32` of everything else; an optional one is worked out at start where it is
/// unset.
macro_rules! count {
    ($type:ty, $some:expr, $show:expr) => {
        impl Setting for $type {
            fn kind(&self) -> Kind {
                Kind::Count
            }

            fn set(&mut self, raw: &Raw<'_>, bounds: Bounds) -> Result<(), String> {
                let text = raw.text()?;
                let count = parse_count(text).filter(|count| bounds.hold(*count));
                assign(self, text, count.and_then(|count| count.try_into().ok()).map($some))
            }

            fn show(&self) -> Option<String> {
                $show(*self)
            }
        }
    };
}

count!(usize, |count: usize| count, |count: usize| Some(count.to_string()));
count!(u32, |count: u32| count, |count: u32| Some(count.to_string()));
count!(Option<u32>, |count: u32| Some(count), |count: Option<u32>| count.map(|count| count.to_string()));

/// Settings that are one of a few words.
macro_rules! word {
    ($type:ident) => {
        impl Setting for $type {
            fn kind(&self) -> Kind {
                Kind::Word(Self::WORDS)
            }

            fn set(&mut self, raw: &Raw<'_>, _: Bounds) -> Result<(), String> {
                let text = raw.text()?;
                assign(self, text, Self::parse(text))
            }

            fn show(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    };
}

word!(AuthMode);
word!(JwtAlgorithm);
word!(Synchronous);
word!(Wake);

impl Setting for LevelFilter {
    fn kind(&self) -> Kind {
        Kind::Word(&["off", "error", "warn", "info", "debug", "trace"])
    }

    fn set(&mut self, raw: &Raw<'_>, _: Bounds) -> Result<(), String> {
        let text = raw.text()?;
        assign(self, text, text.parse().ok())
    }

    fn show(&self) -> Option<String> {
        Some(self.as_str().to_ascii_lowercase())
    }
}

impl Setting for ListenAddress {
    fn kind(&self) -> Kind {
        Kind::Text("an address such as 127.0.0.1:8080, [::]:8080 or localhost:8080")
    }

    fn set(&mut self, raw: &Raw<'_>, _: Bounds) -> Result<(), String> {
        let text = raw.text()?;
        assign(self, text, Self::parse(text))
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for Option<ListenAddress> {
    fn kind(&self) -> Kind {
        Kind::Text("an address such as 127.0.0.1:9090, [::]:9090 or localhost:9090")
    }

    fn set(&mut self, raw: &Raw<'_>, _: Bounds) -> Result<(), String> {
        let text = raw.text()?;
        assign(self, text, ListenAddress::parse(text).map(Some))
    }

    fn show(&self) -> Option<String> {
        self.as_ref().map(ListenAddress::to_string)
    }
}

impl Setting for DataLocation {
    fn kind(&self) -> Kind {
        Kind::Text(match CAN_KEEP {
            true => "a directory, none to keep everything in memory, or a URL such as postgres://user@host/db",
            false => {
                "none, or a URL such as postgres://user@host/db, because this program was built without the feature sqlite"
            }
        })
    }

    fn set(&mut self, raw: &Raw<'_>, _: Bounds) -> Result<(), String> {
        let text = raw.text()?;
        let location = match text {
            NO_DATA => Some(Self::Memory),
            // Never the name of a directory, whatever this program was built with. A password in it is none of an error's.
            url if PostgresUrl::is_meant_by(url) => {
                let scheme = url.split_inclusive("://").next().unwrap_or_default();
                let parsed = PostgresUrl::parse(url).map(Self::Postgres);
                return assign(self, &format!("{scheme}***"), parsed);
            }
            directory => (CAN_KEEP && !directory.is_empty()).then(|| Self::Directory(directory.into())),
        };
        assign(self, text, location)
    }

    fn show(&self) -> Option<String> {
        Some(match self {
            Self::Memory => NO_DATA.to_owned(),
            Self::Directory(directory) => directory.display().to_string(),
            Self::Postgres(url) => url.to_string(),
        })
    }
}

impl Setting for Option<PathBuf> {
    fn kind(&self) -> Kind {
        Kind::Text("the path of a file")
    }

    fn set(&mut self, raw: &Raw<'_>, _: Bounds) -> Result<(), String> {
        let text = raw.text()?;
        assign(self, text, (!text.is_empty()).then(|| Some(text.into())))
    }

    fn show(&self) -> Option<String> {
        self.as_ref().map(|path| path.display().to_string())
    }
}

impl Setting for Option<KeyLocation> {
    fn kind(&self) -> Kind {
        Kind::Text("the path of a file, or an https:// URL (http:// only on loopback)")
    }

    fn set(&mut self, raw: &Raw<'_>, _: Bounds) -> Result<(), String> {
        let text = raw.text()?;
        // A password in a url is none of an error's.
        let shown = text.rsplit_once('@').map(|(_, server)| format!("***@{server}"));
        assign(self, shown.as_deref().unwrap_or(text), KeyLocation::parse(text).map(Some))
    }

    fn show(&self) -> Option<String> {
        self.as_ref().map(KeyLocation::to_string)
    }
}

/// A `String` among the settings is the place of a claim.
impl Setting for String {
    fn kind(&self) -> Kind {
        Kind::Text("the name of a claim, or a JSON pointer such as /realm_access/roles")
    }

    fn set(&mut self, raw: &Raw<'_>, _: Bounds) -> Result<(), String> {
        let text = raw.text()?;
        assign(self, text, (!text.is_empty()).then(|| text.to_owned()))
    }

    fn show(&self) -> Option<String> {
        Some(self.clone())
    }
}

impl Setting for Vec<String> {
    fn kind(&self) -> Kind {
        Kind::Texts
    }

    fn set(&mut self, raw: &Raw<'_>, _: Bounds) -> Result<(), String> {
        let items = raw.items();
        if items.contains(&"") {
            return Err(String::new());
        }
        *self = items.into_iter().map(str::to_owned).collect();
        Ok(())
    }

    fn show(&self) -> Option<String> {
        (!self.is_empty()).then(|| self.join(","))
    }

    fn items(&self) -> Vec<String> {
        self.clone()
    }
}

impl Setting for Vec<Secret> {
    fn kind(&self) -> Kind {
        Kind::Secret
    }

    fn set(&mut self, raw: &Raw<'_>, _: Bounds) -> Result<(), String> {
        *self = match raw {
            Raw::Text(text) => vec![Secret::new(*text)],
            Raw::List(items) => items.iter().map(|item| Secret::new(*item)).collect(),
        };
        Ok(())
    }

    fn show(&self) -> Option<String> {
        None
    }
}

impl Setting for Vec<Cidr> {
    fn kind(&self) -> Kind {
        Kind::List("address ranges such as 10.0.0.0/8 or ::1")
    }

    fn set(&mut self, raw: &Raw<'_>, _: Bounds) -> Result<(), String> {
        let parse = |item: &str| Cidr::parse(item).ok_or_else(|| item.to_owned());
        *self = raw.items().into_iter().map(parse).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn show(&self) -> Option<String> {
        (!self.is_empty()).then(|| self.items().join(","))
    }

    fn items(&self) -> Vec<String> {
        self.iter().map(Cidr::to_string).collect()
    }
}

impl Setting for Hosts {
    fn kind(&self) -> Kind {
        Kind::List("host names such as events.example.com")
    }

    fn set(&mut self, raw: &Raw<'_>, _: Bounds) -> Result<(), String> {
        *self = Self::parse(raw.items())?;
        Ok(())
    }

    fn show(&self) -> Option<String> {
        (!self.as_slice().is_empty()).then(|| self.as_slice().join(","))
    }

    fn items(&self) -> Vec<String> {
        self.as_slice().to_vec()
    }
}

impl Setting for Origins {
    fn kind(&self) -> Kind {
        Kind::List("origins such as https://app.example or http://localhost:3000")
    }

    fn set(&mut self, raw: &Raw<'_>, _: Bounds) -> Result<(), String> {
        *self = Self::parse(raw.items())?;
        Ok(())
    }

    fn show(&self) -> Option<String> {
        (!self.as_slice().is_empty()).then(|| self.as_slice().join(","))
    }

    fn items(&self) -> Vec<String> {
        self.as_slice().to_vec()
    }
}

/// Digits alone: `parse` would let a `+` through.
fn parse_count(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Takes `parsed`, or gives `text` back as what could not be taken.
fn assign<T>(to: &mut T, text: &str, parsed: Option<T>) -> Result<(), String> {
    *to = parsed.ok_or_else(|| text.to_owned())?;
    Ok(())
}
