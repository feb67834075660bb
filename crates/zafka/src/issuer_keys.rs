//! An issuer's keys: over the net, by OpenID Connect Discovery or from a URL, or from a file.

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zafka_identity::{DiscoveryError, KeySet, KeySetError, discovery_url, keys_url, max_age};
use zafka_oidc::{FileFault, Http, HttpError, Secret};

/// The largest answer that is read, and the largest file.
const MAX_BYTES: u64 = 1 << 20;
/// The largest file with a token to show.
const MAX_BEARER: u64 = 64 * 1024;

/// The address of an issuer's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySource {
    /// The issuer's name.
    pub issuer: String,
    /// The place.
    pub place: KeyPlace,
    /// Certificate authorities to trust (PEM); the system's without it.
    pub ca: Option<PathBuf>,
    /// A file with a token to show.
    pub bearer_file: Option<PathBuf>,
}

/// The place of a key set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// The address in the issuer's discovery document.
    Discovered,
    /// A URL.
    Url(String),
    /// A file.
    File(PathBuf),
}

/// Keys that were fetched.
#[derive(Debug)]
pub struct FetchedKeys {
    /// The keys.
    pub keys: KeySet,
    /// The time for which they hold, if the provider gives one.
    pub max_age: Option<Duration>,
}

/// The reason why an issuer's keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A file cannot be used.
    #[error("{path}: {reason}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The fault in it.
        reason: String,
    },
    /// No answer.
    #[error("{url}: {reason}")]
    Unreachable {
        /// The URL without its query.
        url: String,
        /// The error.
        reason: String,
    },
    /// Another answer than 200; redirects are not followed.
    #[error("{url}: answered with the status {status}")]
    Status {
        /// The URL without its query.
        url: String,
        /// The status.
        status: u16,
    },
    /// A large answer.
    #[error("{0}: more than {MAX_BYTES} bytes")]
    TooLarge(String),
    /// The discovery document does not name a usable address of the keys.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// The answer is no key set.
    #[error("{place}: {error}")]
    Keys {
        /// Its address.
        place: String,
        /// The fault in it.
        error: KeySetError,
    },
}

