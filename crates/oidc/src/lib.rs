//! A provider of OpenID Connect over the net: the HTTP that zafka speaks to it, and its token
//! endpoint by every grant.
//!
//! - [`TokenConfig`] is the source of tokens, [`TokenProvider`] keeps one and renews it;
//! - `request` and `answer` are the two sides of a token request, without I/O;
//! - [`Introspection`] asks whether a token is active;
//! - [`LoginClient`] and [`Polling`] log a user in by the device flow;
//! - `key` and `jwt` sign the assertions that a client shows;
//! - [`Http`] sends, with a deadline and a bound on what comes back.
//!
//! Calls block; nothing here knows tokio, Kafka or ZeroMQ. Files are read again for each request,
//! so that rotation needs no restart. No token or secret is ever part of an error or of debug
//! output: a provider's text is reported without them.
//!
//! ```
//! use zafka_oidc::{TokenConfig, TokenProvider};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A token that its platform renews; with `TokenConfig::Endpoint` a provider is asked for one.
//! let file = tempfile::NamedTempFile::new()?;
//! std::fs::write(&file, "the-platform-s-token")?;
//! let provider = TokenProvider::new(&TokenConfig::File(file.path().to_owned()))?;
//! let token = provider.token()?;
//! assert_eq!(token.secret.expose(), "the-platform-s-token");
//! assert_eq!(format!("{:?}", token.secret), "[secret]");
//! # Ok(())
//! # }
//! ```

mod answer;
mod client;
mod config;
mod device;
mod error;
mod files;
mod http;
mod introspection;
mod jwt;
mod key;
mod login;
mod request;
mod secret;
mod token;

pub use config::{
    Algorithm, Assertion, ClientAuthentication, ClientCertificate, EndpointConfig, ExchangeConfig,
    Grant, SecretSource, SignedAssertion, SigningKeyConfig, TokenConfig,
};
pub use device::{DeviceCode, LoginEnd, LoginTokens, Polled, Polling};
pub use error::TokenError;
pub use files::FileFault;
pub use http::{Http, HttpAnswer, HttpError};
pub use introspection::{Introspection, IntrospectionConfig, IntrospectionError};
pub use login::{LoginClient, LoginError};
pub use secret::{LiveSecret, Secret};
pub use token::{Token, TokenProvider};
