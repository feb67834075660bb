//! Tokens of an OIDC provider, by client credentials (RFC 6749 section 4.4). One provider serves
//! every connection of a source: it keeps the token and asks for the next one when four fifths of
//! its life are over. The last fifth is for a provider that is away: the token is good until its
//! end.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::fmt;
use std::fs;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use oauth2::basic::{BasicClient, BasicErrorResponse, BasicTokenResponse};
use oauth2::{
    ClientId, ClientSecret, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse,
    RequestTokenError, Scope, TokenResponse, TokenUrl,
};
use parking_lot::Mutex;
use tracing::warn;
use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use crate::config::OidcClient;
use crate::error::TokenError;
use crate::secret::Secret;

/// Longest time for one answer of the provider.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read.
const ANSWER_BYTES: u64 = 1 << 20;
/// The life of a token that does not tell its own.
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

type Endpoint =
    BasicClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;

/// Gives the token of one client of a provider.
pub struct TokenProvider {
    config: OidcClient,
    endpoint: Endpoint,
    agent: Agent,
    token: Mutex<Option<Token>>,
    /// Held while a token is asked for; the time and reason of the last failure.
    asking: Mutex<Option<(Instant, TokenError)>>,
}

impl fmt::Debug for TokenProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenProvider").field("config", &self.config).finish_non_exhaustive()
    }
}

impl TokenProvider {
    /// Checks the settings; sends nothing.
    ///
    /// # Errors
    /// A URL or a file that cannot be used.
    pub fn new(config: &OidcClient) -> Result<Self, TokenError> {
        let url = TokenUrl::new(config.token_url.clone())
            .map_err(|error| TokenError::Url { reason: error.to_string() })?;
        let endpoint = BasicClient::new(ClientId::new(config.client_id.clone()))
            .set_client_secret(ClientSecret::new(config.client_secret.expose().to_owned()))
            .set_token_uri(url);
        let tls = TlsConfig::builder()
            .root_certs(roots(config)?)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            // A token endpoint that redirects would be sent the client's secret elsewhere.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build()
            .new_agent();
        Ok(Self {
            config: config.clone(),
            endpoint,
            agent,
            token: Mutex::default(),
            asking: Mutex::default(),
        })
    }

    /// The client's id, which stands for the principal until the broker has read the token.
    pub fn client_id(&self) -> &str {
        &self.config.client_id
    }

    /// SASL extensions (KIP-342).
    pub fn extensions(&self) -> &[(String, String)] {
        &self.config.extensions
    }

    /// The token as long as it lives, else a new one. For connections, which do not wait for a
    /// provider while they need not: the thread that supplies librdkafka asks for the next one.
    ///
    /// # Errors
    /// Why there is no token.
    pub fn living(&self) -> Result<Token, TokenError> {
        match self.kept(|token| token.ends_at) {
            Some(token) => Ok(token),
            None => self.token(),
        }
    }

    /// The token; a new one if the last one's time has come. If the provider gives none, the last
    /// one as long as it lives, to be asked for again soon. Blocks while the provider answers.
    ///
    /// # Errors
    /// Why there is no token.
    pub fn token(&self) -> Result<Token, TokenError> {
        let began = Instant::now();
        let mut failed = self.asking.lock();
        // Another one may have asked meanwhile: its answer is everybody's.
        if let Some(token) = self.kept(|token| token.refresh_at) {
            return Ok(token);
        }
        if let Some((_, error)) = failed.as_ref().filter(|(when, _)| *when > began) {
            return Err(error.clone());
        }
        match self.ask() {
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

    /// The token that is there, before the moment that `until` tells.
    fn kept(&self, until: fn(&Token) -> Instant) -> Option<Token> {
        self.token.lock().as_ref().filter(|token| Instant::now() < until(token)).cloned()
    }

    fn ask(&self) -> Result<Token, TokenError> {
        let mut request = self.endpoint.exchange_client_credentials();
        for scope in &self.config.scope {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        if let Some(audience) = &self.config.audience {
            request = request.add_extra_param("audience", audience);
        }
        let answer: BasicTokenResponse =
            request.request(&|request| self.send(request)).map_err(|error| self.why(error))?;
        let life = answer.expires_in().unwrap_or(UNTOLD_LIFE).min(LONGEST_LIFE);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Token {
            secret: Secret::new(answer.access_token().secret()),
            expires_ms: i64::try_from((now + life).as_millis()).unwrap_or(i64::MAX),
            ends_at: Instant::now() + life,
            refresh_at: Instant::now() + (life * 4 / 5).max(LEAST_WAIT),
        })
    }

    fn send(&self, request: HttpRequest) -> Result<HttpResponse, ureq::Error> {
        let (parts, mut body) = self.agent.run(request)?.into_parts();
        let mut bytes = Vec::new();
        body.as_reader().take(ANSWER_BYTES).read_to_end(&mut bytes)?;
        Ok(HttpResponse::from_parts(parts, bytes))
    }

    fn why(&self, error: RequestTokenError<ureq::Error, BasicErrorResponse>) -> TokenError {
        // Without its query: some providers want a key there.
        let url = self.config.token_url.split('?').next().unwrap_or_default().to_owned();
        match error {
            RequestTokenError::ServerResponse(refusal) => {
                let description =
                    refusal.error_description().map(|text| format!(": {text}")).unwrap_or_default();
                let (client_id, reason) =
                    (self.config.client_id.clone(), format!("{}{description}", refusal.error()));
                TokenError::Refused { url, client_id, reason }
            }
            RequestTokenError::Request(error) => {
                TokenError::Unreachable { url, reason: error.to_string() }
            }
            // The answer itself is not shown: it may hold a token.
            RequestTokenError::Parse(error, body) => {
                TokenError::Answer { url, reason: format!("{error} ({} bytes)", body.len()) }
            }
            RequestTokenError::Other(reason) => TokenError::Answer { url, reason },
        }
    }
}

fn roots(config: &OidcClient) -> Result<RootCerts, TokenError> {
    let Some(path) = &config.ca else { return Ok(RootCerts::PlatformVerifier) };
    let fault = |reason: String| TokenError::Ca { path: path.clone(), reason };
    let text = fs::read(path).map_err(|error| fault(error.to_string()))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| fault(error.to_string()))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(fault("no certificate in it (PEM)".to_owned()));
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}
