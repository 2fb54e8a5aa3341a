//! Properties of credentials from untrusted clients, and of valid but unusual ones, for the fuzzer and for the tests of
//! its corpus. A fuzzer can't guess signatures, so its input is also signed here.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac::{HMAC_SHA256, Key, sign};
use serde_json::json;

use super::{
    AuthError, ClaimRules, Hosts, IdSigner, Instance, JwtKey, KeySet, Origins, Principal, Scope, TicketKey, Verdict,
    Verifier, bearer, mac,
};
use crate::model::{ProjectId, Timestamp};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A message id as it comes in `Last-Event-ID`, and what stands before its signature.
pub fn message_id(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let key = Key::new(HMAC_SHA256, SECRET);
    let signer = IdSigner::new(key.clone(), key.clone(), Instance::from_random([1; 6]));
    let project = ProjectId::parse("p").expect("an id");
    check_id(&signer, &project, text);
    if let Some((instance, positions)) = text.split_once(".~")
        && let Ok(bytes) = URL_SAFE_NO_PAD.decode(positions)
    {
        let tag: [u8; 12] = mac::tag(&key, &[b"p", instance.as_bytes(), &bytes]);
        check_positions(&signer, &format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag)));
    }

    let Some((instance, seq)) = text.split_once('.') else { return };
    let (Some(_), Ok(number)) = (Instance::parse(instance), seq.parse::<u64>()) else { return };
    let tag: [u8; 12] = mac::tag(&key, &[&number.to_be_bytes(), instance.as_bytes(), b"p"]);
    let signed = format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag));
    assert_eq!(check_id(&signer, &project, &signed), number.to_string() == seq, "{signed}");
}

/// Positions that are read are written as the same text again.
fn check_positions(signer: &IdSigner, text: &str) {
    let Some(positions) = signer.read_positions(text) else { return };
    let mut written = Vec::new();
    signer.write_positions(&mut written, positions.entries());
    assert!(!positions.is_ours() || written == text.as_bytes(), "{text} is read as another id");
}

/// Is `text` genuine? If it is this server's, it is the one text that the server writes for that position.
fn check_id(signer: &IdSigner, project: &ProjectId, text: &str) -> bool {
    let Ok(id) = signer.read(text, project) else { return false };
    let mut written = Vec::new();
    signer.write(&mut written, project, id.seq());
    assert!(!id.is_ours() || text.contains('~') || written == text.as_bytes(), "{text} is read as another id");
    true
}

/// A ticket as it comes in the query, and the content of one.
pub fn ticket(bytes: &[u8]) {
    let key = Key::new(HMAC_SHA256, SECRET);
    let tickets = TicketKey::new(key.clone());
    if let Ok(text) = str::from_utf8(bytes) {
        check_ticket(&tickets, text);
    }
    let tag: [u8; 16] = mac::tag(&key, &[bytes]);
    check_ticket(&tickets, &URL_SAFE_NO_PAD.encode([bytes, &tag].concat()));
}

/// A ticket that opens lets watch, no more, and can be issued again.
fn check_ticket(tickets: &TicketKey, text: &str) {
    let Some(ticket) = tickets.open(text) else { return };
    let may = |scope| ticket.principal.has_scope(scope);
    assert!(may(Scope::Subscribe) && !may(Scope::Publish) && !may(Scope::Run) && !may(Scope::Admin));
    assert_eq!(ticket.principal.is_expired(NOW), NOW >= ticket.ends_at());
    let again = tickets.issue(&ticket.principal, &[], ticket.issued_at, [0; 16]).expect("it fitted before");
    let again = tickets.open(&again).expect("it was just issued");
    assert_eq!((&again.principal, again.issued_at), (&ticket.principal, ticket.issued_at));
}

