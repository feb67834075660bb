//! Every way into a secured Kafka, and the error if there is none.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use zafka_testkit::kafka::PASSWORD;
use zafka_testkit::oidc::Certificates;
use zafka_testkit::{
    Checker, KafkaOptions, LibzmqSub, Record, SecuredKafka, Sequence, Session, Zafka, ports,
    unique, wait_until,
};

use crate::common::{Fetcher, RouteToml, counter, endpoint, is_at, relay_toml};
use crate::identity::secrets::Secrets;
use crate::program::run_with;
use crate::{DEADLINE, ZAFKA, decoded};

/// Seconds that a token lives. A broker ends the connection whose token is not renewed by then
/// (KIP-368).
const TOKEN_SECONDS: u32 = 10;
/// A secret of the provider's client; the provider takes any.
const CLIENT_SECRET: &str = "s3cret of the client";
/// The secrets, as a configuration finds them.
const ENVIRONMENT: [(&str, &str); 3] = [
    ("ZAFKA_TEST_PASSWORD", PASSWORD),
    ("ZAFKA_TEST_WRONG_PASSWORD", "not the password"),
    ("ZAFKA_TEST_CLIENT_SECRET", CLIENT_SECRET),
];
/// The time for which a lasting error is watched.
const WATCHED: Duration = Duration::from_secs(8);
/// Lines of warnings and errors in that time, for one error.
const LINES: usize = 3;

/// The node that these tests share; none of them breaks it.
fn kafka() -> &'static SecuredKafka {
    static NODE: LazyLock<SecuredKafka> =
        LazyLock::new(|| SecuredKafka::start_with(TOKEN_SECONDS, KafkaOptions::default()));
    &NODE
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

fn tls(ca: &Path) -> String {
    format!("tls = {{ ca = {} }}\n", quoted(ca))
}

fn mutual_tls(user: &str) -> String {
    let certificates = &kafka().certificates;
    let (certificate, key) = certificates.client(user);
    let [ca, certificate, key] = [&certificates.ca(), &certificate, &key].map(|path| quoted(path));
    format!("tls = {{ ca = {ca}, certificate = {certificate}, key = {key} }}\n")
}

fn password(mechanism: &str, secret: &str) -> String {
    let tls = tls(&kafka().certificates.ca());
    format!("{tls}sasl = {{ mechanism = \"{mechanism}\", username = \"zafka\", {secret} }}\n")
}

/// Tokens by an exchange, for a client that signs (RFC 8693, 7523): nothing in it is a secret of
/// both sides.
fn exchange(directory: &Path) -> String {
    // The provider looks at its claims alone.
    let subject = directory.join("subject.jwt");
    std::fs::write(&subject, "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ6YWZrYSJ9.c2lnbmVk\n").unwrap();
    std::fs::set_permissions(&subject, Permissions::from_mode(0o600)).unwrap();
    let key = quoted(&kafka().certificates.client("zafka").1);
    let subject = quoted(&subject);
    token(
        "zafka",
        &format!(
            "grant = \"token_exchange\", client_key_file = {key}, subject_token_file = {subject}, \
             audience = \"kafka\""
        ),
    )
}

fn token(client: &str, secret: &str) -> String {
    let (ca, url) = (kafka().certificates.ca(), kafka().oidc.token_url());
    format!(
        "{}sasl = {{ mechanism = \"OAUTHBEARER\", token_url = \"{url}\", client_id = \"{client}\", \
         {secret}, scope = [\"kafka\"], ca = {} }}\n",
        tls(&ca),
        quoted(&ca)
    )
}

/// A configuration of one route, the group named as the topic, and the endpoint it binds.
fn config(fetcher: Fetcher, bootstrap: &str, security: &str, topic: &str) -> (String, String) {
    let endpoint = endpoint();
    let from = format!(
        "topics = [\"{topic}\"], group = \"{topic}\", start = \"earliest\", \
         topic_refresh = \"1s\", {fetcher}"
    );
    let to = format!("bind = [\"{endpoint}\"], slow_peer = \"block\", min_peers = 1");
    let routes = relay_toml(bootstrap, &[RouteToml { name: "orders", from: &from, to: &to }]);
    (routes.replacen("[[route]]", &format!("[kafka.security]\n{security}[[route]]"), 1), endpoint)
}

