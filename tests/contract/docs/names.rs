//! Checks that what the documentation names exists: pages and headings, files, settings, error codes.

use std::collections::BTreeSet;
use std::path::Path;

use regex_lite::Regex;

use super::pages::{pages, root};

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern")
}

#[test]
fn links_lead_somewhere() {
    let link = pattern(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)");
    for page in pages() {
        for found in link.captures_iter(&page.prose()) {
            let target = &found[1];
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let to = match target.is_empty() {
                true => root().join(&page.path),
                false => root().join(&page.path).parent().expect("a folder").join(target),
            };
            assert!(to.exists(), "{}: there is no {target}", page.path.display());
            if let Some(anchor) = found.get(2).filter(|_| to.extension().is_some_and(|ending| ending == "md")) {
                let text = std::fs::read_to_string(&to).expect("text");
                let is_there = headings(&text).contains(anchor.as_str());
                assert!(is_there, "{}: {target} has no heading #{}", page.path.display(), anchor.as_str());
            }
        }
    }
}

/// The anchors of a page's headings, as GitHub makes them.
fn headings(text: &str) -> BTreeSet<String> {
    let titles = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    titles
        .map(|title| {
            let kept =
                title.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
            kept.replace(' ', "-")
        })
        .collect()
}

/// `server/core.rs` is one of `src/`; anything else starts at the repository.
#[test]
fn files_in_backticks_exist() {
    let file = pattern(r"`((?:[A-Za-z0-9_.-]+/)+|(?:[A-Za-z0-9_.-]+/)*[A-Za-z0-9_.-]+\.(?:rs|md|mjs|html|sh))`");
    let known = pattern(r"`((?:src|tests|docs|examples|loadtest|benches|findings|packaging)/[A-Za-z0-9_./-]*)`");
    for page in pages() {
        let prose = page.prose();
        for found in file.captures_iter(&prose).chain(known.captures_iter(&prose)).map(|found| found[1].to_owned()) {
            let is_there = root().join(&found).exists() || root().join("src").join(&found).exists();
            assert!(is_there, "{}: there is no {found}", page.path.display());
        }
    }
}

/// The table in `docs/configuration.md` is made of the program's keys; a test beside them sees to that.
#[test]
fn settings_in_backticks_exist() {
    let table = std::fs::read_to_string(root().join("docs/configuration.md")).expect("the settings");
    let section = "server|auth|cors|sse|history|store|cluster|limits|executor|metrics|log|tls";
    let setting = pattern(&format!("`((?:{section})\\.[a-z_]+)(?: = [^`]*)?`"));
    for page in pages() {
        for found in setting.captures_iter(&page.prose()) {
            let key = &found[1];
            assert!(
                key.ends_with(".rs") || table.contains(&format!("| `{key}` |")),
                "{}: there is no {key}",
                page.path.display()
            );
        }
    }
}

/// `docs/api.md` lists the words that errors carry, with their statuses: those that the sources have, and no others.
#[test]
fn the_table_of_error_codes_is_complete() {
    let page = std::fs::read_to_string(root().join("docs/api.md")).expect("the calls");
    let row = pattern(r"(?m)^\| (\d{3}) \| `([a-z_]+)` \|");
    let documented: BTreeSet<_> =
        row.captures_iter(&page).map(|found| (found[1].to_owned(), found[2].to_owned())).collect();
    let mut sources = String::new();
    gather(&root().join("src"), &mut sources);
    for (_, code) in &documented {
        assert!(sources.contains(&format!("\"{code}\"")), "no answer has the code {code}");
    }
    let made = pattern(
        r#"(?:Problem::new\(\s*(\d+),|::(forbidden|conflict|too_many|unavailable)\(|status: (\d+),\s*code:)\s*"([a-z_]+)""#,
    );
    for found in made.captures_iter(&sources) {
        let status = found.get(1).or(found.get(3)).map(|status| status.as_str());
        let status = status.unwrap_or_else(|| status_of(&found[2]));
        let row = (status.to_owned(), found[4].to_owned());
        assert!(documented.contains(&row), "docs/api.md does not list {row:?}");
    }
}

/// The status of a problem that this function of `Problem` makes.
fn status_of(name: &str) -> &'static str {
    match name {
        "forbidden" => "403",
        "conflict" => "409",
        "too_many" => "429",
        _ => "503",
    }
}

/// The sources, without the tests at the end of a file.
fn gather(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("a file").path();
        if path.is_dir() && !path.ends_with("tests") {
            gather(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") && !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).expect("text");
            into.push_str(text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default());
        }
    }
}
