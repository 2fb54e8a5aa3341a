//! The caller and its rights.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::AuthError;
use crate::model::{ProjectId, Timestamp};

/// A right of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Watch projects and read their runs.
    Subscribe,
    /// Send messages to projects.
    Publish,
    /// Start and cancel runs.
    Run,
    /// All other scopes, and the calls for operators.
    Admin,
    /// Decide waiting steps of runs.
    Approve,
}

/// A set of scopes. [`Scope::Admin`] includes the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

/// The projects that a caller has access to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Projects {
    /// Every project.
    All,
    /// Only these.
    Only(BTreeSet<ProjectId>),
}

/// The rights of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// The scopes.
    pub scopes: Scopes,
    /// The projects.
    pub projects: Projects,
}

/// An unknown scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownScope(String);

/// A caller whose credentials have been checked. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal(Arc<Known>);

#[derive(Debug, PartialEq, Eq)]
struct Known {
    sub: String,
    expires_at: Option<Timestamp>,
    rights: Rights,
    token_key: Option<u64>,
}

impl Scope {
    const EACH: [Self; 5] = [Self::Subscribe, Self::Publish, Self::Run, Self::Approve, Self::Admin];

    /// Its name in the claim `scope`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::Run => "run",
            Self::Admin => "admin",
            Self::Approve => "approve",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl Scopes {
    /// Every scope.
    pub const ALL: Self = Self(0b1_1111);

    /// Those in `scopes`.
    pub fn of(scopes: &[Scope]) -> Self {
        Self(scopes.iter().fold(0, |bits, scope| bits | scope.bit()))
    }

    /// Parses space-separated scopes; unknown words are ignored.
    pub fn parse(text: &str) -> Self {
        Self(text.split(' ').filter_map(|word| word.parse::<Scope>().ok()).fold(0, |bits, scope| bits | scope.bit()))
    }

    /// Whether the set contains `scope` or [`Scope::Admin`].
    pub fn has(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }
}

impl Projects {
    /// Only those in `ids`.
    pub fn only(ids: impl IntoIterator<Item = ProjectId>) -> Self {
        Self::Only(ids.into_iter().collect())
    }

    /// Whether `project` is among them.
    pub fn contains(&self, project: &ProjectId) -> bool {
        match self {
            Self::All => true,
            Self::Only(ids) => ids.contains(project),
        }
    }
}

impl Principal {
    /// The caller if the server requires no credentials: all scopes, all projects, no expiry, no limits per token.
    pub fn anyone() -> Self {
        let rights = Rights { scopes: Scopes::ALL, projects: Projects::All };
        Self::new("anonymous".to_owned(), None, rights, None)
    }

    /// A caller whose credentials are valid until `expires_at` and grant `rights`. For `token_key` see
    /// [`token_key`](Self::token_key).
    pub fn new(sub: String, expires_at: Option<Timestamp>, rights: Rights, token_key: Option<u64>) -> Self {
        Self(Arc::new(Known { sub, expires_at, rights, token_key }))
    }

    /// The subject of the token.
    pub fn sub(&self) -> &str {
        &self.0.sub
    }

    /// When the credentials expire, including the leeway; none if they don't.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.0.expires_at
    }

