//! Checks that involve several settings at once. Commands run those that they need, once all settings are loaded.

use std::fs::File;
use std::io;
use std::net::SocketAddr;

use super::{
    AuthMode, Config, ConfigError, DataLocation, JwtAlgorithm, KeyLocation, ListenAddress, Secret, Synchronous,
    TlsConfig,
};
use crate::auth::JWT_SECRET_BYTES_MIN;

/// Can a url be asked?
const CAN_ASK: bool = cfg!(feature = "http-tool");

/// Can TLS be spoken with clients?
const CAN_SPEAK_TLS: bool = cfg!(feature = "tls");

impl Config {
    /// May a server start with these settings? `insecure` says that a server without tokens may be reached from
    /// elsewhere. Opens the public key's file where one is needed, and looks a name up where it must be this machine's.
    ///
    /// # Errors
    /// Everything that speaks against it.
    pub fn check_for_serving(&self, insecure: bool) -> Result<(), ConfigError> {
        let mut issues = Vec::new();
        issues.extend(self.wrong_with_data());
        match self.auth.mode {
            AuthMode::Jwt => issues.extend(self.wrong_with_key()),
            AuthMode::None if insecure => {}
            AuthMode::None => {
                issues.extend(lets_others_in("listen", &self.listen));
                issues.extend(self.tls.listen.as_ref().and_then(|listen| lets_others_in("tls.listen", listen)));
            }
        }
        issues.extend(self.tls.wrong());
        ConfigError::unless_empty(issues)
    }

    fn wrong_with_data(&self) -> Option<String> {
        let is_of_no_use =
            matches!(self.data, DataLocation::Postgres(_)) && self.store.synchronous != Synchronous::default();
        is_of_no_use.then(|| {
            let why = "only applies if data is a directory; PostgreSQL has its own setting, synchronous_commit";
            format!("store.synchronous: {why}")
        })
    }

    /// The secret that tokens are signed with.
    ///
    /// # Errors
    /// If tokens are signed elsewhere, or a secret is missing or short.
    pub(crate) fn signing_secret(&self) -> Result<&Secret, ConfigError> {
        let elsewhere = match (&self.auth.jwks, self.auth.jwt_algorithm) {
            (Some(_), _) => Some(
                "auth.jwks: is set, so the identity provider signs tokens; use --key to sign with a private key"
                    .to_owned(),
            ),
            (None, JwtAlgorithm::Hs256) => None,
            (None, other) => {
                let what = format!("{other} tokens are signed with a private key; use --key");
                Some(format!("auth.jwt_algorithm: expected HS256; {what}"))
            }
        };
        ConfigError::unless_empty(elsewhere.map_or_else(|| self.wrong_with_secrets(), |issue| vec![issue]))?;
        Ok(self.auth.jwt_secret.first().expect("a missing secret is an issue"))
    }

    fn wrong_with_secrets(&self) -> Vec<String> {
        let secrets = &self.auth.jwt_secret;
        if secrets.is_empty() {
            return vec![format!(
                "auth.jwt_secret: missing; expected at least {JWT_SECRET_BYTES_MIN} bytes, in the environment variable \
                 STEPCAST_JWT_SECRET or in the file"
            )];
        }
        let is_short = |secret: &Secret| secret.expose().len() < JWT_SECRET_BYTES_MIN;
        let short = secrets.iter().enumerate().filter(|(_, secret)| is_short(secret));
        let name = |at: usize| if secrets.len() == 1 { String::new() } else { format!("[{at}]") };
        let issue = |at| format!("auth.jwt_secret{}: expected at least {JWT_SECRET_BYTES_MIN} bytes", name(at));
        short.map(|(at, _)| issue(at)).collect()
    }

