//! Key sets, good and bad.

use serde_json::json;

use super::*;

/// A modulus of 2048 bits.
const N: &str = "\
zK2jjvbEHNStuvSFoTk4X89h0PEHY-301BliQBRkKQg1XMGSf4vphx0Ge9ucWHvatxUmr6OD3cHqzNwM8Xxi7WJvdh1X3i4pc2e6ijeUnQk3tP_BPd80tGsq\
mHiBGB8dUh-ja60r3xY-DB3A4lxkJQ0aIRXAovR4ylMU2BmKp0ifows4MPkBwnZcO84FNw-1WJkiOZATbQGj11eQPHkOvu7ThMJAtuTtKmK6Kcs5euk7J09r\
N0r3zBA62buLDjnFnQZdQ7TOxeBSeEubiNJVS5JEGBFPMIE5aMUy7GXZT5GqjnTsWaFqVEjs1cOfYKlHUT1umFhZrRPbmRxdtxtc1w";

/// One of 1024.
const SHORT_N: &str = "\
qm-CpdsNN3yUwU2b0Lna8G6_ogXyrnfmuxAf7TDhosi60yDksRgAttjGFv7KA-abxlyrQeokMBpiFsd2CLZx0SgNOAZIFnWOXaZ_FoelfqNR1Frf3Tj5HdS9\
DeC2qTHZKalqZ4wjlyQfClzNN_j76eflLI2lxq5zdIpmQp1-uO0";

const X: &str = "n6djNa-USg5OTUYQOM6bmldYktZy1OQnGdonCIjPrS4";
const Y: &str = "v4EJPhFIM2SHJnqdMsYoHrHLBiwPZjhKPa0i2WBoHYM";

fn rsa(n: &str, e: &str) -> Value {
    json!({"kty": "RSA", "kid": "k", "n": n, "e": e})
}

fn with(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

fn ed() -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": X})
}

fn read(keys: &[Value]) -> Result<ReadKeySet, String> {
    KeySet::read(json!({"keys": keys}).to_string().as_bytes())
}

