//! Keycloak as the provider of both sides, with the realm of the book's example: people by the
//! device flow, machines by client credentials, the relay itself at Kafka.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use zafka_testkit::child::{Running, command};
use zafka_testkit::kafka::{KafkaOptions, Provider, SecuredNode};
use zafka_testkit::oidc::Certificates;
use zafka_testkit::paths::RunDir;
use zafka_testkit::{Keycloak, Record, Zafka, wait_until};

use super::{Curve, Keys, peers, renewals};
use crate::ZAFKA;
use crate::common::endpoint;
use crate::program::{run, run_with};

/// Everything of Keycloak takes its time.
const DEADLINE: Duration = Duration::from_secs(90);
/// The life of people's tokens, in s.
const LIFE: u32 = 15;
/// The claim that the listener takes for a client's name.
const PRINCIPAL_CLAIM: &str = "listener.name.oauth.oauthbearer.sasl.oauthbearer.sub.claim.name";
/// The relay's own name there: the user that stands for a client of Keycloak.
const RELAY: &str = "service-account-zafka";
/// The topic that people write to, and the relay itself may not.
const NOTES: &str = "edge.notes";
/// The text with which each token begins: `{"alg` in base64.
const TOKEN: &str = "eyJhbGci";

/// Keycloak, a Kafka that takes its tokens, and a relay between them.
struct Stage {
    keycloak: Keycloak,
    kafka: SecuredNode,
    relay: Zafka,
    keys: Keys,
    config: PathBuf,
    /// The part of a configuration that is about Kafka.
    cluster: String,
    out: String,
    into: String,
    logs: RunDir,
}

impl Stage {
    fn new() -> Self {
        let keycloak = Keycloak::start(LIFE);
        let provider = Provider {
            issuer: keycloak.issuer(),
            jwks_url: keycloak.jwks_url(),
            token_url: keycloak.token_url(),
        };
        // What names a principal has to survive the exchange: `azp` would be the relay for
        // everybody.
        let mut options = KafkaOptions::default().property(PRINCIPAL_CLAIM, "preferred_username");
        options.jvm_args.push("-Dauthorizer.level=debug".to_owned());
        let kafka = SecuredNode::start(Certificates::make(), &provider, options);
        for topic in ["orders", "payments", "edge.plc-7", NOTES] {
            kafka.admin().create_topic(topic, 1, &[]);
        }
        for topic in ["orders", "payments"] {
            kafka.admin().allow(RELAY, "read", "topic", topic);
        }
        kafka.admin().allow(RELAY, "write", "topic", "edge.plc-7");
        kafka.admin().produce("orders", &[Record::new("k", "an order")]);
        kafka.admin().produce("payments", &[Record::new("k", "a payment")]);

        let (keys, logs) = (Keys::make(&["relay"], &[]), RunDir::new("keycloak-test"));
        let (out, into) = (endpoint(), endpoint());
        let ca = kafka.certificates.ca();
        let cluster = format!(
            "[kafka]\nbootstrap_servers = [\"{}\"]\n\
             [kafka.security.tls]\nca = {ca:?}\n\
             [kafka.security.sasl]\nmechanism = \"OAUTHBEARER\"\ntoken_url = {:?}\n\
             client_id = \"zafka\"\n\
             client_secret = \"zafka-secret\"\n",
            kafka.oauth(),
            provider.token_url,
        );
        let identity = keys.toml(&rules(&provider.issuer));
        let to = "{ topics = [\"edge.plc-7\"] }";
        let toml = format!("{cluster}{identity}{}", routes(&out, &into, to));
        let config = logs.join("zafka.toml");
        fs::write(&config, &toml).unwrap();
        fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
        let (exit, found, err) = run(&["check", "--connect", "-c", config.to_str().unwrap()]);
        assert!(exit.success(), "{found}{err}");
        let relay = Zafka::run_with(ZAFKA, &toml, &[("RUST_LOG", "trace")]);
        Self { keycloak, kafka, relay, keys, config, cluster, out, into, logs }
    }

    /// The folder of a user's login.
    fn home(&self, user: &str) -> String {
        self.logs.join(user).display().to_string()
    }

    /// Logs a user in by the command, and lets it in at Keycloak's pages.
    fn log_in(&self, user: &str) {
        let mut login = command(ZAFKA);
        login.args(["login", "--issuer", &self.keycloak.issuer(), "--client-id", "zafka-cli"]);
        login.env("XDG_STATE_HOME", self.home(user));
        let mut login = Running::start(login, &self.logs.join(&format!("{user}-login")));
        let page = |login: &Running| {
            let log = login.log();
            let line = log.lines().find_map(|line| line.strip_prefix("or open "));
            line.filter(|_| log.ends_with('\n')).map(str::to_owned)
        };
        wait_until("a code", DEADLINE, || {
            assert!(login.is_running(), "{}", login.log());
            page(&login).is_some()
        });
        self.keycloak.approve(&page(&login).unwrap(), user, &format!("{user}-password"));
        let exit = login.wait_exit(DEADLINE);
        assert!(exit.is_some_and(|exit| exit.success()), "{}", login.log());
        assert!(!login.log().contains(TOKEN), "{}", login.log());
    }