/// Asserts that nothing in `text` is a secret, or what is made of one.
fn assert_no_secret(text: &str) {
    // A JWT begins with the base64 of `{"`; Basic authentication with that of the client's name and
    // a colon.
    for secret in [PASSWORD, "not the password", CLIENT_SECRET, "s3cret", "eyJ", "emFma2E6"] {
        let line = text.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret:?} is told");
    }
    // Nor in another form, nor as PLAIN sends it (RFC 4616).
    let mut secrets = Secrets::default();
    for secret in [PASSWORD, CLIENT_SECRET] {
        secrets.add("a secret", secret.as_bytes());
    }
    secrets.add("the answer of PLAIN", format!("\0zafka\0{PASSWORD}").as_bytes());
    secrets.assert_in_none_of("what is told", text);
}

/// `zafka check --connect` of a configuration: exit code and output.
fn check(text: &str) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("zafka.toml");
    std::fs::write(&file, text).unwrap();
    let arguments = ["--log-level", "trace", "check", "--connect", "-c", file.to_str().unwrap()];
    let (exit, out, err) = run_with(&arguments, &ENVIRONMENT);
    assert_no_secret(&out);
    assert_no_secret(&err);
    // What ends it is told on standard error, beside the log.
    let told = err.lines().filter(|line| line.starts_with(file.to_str().unwrap()));
    (exit.code(), told.fold(out, |out, line| out + line + "\n"))
}

on_both_fetchers!(every_mechanism_relays_records, "needs Java and Maven");
fn every_mechanism_relays_records(fetcher: Fetcher) {
    let (sasl, mtls) = (kafka().sasl(), kafka().mtls());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    // As an editor leaves it: the last newline is not part of it.
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let by_variable = "password = \"${ZAFKA_TEST_PASSWORD}\"";
    let by_file = format!("password_file = {}", quoted(&file));
    for (name, bootstrap, security) in [
        ("PLAIN", &sasl, password("PLAIN", by_variable)),
        ("SCRAM-SHA-256", &sasl, password("SCRAM-SHA-256", &by_file)),
        ("SCRAM-SHA-512", &sasl, password("SCRAM-SHA-512", by_variable)),
        ("mutual TLS", &mtls, mutual_tls("zafka")),
    ] {
        let topic = unique("secured");
        kafka().create_topic_for("zafka", &topic, 2, &topic);
        let sequence = Sequence { partitions: vec![0, 1], ..Sequence::new(&topic, 2000) };
        let produced = kafka().admin().produce_sequence(&sequence);
        let (config, endpoint) = config(fetcher, bootstrap, &security, &topic);
        let mut relay =
            Zafka::run_with(ZAFKA, &config, &[&ENVIRONMENT[..], &[("RUST_LOG", "trace")]].concat());
        let messages =
            decoded(&LibzmqSub::connect(&endpoint, &[&topic]).wait_messages(2000, DEADLINE));
        println!("{name}: {} messages", messages.len());
        Checker::new().expect_sequence(&sequence, &produced).assert(&[Session::new(messages)]);
        relay.wait_ready();
        for path in ["/status", "/metrics", "/readyz"] {
            assert_no_secret(&relay.get(path).unwrap().1);
        }
        relay.terminate();
        assert!(relay.wait_exit(DEADLINE).success(), "{name}: {}", relay.log());
        assert_eq!(kafka().admin().committed(&topic).into_values().sum::<i64>(), 2000, "{name}");
        assert_no_secret(&relay.log());
        let (code, out) = check(&config);
        assert_eq!(code, Some(0), "{name}: {out}");
        assert!(out.contains(&format!("\n  {topic}: 2 partitions\n")), "{name}: {out}");
    }
}

