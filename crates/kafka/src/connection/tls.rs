//! TLS as the settings say, by the OpenSSL that librdkafka has: both kinds of connections take and
//! refuse the same.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{Error, Ssl, SslContext, SslMethod, SslOptions, SslVerifyMode};
use openssl::x509::X509VerifyResult;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;
use tracing::{info, warn};

use crate::config::{ClientCertificate, Tls};
use crate::error::StartError;
use crate::security::{Stamp, authorities};

/// OpenSSL's words for it if the other side speaks something else.
const NOT_TLS: &[&str] = &[
    "wrong version number",
    "packet length too long",
    "record layer failure",
    "http request",
    "unexpected eof",
];

/// The reason why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    /// OpenSSL has no state for it.
    #[error("{}", reason(.0))]
    State(#[from] ErrorStack),
    /// The broker's certificate is refused.
    #[error("certificate verify failed: {} {}", .verified.error_string(), hint(*.verified, .host))]
    Certificate { verified: X509VerifyResult, host: String },
    /// The listener gives itself away as one without TLS by how it ends the handshake.
    #[error(
        "the TLS handshake was not answered by TLS: the listener may be one without it \
         (kafka.security.tls)"
    )]
    NotTls,
    /// The handshake fails.
    #[error("{}", .0.ssl_error().map_or_else(|| .0.to_string(), reason))]
    Handshake(Error),
}

/// The common part of all TLS connections, read again if its files have changed.
pub(super) struct Contexts {
    tls: Tls,
    read: Mutex<(Stamp, SslContext)>,
}

impl Contexts {
    /// Reads the files.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub(super) fn new(tls: &Tls) -> Result<Self, StartError> {
        let stamp = Stamp::of(tls);
        Ok(Self { tls: tls.clone(), read: Mutex::new((stamp, context(tls)?)) })
    }

    /// The context of the files as they are now. While they cannot be used (a certificate may be
    /// there before its key is), that of what was read last.
    pub(super) fn current(&self) -> SslContext {
        let stamp = Stamp::of(&self.tls);
        let mut read = self.read.lock();
        if read.0 != stamp {
            read.0 = stamp;
            match context(&self.tls) {
                Ok(context) => {
                    info!("the files of kafka.security.tls have changed: new connections use them");
                    read.1 = context;
                }
                Err(error) => warn!(%error, "changed files of kafka.security.tls are not used"),
            }
        }
        read.1.clone()
    }
}

/// Reads the files, to see whether a connection could be made with them.
///
/// # Errors
/// A file that cannot be used.
pub(crate) fn usable(tls: &Tls) -> Result<(), StartError> {
    context(tls).map(drop)
}

/// Reads the files.
///
/// # Errors
/// A file that cannot be used.
fn context(tls: &Tls) -> Result<SslContext, StartError> {
    let mut context =
        SslContext::builder(SslMethod::tls_client()).map_err(|error| whole(&error))?;
    context.set_verify(SslVerifyMode::PEER);
    context.set_options(SslOptions::NO_SSLV3);
    // One read of the kernel for a record instead of two.
    context.set_read_ahead(true);
    match authorities(tls) {
        Some(path) if path.is_dir() => {
            let loaded = context.load_verify_locations(None, Some(&path));
            loaded.map_err(|error| fault(&path, &reason(&error)))?;
        }
        Some(path) => context.set_ca_file(&path).map_err(|error| fault(&path, &reason(&error)))?,
        None => context.set_default_verify_paths().map_err(|error| whole(&error))?,
    }
    if let Some(client) = &tls.client {
        let chain = context.set_certificate_chain_file(&client.certificate);
        chain.map_err(|error| fault(&client.certificate, &reason(&error)))?;
        let key = key(client)?;
        let used = context.set_private_key(&key);
        used.map_err(|error| {
            fault(&client.certificate, &format!("with its key: {}", reason(&error)))
        })?;
    }
    Ok(context.build())
}

