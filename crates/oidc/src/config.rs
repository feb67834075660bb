//! The settings of a client, already parsed.

use std::path::PathBuf;

use crate::secret::Secret;

/// A client of an OIDC provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcClient {
    /// The provider's token endpoint.
    pub token_url: String,
    /// Client id.
    pub client_id: String,
    /// Client secret.
    pub client_secret: Secret,
    /// Scopes to ask for.
    pub scope: Vec<String>,
    /// `audience` parameter of the token request, where the provider wants one.
    pub audience: Option<String>,
    /// Certificate authorities to trust for the token endpoint instead of the system's (PEM).
    pub ca: Option<PathBuf>,
    /// SASL extensions (KIP-342).
    pub extensions: Vec<(String, String)>,
}
