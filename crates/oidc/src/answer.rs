//! The answer to a token request (RFC 6749 sections 5.1 and 5.2, RFC 8693 section 2.2). No I/O.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::config::Grant;
use crate::files::wrong_token;
use crate::request::ACCESS_TOKEN;
use crate::secret::Secret;

/// A JWT, which may be an access token too (RFC 8693 section 3).
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// Characters of a provider's text that are reported at the most.
const TOLD: usize = 300;
/// A secret that is shorter may be part of any word.
const SHORT: usize = 6;

/// A token that was granted.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) token: Secret,
    /// Its life from now on, if the provider says so.
    pub(crate) life: Option<Duration>,
}

/// The reason why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The provider said no: its words.
    Refused(String),
    /// The answer is not one of a token endpoint.
    Answer(String),
}

/// Reads an answer. `secrets`: what was sent and must not come back in an error.
///
/// # Errors
/// There is no token in it.
pub(crate) fn read(
    status: u16,
    body: &[u8],
    grant: &Grant,
    secrets: &[&Secret],
) -> Result<Granted, Fault> {
    granted(&object(status, body, secrets)?, grant, secrets).map_err(Fault::Answer)
}

/// Reads the object of an answer that is no error.
///
/// # Errors
/// It is one, or no object.
pub(crate) fn object(
    status: u16,
    body: &[u8],
    secrets: &[&Secret],
) -> Result<Map<String, Value>, Fault> {
    // The answer itself is not shown: it may hold a token.
    let no_json =
        |what: &str| Fault::Answer(format!("status {status}, {what} ({} bytes)", body.len()));
    if (300..400).contains(&status) {
        return Err(no_json("a redirect, which is not followed"));
    }
    let Ok(Value::Object(answer)) = serde_json::from_slice(body) else {
        return Err(no_json("and no JSON object"));
    };
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    if !(200..300).contains(&status) || answer.contains_key("error") {
        let Some(error) = text("error") else {
            return Err(no_json("and no \"error\" in it (RFC 6749 section 5.2)"));
        };
        let description = text("error_description");
        let description = description.map(|text| format!(": {text}")).unwrap_or_default();
        let words = told(&format!("{error}{description}"), secrets);
        // One that is in trouble, or that is asked too often, decides nothing.
        return Err(match status {
            429 | 500.. if error != "slow_down" => {
                Fault::Answer(format!("status {status}: {words}"))
            }
            _ => Fault::Refused(words),
        });
    }
    Ok(answer)
}

/// Reads the token of an answer.
pub(crate) fn granted(
    answer: &Map<String, Value>,
    grant: &Grant,
    secrets: &[&Secret],
) -> Result<Granted, String> {
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    let required = |name: &str| text(name).ok_or_else(|| format!("\"{name}\" is missing"));
    let token = required("access_token")?;
    if let Some(reason) = wrong_token(token) {
        return Err(format!("\"access_token\": {reason}"));
    }
    let kind = required("token_type")?;
    let mut fits = kind.eq_ignore_ascii_case("bearer");
    if let Grant::TokenExchange { .. } = grant {
        let issued = required("issued_token_type")?;
        if ![ACCESS_TOKEN, JWT].contains(&issued) {
            let issued = told(issued, secrets);
            return Err(format!("\"issued_token_type\" is {issued:?}, not {ACCESS_TOKEN:?}"));
        }
        // RFC 8693 section 2.2.1: of what is no access token.
        fits |= issued == JWT && kind.eq_ignore_ascii_case("n_a");
    }
    if !fits {
        return Err(format!("\"token_type\" is {:?}, not \"Bearer\"", told(kind, secrets)));
    }
    let life = match answer.get("expires_in") {
        None | Some(Value::Null) => None,
        Some(life) => Some(seconds(life).ok_or("\"expires_in\" is no number of seconds")?),
    };
    Ok(Granted { token: Secret::new(token), life })
}

