//! `Debug` of declared tools, without the values of variables and headers: those are secrets.

use std::fmt;

use super::{CommandSpec, HttpSpec};

/// Shows pairs as their names alone.
struct Names<'a>(&'a [(String, String)]);

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(name, _)| (name, format_args!("***")))).finish()
    }
}

impl fmt::Debug for CommandSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { argv, cwd, env, pass_env, uid, gid, limits } = self;
        f.debug_struct("CommandSpec")
            .field("argv", argv)
            .field("cwd", cwd)
            .field("env", &Names(env))
            .field("pass_env", pass_env)
            .field("uid", uid)
            .field("gid", gid)
            .field("limits", limits)
            .finish()
    }
}

impl fmt::Debug for HttpSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, url, headers, body, allow_redirects, allow_hosts, stream_text, stream_error } = self;
        f.debug_struct("HttpSpec")
            .field("method", method)
            .field("url", url)
            .field("headers", &Names(headers))
            .field("body", body)
            .field("allow_redirects", allow_redirects)
            .field("allow_hosts", allow_hosts)
            .field("stream_text", stream_text)
            .field("stream_error", stream_error)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_variables_and_headers_never_show() {
        let secret = || vec![("NAME".to_owned(), "hunter2".to_owned())];
        let command = format!("{:?}", CommandSpec { env: secret(), ..CommandSpec::default() });
        let http = format!("{:#?}", HttpSpec { headers: secret(), ..HttpSpec::default() });
        for shown in [command, http] {
            assert!(shown.contains("NAME") && shown.contains("***") && !shown.contains("hunter2"), "{shown}");
        }
    }
}
