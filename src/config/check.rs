//! What only several settings together can get wrong. Asked by the commands that need it, once everything is loaded.

use std::fs::File;
use std::io;
use std::net::SocketAddr;

use super::{AuthMode, Config, ConfigError, JwtAlgorithm, Secret};
use crate::auth::JWT_SECRET_BYTES_MIN;

impl Config {
    /// May a server start with these settings? `insecure` says that a server without tokens may be reached from
    /// elsewhere. Opens the public key's file where one is needed, and looks a name up where it must be this machine's.
    ///
    /// # Errors
    /// Everything that speaks against it.
    pub fn check_for_serving(&self, insecure: bool) -> Result<(), ConfigError> {
        let mut issues = Vec::new();
        match self.auth.mode {
            AuthMode::Jwt => issues.extend(self.wrong_with_key()),
            AuthMode::None if insecure || self.listen.is_loopback() => {}
            AuthMode::None if self.listen.name().is_some() => {
                issues.extend(self.wrong_with_name(self.listen.resolve()))
            }
            AuthMode::None => issues.push(self.lets_everyone_in()),
        }
        ConfigError::unless_empty(issues)
    }

    /// What speaks against listening without tokens at a name: it must stand for this machine alone.
    fn wrong_with_name(&self, resolved: io::Result<Vec<SocketAddr>>) -> Option<String> {
        match resolved {
            Err(error) => Some(format!("listen: can't resolve {}: {error}", self.listen)),
            Ok(addresses) if addresses.is_empty() => Some(format!("listen: can't resolve {}: no address", self.listen)),
            Ok(addresses) => {
                let is_local = addresses.iter().all(|address| address.ip().to_canonical().is_loopback());
                (!is_local).then(|| self.lets_everyone_in())
            }
        }
    }

    fn lets_everyone_in(&self) -> String {
        format!(
            "auth.mode: none lets everyone who reaches {} in; expected a loopback address to listen at, or --insecure",
            self.listen
        )
    }

    /// The secret that tokens are signed with.
    ///
    /// # Errors
    /// Where the algorithm has none, or the secret is missing or short.
    pub(crate) fn signing_secret(&self) -> Result<&Secret, ConfigError> {
        let issue = match (self.auth.jwt_algorithm, &self.auth.jwt_secret) {
            (JwtAlgorithm::Hs256, Some(secret)) if secret.expose().len() >= JWT_SECRET_BYTES_MIN => return Ok(secret),
            (JwtAlgorithm::Hs256, Some(_)) => {
                format!("auth.jwt_secret: expected at least {JWT_SECRET_BYTES_MIN} bytes")
            }
            (JwtAlgorithm::Hs256, None) => format!(
                "auth.jwt_secret: missing; expected at least {JWT_SECRET_BYTES_MIN} bytes, in the variable \
                 STEPCAST_JWT_SECRET or in the file"
            ),
            (other, _) => {
                format!("auth.jwt_algorithm: expected HS256; tokens of {other} are signed where the private key is")
            }
        };
        Err(ConfigError { issues: vec![issue] })
    }

    fn wrong_with_key(&self) -> Vec<String> {
        if self.auth.jwt_algorithm == JwtAlgorithm::Hs256 {
            return self.signing_secret().err().map(|error| error.issues).unwrap_or_default();
        }
        let issue = match &self.auth.jwt_public_key {
            None => Some(format!("missing; {} needs the path of a PEM file", self.auth.jwt_algorithm)),
            Some(path) => File::open(path).err().map(|error| format!("{}: can't be read: {error}", path.display())),
        };
        issue.map(|issue| format!("auth.jwt_public_key: {issue}")).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ListenAddress;

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
                "auth.mode: none lets everyone who reaches 0.0.0.0:80 in; expected a loopback address to listen at, or \
                 --insecure",
            ),
        ];
        for (listen, insecure, expected) in table {
            let config = config(listen, |config| config.auth.mode = AuthMode::None);
            assert_eq!(verdict(&config, insecure), expected, "{listen} {insecure}");
        }
    }

    #[test]
    fn a_name_that_does_not_resolve_was_said_to_let_everyone_in() {
        let config = config("nobody.invalid:80", |config| config.auth.mode = AuthMode::None);
        let said = verdict(&config, false);
        assert!(said.starts_with("listen: can't resolve nobody.invalid:80: "), "{said}");
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
            assert_eq!(config.wrong_with_name(Ok(resolved)).is_none(), is_fine, "{addresses:?}");
        }
    }

    #[test]
    fn hs256_needs_a_secret_of_32_bytes() {
        let with =
            |secret: Option<&str>| config("127.0.0.1:0", |config| config.auth.jwt_secret = secret.map(Secret::new));
        assert_eq!(
            verdict(&with(None), true),
            "auth.jwt_secret: missing; expected at least 32 bytes, in the variable STEPCAST_JWT_SECRET or in the file"
        );
        assert_eq!(verdict(&with(Some(&"x".repeat(31))), false), "auth.jwt_secret: expected at least 32 bytes");
        assert_eq!(verdict(&with(Some(&"x".repeat(32))), false), "ok");
    }

    #[test]
    fn the_other_algorithms_need_a_readable_key() {
        let with = |path: Option<&str>| {
            config("127.0.0.1:0", |config| {
                config.auth.jwt_algorithm = JwtAlgorithm::Es256;
                config.auth.jwt_public_key = path.map(Into::into);
            })
        };
        assert_eq!(verdict(&with(None), false), "auth.jwt_public_key: missing; ES256 needs the path of a PEM file");
        let missing = verdict(&with(Some("/nowhere/key.pem")), false);
        assert!(missing.starts_with("auth.jwt_public_key: /nowhere/key.pem: can't be read: "), "{missing}");
        assert_eq!(verdict(&with(Some("Cargo.toml")), false), "ok", "what is in it is auth's to judge");
        let error = with(None).signing_secret().expect_err("no secret");
        let expected = "auth.jwt_algorithm: expected HS256; tokens of ES256 are signed where the private key is";
        assert_eq!(error.to_string(), expected);
    }
}
