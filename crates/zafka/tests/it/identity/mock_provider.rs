//! mock-oauth2-server as the provider of peers: tokens by client credentials, by an assertion and
//! in exchange, shown in the handshake and at the door; and that provider when it is away, and when
//! it comes back with other keys.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::json;
use zafka_oidc::{
    Assertion, ClientAuthentication, EndpointConfig, Grant, Secret, SecretSource, SignedAssertion,
    SigningKeyConfig, TokenConfig, TokenProvider,
};
use zafka_testkit::oidc::{Certificates, Oidc};
use zafka_testkit::{KafkaNode, Record, Zafka, unique, wait_until};

use super::secrets::assert_none_in_log;
use super::{Curve, Keys, peers};
use crate::common::endpoint;
use crate::program::check;
use crate::{DEADLINE, ZAFKA};

/// The audience of the relay's tokens, as the provider's settings have it.
const AUDIENCE: &str = "zafka-edge";

/// The provider, and a relay that takes the tokens of three of its issuers: those of `edge` live
/// 5 s, those of `long` and `steady` 300 s, and those of `long` have to be confirmed.
struct Stage {
    provider: Oidc,
    certificates: Certificates,
    keys: Keys,
    relay: Zafka,
    orders: String,
    edge: String,
    out: String,
    into: String,
    door: String,
    toml: String,
}

impl Stage {
    fn start() -> Self {
        let certificates = Certificates::make();
        let provider = Oidc::start(&certificates, 60);
        let kafka = KafkaNode::shared();
        let [orders, payments, edge] = ["orders", "payments", "edge"].map(unique);
        for topic in [&orders, &payments, &edge] {
            kafka.admin().create_topic(topic, 1, &[]);
            kafka.admin().produce(topic, &[Record::new("k", format!("of {topic}"))]);
        }
        let keys = Keys::make(&["relay", "plc-7"], &[]);
        let [out, into, door] = [endpoint(), endpoint(), endpoint()];
        let ca = certificates.ca();
        let issuer = |name: &str, more: &str| {
            let issuer = provider.issuer_of(name);
            format!(
                "[[identity.issuer]]\nissuer = {issuer:?}\naudience = [{AUDIENCE:?}]\nca = {ca:?}\n\
                 {more}\n"
            )
        };
        let introspection =
            "introspection = { client_id = \"zafka\", client_secret = \"s3cret\", every = \"1s\" }";
        let identity = format!(
            "bind = [{door:?}]\nclock_skew = \"1s\"\n{}{}\
             {}[[identity.access]]\nwho = {{ role = \"dash\" }}\nread = [{orders:?}]\n\
             [[identity.access]]\nwho = {{ role = \"machine\" }}\nread = [{payments:?}]\n\
             write = [{edge:?}]",
            issuer("edge", ""),
            issuer("long", introspection),
            issuer("steady", ""),
        );
        let toml = format!(
            "[kafka]\nbootstrap_servers = [\"{}\"]\n{}\
             [[route]]\nname = \"out\"\n\
             from.kafka = {{ topics = [{orders:?}, {payments:?}], start = \"earliest\" }}\n\
             to.zmq = {{ socket = \"pub\", bind = [{out:?}], slow_peer = \"block\", \
             min_peers = 1 }}\n\
             [[route]]\nname = \"in\"\n\
             from.zmq = {{ socket = \"router\", bind = [{into:?}], frames = [\"{{topic}}\", \
             \"{{value}}\"] }}\n\
             to.kafka = {{ topics = [{edge:?}] }}\n",
            kafka.bootstrap(),
            keys.toml(&identity),
        );
        let relay = Zafka::run_with(ZAFKA, &toml, &[("RUST_LOG", "trace")]);
        Self { provider, certificates, keys, relay, orders, edge, out, into, door, toml }
    }

    /// A token of an issuer for this client, which has a secret.
    fn token(&self, issuer: &str, client: &str, grant: Grant) -> String {
        token(&self.provider, &self.certificates, issuer, client, by_secret(), grant)
    }

    /// A dashboard's.
    fn dashboard(&self, issuer: &str) -> String {
        self.token(issuer, "dashboard", Grant::ClientCredentials)
    }