/// Some providers write the number as a text, or as a fraction.
pub(crate) fn seconds(life: &Value) -> Option<Duration> {
    let number = match life {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let number = number.filter(|number: &f64| number.is_finite() && *number >= 0.0)?;
    Some(Duration::try_from_secs_f64(number).unwrap_or(Duration::MAX))
}

/// Puts a provider's text on one line, without secrets that were sent to it and without tokens.
pub(crate) fn told(text: &str, secrets: &[&Secret]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.expose().len() >= SHORT) {
        text = text.replace(secret.expose(), "***");
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.~+/=".contains(c);
    let mut shown = String::new();
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let length = rest.find(|c| is_part(c) != is_part(first)).unwrap_or(rest.len());
        let (run, others) = rest.split_at(length);
        rest = others;
        // The base64 of `{"`, with which JSON begins.
        if is_part(first) && run.contains("eyJ") {
            shown.push_str("***");
        } else {
            shown.extend(run.chars().map(|c| if c.is_control() { ' ' } else { c }));
        }
    }
    match shown.char_indices().nth(TOLD) {
        None => shown,
        Some((end, _)) => format!("{}...", &shown[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SecretSource;

    fn exchange() -> Grant {
        let subject_token_type = JWT.to_owned();
        let subject_token = SecretSource::File("s".into());
        Grant::TokenExchange { subject_token, subject_token_type }
    }

    #[test]
    fn tokens_that_are_granted() {
        let second = Duration::from_secs(1);
        for (life, expected) in [
            (r#","expires_in":60"#, Some(60 * second)),
            (r#","expires_in":"60""#, Some(60 * second)),
            (r#","expires_in":1.5"#, Some(second + second / 2)),
            (r#","expires_in":18446744073709551615"#, Some(u32::MAX * second)),
            (r#","expires_in":1e300"#, Some(u32::MAX * second)),
            (r#","expires_in":null"#, None),
            ("", None),
        ] {
            let body = format!(r#"{{"access_token":"t","token_type":"bearer"{life}}}"#);
            let granted = read(200, body.as_bytes(), &Grant::ClientCredentials, &[]).unwrap();
            assert_eq!(granted.token.expose(), "t");
            assert_eq!(granted.life.map(|life| life.min(u32::MAX * second)), expected, "{body}");
        }
        for (kind, issued) in [("Bearer", ACCESS_TOKEN), ("bearer", JWT), ("N_A", JWT)] {
            let body = format!(
                r#"{{"access_token":"t","token_type":"{kind}","issued_token_type":"{issued}"}}"#
            );
            assert!(read(200, body.as_bytes(), &exchange(), &[]).is_ok(), "{body}");
        }
    }

    #[test]
    fn answers_without_a_token() {
        let refused = |text: &str| Fault::Refused(text.to_owned());
        let answer = |text: &str| Fault::Answer(text.to_owned());
        let no_json = "status 200, and no JSON object (2 bytes)";
        for (status, body, expected) in [
            (400, r#"{"error":"invalid_client"}"#, refused("invalid_client")),
            (401, r#"{"error":"a","error_description":"b"}"#, refused("a: b")),
            (200, r#"{"error":"a"}"#, refused("a")),
            (400, r#"{"error":"a","error_description":"x\ny"}"#, refused("a: x y")),
            (
                500,
                "{}",
                answer("status 500, and no \"error\" in it (RFC 6749 section 5.2) (2 bytes)"),
            ),
            (503, "<html>", answer("status 503, and no JSON object (6 bytes)")),
            (500, r#"{"error":"unknown_error"}"#, answer("status 500: unknown_error")),
            (429, r#"{"error":"busy"}"#, answer("status 429: busy")),
            (429, r#"{"error":"slow_down"}"#, refused("slow_down")),
            (302, "", answer("status 302, a redirect, which is not followed (0 bytes)")),
            (200, "[]", answer(no_json)),
            (200, "\"\"", answer(no_json)),
            (200, "{}", answer("\"access_token\" is missing")),
            (200, r#"{"access_token":1}"#, answer("\"access_token\" is missing")),
            (
                200,
                r#"{"access_token":"","token_type":"bearer"}"#,
                answer("\"access_token\": empty, a token is wanted"),
            ),
            (200, r#"{"access_token":"t"}"#, answer("\"token_type\" is missing")),
            (
                200,
                r#"{"access_token":"t","token_type":"DPoP"}"#,
                answer("\"token_type\" is \"DPoP\", not \"Bearer\""),
            ),
            (
                200,
                r#"{"access_token":"t","token_type":"N_A"}"#,
                answer("\"token_type\" is \"N_A\", not \"Bearer\""),
            ),
            (
                200,
                r#"{"access_token":"t","token_type":"bearer","expires_in":-1}"#,
                answer("\"expires_in\" is no number of seconds"),
            ),
            (
                200,
                r#"{"access_token":"t","token_type":"bearer","expires_in":"soon"}"#,
                answer("\"expires_in\" is no number of seconds"),
            ),
        ] {
            let found = read(status, body.as_bytes(), &Grant::ClientCredentials, &[]);
            assert_eq!(found.unwrap_err(), expected, "{body}");
        }
        for (rest, part) in [
            ("", "\"issued_token_type\" is missing"),
            (
                r#","issued_token_type":"urn:ietf:params:oauth:token-type:id_token""#,
                "\"issued_token_type\" is \"urn:ietf:params:oauth:token-type:id_token\", not",
            ),
        ] {
            let body = format!(r#"{{"access_token":"t","token_type":"bearer"{rest}}}"#);
            let fault = read(200, body.as_bytes(), &exchange(), &[]).unwrap_err();
            let Fault::Answer(reason) = fault else { panic!("{fault:?}") };
            assert!(reason.starts_with(part), "{reason}");
        }
    }

    #[test]
    fn what_a_provider_repeats_is_not_told() {
        let (secret, short) = (Secret::new("correct horse"), Secret::new("s"));
        let body = r#"{"error":"invalid_grant",
            "error_description":"\"eyJhbGciOiJub25lIn0.e30.x\" by correct horse is bad"}"#;
        let found = read(400, body.as_bytes(), &Grant::ClientCredentials, &[&secret, &short]);
        let expected = "invalid_grant: \"***\" by *** is bad".to_owned();
        assert_eq!(found.unwrap_err(), Fault::Refused(expected));
        assert_eq!(told(&"ä".repeat(301), &[]), format!("{}...", "ä".repeat(300)));
    }
}