    fn wrong_with_key(&self) -> Vec<String> {
        if let Some(jwks) = &self.auth.jwks {
            return self.wrong_with_jwks(jwks);
        }
        if self.auth.jwt_algorithm == JwtAlgorithm::Hs256 {
            return self.wrong_with_secrets();
        }
        let issue = match &self.auth.jwt_public_key {
            None => Some(format!("missing; {} requires the path of a PEM file", self.auth.jwt_algorithm)),
            Some(path) => File::open(path).err().map(|error| format!("{}: cannot be read: {error}", path.display())),
        };
        issue.map(|issue| format!("auth.jwt_public_key: {issue}")).into_iter().collect()
    }

    /// Keys of an identity provider are the only ones: each says itself what it is for.
    fn wrong_with_jwks(&self, jwks: &KeyLocation) -> Vec<String> {
        let auth = &self.auth;
        let others = [
            (!auth.jwt_secret.is_empty(), "auth.jwt_secret (STEPCAST_JWT_SECRET)"),
            (auth.jwt_public_key.is_some(), "auth.jwt_public_key"),
            (auth.jwt_algorithm != JwtAlgorithm::default(), "auth.jwt_algorithm"),
        ];
        let both = others.into_iter().filter(|(is_set, _)| *is_set);
        let mut issues: Vec<_> = both
            .map(|(_, other)| format!("auth.jwks: cannot be combined with {other}; set only one of them"))
            .collect();
        if jwks.url().is_some() && !CAN_ASK {
            issues.push(
                "auth.jwks: expected a file, because this program was built without the feature http-tool".to_owned(),
            );
        }
        let unreadable = jwks.file().and_then(|path| File::open(path).err());
        issues.extend(unreadable.map(|error| format!("auth.jwks: {jwks}: cannot be read: {error}")));
        issues
    }
}

impl TlsConfig {
    /// What speaks against it. What is in the files is for whoever uses them to judge.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let paths = [("tls.cert", &self.cert), ("tls.key", &self.key)];
        let (set, unset): (Vec<_>, Vec<_>) = paths.into_iter().partition(|(_, path)| path.is_some());
        let set_first = set.first().map(|(name, _)| *name).or(self.listen.as_ref().map(|_| "tls.listen"));
        let Some(set_first) = set_first else { return Vec::new() };
        if !CAN_SPEAK_TLS {
            return vec![format!("{set_first}: this program was built without the feature tls")];
        }
        let missing = |name| format!("{name}: missing; {set_first} requires it: the path of a PEM file");
        let mut issues: Vec<_> = unset.into_iter().map(|(name, _)| missing(name)).collect();
        for (name, path) in set {
            let path = path.as_ref().expect("it is set");
            let unreadable = File::open(path).err();
            issues.extend(unreadable.map(|error| format!("{name}: {}: cannot be read: {error}", path.display())));
        }
        issues
    }
}

/// What speaks against listening there without tokens.
fn lets_others_in(key: &str, listen: &ListenAddress) -> Option<String> {
    if listen.is_loopback() {
        None
    } else if listen.name().is_some() {
        wrong_with_name(key, listen, listen.resolve())
    } else {
        Some(lets_everyone_in(listen))
    }
}

/// What speaks against listening without tokens at a name: it must stand for this machine alone.
fn wrong_with_name(key: &str, listen: &ListenAddress, resolved: io::Result<Vec<SocketAddr>>) -> Option<String> {
    match resolved {
        Err(error) => Some(format!("{key}: cannot resolve {listen}: {error}")),
        Ok(addresses) if addresses.is_empty() => Some(format!("{key}: cannot resolve {listen}: no address")),
        Ok(addresses) => {
            let is_local = addresses.iter().all(|address| address.ip().to_canonical().is_loopback());
            (!is_local).then(|| lets_everyone_in(listen))
        }
    }
}

