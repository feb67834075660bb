//! Tokens: JSON Web Tokens (RFC 7519) in the compact form, signed by an issuer that is trusted for
//! an audience.
//!
//! A token may be what a provider's access token is (RFC 9068, and what Keycloak and Kubernetes
//! make). Everything else is refused: no key comes from the token itself, nothing that changes how
//! it is to be read is understood, and nothing is guessed.

mod compact;
mod contents;
mod keys;
mod strict;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde_json::Value;
use zafka_zmtp::curve::PublicKey;

use crate::claims::{ClaimName, Claims};
use compact::Compact;
use contents::Times;
pub use keys::{Algorithm, KeySet, KeySetError};
pub(crate) use strict::object as strict_object;

/// The longest token, in bytes.
pub const MAX_TOKEN: usize = 8 * 1024;

/// An issuer that is trusted, with its keys as they are known now.
#[derive(Clone, Debug, PartialEq)]
pub struct Issuer {
    /// Its name, compared byte for byte.
    pub name: String,
    /// One of them must be a token's audience.
    pub audience: Vec<String>,
    /// The algorithms that its tokens may have.
    pub algorithms: Vec<Algorithm>,
    /// Claims that each of its tokens must have, with one of the values.
    pub require: Vec<(ClaimName, Vec<Value>)>,
    /// Its keys; none while they could not be fetched.
    pub keys: Arc<KeySet>,
    /// True if it has to say itself that a token is active, too (RFC 7662).
    pub introspects: bool,
}

/// A token that was verified. Times are in s since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Its claims.
    pub claims: Claims,
    /// The time when it ends.
    pub expires: i64,
    /// The time when it was issued, if it has one.
    pub issued: Option<i64>,
    /// The id of its issuer's key that signed it, if that has one.
    pub signed_by: Option<Arc<str>>,
    /// A digest that identifies it.
    pub id: TokenId,
    /// True while its issuer has to say first that it is active.
    pub is_to_confirm: bool,
}

impl Verified {
    /// End of a lease that begins `now`, in s since the epoch: that of the token and `skew`, or the
    /// end of `max_lease`.
    pub fn lease_end(&self, now: i64, max_lease: Duration, skew: Duration) -> i64 {
        let token_end = self.expires.saturating_add(seconds(skew));
        token_end.min(now.saturating_add(seconds(max_lease)))
    }
}

/// A digest that identifies a token: of its issuer and its id, or of its signed part if it has no
/// id. Never of the whole: a signature of ECDSA can be altered and stays valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId([u8; 32]);

impl TokenId {
    fn new(issuer: &str, id: Option<&str>, signed: &str) -> Self {
        // Their lengths keep the parts apart.
        let (kind, id) = id.map_or(("signed", signed), |id| ("jti", id));
        let text = format!("{kind} {} {issuer} {id}", issuer.len());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self(bytes)
    }

    #[cfg(test)]
    pub(crate) fn of_test(number: u8) -> Self {
        Self([number; 32])
    }
}

/// The reason why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token, or not of the form that is taken.
    #[error("malformed token: {0}")]
    Malformed(&'static str),
    /// Its issuer is not trusted.
    #[error("its issuer is not trusted")]
    Issuer,
    /// It is for another audience.
    #[error("it is for another audience")]
    Audience,
    /// Its signature is not its issuer's.
    #[error("its signature, algorithm or key is wrong")]
    Signature,
    /// Its content is not as required.
    #[error("its claims are wrong: {0}")]
    Claims(&'static str),
    /// It is bound to another key, or in a way that cannot be checked here.
    #[error("it is bound to another key")]
    Confirmation,
    /// It has ended.
    #[error("it has expired")]
    Expired,
    /// It does not hold yet.
    #[error("it does not hold yet")]
    NotYet,
    /// Its issuer, the one of this index, may have the key by now.
    #[error("its key is not known, or not yet")]
    UnknownKey(usize),
}

impl TokenError {
    /// A short name.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Signature => "signature",
            Self::Claims(_) => "claims",
            Self::Confirmation => "confirmation",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::UnknownKey(_) => "try_again",
        }
    }

    /// Returns true if something else than the peer's own doing could change the answer.
    pub const fn may_pass(self) -> bool {
        matches!(self, Self::Expired | Self::NotYet | Self::UnknownKey(_))
    }
}

/// Verifies a token that the owner of `key` shows. `now` is in s since the epoch; clocks may differ
/// by `skew`.
///
/// # Errors
/// The first reason not to take it.
pub fn verify(
    token: &[u8],
    key: &PublicKey,
    issuers: &[Issuer],
    now: i64,
    skew: Duration,
) -> Result<Verified, TokenError> {
    let token = Compact::split(token)?;
    let Some(Value::String(name)) = token.payload.get("iss") else {
        return Err(TokenError::Claims("iss is not a text"));
    };
    let (index, issuer) = issuers
        .iter()
        .enumerate()
        .find(|(_, issuer)| issuer.name == *name)
        .ok_or(TokenError::Issuer)?;
    let signed_by = token.check_signature(index, issuer)?;
    let Compact { payload, signed, .. } = &token;
    if !zafka_planted::is("any-audience-will-do") {
        contents::check_audience(payload, &issuer.audience)?;
    }
    contents::check_kind(payload)?;
    let subject = contents::name(payload, "sub")?.ok_or(TokenError::Claims("sub is missing"))?;
    let id = TokenId::new(name, contents::name(payload, "jti")?, signed);
    contents::check_confirmation(payload, key)?;
    let times = Times::read(payload)?;
    let claims = Claims::new(name, subject, payload.clone());
    if !issuer.require.iter().all(|(name, values)| claims.has(name, values)) {
        return Err(TokenError::Claims("one that is required is missing or differs"));
    }
    times.check(now, seconds(skew))?;
    let Times { expires, issued, .. } = times;
    let is_to_confirm = issuer.introspects;
    Ok(Verified { claims, expires, issued, signed_by, id, is_to_confirm })
}

/// A duration in whole seconds.
pub(crate) fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// The end that a token claims to have, in s since the epoch: nothing of it is verified. `None` if
/// it claims none that can be read.
pub fn claimed_end(token: &[u8]) -> Option<i64> {
    let token = Compact::split(token).ok()?;
    Times::read(&token.payload).ok().map(|times| times.expires)
}
