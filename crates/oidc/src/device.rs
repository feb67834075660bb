//! The device authorization grant (RFC 8628): its requests and answers, and when to ask. No I/O.

use std::time::{Duration, Instant};

use form_urlencoded::Serializer;
use serde_json::{Map, Value};

use crate::answer::{self, Fault};
use crate::config::Grant;
use crate::files::wrong_token;
use crate::secret::Secret;

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Time between two polls if the provider gives none (RFC 8628 section 3.2), and the most it may
/// be.
const INTERVAL: Duration = Duration::from_secs(5);
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);
/// Added by each `slow_down` (RFC 8628 section 3.5).
const SLOWER: Duration = Duration::from_secs(5);
/// The longest life of a code that is waited for.
const LONGEST_LIFE: Duration = Duration::from_secs(3600);
/// The longest text that is shown to a person, in bytes.
const SHOWN: usize = 2048;

/// A code of a device, and what its user is shown (RFC 8628 section 3.2).
#[derive(Clone, Debug)]
pub struct DeviceCode {
    code: Secret,
    /// The code that the user enters.
    pub user_code: String,
    /// The page that the user opens.
    pub verification_uri: String,
    /// The same page with the code filled in.
    pub verification_uri_complete: Option<String>,
    /// Time for which the code is good.
    pub life: Duration,
    /// Time between two polls.
    pub interval: Duration,
}

/// Tokens of a user.
#[derive(Clone, Debug)]
pub struct LoginTokens {
    /// The access token.
    pub access: Secret,
    /// Its life from now on, if the provider says so.
    pub life: Option<Duration>,
    /// The token that gets the next one, if there is one.
    pub refresh: Option<Secret>,
}

/// An answer to a poll, or none.
#[derive(Debug)]
pub enum Polled {
    /// The user has let the device in.
    Granted(LoginTokens),
    /// The user has not done so yet.
    Pending,
    /// The same, and the device is to ask less often.
    SlowDown,
    /// No answer, or the provider is in trouble.
    Away,
    /// The user said no.
    Denied,
    /// The code is good no more.
    Expired,
}

/// The end of a login without tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginEnd {
    /// The user said no.
    #[error("the login was denied at the provider")]
    Denied,
    /// The user did not enter the code in time.
    #[error("the code was not entered in time")]
    Expired,
}

/// The polls of a device: when the next one is due, and when it is no use.
#[derive(Debug)]
pub struct Polling {
    interval: Duration,
    next: Instant,
    end: Instant,
}

impl Polling {
    /// Begins with a code that came now.
    pub fn new(code: &DeviceCode, now: Instant) -> Self {
        let interval = code.interval.min(LONGEST_INTERVAL);
        Self { interval, next: now + interval, end: now + code.life.min(LONGEST_LIFE) }
    }

    /// The time of the next poll.
    ///
    /// # Errors
    /// The code has ended by then.
    pub fn poll_at(&self) -> Result<Instant, LoginEnd> {
        if self.next < self.end { Ok(self.next) } else { Err(LoginEnd::Expired) }
    }

    /// Takes what came of a poll. Returns the tokens, if these are they.
    ///
    /// # Errors
    /// The login has ended without any.
    pub fn handle(
        &mut self,
        polled: Polled,
        now: Instant,
    ) -> Result<Option<LoginTokens>, LoginEnd> {
        match polled {
            Polled::Granted(tokens) => return Ok(Some(tokens)),
            Polled::Denied => return Err(LoginEnd::Denied),
            Polled::Expired => return Err(LoginEnd::Expired),
            Polled::Pending => {}
            Polled::SlowDown => self.interval += SLOWER,
            // RFC 8628 section 3.5: less often, such as by an exponential backoff.
            Polled::Away => self.interval *= 2,
        }
        self.interval = self.interval.clamp(Duration::from_secs(1), LONGEST_INTERVAL);
        self.next = now + self.interval;
        Ok(None)
    }
}

/// The form that asks for a code.
pub(crate) fn code_form(client_id: &str, scope: &[String]) -> Secret {
    let mut form = Serializer::new(String::new());
    form.append_pair("client_id", client_id);
    if !scope.is_empty() {
        form.append_pair("scope", &scope.join(" "));
    }
    Secret::new(form.finish())
}

/// The form of a poll.
pub(crate) fn poll_form(client_id: &str, code: &DeviceCode) -> Secret {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", GRANT_TYPE)
        .append_pair("device_code", code.code.expose())
        .append_pair("client_id", client_id);
    Secret::new(form.finish())
}

