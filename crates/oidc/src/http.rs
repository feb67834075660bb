//! HTTP to a provider: one request at a time, with a deadline, without redirects and proxies.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ureq::http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use ureq::http::{Response, Uri};
use ureq::tls::{Certificate, ClientCert, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use crate::config::ClientCertificate;
use crate::files::{self, FileFault};
use crate::secret::Secret;

/// Longest time that the provider may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read.
const ANSWER_BYTES: u64 = 1 << 20;

/// Sends requests to a provider.
#[derive(Clone, Debug, Default)]
pub struct Http {
    /// Certificate authorities to trust instead of the system's (PEM).
    ca: Option<PathBuf>,
    /// The certificate to show (RFC 8705).
    client: Option<ClientCertificate>,
}

/// An answer.
pub struct HttpAnswer {
    /// Its status.
    pub status: u16,
    /// Its `Cache-Control`.
    pub cache_control: Option<String>,
    /// Its body, which may hold a token.
    pub body: Vec<u8>,
}

/// The reason why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HttpError {
    /// Not a URL.
    #[error("{0}")]
    Url(String),
    /// A certificate or a key cannot be used.
    #[error(transparent)]
    File(#[from] FileFault),
    /// The provider cannot be reached, or does not answer in time.
    #[error("{0}")]
    Unreachable(String),
    /// More than is read.
    #[error("the answer is larger than 1 MiB")]
    TooLarge,
}

impl Http {
    /// Checks that the URL and the files can be used; sends no request.
    ///
    /// # Errors
    /// A URL or a file that cannot be used.
    pub fn new(
        url: &str,
        ca: Option<&Path>,
        client: Option<&ClientCertificate>,
    ) -> Result<Self, HttpError> {
        let http = Self::unseen(ca, client);
        http.check(url)?;
        Ok(http)
    }

    /// Makes a client with files that are read for each request, and were not looked at.
    pub(crate) fn unseen(ca: Option<&Path>, client: Option<&ClientCertificate>) -> Self {
        Self { ca: ca.map(Path::to_owned), client: client.cloned() }
    }

    /// Sees whether a URL and the files can be used.
    pub(crate) fn check(&self, url: &str) -> Result<(), HttpError> {
        parse(url)?;
        self.agent().map(drop)
    }

    /// Gets a document, with this token by the scheme `Bearer`. An answer of any status is one; a
    /// redirect is not followed.
    ///
    /// # Errors
    /// The reason why there is no answer.
    pub fn get(&self, url: &str, bearer: Option<&Secret>) -> Result<HttpAnswer, HttpError> {
        let mut request = self.agent()?.get(parse(url)?).header(ACCEPT, "application/json");
        if let Some(bearer) = bearer {
            request = request.header(AUTHORIZATION, format!("Bearer {}", bearer.expose()));
        }
        answer(request.call())
    }

    /// Posts a form, with these credentials by the scheme `Basic`. An answer of any status is one;
    /// a redirect is not followed, since the client's secret would be sent elsewhere.
    ///
    /// # Errors
    /// The reason why there is no answer.
    pub fn post_form(
        &self,
        url: &str,
        basic: Option<&Secret>,
        body: &Secret,
    ) -> Result<HttpAnswer, HttpError> {
        let mut request = self
            .agent()?
            .post(parse(url)?)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json");
        if let Some(basic) = basic {
            request = request.header(AUTHORIZATION, format!("Basic {}", basic.expose()));
        }
        answer(request.send(body.expose()))
    }

    /// One for each request: the files are those of now, and a token is asked for every few minutes
    /// at most.
    fn agent(&self) -> Result<Agent, HttpError> {
        let tls = TlsConfig::builder()
            .root_certs(self.roots()?)
            .client_cert(self.client_certificate()?)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        Ok(Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Not what the environment says: it would be shown secrets that are sent over the
            // loopback in the clear.
            .proxy(None)
            .build()
            .new_agent())
    }

    fn roots(&self) -> Result<RootCerts, HttpError> {
        match &self.ca {
            None => Ok(RootCerts::PlatformVerifier),
            Some(path) => Ok(RootCerts::Specific(Arc::new(certificates(path)?))),
        }
    }

    fn client_certificate(&self) -> Result<Option<ClientCert>, HttpError> {
        let Some(client) = &self.client else { return Ok(None) };
        let chain = certificates(&client.certificate)?;
        let text = files::read(&client.key)?;
        let key = parse_pem(&text).find_map(|item| match item {
            Ok(PemItem::PrivateKey(key)) => Some(key),
            _ => None,
        });
        let key = key.ok_or_else(|| FileFault::new(&client.key, no_key(&text)))?;
        Ok(Some(ClientCert::new_with_certs(&chain, key)))
    }
}

/// Reads an answer, within bounds.
fn answer(response: Result<Response<Body>, ureq::Error>) -> Result<HttpAnswer, HttpError> {
    let unreachable = |error: ureq::Error| HttpError::Unreachable(error.to_string());
    let (parts, mut body) = response.map_err(unreachable)?.into_parts();
    let cache_control = parts.headers.get(CACHE_CONTROL).and_then(|value| value.to_str().ok());
    let cache_control = cache_control.map(str::to_owned);
    match body.with_config().limit(ANSWER_BYTES).read_to_vec() {
        Ok(body) => Ok(HttpAnswer { status: parts.status.as_u16(), cache_control, body }),
        Err(ureq::Error::BodyExceedsLimit(_)) => Err(HttpError::TooLarge),
        Err(error) => Err(unreachable(error)),
    }
}

fn parse(url: &str) -> Result<Uri, HttpError> {
    let uri: Uri = url
        .parse()
        .map_err(|error: ureq::http::uri::InvalidUri| HttpError::Url(error.to_string()))?;
    match uri.scheme().and(uri.host()) {
        Some(_) => Ok(uri),
        None => Err(HttpError::Url("not a URL with a scheme and a host".to_owned())),
    }
}

/// Returns a URL as it may be told: without its query, which may hold a key.
pub(crate) fn without_query(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

/// The fault of a text without a private key.
pub(crate) fn no_key(text: &[u8]) -> &'static str {
    if String::from_utf8_lossy(text).contains("ENCRYPTED") {
        "the private key in it is encrypted, which this one may not be"
    } else {
        "no private key in it (PEM)"
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, FileFault> {
    let text = files::read(path)?;
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(FileFault::new(path, error.to_string())),
        }
    }
    if certificates.is_empty() {
        return Err(FileFault::new(path, "no certificate in it (PEM)"));
    }
    Ok(certificates)
}
