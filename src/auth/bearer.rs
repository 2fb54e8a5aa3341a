//! The `Authorization` header.

/// The token in the value of an `Authorization` header; none if the scheme is not `Bearer` (case-insensitive), or if it
/// is not followed by exactly one token.
pub fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim_matches([' ', '\t']).split_once(' ')?;
    let token = token.trim_start_matches(' ');
    let is_one_word = token.bytes().all(|b| b.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && is_one_word && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_one_word_after_the_scheme() {
        for (value, token) in [
            ("Bearer a.b.c", Some("a.b.c")),
            ("bearer a", Some("a")),
            ("  BEARER   a  ", Some("a")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Bearer a b", None),
            ("Bearer a,b", Some("a,b")),
            ("Bearer é", None),
            ("Bearera b", None),
            ("Basic a", None),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(bearer(value), token, "{value:?}");
        }
    }
}
