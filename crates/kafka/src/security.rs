//! TLS and SASL as librdkafka's settings.

mod bearer;
mod files;
mod refresh;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use rdkafka::ClientConfig;

use crate::config::{Credentials, Sasl, Security, Tls};
use crate::error::StartError;
pub(crate) use bearer::{Bearer, MissingToken};
pub(crate) use files::Stamp;
pub(crate) use refresh::{Supplied, TokensWanted, start as keep_supplied, wanted};

/// Checks that the files are there, and makes the provider of tokens if one is wanted.
pub(crate) fn prepare(security: &Security) -> Result<Option<Arc<Bearer>>, StartError> {
    for path in files(security) {
        File::open(path).map_err(|source| StartError::File { path: path.clone(), source })?;
    }
    match &security.sasl {
        Some(Sasl::OAuthBearer(config)) => Ok(Some(Bearer::new(config)?)),
        _ => Ok(None),
    }
}

/// librdkafka reports OpenSSL's error, and not the file.
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

/// The authorities that every connection to a broker trusts: a file, or a directory. Those of the
/// system are looked for where systems keep them, and by SSL_CERT_FILE and SSL_CERT_DIR.
pub(crate) fn authorities(tls: &Tls) -> Option<PathBuf> {
    tls.ca.clone().or_else(|| {
        let found = openssl_probe::probe();
        found.cert_file.or_else(|| found.cert_dir.into_iter().next())
    })
}

fn configure_tls(tls: &Tls, settings: &mut ClientConfig) {
    // The vendored OpenSSL knows no directory of its own: if nothing is found, librdkafka looks on.
    let ca = authorities(tls).map_or_else(|| "probe".to_owned(), |path| path.display().to_string());
    settings.set("ssl.ca.location", ca);
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