/// The form that asks for the next token (RFC 6749 section 6).
pub(crate) fn refresh_form(client_id: &str, refresh: &Secret) -> Secret {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token")
        .append_pair("refresh_token", refresh.expose())
        .append_pair("client_id", client_id);
    Secret::new(form.finish())
}

/// Reads the answer with a code.
///
/// # Errors
/// There is none in it.
pub(crate) fn read_code(status: u16, body: &[u8]) -> Result<DeviceCode, Fault> {
    let answer = answer::object(status, body, &[])?;
    let fault = |name: &str, reason: &str| Fault::Answer(format!("\"{name}\" {reason}"));
    let text = |name: &'static str| match answer.get(name).and_then(Value::as_str) {
        None => Err(fault(name, "is missing")),
        // It goes to a terminal.
        Some(text) if text.len() > SHOWN || text.chars().any(char::is_control) => {
            Err(fault(name, "cannot be shown"))
        }
        Some(text) => Ok(text.to_owned()),
    };
    let page = |name: &'static str| {
        text(name).and_then(|url| match url.split_once("://") {
            Some(("https" | "http", _)) => Ok(url),
            _ => Err(fault(name, "is no address of a page")),
        })
    };
    let seconds = |name: &str| answer.get(name).and_then(answer::seconds);
    let code = text("device_code")?;
    Ok(DeviceCode {
        code: Secret::new(code),
        user_code: text("user_code")?,
        verification_uri: page("verification_uri")?,
        verification_uri_complete: page("verification_uri_complete").ok(),
        life: seconds("expires_in")
            .ok_or_else(|| fault("expires_in", "is no number of seconds"))?,
        interval: seconds("interval").unwrap_or(INTERVAL),
    })
}

/// Reads the answer to a poll.
///
/// # Errors
/// The login cannot continue.
pub(crate) fn read_poll(status: u16, body: &[u8], code: &DeviceCode) -> Result<Polled, Fault> {
    if status == 429 {
        return Ok(Polled::SlowDown);
    }
    if status >= 500 {
        return Ok(Polled::Away);
    }
    let error = match read_tokens(status, body, &[&code.code]) {
        Ok(tokens) => return Ok(Polled::Granted(tokens)),
        Err(Fault::Refused(reason)) => reason,
        Err(fault) => return Err(fault),
    };
    match error.split(':').next().unwrap_or_default() {
        "authorization_pending" => Ok(Polled::Pending),
        "slow_down" => Ok(Polled::SlowDown),
        "access_denied" => Ok(Polled::Denied),
        "expired_token" => Ok(Polled::Expired),
        _ => Err(Fault::Refused(error)),
    }
}

/// Reads the tokens of an answer. `secrets`: what was sent and must not come back in an error.
///
/// # Errors
/// There are none in it.
pub(crate) fn read_tokens(
    status: u16,
    body: &[u8],
    secrets: &[&Secret],
) -> Result<LoginTokens, Fault> {
    let answer = answer::object(status, body, secrets)?;
    let granted = answer::granted(&answer, &Grant::ClientCredentials, secrets);
    let granted = granted.map_err(Fault::Answer)?;
    let refresh = refresh_token(&answer).map_err(Fault::Answer)?;
    Ok(LoginTokens { access: granted.token, life: granted.life, refresh })
}

