//! The ways into a secured Kafka, and what each refusal says.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use zafka_kafka::config::{
    ClientCertificate, ClusterConfig, Credentials, FetcherKind, GroupProtocol, OAuthBearer, Sasl,
    Secret, Security, Start, Tls,
};
use zafka_kafka::produce::ProducerKind;
use zafka_kafka::{Cluster, Source, StartError, probe};
use zafka_oidc::{
    Assertion, ClientAuthentication, EndpointConfig, Grant, SecretSource, SignedAssertion,
    SigningKeyConfig, TokenConfig, TokenProvider,
};
use zafka_testkit::kafka::{KafkaOptions, PASSWORD};
use zafka_testkit::{Record, SecuredKafka};

use crate::produce::{Writer, settings};
use crate::route::{Route, config, config_in};

fn credentials(password: &str) -> Credentials {
    credentials_of("zafka", password)
}

pub fn credentials_of(username: &str, password: &str) -> Credentials {
    Credentials { username: username.to_owned(), password: Secret::new(password) }
}

fn endpoint(token_url: &str, client_id: &str) -> EndpointConfig {
    let secret = SecretSource::Text(Secret::new("s3cret"));
    EndpointConfig {
        token_url: token_url.to_owned(),
        client_id: Some(client_id.to_owned()),
        authentication: ClientAuthentication::Secret(secret),
        grant: Grant::ClientCredentials,
        scope: vec!["kafka".to_owned()],
        audience: None,
        resource: None,
        ca: None,
    }
}

fn bearer(endpoint: EndpointConfig) -> Option<Sasl> {
    let tokens = TokenConfig::Endpoint(Box::new(endpoint));
    Some(Sasl::OAuthBearer(OAuthBearer { tokens, extensions: Vec::new() }))
}

fn oidc(kafka: &SecuredKafka, client_id: &str) -> EndpointConfig {
    let ca = Some(kafka.certificates.ca());
    EndpointConfig { ca, ..endpoint(&kafka.oidc.token_url(), client_id) }
}

/// A token as a platform puts it into a file: the provider looks at its claims alone.
fn platform_token(kafka: &SecuredKafka) -> PathBuf {
    let file = kafka.certificates.ca().with_file_name("platform.jwt");
    std::fs::write(&file, "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ6YWZrYSJ9.c2lnbmVk\n").unwrap();
    file
}

/// Tokens by every grant but client credentials.
fn other_grants(kafka: &SecuredKafka) -> Vec<(&'static str, Option<Sasl>)> {
    let own_key = kafka.certificates.client("zafka").1;
    let key = || SigningKeyConfig { file: own_key.clone(), id: None, algorithm: None };
    let exchange = EndpointConfig {
        // This provider exchanges for nobody but a client that signs.
        authentication: ClientAuthentication::Key { key: key(), audience: None },
        grant: Grant::TokenExchange {
            subject_token: SecretSource::File(platform_token(kafka)),
            subject_token_type: "urn:ietf:params:oauth:token-type:jwt".to_owned(),
        },
        audience: Some("kafka".to_owned()),
        ..oidc(kafka, "zafka")
    };
    let bearer_of = |assertion| {
        bearer(EndpointConfig { grant: Grant::JwtBearer(assertion), ..oidc(kafka, "zafka") })
    };
    let signed = SignedAssertion {
        key: key(),
        issuer: "zafka".to_owned(),
        subject: "zafka".to_owned(),
        audience: None,
        life: Duration::from_secs(60),
        claims: Vec::new(),
    };
    let token = TokenProvider::new(&TokenConfig::Endpoint(Box::new(oidc(kafka, "zafka")))).unwrap();
    let file = kafka.certificates.ca().with_file_name("broker.jwt");
    std::fs::write(&file, token.token().unwrap().secret.expose()).unwrap();
    let from_file = OAuthBearer { tokens: TokenConfig::File(file), extensions: Vec::new() };
    vec![
        ("token exchange", bearer(exchange)),
        ("an assertion", bearer_of(Assertion::Signed(signed))),
        ("a platform's assertion", bearer_of(Assertion::File(platform_token(kafka)))),
        ("a token in a file", Some(Sasl::OAuthBearer(from_file))),
    ]
}