    /// Whether the credentials have expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.0.expires_at.is_some_and(|end| end <= now)
    }

    /// The projects that the caller has access to.
    pub fn projects(&self) -> &Projects {
        &self.0.rights.projects
    }

    /// Identifies the token in the counts of streams and messages: the same for a JWT and all tickets issued for it,
    /// also across restarts. None for [`anyone`](Self::anyone), who has no token and therefore no limits per token.
    pub fn token_key(&self) -> Option<u64> {
        self.0.token_key
    }

    /// Whether the caller has `scope`, in any project.
    pub fn has_scope(&self, scope: Scope) -> bool {
        self.0.rights.scopes.has(scope)
    }

    /// Whether the credentials grant access to `project`.
    pub fn sees(&self, project: &ProjectId) -> bool {
        self.0.rights.projects.contains(project)
    }

    /// [`has_scope`](Self::has_scope), for calls that belong to no project.
    ///
    /// # Errors
    /// [`AuthError::NoScope`].
    pub fn require(&self, scope: Scope) -> Result<(), AuthError> {
        if self.has_scope(scope) { Ok(()) } else { Err(AuthError::NoScope(scope)) }
    }

    /// Checks that the caller has `scope` in `project`.
    ///
    /// # Errors
    /// [`AuthError::NoProject`], or else [`AuthError::NoScope`].
    pub fn require_in(&self, scope: Scope, project: &ProjectId) -> Result<(), AuthError> {
        if self.sees(project) { self.require(scope) } else { Err(AuthError::NoProject) }
    }

    /// Checks that the caller has `scope` in each of `projects`.
    ///
    /// # Errors
    /// [`AuthError::NoProjectOf`] with the first project without access; or else [`AuthError::NoScope`].
    pub fn require_all(&self, scope: Scope, projects: &[ProjectId]) -> Result<(), AuthError> {
        match projects.iter().find(|project| !self.sees(project)) {
            Some(foreign) if projects.len() > 1 => Err(AuthError::NoProjectOf(foreign.clone())),
            Some(_) => Err(AuthError::NoProject),
            None => self.require(scope),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::EACH.into_iter().find(|scope| scope.as_str() == text).ok_or_else(|| UnknownScope(text.to_owned()))
    }
}

impl fmt::Display for UnknownScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown scope {:?}; expected subscribe, publish, run, approve or admin", self.0)
    }
}

impl std::error::Error for UnknownScope {}

/// The value of the claim `scope`: words separated by spaces.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut space = "";
        for scope in Scope::EACH.into_iter().filter(|scope| self.0 & scope.bit() != 0) {
            write!(f, "{space}{scope}")?;
            space = " ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(text: &str) -> ProjectId {
        ProjectId::parse(text).expect("an id")
    }

    #[test]
    fn scopes_are_words_and_unknown_words_are_passed_over() {
        for (text, shown) in [
            ("subscribe", "subscribe"),
            ("run  subscribe", "subscribe run"),
            ("openid run email", "run"),
            ("Run", ""),
            ("", ""),
            ("admin", "admin"),
        ] {
            assert_eq!(Scopes::parse(text).to_string(), shown, "{text:?}");
        }
        assert!("write".parse::<Scope>().is_err());
        assert_eq!(Scopes::of(&[Scope::Run, Scope::Publish]), Scopes::parse("publish run"));
    }

    #[test]
    fn admin_includes_the_other_scopes_and_no_other_does() {
        for held in Scope::EACH {
            for asked in Scope::EACH {
                assert_eq!(Scopes::of(&[held]).has(asked), held == asked || held == Scope::Admin, "{held} {asked}");
            }
        }
    }

    #[test]
    fn a_principal_may_what_its_scopes_say_where_its_projects_say() {
        let projects = Projects::only([project("b"), project("a"), project("b")]);
        let rights = Rights { scopes: Scopes::of(&[Scope::Run]), projects };
        let ann = Principal::new("ann".into(), Some(Timestamp::from_millis(5)), rights, Some(1));
        assert!(ann.require_in(Scope::Run, &project("a")).is_ok() && ann.require_in(Scope::Run, &project("b")).is_ok());
        assert!(
            ann.require_in(Scope::Run, &project("c")).is_err()
                && ann.require_in(Scope::Publish, &project("a")).is_err()
        );
        assert_eq!(ann.require_in(Scope::Publish, &project("c")), Err(AuthError::NoProject));
        assert_eq!(ann.require_in(Scope::Publish, &project("a")), Err(AuthError::NoScope(Scope::Publish)));
        assert_eq!(ann.require_in(Scope::Run, &project("a")), Ok(()));
        assert!(!ann.is_expired(Timestamp::from_millis(4)) && ann.is_expired(Timestamp::from_millis(5)));
    }

    #[test]
    fn anyone_may_everything_for_ever() {
        let anyone = Principal::anyone();
        assert!(Scope::EACH.into_iter().all(|scope| anyone.require_in(scope, &project("p")).is_ok()));
        assert!(!anyone.is_expired(Timestamp::from_millis(u64::MAX)) && anyone.token_key().is_none());
    }
}