fn lets_everyone_in(listen: &ListenAddress) -> String {
    format!(
        "auth.mode: none gives everyone who can reach {listen} full access; listen on a loopback address, or pass --insecure"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PostgresUrl;

    fn config(listen: &str, change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config { listen: ListenAddress::parse(listen).expect(listen), ..Config::default() };
        change(&mut config);
        config
    }

    fn verdict(config: &Config, insecure: bool) -> String {
        config.check_for_serving(insecure).map_or_else(|error| error.to_string(), |()| "ok".to_owned())
    }

    #[test]
    fn without_tokens_only_loopback_may_be_served() {
        let table = [
            ("127.0.0.1:0", false, "ok"),
            ("[::1]:0", false, "ok"),
            ("localhost:0", false, "ok"),
            ("0.0.0.0:80", true, "ok"),
            (
                "0.0.0.0:80",
                false,
                "auth.mode: none gives everyone who can reach 0.0.0.0:80 full access; listen on a loopback address, or pass \
                 --insecure",
            ),
        ];
        for (listen, insecure, expected) in table {
            let config = config(listen, |config| config.auth.mode = AuthMode::None);
            assert_eq!(verdict(&config, insecure), expected, "{listen} {insecure}");
        }
    }

    #[test]
    fn what_is_for_a_directory_alone_is_refused_with_a_database() {
        let with = |synchronous| {
            config("127.0.0.1:0", |config| {
                config.auth.mode = AuthMode::None;
                config.data =
                    PostgresUrl::parse("postgres://a:hunter2@db/x").map(DataLocation::Postgres).expect("a url");
                config.store.synchronous = synchronous;
            })
        };
        assert_eq!(verdict(&with(Synchronous::Normal), false), "ok");
        assert_eq!(
            verdict(&with(Synchronous::Full), false),
            "store.synchronous: only applies if data is a directory; PostgreSQL has its own setting, synchronous_commit"
        );
    }

    #[test]
    fn a_name_that_does_not_resolve_was_said_to_let_everyone_in() {
        let config = config("nobody.invalid:80", |config| config.auth.mode = AuthMode::None);
        let said = verdict(&config, false);
        assert!(said.starts_with("listen: cannot resolve nobody.invalid:80: "), "{said}");
    }

    #[test]
    fn a_name_of_loopback_addresses_alone_was_refused_without_tokens() {
        let config = config("box:80", |config| config.auth.mode = AuthMode::None);
        for (addresses, is_fine) in [
            (&["127.0.0.1:80"][..], true),
            (&["127.0.1.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80"], true),
            (&["127.0.0.1:80", "192.0.2.1:80"], false),
            (&[], false),
        ] {
            let resolved = addresses.iter().map(|address| address.parse().expect("an address")).collect();
            let wrong = wrong_with_name("listen", &config.listen, Ok(resolved));
            assert_eq!(wrong.is_none(), is_fine, "{addresses:?}");
        }
    }

    #[test]
    fn hs256_needs_a_secret_of_32_bytes() {
        let with = |secrets: &[&str]| {
            config("127.0.0.1:0", |config| {
                config.auth.jwt_secret = secrets.iter().map(|&secret| Secret::new(secret)).collect()
            })
        };
        assert_eq!(
            verdict(&with(&[]), true),
            "auth.jwt_secret: missing; expected at least 32 bytes, in the environment variable STEPCAST_JWT_SECRET or in the file"
        );
        let (short, good) = ("x".repeat(31), "x".repeat(32));
        assert_eq!(verdict(&with(&[&short]), false), "auth.jwt_secret: expected at least 32 bytes");
        assert_eq!(verdict(&with(&[&good]), false), "ok");
        assert_eq!(verdict(&with(&[&good, &good]), false), "ok");
        assert_eq!(verdict(&with(&[&good, &short]), false), "auth.jwt_secret[1]: expected at least 32 bytes");
    }

    #[test]
    fn keys_of_a_provider_exclude_those_of_ones_own() {
        let with = |jwks: &str, change: &dyn Fn(&mut Config)| {
            config("127.0.0.1:0", |config| {
                config.auth.jwks = KeyLocation::parse(jwks);
                change(config);
            })
        };
        let excluded = |other: &str| format!("auth.jwks: cannot be combined with {other}; set only one of them");
        let secret = |config: &mut Config| config.auth.jwt_secret = vec![Secret::new("x".repeat(32))];
        assert_eq!(verdict(&with("Cargo.toml", &|_| {}), false), "ok", "what is in it is auth's to judge");
        assert_eq!(verdict(&with("Cargo.toml", &secret), false), excluded("auth.jwt_secret (STEPCAST_JWT_SECRET)"));
        let key = |config: &mut Config| {
            config.auth.jwt_public_key = Some("key.pem".into());
            config.auth.jwt_algorithm = JwtAlgorithm::Es256;
        };
        let both = format!("{}\n{}", excluded("auth.jwt_public_key"), excluded("auth.jwt_algorithm"));
        assert_eq!(verdict(&with("Cargo.toml", &key), false), both);
        let missing = verdict(&with("/nowhere/keys.json", &|_| {}), false);
        assert!(missing.starts_with("auth.jwks: /nowhere/keys.json: cannot be read: "), "{missing}");
        let url = match CAN_ASK {
            true => "ok",
            false => "auth.jwks: expected a file, because this program was built without the feature http-tool",
        };
        assert_eq!(verdict(&with("https://id.example.com/keys", &|_| {}), false), url);
        let error = with("Cargo.toml", &secret).signing_secret().expect_err("not here").to_string();
        assert_eq!(
            error,
            "auth.jwks: is set, so the identity provider signs tokens; use --key to sign with a private key"
        );
    }

    #[test]
    fn the_other_algorithms_need_a_readable_key() {
        let with = |path: Option<&str>| {
            config("127.0.0.1:0", |config| {
                config.auth.jwt_algorithm = JwtAlgorithm::Es256;
                config.auth.jwt_public_key = path.map(Into::into);
            })
        };
        assert_eq!(verdict(&with(None), false), "auth.jwt_public_key: missing; ES256 requires the path of a PEM file");
        let missing = verdict(&with(Some("/nowhere/key.pem")), false);
        assert!(missing.starts_with("auth.jwt_public_key: /nowhere/key.pem: cannot be read: "), "{missing}");
        assert_eq!(verdict(&with(Some("Cargo.toml")), false), "ok", "what is in it is auth's to judge");
        let error = with(None).signing_secret().expect_err("no secret");
        let expected = "auth.jwt_algorithm: expected HS256; ES256 tokens are signed with a private key; use --key";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn certificate_and_key_come_together_and_can_be_read() {
        let with = |cert: Option<&str>, key: Option<&str>, listen: Option<&str>| {
            config("127.0.0.1:0", |config| {
                config.auth.mode = AuthMode::None;
                config.tls.cert = cert.map(Into::into);
                config.tls.key = key.map(Into::into);
                config.tls.listen = listen.and_then(ListenAddress::parse);
            })
        };
        let said = |cert, key, listen| verdict(&with(cert, key, listen), false);
        assert_eq!(said(None, None, None), "ok");
        if !CAN_SPEAK_TLS {
            let expected = "tls.cert: this program was built without the feature tls";
            return assert_eq!(said(Some("Cargo.toml"), Some("Cargo.toml"), None), expected);
        }
        let good = Some("Cargo.toml");
        assert_eq!(said(good, good, None), "ok", "what is in it is for the start to judge");
        assert_eq!(said(good, good, Some("127.0.0.1:1")), "ok");
        assert_eq!(said(good, None, None), "tls.key: missing; tls.cert requires it: the path of a PEM file");
        assert_eq!(said(None, good, None), "tls.cert: missing; tls.key requires it: the path of a PEM file");
        let both = "tls.cert: missing; tls.listen requires it: the path of a PEM file\n\
                    tls.key: missing; tls.listen requires it: the path of a PEM file";
        assert_eq!(said(None, None, Some("127.0.0.1:1")), both);
        let missing = said(good, Some("/nowhere/key.pem"), None);
        assert!(missing.starts_with("tls.key: /nowhere/key.pem: cannot be read: "), "{missing}");
        let open = said(good, good, Some("0.0.0.0:1"));
        assert!(open.starts_with("auth.mode: none gives everyone who can reach 0.0.0.0:1 full access"), "{open}");
    }
}
