//! The cryptography backend of `jsonwebtoken`, based on `ring`, which the TLS client of http tools needs anyway:
//! verifiers and signers for the four algorithms that a server can be configured for.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result, new_error};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};
use signature::{Error, Signer, Verifier};

/// The key utilities serve `jsonwebtoken`'s own JWKs, which nothing here reads: see `jwks`.
static OVER_RING: CryptoProvider =
    CryptoProvider { signer_factory: signer, verifier_factory: verifier, key_utils: KeyUtils::new_unimplemented() };

/// Makes `ring` what this process's `jsonwebtoken` works with. Where a program that embeds the crate has chosen
/// another provider already, that one stays.
pub(super) fn install() {
    let _already_chosen = OVER_RING.install_default();
}

pub(super) fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    let bytes = key.as_bytes();
    let pair = match (algorithm, key.family()) {
        (Algorithm::HS256, AlgorithmFamily::Hmac) => return Ok(Box::new(Hs256::new(bytes))),
        (Algorithm::RS256, AlgorithmFamily::Rsa) => RsaKeyPair::from_der(bytes).map(Pair::Rsa),
        (Algorithm::ES256, AlgorithmFamily::Ec) => {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes, &SystemRandom::new());
            pair.map(Pair::P256)
        }
        (Algorithm::EdDSA, AlgorithmFamily::Ed) => Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes).map(Pair::Ed25519),
        _ => return Err(new_error(ErrorKind::UnsupportedAlgorithm)),
    };
    let pair = pair.map_err(|_| new_error(ErrorKind::InvalidKeyFormat))?;
    Ok(Box::new(PrivateKey { algorithm: *algorithm, pair }))
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let bytes = match key.kind() {
        DecodingKeyKind::SecretOrDer(bytes) => bytes,
        DecodingKeyKind::RsaModulusExponent { n, e } if *algorithm == Algorithm::RS256 => {
            return Ok(Box::new(RsaNumbers(RsaPublicKeyComponents { n: n.clone(), e: e.clone() })));
        }
        DecodingKeyKind::RsaModulusExponent { .. } => return Err(new_error(ErrorKind::UnsupportedAlgorithm)),
    };
    let scheme: &'static dyn VerificationAlgorithm = match (algorithm, key.family()) {
        (Algorithm::HS256, AlgorithmFamily::Hmac) => return Ok(Box::new(Hs256::new(bytes))),
        (Algorithm::RS256, AlgorithmFamily::Rsa) => &RSA_PKCS1_2048_8192_SHA256,
        (Algorithm::ES256, AlgorithmFamily::Ec) => &ECDSA_P256_SHA256_FIXED,
        (Algorithm::EdDSA, AlgorithmFamily::Ed) => &ED25519,
        _ => return Err(new_error(ErrorKind::UnsupportedAlgorithm)),
    };
    Ok(Box::new(PublicKey { algorithm: *algorithm, key: UnparsedPublicKey::new(scheme, bytes.to_vec()) }))
}

struct Hs256(hmac::Key);

struct PrivateKey {
    algorithm: Algorithm,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

struct PublicKey {
    algorithm: Algorithm,
    key: UnparsedPublicKey<Vec<u8>>,
}

/// A key that came as its two numbers.
struct RsaNumbers(RsaPublicKeyComponents<Vec<u8>>);

impl Hs256 {
    fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, Error> {
        Ok(hmac::sign(&self.0, message).as_ref().to_vec())
    }
}

impl Signer<Vec<u8>> for PrivateKey {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, Error> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let signed = pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature);
                signed.map(|()| signature).map_err(|_| Error::new())
            }
            Pair::P256(pair) => {
                let signature = pair.sign(&random, message).map_err(|_| Error::new())?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        hmac::verify(&self.0, message, signature).map_err(|_| Error::new())
    }
}

impl Verifier<Vec<u8>> for PublicKey {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        self.key.verify(message, signature).map_err(|_| Error::new())
    }
}

impl Verifier<Vec<u8>> for RsaNumbers {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        self.0.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).map_err(|_| Error::new())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtSigner for PrivateKey {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for PublicKey {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl JwtVerifier for RsaNumbers {
    fn algorithm(&self) -> Algorithm {
        Algorithm::RS256
    }
}