fn refresh_token(answer: &Map<String, Value>) -> Result<Option<Secret>, String> {
    let Some(token) = answer.get("refresh_token").filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let token = token.as_str().ok_or("\"refresh_token\" is no text")?;
    match wrong_token(token) {
        Some(reason) => Err(format!("\"refresh_token\": {reason}")),
        None => Ok(Some(Secret::new(token))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "there is no other way to make an instant")]

    use super::*;

    fn code(rest: &str) -> Result<DeviceCode, Fault> {
        let body = format!(
            r#"{{"device_code":"DEV.CODE","user_code":"WDJB-MJHT",
                "verification_uri":"https://id/device","expires_in":1800{rest}}}"#
        );
        read_code(200, body.as_bytes())
    }

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn codes() {
        let plain = code("").unwrap();
        assert_eq!((plain.user_code.as_str(), plain.life), ("WDJB-MJHT", S(1800)));
        assert_eq!((plain.interval, plain.verification_uri_complete), (INTERVAL, None));
        let rest = r#","interval":1,"verification_uri_complete":"https://id/device?c=W""#;
        let full = code(rest).unwrap();
        assert_eq!(full.interval, S(1));
        assert_eq!(full.verification_uri_complete.as_deref(), Some("https://id/device?c=W"));
        assert!(!format!("{full:?}").contains("DEV.CODE"));
        // What a provider says goes to a terminal.
        for (rest, part) in [
            (r#","user_code":"\u001b[2J""#, "\"user_code\" cannot be shown"),
            (r#","user_code":7"#, "\"user_code\" is missing"),
            (r#","verification_uri":"javascript:x""#, "is no address"),
            (r#","expires_in":"soon""#, "\"expires_in\" is no number"),
            (r#","error":"invalid_client""#, "invalid_client"),
        ] {
            let fault = format!("{:?}", code(rest).unwrap_err());
            assert!(fault.replace("\\\"", "\"").contains(part), "{fault}");
        }
    }

    #[test]
    fn answers_to_polls() {
        let code = code("").unwrap();
        let polled = |status, body: &str| {
            let polled = read_poll(status, body.as_bytes(), &code);
            polled.map(|polled| format!("{polled:?}")).map_err(|fault| format!("{fault:?}"))
        };
        let error = |code: &str| format!(r#"{{"error":"{code}","error_description":"why"}}"#);
        for (status, body, told) in [
            (400, error("authorization_pending"), "Pending"),
            (400, error("slow_down"), "SlowDown"),
            (400, error("access_denied"), "Denied"),
            (400, error("expired_token"), "Expired"),
            (429, String::new(), "SlowDown"),
            (503, "<html>".to_owned(), "Away"),
        ] {
            assert_eq!(polled(status, &body).as_deref(), Ok(told), "{body}");
        }
        let body =
            r#"{"access_token":"T","token_type":"bearer","expires_in":60,"refresh_token":"R"}"#;
        let Ok(Polled::Granted(tokens)) = read_poll(200, body.as_bytes(), &code) else { panic!() };
        assert_eq!((tokens.access.expose(), tokens.life), ("T", Some(S(60))));
        assert_eq!(tokens.refresh.as_ref().map(Secret::expose), Some("R"));
        for (status, body, part) in [
            (400, error("invalid_grant"), "Refused(\"invalid_grant: why\")"),
            (400, error("DEV.CODE is bad"), "Refused(\"*** is bad: why\")"),
            (302, String::new(), "redirect"),
            (200, "{}".to_owned(), "access_token"),
            (200, body.replace("\"R\"", "\"two words\""), "refresh_token"),
        ] {
            let fault = polled(status, &body).unwrap_err();
            assert!(fault.contains(part), "{fault}");
        }
    }

    #[test]
    fn when_to_ask() {
        let start = Instant::now();
        let after = |polling: &Polling| polling.poll_at().map(|at| at.duration_since(start));
        let code = code(r#","interval":5"#).unwrap();
        let mut polling = Polling::new(&code, start);
        assert_eq!(after(&polling), Ok(S(5)));
        for (now, polled, next) in [
            (5, Polled::Pending, 10),
            (10, Polled::SlowDown, 20),
            (20, Polled::Pending, 30),
            (31, Polled::Away, 51),
            (60, Polled::Away, 100),
            // Never less often than once a minute.
            (100, Polled::Away, 160),
            (160, Polled::SlowDown, 220),
        ] {
            assert!(polling.handle(polled, start + S(now)).unwrap().is_none());
            assert_eq!(after(&polling), Ok(S(next)));
        }
        assert!(polling.handle(Polled::Pending, start + S(1790)).unwrap().is_none());
        assert_eq!(after(&polling), Err(LoginEnd::Expired));
        for (polled, end) in
            [(Polled::Denied, LoginEnd::Denied), (Polled::Expired, LoginEnd::Expired)]
        {
            assert_eq!(polling.handle(polled, start).unwrap_err(), end);
        }
        let tokens = LoginTokens { access: Secret::new("T"), life: None, refresh: None };
        assert!(polling.handle(Polled::Granted(tokens), start).unwrap().is_some());
    }

    #[test]
    fn intervals_that_a_provider_may_not_choose() {
        let start = Instant::now();
        for (rest, first, second) in [
            (r#","interval":0"#, 0, 1),
            (r#","interval":1e9"#, 60, 60),
            (r#","interval":-1"#, 5, 5),
        ] {
            let mut polling = Polling::new(&code(rest).unwrap(), start);
            assert_eq!(polling.poll_at(), Ok(start + S(first)), "{rest}");
            polling.handle(Polled::Pending, start).unwrap();
            assert_eq!(polling.poll_at(), Ok(start + S(second)), "{rest}");
        }
    }
}