/// A token as it comes in `Authorization`, and the header and claims of one, with a line end between the two.
pub fn jwt(bytes: &[u8]) {
    let key = JwtKey::Hs256 { secret: SECRET.to_vec() };
    let verifier = Verifier::new(&key, Duration::from_secs(1)).expect("a long secret");
    if let Ok(text) = str::from_utf8(bytes)
        && let Some(token) = bearer(text)
    {
        check_token(&verifier, token);
    }
    let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
    let (header, claims) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    let content = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = sign(&Key::new(HMAC_SHA256, SECRET), content.as_bytes());
    let token = format!("{content}.{}", URL_SAFE_NO_PAD.encode(signature));
    if let Some(principal) = check_token(&verifier, &token) {
        let is = |json: &[u8], name: &str, text: &str| {
            // What is skipped need not be a value here; see `api::fuzz::publish`.
            let value: Option<serde_json::Value> = serde_json::from_slice(json).ok();
            value.is_none_or(|value| value[name] == text)
        };
        assert!(is(header, "alg", "HS256") && is(claims, "sub", principal.sub()));
    }
    let unsigned = check_token(&verifier, &format!("{content}."));
    assert!(unsigned.is_none(), "an unsigned token is taken");
}

/// Whom a token stands for: somebody with a name, until a moment that is yet to come and not a millisecond longer.
fn check_token(verifier: &Verifier, token: &str) -> Option<Principal> {
    let verdict = verifier.verify(token, NOW);
    assert_eq!(verifier.verify(token, NOW), verdict, "remembering it changes nothing");
    let principal = match verdict {
        Ok(principal) => principal,
        Err(error) => {
            assert_eq!(error.status(), 401);
            return None;
        }
    };
    assert!(!principal.sub().is_empty() && !principal.is_expired(NOW));
    let end = principal.expires_at().expect("a token ends");
    assert_eq!(verifier.verify(token, end), Err(AuthError::TokenExpired));
    Some(principal)
}

/// What an identity provider publishes: whatever is taken is a public key, of the one algorithm that its kind is for, and no
/// token that is signed with what everyone can read is let in.
pub fn key_set(bytes: &[u8]) {
    let Ok(read) = KeySet::read(bytes) else { return };
    let shown = format!("{} {}", read.keys, read.ignored.join(" "));
    assert!(!shown.chars().any(char::is_control), "{shown:?} is no line of a log");
    let again = KeySet::read(bytes).expect("it was read before");
    assert_eq!(again, read);
    let mut verifier = Verifier::awaiting_keys(ClaimRules::default());
    for key in read.keys.keys.iter().map(|key| json!({"alg": "HS256", "kid": key.kid})).chain([json!({"alg": "HS256"})])
    {
        let content = format!("{}.{}", URL_SAFE_NO_PAD.encode(key.to_string()), URL_SAFE_NO_PAD.encode(b"{}"));
        let signature = sign(&Key::new(HMAC_SHA256, bytes), content.as_bytes());
        let token = format!("{content}.{}", URL_SAFE_NO_PAD.encode(signature));
        verifier.replace_keys(read.keys.clone());
        let verdict = verifier.verify(&token, NOW);
        assert!(matches!(verdict, Err(AuthError::TokenAlgorithm | AuthError::TokenTooLong)), "{token}: {verdict:?}");
    }
}

/// A page's origin, and the host that it calls.
pub fn origin(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (origin, host) = text.split_once('\n').unwrap_or((text, "h"));
    let listed = "https://a.example:8443";
    for list in [&[][..], &[listed], &["*", listed]] {
        let origins = Origins::new(list).expect("origins");
        let verdict = origins.judge(Some(origin), Some(host), &Hosts::any());
        match verdict {
            Verdict::Listed(echoed) => assert!(echoed == origin && echoed.eq_ignore_ascii_case(listed)),
            Verdict::SameOrigin => assert!(origin.to_ascii_lowercase().contains(&bare(host))),
            Verdict::Any => assert!(list.contains(&"*")),
            Verdict::Denied | Verdict::NoOrigin => assert!(!list.contains(&"*")),
        }
        let credentials = ("Access-Control-Allow-Credentials", "true".into());
        assert_eq!(origins.headers(verdict).contains(&credentials), matches!(verdict, Verdict::Listed(_)));
    }
    if let Ok(origins) = Origins::new(&[text])
        && bare(text) == text.to_ascii_lowercase()
    {
        assert!(
            matches!(origins.judge(Some(text), None, &Hosts::any()), Verdict::Listed(_) | Verdict::Any),
            "{text} is not itself"
        );
    }
}

/// In lower case, without a port that goes without saying.
fn bare(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    host.strip_suffix(":80").or(host.strip_suffix(":443")).unwrap_or(&host).to_owned()
}