    /// A terminal's, whose issuer is never asked about it.
    fn terminal(&self) -> String {
        self.token("steady", "terminal", Grant::ClientCredentials)
    }

    /// A key to sign with.
    fn signing_key(&self) -> SigningKeyConfig {
        let file: PathBuf = self.certificates.client("zafka").1;
        SigningKeyConfig { file, id: None, algorithm: None }
    }

    fn sub(&self, token: &str) -> Curve {
        Curve::with_token("SUB", &self.out, &self.keys.public("relay"), "new", &[""], token)
    }

    /// A SUB that was let in by a token that lives for seconds: another one is asked for if that
    /// has ended before the peer has come with it.
    fn brief(&self, token: impl Fn() -> String) -> Curve {
        let mut found = None;
        wait_until("a token that lives long enough", DEADLINE, || {
            let sub = self.sub(&token());
            let is_over =
                || sub.has_event("DISCONNECTED") || sub.has_event("HANDSHAKE_FAILED_AUTH");
            wait_until("the relay decides", DEADLINE, || is_over() || is_in(&sub));
            found = Some(sub).filter(|sub| is_in(sub) && !sub.has_event("DISCONNECTED"));
            found.is_some()
        });
        found.unwrap()
    }

    /// A peer with the machine's key, which shows no token.
    fn machine(&self, kind: &str, to: &str, words: &[&str]) -> Curve {
        let ours = self.keys.secret("plc-7");
        Curve::client(kind, to, &self.keys.public("relay"), ours.to_str().unwrap(), words)
    }

    /// The time when the keys of `steady` were fetched last.
    fn keys_fetched(&self) -> Option<i64> {
        self.relay.status()?["identity"]["issuers"][2]["fetched"].as_i64()
    }

    /// The provider comes up with other keys, of which each has the id of the one before: what
    /// becomes of a terminal with a lease, and of another one's token of before.
    fn comes_with_other_keys(&mut self, terminal: &Curve, old: &str) {
        let fetched = self.keys_fetched();
        self.provider.restart_with_other_keys();
        // Keys are read anew as soon as a token names one that is not known.
        let [header, payload] = [
            json!({ "alg": "RS256", "kid": "unheard-of" }),
            json!({ "iss": self.provider.issuer_of("steady") }),
        ]
        .map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
        let _stranger = self.sub(&format!("{header}.{payload}.AAAA"));
        wait_until("the new keys", DEADLINE, || self.keys_fetched() > fetched);
        let new = self.sub(&self.terminal());
        new.wait_event("HANDSHAKE_SUCCEEDED");
        let old = self.sub(old);
        old.wait_event("HANDSHAKE_FAILED_AUTH");
        // Who has a lease keeps it.
        self.produce("by new keys");
        [&new, terminal].iter().for_each(|peer| peer.wait_value("by new keys"));
        assert_eq!((terminal.times_in(), is_in(&old)), (1, false));
    }

    fn produce(&self, value: &str) {
        KafkaNode::shared().admin().produce(&self.orders, &[Record::new("k", value)]);
    }

    /// Waits until the answers of `long` whether tokens are active are so.
    fn wait_answers(&mut self, what: &str, is_so: impl Fn(u64, u64) -> bool) {
        self.relay.wait_status(what, DEADLINE, |status| {
            let asked = &status["identity"]["issuers"][1]["introspection"];
            let count = |name: &str| asked[name].as_u64().unwrap();
            is_so(count("active"), count("failed"))
        });
    }
}

fn by_secret() -> ClientAuthentication {
    ClientAuthentication::Secret(SecretSource::Text(Secret::new("a client's s3cret")))
}

fn token(
    provider: &Oidc,
    certificates: &Certificates,
    issuer: &str,
    client: &str,
    authentication: ClientAuthentication,
    grant: Grant,
) -> String {
    let endpoint = EndpointConfig {
        token_url: format!("{}/token", provider.issuer_of(issuer)),
        client_id: Some(client.to_owned()),
        authentication,
        grant,
        scope: vec!["edge".to_owned()],
        audience: None,
        resource: None,
        ca: Some(certificates.ca()),
    };
    let tokens = TokenProvider::new(&TokenConfig::Endpoint(Box::new(endpoint))).unwrap();
    tokens.token().unwrap().secret.expose().to_owned()
}

