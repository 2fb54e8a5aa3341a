//! Tokens of all four algorithms, right and wrong.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::Value;

use super::*;
use crate::auth::{Projects, Rights, Scope, Scopes};
use crate::model::ProjectId;

const SECRET: &[u8] = b"a secret of thirty-two bytes or more";
const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// The claims of the tokens below.
const ANN: &str = r#"{"sub":"ann","exp":4102444800,"projects":["p"],"scope":"subscribe run"}"#;

/// Its private half signed [`RS256_TOKEN`] and is gone.
const RS256_KEY: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAzK2jjvbEHNStuvSFoTk4\n\
X89h0PEHY+301BliQBRkKQg1XMGSf4vphx0Ge9ucWHvatxUmr6OD3cHqzNwM8Xxi\n\
7WJvdh1X3i4pc2e6ijeUnQk3tP/BPd80tGsqmHiBGB8dUh+ja60r3xY+DB3A4lxk\n\
JQ0aIRXAovR4ylMU2BmKp0ifows4MPkBwnZcO84FNw+1WJkiOZATbQGj11eQPHkO\n\
vu7ThMJAtuTtKmK6Kcs5euk7J09rN0r3zBA62buLDjnFnQZdQ7TOxeBSeEubiNJV\n\
S5JEGBFPMIE5aMUy7GXZT5GqjnTsWaFqVEjs1cOfYKlHUT1umFhZrRPbmRxdtxtc\n\
1wIDAQAB\n\
-----END PUBLIC KEY-----";

/// Signed by OpenSSL; says what [`ANN`] says.
const RS256_TOKEN: &str = "\
eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDAsInByb2plY3RzIjpbInAiXSw\
ic2NvcGUiOiJzdWJzY3JpYmUgcnVuIn0.Xq8gZdNttS0Xry0UrTAEr5VTZ-gM2hhsFcCfvuxZes1PT8QC__3gJqdLjZEZ9Ex2w61\
sKAeRQDdEjyzg8bhcTKeKyzmZ-rwZXET0yGflOU283zIutXsckawRDp0zwrGluegxZmj_78-wL5cHV3oI2M3FpT9_Sg7ZHA9j-sR\
q-yUXOAraMjqiJU1kvJFXc4OK8muicDbibO2y8SFHFxFRPksx2gnsysyRGGluds3oG8WQBfxzy2Y9zM7OlIjmeeD-vhc9fkP4fnP\
WISQ-un77BAGG527MYdixWhd370DMeGrbs7VP8Nc-XWspGTeURzHtpQvL-Sb-tSQ6xqSXGBMxCA";

/// Its private half signed [`ES256_TOKEN`] and is gone.
const ES256_KEY: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEn6djNa+USg5OTUYQOM6bmldYktZy\n\
1OQnGdonCIjPrS6/gQk+EUgzZIcmep0yxigescsGLA9mOEo9rSLZYGgdgw==\n\
-----END PUBLIC KEY-----";

/// Signed by OpenSSL; says what [`ANN`] says.
const ES256_TOKEN: &str = "\
eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDAsInByb2plY3RzIjpbInAiXSw\
ic2NvcGUiOiJzdWJzY3JpYmUgcnVuIn0.FJK-852nX_wu1PE_BdsriTErGP_acsPdQezqCt-BjDDtAm2bpZqwL7QuDlSTV3kGWF8\
bVtwZnnd_CqGgtszEGQ";

/// Its private half signed [`EDDSA_TOKEN`] and is gone.
const EDDSA_KEY: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MCowBQYDK2VwAyEAlVXvL5/2ZiNxs8yAFt4MSMlS6Vzh+nAbQDF8KvQTJyM=\n\
-----END PUBLIC KEY-----";