on_both_fetchers!(tokens_are_renewed_while_records_flow, "needs Java and Maven");
fn tokens_are_renewed_while_records_flow(fetcher: Fetcher) {
    let topic = unique("tokens");
    kafka().create_topic_for("zafka", &topic, 1, &topic);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("client_secret");
    std::fs::write(&file, CLIENT_SECRET).unwrap();
    let security = match fetcher {
        Fetcher::Fast => exchange(directory.path()),
        Fetcher::Librdkafka => token("zafka", &format!("client_secret_file = {}", quoted(&file))),
    };
    let (config, endpoint) = config(fetcher, &kafka().oauth(), &security, &topic);
    let mut relay = Zafka::run_with(ZAFKA, &config, &[("RUST_LOG", "trace")]);
    // The records of more than two lives of a token.
    let per_second = 20;
    let count = per_second * (2 * u64::from(TOKEN_SECONDS) + 5);
    let sequence = Sequence { per_second, ..Sequence::new(&topic, count as usize) };
    let writing = kafka().admin().produce_in_background(sequence.clone());
    let messages =
        decoded(&LibzmqSub::connect(&endpoint, &[&topic]).wait_messages(count as usize, DEADLINE));
    Checker::new().expect_sequence(&sequence, &writing.join()).assert(&[Session::new(messages)]);
    // Renewed on the connections that there are: unrenewed, each would have been lost twice. A slow
    // machine may lose one.
    let status =
        relay.wait_status("the end", DEADLINE, |status| status["routes"][0]["ready"] == true);
    assert!(counter(&status, "kafka_errors") <= 1, "{}", relay.process().log_tail());
    assert_no_secret(&relay.log());
    let (code, out) = check(&config);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("kafka.security.sasl: a token was obtained, good for "), "{out}");
}

/// One refusal: the server, the fault, the topic, and the report.
struct Refusal {
    name: &'static str,
    bootstrap: String,
    security: String,
    topic: String,
    told: &'static str,
}

fn refusals() -> Vec<Refusal> {
    let (sasl, oauth, mtls) = (kafka().sasl(), kafka().oauth(), kafka().mtls());
    let certificates = &kafka().certificates;
    let right = "password = \"${ZAFKA_TEST_PASSWORD}\"";
    let wrong = "password = \"${ZAFKA_TEST_WRONG_PASSWORD}\"";
    let secret = "client_secret = \"${ZAFKA_TEST_CLIENT_SECRET}\"";
    let wrong_ca = password("PLAIN", right).replace(
        &certificates.ca().display().to_string(),
        &certificates.other_ca().display().to_string(),
    );
    let rows = [
        (
            "wrong password by SCRAM",
            &sasl,
            password("SCRAM-SHA-512", wrong),
            "Authentication failed",
        ),
        ("wrong password by PLAIN", &sasl, password("PLAIN", wrong), "Authentication failed"),
        ("wrong audience", &oauth, token("wrong-audience", secret), "invalid_token"),
        ("no certificate", &mtls, tls(&certificates.ca()), "certificate"),
        ("unknown authority", &sasl, wrong_ca, "certificate verify failed"),
        ("topic", &sasl, password("PLAIN", right), "not authorized to read it"),
        ("group", &sasl, password("PLAIN", right), "Group authorization failed"),
    ];
    let refusal =
        |(name, bootstrap, security, told): (&'static str, &String, String, &'static str)| {
            let topic = unique("refused");
            kafka().admin().create_topic(&topic, 1, &[]);
            // Each is refused for one reason alone.
            if name != "topic" {
                kafka().admin().allow("zafka", "read", "topic", &topic);
            }
            if name != "group" {
                kafka().admin().allow("zafka", "read", "group", &topic);
            }
            Refusal { name, bootstrap: bootstrap.clone(), security, topic, told }
        };
    rows.map(refusal).into()
}

