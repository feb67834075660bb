//! TLS with certificates that openssl makes: authorities, names, clients' keys, versions.

use std::path::{Path, PathBuf};
use std::process::Command;

use kafka_protocol::messages::MetadataResponse;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use zafka_testkit::oidc::Certificates;

use super::fake::{api_versions, on};
use super::*;
use crate::config::{ClientCertificate, Secret, Tls};
use crate::error::StartError;

/// A broker with the server's certificate that asks for one of a client where `mutual`.
async fn broker(
    certificates: &Certificates,
    address: &str,
    mutual: bool,
    version: &'static SupportedProtocolVersion,
) -> (String, JoinHandle<()>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pem = |name: &str| certificates.ca().with_file_name(name);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap();
    let builder = if mutual {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificates.ca()).unwrap()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let chain = vec![CertificateDer::from_pem_file(pem("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(pem("server.key")).unwrap();
    let config = builder.with_single_cert(chain, key).unwrap();
    on(address, Some(TlsAcceptor::from(Arc::new(config))), |asked| match asked.key {
        ApiKey::ApiVersions => asked.answer::<ApiVersionsRequest>(&api_versions()),
        _ => asked.answer::<MetadataRequest>(&MetadataResponse::default().with_controller_id(7.into())),
    })
    .await
}

fn connector(ca: PathBuf, client: Option<ClientCertificate>) -> Result<Arc<Connector>, StartError> {
    let security = Security { tls: Some(Tls { ca: Some(ca), client }), sasl: None };
    Connector::new(&ClusterConfig { security, ..plain() }, None)
}

async fn ask(connector: &Connector, address: &str) -> Result<i32, String> {
    let mut connection = connector.connect(address).await.map_err(|error| error.to_string())?;
    let answer = connection.call(&MetadataRequest::default(), 12).await;
    answer.map(|answer| answer.controller_id.0).map_err(|error| error.to_string())
}

#[tokio::test]
#[ignore = "needs openssl"]
async fn both_versions_of_tls_and_every_name_of_the_certificate() {
    let certificates = Certificates::make();
    let connector = connector(certificates.ca(), None).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            let (address, serving) = broker(&certificates, listen, false, version).await;
            assert_eq!(ask(&connector, &address).await, Ok(7), "{address}");
            serving.abort();
        }
    }
    let (address, _serving) = broker(&certificates, "127.0.0.1:0", false, &rustls::version::TLS13).await;
    let port = address.rsplit_once(':').unwrap().1;
    assert_eq!(ask(&connector, &format!("localhost:{port}")).await, Ok(7));
    let other = format!("127.0.0.2:{port}");
    let (other, _serving) = broker(&certificates, &other, false, &rustls::version::TLS13).await;
    let error = ask(&connector, &other).await.unwrap_err();
    assert!(error.contains("certificate verify failed") && error.contains("not for this host"), "{error}");
}

#[tokio::test]
#[ignore = "needs openssl"]
async fn an_authority_among_others_and_one_that_is_missing() {
    let certificates = Certificates::make();
    let (address, _serving) = broker(&certificates, "127.0.0.1:0", false, &rustls::version::TLS13).await;
    let both = certificates.ca().with_file_name("both.pem");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    std::fs::write(&both, read(&certificates.other_ca()) + &read(&certificates.ca())).unwrap();
    assert_eq!(ask(&connector(both, None).unwrap(), &address).await, Ok(7));

    let other = connector(certificates.other_ca(), None).unwrap();
    let first = ask(&other, &address).await.unwrap_err();
    assert!(first.starts_with(&format!("{address}: certificate verify failed")), "{first}");
    assert!(first.contains("kafka.security.tls.ca"), "{first}");
    assert_eq!(ask(&other, &address).await.unwrap_err(), first);
}

/// A client's key as openssl writes it with these arguments.
fn rewritten(certificates: &Certificates, name: &str, arguments: &[&str]) -> ClientCertificate {
    let (certificate, plain) = certificates.client("zafka");
    let key = plain.with_file_name(name);
    let mut openssl = Command::new("openssl");
    openssl.args(arguments).arg("-in").arg(plain).arg("-out").arg(&key);
    assert!(openssl.status().unwrap().success());
    ClientCertificate { certificate, key, key_password: None }
}

#[tokio::test]
#[ignore = "needs openssl"]
async fn a_client_s_certificate_with_its_key_in_every_form() {
    let certificates = Certificates::make();
    let with = |client: Option<ClientCertificate>| connector(certificates.ca(), client);
    let (certificate, key) = certificates.client("zafka");
    let plain = ClientCertificate { certificate, key, key_password: None };
    let password = Some(Secret::new("s3cret"));
    let encrypt = ["pkcs8", "-topk8", "-passout", "pass:s3cret"];
    let encrypted = rewritten(&certificates, "a.key", &encrypt);
    let scrypt = rewritten(&certificates, "b.key", &[&encrypt[..], &["-scrypt"]].concat());
    let aes128 = rewritten(&certificates, "c.key", &[&encrypt[..], &["-v2", "aes-128-cbc"]].concat());
    let sec1 = rewritten(&certificates, "d.key", &["ec"]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (address, _serving) = broker(&certificates, "127.0.0.1:0", true, version).await;
        for (name, client) in [
            ("plain", plain.clone()),
            ("a password too many", ClientCertificate { key_password: password.clone(), ..plain.clone() }),
            ("encrypted", ClientCertificate { key_password: password.clone(), ..encrypted.clone() }),
            ("scrypt", ClientCertificate { key_password: password.clone(), ..scrypt.clone() }),
            ("AES-128", ClientCertificate { key_password: password.clone(), ..aes128.clone() }),
            ("SEC 1", sec1.clone()),
        ] {
            assert_eq!(ask(&with(Some(client)).unwrap(), &address).await, Ok(7), "{name}");
        }
        let error = ask(&with(None).unwrap(), &address).await.unwrap_err();
        assert!(error.contains("kafka.security.tls.certificate"), "{error}");
    }
    let wrong = Some(Secret::new("wr0ng"));
    let other = ClientCertificate { key: certificates.client("mallory").1, ..plain.clone() };
    let none = ClientCertificate { key: plain.certificate.clone(), ..plain.clone() };
    for (client, file, told) in [
        (encrypted.clone(), "a.key", "it is encrypted, and there is no key_password"),
        (
            ClientCertificate { key_password: wrong, ..encrypted },
            "a.key",
            "it cannot be decrypted with the key_password given",
        ),
        (other, "client-zafka.pem", ""),
        (none, "client-zafka.pem", "no items found"),
    ] {
        let error = with(Some(client)).err().unwrap().to_string();
        assert!(error.contains(file) && error.contains(told), "{error}");
        assert!(!error.contains("wr0ng") && !error.contains("s3cret"), "{error}");
    }
}
