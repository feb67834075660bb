//! No secret shows anywhere, at the most talkative level: the log, the admin endpoint, what
//! commands say.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use serde_json::json;
use tokio::runtime::Runtime;
use zafka_identity::Certificate;
use zafka_kafka::embedded::EmbeddedBroker;
use zafka_sockets::config::{EndpointConfig, Mechanism};
use zafka_sockets::{SubEvent, SubSocket};
use zafka_testkit::issuer::AUDIENCE;
use zafka_testkit::{Issuer, Zafka};
use zafka_zmtp::Token;
use zafka_zmtp::curve::{ClientSide, KeyPair, SecretKey};

use crate::common::endpoint;
use crate::program::run_with;
use crate::{DEADLINE, ZAFKA};

const TRACE: [(&str, &str); 1] = [("RUST_LOG", "trace")];

/// A key whose bytes are known here.
fn key(number: u8) -> KeyPair {
    KeyPair::new(SecretKey::from_bytes(std::array::from_fn(|index| {
        number ^ (index as u8).wrapping_mul(37)
    })))
}

/// Secrets by name, in every form in which they could show.
#[derive(Default)]
pub struct Secrets(Vec<(String, String)>);

impl Secrets {
    pub fn add(&mut self, name: &str, secret: &[u8]) {
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let list = format!("{secret:?}");
        let list = list.trim_matches(['[', ']']);
        let mut forms = vec![
            hex.to_uppercase(),
            hex,
            BASE64_STANDARD_NO_PAD.encode(secret),
            BASE64_URL_SAFE_NO_PAD.encode(secret),
            // The beginning is enough.
            list.chars().take(40).collect(),
        ];
        forms.extend(String::from_utf8(secret.to_vec()));
        self.0.extend(forms.into_iter().map(|form| (name.to_owned(), form)));
    }

    fn add_key(&mut self, name: &str, number: u8) {
        let bytes: [u8; 32] = std::array::from_fn(|index| number ^ (index as u8).wrapping_mul(37));
        self.add(name, &bytes);
        self.add(name, key(number).secret().expose_z85().as_bytes());
    }

    /// The secret key in a certificate.
    pub fn add_certificate(&mut self, path: &Path) {
        let text = fs::read_to_string(path).unwrap();
        let (_, key) = text.split_once("secret-key = \"").unwrap();
        let (key, _) = key.split_once('"').unwrap();
        self.add(&path.display().to_string(), key.as_bytes());
        self.add(&path.display().to_string(), &z85(key));
    }

    /// A token, its signature, and what is signed.
    pub fn add_token(&mut self, name: &str, token: &str) {
        self.add(name, token.as_bytes());
        let (signed, signature) = token.rsplit_once('.').unwrap();
        self.add(&format!("{name}, what is signed"), signed.as_bytes());
        self.add(&format!("{name}, its signature"), signature.as_bytes());
    }

    /// Nothing that a relay tells has any of them.
    #[track_caller]
    pub fn assert_not_told_by(&self, relay: &Zafka) {
        for path in ["/status", "/metrics", "/readyz"] {
            self.assert_in_none_of(path, &relay.get(path).unwrap().1);
        }
        self.assert_in_none_of("the log", &relay.log());
    }

    #[track_caller]
    pub fn assert_in_none_of(&self, what: &str, text: &str) {
        for (name, form) in &self.0 {
            assert!(!text.contains(form), "{name} is in {what}, as {form}");
        }
    }
}

/// Asserts that a relay's log has no token, each of which begins with the base64 of `{"`, and no
/// secret of a client, each of which has `s3cret` in it.
#[track_caller]
pub fn assert_none_in_log(relay: &Zafka) {
    let log = relay.log();
    let line = log.lines().find(|line| line.contains("eyJ") || line.contains("s3cret"));
    assert_eq!(line, None, "a secret is told");
}

