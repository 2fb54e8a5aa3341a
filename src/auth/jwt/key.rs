//! The key that verifies tokens. It is checked when the server starts, not with the first token.

use std::fmt;
use std::ops::RangeInclusive;

use jsonwebtoken::{Algorithm, DecodingKey};

/// The shortest HS256 secret, in bytes: as long as the hash (RFC 7518).
pub const JWT_SECRET_BYTES_MIN: usize = 32;

/// What an RSA public key (PKCS#1, in DER) of 2048 to 8192 bits measures; `ring` refuses others only when it verifies.
const RSA_KEY_BYTES: RangeInclusive<usize> = 268..=1040;

/// An uncompressed point of P-256.
const P256_KEY_BYTES: usize = 65;

/// An Ed25519 public key.
const ED25519_KEY_BYTES: usize = 32;

/// The required signature algorithm of tokens, with the key that verifies them.
pub enum JwtKey {
    /// HMAC with SHA-256; the secret both signs and verifies.
    Hs256 {
        /// At least [`JWT_SECRET_BYTES_MIN`] bytes.
        secret: Vec<u8>,
    },
    /// RSA (PKCS#1 v1.5) with SHA-256.
    Rs256 {
        /// PEM text, 2048 to 8192 bits.
        public_key: String,
    },
    /// ECDSA over P-256 with SHA-256.
    Es256 {
        /// PEM text.
        public_key: String,
    },
    /// Ed25519.
    EdDsa {
        /// PEM text.
        public_key: String,
    },
}

/// Why a key can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyError {
    /// The HS256 secret is too short: its length in bytes.
    SecretTooShort(usize),
    /// The PEM text contains a private key, which must not be on this server.
    PrivateKey,
    /// The PEM text contains no usable private key.
    NotPrivateKey,
    /// The PEM text does not contain the expected public key.
    NotPublicKey(&'static str),
    /// Signing failed.
    CannotSign(String),
}

impl JwtKey {
    /// The key as `jsonwebtoken` needs it.
    pub(super) fn load(&self) -> Result<(Algorithm, DecodingKey), KeyError> {
        match self {
            Self::Hs256 { secret } => {
                check_secret(secret)?;
                Ok((Algorithm::HS256, DecodingKey::from_secret(secret)))
            }
            Self::Rs256 { public_key } => {
                let key = load_pem(public_key, DecodingKey::from_rsa_pem, |bytes| RSA_KEY_BYTES.contains(&bytes));
                Ok((Algorithm::RS256, key?.ok_or(KeyError::NotPublicKey("an RSA public key of 2048 to 8192 bits"))?))
            }
            Self::Es256 { public_key } => {
                let key = load_pem(public_key, DecodingKey::from_ec_pem, |bytes| bytes == P256_KEY_BYTES);
                Ok((Algorithm::ES256, key?.ok_or(KeyError::NotPublicKey("a public key of the curve P-256"))?))
            }
            Self::EdDsa { public_key } => {
                let key = load_pem(public_key, DecodingKey::from_ed_pem, |bytes| bytes == ED25519_KEY_BYTES);
                Ok((Algorithm::EdDSA, key?.ok_or(KeyError::NotPublicKey("an Ed25519 public key"))?))
            }
        }
    }
}

/// Shows only the algorithm, not the key.
impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hs256 { .. } => "Hs256",
            Self::Rs256 { .. } => "Rs256",
            Self::Es256 { .. } => "Es256",
            Self::EdDsa { .. } => "EdDsa",
        })
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SecretTooShort(bytes) => {
                write!(f, "the JWT secret has {bytes} bytes; expected at least {JWT_SECRET_BYTES_MIN}")
            }
            Self::PrivateKey => f.write_str("the file contains a private key; expected only the public key"),
            Self::NotPublicKey(expected) => {
                write!(f, "the file contains no usable key; expected {expected} in PEM format")
            }
            Self::NotPrivateKey => f.write_str(
                "the file contains no usable key; expected an RSA (at least 2048 bits), P-256 or Ed25519 private key in PEM \
                 format (`BEGIN PRIVATE KEY`)",
            ),
            Self::CannotSign(why) => write!(f, "the token could not be signed: {why}"),
        }
    }
}

impl std::error::Error for KeyError {}

/// Checks that `secret` is long enough.
pub(super) fn check_secret(secret: &[u8]) -> Result<(), KeyError> {
    if secret.len() < JWT_SECRET_BYTES_MIN { Err(KeyError::SecretTooShort(secret.len())) } else { Ok(()) }
}

/// The public key in `pem`; none if it contains no key of the requested kind and size.
fn load_pem(
    pem: &str,
    load: fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>,
    is_size: impl Fn(usize) -> bool,
) -> Result<Option<DecodingKey>, KeyError> {
    // `jsonwebtoken` takes a private key for its public half, and out of a certificate whatever comes first.
    if pem.contains("PRIVATE KEY-----") {
        return Err(KeyError::PrivateKey);
    }
    if pem.contains("CERTIFICATE-----") {
        return Ok(None);
    }
    let key = load(pem.as_bytes()).ok();
    Ok(key.filter(|key| key.try_get_as_bytes().is_ok_and(|bytes| is_size(bytes.len()))))
}
