//! The URL of the PostgreSQL database that stores the log.

use std::fmt;

use super::Secret;

/// What such a url begins with.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// The url of a database. It may hold a password: neither this one's `Debug` nor its `Display` shows more of it than the user,
/// the servers and the database.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(Secret);

impl PostgresUrl {
    /// Is `text` such a url, whole or not?
    pub(crate) fn is_meant_by(text: &str) -> bool {
        SCHEMES.iter().any(|scheme| text.starts_with(scheme))
    }

    /// Reads `postgres://user@host/db` or `postgresql://…`. An `@` or a `/` that belongs to a password is written `%40` or
    /// `%2F`.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme))?;
        let (authority, behind) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let is_whole = authority.matches('@').count() <= 1 && !behind.contains('@');
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        (is_whole && is_plain).then(|| Self(Secret::new(text)))
    }

    /// All of it, password included. Whoever calls this answers for where it goes.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.expose();
        let (scheme, rest) = text.split_at(text.find("://").map_or(0, |at| at + 3));
        let rest = rest.split('?').next().unwrap_or_default();
        let (credentials, server) = rest.rsplit_once('@').unwrap_or(("", rest));
        let user = credentials.split(':').next().unwrap_or_default();
        f.write_str(scheme)?;
        if !user.is_empty() {
            write!(f, "{user}@")?;
        }
        f.write_str(server)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_of_a_url_is_its_password() {
        for (text, shown) in [
            ("postgres://stepcast@db.internal/stepcast", "postgres://stepcast@db.internal/stepcast"),
            ("postgresql://a:hunter2@db:5433,db2/x?sslmode=disable", "postgresql://a@db:5433,db2/x"),
            ("postgres://:hunter2@db/x", "postgres://db/x"),
            ("postgres://db/x?user=a&password=hunter2", "postgres://db/x"),
            ("postgres://a:hunter2%40%2F@%2Frun%2Fpostgresql/x", "postgres://a@%2Frun%2Fpostgresql/x"),
            ("postgres://", "postgres://"),
        ] {
            let url = PostgresUrl::parse(text).expect(text);
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("PostgresUrl({shown})"));
            assert_eq!(url.expose(), text);
        }
    }

    #[test]
    fn a_url_that_does_not_say_where_its_password_ends_is_none() {
        for bad in [
            "postgres://a:hunter@2@db/x",
            "postgres://a:hunter/2@db/x",
            "postgres://a:hunter?2@db/x",
            "postgres://db/x?password=a@b",
            "postgres://a b@db/x",
            "mysql://db/x",
            "./postgres",
        ] {
            assert_eq!(PostgresUrl::parse(bad), None, "{bad}");
        }
    }
}