impl FetchError {
    /// Returns true if the issuer has no keys: those that it had are withdrawn.
    pub fn is_withdrawal(&self) -> bool {
        matches!(self, Self::Keys { error: KeySetError::NoKey, .. })
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            KeyPlace::Discovered => f.write_str(without_query(&self.issuer)),
            KeyPlace::Url(url) => f.write_str(without_query(url)),
            KeyPlace::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl KeySource {
    /// Fetches the keys. Blocks while the provider answers, at most twice 10 s.
    ///
    /// # Errors
    /// They could not be fetched, or are none.
    pub fn fetch(&self) -> Result<FetchedKeys, FetchError> {
        let (place, text, max_age) = match &self.place {
            KeyPlace::File(path) => (path.display().to_string(), read_file(path, MAX_BYTES)?, None),
            KeyPlace::Url(url) => {
                let (text, age) = self.get(url)?;
                (without_query(url).to_owned(), text, age)
            }
            KeyPlace::Discovered => {
                let url = keys_url(&self.discovery()?, &self.issuer)?;
                let (text, age) = self.get(&url)?;
                (without_query(&url).to_owned(), text, age)
            }
        };
        let keys = KeySet::parse(&text).map_err(|error| FetchError::Keys { place, error })?;
        Ok(FetchedKeys { keys, max_age })
    }

    /// Fetches the issuer's discovery document. Blocks for 10 s at most.
    ///
    /// # Errors
    /// It could not be fetched.
    pub fn discovery(&self) -> Result<Vec<u8>, FetchError> {
        self.get(&discovery_url(&self.issuer)).map(|(document, _)| document)
    }

    /// Gets a document, and the time that it holds. The file of authorities is read again.
    fn get(&self, url: &str) -> Result<(Vec<u8>, Option<Duration>), FetchError> {
        let bearer = self.bearer_file.as_deref().map(bearer).transpose()?;
        let shown = || without_query(url).to_owned();
        let http = Http::new(url, self.ca.as_deref(), None);
        let answer = http.and_then(|http| http.get(url, bearer.as_ref()));
        let answer = answer.map_err(|error| match error {
            HttpError::File(FileFault { path, reason }) => FetchError::File { path, reason },
            HttpError::TooLarge => FetchError::TooLarge(shown()),
            error => FetchError::Unreachable { url: shown(), reason: error.to_string() },
        })?;
        if answer.status != 200 {
            return Err(FetchError::Status { url: shown(), status: answer.status });
        }
        Ok((answer.body, answer.cache_control.as_deref().and_then(max_age)))
    }
}

/// The token in a file, to be shown.
fn bearer(path: &Path) -> Result<Secret, FetchError> {
    let text = String::from_utf8(read_file(path, MAX_BEARER)?).ok();
    let is_token =
        |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let token = text.as_deref().map(str::trim).filter(is_token).map(Secret::new);
    token
        .ok_or_else(|| FetchError::File { path: path.to_owned(), reason: "not a token".to_owned() })
}

fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

fn read_file(path: &Path, most: u64) -> Result<Vec<u8>, FetchError> {
    let fault = |reason: String| FetchError::File { path: path.to_owned(), reason };
    let file = fs::File::open(path).map_err(|error| fault(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| fault(error.to_string()))?;
    if bytes.len() as u64 > most {
        return Err(fault(format!("more than {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use zafka_testkit::Issuer;
    use zafka_testkit::issuer::Serving;

    use super::*;

    fn source(issuer: &Issuer, place: KeyPlace) -> KeySource {
        KeySource { issuer: issuer.name(), place, ca: None, bearer_file: None }
    }

    #[test]
    fn keys_are_found() {
        let (issuer, folder) = (Issuer::start(), tempfile::tempdir().unwrap());
        let file = folder.path().join("jwks.json");
        fs::write(&file, issuer.jwks().to_string()).unwrap();
        let url = format!("{}?tenant=secret", issuer.jwks_url());
        let keys = KeySet::parse(issuer.jwks().to_string().as_bytes()).unwrap();
        for place in [KeyPlace::Discovered, KeyPlace::Url(url), KeyPlace::File(file)] {
            let source = source(&issuer, place);
            assert_eq!(source.fetch().unwrap().keys, keys, "{source}");
            assert!(!source.to_string().contains("secret"));
        }
        assert_eq!(issuer.requests(), 3, "two by discovery");
    }

    #[test]
    fn a_provider_that_misbehaves() {
        let issuer = Issuer::start();
        let source = source(&issuer, KeyPlace::Discovered);
        assert!(source.fetch().is_ok());
        for (serving, part) in [
            (Serving::Redirect, "status 302"),
            (Serving::Status(500), "status 500"),
            (Serving::Status(404), "status 404"),
            (Serving::Huge, "more than 1048576 bytes"),
            (Serving::Garbage, "no plain JSON object"),
            (Serving::OtherIssuer, "is about the issuer"),
            (Serving::Elsewhere, "not on the issuer's host"),
            (Serving::UselessKeys, "no key that verifies signatures"),
        ] {
            issuer.serve(serving);
            let error = source.fetch().expect_err(part).to_string();
            assert!(error.contains(part), "{serving:?}: {error}");
        }
        issuer.serve(Serving::Well);
        assert!(source.fetch().is_ok());
    }

    #[test]
    fn a_redirect_of_the_key_set_is_not_followed() {
        let issuer = Issuer::start();
        issuer.serve(Serving::Redirect);
        let error = source(&issuer, KeyPlace::Url(issuer.jwks_url())).fetch().unwrap_err();
        assert!(error.to_string().contains("status 302"), "{error}");
        assert_eq!(issuer.requests(), 1);
    }

    #[test]
    fn a_token_is_shown_and_read_anew() {
        let (issuer, folder) = (Issuer::start(), tempfile::tempdir().unwrap());
        let file = folder.path().join("bearer");
        issuer.require("right");
        let bearer_file = Some(file.clone());
        let source = KeySource { bearer_file, ..source(&issuer, KeyPlace::Discovered) };
        for (text, part) in [("", "not a token"), ("two words", "not a token"), ("wrong", "401")] {
            fs::write(&file, text).unwrap();
            let error = source.fetch().expect_err(text).to_string();
            assert!(error.contains(part) && !error.contains("wrong"), "{error}");
        }
        fs::write(&file, "right\n").unwrap();
        assert!(source.fetch().is_ok());
        fs::remove_file(&file).unwrap();
        assert!(source.fetch().is_err());
    }

    #[test]
    fn nobody_answers() {
        let issuer = Issuer::start();
        let source = source(&issuer, KeyPlace::Discovered);
        drop(issuer);
        assert!(matches!(source.fetch(), Err(FetchError::Unreachable { .. })));
    }

    #[test]
    fn authorities_that_are_none() {
        let (issuer, folder) = (Issuer::start(), tempfile::tempdir().unwrap());
        let file = folder.path().join("ca.pem");
        fs::write(&file, "no certificate").unwrap();
        let ca = Some(file);
        let error = KeySource { ca, ..source(&issuer, KeyPlace::Discovered) }.fetch().unwrap_err();
        assert!(error.to_string().contains("no certificate in it"), "{error}");
        assert_eq!(issuer.requests(), 0);
    }
}
