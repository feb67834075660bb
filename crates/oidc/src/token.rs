//! Tokens, kept and renewed. One provider serves every connection of a client: it keeps the token
//! and gets the next one when four fifths of its life are over. The last fifth is for a provider
//! that is away: the token is good until its end.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tracing::warn;

use crate::answer::{self, Fault};
use crate::client;
use crate::config::{Assertion, ClientAuthentication, EndpointConfig, Grant, TokenConfig};
use crate::error::TokenError;
use crate::files;
use crate::http::Http;
use crate::jwt::{self, Claims};
use crate::key::SigningKey;
use crate::request::{Shown, TokenRequest};
use crate::secret::Secret;

/// The life of a token that does not state its own.
const UNTOLD_LIFE: Duration = Duration::from_secs(300);
/// The longest life that is believed: some providers say "never" by the largest number they have.
const LONGEST_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// The shortest time between two requests.
const LEAST_WAIT: Duration = Duration::from_secs(1);

/// A token and when it ends.
#[derive(Clone, Debug)]
pub struct Token {
    /// The token itself.
    pub secret: Secret,
    /// End of its life, in ms since the epoch.
    pub expires_ms: i64,
    /// The same moment.
    ends_at: Instant,
    /// The time when the next one is due.
    pub refresh_at: Instant,
}

/// Gives the token of one client.
pub struct TokenProvider {
    config: TokenConfig,
    /// The way to the token endpoint; unused with a file.
    http: Http,
    token: Mutex<Option<Token>>,
    /// Time and error of the last failure. Locked by the caller that asks.
    asking: Mutex<Option<(Instant, TokenError)>>,
}

impl fmt::Debug for TokenProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenProvider").field("config", &self.config).finish_non_exhaustive()
    }
}

impl TokenProvider {
    /// Checks the settings, the keys and the certificates; sends no request.
    ///
    /// # Errors
    /// A URL or a file that cannot be used.
    pub fn new(config: &TokenConfig) -> Result<Self, TokenError> {
        let provider = Self::unseen(config);
        if let TokenConfig::Endpoint(endpoint) = config {
            check(endpoint, &provider.http)?;
        }
        Ok(provider)
    }

    /// Makes a provider with a URL and files that were not looked at: what cannot be used is an
    /// error of each token that is asked for. Does not block.
    pub fn unseen(config: &TokenConfig) -> Self {
        let http = match config {
            TokenConfig::File(_) => Http::default(),
            TokenConfig::Endpoint(endpoint) => {
                let certificate = client::certificate(&endpoint.authentication);
                Http::unseen(endpoint.ca.as_deref(), certificate)
            }
        };
        let (token, asking) = (Mutex::default(), Mutex::default());
        Self { config: config.clone(), http, token, asking }
    }

    /// The settings.
    pub fn config(&self) -> &TokenConfig {
        &self.config
    }

    /// The token as long as it lives; asks nobody.
    pub fn current(&self) -> Option<Token> {
        self.kept(|token| token.ends_at)
    }

    /// The token as long as it lives, else a new one. For connections, which do not wait for a
    /// provider while they need not: the thread that supplies librdkafka asks for the next one.
    ///
    /// # Errors
    /// Why there is no token.
    pub fn living(&self) -> Result<Token, TokenError> {
        self.current().map_or_else(|| self.token(), Ok)
    }

    /// The token; a new one if the last one's time has come. If the provider gives none, the last
    /// one as long as it lives, to be asked for again soon. Blocks while the provider answers.
    ///
    /// # Errors
    /// Why there is no token.
    pub fn token(&self) -> Result<Token, TokenError> {
        let began = Instant::now();
        let mut failed = self.asking.lock();
        // Another caller may have asked meanwhile: its answer is for all.
        if let Some(token) = self.kept(|token| token.refresh_at) {
            return Ok(token);
        }
        if let Some((_, error)) = failed.as_ref().filter(|(when, _)| *when > began) {
            return Err(error.clone());
        }
        match self.ask() {
            // It was asked for while that was there.
            Ok(_) if self.is_taken_away() => Err(TokenError::TakenAway),
            Ok(token) => {
                *self.token.lock() = Some(token.clone());
                Ok(token)
            }
            Err(error) => {
                *failed = Some((Instant::now(), error.clone()));
                let mut kept = self.token.lock();
                let Some(token) = kept.as_mut().filter(|token| Instant::now() < token.ends_at)
                else {
                    return Err(error);
                };
                let left = token.ends_at.saturating_duration_since(Instant::now());
                warn!(%error, left = ?left, "the last token is used while it lives");
                token.refresh_at = (Instant::now() + (left / 4).max(LEAST_WAIT)).min(token.ends_at);
                Ok(token.clone())
            }
        }
    }

    /// Returns the token that is there, before the moment that `until` gives.
    fn kept(&self, until: fn(&Token) -> Instant) -> Option<Token> {
        let mut token = self.token.lock();
        if self.is_taken_away() {
            *token = None;
        }
        token.as_ref().filter(|token| Instant::now() < until(token)).cloned()
    }

    /// Returns true if the token that is exchanged is none any more.
    fn is_taken_away(&self) -> bool {
        let TokenConfig::Endpoint(endpoint) = &self.config else { return false };
        match &endpoint.grant {
            Grant::TokenExchange { subject_token, .. } => subject_token.is_gone(),
            _ => false,
        }
    }

    fn ask(&self) -> Result<Token, TokenError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        match &self.config {
            TokenConfig::Endpoint(endpoint) => request(endpoint, &self.http, now),
            TokenConfig::File(path) => from_file(path, now),
        }
    }
}

