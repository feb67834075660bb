//! rustls as the settings say.

use std::io;
use std::path::Path;
use std::sync::Arc;

use pkcs8::{EncryptedPrivateKeyInfo, SecretDocument};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, Error, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

use crate::config::{ClientCertificate, Tls};
use crate::error::StartError;

const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";

/// Why there is no TLS connection. A listener without TLS gives itself away by how it ends the handshake.
pub(super) fn refusal(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
    let plain = match tls {
        Some(error) => matches!(error, Error::InvalidMessage(_)),
        None => matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset),
    };
    if plain {
        return "the TLS handshake was not answered by TLS: the listener may be one without it (kafka.security.tls)"
            .to_owned();
    }
    error.to_string()
}

/// The configuration of every TLS connection.
pub(super) fn client(tls: &Tls) -> Result<ClientConfig, StartError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StartError::Client(format!("TLS: {error}")))?;
    let builder = match &tls.ca {
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(ca)? {
                roots.add(certificate).map_err(|error| fault(ca, &error))?;
            }
            builder.with_root_certificates(roots)
        }
        None => builder
            .with_platform_verifier()
            .map_err(|error| StartError::Client(format!("the system's certificate authorities: {error}")))?,
    };
    let Some(client) = &tls.client else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(&client.certificate)?;
    let configured = builder.with_client_auth_cert(chain, key(client)?);
    configured.map_err(|error| fault(&client.certificate, &error))
}

fn fault(path: &Path, error: &dyn std::fmt::Display) -> StartError {
    StartError::Certificate { path: path.to_owned(), reason: error.to_string() }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let items = CertificateDer::pem_file_iter(path).map_err(|error| fault(path, &error))?;
    let certificates: Vec<_> = items.collect::<Result<_, _>>().map_err(|error| fault(path, &error))?;
    if certificates.is_empty() {
        return Err(fault(path, &"no certificate in it (PEM)"));
    }
    Ok(certificates)
}

fn key(client: &ClientCertificate) -> Result<PrivateKeyDer<'static>, StartError> {
    let path = &client.key;
    let text = std::fs::read_to_string(path).map_err(|error| fault(path, &error))?;
    // A password for a key that has none does no harm.
    if !text.contains(ENCRYPTED) {
        return PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| fault(path, &error));
    }
    let password = client.key_password.as_ref();
    let password = password.ok_or_else(|| fault(path, &"it is encrypted, and there is no key_password"))?;
    let (_, document) = SecretDocument::from_pem(&text).map_err(|error| fault(path, &error))?;
    let encrypted =
        EncryptedPrivateKeyInfo::try_from(document.as_bytes()).map_err(|error| fault(path, &error))?;
    let key = encrypted.decrypt(password.expose());
    let key = key.map_err(|_| fault(path, &"it cannot be decrypted with the key_password given"))?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}