on_both_fetchers!(each_refusal_is_told_once_and_clearly, "needs Java and Maven");
fn each_refusal_is_told_once_and_clearly(fetcher: Fetcher) {
    let began = Instant::now();
    let mut running: Vec<_> = refusals()
        .into_iter()
        .map(|refusal| {
            let (config, _) =
                config(fetcher, &refusal.bootstrap, &refusal.security, &refusal.topic);
            (Zafka::run_with(ZAFKA, &config, &ENVIRONMENT), refusal, config)
        })
        .collect();
    for (relay, Refusal { name, told, .. }, _) in &mut running {
        relay.wait_status(name, DEADLINE, |status| {
            status["routes"][0]["reason"].as_str().is_some_and(|reason| reason.contains(*told))
        });
        let (code, body) = relay.get("/readyz").unwrap();
        assert!(code == 503 && body.contains(*told), "{name}: {body}");
    }
    let end = Instant::now() + WATCHED;
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
    let logs: Vec<String> = running.iter().map(|(relay, ..)| relay.log()).collect();
    // The same is told again each ten seconds.
    let lines_allowed = LINES * (1 + began.elapsed().as_secs() as usize / 10);
    let mut faults = Vec::new();
    for ((relay, Refusal { name, told, .. }, config), log) in running.iter_mut().zip(&logs) {
        assert_no_secret(log);
        let lines: Vec<_> =
            log.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR ")).collect();
        if !lines.iter().any(|line| line.contains(*told)) || lines.len() > lines_allowed {
            faults.push(format!("{name}: {} lines:\n{}", lines.len(), lines.join("\n")));
        }
        assert!(relay.process().is_running(), "{name}: the relay goes on trying");
        let (code, out) = check(config);
        let errors = out.lines().filter(|line| line.contains(*told)).count();
        if (code, errors) != (Some(1), 1) {
            faults.push(format!("{name}: check ends with {code:?}:\n{out}"));
        }
        println!("{name}:\n{}\n{out}", lines.join("\n"));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));

    // What somebody allows later is read without a restart.
    for (relay, Refusal { name, topic, .. }, _) in &mut running {
        if ["topic", "group"].contains(name) {
            kafka().admin().allow("zafka", "read", name, topic);
            relay.wait_ready();
        }
    }
}

on_both_fetchers!(the_right_to_the_group_comes_back, "needs Java and Maven");
fn the_right_to_the_group_comes_back(fetcher: Fetcher) {
    let admin = kafka().admin();
    for protocol in ["consumer", "classic"] {
        let topic = unique("taken");
        kafka().create_topic_for("zafka", &topic, 1, &topic);
        let security = password("PLAIN", "password = \"${ZAFKA_TEST_PASSWORD}\"");
        let (config, endpoint) = config(fetcher, &kafka().sasl(), &security, &topic);
        let config =
            config.replace("start =", &format!("group_protocol = \"{protocol}\", start ="));
        let mut relay = Zafka::run_with(ZAFKA, &config, &ENVIRONMENT);
        let subscriber = LibzmqSub::connect(&endpoint, &[&topic]);
        let first = Sequence::new(&topic, 100);
        let mut checker = Checker::new();
        checker.expect_sequence(&first, &admin.produce_sequence(&first));
        subscriber.wait_messages(100, DEADLINE);

        admin.revoke("zafka", "read", "group", &topic);
        // Commits of these fail.
        let second = Sequence { first: 100, ..first.clone() };
        checker.expect_sequence(&second, &admin.produce_sequence(&second));
        relay.wait_status("the refusal", DEADLINE, |status| {
            let reason = status["routes"][0]["reason"].as_str().unwrap_or_default().to_lowercase();
            reason.contains(&topic) && reason.contains("authori")
        });
        assert_eq!(relay.get("/readyz").unwrap().0, 503);

        admin.allow("zafka", "read", "group", &topic);
        relay.wait_ready();
        wait_until("all to be committed", DEADLINE, || admin.committed(&topic).values().eq([&200]));
        assert!(relay.process().is_running(), "{protocol}: {}", relay.log());
        // What was sent and not committed may come again, in a new session of the partition.
        let missing = checker.missing(&[Session::new(decoded(&subscriber.messages()))]);
        assert_eq!(missing, [""; 0], "{protocol}");
    }
}