    /// `zafka tap --login` of a user, for so many messages (0: for ever).
    fn tap(&self, user: &str, count: u32) -> Running {
        let mut tap = command(ZAFKA);
        tap.args(["tap", &self.out, "--login", "--server-key"]).arg(self.keys.public("relay"));
        if count > 0 {
            tap.args(["--count", &count.to_string()]);
        }
        tap.env("XDG_STATE_HOME", self.home(user));
        Running::start(tap, &self.logs.join(&format!("{user}-tap")))
    }

    /// The output of `zafka access` about a token.
    fn worth(&self, token: &str) -> (bool, String) {
        let file = self.logs.join("token.jwt");
        fs::write(&file, token).unwrap();
        let config = self.config.to_str().unwrap();
        let (exit, out, err) =
            run(&["access", "-c", config, "--token-file", file.to_str().unwrap()]);
        (exit.success(), out + &err)
    }

    /// A user's token by password, for both the relay and Kafka's exchange.
    fn password_token(&self, user: &str) -> String {
        let form = format!(
            "grant_type=password&client_id=passwords&username={user}&password={user}-password\
             &scope=openid"
        );
        text(&self.keycloak.token(&form), "access_token").to_owned()
    }

    /// Another relay, for which Keycloak has to confirm each token, and Kafka's ACLs decide. What
    /// comes to it is written in its senders' names.
    fn exchanging(&self, out: &str, into: &str) -> Zafka {
        let client = "client_id = \"zafka\"\nclient_secret = \"zafka-secret\"";
        let (issuer, token_url) = (self.keycloak.issuer(), self.keycloak.token_url());
        let identity = format!(
            "[[identity.issuer]]\nissuer = {issuer:?}\naudience = [\"zafka-edge\"]\n\
             [identity.issuer.introspection]\n{client}\nevery = \"1s\"\n\
             [identity.exchange]\ntoken_url = {token_url:?}\n{client}\naudience = \"kafka\"\n\
             acl_refresh = \"5s\"\n\
             [[identity.access]]\nwho = {{ iss = {issuer:?} }}\nread = \"kafka\"\n\
             write = \"kafka\"\n\
             [[identity.access]]\nwho = {{ iss = {issuer:?} }}\nwrite = [{NOTES:?}]"
        );
        let to = format!("{{ topics = [\"edge.plc-7\", {NOTES:?}], as_peer = true }}");
        let toml = [&*self.cluster, &self.keys.toml(&identity), &routes(out, into, &to)].concat();
        Zafka::run_with(ZAFKA, &toml, &[("RUST_LOG", "trace")])
    }

    /// Kafka's ACLs decide about peers, by tokens that Keycloak has exchanged; a logout ends what a
    /// peer has.
    fn kafka_decides(&mut self) {
        let admin = self.kafka.admin();
        admin.allow("alice", "read", "topic", "orders");
        admin.allow("bob", "read", "topic", "payments");
        for writer in ["alice", "service-account-plc-7"] {
            admin.allow(writer, "write", "topic", "edge.plc-7");
        }
        let [out, into] = [endpoint(), endpoint()];
        let mut relay = self.exchanging(&out, &into);
        let server = self.keys.public("relay");
        let peer = |kind: &str, to: &str, words: &[&str], token: &str| {
            Curve::with_token(kind, to, &server, "new", words, token)
        };
        let of_alice = self.password_token("alice");
        let sub = |token: &str| peer("SUB", &out, &[""], token);
        let (alice, bob) = (sub(&of_alice), sub(&self.password_token("bob")));
        assert_eq!(alice.wait_messages(1)[0][0], "orders");
        assert_eq!(bob.wait_messages(1)[0][0], "payments");
        let plc = "grant_type=client_credentials&client_id=plc-7&client_secret=plc-7-secret";
        let plc = text(&self.keycloak.token(plc), "access_token").to_owned();
        let [alice_s, bob_s] = ["alice", "bob"].map(|user| self.password_token(user));
        for (token, answer) in [(alice_s, "OK"), (bob_s, "ERROR"), (plc, "OK")] {
            let dealer = peer("DEALER", &into, &["|edge.plc-7|1"], &token);
            assert_eq!(dealer.wait_messages(1)[0][1], answer);
        }
        // An ACL that changes acts, on whom it concerns.
        admin.allow("alice", "read", "topic", "payments");
        relay.wait_log("Kafka lets it read or write other topics now", DEADLINE);
        wait_until("a payment for alice", DEADLINE, || {
            admin.produce("payments", &[Record::new("k", "a later payment")]);
            alice.messages().iter().any(|frames| frames[0] == "payments")
        });

        // Her token is good for minutes yet.
        self.keycloak.log_out("alice");
        relay.wait_log("its issuer says that its token is not active any more", DEADLINE);
        relay.wait_status("alice is out", DEADLINE, |status| peers(status).len() == 1);
        let late = sub(&of_alice);
        late.wait_event("HANDSHAKE_FAILED_AUTH");
        assert!(bob.messages().iter().all(|frames| frames[0] == "payments"));
        assert_eq!(bob.times_in(), 1, "he has stayed");
        self.people_write_notes(&into);
        assert!(!relay.log().contains(TOKEN), "a token is in a log");
    }

