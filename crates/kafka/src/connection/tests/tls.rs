//! TLS with certificates that openssl makes: authorities, names, clients' keys, versions.

use std::path::{Path, PathBuf};
use std::process::Command;

use kafka_protocol::messages::MetadataResponse;
use openssl::ssl::{SslContext, SslFiletype, SslMethod, SslVerifyMode, SslVersion};
use tokio::task::JoinHandle;
use zafka_testkit::oidc::Certificates;

use super::fake::{api_versions, on};
use super::*;
use crate::config::{ClientCertificate, Secret, Tls};
use crate::error::StartError;

/// A listener's side of TLS, with this certificate and key; asks for a client's certificate if
/// there is a `client_ca`.
pub(super) fn acceptor(
    certificate: &Path,
    key: &Path,
    client_ca: Option<&Path>,
    version: SslVersion,
) -> SslContext {
    let mut context = SslContext::builder(SslMethod::tls_server()).unwrap();
    context.set_min_proto_version(Some(version)).unwrap();
    context.set_max_proto_version(Some(version)).unwrap();
    context.set_certificate_chain_file(certificate).unwrap();
    context.set_private_key_file(key, SslFiletype::PEM).unwrap();
    if let Some(ca) = client_ca {
        context.set_ca_file(ca).unwrap();
        context.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    }
    context.build()
}

/// A broker with the server's certificate that asks a client for one if `mutual`.
async fn broker(
    certificates: &Certificates,
    address: &str,
    mutual: bool,
    version: SslVersion,
) -> (String, JoinHandle<()>) {
    let ca = certificates.ca();
    let pem = |name: &str| ca.with_file_name(name);
    let client_ca = mutual.then_some(ca.as_path());
    let tls = acceptor(&pem("server.pem"), &pem("server.key"), client_ca, version);
    on(address, Some(tls), |asked| match asked.key {
        ApiKey::ApiVersions => asked.answer::<ApiVersionsRequest>(&api_versions()),
        _ => asked
            .answer::<MetadataRequest>(&MetadataResponse::default().with_controller_id(7.into())),
    })
    .await
}

pub(super) fn connector(
    ca: PathBuf,
    client: Option<ClientCertificate>,
) -> Result<Arc<Connector>, StartError> {
    let security = Security { tls: Some(Tls { ca: Some(ca), client }), sasl: None };
    Connector::new(&ClusterConfig { security, ..plain() }, None)
}

pub(super) async fn ask(connector: &Connector, address: &str) -> Result<i32, String> {
    let mut connection = connector.connect(address).await.map_err(|error| error.to_string())?;
    let answer = connection.call(&MetadataRequest::default(), 12).await;
    answer.map(|answer| answer.controller_id.0).map_err(|error| error.to_string())
}

#[tokio::test]
#[ignore = "needs openssl"]
async fn both_versions_of_tls_and_every_name_of_the_certificate() {
    let certificates = Certificates::make();
    let connector = connector(certificates.ca(), None).unwrap();
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            let (address, serving) = broker(&certificates, listen, false, version).await;
            assert_eq!(ask(&connector, &address).await, Ok(7), "{address}");
            serving.abort();
        }
    }
    let (address, _serving) = broker(&certificates, "127.0.0.1:0", false, SslVersion::TLS1_3).await;
    let port = address.rsplit_once(':').unwrap().1;
    assert_eq!(ask(&connector, &format!("localhost:{port}")).await, Ok(7));
    let other = format!("127.0.0.2:{port}");
    let (other, _serving) = broker(&certificates, &other, false, SslVersion::TLS1_3).await;
    let error = ask(&connector, &other).await.unwrap_err();
    assert!(
        error.contains("certificate verify failed") && error.contains("not for this host"),
        "{error}"
    );
}

#[tokio::test]
#[ignore = "needs openssl"]
async fn an_authority_among_others_and_one_that_is_missing() {
    let certificates = Certificates::make();
    let (address, _serving) = broker(&certificates, "127.0.0.1:0", false, SslVersion::TLS1_3).await;
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
    let aes128 =
        rewritten(&certificates, "c.key", &[&encrypt[..], &["-v2", "aes-128-cbc"]].concat());
    let sec1 = rewritten(&certificates, "d.key", &["ec"]);
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let (address, _serving) = broker(&certificates, "127.0.0.1:0", true, version).await;
        for (name, client) in [
            ("plain", plain.clone()),
            (
                "a password too many",
                ClientCertificate { key_password: password.clone(), ..plain.clone() },
            ),
            (
                "encrypted",
                ClientCertificate { key_password: password.clone(), ..encrypted.clone() },
            ),
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
        (none, "client-zafka.pem", "no private key in it"),
    ] {
        let error = with(Some(client)).err().unwrap().to_string();
        assert!(error.contains(file) && error.contains(told), "{error}");
        assert!(!error.contains("wr0ng") && !error.contains("s3cret"), "{error}");
    }
}
