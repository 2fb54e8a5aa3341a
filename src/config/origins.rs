//! Browser origins of other sites that may call this server: `https://app.example`, `http://localhost:3000`.

/// A list of origins, each `scheme://host` or `scheme://host:port`, in lower case as browsers send them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Reads the origins; the first that is none comes back as the error.
    ///
    /// # Errors
    /// The text that is no origin. `*` is none: answers carry credentials, and browsers refuse the two together.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        let normal = |text: &'a str| if is_origin(text) { Ok(text.to_ascii_lowercase()) } else { Err(text) };
        texts.into_iter().map(normal).collect::<Result<_, _>>().map(Self)
    }

    /// The origins.
    pub(crate) fn as_slice(&self) -> &[String] {
        &self.0
    }
}

fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let is_scheme_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    let is_host_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'[' | b']');
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(is_scheme_byte)
        && !host.is_empty()
        && host.bytes().all(is_host_byte)
        && !host.starts_with(':')
        && !host.ends_with(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_scheme_host_and_port() {
        let good = ["https://app.example", "http://LOCALHOST:3000", "http://[::1]:80", "tauri://localhost"];
        let origins = Origins::parse(good).expect("origins");
        assert_eq!(origins.as_slice()[1], "http://localhost:3000");
        for bad in
            ["", "*", "null", "app.example", "https://", "https://a/", "https://a/b", "://a", "https://a b", "1://a"]
        {
            assert_eq!(Origins::parse(["https://ok", bad]), Err(bad));
        }
    }
}
