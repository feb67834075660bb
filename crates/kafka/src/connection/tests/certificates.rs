//! Certificates of all kinds, which our connections and librdkafka's take and refuse alike.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use kafka_protocol::messages::MetadataResponse;
use openssl::ssl::SslVersion;
use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use zafka_testkit::oidc::Certificates;

use super::fake::{api_versions, on};
use super::tls::{acceptor, ask, connector};
use super::*;
use crate::cluster::settings;
use crate::config::Tls;
use crate::error_text::normalize;

/// Time that librdkafka has to connect, or to say why not.
const PATIENCE: Duration = Duration::from_secs(30);

fn openssl(directory: &Path, arguments: &str) {
    let status = Command::new("openssl")
        .current_dir(directory)
        .args(arguments.split(' '))
        .output()
        .unwrap()
        .status;
    assert!(status.success(), "openssl {arguments}");
}

/// Makes NAME.pem and NAME.key in `directory`: a certificate for `subject` with these extensions,
/// signed by the CA.
fn certificate(
    directory: &Path,
    name: &str,
    curve: &str,
    subject: &str,
    extensions: &str,
) -> (PathBuf, PathBuf) {
    let key = format!("-newkey ec -pkeyopt ec_paramgen_curve:{curve} -nodes -keyout {name}.key");
    openssl(directory, &format!("req -new {key} -out {name}.csr -subj {subject}"));
    fs::write(directory.join("extensions"), extensions.replace(';', "\n")).unwrap();
    // Without any extension it is of version 1.
    let extended = if extensions.is_empty() { "" } else { " -extfile extensions" };
    let signed = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 30";
    openssl(directory, &format!("x509 -req -in {name}.csr {signed} -out {name}.pem{extended}"));
    (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")))
}

/// Connects librdkafka to `address`; returns its error if it does not.
fn librdkafka(ca: &Path, address: &str, reached: &AtomicBool) -> Result<(), String> {
    let security =
        Security { tls: Some(Tls { ca: Some(ca.to_owned()), client: None }), sasl: None };
    let cluster =
        ClusterConfig { bootstrap_servers: vec![address.to_owned()], security, ..plain() };
    let mut settings = settings(&cluster);
    settings.set("group.id", "g");
    let consumer: BaseConsumer<Reported> =
        settings.create_with_context(Reported::default()).unwrap();
    consumer.subscribe(&["t"]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let _ = consumer.poll(Duration::from_millis(50));
        if reached.load(Ordering::Relaxed) {
            return Ok(());
        }
        let told = consumer.context().0.lock();
        if let Some(told) = told.iter().find(|told| told.contains("certificate verify failed")) {
            return Err(normalize(told));
        }
    }
    panic!("librdkafka neither connects nor says why: {:?}", consumer.context().0.lock());
}

/// Errors that librdkafka reported.
#[derive(Default)]
struct Reported(Mutex<Vec<String>>);

impl ClientContext for Reported {
    fn error(&self, _: KafkaError, reason: &str) {
        self.0.lock().push(reason.to_owned());
    }
}

impl ConsumerContext for Reported {}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs openssl"]
async fn what_one_kind_of_connection_takes_the_other_takes() {
    let certificates = Certificates::make();
    let ca = certificates.ca();
    let directory = ca.parent().unwrap();
    let san = "subjectAltName=DNS:localhost";
    let make = |name: &str, curve: &str, subject: &str, extensions: &str| {
        certificate(directory, name, curve, subject, extensions)
    };
    openssl(
        directory,
        "req -x509 -newkey rsa:2048 -nodes -keyout own.key -out own.pem -days 30 -subj /CN=x \
         -addext subjectAltName=DNS:localhost",
    );
    let own = directory.join("own.pem");
    let authority = format!("{san};basicConstraints=critical,CA:TRUE");
    for (what, (chain, key), ca, refused) in [
        ("of the usual kind", make("usual", "P-256", "/CN=x", san), &ca, None),
        ("an authority itself", make("authority", "P-256", "/CN=x", &authority), &ca, None),
        ("version 1", make("v1", "P-256", "/CN=localhost", ""), &ca, None),
        (
            "a common name alone",
            make("cn", "P-256", "/CN=localhost", "basicConstraints=CA:FALSE"),
            &ca,
            None,
        ),
        ("P-521", make("p521", "P-521", "/CN=x", san), &ca, None),
        ("signed by itself", (own.clone(), own.with_extension("key")), &own, None),
        (
            "another host's",
            make("other", "P-256", "/CN=localhost", "subjectAltName=DNS:other"),
            &ca,
            Some("hostname mismatch (the broker's certificate is not for this host, localhost)"),
        ),
        (
            "another authority's",
            make("unknown", "P-256", "/CN=x", san),
            &certificates.other_ca(),
            Some(
                "unable to get local issuer certificate (the broker's certificate is not by a \
                 trusted",
            ),
        ),
        (
            "for clients",
            make("client", "P-256", "/CN=x", &format!("{san};extendedKeyUsage=clientAuth")),
            &ca,
            Some("(the broker's certificate)"),
        ),
    ] {
        let reached = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&reached);
        let tls = acceptor(&chain, &key, None, SslVersion::TLS1_3);
        let (address, serving) = on("127.0.0.1:0", Some(tls), move |asked| {
            told.store(true, Ordering::Relaxed);
            match asked.key {
                ApiKey::ApiVersions => asked.answer::<ApiVersionsRequest>(&api_versions()),
                _ => asked.answer::<MetadataRequest>(
                    &MetadataResponse::default().with_controller_id(7.into()),
                ),
            }
        })
        .await;
        for host in ["localhost", "localhost."] {
            let address = address.replace("127.0.0.1", host);
            let ours = ask(&connector(ca.to_path_buf(), None).unwrap(), &address).await;
            match refused {
                None => assert_eq!(ours, Ok(7), "{what}"),
                Some(why) => {
                    let error = ours.unwrap_err();
                    assert!(
                        error.contains("certificate verify failed: ") && error.contains(why),
                        "{what}: {error}"
                    );
                }
            }
            reached.store(false, Ordering::Relaxed);
            let theirs = tokio::task::block_in_place(|| librdkafka(ca, &address, &reached));
            assert_eq!(theirs.is_ok(), refused.is_none(), "{what}: {theirs:?}");
        }
        serving.abort();
    }
}

