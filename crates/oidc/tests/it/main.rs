//! Tokens from a provider that checks what it is shown, over real connections.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "tests wait by the clock")]

mod assertions;
mod certificates;
mod exchange;
mod files;
mod introspection;
mod keys;
mod provider;
mod refusals;

use zafka_oidc::{
    ClientAuthentication, EndpointConfig, Grant, Secret, SecretSource, TokenConfig, TokenError,
    TokenProvider,
};

use provider::Provider;

/// A client with a secret, and client credentials.
fn client(provider: &Provider) -> EndpointConfig {
    EndpointConfig {
        token_url: provider.url(),
        client_id: Some("zafka".to_owned()),
        authentication: ClientAuthentication::Secret(SecretSource::Text(Secret::new("s3cret"))),
        grant: Grant::ClientCredentials,
        scope: Vec::new(),
        audience: None,
        resource: None,
        ca: None,
    }
}

/// A token, asked for once.
fn token(config: EndpointConfig) -> Result<String, TokenError> {
    let provider = TokenProvider::new(&TokenConfig::Endpoint(Box::new(config)))?;
    provider.token().map(|token| token.secret.expose().to_owned())
}

fn error(config: EndpointConfig) -> String {
    let error = token(config).unwrap_err();
    format!("{error}\n{error:?}")
}