fn is_in(sub: &Curve) -> bool {
    sub.has_event("HANDSHAKE_SUCCEEDED")
}

#[test]
#[ignore = "needs Java and Maven, and Python"]
fn peers_get_their_tokens_from_a_provider_that_may_be_away() {
    let mut stage = Stage::start();
    let (code, told) = check(&stage.toml, &["--connect"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("says whether tokens are active"), "{told}");

    // By client credentials, in the handshake.
    let alice = stage.sub(&stage.dashboard("long"));
    assert_eq!(alice.wait_messages(1)[0][3], format!("of {}", stage.orders));
    assert_eq!(alice.lines().last().unwrap()["properties"]["X-Zafka-Subject"], "dashboard");

    // By an assertion that the machine signs, at the door.
    let assertion = SignedAssertion {
        key: stage.signing_key(),
        issuer: "plc-7".to_owned(),
        subject: "plc-7".to_owned(),
        audience: None,
        life: Duration::from_secs(60),
        claims: Vec::new(),
    };
    let machine = stage.token("long", "plc", Grant::JwtBearer(Assertion::Signed(assertion)));
    let enrol = format!("ZAFKA/1|ENROL|{}", json!({ "id": "1", "token": machine }));
    wait_until("the machine to be enrolled", DEADLINE, || {
        let door = stage.machine("DEALER", &stage.door, &[&enrol]);
        let answer = door.wait_messages(1)[0].join(" ");
        let is_waiting = answer.contains("\"try_again\"") || answer.contains("\"busy\"");
        assert!(is_waiting || answer.contains("\"subject\":\"plc-7\""), "{answer}");
        !is_waiting
    });
    let sender = stage.machine("DEALER", &stage.into, &[&format!("|{}|42", stage.edge)]);
    assert_eq!(sender.wait_messages(1)[0][1], "OK");

    // In exchange: a person's token is for a portal, which exchanges it for one for the relay.
    let person = stage.token("edge", "person", Grant::ClientCredentials);
    let stranger = stage.sub(&person);
    stranger.wait_event("HANDSHAKE_FAILED_AUTH");
    let bob = stage.brief(|| {
        let person = stage.token("edge", "person", Grant::ClientCredentials);
        let exchange = Grant::TokenExchange {
            subject_token: SecretSource::Text(Secret::new(person)),
            subject_token_type: "urn:ietf:params:oauth:token-type:access_token".to_owned(),
        };
        let proof = ClientAuthentication::Key { key: stage.signing_key(), audience: None };
        token(&stage.provider, &stage.certificates, "edge", "portal", proof, exchange)
    });
    stage.relay.wait_log("subject=\"person\"", DEADLINE);

    let terminal = stage.sub(&stage.terminal());
    terminal.wait_event("HANDSHAKE_SUCCEEDED");

    // The provider is away. Who has a lease stays until its end, and nobody new comes in; not by a
    // token that it gave before either, for that has to be confirmed.
    let (late, of_before) = (stage.dashboard("long"), stage.terminal());
    stage.provider.process().kill9();
    let carol = stage.sub(&late);
    stage.relay.wait_log("could not be asked whether a token is active", DEADLINE);
    bob.wait_event("DISCONNECTED");
    // As many questions, each later than the one before, as make three lives of a token.
    stage.wait_answers("four questions on each of three tokens", |_, failed| failed >= 12);
    let status = stage.relay.status().unwrap();
    let mut subjects = peers(&status);
    subjects.sort_unstable();
    assert_eq!(subjects, ["dashboard", "terminal"], "{status}");
    assert!(!is_in(&carol) && alice.times_in() == 1);
    stage.produce("meanwhile");
    alice.wait_value("meanwhile");
    let (_, told) = check(&stage.toml, &["--connect"]);
    assert!(told.contains("error: "), "{told}");

    stage.comes_with_other_keys(&terminal, &of_before);
    // An issuer that is asked knows the tokens of before no more, and says so.
    [&alice, &carol].iter().for_each(|peer| peer.wait_event("HANDSHAKE_FAILED_AUTH"));
    assert!(!is_in(&carol));
    stage.relay.wait_log("its issuer says that its token is not active", DEADLINE);

    assert_eq!((stranger.values().len(), bob.values().len()), (0, 0));
    assert_none_in_log(&stage.relay);
}
