//! Combines file, environment and flags: a flag overrides the environment, the environment overrides the file.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::keys::VARIABLE_PREFIX;
use super::provenance::Provenance;
use super::setting::Raw;
use super::{Config, KEYS, Key, file, suggest};

/// The largest configuration file, in bytes. A tool's declaration is about 300, so this is some 3,000 of them.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The variable that names the file where no flag does.
const FILE_VARIABLE: &str = "STEPCAST_CONFIG";

/// Kubernetes sets variables with this prefix for a service that is called `stepcast`.
const SERVICE_PREFIX: &str = "SERVICE_";

/// Everything that settings can come from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file's name, for errors, and its text.
    pub file: Option<(String, String)>,
    /// The environment. Variables of other programs are ignored; an empty variable counts as unset.
    pub environment: Vec<(OsString, OsString)>,
    /// Paths of keys (`sse.heartbeat`) with the values that flags gave them.
    pub flags: Vec<(&'static str, String)>,
}

/// The settings, and warnings about where they came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// One sentence each, for the log.
    pub warnings: Vec<String>,
}

/// Everything that is wrong with the settings, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one. Each begins with where the mistake is: `stepcast.toml:3: ...`, `--listen: ...`, `STEPCAST_LISTEN: ...`.
    pub issues: Vec<String>,
}

impl ConfigError {
    /// Nothing wrong is no error.
    pub(super) fn unless_empty(issues: Vec<String>) -> Result<(), Self> {
        if issues.is_empty() { Ok(()) } else { Err(Self { issues }) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.issues.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// Reads the file (or the one that `STEPCAST_CONFIG` names) and the environment, and lays `flags` over them: paths of keys
/// with their values as text.
///
/// # Errors
/// All mistakes at once, each with its file and line, variable or flag, and what was expected.
///
/// # Panics
/// If a flag names a path that is not in the table of keys.
///
/// ```
/// # fn main() -> Result<(), stepcast::config::ConfigError> {
/// let loaded = stepcast::config::load(None, vec![("sse.heartbeat", "5s".into()), ("auth.mode", "none".into())])?;
/// loaded.config.check_for_serving(false)?;
/// assert_eq!(loaded.config.sse.heartbeat.as_secs(), 5);
/// # Ok(())
/// # }
/// ```
pub fn load(file: Option<&Path>, flags: Vec<(&'static str, String)>) -> Result<Loaded, ConfigError> {
    Sources::read(file, flags)?.resolve()
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let message = format!("larger than {}", super::units::show_size(FILE_BYTES_MAX));
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(text)
}

fn unreadable(path: &Path, error: &io::Error) -> ConfigError {
    ConfigError { issues: vec![format!("{}: cannot be read: {error}", path.display())] }
}

impl Sources {
    /// The file (or the one that `STEPCAST_CONFIG` names), the environment, and `flags`.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn read(file: Option<&Path>, flags: Vec<(&'static str, String)>) -> Result<Self, ConfigError> {
        let environment: Vec<_> = std::env::vars_os().collect();
        let named = std::env::var_os(FILE_VARIABLE).filter(|name| !name.is_empty());
        let file = match file.or(named.as_deref().map(Path::new)) {
            Some(path) => Some((path.display().to_string(), read(path).map_err(|error| unreadable(path, &error))?)),
            None => None,
        };
        Ok(Self { file, environment, flags })
    }

    /// The settings that these sources give together.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn resolve(&self) -> Result<Loaded, ConfigError> {
        self.resolve_with_provenance().map(|(loaded, _)| loaded)
    }

    /// The same, and where each setting was set.
    pub(super) fn resolve_with_provenance(&self) -> Result<(Loaded, Provenance), ConfigError> {
        let (mut config, mut provenance, mut issues) = (Config::default(), Provenance::default(), Vec::new());
        if let Some((name, text)) = &self.file {
            file::apply(name, text, &mut config, &mut provenance, &mut issues);
        }
        self.apply_environment(&mut config, &mut provenance, &mut issues);
        for (path, value) in &self.flags {
            let key = Key::at(path).expect("flags are made out of the table of keys");
            apply(key, &format!("--{}", key.flag), value, (&mut config, &mut provenance), &mut issues);
        }
        ConfigError::unless_empty(issues)?;
        let warnings = self.environment.iter().filter_map(|(name, _)| misspelt(name)).collect();
        Ok((Loaded { config, warnings }, provenance))
    }

    fn apply_environment(&self, config: &mut Config, provenance: &mut Provenance, issues: &mut Vec<String>) {
        for key in KEYS.iter() {
            for name in key.variable_alias.into_iter().chain([key.variable.as_str()]) {
                let Some((_, value)) = self.environment.iter().find(|(it, _)| it == name) else { continue };
                match value.to_str() {
                    Some("") => {}
                    Some(value) => apply(key, name, value, (config, provenance), issues),
                    None => issues.push(format!("{name}: expected {}, found bytes that are not UTF-8", key.expected())),
                }
            }
        }
    }
}

fn apply(
    key: &Key,
    place: &str,
    value: &str,
    (config, provenance): (&mut Config, &mut Provenance),
    issues: &mut Vec<String>,
) {
    match key.set(config, &Raw::Text(value)) {
        Ok(()) => provenance.note(key.path, place),
        Err(found) => issues.push(format!("{place}: {}", key.mismatch(&found))),
    }
}

/// A warning if a variable looks like the misspelt name of a setting. Other unknown variables are ignored: orchestrators
/// derive variables from a service's name (`STEPCAST_PORT`), and stepcast sets some for the commands that a plan runs.
fn misspelt(name: &OsString) -> Option<String> {
    let name = name.to_str().filter(|name| name.starts_with(VARIABLE_PREFIX))?;
    if name.trim_start_matches(VARIABLE_PREFIX).starts_with(SERVICE_PREFIX) {
        return None;
    }
    let known = || KEYS.iter().flat_map(|key| key.variable_alias.into_iter().chain([key.variable.as_str()]));
    if known().any(|it| it == name) {
        return None;
    }
    let bare = |name: &'static str| name.trim_start_matches(VARIABLE_PREFIX);
    let meant = suggest::closest(name.trim_start_matches(VARIABLE_PREFIX), known().map(bare))?;
    Some(format!("unknown environment variable {name}; did you mean {VARIABLE_PREFIX}{meant}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_missing_or_too_large_is_named() {
        let missing = load(Some(Path::new("/nowhere/stepcast.toml")), Vec::new()).expect_err("no such file");
        assert!(missing.to_string().starts_with("/nowhere/stepcast.toml: cannot be read: "), "{missing}");

        let path = std::env::temp_dir().join(format!("stepcast-config-{}.toml", std::process::id()));
        std::fs::write(&path, "#".repeat(1 + FILE_BYTES_MAX as usize)).expect("writes");
        let large = load(Some(&path), Vec::new());
        std::fs::write(&path, "history.runs = 3").expect("writes");
        let good = load(Some(&path), vec![("executor.workers", "2".to_owned())]);
        std::fs::remove_file(&path).expect("removes");

        let large = large.expect_err("too large").to_string();
        assert!(large.ends_with(": cannot be read: larger than 1MiB"), "{large}");
        let config = good.expect("loads").config;
        assert_eq!((config.history.runs, config.executor.workers), (3, 2));
    }
}
