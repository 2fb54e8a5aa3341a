//! Compares the documentation with the program. Each fenced block of `README.md`, `CONTRIBUTING.md`, `SECURITY.md`,
//! `CHANGELOG.md` or `docs/*.md` is parsed, checked or run, depending on its info string:
//!
//! | info string | what must hold |
//! |---|---|
//! | `json plan`, `json step` | `stepcast check` takes it, with the tools of `docs/tools.toml` beside this file |
//! | `json` | it is JSON |
//! | `toml` | it is a configuration |
//! | `sh run` | it runs: all such blocks of a page, in order, in one shell, against a server of their own |
//! | `sh`, `console` | it is shell; commands of stepcast and their flags exist, and so do the files that it names |
//! | `js` | Node can parse it |
//! | `rust` | the crate's doc tests include the page |
//! | `nginx`, `caddyfile`, `ini` | each line stands in a file of the repository that tests or packages use |
//! | `sql`, `text` | nothing |
//!
//! Any other info string fails. Links are checked too, and so is what stands in backticks and looks like a file, a
//! setting or an error code.

mod blocks;
mod names;
mod pages;
mod shell;
