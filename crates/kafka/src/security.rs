//! TLS and SASL as librdkafka's settings.

mod refresh;
mod token;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use rdkafka::ClientConfig;

use crate::config::{Credentials, Sasl, Security, Tls};
use crate::error::StartError;
pub(crate) use refresh::{Wanted, start as keep_supplied, wanted};
pub use token::TokenError;
pub(crate) use token::{Token, TokenProvider};

/// Checks that the files are there, and makes the provider of tokens where one is wanted.
pub(crate) fn prepare(security: &Security) -> Result<Option<Arc<TokenProvider>>, StartError> {
    for path in files(security) {
        File::open(path).map_err(|source| StartError::File { path: path.clone(), source })?;
    }
    match &security.sasl {
        Some(Sasl::OAuthBearer(client)) => Ok(Some(Arc::new(TokenProvider::new(client)?))),
        _ => Ok(None),
    }
}

/// librdkafka tells of OpenSSL's error, not of the file.
fn files(security: &Security) -> impl Iterator<Item = &PathBuf> {
    let tls = security.tls.iter();
    tls.flat_map(|tls| {
        let client = tls.client.iter().flat_map(|client| [&client.certificate, &client.key]);
        tls.ca.iter().chain(client)
    })
}

/// Adds what `security` asks for.
pub(crate) fn configure(security: &Security, settings: &mut ClientConfig) {
    let protocol = match (&security.tls, &security.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    settings.set("security.protocol", protocol);
    if let Some(tls) = &security.tls {
        configure_tls(tls, settings);
    }
    match &security.sasl {
        None => {}
        Some(Sasl::Plain(credentials)) => password(credentials, "PLAIN", settings),
        Some(Sasl::ScramSha256(credentials)) => password(credentials, "SCRAM-SHA-256", settings),
        Some(Sasl::ScramSha512(credentials)) => password(credentials, "SCRAM-SHA-512", settings),
        Some(Sasl::OAuthBearer(_)) => {
            settings.set("sasl.mechanism", "OAUTHBEARER");
        }
    }
}

fn configure_tls(tls: &Tls, settings: &mut ClientConfig) {
    match &tls.ca {
        Some(ca) => settings.set("ssl.ca.location", ca.display().to_string()),
        // The vendored OpenSSL knows no directory of its own: look where systems keep theirs.
        None => settings.set("ssl.ca.location", "probe"),
    };
    if let Some(client) = &tls.client {
        settings.set("ssl.certificate.location", client.certificate.display().to_string());
        settings.set("ssl.key.location", client.key.display().to_string());
        if let Some(password) = &client.key_password {
            settings.set("ssl.key.password", password.expose());
        }
    }
}

fn password(credentials: &Credentials, mechanism: &str, settings: &mut ClientConfig) {
    settings
        .set("sasl.mechanism", mechanism)
        .set("sasl.username", &credentials.username)
        .set("sasl.password", credentials.password.expose());
}