    /// The relay asks nothing about notes: the broker decides with each, and its log names who has
    /// written it.
    fn people_write_notes(&mut self, into: &str) {
        let admin = Arc::clone(self.kafka.admin());
        admin.allow("alice", "write", "topic", NOTES);
        wait_until("alice's note", DEADLINE, || self.note(into, "alice") == "OK");
        // A producer id is for those who may write somewhere.
        admin.allow("bob", "write", "topic", "edge.elsewhere");
        admin.allow("bob", "describe", "topic", NOTES);
        wait_until("bob is not allowed to", DEADLINE, || {
            assert_eq!(self.note(into, "bob"), "not_allowed");
            self.written_notes().iter().any(|line| line.contains("User:bob is Denied"))
        });
        admin.allow("bob", "write", "topic", NOTES);
        wait_until("bob's note", DEADLINE, || self.note(into, "bob") == "OK");
        let notes: Vec<_> = admin.read(NOTES).into_iter().filter_map(|note| note.value).collect();
        assert_eq!(notes, [b"of alice".to_vec(), b"of bob".to_vec()]);
        for part in ["User:alice is Allowed", "User:bob is Allowed"] {
            wait_until(part, DEADLINE, || {
                self.written_notes().iter().any(|line| line.contains(part))
            });
        }
        let mut told = self.written_notes();
        told.retain(|line| !["User:alice ", "User:bob "].iter().any(|one| line.contains(one)));
        assert_eq!(told, Vec::<String>::new(), "nobody else");
    }

    /// A user sends a note: the answer, or its code if it is an error.
    fn note(&self, into: &str, user: &str) -> String {
        let (server, token) = (self.keys.public("relay"), self.password_token(user));
        let words = [&*format!("|{NOTES}|of {user}")];
        let sender = Curve::with_token("DEALER", into, &server, "new", &words, &token);
        let answer = sender.wait_messages(1)[0].clone();
        let told: Value = serde_json::from_str(&answer[2]).unwrap();
        told["code"].as_str().unwrap_or(&answer[1]).to_owned()
    }

    /// The lines of the broker's log about those who would write notes.
    fn written_notes(&mut self) -> Vec<String> {
        let log = self.kafka.log();
        let of_notes = |line: &&str| line.contains("operation = WRITE ") && line.contains(NOTES);
        log.lines().filter(of_notes).map(str::to_owned).collect()
    }

    /// A sender with a token.
    fn dealer(&self, token: &str) -> Curve {
        let server = self.keys.public("relay");
        Curve::with_token("DEALER", &self.into, &server, "new", &["edge.plc-7|42"], token)
    }
}

/// The routes from Kafka and to Kafka, at these endpoints; `to`: that of the second.
fn routes(out: &str, into: &str, to: &str) -> String {
    format!(
        "[[route]]\nname = \"out\"\n\
         from.kafka = {{ topics = [\"orders\", \"payments\"], start = \"earliest\" }}\n\
         to.zmq = {{ socket = \"pub\", bind = [\"{out}\"], slow_peer = \"block\", \
         min_peers = 1 }}\n\
         [[route]]\nname = \"in\"\n\
         from.zmq = {{ socket = \"router\", bind = [\"{into}\"], frames = [\"{{topic}}\", \
         \"{{value}}\"] }}\n\
         to.kafka = {to}\n"
    )
}

/// Roles and groups to topics.
fn rules(issuer: &str) -> String {
    format!(
        "clock_skew = \"1s\"\n\
         [[identity.issuer]]\nissuer = {issuer:?}\naudience = [\"zafka-edge\"]\n\
         [[identity.access]]\nwho = {{ \"/realm_access/roles\" = \"dashboard\" }}\n\
         read = [\"orders\"]\n\
         [[identity.access]]\nwho = {{ groups = \"plant-7\" }}\nread = [\"payments\"]\n\
         [[identity.access]]\nwho = {{ \"/realm_access/roles\" = \"machine\" }}\n\
         write = [\"edge.{{azp}}\"]"
    )
}