#[tokio::test]
#[ignore = "needs openssl"]
async fn files_that_are_renewed_are_used_by_the_next_connection() {
    let certificates = Certificates::make();
    let ca = certificates.ca();
    let trusted = ca.with_file_name("trusted.pem");
    let tls = acceptor(
        &ca.with_file_name("server.pem"),
        &ca.with_file_name("server.key"),
        None,
        SslVersion::TLS1_3,
    );
    let (address, _serving) = on("127.0.0.1:0", Some(tls), |asked| match asked.key {
        ApiKey::ApiVersions => asked.answer::<ApiVersionsRequest>(&api_versions()),
        _ => asked
            .answer::<MetadataRequest>(&MetadataResponse::default().with_controller_id(7.into())),
    })
    .await;
    fs::copy(certificates.other_ca(), &trusted).unwrap();
    let connector = connector(trusted.clone(), None).unwrap();
    assert!(ask(&connector, &address).await.unwrap_err().contains("verify failed"));
    fs::copy(&ca, &trusted).unwrap();
    assert_eq!(ask(&connector, &address).await, Ok(7));
    // One that is half written: what was read last is good until it is whole.
    fs::write(&trusted, "-----BEGIN CERTIFICATE-----\nMII").unwrap();
    assert_eq!(ask(&connector, &address).await, Ok(7));
    fs::remove_file(&trusted).unwrap();
    assert_eq!(ask(&connector, &address).await, Ok(7));
    fs::copy(certificates.other_ca(), &trusted).unwrap();
    assert!(ask(&connector, &address).await.unwrap_err().contains("verify failed"));
}
