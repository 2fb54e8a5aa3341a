//! Media types, as far as this server needs to distinguish them (RFC 9110, sections 8.3.1 and 12.5.1).

/// Whether the content type in `value` is JSON in UTF-8: `application/json` or any `+json`, without another charset.
pub fn is_json(value: &str) -> bool {
    if value.eq_ignore_ascii_case("application/json") {
        return true;
    }
    let mut parts = split_outside_quotes(value, ';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    is_json_type(media_type) && parts.all(|parameter| !names_other_charset(parameter))
}

/// Whether one of the `Accept` values names exactly `media_type` with a non-zero weight. Wildcards don't count: they
/// mean that a client accepts anything, not that it asks for this type.
pub fn names<'v>(accept: impl IntoIterator<Item = &'v [u8]>, media_type: &str) -> bool {
    let texts = accept.into_iter().filter_map(|value| str::from_utf8(value).ok());
    texts.flat_map(|value| split_outside_quotes(value, ',')).any(|range| {
        let mut parts = split_outside_quotes(range, ';').map(str::trim);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case(media_type)) && !parts.any(is_weight_zero)
    })
}

/// The weight of exactly `media_type` in the `Accept` values, 0 to 1; 0 if they don't name it.
pub fn weight<'v>(accept: impl IntoIterator<Item = &'v [u8]>, media_type: &str) -> f32 {
    let texts = accept.into_iter().filter_map(|value| str::from_utf8(value).ok());
    let weights = texts.flat_map(|value| split_outside_quotes(value, ',')).filter_map(|range| {
        let mut parts = split_outside_quotes(range, ';').map(str::trim);
        let is_it = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(media_type));
        is_it.then(|| parts.find_map(quality).unwrap_or(1.0))
    });
    weights.fold(0.0, f32::max)
}

/// `q=0.5`
fn quality(parameter: &str) -> Option<f32> {
    let (name, value) = parameter.split_once('=')?;
    if name.eq_ignore_ascii_case("q") { value.parse().ok() } else { None }
}

fn is_json_type(media_type: &str) -> bool {
    let Some((kind, subtype)) = media_type.split_once('/') else { return false };
    let ends_in_json = subtype.len() > 5
        && subtype.is_char_boundary(subtype.len() - 5)
        && subtype[subtype.len() - 5..].eq_ignore_ascii_case("+json");
    !kind.is_empty() && (ends_in_json || media_type.eq_ignore_ascii_case("application/json"))
}

fn names_other_charset(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    let value = value.trim_matches('"');
    name.eq_ignore_ascii_case("charset") && !["utf-8", "utf8"].iter().any(|utf8| value.eq_ignore_ascii_case(utf8))
}

/// `q=0`, `q=0.000`
fn is_weight_zero(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    name.eq_ignore_ascii_case("q") && value.parse::<f32>().is_ok_and(|weight| weight <= 0.0)
}

/// The parts of `text` between separators outside of quoted strings.
fn split_outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    text.split(move |c| {
        if is_escaped {
            is_escaped = false;
            return false;
        }
        match c {
            '\\' => is_escaped = is_quoted,
            '"' => is_quoted = !is_quoted,
            _ => return c == separator && !is_quoted,
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_the_type_itself() {
        for (accept, expected) in [
            ("", 0.0),
            ("*/*", 0.0),
            ("text/*", 0.0),
            ("text/plain", 1.0),
            ("text/html, Text/Plain;q=0.25", 0.25),
            ("text/plain;charset=utf-8 ; q=0", 0.0),
            ("text/plain;q=high", 1.0),
        ] {
            assert!((weight([accept.as_bytes()], "text/plain") - expected).abs() < f32::EPSILON, "{accept}");
        }
    }

    #[test]
    fn json_by_its_type() {
        for json in [
            "application/json",
            "Application/JSON",
            "application/json;charset=utf-8",
            "application/json ; Charset=\"UTF-8\"",
            "application/vnd.api+json; v=1",
            "application/problem+json",
            "application/json; a=\";charset=latin1\"",
        ] {
            assert!(is_json(json), "{json}");
        }
        for other in [
            "",
            "json",
            "/json",
            "text/json",
            "text/plain",
            "application/jsonx",
            "application/x-www-form-urlencoded",
            "application/json; charset=latin1",
            "application/json, text/plain",
            "+json",
            "a/+json",
            "a/éjson",
        ] {
            assert!(!is_json(other), "{other}");
        }
    }

    #[test]
    fn an_event_stream_is_accepted_by_its_name() {
        let names = |value: &str| names([value.as_bytes()], "text/event-stream");
        for yes in
            ["text/event-stream", "TEXT/Event-Stream", "a/b, text/event-stream;q=0.5 , */*", "text/event-stream; q=1"]
        {
            assert!(names(yes), "{yes}");
        }
        for no in [
            "",
            "*/*",
            "text/*",
            "text/event-streams",
            "text/event-stream;q=0",
            "text/event-stream; Q=0.00",
            "a;b=\",text/event-stream\"",
        ] {
            assert!(!names(no), "{no}");
        }
        assert!(super::names([&b"\xff"[..], b"text/plain"], "text/plain"), "several fields are one list");
    }
}