fn text<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer[name].as_str().unwrap_or_else(|| panic!("no {name} in {answer}"))
}

/// The number of audit lines with these texts.
fn lines(relay: &Zafka, parts: &[&str]) -> usize {
    let log = relay.log();
    log.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
}

#[test]
#[ignore = "needs Java, Maven and Python; Keycloak takes half a gigabyte"]
fn people_and_machines_of_keycloak() {
    let mut stage = Stage::new();

    // A user without a role is let in and gets nothing; one with a role and a group gets theirs.
    stage.log_in("bob");
    let bob = stage.tap("bob", 0);
    stage.relay.wait_log("no rule in [[identity.access]] means this peer", DEADLINE);
    stage.log_in("alice");
    let alice = stage.tap("alice", 0);
    wait_until("alice's records", DEADLINE, || {
        let log = alice.log();
        log.contains("an order") && log.contains("a payment")
    });
    assert!(!bob.log().contains("an order"), "{}", bob.log());

    // A machine's token, and what is none for this relay.
    let plc = stage
        .keycloak
        .token("grant_type=client_credentials&client_id=plc-7&client_secret=plc-7-secret");
    let dealer = stage.dealer(text(&plc, "access_token"));
    let answer = dealer.wait_messages(1);
    assert_eq!(answer[0][0], "OK", "{answer:?}");
    let other = stage
        .keycloak
        .token("grant_type=client_credentials&client_id=zafka&client_secret=zafka-secret");
    let other = stage.dealer(text(&other, "access_token"));
    other.wait_event("HANDSHAKE_FAILED_AUTH");
    stage.keycloak.create_client(&json!({
        "clientId": "passwords", "publicClient": true, "directAccessGrantsEnabled": true,
        "protocolMappers": [{
            "name": "audience", "protocol": "openid-connect",
            "protocolMapper": "oidc-audience-mapper",
            "config": { "included.custom.audience": "zafka-edge", "access.token.claim": "true",
                        "id.token.claim": "true" },
        }, {
            "name": "relay", "protocol": "openid-connect",
            "protocolMapper": "oidc-audience-mapper",
            "config": { "included.client.audience": "zafka", "access.token.claim": "true" },
        }],
    }));
    let form = "grant_type=password&client_id=passwords&username=alice&password=alice-password\
                &scope=openid";
    let all = stage.keycloak.token(form);
    let (taken, told) = stage.worth(text(&all, "access_token"));
    assert!(taken && told.contains("read: orders\n"), "{told}");
    for kind in ["id_token", "refresh_token"] {
        let (taken, told) = stage.worth(text(&all, kind));
        assert!(!taken && told.contains("the token is not taken"), "{kind}: {told}");
    }

    // A new key: its tokens are good once it is fetched, and those who are in stay.
    stage.keycloak.rotate();
    let plc = stage
        .keycloak
        .token("grant_type=client_credentials&client_id=plc-7&client_secret=plc-7-secret");
    let dealer = stage.dealer(text(&plc, "access_token"));
    assert_eq!(dealer.wait_messages(1)[0][0], "OK");

    // The command renews the lease as long as the session lives: nothing is missed.
    wait_until("two leases to be renewed twice", DEADLINE, || {
        let times = renewals(&stage.relay);
        times.len() == 2 && times.values().all(|&times| times >= 2)
    });
    stage.kafka.admin().produce("orders", &[Record::new("k", "another order")]);
    wait_until("the next record", DEADLINE, || alice.log().contains("another order"));

    // The end of the session is that of the lease, at most a token's life later.
    stage.keycloak.log_out("alice");
    wait_until("the login to have ended", DEADLINE, || {
        alice.log().contains("has ended") && alice.log().contains("log in anew")
    });
    stage.relay.wait_status("alice is out", DEADLINE, |status| peers(status).len() == 1);
    assert!(lines(&stage.relay, &["event=\"ended\"", "its lease is over"]) >= 1);
    let home = [("XDG_STATE_HOME", &*stage.home("alice"))];
    let server = stage.keys.public("relay");
    let server = ["--server-key", server.to_str().unwrap()];
    let (exit, _, err) = run_with(&[&["tap", &stage.out, "--login"], &server[..]].concat(), &home);
    assert!(exit.code() == Some(1) && err.contains("log in anew by `zafka login`"), "{err}");

    stage.kafka_decides();
    for log in [&alice.log(), &bob.log(), &stage.relay.log()] {
        assert!(!log.contains(TOKEN), "a token is in a log");
    }
}
