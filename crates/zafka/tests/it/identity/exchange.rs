//! Kafka decides about peers: their tokens are exchanged (by mock-oauth2-server), and the ACLs of
//! the secured Kafka say what each may read and write.

mod as_peer;

use std::cell::RefCell;
use std::fs;

use serde_json::json;
use zafka_testkit::issuer::AUDIENCE;
use zafka_testkit::kafka::{Provider, SecuredNode};
use zafka_testkit::oidc::{Certificates, Oidc};
use zafka_testkit::{Issuer, KafkaOptions, Record, Zafka, unique, wait_until};

use super::secrets::{Secrets, assert_none_in_log};
use super::{Curve, Keys};
use crate::common::endpoint;
use crate::program::run;
use crate::{DEADLINE, ZAFKA};

/// The settings of Kafka's listener for tokens.
const TOKENS: &str = "listener.name.oauth.oauthbearer.sasl.oauthbearer";

/// A secured Kafka that takes who a token is about for its client, and those who know the way
/// there.
struct World {
    kafka: SecuredNode,
    token_url: String,
    /// The client of the exchange, in the words of a configuration.
    client: String,
    issuer: Issuer,
    keys: Keys,
}

impl World {
    /// The issuer is the peers'. Kafka takes the tokens of the provider, which exchanges theirs.
    fn start(
        certificates: Certificates,
        provider: &Provider,
        client: String,
        issuer: Issuer,
        options: KafkaOptions,
    ) -> Self {
        let mut options = options.property(&format!("{TOKENS}.sub.claim.name"), "sub");
        let talkative = ["-Dauthorizer.level=debug", "-Dselector.level=info"];
        options.jvm_args.extend(talkative.map(str::to_owned));
        let kafka = SecuredNode::start(certificates, provider, options);
        let (token_url, keys) = (provider.token_url.clone(), Keys::make(&["relay"], &[]));
        Self { kafka, token_url, client, issuer, keys }
    }

    /// A topic that the relay may read and write.
    fn topic(&self, name: &str) -> String {
        let topic = unique(name);
        self.kafka.admin().create_topic(&topic, 1, &[]);
        for operation in ["read", "write"] {
            self.kafka.admin().allow("zafka", operation, "topic", &topic);
        }
        topic
    }

    fn allow(&self, user: &str, operation: &str, topic: &str) {
        self.kafka.admin().allow(user, operation, "topic", topic);
    }

    fn revoke(&self, user: &str, operation: &str, topic: &str) {
        self.kafka.admin().revoke(user, operation, "topic", topic);
    }

    fn produce(&self, topic: &str, value: &str) {
        self.kafka.admin().produce(topic, &[Record::new("k", value)]);
    }

    /// A configuration in which Kafka decides about the issuer's peers.
    fn toml(&self, routes: &str) -> String {
        self.toml_with("acl_refresh = \"5s\"", "read = \"kafka\"\nwrite = \"kafka\"", routes)
    }

    /// A configuration with these keys of the exchange, and these rights of the issuer's peers.
    fn toml_with(&self, exchange: &str, rights: &str, routes: &str) -> String {
        let (url, client) = (&self.token_url, &self.client);
        let ca = format!("{:?}", self.kafka.certificates.ca().display().to_string());
        let identity = format!(
            "[[identity.issuer]]\nissuer = {issuer:?}\naudience = [{AUDIENCE:?}]\n\
             [identity.exchange]\ntoken_url = \"{url}\"\n{client}\n\
             audience = \"kafka\"\nca = {ca}\n{exchange}\n\
             [[identity.access]]\nwho = {{ iss = {issuer:?} }}\n{rights}",
            issuer = self.issuer.name()
        );
        format!(
            "[kafka]\nbootstrap_servers = [\"{}\"]\n[kafka.security]\ntls = {{ ca = {ca} }}\n\
             [kafka.security.sasl]\nmechanism = \"OAUTHBEARER\"\ntoken_url = \"{url}\"\n\
             client_id = \"zafka\"\nclient_secret = \"s3cret\"\nscope = [\"kafka\"]\nca = {ca}\n\
             {}{routes}",
            self.kafka.oauth(),
            self.keys.toml(&identity)
        )
    }

    fn peer(&self, kind: &str, endpoint: &str, token: &str, words: &[&str]) -> Curve {
        Curve::with_token(kind, endpoint, &self.keys.public("relay"), "new", words, token)
    }

    /// The output of `zafka access` about a token.
    fn access(&self, toml: &str, token: &str) -> String {
        let (file, shown) = (self.keys.path("access.toml"), self.keys.path("token"));
        fs::write(&file, toml).unwrap();
        fs::write(&shown, token).unwrap();
        let [file, shown] = [&file, &shown].map(|path| path.to_str().unwrap());
        let (_, out, err) = run(&["access", "-c", file, "--token-file", shown]);
        out + &err
    }
}

fn is_in(relay: &Zafka, subject: &str) -> bool {
    relay.status().is_some_and(|status| super::peers(&status).contains(&subject))
}

