//! Reads the keys that an identity provider publishes, a JSON Web Key Set (RFC 7517), and checks each key.
//!
//! Each accepted key is for exactly one algorithm, and only public keys are accepted: the set is fetched over a
//! network, and knowing it must not allow anyone to sign tokens. An unusable key does not affect the others.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::model::Quoted;

/// The largest set, in bytes. A key with its certificates is some 3 KiB.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;

/// The most keys in a set, good or not.
pub const JWKS_KEYS_MAX: usize = 100;

/// Bits that the modulus of an RSA key may have; `ring` takes no others.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The longest public exponent, in bytes; `ring` takes none over 33 bits.
const RSA_EXPONENT_BYTES_MAX: usize = 4;

/// A coordinate of P-256, and an Ed25519 key.
const FIELD_BYTES: usize = 32;

/// How much is said of why a document or a key can't be read, in bytes.
const ERROR_BYTES_MAX: usize = 200;

/// Keys to verify with. Two sets are the same where they let the same tokens in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySet {
    /// At least one.
    pub(in crate::auth) keys: Vec<PublishedKey>,
}

/// A set as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadKeySet {
    /// What can be used.
    pub keys: KeySet,
    /// What can't, a sentence each with the key's name and why.
    pub ignored: Vec<String>,
}

/// A public key, and the one algorithm that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::auth) struct PublishedKey {
    /// What tokens name it by.
    pub(in crate::auth) kid: Option<String>,
    pub(super) public: PublicKey,
}

/// What `ring` verifies with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::auth) enum PublicKey {
    /// Modulus and exponent, big-endian, without leading zeros.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point of P-256.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl KeySet {
    /// Reads a set.
    ///
    /// # Errors
    /// If it is too large, is no set, or has no key that can be used: then with why each can't.
    pub fn read(document: &[u8]) -> Result<ReadKeySet, String> {
        if document.len() > JWKS_BYTES_MAX {
            return Err(format!("the key set is too large (limit {JWKS_BYTES_MAX} bytes, not configurable)"));
        }
        let Document { keys: found } = serde_json::from_slice(document)
            .map_err(|error| cut(format!("the document is not a JSON Web Key Set: {error}")))?;
        if found.len() > JWKS_KEYS_MAX {
            return Err(format!("the key set has too many keys (limit {JWKS_KEYS_MAX}, not configurable)"));
        }
        let (mut keys, mut ignored) = (Vec::<PublishedKey>::new(), Vec::new());
        for (at, jwk) in found.iter().enumerate() {
            match read_key(jwk) {
                Ok(key) if keys.iter().any(|known| known.is_named_as(&key)) => {
                    ignored.push(format!("{} is ignored: an earlier key has the same kid", name(jwk, at)));
                }
                Ok(key) => keys.push(key),
                Err(why) => ignored.push(format!("{} is ignored: {why}", name(jwk, at))),
            }
        }
        if keys.is_empty() {
            return Err(format!("the key set has no usable key{}", because(&ignored)));
        }
        Ok(ReadKeySet { keys: Self { keys }, ignored })
    }
}

/// How many, and each with its algorithm: `2 keys: "a" (RS256), "b" (ES256)`.
impl fmt::Display for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.keys.len();
        write!(f, "{count} {}", if count == 1 { "key: " } else { "keys: " })?;
        for (at, key) in self.keys.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            match &key.kid {
                Some(kid) => write!(f, "{comma}{} ({:?})", Quoted(kid), key.public.algorithm())?,
                None => write!(f, "{comma}one without kid ({:?})", key.public.algorithm())?,
            }
        }
        Ok(())
    }
}

impl PublishedKey {
    /// Could no token tell the two apart?
    fn is_named_as(&self, other: &Self) -> bool {
        self.kid.is_some() && self.kid == other.kid && self.public.algorithm() == other.public.algorithm()
    }
}

impl PublicKey {
    /// The one algorithm that it is for.
    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa { .. } => Algorithm::RS256,
            Self::P256(_) => Algorithm::ES256,
            Self::Ed25519(_) => Algorithm::EdDSA,
        }
    }

    /// As `jsonwebtoken` takes it.
    pub(super) fn decoding_key(&self) -> DecodingKey {
        match self {
            Self::Rsa { n, e } => DecodingKey::from_rsa_raw_components(n, e),
            Self::P256(point) => DecodingKey::from_ec_der(point),
            Self::Ed25519(bytes) => DecodingKey::from_ed_der(bytes),
        }
    }
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// What of a JWK is looked at.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// The private half of any kind of key.
    d: Option<Value>,
}