/// Signed by OpenSSL; says what [`ANN`] says.
const EDDSA_TOKEN: &str = "\
eyJ0eXAiOiJKV1QiLCJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDAsInByb2plY3RzIjpbInAiXSw\
ic2NvcGUiOiJzdWJzY3JpYmUgcnVuIn0.AZucwCEXJC4m4fAYJjjUV_oqwDXaDOnSJ_a662z0s-Ta1UK1ozS9-zjhmejuaH1N4AH\
E_auIeDJLpn1QkiYfAA";

/// [`RS256_KEY`] in its other form.
const RS256_KEY_PKCS1: &str = "\
-----BEGIN RSA PUBLIC KEY-----\n\
MIIBCgKCAQEAzK2jjvbEHNStuvSFoTk4X89h0PEHY+301BliQBRkKQg1XMGSf4vp\n\
hx0Ge9ucWHvatxUmr6OD3cHqzNwM8Xxi7WJvdh1X3i4pc2e6ijeUnQk3tP/BPd80\n\
tGsqmHiBGB8dUh+ja60r3xY+DB3A4lxkJQ0aIRXAovR4ylMU2BmKp0ifows4MPkB\n\
wnZcO84FNw+1WJkiOZATbQGj11eQPHkOvu7ThMJAtuTtKmK6Kcs5euk7J09rN0r3\n\
zBA62buLDjnFnQZdQ7TOxeBSeEubiNJVS5JEGBFPMIE5aMUy7GXZT5GqjnTsWaFq\n\
VEjs1cOfYKlHUT1umFhZrRPbmRxdtxtc1wIDAQAB\n\
-----END RSA PUBLIC KEY-----";

/// Too short to be trusted.
const RSA_1024_KEY: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCqb4Kl2w03fJTBTZvQudrwbr+i\n\
BfKud+a7EB/tMOGiyLrTIOSxGAC22MYW/soD5pvGXKtB6iQwGmIWx3YItnHRKA04\n\
BkgWdY5dpn8Wh6V+o1HUWt/dOPkd1L0N4LapMdkpqWpnjCOXJB8KXM03+Pvp5+Us\n\
jaXGrnN0imZCnX647QIDAQAB\n\
-----END PUBLIC KEY-----";

/// Of another curve than ES256 has.
const P384_KEY: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEj8WXW0waWK65RMwkaIqNn25P66yH0AnD\n\
ezK/0omrnh7xO6sJg9fXbnbZkHkNaWbkSAzwWaQ9bEO5uQ4N3nNVYD9IKuoNhfu3\n\
fKd4vLP/ecxopWUZnzA48afJZgJ1DcJZ\n\
-----END PUBLIC KEY-----";

fn hs256() -> Verifier {
    verifier(&JwtKey::Hs256 { secret: SECRET.to_vec() })
}

fn verifier(key: &JwtKey) -> Verifier {
    Verifier::new(key, Duration::ZERO).expect("a usable key")
}

fn project(text: &str) -> ProjectId {
    ProjectId::parse(text).expect("an id")
}

