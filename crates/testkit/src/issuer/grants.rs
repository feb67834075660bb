//! The token endpoint of the test's issuer: client credentials, the device flow (RFC 8628) and
//! refresh tokens.

use std::collections::VecDeque;

use serde_json::{Value, json};

/// The code that a device polls with.
const DEVICE_CODE: &str = "device-code-1";

/// The tokens that it grants.
#[derive(Debug)]
pub(super) struct Grants {
    /// Subject of the tokens.
    pub(super) subject: String,
    /// Their life in s.
    pub(super) seconds: i64,
    /// Further claims.
    pub(super) claims: Value,
    /// Errors that the next polls of a device get; then it is let in.
    pub(super) polls: VecDeque<String>,
    /// The refresh token that is good, and the number of those before it.
    refresh: Option<String>,
    refreshed: u64,
}

impl Default for Grants {
    fn default() -> Self {
        Self {
            subject: "nobody".to_owned(),
            seconds: 600,
            claims: json!({}),
            polls: VecDeque::new(),
            refresh: None,
            refreshed: 0,
        }
    }
}

/// A granted token, without itself, or an error of the token endpoint.
pub(super) enum Granted {
    /// Tokens with this refresh token, if any.
    Token(Option<String>),
    Error(String),
}

impl Grants {
    /// Withdraws the refresh token.
    pub(super) fn forget(&mut self) {
        self.refresh = None;
    }

    /// The answer to a device that asks for a code.
    pub(super) fn device(&self, issuer: &str) -> Value {
        json!({
            "device_code": DEVICE_CODE, "user_code": "WDJB-MJHT", "expires_in": 600, "interval": 1,
            "verification_uri": format!("{issuer}/device"),
            "verification_uri_complete": format!("{issuer}/device?user_code=WDJB-MJHT"),
        })
    }

    /// Decides on a token request.
    pub(super) fn decide(&mut self, form: &[(String, String)]) -> Granted {
        let field =
            |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| &**value);
        let error = |code: &str| Granted::Error(code.to_owned());
        match field("grant_type") {
            Some("client_credentials") => Granted::Token(None),
            Some("urn:ietf:params:oauth:grant-type:device_code") => {
                if field("device_code") != Some(DEVICE_CODE) {
                    return error("invalid_grant");
                }
                match self.polls.pop_front() {
                    Some(code) => Granted::Error(code),
                    None => self.with_refresh(),
                }
            }
            Some("refresh_token") => match (field("refresh_token"), &self.refresh) {
                (Some(shown), Some(good)) if shown == good => self.with_refresh(),
                _ => error("invalid_grant"),
            },
            _ => error("unsupported_grant_type"),
        }
    }

    /// Each refresh token is good once.
    fn with_refresh(&mut self) -> Granted {
        self.refreshed += 1;
        self.refresh = Some(format!("refresh-token-{}", self.refreshed));
        Granted::Token(self.refresh.clone())
    }
}

/// The pairs of a form.
pub(super) fn form(body: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(body).into_owned().collect()
}