/// No secret is told: no token of a peer, nor one that was exchanged for it or that the relay
/// itself shows to Kafka.
fn assert_no_secret(world: &World, tokens: &[String], relay: &Zafka) {
    assert_none_in_log(relay);
    let mut secrets = Secrets::default();
    for token in tokens {
        secrets.add_token("a peer's token", token);
    }
    secrets.add("the client's secret", b"s3cret");
    secrets.add_certificate(&world.keys.secret("relay"));
    secrets.assert_not_told_by(relay);
}

#[test]
#[ignore = "needs Java and Maven, and Python"]
fn kafka_s_acls_decide_what_peers_read_and_write() {
    let certificates = Certificates::make();
    let mut oidc = Oidc::start(&certificates, 60);
    let key = certificates.client("zafka").1;
    let client = format!("client_id = \"exchange\"\nclient_key_file = {key:?}");
    let (provider, issuer) = (Provider::from(&oidc), Issuer::start());
    let world = World::start(certificates, &provider, client, issuer, KafkaOptions::default());
    let [orders, payments] = ["orders", "payments"].map(|name| world.topic(name));
    let [read, written] = [endpoint(), endpoint()];
    let toml = world.toml(&format!(
        "[[route]]\nname = \"out\"\n\
         from.kafka = {{ topics = [\"{orders}\", \"{payments}\"], start = \"earliest\" }}\n\
         to.zmq = {{ socket = \"pub\", bind = [\"{read}\"], slow_peer = \"block\", \
         min_peers = 1 }}\n\
         [[route]]\nname = \"in\"\n\
         from.zmq = {{ socket = \"router\", bind = [\"{written}\"], frames = [\"{{topic}}\", \
         \"{{value}}\"] }}\n\
         to.kafka = {{ topics = [\"/^.*$/\"] }}\n"
    ));
    world.allow("alice", "read", &orders);
    world.allow("bob", "read", &payments);
    world.allow("alice", "write", &payments);
    let given = RefCell::default();
    let token = |name: &str| {
        let token = world.issuer.token(name, 600, &json!({}));
        RefCell::<Vec<_>>::borrow_mut(&given).push(token.clone());
        token
    };
    let told = world.access(&toml, &token("alice"));
    assert!(told.contains(&format!("read: {orders}\nwrite: {payments}\n")), "{told}");
    let mut relay = Zafka::run_with(ZAFKA, &toml, &[("RUST_LOG", "trace")]);
    let sub = |name: &str| world.peer("SUB", &read, &token(name), &[""]);
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(sub);
    world.produce(&orders, "first order");
    world.produce(&payments, "first payment");
    alice.wait_value("first order");
    bob.wait_value("first payment");
    // Nothing is for carol, and she is told of.
    carol.wait_event("HANDSHAKE_SUCCEEDED");
    relay.wait_log("Kafka's ACLs allow it none of the topics of routes", DEADLINE);
    assert_eq!((alice.values().len(), bob.values().len()), (1, 1));

    // Senders, by the same answers.
    let send = |name: &str, topic: &str| {
        let peer = world.peer("DEALER", &written, &token(name), &[&format!("|{topic}|of {name}")]);
        peer.wait_messages(1)[0].clone()
    };
    assert_eq!(send("alice", &payments)[1], "OK");
    bob.wait_value("of alice");
    for (name, topic) in [("alice", &orders), ("bob", &payments), ("carol", &payments)] {
        let answer = send(name, topic);
        assert!(
            answer[1] == "ERROR" && answer[2].contains("\"not_allowed\""),
            "{name}: {answer:?}"
        );
    }

    // ACLs that change act: on whom they concern, and on nobody else.
    world.revoke("alice", "read", &orders);
    world.allow("alice", "read", &payments);
    relay.wait_log("Kafka lets it read or write other topics now", DEADLINE);
    wait_until("alice is back", DEADLINE, || alice.times_in() == 2);
    world.produce(&orders, "secret order");
    wait_until("alice reads payments", DEADLINE, || {
        world.produce(&payments, "second payment");
        alice.values().iter().any(|value| value == "second payment")
    });
    bob.wait_value("second payment");
    assert_eq!(bob.times_in(), 1, "his rights are as they were");
    world.allow("bob", "write", &payments);
    wait_until("bob may write", DEADLINE, || send("bob", &payments)[1] == "OK");
    assert!(!alice.values().contains(&"secret order".to_owned()), "nobody may read it");

    // Nobody is let in by a provider that is away, and nobody stays for long.
    let dave = token("dave");
    oidc.process().kill9();
    relay.wait_log("Kafka does not answer what it may do", DEADLINE);
    wait_until("nobody is in", DEADLINE, || {
        ["alice", "bob", "carol"].iter().all(|name| !is_in(&relay, name))
    });
    let dave = world.peer("SUB", &read, &dave, &[""]);
    relay.wait_log("not_answered", DEADLINE);
    assert!(!dave.has_event("HANDSHAKE_SUCCEEDED"));
    oidc.restart();
    wait_until("alice and bob are back", DEADLINE, || {
        is_in(&relay, "alice") && is_in(&relay, "bob")
    });
    world.allow("alice", "read", &orders);
    alice.wait_value("secret order");
    assert_eq!(carol.values(), Vec::<String>::new());
    assert_no_secret(&world, &given.borrow(), &relay);
}
