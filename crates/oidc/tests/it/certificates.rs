//! A client that is known by its certificate (RFC 8705).

use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use zafka_oidc::{
    ClientAuthentication, ClientCertificate, EndpointConfig, TokenConfig, TokenProvider,
};
use zafka_testkit::oidc::Certificates;

use super::provider::{Provider, granted, refused};
use super::{client, error};

/// The server's side, which wants a certificate of the same authority.
fn mutual(certificates: &Certificates) -> ServerConfig {
    let file = |name: &str| certificates.ca().with_file_name(name);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificates.ca()).unwrap()).unwrap();
    let crypto = Arc::new(default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&crypto));
    ServerConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_file(file("server.pem")).unwrap()],
            PrivateKeyDer::from_pem_file(file("server.key")).unwrap(),
        )
        .unwrap()
}

#[test]
fn the_certificate_of_now_is_shown() {
    let certificates = Certificates::make();
    let file = |name: &str| certificates.ca().with_file_name(name);
    let (certificate, key) = (file("current.pem"), file("current.key"));
    let put = |name: &str| {
        let (from, from_key) = certificates.client(name);
        std::fs::copy(&from, &certificate).unwrap();
        std::fs::copy(from_key, &key).unwrap();
        CertificateDer::from_pem_file(from).unwrap().to_vec()
    };
    let zafka = put("zafka");
    let known = zafka.clone();
    let provider = Provider::with_tls(mutual(&certificates), move |asked| {
        assert_eq!((asked.field("client_id"), &asked.authorization), ("zafka", &None));
        // RFC 8705 section 2: that of this client.
        match asked.certificate.as_deref() == Some(&known) {
            true => granted("t"),
            false => refused("invalid_client", "another certificate"),
        }
    });
    let shown = ClientCertificate { certificate: certificate.clone(), key: key.clone() };
    let ca = Some(certificates.ca());
    let with_certificate = EndpointConfig {
        authentication: ClientAuthentication::Certificate(shown),
        ca: ca.clone(),
        ..client(&provider)
    };
    let mallory = put("mallory");
    assert_ne!(zafka, mallory);
    let tokens =
        TokenProvider::new(&TokenConfig::Endpoint(Box::new(with_certificate.clone()))).unwrap();
    let reason = tokens.token().unwrap_err().to_string();
    let shown = format!("another certificate (it was shown {})", certificate.display());
    assert!(reason.ends_with(&shown), "{reason}");
    put("zafka");
    assert_eq!(tokens.token().unwrap().secret.expose(), "t");
    let asked: Vec<_> = provider.asked().into_iter().map(|asked| asked.certificate).collect();
    assert_eq!(asked, [Some(mallory), Some(zafka)]);

    let without = error(EndpointConfig { ca, ..client(&provider) });
    assert!(without.starts_with(&format!("no token from {}: ", provider.url())), "{without}");
    std::fs::copy(&certificate, &key).unwrap();
    let no_key = error(with_certificate);
    assert!(no_key.starts_with(&format!("{}: no private key", key.display())), "{no_key}");
}
