//! Webhooks, read whole, and what is wrong with some.

use super::from_file;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn said(toml: &str) -> String {
    match from_file(toml) {
        Ok(config) => format!("{} fine", config.webhooks.len()),
        Err(issues) => issues.join("\n"),
    }
}

fn webhook(more: &str) -> String {
    format!("[[webhooks]]\nname = \"a\"\nurl = \"https://a.example/hunter2\"\n{more}\n")
}

#[test]
fn a_webhook_is_read_with_what_it_says_and_defaults_for_the_rest() {
    let whole = format!(
        "{}{}",
        webhook(&format!("secret = {SECRET:?}")),
        webhook(&format!(
            "secret = [{SECRET:?}, {SECRET:?}]\nevents = [\"run.failed\"]\nprojects = [\"p\", \"q\"]\n\
             headers = {{ X-Key = \"k\" }}\ntimeout = \"5s\"\nretry = [\"1s\", \"2m\"]\nallow_hosts = [\"b.example\"]"
        ))
        .replace("name = \"a\"", "name = \"b\"")
    );
    let config = from_file(&whole).unwrap_or_else(|issues| panic!("{issues:?}"));
    let [a, b] = &config.webhooks[..] else { panic!("{:?}", config.webhooks) };
    assert_eq!((a.name.as_str(), a.events.len(), a.retry.len(), a.projects.is_none()), ("a", 3, 9, true));
    assert_eq!((b.events.len(), b.projects.as_ref().map(Vec::len), b.secrets.len()), (1, Some(2), 2));
    assert_eq!((b.timeout.as_secs(), b.retry[1].as_secs(), b.headers.len()), (5, 120, 1));
}

#[test]
fn every_mistake_is_named_with_its_line_and_shows_no_secret() {
    for (toml, expected) in [
        (
            webhook(""),
            "stepcast.toml:1: webhooks[0].secret: missing; expected a secret that begins with whsec_, or a list of such secrets",
        ),
        (
            webhook("secret = \"hunter2\""),
            "stepcast.toml:4: webhooks[0].secret: expected whsec_ followed by 24 to 64 bytes in base64",
        ),
        (
            webhook("secret = 7"),
            "stepcast.toml:4: webhooks[0].secret: expected a secret that begins with whsec_, or a list of such secrets",
        ),
        (
            webhook(&format!("secret = {SECRET:?}\nevents = [\"run.started\"]")),
            "stepcast.toml:5: webhooks[0].events: expected a list of these: run.completed, run.failed, run.cancelled, step.waiting",
        ),
        (
            webhook(&format!("secret = {SECRET:?}\nprojects = [\"*\", \"p\"]")),
            "stepcast.toml:5: webhooks[0].projects: expected a list of project ids, or [\"*\"]",
        ),
        (
            webhook(&format!("secret = {SECRET:?}\nretry = [\"soon\"]")),
            "stepcast.toml:5: webhooks[0].retry: expected a list of durations such as 5s, 5m or 2h",
        ),
        (
            webhook(&format!("secret = {SECRET:?}\nurls = \"x\"")),
            "stepcast.toml:5: unknown key webhooks[0].urls; did you mean webhooks[0].url?",
        ),
        (
            webhook(&format!("secret = {SECRET:?}\nheaders = {{ Host = \"x\" }}")),
            "stepcast.toml:5: webhooks[0].headers.Host: this header cannot be set",
        ),
        (
            webhook(&format!("secret = {SECRET:?}")).repeat(2),
            "stepcast.toml:5: webhooks[1].name: another webhook already has this name",
        ),
        (
            webhook(&format!("secret = {SECRET:?}")).replace("https", "http"),
            "stepcast.toml:3: webhooks[0].url: expected https://, or http:// to this machine, or its server listed in allow_hosts",
        ),
        (
            "webhooks = 7".to_owned(),
            "stepcast.toml:1: webhooks: expected a list of tables (write [[webhooks]]), found an integer",
        ),
    ] {
        assert_eq!(said(&toml), expected, "{toml}");
    }
}