on_both_fetchers!(a_topic_that_may_be_seen_and_not_read, "needs Java and Maven");
fn a_topic_that_may_be_seen_and_not_read(fetcher: Fetcher) {
    let topic = unique("seen");
    kafka().admin().create_topic(&topic, 1, &[]);
    kafka().admin().allow("zafka", "describe", "topic", &topic);
    kafka().admin().allow("zafka", "read", "group", &topic);
    let security = password("PLAIN", "password = \"${ZAFKA_TEST_PASSWORD}\"");
    let (config, _) = config(fetcher, &kafka().sasl(), &security, &topic);
    let mut relay = Zafka::run_with(ZAFKA, &config, &ENVIRONMENT);
    relay.wait_status("the refusal", DEADLINE, |status| {
        let reason = status["routes"][0]["reason"].as_str().unwrap_or_default();
        reason.contains(&topic) && reason.contains("uthoriz")
    });
    kafka().admin().allow("zafka", "read", "topic", &topic);
    relay.wait_ready();
}

on_both_fetchers!(a_topic_that_is_hidden_for_a_while_goes_on_where_it_was, "needs Java and Maven");
fn a_topic_that_is_hidden_for_a_while_goes_on_where_it_was(fetcher: Fetcher) {
    let admin = kafka().admin();
    // One by its name, and one by a pattern, which no listing shows meanwhile.
    let topics = ["named", "matched"].map(unique);
    let [named, matched] = &topics;
    let write = |count: usize| {
        for topic in &topics {
            let records: Vec<_> = (0..count).map(|at| Record::new("k", at.to_string())).collect();
            admin.produce(topic, &records);
        }
    };
    for topic in &topics {
        admin.create_topic(topic, 1, &[]);
        admin.allow("zafka", "read", "topic", topic);
    }
    write(5);
    let security = password("PLAIN", "password = \"${ZAFKA_TEST_PASSWORD}\"");
    let (config, endpoint) = config(fetcher, &kafka().sasl(), &security, named);
    let config = config.replacen(
        &format!("topics = [\"{named}\"], group = \"{named}\""),
        &format!("topics = [\"{named}\", \"/^{matched}$/\"]"),
        1,
    );
    let mut relay = Zafka::run_with(ZAFKA, &config, &ENVIRONMENT);
    let subscriber = LibzmqSub::connect(&endpoint, &[""]);
    subscriber.wait_messages(10, DEADLINE);
    for topic in &topics {
        admin.revoke("zafka", "read", "topic", topic);
    }
    for topic in &topics {
        relay.wait_log(&format!("topic \"{topic}\": "), DEADLINE);
    }
    write(2);
    for topic in &topics {
        admin.allow("zafka", "read", "topic", topic);
    }
    relay.wait_ready();
    relay.wait_status("what was written meanwhile", DEADLINE, |status| {
        topics.iter().all(|topic| is_at(status, topic, 0, 7))
    });
    let messages = decoded(&subscriber.wait_messages(14, DEADLINE));
    for topic in &topics {
        let offsets = messages
            .iter()
            .filter(|message| message.topic == **topic)
            .map(|message| message.offset);
        assert_eq!(offsets.collect::<Vec<_>>(), (0..7).collect::<Vec<i64>>(), "none twice");
    }
}

#[test]
#[ignore = "needs openssl"]
fn a_key_that_one_kind_of_connection_takes_the_other_takes() {
    let certificates = Certificates::make();
    let (certificate, plain) = certificates.client("zafka");
    let key = plain.with_file_name("triple-des.key");
    let mut openssl = Command::new("openssl");
    openssl.args(["pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES", "-passout", "pass:s3cret"]);
    assert!(openssl.arg("-in").arg(&plain).arg("-out").arg(&key).status().unwrap().success());
    let security = format!(
        "tls = {{ certificate = {}, key = {}, key_password = \"s3cret\", ca = {} }}\n",
        quoted(&certificate),
        quoted(&key),
        quoted(&certificates.ca())
    );
    let nobody = format!("127.0.0.1:{}", ports::free_port());
    for fetcher in [Fetcher::Fast, Fetcher::Librdkafka] {
        let (config, _) = config(fetcher, &nobody, &security, "orders");
        let (code, out) = check(&config);
        let lines: Vec<_> = out.lines().filter(|line| !line.contains("warning: ")).collect();
        assert!(
            code == Some(1) && matches!(lines[..], [line] if line.contains("Connection refused")),
            "{fetcher}: {out}"
        );
    }
}
