//! Tests that OpenAPI describes exactly the calls that exist.

use std::collections::BTreeSet;

use serde_json::Value;

use super::handler::OPENAPI;
use super::route::Route;
use crate::http::Method;

/// What a path item may describe. `QUERY` is not among it: this version of OpenAPI has no such method.
const METHODS: [(&str, Method); 5] = [
    ("get", Method::Get),
    ("post", Method::Post),
    ("put", Method::Put),
    ("patch", Method::Patch),
    ("delete", Method::Delete),
];

fn paths() -> serde_json::Map<String, Value> {
    let document: Value = serde_json::from_slice(OPENAPI).expect("it is JSON");
    document["paths"].as_object().expect("an object").clone()
}

/// The path with `{}` for each of its parameters.
fn shape(path: &str) -> String {
    let segment = |segment: &str| if segment.starts_with('{') { "{}".to_owned() } else { segment.to_owned() };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

#[test]
fn each_described_path_takes_the_methods_that_are_described_and_no_others() {
    for (path, item) in paths() {
        let example = shape(&path.replace("{file}", "app.js")).replace("{}", "x");
        for (name, method) in METHODS {
            let taken = match Route::parse(method, &example) {
                Ok(_) => true,
                Err(problem) if problem.status == 405 => false,
                Err(problem) => panic!("{path}: {}", problem.status),
            };
            assert_eq!(taken, item.get(name).is_some(), "{name} {path}");
        }
    }
}

/// The functions of `route.rs` that know paths, each with what all of its paths begin with.
const PARTS: [(&str, &str); 3] =
    [("fn calls(", ""), ("fn of_project(", "/api/projects/{}"), ("fn of_run(", "/api/projects/{}/workflows/{}")];

/// The paths that the function at the beginning of `code` knows: its patterns, but for those that lead to another function.
fn patterns(code: &str) -> impl Iterator<Item = String> {
    let body = code.lines().take_while(|line| *line != "}");
    let patterns = body.filter_map(|line| line.trim().strip_prefix('[')?.split_once("] =>"));
    let segment = |text: &str| text.strip_prefix('"').map_or("{}", |text| text.trim_end_matches('"')).to_owned();
    patterns.filter(|(pattern, _)| !pattern.ends_with("..")).map(move |(pattern, _)| {
        pattern.split(", ").filter(|text| !text.is_empty()).map(|text| format!("/{}", segment(text))).collect()
    })
}

#[test]
fn each_path_that_there_is_is_described() {
    let code = include_str!("route.rs");
    let mut there_are = BTreeSet::new();
    for (name, beginning) in PARTS {
        let (_, function) = code.split_once(name).expect("it is there");
        there_are.extend(patterns(function).map(|path| format!("{beginning}{path}")));
    }
    assert!(there_are.remove(""), "the page");
    assert!(there_are.contains("/api/projects/{}/workflows/{}/steps/{}/decision"), "{there_are:?}");
    let described = paths().keys().map(|path| shape(path)).filter(|path| path != "/").collect();
    assert_eq!(there_are, described);
}
