//! JSON Web Tokens (RFC 7519): those that we sign, and the end of those that others sign.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Map, Value, json};

use crate::key::SigningKey;
use crate::secret::Secret;

/// The claims of an assertion (RFC 7523 section 3).
#[derive(Debug)]
pub(crate) struct Claims<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) audience: &'a str,
    pub(crate) life: Duration,
    pub(crate) others: &'a [(String, String)],
}

/// An assertion, good from now on.
///
/// `now`: time since the epoch.
///
/// # Errors
/// The system gives no random numbers.
pub(crate) fn assertion(
    claims: &Claims<'_>,
    key: &SigningKey,
    now: Duration,
) -> Result<Secret, String> {
    let mut id = [0; 16];
    SystemRandom::new().fill(&mut id).map_err(|_| "no random numbers".to_owned())?;
    sign(&payload(claims, now, &URL_SAFE_NO_PAD.encode(id)), key)
}

fn payload(claims: &Claims<'_>, now: Duration, id: &str) -> Map<String, Value> {
    let others = claims.others.iter();
    let mut payload: Map<_, _> =
        others.map(|(name, text)| (name.clone(), Value::from(text.as_str()))).collect();
    payload.extend([
        ("iss".to_owned(), claims.issuer.into()),
        ("sub".to_owned(), claims.subject.into()),
        ("aud".to_owned(), claims.audience.into()),
        ("iat".to_owned(), now.as_secs().into()),
        ("exp".to_owned(), (now + claims.life).as_secs().into()),
        // An id, so that a copy cannot be used again.
        ("jti".to_owned(), id.into()),
    ]);
    payload
}

fn sign(payload: &Map<String, Value>, key: &SigningKey) -> Result<Secret, String> {
    let mut header = json!({ "alg": key.algorithm(), "typ": "JWT" });
    if let Some(id) = key.id() {
        header["kid"] = id.into();
    }
    let encode = |json: String| URL_SAFE_NO_PAD.encode(json);
    let payload = Value::Object(payload.clone()).to_string();
    let signed = format!("{}.{}", encode(header.to_string()), encode(payload));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())?);
    Ok(Secret::new(format!("{signed}.{signature}")))
}

/// The end of a token's life, in seconds since the epoch, if it is a JWT that says so. Nothing of
/// it is verified: the receiver of the token does that.
pub(crate) fn end(token: &Secret) -> Option<Duration> {
    let mut parts = token.expose().split('.');
    let (_, payload) = (parts.next()?, parts.next()?);
    parts.next()?;
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let payload: Value = serde_json::from_slice(&payload).ok()?;
    let end = payload.get("exp")?.as_f64()?;
    Duration::try_from_secs_f64(end.floor()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assertion_says_what_it_is_to_say() {
        let others = [("scope".to_owned(), "a b".to_owned()), ("iss".to_owned(), "x".to_owned())];
        let claims = Claims {
            issuer: "zafka",
            subject: "zafka",
            audience: "https://idp/token",
            life: Duration::from_secs(60),
            others: &others,
        };
        let found = Value::Object(payload(&claims, Duration::from_millis(1_700_000_000_900), "i"));
        let expected = json!({
            "iss": "zafka", "sub": "zafka", "aud": "https://idp/token", "jti": "i", "scope": "a b",
            "iat": 1_700_000_000, "exp": 1_700_000_060,
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn the_end_of_tokens() {
        let jwt = |payload: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload));
        for (token, expected) in [
            (jwt(r#"{"exp":1700000000}"#), Some(1_700_000_000)),
            (jwt(r#"{"exp":1700000000.5}"#), Some(1_700_000_000)),
            (jwt(r#"{"exp":"1700000000"}"#), None),
            (jwt(r#"{"exp":-1}"#), None),
            (jwt(r#"{"exp":1e300}"#), None),
            (jwt(r#"{"sub":"a"}"#), None),
            (jwt("[]"), None),
            (jwt("{"), None),
            ("opaque".to_owned(), None),
            ("a.b".to_owned(), None),
            ("a.%.c".to_owned(), None),
        ] {
            let found = end(&Secret::new(&token)).map(|end| end.as_secs());
            assert_eq!(found, expected, "{token}");
        }
    }
}
