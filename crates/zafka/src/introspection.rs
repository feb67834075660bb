//! The question to an issuer whether a token is active (RFC 7662): at a URL, or where its discovery
//! document says.

use std::time::Duration;

use parking_lot::Mutex;
use zafka_identity::{DiscoveryError, introspection_url};
use zafka_oidc::{Introspection, IntrospectionConfig, IntrospectionError, Secret, TokenError};

use crate::issuer_keys::{FetchError, KeySource};

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
}

impl Introspector {
    /// Asks nobody yet.
    pub fn new(source: &IntrospectionSource) -> Self {
        let IntrospectionSource { url, client, keys, .. } = source.clone();
        Self { url, client: Introspection::new(client), keys, discovered: Mutex::default() }
    }

    /// Asks whether a token is active. Blocks for 20 s at most: the discovery document may have to
    /// be fetched first.
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
