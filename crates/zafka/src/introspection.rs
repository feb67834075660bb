//! The question to an issuer whether a token is active (RFC 7662): at a URL, or where its discovery
//! document says.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use zafka_identity::{DiscoveryError, introspection_url};
use zafka_oidc::{Introspection, IntrospectionConfig, IntrospectionError, Secret, TokenError};

use crate::blocking::{Calls, PATIENCE};
use crate::issuer_keys::{FetchError, KeySource};

/// Time for two requests, and for the files that they take.
const LONGEST: Duration = PATIENCE.saturating_add(Duration::from_secs(20));
/// Questions that have a thread, those among them that hang: as many as may be under way.
const THREADS: usize = 16;

/// The way to ask.
#[derive(Clone, Debug, PartialEq)]
pub struct IntrospectionSource {
    /// The endpoint; where discovery says without one.
    pub url: Option<String>,
    /// The client that asks.
    pub client: IntrospectionConfig,
    /// Time between two questions about one lease.
    pub every: Duration,
    /// The issuer's keys, and with them its discovery document.
    pub keys: KeySource,
}

/// The reason why it is not known whether a token is active.
#[derive(Debug, thiserror::Error)]
pub enum IntrospectError {
    /// The discovery document cannot be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The discovery document does not tell where to ask.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// The endpoint does not say it.
    #[error(transparent)]
    Endpoint(#[from] IntrospectionError),
    /// A file of the client is on a file system that does not answer, or the question broke off.
    #[error("{0}")]
    Call(#[from] std::io::Error),
}

impl IntrospectionSource {
    /// Sees whether the client's files can be used; asks nobody.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn check(&self) -> Result<(), TokenError> {
        let url = self.url.as_ref().unwrap_or(&self.keys.issuer);
        Introspection::new(self.client.clone()).check(url)
    }
}

/// Asks an issuer.
#[derive(Debug)]
pub struct Introspector {
    url: Option<String>,
    client: Introspection,
    keys: KeySource,
    /// The endpoint that was discovered and has answered since.
    discovered: Mutex<Option<String>>,
    calls: Calls,
}

impl Introspector {
    /// Asks nobody yet.
    pub fn new(source: &IntrospectionSource) -> Self {
        let IntrospectionSource { url, client, keys, .. } = source.clone();
        let (client, calls) = (Introspection::new(client), Calls::new(THREADS));
        Self { url, client, keys, discovered: Mutex::default(), calls }
    }

    /// Asks whether a token is active, on a thread of its own. Waits for a minute at most, also if
    /// a file of the client never comes.
    ///
    /// # Errors
    /// That is not known.
    pub async fn ask(self: Arc<Self>, token: Secret) -> Result<bool, IntrospectError> {
        self.ask_within(LONGEST, token).await
    }

    /// Waits for this time for a thread, and for this time for the answer.
    async fn ask_within(
        self: Arc<Self>,
        patience: Duration,
        token: Secret,
    ) -> Result<bool, IntrospectError> {
        let asks = Arc::clone(&self);
        self.calls.run(patience, move || asks.is_active(&token)).await?
    }

    /// Asks whether a token is active. Blocks for 20 s at most, and for the files of the client:
    /// the discovery document may have to be fetched first.
    ///
    /// # Errors
    /// That is not known.
    pub fn is_active(&self, token: &Secret) -> Result<bool, IntrospectError> {
        let asked = self.client.is_active(&self.endpoint()?, token);
        if asked.is_err() {
            // It may be somewhere else by now.
            *self.discovered.lock() = None;
        }
        Ok(asked?)
    }

    fn endpoint(&self) -> Result<String, IntrospectError> {
        let known = self.url.clone().or_else(|| self.discovered.lock().clone());
        if let Some(url) = known {
            return Ok(url);
        }
        let url = introspection_url(&self.keys.discovery()?, &self.keys.issuer)?;
        *self.discovered.lock() = Some(url.clone());
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::path::PathBuf;

    use rustix::fs::{CWD, Mode, mkfifoat};
    use serde_json::json;
    use tokio::task::spawn_blocking;
    use zafka_oidc::{ClientAuthentication, SecretSource};
    use zafka_testkit::Issuer;
    use zafka_testkit::issuer::INTROSPECTION_SECRET;

    use super::*;
    use crate::issuer_keys::KeyPlace;

    /// A client whose secret is in this file.
    fn introspector(issuer: &Issuer, file: PathBuf) -> Arc<Introspector> {
        let (issuer, place) = (issuer.name(), KeyPlace::Discovered);
        let client = IntrospectionConfig {
            client_id: Some("zafka".to_owned()),
            authentication: ClientAuthentication::Secret(SecretSource::File(file)),
            audience: issuer.clone(),
            ca: None,
        };
        let keys = KeySource { issuer, place, ca: None, bearer_file: None };
        let every = Duration::from_secs(60);
        Arc::new(Introspector::new(&IntrospectionSource { url: None, client, every, keys }))
    }

    #[tokio::test]
    async fn a_file_of_the_client_that_never_comes_stops_no_other_question() {
        const LONG: Duration = Duration::from_secs(60);
        let (issuer, folder) = (Issuer::start(), tempfile::tempdir().unwrap());
        let token = Secret::new(issuer.token("alice", 600, &json!({})));
        // Whoever opens it waits for somebody who writes.
        let file = folder.path().join("secret");
        mkfifoat(CWD, &file, Mode::RUSR | Mode::WUSR).unwrap();
        let introspector = introspector(&issuer, file.clone());
        let ask = |patience| Arc::clone(&introspector).ask_within(patience, token.clone());
        // More of them than there are threads.
        for _ in 0..=THREADS {
            let late = ask(Duration::from_millis(1)).await.unwrap_err();
            assert!(matches!(late, IntrospectError::Call(_)), "{late}");
        }
        assert_eq!(Arc::strong_count(&introspector), 1 + THREADS);
        // The file system answers again: those that waited end, and the next one is answered.
        fs::write(folder.path().join("new"), INTROSPECTION_SECRET).unwrap();
        let opened = spawn_blocking({
            let file = file.clone();
            move || OpenOptions::new().write(true).open(file)
        });
        let pipe = opened.await.unwrap().unwrap();
        fs::rename(folder.path().join("new"), &file).unwrap();
        drop(pipe);
        assert!(ask(LONG).await.unwrap());
    }
}