fn read_key(jwk: &Value) -> Result<PublishedKey, String> {
    // A list could be read as a struct too, which nobody means.
    let members = jwk.as_object().ok_or("it is not an object")?;
    let jwk = Jwk::deserialize(members).map_err(|error| cut(error.to_string()))?;
    if let Some(purpose) = jwk.purpose.as_ref().filter(|purpose| *purpose != "sig") {
        return Err(format!("its use is {}, not \"sig\"", Quoted(purpose)));
    }
    if jwk.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
        return Err("its key_ops do not include \"verify\"".to_owned());
    }
    if jwk.d.is_some() {
        return Err("it is a private key, which must not be published".to_owned());
    }
    let public = public_key(&jwk)?;
    let own = format!("{:?}", public.algorithm());
    match jwk.alg {
        Some(alg) if alg != own => Err(format!("its alg is {}; expected {own} for a key of this kind", Quoted(&alg))),
        _ => Ok(PublishedKey { kid: jwk.kid, public }),
    }
}

fn public_key(jwk: &Jwk) -> Result<PublicKey, String> {
    match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => rsa(jwk),
        ("EC", Some("P-256")) => {
            let [x, y] = [coordinate("x", jwk.x.as_ref())?, coordinate("y", jwk.y.as_ref())?];
            const UNCOMPRESSED: u8 = 4;
            Ok(PublicKey::P256([&[UNCOMPRESSED], x.as_slice(), y.as_slice()].concat()))
        }
        ("OKP", Some("Ed25519")) => Ok(PublicKey::Ed25519(coordinate("x", jwk.x.as_ref())?)),
        ("oct", _) => Err("it is a symmetric secret, which must not be published".to_owned()),
        (kty, Some(crv)) => Err(format!("its kty and crv are {} and {}; {EXPECTED}", Quoted(kty), Quoted(crv))),
        (kty, None) => Err(format!("its kty is {}; {EXPECTED}", Quoted(kty))),
    }
}

const EXPECTED: &str = "expected RSA, EC with P-256 or OKP with Ed25519";

fn rsa(jwk: &Jwk) -> Result<PublicKey, String> {
    let (n, e) = (number("n", jwk.n.as_ref())?, number("e", jwk.e.as_ref())?);
    let bits = 8 * n.len() - n.first().map_or(0, |first| first.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err(format!("it has {bits} bits; expected {} to {}", RSA_BITS.start(), RSA_BITS.end()));
    }
    let is_odd = e.last().is_some_and(|last| last % 2 == 1);
    if !is_odd || e == [1] || e.len() > RSA_EXPONENT_BYTES_MAX {
        return Err("its e is not a safe exponent; the usual value is 65537".to_owned());
    }
    Ok(PublicKey::Rsa { n, e })
}

/// A number without the zeros before it.
fn number(name: &str, text: Option<&String>) -> Result<Vec<u8>, String> {
    let bytes = decoded(name, text)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Ok(bytes[zeros..].to_vec())
}

fn coordinate(name: &str, text: Option<&String>) -> Result<Vec<u8>, String> {
    let bytes = decoded(name, text)?;
    let fits = bytes.len() == FIELD_BYTES;
    fits.then_some(bytes).ok_or_else(|| format!("its {name} does not have {FIELD_BYTES} bytes"))
}

fn decoded(name: &str, text: Option<&String>) -> Result<Vec<u8>, String> {
    let text = text.ok_or_else(|| format!("it has no {name}"))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("its {name} is not URL-safe base64 without padding"))
}

/// The error may repeat a value of any length.
fn cut(mut error: String) -> String {
    error.truncate(error.floor_char_boundary(ERROR_BYTES_MAX));
    error
}

/// What a key is called where there is something to say of it.
fn name(jwk: &Value, at: usize) -> String {
    let kid = jwk.as_object().and_then(|members: &Map<_, _>| members.get("kid")).and_then(Value::as_str);
    kid.map_or_else(|| format!("keys[{at}]"), |kid| format!("the key {}", Quoted(kid)))
}

fn because(ignored: &[String]) -> String {
    match ignored {
        [] => String::new(),
        [only] => format!(": {only}"),
        [first, rest @ ..] => format!(": {first} (and {} more)", rest.len()),
    }
}

#[cfg(test)]
#[path = "jwks_tests.rs"]
mod tests;
