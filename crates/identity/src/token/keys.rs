//! A provider's keys (JWK Set, RFC 7517), of which only those are taken that verify signatures.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::{Map, Value};

use super::strict;

/// The largest set that is read, in bytes.
const MAX_BYTES: usize = 1024 * 1024;
/// The most keys of a set.
const MAX_KEYS: usize = 64;
/// Sizes of an RSA modulus, in bytes.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;

/// A signature's algorithm (RFC 7518, RFC 8037). There is no HMAC, and no `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 5] = [Self::Rs256, Self::Ps256, Self::Es256, Self::Es384, Self::EdDsa];

    /// Its name in a header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm with exactly this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// A provider's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet(Vec<VerifyingKey>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct VerifyingKey {
    id: Option<Arc<str>>,
    /// The one algorithm that it is for, if the provider says so.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// The reason why a text is no set of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Too large.
    #[error("more than {MAX_BYTES} bytes, or than {MAX_KEYS} keys")]
    TooLarge,
    /// No JSON, or not of the right form.
    #[error("not a JWK Set (RFC 7517)")]
    Malformed,
    /// No key in it can be used.
    #[error("no key that verifies signatures (RSA of 2048 to 8192 bits, P-256, P-384, Ed25519)")]
    NoKey,
}

/// The reason why no key has made a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The provider may have it by now.
    Unknown,
    /// The one with that id is for something else, or none was named and several fit.
    Unfit,
    /// It is there, and the signature is not its own.
    Wrong,
}

impl KeySet {
    /// Reads a set. Keys for other purposes are left out.
    ///
    /// # Errors
    /// A text that is none, or has no key that can be used.
    pub fn parse(text: &[u8]) -> Result<Self, KeySetError> {
        if text.len() > MAX_BYTES {
            return Err(KeySetError::TooLarge);
        }
        let set = strict::object(text).ok_or(KeySetError::Malformed)?;
        let Some(Value::Array(keys)) = set.get("keys") else { return Err(KeySetError::Malformed) };
        if keys.len() > MAX_KEYS {
            return Err(KeySetError::TooLarge);
        }
        let keys: Vec<_> = keys.iter().filter_map(|key| verifying_key(key.as_object()?)).collect();
        if keys.is_empty() { Err(KeySetError::NoKey) } else { Ok(Self(keys)) }
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that a signature is one of the key that is named, or of the only one that fits if
    /// none is. Returns that key's id, if it has one.
    ///
    /// Without a name, a changed key looks like a wrong signature: both are unknown.
    pub(super) fn verify(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<Option<Arc<str>>, NoKey> {
        let fits = |key: &&VerifyingKey| key.is_for(algorithm);
        let Some(id) = id else {
            let mut fitting = self.0.iter().filter(fits);
            let key = fitting.next().ok_or(NoKey::Unknown)?;
            if fitting.next().is_some() {
                return Err(NoKey::Unfit);
            }
            let is_right = key.material.verify(algorithm, message, signature);
            return if is_right { Ok(key.id.clone()) } else { Err(NoKey::Unknown) };
        };
        let mut named = self.0.iter().filter(|key| key.id.as_deref() == Some(id)).peekable();
        named.peek().ok_or(NoKey::Unknown)?;
        let key = named.find(fits).ok_or(NoKey::Unfit)?;
        let is_right = key.material.verify(algorithm, message, signature);
        if is_right { Ok(key.id.clone()) } else { Err(NoKey::Wrong) }
    }
}

impl VerifyingKey {
    fn is_for(&self, algorithm: Algorithm) -> bool {
        self.algorithm.is_none_or(|own| own == algorithm)
            && matches!(
                (&self.material, algorithm),
                (Material::Rsa { .. }, Algorithm::Rs256 | Algorithm::Ps256)
                    | (Material::P256(_), Algorithm::Es256)
                    | (Material::P384(_), Algorithm::Es384)
                    | (Material::Ed25519(_), Algorithm::EdDsa)
            )
    }
}

impl Material {
    fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let outcome = match self {
            Self::Rsa { n, e } => {
                let parameters = match algorithm {
                    Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
                    _ => &RSA_PKCS1_2048_8192_SHA256,
                };
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            Self::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Self::P384(point) => {
                UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(message, signature)
            }
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
        };
        outcome.is_ok()
    }
}

/// A key that verifies signatures; `None` for any other.
fn verifying_key(jwk: &Map<String, Value>) -> Option<VerifyingKey> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let bytes = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(text(name)?).ok();
    let is_for_signatures = jwk.get("use").is_none_or(|purpose| purpose == "sig");
    let verifies = jwk.get("key_ops").is_none_or(|operations| {
        operations.as_array().is_some_and(|list| list.iter().any(|one| one == "verify"))
    });
    if !is_for_signatures || !verifies {
        return None;
    }
    let algorithm = match jwk.get("alg") {
        None => None,
        Some(name) => Some(Algorithm::from_name(name.as_str()?)?),
    };
    let point = |size: usize| {
        let (x, y) = (bytes("x")?, bytes("y")?);
        (x.len() == size && y.len() == size).then(|| [&[4][..], &x, &y].concat())
    };
    let material = match (text("kty")?, text("crv")) {
        ("RSA", None) => {
            let (n, e) = (bytes("n")?, bytes("e")?);
            let fine = MODULUS.contains(&n.len()) && is_exponent(&e);
            fine.then_some(Material::Rsa { n, e })?
        }
        ("EC", Some("P-256")) => Material::P256(point(32)?),
        ("EC", Some("P-384")) => Material::P384(point(48)?),
        ("OKP", Some("Ed25519")) => {
            let key = bytes("x")?;
            (key.len() == 32 && !is_small_order(&key)).then_some(Material::Ed25519(key))?
        }
        _ => return None,
    };
    let id = match jwk.get("kid") {
        None => None,
        Some(id) => Some(Arc::from(id.as_str()?)),
    };
    Some(VerifyingKey { id, algorithm, material })
}

/// An odd number from 3 on, of at most four bytes.
fn is_exponent(e: &[u8]) -> bool {
    let small = e.len() == 1 && e.first().is_some_and(|&byte| byte >= 3);
    let large = (2..=4).contains(&e.len()) && e.first().is_some_and(|&byte| byte > 0);
    (small || large) && e.last().is_some_and(|&byte| byte % 2 == 1)
}

/// Returns true if a key of Ed25519 has small order: then one signature may fit any message.
fn is_small_order(key: &[u8]) -> bool {
    const ORDER_EIGHT: [[u8; 32]; 2] = [
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10,
            0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77,
            0x92, 0xac, 0x03, 0x7a,
        ],
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef,
            0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88,
            0x6d, 0x53, 0xfc, 0x05,
        ],
    ];
    let [first, middle @ .., last] = key else { return true };
    let last = last & 0x7f;
    // 0, 1 and -1, and the same with p added.
    let tiny = *first <= 1 && last == 0 && middle.iter().all(|&byte| byte == 0);
    let near_p = *first >= 0xec && last == 0x7f && middle.iter().all(|&byte| byte == 0xff);
    let unsigned = [&[*first], middle, &[last]].concat();
    tiny || near_p || ORDER_EIGHT.iter().any(|other| unsigned == other[..])
}
