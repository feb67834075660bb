//! Keys that sign assertions, by ring.

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use crate::config::{Algorithm, SigningKeyConfig};
use crate::files::{self, FileFault};
use crate::http::no_key;

/// Object identifiers by which a key in PKCS#8 says its kind: their DER.
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
/// Bytes of PKCS#8 within which they stand.
const HEAD: usize = 40;

/// A key to sign with.
#[derive(Debug)]
pub(crate) struct SigningKey {
    pair: Pair,
    algorithm: Algorithm,
    id: Option<String>,
    random: SystemRandom,
}

#[derive(Debug)]
enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// Reads the key.
    ///
    /// # Errors
    /// The file cannot be read, holds no key that signs, or one that does not go with the
    /// algorithm.
    pub(crate) fn read(config: &SigningKeyConfig) -> Result<Self, FileFault> {
        let text = files::read(&config.file)?;
        let fault = |reason: String| FileFault::new(&config.file, reason);
        let der = PrivateKeyDer::from_pem_slice(&text).map_err(|_| fault(no_key(&text).into()))?;
        let pair = Pair::new(&der).map_err(fault)?;
        let own = pair.algorithm();
        let algorithm = config.algorithm.unwrap_or(own);
        if family(algorithm) != family(own) {
            let (kind, name) = (pair.kind(), algorithm.name());
            return Err(fault(format!("{kind}, which does not sign by {name}")));
        }
        Ok(Self { pair, algorithm, id: config.id.clone(), random: SystemRandom::new() })
    }

    /// Name of the algorithm it signs by.
    pub(crate) fn algorithm(&self) -> &'static str {
        self.algorithm.name()
    }

    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Signs as RFC 7518 section 3 has it.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let failed = |_| "ring does not sign".to_owned();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let padding = padding(self.algorithm);
                pair.sign(padding, &self.random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
            Pair::P256(pair) | Pair::P384(pair) => {
                Ok(pair.sign(&self.random, message).map_err(failed)?.as_ref().to_vec())
            }
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

impl Pair {
    fn new(der: &PrivateKeyDer<'_>) -> Result<Self, String> {
        let told = |kind: &str, reason: &dyn std::fmt::Display| {
            format!("the {kind} key in it cannot be used: {reason}")
        };
        let der = match der {
            PrivateKeyDer::Pkcs8(der) => der.secret_pkcs8_der(),
            PrivateKeyDer::Pkcs1(der) => {
                let pair = RsaKeyPair::from_der(der.secret_pkcs1_der());
                return pair.map(Self::Rsa).map_err(|error| told("RSA", &error));
            }
            _ => {
                return Err("the key in it is not PKCS#8 (openssl pkcs8 -topk8 -nocrypt makes it \
                            that)"
                    .to_owned());
            }
        };
        let random = SystemRandom::new();
        let head = der.get(..HEAD).unwrap_or(der);
        let is = |kind: &[u8]| head.windows(kind.len()).any(|part| part == kind);
        if is(RSA) {
            RsaKeyPair::from_pkcs8(der).map(Self::Rsa).map_err(|error| told("RSA", &error))
        } else if is(P256) {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random);
            pair.map(Self::P256).map_err(|error| told("P-256", &error))
        } else if is(P384) {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, der, &random);
            pair.map(Self::P384).map_err(|error| told("P-384", &error))
        } else if is(ED25519) {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der);
            pair.map(Self::Ed25519).map_err(|error| told("Ed25519", &error))
        } else {
            Err("the key in it is of another kind than RSA, P-256, P-384 and Ed25519".to_owned())
        }
    }

    /// The algorithm that it signs by if none is set.
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa(_) => Algorithm::Rs256,
            Self::P256(_) => Algorithm::Es256,
            Self::P384(_) => Algorithm::Es384,
            Self::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "an RSA key",
            Self::P256(_) => "a P-256 key",
            Self::P384(_) => "a P-384 key",
            Self::Ed25519(_) => "an Ed25519 key",
        }
    }
}

/// The algorithm that stands for all that a kind of key signs by.
fn family(algorithm: Algorithm) -> Algorithm {
    match algorithm {
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => algorithm,
        _ => Algorithm::Rs256,
    }
}

fn padding(algorithm: Algorithm) -> &'static dyn RsaEncoding {
    match algorithm {
        Algorithm::Rs384 => &RSA_PKCS1_SHA384,
        Algorithm::Rs512 => &RSA_PKCS1_SHA512,
        Algorithm::Ps256 => &RSA_PSS_SHA256,
        Algorithm::Ps384 => &RSA_PSS_SHA384,
        Algorithm::Ps512 => &RSA_PSS_SHA512,
        _ => &RSA_PKCS1_SHA256,
    }
}
