//! Log lines about keys: each change is logged once. Pure.

use log::Level;

use super::source::Fetched;
use crate::auth::KeySet;

/// What was logged last.
#[derive(Debug, Default)]
pub(super) struct News {
    keys: Option<KeySet>,
    ignored: Vec<String>,
    failure: Option<String>,
}

impl News {
    /// The lines to log for a result of a fetch. None if it equals the previous one.
    pub(super) fn lines(&mut self, fetched: &Result<Fetched, String>) -> Vec<(Level, String)> {
        match fetched {
            Ok(fetched) => self.of_keys(fetched),
            Err(why) => self.of_failure(why).into_iter().collect(),
        }
    }

    fn of_keys(&mut self, Fetched { read, .. }: &Fetched) -> Vec<(Level, String)> {
        let mut lines = Vec::new();
        let was_down = self.failure.take().is_some();
        if was_down || self.keys.as_ref() != Some(&read.keys) {
            lines.push((Level::Info, read.keys.to_string()));
            self.keys = Some(read.keys.clone());
        }
        if self.ignored != read.ignored {
            lines.extend(read.ignored.iter().map(|line| (Level::Info, line.clone())));
            self.ignored.clone_from(&read.ignored);
        }
        lines
    }

    fn of_failure(&mut self, why: &str) -> Option<(Level, String)> {
        if self.failure.as_deref() == Some(why) {
            return None;
        }
        self.failure = Some(why.to_owned());
        let kept = if self.keys.is_some() {
            "; the previous keys stay in use"
        } else {
            "; all tokens are rejected until keys are loaded"
        };
        Some((Level::Warn, format!("{why}{kept}")))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// Keys with these names, and one that can't be used.
    pub(in crate::server::jwks) fn fetched(kids: &[&str]) -> Fetched {
        let x = "n6djNa-USg5OTUYQOM6bmldYktZy1OQnGdonCIjPrS4";
        let key = |kid: &&str| json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x});
        let keys: Vec<_> = kids.iter().map(key).chain([json!({"kty": "oct", "kid": "s"})]).collect();
        let read = KeySet::read(json!({"keys": keys}).to_string().as_bytes()).expect("a good set");
        Fetched { read, max_age: None }
    }

    #[test]
    fn what_stays_as_it_is_is_told_once() {
        let mut news = News::default();
        let mut told = |fetched: &Result<Fetched, String>| -> Vec<String> {
            news.lines(fetched).into_iter().map(|(_, line)| line).collect()
        };
        let down = |why: &str| Err(why.to_owned());
        let ignored = "the key \"s\" is ignored: it is a symmetric secret, which must not be published";
        for (what, expected) in [
            (down("no"), vec!["no; all tokens are rejected until keys are loaded"]),
            (down("no"), vec![]),
            (Ok(fetched(&["a"])), vec!["1 key: \"a\" (EdDSA)", ignored]),
            (Ok(fetched(&["a"])), vec![]),
            (down("no"), vec!["no; the previous keys stay in use"]),
            (down("no"), vec![]),
            (down("never"), vec!["never; the previous keys stay in use"]),
            (Ok(fetched(&["a"])), vec!["1 key: \"a\" (EdDSA)"]),
            (Ok(fetched(&["a", "b"])), vec!["2 keys: \"a\" (EdDSA), \"b\" (EdDSA)"]),
        ] {
            assert_eq!(told(&what), expected, "{what:?}");
        }
    }
}