/// The bytes of a text in Z85 (ZeroMQ RFC 32).
fn z85(text: &str) -> Vec<u8> {
    const DIGITS: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ\
                          .-:+=^!/*?&<>()[]{}@%$#";
    let digits: Vec<u64> = text.chars().map(|one| DIGITS.find(one).unwrap() as u64).collect();
    let words = digits.chunks(5).map(|five| five.iter().fold(0, |sum, digit| sum * 85 + digit));
    words.flat_map(|word| u32::try_from(word).unwrap().to_be_bytes()).collect()
}

#[test]
fn a_key_is_looked_for_by_its_bytes_too() {
    let secret = key(5).secret().expose_z85();
    assert_eq!(SecretKey::from_z85(&secret).unwrap().public_key(), key(5).public());
    let bytes: [u8; 32] = z85(&secret).try_into().unwrap();
    assert_eq!(SecretKey::from_bytes(bytes).public_key(), key(5).public());
}

/// Files of a relay.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

/// A SUB with this key that shows this token.
fn sub(endpoint: &str, number: u8, token: Option<&str>) -> SubSocket {
    let side = ClientSide {
        keys: key(number),
        server: key(1).public(),
        token: token.map(|token| Token::new(token.as_bytes().to_vec())),
        random: |bytes| rand::fill(bytes),
    };
    let mechanism = Mechanism::CurveClient(Arc::new(side));
    SubSocket::new(EndpointConfig { endpoint: endpoint.parse().unwrap(), mechanism }, vec![vec![]])
}

#[test]
fn no_secret_of_a_peer_shows() {
    let (broker, issuer, files) = (EmbeddedBroker::start().unwrap(), Issuer::start(), Files::new());
    broker.create_topic("orders", 1).unwrap();
    let (endpoint, bearer) = (endpoint(), "bearer-that-nobody-sees");
    issuer.require(bearer);
    let certificate =
        |name: &str, number| files.write(name, &Certificate::secret_text(&key(number)));
    let (own, previous) = (certificate("relay.key_secret", 1), certificate("old.key_secret", 2));
    fs::create_dir(files.0.path().join("keys.d")).unwrap();
    files.write("keys.d/plc.key", &Certificate::public_text(&key(3)));
    // One that somebody put there by mistake.
    files.write("keys.d/wrong.key", &Certificate::public_text(&key(8)));
    let toml = format!(
        "[kafka]\nbootstrap_servers = [{:?}]\n[identity]\nsecret_key_file = {own:?}\n\
         previous_secret_key_file = {previous:?}\nkeys = {:?}\n\
         [[identity.issuer]]\nissuer = {:?}\naudience = [{AUDIENCE:?}]\nbearer_file = {:?}\n\
         [[identity.access]]\nwho = {{ role = \"dash\" }}\nread = [\"orders\"]\n\
         [[route]]\nname = \"r\"\nfrom.kafka = {{ topics = [\"orders\"] }}\n\
         to.zmq = {{ socket = \"pub\", bind = [{endpoint:?}] }}\n",
        broker.bootstrap(),
        files.0.path().join("keys.d"),
        issuer.name(),
        files.write("bearer", bearer),
    );
    let dash = json!({ "role": "dash" });
    let tokens = [
        ("a token that is taken", issuer.token("alice", 600, &dash)),
        ("a token that renews", issuer.token("alice", 900, &dash)),
        ("a token with other rights", issuer.token("alice", 1200, &json!({}))),
        ("a token that has ended", issuer.token("bob", -100, &dash)),
        ("a token for somebody else", issuer.token("bob", 600, &json!({ "aud": "x" }))),
    ];
    let forged = {
        let (signed, _) = tokens[0].1.rsplit_once('.').unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode([7; 64]))
    };
    let mut secrets = Secrets::default();
    secrets.add("the bearer token", bearer.as_bytes());
    for (name, token) in &tokens {
        secrets.add_token(name, token);
    }
    secrets.add_token("a forged token", &forged);
    for (name, number) in [
        ("the relay", 1),
        ("the relay before", 2),
        ("plc", 3),
        ("alice", 4),
        ("bob", 5),
        ("a thief", 6),
    ] {
        secrets.add_key(&format!("the key of {name}"), number);
    }
    secrets.add_key("a key in the folder of public keys", 8);

    let mut relay = Zafka::run_with(ZAFKA, &toml, &TRACE);
    relay.wait_ready();
    // A file with a secret key has no place in that folder.
    files.write("keys.d/wrong.key", &Certificate::secret_text(&key(8)));
    relay.wait_log("it holds a secret key", DEADLINE);
    let runtime = Runtime::new().unwrap();
    let _context = runtime.enter();
    let told = |event: &str| format!("event=\"{event}\"");
    let mut subs = vec![sub(&endpoint, 3, None), sub(&endpoint, 4, Some(&tokens[0].1))];
    relay.wait_log(&told("admitted"), DEADLINE);
    relay.wait_status("alice is in", DEADLINE, |status| {
        let peers = status["routes"][0]["peers"].as_array().into_iter().flatten();
        peers.into_iter().any(|peer| peer["subject"] == "alice")
    });
    subs.push(sub(&endpoint, 4, Some(&tokens[1].1)));
    relay.wait_log(&told("renewed"), DEADLINE);
    subs.push(sub(&endpoint, 4, Some(&tokens[2].1)));
    relay.wait_log("its renewed lease has other rights", DEADLINE);
    // Kept out: for now, and for good.
    for (number, token, reason) in [
        (5, &tokens[3].1, "it has expired"),
        (5, &tokens[4].1, "for another audience"),
        (5, &forged, "its signature"),
        (6, &tokens[0].1, "used with another key"),
        (6, &"nonsense".to_owned(), "malformed token"),
    ] {
        let mut sub = sub(&endpoint, number, Some(token));
        let SubEvent::Disconnected(told) = runtime.block_on(sub.next()) else { panic!("{reason}") };
        secrets.assert_in_none_of("what a peer is told", &told);
        relay.wait_log(reason, DEADLINE);
        for path in ["/status", "/metrics", "/readyz"] {
            secrets.assert_in_none_of(path, &relay.get(path).unwrap().1);
        }
    }
    fs::remove_file(files.0.path().join("keys.d/plc.key")).unwrap();
    relay.wait_log("its key file changed", DEADLINE);
    drop(subs);
    relay.terminate();
    assert!(relay.wait_exit(DEADLINE).success());
    let log = relay.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log is talkative");
    secrets.assert_in_none_of("the log", &log);

    // The same of commands; those that could go on for ever are told something wrong.
    let [config, token, forged] =
        [("zafka.toml", &toml), ("token", &tokens[0].1), ("forged", &forged)]
            .map(|(name, text)| files.write(name, text).to_str().unwrap().to_owned());
    let [server, ours] = [
        files.write("relay.key", &Certificate::public_text(&key(1))),
        certificate("alice.key_secret", 4),
    ]
    .map(|path| path.to_str().unwrap().to_owned());
    for arguments in [
        &["access", "-c", &config, "--token-file", &token][..],
        &["access", "-c", &config, "--token-file", &forged],
        &["check", "-c", &config],
        &["check", "-c", &config, "--connect"],
        &["tap", &endpoint, "--server-key", &server, "--curve-key", &token],
        &["tap", &endpoint, "--server-key", &server, "--token-file", &ours],
    ] {
        let (_, out, err) = run_with(arguments, &TRACE);
        secrets.assert_in_none_of(&format!("what {arguments:?} says"), &format!("{out}{err}"));
    }
}

#[test]
fn no_secret_for_kafka_shows() {
    let (broker, files) = (EmbeddedBroker::start().unwrap(), Files::new());
    broker.create_topic("orders", 1).unwrap();
    let (password, token) = ("pass-w0rd/that+nobody sees", "tok3n-that.nobody.sees");
    let mut secrets = Secrets::default();
    secrets.add("the password", password.as_bytes());
    secrets.add("the token", token.as_bytes());
    // As PLAIN sends them (RFC 4616), and OAUTHBEARER (RFC 7628).
    secrets.add("the answer of PLAIN", format!("\0user\0{password}").as_bytes());
    secrets.add("the answer of OAUTHBEARER", format!("auth=Bearer {token}").as_bytes());
    let [password, token] = [("password", password), ("token", token)]
        .map(|(name, text)| files.write(name, text).display().to_string());
    for sasl in [
        format!("mechanism = \"PLAIN\", username = \"user\", password_file = {password:?}"),
        format!("mechanism = \"SCRAM-SHA-256\", username = \"user\", password_file = {password:?}"),
        format!("mechanism = \"OAUTHBEARER\", grant = \"file\", token_file = {token:?}"),
    ] {
        for fetcher in ["fast", "librdkafka"] {
            let toml = format!(
                "[kafka]\nbootstrap_servers = [{:?}]\n[kafka.security]\nsasl = {{ {sasl} }}\n\
                 [[route]]\nname = \"r\"\n\
                 from.kafka = {{ topics = [\"orders\"], group = \"g\", fetcher = {fetcher:?} }}\n\
                 to.zmq = {{ socket = \"pub\", bind = [{:?}] }}\n",
                broker.bootstrap(),
                endpoint(),
            );
            let mut relay = Zafka::run_with(ZAFKA, &toml, &TRACE);
            // The embedded broker knows no SASL: that is told, and tried again.
            relay.wait_status("a broker's refusal", DEADLINE, |status| {
                status["routes"][0]["counters"]["kafka_errors"].as_u64() > Some(0)
            });
            secrets.assert_not_told_by(&relay);
            relay.terminate();
            relay.wait_exit(DEADLINE);
            secrets.assert_in_none_of("the log", &relay.log());
        }
    }
}
