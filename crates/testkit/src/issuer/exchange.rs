//! The token exchange of the test's issuer (RFC 8693): a token of a peer for one of the same
//! subject with another audience.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, KeyPair, UnparsedPublicKey};
use serde_json::{Value, json};

use super::request::Request;
use super::{IssuerState, name};

const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The tokens that a subject's tokens were exchanged for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchanged {
    /// The number of them.
    pub count: usize,
    /// Those that were asked for before the one before had ended.
    pub renewals: usize,
}

/// All tokens that were exchanged.
#[derive(Debug)]
pub(super) struct Exchanges {
    /// The life of those to come, in s.
    pub(super) seconds: i64,
    of_subjects: HashMap<String, (Exchanged, Instant)>,
}

/// A request for an exchange.
pub(super) struct ExchangeRequest<'a> {
    subject_token: &'a str,
    audience: &'a str,
}

impl Default for Exchanges {
    fn default() -> Self {
        Self { seconds: 600, of_subjects: HashMap::new() }
    }
}

impl Exchanges {
    /// The tokens that were given to a subject.
    pub(super) fn of(&self, subject: &str) -> Exchanged {
        self.of_subjects.get(subject).map(|(exchanged, _)| *exchanged).unwrap_or_default()
    }

    /// Takes note of one more for a subject.
    fn count(&mut self, subject: &str) {
        let now = Instant::now();
        let (exchanged, end) =
            self.of_subjects.entry(subject.to_owned()).or_insert((Exchanged::default(), now));
        exchanged.renewals += usize::from(now < *end);
        exchanged.count += 1;
        *end = now + Duration::from_secs(self.seconds.unsigned_abs());
    }

    /// The answer with such a token.
    fn answer(&self, token: &str) -> Value {
        json!({
            "access_token": token, "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer",
            "expires_in": self.seconds,
        })
    }
}

impl IssuerState {
    /// The subject of a token that its key has signed.
    fn subject_of(&self, token: &str) -> Option<String> {
        let (signed, signature) = token.rsplit_once('.')?;
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).ok();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key());
        key.verify(signed.as_bytes(), &decode(signature)?).ok()?;
        let payload: Value = serde_json::from_slice(&decode(signed.split_once('.')?.1)?).ok()?;
        Some(payload["sub"].as_str()?.to_owned())
    }

    /// Status and body of the answer to a client that wants a token exchanged.
    pub(super) fn exchanged(
        &mut self,
        request: &Request,
        wanted: &ExchangeRequest<'_>,
        port: u16,
    ) -> (u16, Value) {
        if !request.is_of_client() {
            return (401, json!({ "error": "invalid_client" }));
        }
        let Some(subject) = self.subject_of(wanted.subject_token) else {
            return (400, json!({ "error": "invalid_request" }));
        };
        self.exchanges.count(&subject);
        let (seconds, claims) = (self.exchanges.seconds, json!({ "aud": wanted.audience }));
        let token = self.token(&name(port), &subject, seconds, &claims);
        (200, self.exchanges.answer(&token))
    }
}

/// The exchange that a form asks for, if it does.
pub(super) fn request(form: &[(String, String)]) -> Option<ExchangeRequest<'_>> {
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| &**value);
    if field("grant_type") != Some(TOKEN_EXCHANGE) {
        return None;
    }
    let text = |name: &str| field(name).unwrap_or_default();
    Some(ExchangeRequest { subject_token: text("subject_token"), audience: text("audience") })
}
