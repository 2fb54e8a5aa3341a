use super::*;
use crate::auth::{IdSigner, ServerKeys};

fn signer(master: u8, instance: u8) -> IdSigner {
    ServerKeys::derive(&[master; 32]).id_signer(Instance::from_random([instance; 6]))
}

fn project(text: &str) -> ProjectId {
    ProjectId::parse(text).expect("an id")
}

fn id(signer: &IdSigner, of: &[(&str, u64)]) -> String {
    let mut text = Vec::new();
    signer.write_positions(&mut text, of.iter().map(|(name, seq)| (signer.tag(&project(name)), *seq)));
    String::from_utf8(text).expect("ids are ASCII")
}

fn position(signer: &IdSigner, text: &str, of: &str) -> Option<(u64, bool)> {
    signer.read(text, &project(of)).ok().map(|id| (id.seq(), id.is_ours()))
}

#[test]
fn an_id_names_each_project_and_is_read_back() {
    let ours = signer(1, 1);
    let of = [("a", 0), ("b", 127), ("c", 128), ("d", 1 << 56), ("e", u64::MAX)];
    let text = id(&ours, &of);
    assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b)), "{text}");
    for (name, seq) in of {
        assert_eq!(position(&ours, &text, name), Some((seq, true)), "{name}");
    }
    assert_eq!(position(&ours, &text, "f"), None, "it begins");
}

#[test]
fn an_id_of_as_many_as_may_be_is_some_300_characters() {
    let ours = signer(1, 1);
    let names: Vec<_> = (0..PROJECTS_PER_STREAM_MAX).map(|n| format!("project-{n}")).collect();
    let of = |seq| names.iter().map(|name| (name.as_str(), seq)).collect::<Vec<_>>();
    assert_eq!(id(&ours, &of(2_000_000)).len(), 326);
    assert_eq!(id(&ours, &of(u64::MAX)).len(), 625);
    assert_eq!(position(&ours, &id(&ours, &of(u64::MAX)), &names[31]), Some((u64::MAX, true)));
    assert_eq!(id(&ours, &[]).len(), 27, "of none");
}

#[test]
fn an_id_of_another_instance_is_genuine_and_not_ours() {
    let text = id(&signer(1, 2), &[("a", 7)]);
    assert_eq!(position(&signer(1, 1), &text, "a"), Some((7, false)));
    assert_eq!(position(&signer(2, 2), &text, "a"), None, "of another key");
}

#[test]
fn no_change_of_a_character_stays_genuine() {
    let ours = signer(1, 1);
    let text = id(&ours, &[("a", 7), ("b", 300)]);
    for at in 0..text.len() {
        assert!(ours.read_positions(&text[..at]).is_none(), "cut at {at}");
        for other in ['A', '1', '0', '.', '~', '+', '=', ' ', 'é'] {
            let mut changed: Vec<char> = text.chars().collect();
            if changed[at] == other {
                continue;
            }
            changed[at] = other;
            let changed: String = changed.into_iter().collect();
            assert!(ours.read_positions(&changed).is_none(), "{changed}");
        }
    }
    for bad in [format!("{text}A"), format!("{text}="), format!("{text}.x"), text.replace('~', ""), "..".into()] {
        assert!(ours.read_positions(&bad).is_none(), "{bad}");
    }
}

#[test]
fn an_id_of_one_kind_is_none_of_the_other() {
    let ours = signer(1, 1);
    let mut one = Vec::new();
    ours.write(&mut one, &project("a"), 7);
    let one = String::from_utf8(one).expect("ASCII");
    assert!(ours.read_positions(&one).is_none());
    assert_eq!(position(&ours, &one, "a"), Some((7, true)));
}

#[test]
fn two_projects_of_one_tag_are_nowhere() {
    let ours = signer(1, 1);
    let tag = ours.tag(&project("a"));
    let mut text = Vec::new();
    ours.write_positions(&mut text, [(tag, 7), (tag, 8)].into_iter());
    assert_eq!(position(&ours, str::from_utf8(&text).expect("ASCII"), "a"), Some((7, false)));
}

#[test]
fn signed_positions_of_another_form_are_not_read() {
    let number = |bytes: &[u8]| [&[1, 2, 3, 4][..], bytes].concat();
    for (name, bytes, expected) in [
        ("none", Vec::new(), Some(0)),
        ("one", number(&[5]), Some(1)),
        ("of two digits", number(&[0x80, 1]), Some(1)),
        ("the largest", number(&[&[0xff; 9][..], &[1]].concat()), Some(1)),
        ("a cut tag", vec![1, 2, 3], None),
        ("no number", vec![1, 2, 3, 4], None),
        ("a cut number", number(&[0x80]), None),
        ("a leading zero", number(&[0x80, 0]), None),
        ("one too large", number(&[&[0xff; 9][..], &[2]].concat()), None),
        ("one too long", number(&[&[0xff; 10][..], &[1]].concat()), None),
        ("too many", number(&[5]).repeat(33), None),
    ] {
        assert_eq!(read_entries(&bytes).map(|entries| entries.len()), expected, "{name}");
    }
}