/// A token made by hand, whatever its header and claims are.
fn token(header: &str, claims: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn with_claims(claims: &str) -> String {
    token(r#"{"alg":"HS256"}"#, claims)
}

fn each_algorithm() -> [(&'static str, JwtKey, String); 4] {
    let [rs256, es256, ed_dsa] = [RS256_KEY, ES256_KEY, EDDSA_KEY].map(str::to_owned);
    [
        ("HS256", JwtKey::Hs256 { secret: SECRET.to_vec() }, with_claims(ANN)),
        ("RS256", JwtKey::Rs256 { public_key: rs256 }, RS256_TOKEN.to_owned()),
        ("ES256", JwtKey::Es256 { public_key: es256 }, ES256_TOKEN.to_owned()),
        ("EdDSA", JwtKey::EdDsa { public_key: ed_dsa }, EDDSA_TOKEN.to_owned()),
    ]
}

#[test]
fn a_token_of_each_algorithm_stands_for_its_sub() {
    for (name, key, token) in each_algorithm() {
        let verifier = verifier(&key);
        for round in ["checked", "remembered"] {
            let ann = verifier.verify(&token, NOW).unwrap_or_else(|error| panic!("{name}, {round}: {error}"));
            assert_eq!((ann.sub(), ann.expires_at()), ("ann", Some(Timestamp::from_millis(4_102_444_800_000))));
            assert!(
                ann.require_in(Scope::Subscribe, &project("p")).is_ok()
                    && ann.require_in(Scope::Run, &project("p")).is_ok(),
                "{name}"
            );
            assert!(!ann.has_scope(Scope::Publish) && !ann.sees(&project("q")), "{name}");
        }
    }
}

#[test]
fn a_token_is_taken_by_its_own_algorithm_alone() {
    for (_, key, _) in each_algorithm() {
        for (name, other, token) in each_algorithm() {
            let expected = (format!("{key:?}") != format!("{other:?}")).then_some(AuthError::TokenAlgorithm);
            assert_eq!(verifier(&key).verify(&token, NOW).err(), expected, "{name} for {key:?}");
        }
    }
}

#[test]
fn a_token_with_any_character_changed_is_refused() {
    for (name, key, token) in each_algorithm() {
        let verifier = verifier(&key);
        verifier.verify(&token, NOW).expect("right as it is, and remembered");
        for at in (0..token.len()).step_by(7).chain([token.len() - 1]) {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            let status = verifier.verify(&changed, NOW).map_err(|error| error.status());
            assert_eq!(status.err(), Some(401), "{name} changed at {at}");
        }
    }
}

#[test]
fn a_public_key_is_no_hmac_secret() {
    let message = with_claims(ANN);
    let message = message.rsplit_once('.').expect("three parts").0;
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, RS256_KEY.as_bytes()), message.as_bytes());
    let forged = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag));
    let verifier = verifier(&JwtKey::Rs256 { public_key: RS256_KEY.to_owned() });
    assert_eq!(verifier.verify(&forged, NOW), Err(AuthError::TokenAlgorithm));
}

