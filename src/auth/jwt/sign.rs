//! Signs tokens on the command line, with the HS256 secret or with the private key whose public key a server has.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};

use super::key::check_secret;
use super::{ClaimRules, KeyError, provider};
use crate::auth::Rights;
use crate::model::Timestamp;

/// What signs.
pub struct SigningKey {
    algorithm: Algorithm,
    key: EncodingKey,
    /// What tokens name it by.
    kid: Option<String>,
}

impl SigningKey {
    /// A secret, for HS256.
    ///
    /// # Errors
    /// [`KeyError`]: it is too short.
    pub fn hs256(secret: &[u8]) -> Result<Self, KeyError> {
        check_secret(secret)?;
        Ok(Self { algorithm: Algorithm::HS256, key: EncodingKey::from_secret(secret), kid: None })
    }

    /// The private key in `pem`, for the one algorithm that goes with it.
    ///
    /// # Errors
    /// [`KeyError`]: there is none, or none of a kind that signs here.
    pub fn from_pem(pem: &str, kid: Option<String>) -> Result<Self, KeyError> {
        provider::install();
        let bytes = pem.as_bytes();
        let found = [
            (Algorithm::EdDSA, EncodingKey::from_ed_pem(bytes)),
            (Algorithm::ES256, EncodingKey::from_ec_pem(bytes)),
            (Algorithm::RS256, EncodingKey::from_rsa_pem(bytes)),
        ];
        let usable = found.into_iter().find_map(|(algorithm, key)| Some((algorithm, key.ok()?)));
        let usable = usable.filter(|(algorithm, key)| provider::signer(algorithm, key).is_ok());
        let (algorithm, key) = usable.ok_or(KeyError::NotPrivateKey)?;
        Ok(Self { algorithm, key, kid })
    }

    /// A token for `sub` that `rules` take. `expires_at` counts in whole seconds.
    ///
    /// # Errors
    /// [`KeyError`]: signing failed.
    pub fn sign(
        &self,
        sub: &str,
        expires_at: Timestamp,
        rights: &Rights,
        rules: &ClaimRules,
    ) -> Result<String, KeyError> {
        provider::install();
        let header = Header { kid: self.kid.clone(), ..Header::new(self.algorithm) };
        encode(&header, &rules.write(sub, expires_at, rights), &self.key)
            .map_err(|error| KeyError::CannotSign(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use ring::rand::SystemRandom;
    use ring::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::auth::{JwtKey, KeySet, Projects, Scopes, Verifier};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn pem(der: &[u8]) -> String {
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der))
    }

    fn url_safe(bytes: &[u8]) -> String {
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
    }

    fn set(jwk: Value) -> KeySet {
        KeySet::read(json!({"keys": [jwk]}).to_string().as_bytes()).expect("a good set").keys
    }

    fn rights() -> Rights {
        Rights { scopes: Scopes::ALL, projects: Projects::All }
    }

    #[test]
    fn what_a_private_key_signs_its_public_half_verifies() {
        let random = SystemRandom::new();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
        let x = Ed25519KeyPair::from_pkcs8(ed.as_ref()).expect("it is one").public_key().as_ref().to_vec();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref(), &random).expect("it is one");
        let point = pair.public_key().as_ref().to_vec();
        for (der, jwk) in [
            (ed.as_ref(), json!({"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": url_safe(&x)})),
            (
                ec.as_ref(),
                json!({"kty": "EC", "crv": "P-256", "kid": "k", "x": url_safe(&point[1..33]), "y": url_safe(&point[33..])}),
            ),
        ] {
            let mut verifier = Verifier::awaiting_keys(ClaimRules::default());
            verifier.replace_keys(set(jwk));
            for (kid, is_good) in [(Some("k"), true), (None, true), (Some("other"), false)] {
                let key = SigningKey::from_pem(&pem(der), kid.map(str::to_owned)).expect("a private key");
                let token = key.sign("ann", NOW.plus_millis(1000), &rights(), &ClaimRules::default()).expect("signed");
                assert_eq!(verifier.verify(&token, NOW).is_ok(), is_good, "{token}");
            }
        }
    }

    #[test]
    fn a_secret_signs_for_itself() {
        let secret = vec![b'x'; 32];
        let key = SigningKey::hs256(&secret).expect("long enough");
        let token = key.sign("ann", NOW.plus_millis(1000), &rights(), &ClaimRules::default()).expect("signed");
        let verifier = Verifier::new(&JwtKey::Hs256 { secret }, Duration::ZERO).expect("a key");
        assert!(verifier.verify(&token, NOW).is_ok());
        assert!(SigningKey::hs256(b"short").is_err());
    }

    #[test]
    fn what_is_no_private_key_of_these_kinds_is_refused() {
        let random = SystemRandom::new();
        let p384 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random).expect("a key");
        let public = "-----BEGIN PUBLIC KEY-----\n\
            MCowBQYDK2VwAyEAlVXvL5/2ZiNxs8yAFt4MSMlS6Vzh+nAbQDF8KvQTJyM=\n-----END PUBLIC KEY-----";
        for bad in ["", "x", &pem(b"x"), &pem(p384.as_ref()), public] {
            assert!(matches!(SigningKey::from_pem(bad, None), Err(KeyError::NotPrivateKey)), "{bad}");
        }
    }
}
