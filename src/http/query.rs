//! The query of a request: `application/x-www-form-urlencoded` pairs.

use std::borrow::Cow;

use super::encoding::{BadEncoding, Plus, decode};

/// The maximum number of pairs in a query; more is an error. No call of this server has ten parameters.
pub const QUERY_PAIRS_MAX: usize = 64;

/// The decoded pairs of a query, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query<'b> {
    pairs: Vec<(Cow<'b, str>, Cow<'b, str>)>,
}

impl<'b> Query<'b> {
    /// Decodes what follows the `?` of a target; no query is one without pairs, and allocates nothing. A name without
    /// `=` has an empty value.
    ///
    /// # Errors
    /// [`BadEncoding`] where any part is not valid, or there are more than [`QUERY_PAIRS_MAX`] pairs.
    pub fn parse(raw: Option<&'b str>) -> Result<Self, BadEncoding> {
        Self::parse_sparing(raw, "")
    }

    /// As [`parse`](Self::parse), but a value of the name `spared` that is not valid stays as it was written.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_sparing(raw: Option<&'b str>, spared: &str) -> Result<Self, BadEncoding> {
        let mut pairs = Vec::new();
        for raw_pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            if pairs.len() == QUERY_PAIRS_MAX {
                return Err(BadEncoding {
                    reason: "the query string has too many parameters (limit 64, not configurable)",
                });
            }
            let (name, value) = raw_pair.split_once('=').unwrap_or((raw_pair, ""));
            let name = decode(name, Plus::Space)?;
            let value = match decode(value, Plus::Space) {
                Err(_) if !spared.is_empty() && name == spared => Cow::Borrowed(value),
                decoded => decoded?,
            };
            pairs.push((name, value));
        }
        Ok(Self { pairs })
    }

    /// The value of the first pair with this name, which is case-sensitive.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.pairs().find(|(candidate, _)| *candidate == name).map(|(_, value)| value)
    }

    /// All pairs.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_in_order() {
        let query = Query::parse(Some("a=1&b=x+y%3D%26&&c&a=2&=e&d==")).expect("valid");
        let expected = [("a", "1"), ("b", "x y=&"), ("c", ""), ("a", "2"), ("", "e"), ("d", "=")];
        assert_eq!(query.pairs().collect::<Vec<_>>(), expected);
        assert_eq!((query.first("a"), query.first("A"), query.first("c")), (Some("1"), None, Some("")));
    }

    #[test]
    fn the_limit_of_parameters_is_told() {
        let error = Query::parse(Some(&"a&".repeat(QUERY_PAIRS_MAX + 1))).expect_err("too many");
        assert!(error.to_string().contains(&format!("(limit {QUERY_PAIRS_MAX}, not configurable)")), "{error}");
    }

    #[test]
    fn what_is_not_valid_is_an_error_wherever_it_stands() {
        assert_eq!(Query::parse(None), Ok(Query::default()));
        for bad in ["a=%", "%zz=1", "a=1&b=%ff", &"a&".repeat(QUERY_PAIRS_MAX + 1)] {
            assert!(Query::parse(Some(bad)).is_err(), "{bad}");
        }
        assert!(Query::parse(Some(&"a&".repeat(QUERY_PAIRS_MAX))).is_ok());
        let spared = Query::parse_sparing(Some("id=%FF"), "id").expect("is spared");
        assert_eq!(spared.first("id"), Some("%FF"));
        assert!(Query::parse_sparing(Some("id=%FF&a=%FF"), "id").is_err());
    }
}
