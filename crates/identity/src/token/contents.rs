//! The claims that every token has to have, and those that none may have.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde_json::{Map, Value};
use zafka_zmtp::curve::PublicKey;

use super::TokenError;

/// The most audiences of one token.
const MAX_AUDIENCES: usize = 16;
/// The longest subject, and the longest id of a token, in bytes.
const MAX_NAME: usize = 255;

/// Refuses a token for another audience.
pub(super) fn check_audience(
    payload: &Map<String, Value>,
    audience: &[String],
) -> Result<(), TokenError> {
    let is_ours = |value: &Value| audience.iter().any(|ours| value == ours.as_str());
    let fits = match payload.get("aud") {
        Some(value @ Value::String(_)) => is_ours(value),
        Some(Value::Array(values)) if values.len() <= MAX_AUDIENCES => {
            values.iter().all(Value::is_string) && values.iter().any(is_ours)
        }
        _ => false,
    };
    if fits { Ok(()) } else { Err(TokenError::Audience) }
}

/// Refuses what a provider makes for other ends: ID tokens and refresh tokens of Keycloak, events.
pub(super) fn check_kind(payload: &Map<String, Value>) -> Result<(), TokenError> {
    if payload.contains_key("events") {
        return Err(TokenError::Claims("it tells of an event"));
    }
    if payload.get("typ").is_none_or(|kind| kind == "Bearer") {
        Ok(())
    } else {
        Err(TokenError::Claims("typ is another kind of token"))
    }
}

/// A short text without characters that are not seen, if there is such a claim.
pub(super) fn name<'a>(
    payload: &'a Map<String, Value>,
    claim: &'static str,
) -> Result<Option<&'a str>, TokenError> {
    let unseen = |c: char| {
        let hidden = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}');
        hidden || c.is_control() || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}')
    };
    match payload.get(claim) {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() || text.len() > MAX_NAME => {
            Err(TokenError::Claims("sub or jti is empty or too long"))
        }
        Some(Value::String(text)) if text.contains(unseen) => {
            Err(TokenError::Claims("sub or jti has characters that are not seen"))
        }
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(TokenError::Claims("sub or jti is not a text")),
    }
}

/// Refuses a token that is bound to another key (RFC 7800). It is bound to the peer's by the
/// thumbprint (RFC 7638) of its CURVE key. One that is bound by DPoP (RFC 9449) or a certificate
/// (RFC 8705) must not count without that.
pub(super) fn check_confirmation(
    payload: &Map<String, Value>,
    key: &PublicKey,
) -> Result<(), TokenError> {
    let Some(confirmation) = payload.get("cnf") else { return Ok(()) };
    let x = BASE64_URL_SAFE_NO_PAD.encode(key.as_bytes());
    let jwk = format!("{{\"crv\":\"X25519\",\"kty\":\"OKP\",\"x\":\"{x}\"}}");
    let thumbprint = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, jwk.as_bytes()));
    let is_ours = |members: &Map<String, Value>| {
        members.len() == 1 && members.get("jkt").is_some_and(|jkt| *jkt == thumbprint.as_str())
    };
    if confirmation.as_object().is_some_and(is_ours) {
        Ok(())
    } else {
        Err(TokenError::Confirmation)
    }
}

/// Times of a token, in s since the epoch.
pub(super) struct Times {
    pub(super) expires: i64,
    pub(super) issued: Option<i64>,
    not_before: Option<i64>,
}

impl Times {
    pub(super) fn read(payload: &Map<String, Value>) -> Result<Self, TokenError> {
        let (issued, not_before) = (time(payload, "iat")?, time(payload, "nbf")?);
        let expires = time(payload, "exp")?.ok_or(TokenError::Claims("exp is missing"))?;
        Ok(Self { expires, issued, not_before })
    }

    pub(super) fn check(&self, now: i64, skew: i64) -> Result<(), TokenError> {
        let skew = if zafka_planted::is("an-hour-of-leeway") { 3600 } else { skew };
        if self.expires.saturating_add(skew) <= now {
            return Err(TokenError::Expired);
        }
        let latest = now.saturating_add(skew);
        if [self.issued, self.not_before].into_iter().flatten().any(|time| time > latest) {
            return Err(TokenError::NotYet);
        }
        Ok(())
    }
}

/// A NumericDate (RFC 7519 section 2), if there is such a claim. A fraction is cut off; a number
/// beyond ours is the end of time.
fn time(payload: &Map<String, Value>, claim: &str) -> Result<Option<i64>, TokenError> {
    let number = match payload.get(claim) {
        None => return Ok(None),
        Some(Value::Number(number)) => number,
        Some(_) => return Err(TokenError::Claims("a time that is not a number")),
    };
    // A cast from f64 ends at the largest number.
    let time = number.as_i64().or_else(|| number.as_f64().map(|time| time.floor() as i64));
    match time {
        Some(time) if time >= 0 => Ok(Some(time)),
        _ => Err(TokenError::Claims("a time before 1970")),
    }
}