pub fn at(bootstrap: &str, tls: Tls, sasl: Option<Sasl>) -> ClusterConfig {
    ClusterConfig {
        bootstrap_servers: vec![bootstrap.to_owned()],
        security: Security { tls: Some(tls), sasl },
        client_rack: None,
    }
}

fn client_certificate(kafka: &SecuredKafka) -> Option<ClientCertificate> {
    let (certificate, key) = kafka.certificates.client("zafka");
    Some(ClientCertificate { certificate, key, key_password: None })
}

/// The node that these tests share; none of them breaks it.
pub fn kafka() -> &'static SecuredKafka {
    static NODE: LazyLock<SecuredKafka> = LazyLock::new(|| {
        let kafka = SecuredKafka::start();
        kafka.create_topic_for("zafka", "orders", 1, "g");
        kafka.admin().produce("orders", &[Record::new("k", "v")]);
        kafka
    });
    &NODE
}

pub fn tls() -> Tls {
    Tls { ca: Some(kafka().certificates.ca()), client: None }
}

/// The ways into the shared node, as "zafka".
pub fn ways_in(kafka: &SecuredKafka) -> [(&'static str, ClusterConfig); 5] {
    let (sasl, oauth, mtls) = (kafka.sasl(), kafka.oauth(), kafka.mtls());
    let by_password =
        |sasl_of: fn(Credentials) -> Sasl| at(&sasl, tls(), Some(sasl_of(credentials(PASSWORD))));
    [
        ("PLAIN", by_password(Sasl::Plain)),
        ("SCRAM-SHA-256", by_password(Sasl::ScramSha256)),
        ("SCRAM-SHA-512", by_password(Sasl::ScramSha512)),
        ("OAUTHBEARER", at(&oauth, tls(), bearer(oidc(kafka, "zafka")))),
        ("mutual TLS", at(&mtls, Tls { client: client_certificate(kafka), ..tls() }, None)),
    ]
}

on_both_fetchers!(every_way_in, "needs Java and Maven");
async fn every_way_in(fetching: FetcherKind) {
    let kafka = kafka();
    let group = format!("g-{fetching:?}");
    kafka.admin().allow("zafka", "read", "group", &group);
    let oauth = kafka.oauth();
    let grants = other_grants(kafka).into_iter();
    let grants = grants.map(|(name, sasl)| (name, at(&oauth, tls(), sasl)));
    for (name, cluster) in ways_in(kafka).into_iter().chain(grants) {
        println!("{name}");
        let mut route =
            Route::start(&cluster, config_in(fetching, &["orders"], &group, Start::Earliest));
        route.until(name, |route| route.records.len() == 1).await;
        // Nothing is committed, so that the next one reads it too.
        route.close_at(Vec::new()).await;
    }
}

/// Tests one fetcher alone: the membership, which is librdkafka's, is what is refused.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java and Maven"]
async fn every_refusal() {
    let kafka = kafka();
    let fetching = FetcherKind::Fast;
    let (sasl, oauth, mtls) = (kafka.sasl(), kafka.oauth(), kafka.mtls());
    let other = || Tls { ca: Some(kafka.certificates.other_ca()), client: None };
    let mut unreachable = oidc(kafka, "zafka");
    unreachable.token_url = "https://127.0.0.1:1/token".to_owned();
    for (name, cluster, expected) in [
        (
            "wrong password",
            at(&sasl, tls(), Some(Sasl::ScramSha512(credentials("wrong")))),
            "Authentication failed",
        ),
        (
            "wrong audience",
            at(&oauth, tls(), bearer(oidc(kafka, "wrong-audience"))),
            "invalid_token",
        ),
        ("no certificate", at(&mtls, tls(), None), "certificate"),
        (
            "unknown authority",
            at(&sasl, other(), Some(Sasl::Plain(credentials(PASSWORD)))),
            "certificate verify failed",
        ),
        (
            "no provider",
            at(&oauth, tls(), bearer(unreachable)),
            "no token from https://127.0.0.1:1/token",
        ),
    ] {
        let config = config_in(fetching, &["orders"], "g", Start::Earliest);
        let (probed, asked) = (cluster.clone(), config.clone());
        let error = tokio::task::spawn_blocking(move || probe(&probed, &[&asked]))
            .await
            .unwrap()
            .unwrap_err();
        println!("{name}: {error}");
        assert!(error.to_string().contains(expected), "{name}: {error}");
        let mut route = Route::start(&cluster, config);
        route
            .until(name, |route| {
                route.source.status().not_ready.unwrap_or_default().contains(expected)
            })
            .await;
        route.close().await;
    }

    kafka.admin().create_topic("forbidden", 1, &[]);
    let cluster = at(&sasl, tls(), Some(Sasl::Plain(credentials(PASSWORD))));
    let mut route =
        Route::start(&cluster, config_in(fetching, &["forbidden"], "g", Start::Earliest));
    let reason = |route: &Route| route.source.status().not_ready.unwrap_or_default();
    route.until("a refusal", |route| reason(route).contains("\"forbidden\": not authorized")).await;
    route.close().await;
    let mut route =
        Route::start(&cluster, config_in(fetching, &["orders"], "other", Start::Earliest));
    route
        .until("a refusal", |route| {
            reason(route).to_lowercase().contains("group authorization failed")
        })
        .await;
    route.close().await;
}

on_both_fetchers!(a_topic_that_may_not_be_read_keeps_no_other_waiting, "needs Java and Maven");
async fn a_topic_that_may_not_be_read_keeps_no_other_waiting(fetching: FetcherKind) {
    let (kafka, group) = (kafka(), format!("mixed-{fetching:?}"));
    let admin = kafka.admin();
    admin.allow("zafka", "read", "group", &group);
    let shown = format!("shown-{fetching:?}");
    admin.create_topic(&shown, 1, &[]);
    admin.allow("zafka", "describe", "topic", &shown);
    admin.produce(&shown, &[Record::new("k", "before")]);
    let cluster = at(&kafka.sasl(), tls(), Some(Sasl::Plain(credentials(PASSWORD))));
    let mut route =
        Route::start(&cluster, config_in(fetching, &["orders", &shown], &group, Start::Earliest));
    route.until("the other topic's record", |route| route.records.len() == 1).await;
    let refused = format!("{shown}/0: the start was not committed: ");
    route
        .until("the topic that waits", |route| {
            route.source.status().not_ready.is_some_and(|reason| reason.contains(&refused))
        })
        .await;
    admin.allow("zafka", "read", "topic", &shown);
    route.until("its record", |route| route.records.len() == 2).await;
    route.until("readiness", |route| route.source.status().not_ready.is_none()).await;
    route.close().await;
}

on_both_fetchers!(partitions_that_wait_are_given_back, "needs Java and Maven");
async fn partitions_that_wait_are_given_back(fetching: FetcherKind) {
    let (kafka, topic) = (kafka(), format!("given-back-{fetching:?}"));
    let admin = kafka.admin();
    admin.create_topic(&topic, 2, &[]);
    admin.allow("zafka", "describe", "topic", &topic);
    admin.allow("mallory", "read", "topic", &topic);
    let protocols = [GroupProtocol::Consumer, GroupProtocol::Classic];
    for (protocol, group) in protocols.map(|protocol| (protocol, format!("{topic}-{protocol:?}"))) {
        let member = |user: &str| {
            admin.allow(user, "read", "group", &group);
            let sasl = Some(Sasl::Plain(credentials_of(user, PASSWORD)));
            let config = config(fetching, &[&topic], Some((&group, protocol)), Start::Earliest);
            Route::start(&at(&kafka.sasl(), tls(), sasl), config)
        };
        let mut one = member("zafka");
        let waits =
            |route: &Route| route.source.status().not_ready.unwrap_or_default().contains(&topic);
        one.until("partitions that wait", waits).await;
        let mut two = member("mallory");
        two.until("one of them", |route| route.held.len() == 1).await;
        two.until("readiness", |route| route.source.status().not_ready.is_none()).await;
        one.close().await;
        two.until("the other", |route| route.held.len() == 2).await;
        two.close().await;
    }
}

/// Tests one fetcher alone: with it, both kinds of connections are there.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java and Maven"]
async fn sessions_are_renewed_before_they_end() {
    // The broker closes a connection whose session has ended and was not renewed (KIP-368).
    let options = ["plain", "scram-sha-256", "scram-sha-512"].into_iter().fold(
        KafkaOptions::default().property("connections.max.reauth.ms", "600000"),
        |options, mechanism| {
            options.property(
                &format!("listener.name.sasl.{mechanism}.connections.max.reauth.ms"),
                "8000",
            )
        },
    );
    let mut kafka = SecuredKafka::start_with(8, options);
    kafka.admin().create_topic("orders", 1, &[]);
    kafka.admin().allow("zafka", "read", "topic", "orders");
    let tls = Tls { ca: Some(kafka.certificates.ca()), client: None };
    let by_password = |sasl: Sasl| at(&kafka.sasl(), tls.clone(), Some(sasl));
    let clusters = [
        ("tokens", at(&kafka.oauth(), tls.clone(), bearer(oidc(&kafka, "zafka")))),
        ("plain", by_password(Sasl::Plain(credentials(PASSWORD)))),
        ("scram-256", by_password(Sasl::ScramSha256(credentials(PASSWORD)))),
        ("scram-512", by_password(Sasl::ScramSha512(credentials(PASSWORD)))),
    ];
    // Those of which a renewal takes one step, and several.
    let producers = [clusters[0].1.clone(), clusters[3].1.clone()];
    kafka.admin().create_topic(WRITTEN, 1, &[]);
    for operation in ["read", "write"] {
        kafka.admin().allow("zafka", operation, "topic", WRITTEN);
    }
    let mut routes = clusters.map(|(group, cluster)| {
        kafka.admin().allow("zafka", "read", "group", group);
        let config = config_in(FetcherKind::Fast, &["orders"], group, Start::Earliest);
        (group, Route::start(&cluster, config))
    });
    let writing = producers.map(|cluster| tokio::spawn(writes_on(cluster)));
    let mut written = 0;
    let deadline = Instant::now() + LONG;
    while routes.iter().any(|(_, route)| route.source.status().renewals < RENEWALS) {
        kafka.admin().produce("orders", &[Record::new("k", written.to_string())]);
        written += 1;
        for (mechanism, route) in &mut routes {
            route.until(mechanism, |route| route.records.len() == written).await;
            let status = route.source.status();
            assert!(Instant::now() < deadline, "{mechanism}: {status:?}");
        }
        // Only so that the machine has time for others.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    for written in writing {
        written.await.unwrap();
    }
    kafka.oidc.restart();
    kafka.admin().produce("orders", &[Record::new("k", "after")]);
    for (mechanism, mut route) in routes {
        route.until(mechanism, |route| route.records.len() == written + 1).await;
        route.close().await;
    }
}

/// A topic for [`writes_on`].
const WRITTEN: &str = "written";

/// Renewals of one session after which it has lived for longer than the broker lets it without.
const RENEWALS: u64 = 2;
/// Time for that. A slow machine may miss a renewal, but not each.
const LONG: Duration = Duration::from_secs(240);

/// Writes without a pause until a session has been renewed so often.
async fn writes_on(cluster: ClusterConfig) {
    let mut writer = Writer::start_in(cluster, &settings(ProducerKind::Fast));
    let deadline = Instant::now() + LONG;
    while writer.producer.health().renewals() < RENEWALS {
        writer.send(WRITTEN, None);
        writer.step().await;
        let health = writer.producer.health();
        assert!(Instant::now() < deadline, "{} errors: {:?}", health.errors(), health.not_ready());
    }
    writer.until_all_told().await;
    assert!(writer.told.values().all(Result::is_ok), "{:?}", writer.told);
    writer.producer.close().await;
}

/// Tests both protocols, as static members, on both fetchers.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java and Maven"]
async fn a_membership_takes_over_with_renewed_certificates() {
    kafka().admin().create_topic("renewed", 2, &[]);
    for user in ["zafka", "mallory"] {
        kafka().admin().allow(user, "read", "topic", "renewed");
    }
    tokio::join!(
        certificates_are_renewed(FetcherKind::Fast, GroupProtocol::Consumer),
        certificates_are_renewed(FetcherKind::Librdkafka, GroupProtocol::Classic),
    );
}

async fn certificates_are_renewed(fetching: FetcherKind, protocol: GroupProtocol) {
    let (kafka, group) = (kafka(), format!("renewed-{protocol:?}"));
    let admin = kafka.admin();
    let user_may = |user: &str| admin.allow(user, "read", "group", &group);
    let file = |kind: &str| kafka.certificates.ca().with_file_name(format!("{group}.{kind}"));
    let (certificate, key) = (file("pem"), file("key"));
    let put = |user: &str| {
        let (from, from_key) = kafka.certificates.client(user);
        std::fs::copy(from, &certificate).unwrap();
        std::fs::copy(from_key, &key).unwrap();
    };
    put("zafka");
    user_may("zafka");
    let client = ClientCertificate {
        certificate: certificate.clone(),
        key: key.clone(),
        key_password: None,
    };
    let mut config = config(fetching, &["renewed"], Some((&group, protocol)), Start::Latest);
    config.group.as_mut().unwrap().instance = Some("one".to_owned());
    config.revoke_timeout = Duration::from_secs(20);
    let mut route =
        Route::start(&at(&kafka.mtls(), Tls { client: Some(client), ..tls() }, None), config);
    route.until("its partitions", |route| route.held.len() == 2).await;
    let topic = route.held[0].topic().to_string();
    admin.produce(&topic, &[Record::new("k", group.as_str()).partition(1)]);
    let mine = |route: &Route| route.values().iter().filter(|value| **value == group).count();
    route.until("the first record", |route| mine(route) == 1).await;

    put("mallory");
    user_may("mallory");
    let given_back = |route: &Route| route.events.iter().any(|event| event == "revoked 2");
    route.until("partitions that are given back", given_back).await;
    route.until("partitions again", |route| route.held.len() == 2).await;
    admin.revoke("zafka", "read", "group", &group);
    admin.produce(&topic, &[Record::new("k", group.as_str()).partition(1)]);
    route.until("the second record", |route| mine(route) == 2).await;
    // What came before is committed: nothing is repeated. The commit is the membership's own, and
    // only the new user's.
    let positions = route.positions();
    let position = positions.iter().find(|(held, _)| held.partition() == 1).unwrap().1;
    route.source.commit(positions);
    let committed = || admin.committed(&group).get(&(topic.clone(), 1)).copied();
    route.until("its commit", |_| committed() == Some(position)).await;
    assert!(route.source.status().not_ready.is_none());
    route.close().await;
}

#[test]
fn settings_that_cannot_work_are_refused_at_once() {
    let client = |token_url: &str, ca: Option<&str>| {
        bearer(EndpointConfig { ca: ca.map(Into::into), ..endpoint(token_url, "a") })
    };
    for (sasl, tls, expected) in [
        (client("not a url", None), Tls::default(), "token_url: "),
        (client("http://a/token", Some("/nowhere.pem")), Tls::default(), "/nowhere.pem"),
        (None, Tls { ca: Some("/nowhere.pem".into()), client: None }, "/nowhere.pem"),
    ] {
        let cluster = at("127.0.0.1:1", tls, sasl);
        for fetching in [FetcherKind::Fast, FetcherKind::Librdkafka] {
            let config = config_in(fetching, &["a"], "g", Start::Earliest);
            let started: Result<_, StartError> =
                Cluster::new(&cluster).and_then(|cluster| Source::start(&cluster, config));
            let error = started.map(drop).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(!format!("{cluster:?}").contains("s3cret"));
    }
}