/// Encrypts a connection to `address`.
///
/// # Errors
/// There is no TLS connection.
pub(super) async fn encrypt(
    context: &SslContext,
    address: &str,
    tcp: TcpStream,
) -> Result<SslStream<TcpStream>, TlsError> {
    let ssl = session(context, host(address))?;
    let mut stream = SslStream::new(ssl, tcp)?;
    match Pin::new(&mut stream).connect().await {
        Ok(()) => Ok(stream),
        Err(error) => Err(TlsError::of(error, stream.ssl().verify_result(), host(address))),
    }
}

/// A connection's state, with the host that its certificate must be for.
fn session(context: &SslContext, host: &str) -> Result<Ssl, ErrorStack> {
    let mut ssl = Ssl::new(context)?;
    match host.parse::<IpAddr>() {
        Ok(address) => ssl.param_mut().set_ip(address)?,
        Err(_) => {
            ssl.set_hostname(host)?;
            ssl.param_mut().set_host(host)?;
        }
    }
    Ok(ssl)
}

/// The host of `HOST:PORT` as a certificate names it: without brackets, and without the dot that
/// says that a name is complete.
pub(crate) fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.strip_suffix('.').unwrap_or(host)
}

impl TlsError {
    fn of(error: Error, verified: X509VerifyResult, host: &str) -> Self {
        if verified != X509VerifyResult::OK {
            return Self::Certificate { verified, host: host.to_owned() };
        }
        let is_end = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
        };
        let is_plain = match (error.ssl_error().map(reason), error.io_error()) {
            (Some(told), _) => NOT_TLS.iter().any(|text| told.contains(text)),
            (None, Some(error)) => is_end(error),
            // The connection ended without a word.
            (None, None) => true,
        };
        if is_plain { Self::NotTls } else { Self::Handshake(error) }
    }
}

/// Returns the setting to look at.
fn hint(verified: X509VerifyResult, host: &str) -> String {
    let text = verified.error_string();
    if text.contains("mismatch") {
        return format!("(the broker's certificate is not for this host, {host})");
    }
    if text.contains("expired") || text.contains("not yet valid") {
        return "(the broker's certificate, or this machine's clock, is out of date)".to_owned();
    }
    if text.contains("issuer") || text.contains("self-signed") {
        return "(the broker's certificate is not by a trusted authority, kafka.security.tls.ca)"
            .to_owned();
    }
    "(the broker's certificate)".to_owned()
}

fn whole(error: &ErrorStack) -> StartError {
    StartError::Client(format!("TLS: {}", reason(error)))
}

fn fault(path: &Path, reason: &str) -> StartError {
    StartError::Certificate { path: path.to_owned(), reason: reason.to_owned() }
}

/// The last of OpenSSL's reasons, without its codes.
fn reason(error: &ErrorStack) -> String {
    let mut reasons = error.errors().iter().filter_map(|error| error.reason());
    reasons.next_back().map_or_else(|| "OpenSSL does not say why".to_owned(), str::to_owned)
}

fn key(client: &ClientCertificate) -> Result<PKey<Private>, StartError> {
    let path = &client.key;
    let text = std::fs::read(path).map_err(|error| fault(path, &error.to_string()))?;
    let is_encrypted = String::from_utf8_lossy(&text).contains("ENCRYPTED");
    let key = match &client.key_password {
        // A password for a key that has none does no harm.
        Some(password) => {
            PKey::private_key_from_pem_passphrase(&text, password.expose().as_bytes())
        }
        None if is_encrypted => {
            return Err(fault(path, "it is encrypted, and there is no key_password"));
        }
        None => PKey::private_key_from_pem(&text),
    };
    key.map_err(|error| match is_encrypted {
        true => fault(path, "it cannot be decrypted with the key_password given"),
        false => fault(path, &format!("no private key in it (PEM): {}", reason(&error))),
    })
}
