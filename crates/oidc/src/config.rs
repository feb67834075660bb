//! Settings of a client of a provider, already parsed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::files::FileFault;
use crate::secret::{LiveSecret, Secret};

/// The source of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenConfig {
    /// A file whose content is the token; another program renews it.
    File(PathBuf),
    /// A token endpoint.
    Endpoint(Box<EndpointConfig>),
}

impl TokenConfig {
    /// The client's id, if it has one.
    pub fn client_id(&self) -> Option<&str> {
        match self {
            Self::File(_) => None,
            Self::Endpoint(endpoint) => endpoint.client_id.as_deref(),
        }
    }
}

/// A token endpoint (RFC 6749 section 3.2), and the request to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// Its URL.
    pub token_url: String,
    /// The client's id.
    pub client_id: Option<String>,
    /// The proof of the client's identity.
    pub authentication: ClientAuthentication,
    /// The basis on which the token is granted.
    pub grant: Grant,
    /// Scopes to ask for.
    pub scope: Vec<String>,
    /// `audience` of the request (RFC 8693 section 2.1, and a habit of providers elsewhere).
    pub audience: Option<String>,
    /// `resource` of the request, a URI (RFC 8707).
    pub resource: Option<String>,
    /// Certificate authorities to trust instead of the system's (PEM).
    pub ca: Option<PathBuf>,
}

/// The exchange of tokens that others show, each for one in its owner's name (RFC 8693).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeConfig {
    /// The token endpoint, and the client that asks. Its grant is replaced in each exchange.
    pub endpoint: EndpointConfig,
    /// The type of the tokens that are exchanged, a URI (RFC 8693 section 3).
    pub subject_token_type: String,
}

impl ExchangeConfig {
    /// Returns the source of tokens for the owner of one.
    pub fn of(&self, token: impl Into<SecretSource>) -> TokenConfig {
        let grant = Grant::TokenExchange {
            subject_token: token.into(),
            subject_token_type: self.subject_token_type.clone(),
        };
        TokenConfig::Endpoint(Box::new(EndpointConfig { grant, ..self.endpoint.clone() }))
    }
}

/// The basis on which a token is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The client's own authentication (RFC 6749 section 4.4).
    ClientCredentials,
    /// Another token, which is exchanged (RFC 8693).
    TokenExchange {
        /// The token to exchange.
        subject_token: SecretSource,
        /// Its type, a URI (RFC 8693 section 3).
        subject_token_type: String,
    },
    /// A signed assertion (RFC 7523 section 2.1).
    JwtBearer(Assertion),
}

/// An assertion that a token is granted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assertion {
    /// The content of a file; another program renews it.
    File(PathBuf),
    /// Signed by us for each request.
    Signed(SignedAssertion),
}

/// The content of an assertion that we sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedAssertion {
    /// The key that signs it.
    pub key: SigningKeyConfig,
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// `aud`; the URL of the token endpoint if `None`.
    pub audience: Option<String>,
    /// Time from `iat` to `exp`.
    pub life: Duration,
    /// Further claims: name and text.
    pub claims: Vec<(String, String)>,
}

/// The way in which a client proves its identity (RFC 6749 section 2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// No proof: a public client.
    None,
    /// A secret, in the HTTP header (RFC 6749 section 2.3.1).
    Secret(SecretSource),
    /// An assertion that it signs: `private_key_jwt` (RFC 7523 section 2.2, OIDC Core section 9).
    Key {
        /// The key that signs it.
        key: SigningKeyConfig,
        /// `aud`; the URL of the token endpoint if `None`.
        audience: Option<String>,
    },
    /// An assertion that a platform signs and renews in a file (RFC 7523 section 2.2).
    AssertionFile(PathBuf),
    /// A certificate: `tls_client_auth` and `self_signed_tls_client_auth` (RFC 8705).
    Certificate(ClientCertificate),
}

/// A secret, or the file that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// The secret.
    Text(Secret),
    /// The file that holds it, read for each request.
    File(PathBuf),
    /// One that its owner replaces. Once it was taken away no token that was granted for it is
    /// given out either.
    Live(LiveSecret),
}

impl SecretSource {
    /// Returns the secret as it is now, from its file by `file`; `None` once it was taken away.
    pub(crate) fn read(
        &self,
        file: fn(&Path) -> Result<Secret, FileFault>,
    ) -> Result<Option<Secret>, FileFault> {
        match self {
            Self::Text(secret) => Ok(Some(secret.clone())),
            Self::File(path) => file(path).map(Some),
            Self::Live(secret) => Ok(secret.current()),
        }
    }

    /// Returns the file that holds it, if one does.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Text(_) | Self::Live(_) => None,
        }
    }

    /// Returns true once it was taken away.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Live(secret) if secret.is_gone())
    }
}

impl From<Secret> for SecretSource {
    fn from(secret: Secret) -> Self {
        Self::Text(secret)
    }
}

impl From<LiveSecret> for SecretSource {
    fn from(secret: LiveSecret) -> Self {
        Self::Live(secret)
    }
}

/// A certificate chain and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The chain.
    pub certificate: PathBuf,
    /// The private key, not encrypted.
    pub key: PathBuf,
}

/// A key to sign assertions with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKeyConfig {
    /// Private key (PEM), not encrypted.
    pub file: PathBuf,
    /// `kid` of the header, by which a provider finds the public key.
    pub id: Option<String>,
    /// `alg` of the header; by the kind of the key if `None`.
    pub algorithm: Option<Algorithm>,
}

/// Algorithms of signatures (RFC 7518 section 3.1, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// RSA PKCS#1 v1.5 with SHA-384.
    Rs384,
    /// RSA PKCS#1 v1.5 with SHA-512.
    Rs512,
    /// RSA PSS with SHA-256.
    Ps256,
    /// RSA PSS with SHA-384.
    Ps384,
    /// RSA PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Its name in a header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }
}