impl Token {
    /// The rest of its life.
    pub fn life(&self, now: Instant) -> Duration {
        self.ends_at.saturating_duration_since(now)
    }

    /// A token that is good for `life` from `now` on, the time since the epoch.
    fn new(secret: Secret, life: Option<Duration>, now: Duration) -> Self {
        let life = life.unwrap_or(UNTOLD_LIFE).min(LONGEST_LIFE);
        let instant = Instant::now();
        Self {
            secret,
            expires_ms: i64::try_from((now + life).as_millis()).unwrap_or(i64::MAX),
            ends_at: instant + life,
            refresh_at: instant + (life * 4 / 5).max(LEAST_WAIT),
        }
    }
}

/// Sees whether the URL, the keys and the certificates can be used.
fn check(endpoint: &EndpointConfig, http: &Http) -> Result<(), TokenError> {
    client::look(&endpoint.authentication)?;
    if let Grant::JwtBearer(Assertion::Signed(assertion)) = &endpoint.grant {
        SigningKey::read(&assertion.key)?;
    }
    let fault = |error| TokenError::http(&told_url(endpoint), error);
    http.check(&endpoint.token_url).map_err(fault)
}

/// Asks the token endpoint.
fn request(endpoint: &EndpointConfig, http: &Http, now: Duration) -> Result<Token, TokenError> {
    let url = told_url(endpoint);
    let shown = show(endpoint, now)?;
    let request = TokenRequest::new(endpoint, &shown);
    let answer = http.post_form(&endpoint.token_url, request.basic.as_ref(), &request.body);
    let answer = answer.map_err(|error| TokenError::http(&url, error))?;
    let sent = [&shown.client, &shown.subject, &request.basic];
    let secrets: Vec<_> = sent.into_iter().flatten().collect();
    match answer::read(answer.status, &answer.body, &endpoint.grant, &secrets) {
        Ok(granted) if shown.subject.as_ref() == Some(&granted.token) => {
            let reason = "it is the token that it was asked for another one in exchange";
            Err(TokenError::Answer { url, reason: reason.to_owned() })
        }
        Ok(granted) => Ok(Token::new(granted.token, granted.life, now)),
        Err(Fault::Answer(reason)) => Err(TokenError::Answer { url, reason }),
        Err(Fault::Refused(reason)) => Err(TokenError::Refused {
            url,
            client_id: endpoint.client_id.clone(),
            reason,
            shown: files_shown(endpoint, &shown, now),
        }),
    }
}

/// The token of a file. Its end is its own, if it is a JWT.
fn from_file(path: &Path, now: Duration) -> Result<Token, TokenError> {
    let secret = files::token(path)?;
    let end = jwt::end(&secret);
    match end {
        Some(end) if end <= now => {
            let reason = "the token in it is past its end (`exp`)";
            Err(files::FileFault::new(path, reason).into())
        }
        end => Ok(Token::new(secret, end.map(|end| end.saturating_sub(now)), now)),
    }
}

/// Reads or signs what this request shows.
fn show(endpoint: &EndpointConfig, now: Duration) -> Result<Shown, TokenError> {
    let id = endpoint.client_id.as_deref();
    let client = client::proof(&endpoint.authentication, id, &endpoint.token_url, now)?;
    let subject = match &endpoint.grant {
        Grant::ClientCredentials => None,
        Grant::TokenExchange { subject_token, .. } => {
            Some(subject_token.read(files::token)?.ok_or(TokenError::TakenAway)?)
        }
        Grant::JwtBearer(Assertion::File(path)) => Some(files::token(path)?),
        Grant::JwtBearer(Assertion::Signed(assertion)) => {
            let claims = Claims {
                issuer: &assertion.issuer,
                subject: &assertion.subject,
                audience: assertion.audience.as_ref().unwrap_or(&endpoint.token_url),
                life: assertion.life,
                others: &assertion.claims,
            };
            let signed = jwt::assertion(&claims, &SigningKey::read(&assertion.key)?, now);
            Some(signed.map_err(|reason| TokenError::Signature { reason })?)
        }
    };
    Ok(Shown { client, subject })
}

/// The files of what a provider was shown and did not take.
fn files_shown(endpoint: &EndpointConfig, shown: &Shown, now: Duration) -> Vec<String> {
    let client: Option<&Path> = match &endpoint.authentication {
        ClientAuthentication::None => None,
        ClientAuthentication::Secret(secret) => secret.file(),
        ClientAuthentication::AssertionFile(path) => Some(path),
        ClientAuthentication::Key { key, .. } => Some(&key.file),
        ClientAuthentication::Certificate(client) => Some(&client.certificate),
    };
    let subject: Option<&Path> = match &endpoint.grant {
        Grant::ClientCredentials => None,
        Grant::TokenExchange { subject_token, .. } => subject_token.file(),
        Grant::JwtBearer(Assertion::File(path)) => Some(path),
        Grant::JwtBearer(Assertion::Signed(assertion)) => Some(&assertion.key.file),
    };
    let tell = |path: &Path, content: Option<&Secret>| {
        let is_over = content.and_then(jwt::end).is_some_and(|end| end <= now);
        let over = if is_over { ", whose token is past its end" } else { "" };
        format!("{}{over}", path.display())
    };
    let client = client.map(|path| tell(path, shown.client.as_ref()));
    let subject = subject.map(|path| tell(path, shown.subject.as_ref()));
    client.into_iter().chain(subject).collect()
}

/// The URL without its query: some providers want a key there.
fn told_url(endpoint: &EndpointConfig) -> String {
    endpoint.token_url.split('?').next().unwrap_or_default().to_owned()
}
