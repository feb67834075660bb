//! The form of a token (JWS Compact Serialization, RFC 7515 section 7.1), its header and signature.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::keys::{Algorithm, NoKey};
use super::{Issuer, MAX_TOKEN, TokenError, strict};

/// Fields of a header that would bring a key, or change how the token is to be read.
const REFUSED_HEADERS: [&str; 8] = ["crit", "b64", "jwk", "jku", "x5u", "x5c", "enc", "zip"];
/// Types of a token (header `typ`), in lower case.
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// A token in its parts, of which nothing was verified.
pub(super) struct Compact<'a> {
    header: Map<String, Value>,
    pub(super) payload: Map<String, Value>,
    pub(super) signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Compact<'a> {
    pub(super) fn split(token: &'a [u8]) -> Result<Self, TokenError> {
        let malformed = TokenError::Malformed;
        if token.len() > MAX_TOKEN {
            return Err(malformed("too long"));
        }
        let decode = |part: &str| {
            BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed("not base64url"))
        };
        let text = std::str::from_utf8(token).map_err(|_| malformed("not base64url"))?;
        let (signed, signature) = text.rsplit_once('.').ok_or(malformed("not three parts"))?;
        let (header, payload) = signed.split_once('.').ok_or(malformed("not three parts"))?;
        if payload.contains('.') {
            return Err(malformed("not three parts"));
        }
        let signature = decode(signature)?;
        let header = strict::object(&decode(header)?);
        let payload = strict::object(&decode(payload)?);
        Ok(Self {
            header: header.ok_or(malformed("its header is no plain JSON object"))?,
            payload: payload.ok_or(malformed("its payload is no plain JSON object"))?,
            signed,
            signature,
        })
    }

    /// Checks that the signature is of `issuer`, the one of this index. Returns the id of the key
    /// that made it, if the issuer gives it one.
    pub(super) fn check_signature(
        &self,
        index: usize,
        issuer: &Issuer,
    ) -> Result<Option<Arc<str>>, TokenError> {
        let malformed = TokenError::Malformed;
        if REFUSED_HEADERS.iter().any(|name| self.header.contains_key(*name)) {
            return Err(malformed("a header that is not taken"));
        }
        let is_type = |kind: &Value| {
            kind.as_str().is_some_and(|kind| TYPES.contains(&kind.to_ascii_lowercase().as_str()))
        };
        if !self.header.get("typ").is_none_or(is_type) {
            return Err(malformed("another type of token"));
        }
        let id = match self.header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.as_str()),
            Some(_) => return Err(malformed("kid is not a text")),
        };
        let algorithm = self.header.get("alg").and_then(Value::as_str);
        let algorithm = algorithm.and_then(Algorithm::from_name);
        let is_ours = |algorithm: &Algorithm| {
            issuer.algorithms.contains(algorithm)
                || zafka_planted::is("the-header-chooses-the-algorithm")
        };
        let algorithm = algorithm.filter(is_ours);
        let Some(algorithm) = algorithm else { return Err(TokenError::Signature) };
        match issuer.keys.verify(id, algorithm, self.signed.as_bytes(), &self.signature) {
            Ok(signed_by) => Ok(signed_by),
            Err(NoKey::Unfit | NoKey::Wrong) => Err(TokenError::Signature),
            Err(NoKey::Unknown) => Err(TokenError::UnknownKey(index)),
        }
    }
}