#[test]
fn a_key_is_for_one_algorithm_or_is_ignored_by_name() {
    let ec = || json!({"kty": "EC", "crv": "P-256", "kid": "k", "x": X, "y": Y});
    for (jwk, expected) in [
        (rsa(N, "AQAB"), Ok("RS256")),
        (with(rsa(N, "AQAB"), "alg", json!("RS256")), Ok("RS256")),
        (with(rsa(N, "AQAB"), "use", json!("sig")), Ok("RS256")),
        (with(rsa(N, "AQAB"), "key_ops", json!(["verify"])), Ok("RS256")),
        (with(rsa(N, "AQAB"), "x5c", json!(["MIIC"])), Ok("RS256")),
        (rsa(&format!("AAAA{N}"), "AAAAAQAB"), Ok("RS256")),
        (ec(), Ok("ES256")),
        (ed(), Ok("EdDSA")),
        (with(ed(), "alg", json!("EdDSA")), Ok("EdDSA")),
        (rsa(SHORT_N, "AQAB"), Err("the key \"k\" is ignored: it has 1024 bits; expected 2048 to 8192")),
        (rsa(&"f".repeat(1400), "AQAB"), Err("it has 8399 bits")),
        (rsa("", "AQAB"), Err("it has 0 bits")),
        (rsa(N, "AQ"), Err("its e is not a safe exponent")),
        (rsa(N, "Ag"), Err("its e is not a safe exponent")),
        (rsa(N, ""), Err("its e is not a safe exponent")),
        (rsa(N, "AQAAAAE"), Err("its e is not a safe exponent")),
        (rsa("a+b/", "AQAB"), Err("its n is not URL-safe base64")),
        (rsa(&format!("{N}=="), "AQAB"), Err("its n is not URL-safe base64")),
        (with(rsa(N, "AQAB"), "n", Value::Null), Err("it has no n")),
        (with(rsa(N, "AQAB"), "n", json!(3)), Err("invalid type")),
        (with(rsa(N, "AQAB"), "use", json!("enc")), Err("its use is \"enc\", not \"sig\"")),
        (with(rsa(N, "AQAB"), "key_ops", json!(["sign"])), Err("its key_ops do not include \"verify\"")),
        (with(rsa(N, "AQAB"), "alg", json!("RSA-OAEP")), Err("its alg is \"RSA-OAEP\"; expected RS256")),
        (with(rsa(N, "AQAB"), "alg", json!("HS256")), Err("its alg is \"HS256\"")),
        (with(rsa(N, "AQAB"), "alg", json!("ES256")), Err("its alg is \"ES256\"")),
        (with(ec(), "alg", json!("RS256")), Err("its alg is \"RS256\"; expected ES256")),
        (with(rsa(N, "AQAB"), "d", json!("AQAB")), Err("it is a private key")),
        (with(ed(), "d", json!(X)), Err("it is a private key")),
        (with(ec(), "crv", json!("P-384")), Err("its kty and crv are \"EC\" and \"P-384\"")),
        (with(ec(), "x", json!("AQAB")), Err("its x does not have 32 bytes")),
        (with(ec(), "y", Value::Null), Err("it has no y")),
        (with(ed(), "crv", json!("X25519")), Err("\"X25519\"")),
        (with(ed(), "crv", json!("Ed448")), Err("\"Ed448\"")),
        (with(ed(), "crv", Value::Null), Err("its kty is \"OKP\"")),
        (json!({"kty": "oct", "kid": "k", "k": X}), Err("it is a symmetric secret")),
        (json!({"kty": "oct", "kid": "k", "k": X, "alg": "HS256"}), Err("it is a symmetric secret")),
        (json!({"kty": "rsa", "n": N, "e": "AQAB"}), Err("keys[0] is ignored: its kty is \"rsa\"")),
        (json!({"kid": "k\n"}), Err("the key \"k\\n\" is ignored: missing field `kty`")),
        (json!(["RSA"]), Err("keys[0] is ignored: it is not an object")),
        (json!(1), Err("keys[0] is ignored: it is not an object")),
    ] {
        // A good one beside it is taken in any case.
        let set = read(&[jwk.clone(), with(ed(), "kid", json!("other"))]).expect("has a good key");
        let found = match set.ignored.as_slice() {
            [] => Ok(format!("{:?}", set.keys.keys[0].public.algorithm())),
            [why] => Err(why.clone()),
            several => panic!("{several:?}"),
        };
        match (&found, expected) {
            (Ok(algorithm), Ok(expected)) => assert_eq!(algorithm, expected, "{jwk}"),
            (Err(why), Err(part)) => assert!(why.contains(part), "{jwk}: {why}"),
            _ => panic!("{jwk}: {found:?}"),
        }
    }
}

#[test]
fn of_two_keys_of_one_name_and_algorithm_the_first_counts() {
    let other = with(ed(), "x", json!(Y));
    let set = read(&[ed(), other, with(rsa(N, "AQAB"), "kid", json!("ed"))]).expect("has good keys");
    assert_eq!(set.ignored, ["the key \"ed\" is ignored: an earlier key has the same kid"]);
    assert_eq!(set.keys.to_string(), "2 keys: \"ed\" (EdDSA), \"ed\" (RS256)");
    let unnamed = json!({"kty": "OKP", "crv": "Ed25519", "x": X});
    let set = read(&[unnamed.clone(), unnamed]).expect("has good keys");
    assert_eq!(
        (set.keys.to_string().as_str(), set.ignored.len()),
        ("2 keys: one without kid (EdDSA), one without kid (EdDSA)", 0)
    );
}

#[test]
fn a_document_that_is_no_set_is_refused_whole() {
    let too_many = json!({"keys": vec![ed(); JWKS_KEYS_MAX + 1]}).to_string();
    let too_large = format!("{{\"keys\": [], \"x\": \"{}\"}}", "x".repeat(JWKS_BYTES_MAX));
    for (document, part) in [
        ("", "not a JSON Web Key Set: EOF"),
        ("<html>", "not a JSON Web Key Set: expected value"),
        ("[]", "not a JSON Web Key Set"),
        ("{}", "missing field `keys`"),
        (r#"{"keys": {}}"#, "not a JSON Web Key Set"),
        (r#"{"keys": []}"#, "the key set has no usable key"),
        (r#"{"keys": [1, 2]}"#, "no usable key: keys[0] is ignored: it is not an object (and 1 more)"),
        (&too_many, "too many keys (limit 100, not configurable)"),
        (&too_large, "too large (limit 262144 bytes, not configurable)"),
    ] {
        let refused = KeySet::read(document.as_bytes()).expect_err("is refused");
        assert!(refused.contains(part), "{refused}");
    }
}