#[test]
fn a_header_must_name_the_algorithm() {
    let unsigned = |header: &str| {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(ANN));
        format!("{message}.")
    };
    for (name, token, expected) in [
        ("none, unsigned", unsigned(r#"{"alg":"none"}"#), AuthError::TokenAlgorithm),
        ("none, signed", token(r#"{"alg":"none"}"#, ANN), AuthError::TokenAlgorithm),
        ("None", token(r#"{"alg":"None"}"#, ANN), AuthError::TokenAlgorithm),
        ("in lower case", token(r#"{"alg":"hs256"}"#, ANN), AuthError::TokenAlgorithm),
        ("a sibling", token(r#"{"alg":"HS512"}"#, ANN), AuthError::TokenAlgorithm),
        ("missing", token(r#"{"typ":"JWT"}"#, ANN), AuthError::TokenAlgorithm),
        ("twice", token(r#"{"alg":"HS256","alg":"HS256"}"#, ANN), AuthError::TokenAlgorithm),
        ("unsigned", unsigned(r#"{"alg":"HS256"}"#), AuthError::TokenSignature),
        ("extensions", token(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, ANN), AuthError::TokenMalformed),
        ("no JSON", token("alg", ANN), AuthError::TokenMalformed),
    ] {
        assert_eq!(hs256().verify(&token, NOW), Err(expected), "{name}");
    }
}

#[test]
fn what_is_no_token_is_malformed() {
    for bad in ["", ".", "..", "...", "a.b", "a.b.c", "a.b.c.d", "é.é.é", &format!("{}=", with_claims(ANN))] {
        let error = hs256().verify(bad, NOW).expect_err(bad);
        assert!(matches!(error, AuthError::TokenMalformed | AuthError::TokenSignature), "{bad:?}: {error:?}");
    }
    assert_eq!(hs256().verify(&"a".repeat(TOKEN_BYTES_MAX + 1), NOW), Err(AuthError::TokenTooLong));
}

#[test]
fn sub_and_exp_are_required_and_every_claim_has_its_type() {
    for (claims, mentions) in [
        (r#"{"exp":4102444800}"#, "sub"),
        (r#"{"sub":"a"}"#, "exp"),
        (r#"{"sub":"","exp":4102444800}"#, "sub"),
        (r#"{"sub":1,"exp":4102444800}"#, "integer"),
        (r#"{"sub":"a","exp":"4102444800"}"#, "string"),
        (r#"{"sub":"a","exp":null}"#, "null"),
        (r#"{"sub":"a","exp":4102444800,"exp":4102444800}"#, "duplicate"),
        (r#"{"sub":"a","exp":4102444800,"nbf":"0"}"#, "string"),
        (r#"{"sub":"a","exp":4102444800,"projects":3}"#, "projects: expected an array of strings"),
        (r#"{"sub":"a","exp":4102444800,"projects":[1]}"#, "projects: expected an array of strings"),
        (r#"{"sub":"a","exp":4102444800,"projects":["p","a/b"]}"#, "project"),
        (r#"{"sub":"a","exp":4102444800,"projects":[""]}"#, "project"),
        (r#"{"sub":"a","exp":4102444800,"scope":{"run":true}}"#, "scope: expected an array of strings"),
        ("[]", "length"),
        (r#"["a",4102444800,null,null,null]"#, "expected an object"),
        ("x", "expected"),
    ] {
        match hs256().verify(&with_claims(claims), NOW) {
            Err(AuthError::TokenClaims(why)) => assert!(why.contains(mentions), "{claims}: {why}"),
            other => panic!("{claims}: {other:?}"),
        }
    }
}

#[test]
fn claims_become_rights() {
    for (claims, scopes, sees_p, sees_q) in [
        (r#""projects":["*"]"#, "subscribe", true, true),
        (r#""projects":["p","*"],"scope":"admin""#, "admin", true, true),
        (r#""projects":["p"],"scope":"""#, "", true, false),
        (r#""projects":[],"scope":"run other publish""#, "publish run", false, false),
        (r#""aud":"somebody","iss":"idp","iat":1"#, "subscribe", false, false),
    ] {
        let token = with_claims(&format!(r#"{{"sub":"a","exp":4102444800,{claims}}}"#));
        let principal = hs256().verify(&token, NOW).expect(claims);
        for scope in [Scope::Subscribe, Scope::Publish, Scope::Run, Scope::Admin] {
            assert_eq!(principal.has_scope(scope), Scopes::parse(scopes).has(scope), "{claims}: {scope}");
        }
        assert_eq!((principal.sees(&project("p")), principal.sees(&project("q"))), (sees_p, sees_q), "{claims}");
    }
}

#[test]
fn a_token_is_good_from_nbf_until_exp_give_or_take_the_leeway() {
    let times = r#"{"sub":"a","nbf":1699999990,"exp":1700000000.5}"#;
    let (from, until) = (1_699_999_990_000_u64, 1_700_000_000_500_u64);
    for leeway_ms in [0, 5_000] {
        let key = JwtKey::Hs256 { secret: SECRET.to_vec() };
        let verifier = Verifier::new(&key, Duration::from_millis(leeway_ms)).expect("a usable key");
        let verify = |ms| verifier.verify(&with_claims(times), Timestamp::from_millis(ms));
        assert_eq!(verify(until + leeway_ms), Err(AuthError::TokenExpired));
        assert_eq!(verify(from - leeway_ms - 1), Err(AuthError::TokenNotYetValid));
        assert!(verify(from - leeway_ms).is_ok());
        assert!(verify(until + leeway_ms - 1).is_ok(), "remembered");
        assert_eq!(verify(until + leeway_ms), Err(AuthError::TokenExpired), "remembered, and over");
    }
}

#[test]
fn an_exp_in_milliseconds_was_good_for_thousands_of_years() {
    for exp in ["4102444800000", "253402300800", "1e300", "18446744073709551615"] {
        let token = with_claims(&format!(r#"{{"sub":"a","exp":{exp}}}"#));
        let error = hs256().verify(&token, NOW).expect_err(exp);
        assert!(
            matches!(&error, AuthError::TokenClaims(why) if why.contains("expected seconds since 1970")),
            "{error}"
        );
    }
    for (exp, is_good) in [("253402300799", true), ("0", false), ("-1", false), ("-1e300", false)] {
        let token = with_claims(&format!(r#"{{"sub":"a","exp":{exp}}}"#));
        assert_eq!(hs256().verify(&token, NOW).is_ok(), is_good, "{exp}");
    }
}

#[test]
fn a_token_key_is_the_tokens_own() {
    let key = |token: &str| hs256().verify(token, NOW).expect("right").token_key().expect("of a token");
    let other = with_claims(r#"{"sub":"bob","exp":4102444800}"#);
    assert_eq!(key(&with_claims(ANN)), key(&with_claims(ANN)));
    assert_ne!(key(&with_claims(ANN)), key(&other));
}

#[test]
fn what_the_command_line_signs_verifies() {
    let scopes = Scopes::of(&[Scope::Run, Scope::Publish]);
    for projects in [Projects::All, Projects::only(vec![project("p")])] {
        let rights = Rights { scopes, projects: projects.clone() };
        let token = sign_hs256("ann", NOW.plus_millis(1_999), &rights, &ClaimRules::default(), SECRET).expect("signed");
        let ann = hs256().verify(&token, NOW).expect("verified");
        assert_eq!((ann.sub(), ann.expires_at(), ann.projects()), ("ann", Some(NOW.plus_millis(1_000)), &projects));
        assert!(ann.has_scope(Scope::Run) && ann.has_scope(Scope::Publish) && !ann.has_scope(Scope::Subscribe));
        let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok()).expect("claims");
        let claims: Value = serde_json::from_slice(&claims).expect("JSON");
        assert!(claims["exp"].is_u64(), "a whole number, which every reader of JWTs takes");
    }
}

#[test]
fn a_key_that_is_none_is_named_at_once() {
    let rsa = |public_key: &str| JwtKey::Rs256 { public_key: public_key.to_owned() };
    let ec = |public_key: &str| JwtKey::Es256 { public_key: public_key.to_owned() };
    let ed = |public_key: &str| JwtKey::EdDsa { public_key: public_key.to_owned() };
    let private = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----";
    for (key, expected) in [
        (rsa(RS256_KEY), ""),
        (rsa(RS256_KEY_PKCS1), ""),
        (JwtKey::Hs256 { secret: vec![b'x'; 32] }, ""),
        (JwtKey::Hs256 { secret: vec![b'x'; 31] }, "the JWT secret has 31 bytes; expected at least 32"),
        (rsa(RSA_1024_KEY), "2048"),
        (rsa(ES256_KEY), "RSA"),
        (rsa("x"), "RSA"),
        (rsa("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----"), "RSA"),
        (ec(P384_KEY), "P-256"),
        (ec(RS256_KEY_PKCS1), "P-256"),
        (ed(ES256_KEY), "Ed25519"),
        (ed(""), "Ed25519"),
        (ed(private), "private key"),
    ] {
        let verdict = Verifier::new(&key, Duration::ZERO).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(verdict.contains(expected) && verdict.is_empty() == expected.is_empty(), "{key:?}: {verdict}");
    }
}

#[test]
fn an_rsa_key_verifies_in_either_form() {
    assert!(verifier(&JwtKey::Rs256 { public_key: RS256_KEY_PKCS1.to_owned() }).verify(RS256_TOKEN, NOW).is_ok());
}
