//! Identity with libzmq's own CURVE clients (pyzmq): who is let in, what each gets, what ends it.

mod clock;
mod connects;
mod door;
mod environment;
mod examples;
mod exchange;
mod keycloak;
mod local;
mod mock_provider;
mod python;
mod recordings;
pub mod secrets;
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use zafka_testkit::Issuer;
use zafka_testkit::child::{Running, command, spawn};
use zafka_testkit::issuer::AUDIENCE;
use zafka_testkit::paths::own;
use zafka_testkit::peers::python;
use zafka_testkit::{KafkaNode, Record, Zafka, unique, wait_until};

use crate::common::endpoint;
use crate::program::{check, run};
use crate::{DEADLINE, ZAFKA};

/// A folder with the relay's key and those of some peers.
struct Keys(tempfile::TempDir);

impl Keys {
    /// Makes keys by the command; those of `known` are known to the relay.
    fn make(names: &[&str], known: &[&str]) -> Self {
        let keys = Self(tempfile::tempdir().unwrap());
        for name in names {
            let (exit, out, err) = run(&["keygen", keys.path(name).to_str().unwrap()]);
            assert!(exit.success(), "{out}{err}");
        }
        fs::create_dir(keys.path("keys.d")).unwrap();
        for name in known {
            fs::copy(keys.public(name), keys.known(name)).unwrap();
        }
        keys
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn public(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.key"))
    }

    fn secret(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.key_secret"))
    }

    /// The file by which the relay knows a key.
    fn known(&self, name: &str) -> PathBuf {
        self.path("keys.d").join(format!("{name}.key"))
    }

    /// The table with these rules.
    fn toml(&self, rules: &str) -> String {
        let (secret, known) = (self.secret("relay"), self.path("keys.d"));
        format!(
            "[identity]\nsecret_key_file = {:?}\nkeys = {:?}\n{rules}\n",
            secret.display().to_string(),
            known.display().to_string()
        )
    }
}

/// A pyzmq socket with CURVE in a process of its own.
struct Curve {
    _process: Running,
    directory: tempfile::TempDir,
}

impl Curve {
    fn start(kind: &str, endpoint: &str, options: &[&str]) -> Self {
        Self::run(kind, endpoint, options, "")
    }

    fn run(kind: &str, endpoint: &str, options: &[&str], token: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut peer = command(python());
        peer.arg(own("peers/python/curve.py")).args([kind, endpoint]).args(options);
        peer.stdin(Stdio::null()).env("TOKEN", token);
        peer.stdout(fs::File::create(directory.path().join("lines")).unwrap());
        peer.stderr(fs::File::create(&log).unwrap());
        Self { _process: Running::adopt(spawn(peer), &log), directory }
    }

    /// Connects to a server that has a key; `new`: with a key that nobody knows.
    fn client(kind: &str, to: &str, server: &Path, ours: &str, words: &[&str]) -> Self {
        Self::with_token(kind, to, server, ours, words, "")
    }

    /// The same; it shows a token, unless that is empty.
    fn with_token(
        kind: &str,
        to: &str,
        server: &Path,
        ours: &str,
        words: &[&str],
        token: &str,
    ) -> Self {
        let secured = ["--server", server.to_str().unwrap(), "--ours", ours];
        Self::run(kind, to, &[&secured[..], words].concat(), token)
    }

    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.directory.path().join("lines")).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn has_event(&self, name: &str) -> bool {
        self.lines().iter().any(|line| line["event"] == name)
    }

    /// The frames of the messages so far.
    fn messages(&self) -> Vec<Vec<String>> {
        let lines = self.lines();
        let frames = lines.iter().filter_map(|line| line["frames"].as_array());
        frames.map(|list| list.iter().map(|f| f.as_str().unwrap().to_owned()).collect()).collect()
    }

    /// The values of the messages so far, as a SUB gets them.
    fn values(&self) -> Vec<String> {
        self.messages().into_iter().map(|frames| frames[3].clone()).collect()
    }

    fn wait_value(&self, value: &str) {
        let has_come = || self.values().iter().any(|came| came == value);
        wait_until(&format!("{value:?} comes"), DEADLINE, has_come);
    }

    /// The number of times that it was let in.
    fn times_in(&self) -> usize {
        self.lines().iter().filter(|line| line["event"] == "HANDSHAKE_SUCCEEDED").count()
    }

    fn wait_event(&self, name: &str) {
        wait_until(&format!("pyzmq tells {name}"), DEADLINE, || self.has_event(name));
    }

    fn wait_messages(&self, count: usize) -> Vec<Vec<String>> {
        wait_until("messages", DEADLINE, || self.messages().len() >= count);
        self.messages()
    }
}

/// Number of renewals of each key's lease while it lived.
fn renewals(relay: &Zafka) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for line in relay.log().lines().filter(|line| line.contains("event=\"renewed\"")) {
        let (_, rest) = line.split_once("key=").unwrap();
        *times.entry(rest.split(' ').next().unwrap().to_owned()).or_insert(0) += 1;
    }
    times
}

fn peers(status: &Value) -> Vec<&str> {
    let peers = status["routes"][0]["peers"].as_array().into_iter().flatten();
    peers.filter_map(|peer| peer["subject"].as_str()).collect()
}

#[test]
#[ignore = "needs Java and Maven, and Python"]
fn libzmq_peers_get_what_the_rules_say() {
    let kafka = KafkaNode::shared();
    let [orders, payments] = ["orders", "payments"].map(unique);
    for topic in [&orders, &payments] {
        kafka.admin().create_topic(topic, 1, &[]);
        let records =
            [Record::new("k", format!("of {topic}")), Record::new("", vec![b'x'; 100_000])];
        kafka.admin().produce(topic, &records);
    }
    let keys = Keys::make(&["relay", "alice", "bob", "other"], &["alice", "bob"]);
    let rule = format!("[[identity.access]]\nwho = {{ sub = \"alice\" }}\nread = [\"{orders}\"]");
    let endpoint = endpoint();
    let toml = format!(
        "[kafka]\nbootstrap_servers = [\"{}\"]\n{}[[route]]\nname = \"r\"\n\
         from.kafka = {{ topics = [\"{orders}\", \"{payments}\"], start = \"earliest\" }}\n\
         to.zmq = {{ socket = \"pub\", bind = [\"{endpoint}\"], slow_peer = \"block\", \
         min_peers = 1 }}\n",
        kafka.bootstrap(),
        keys.toml(&rule)
    );
    let mut relay = Zafka::run(ZAFKA, &toml);
    let sub = |server: &str, ours: &str| {
        let ours = if ours == "new" { "new".into() } else { keys.secret(ours) };
        Curve::client("SUB", &endpoint, &keys.public(server), ours.to_str().unwrap(), &[""])
    };
    // Those who get nothing come first: bob is known, and no rule means him.
    let [bob, stranger, misled] = [sub("relay", "bob"), sub("relay", "new"), sub("other", "alice")];
    bob.wait_event("HANDSHAKE_SUCCEEDED");
    relay.wait_log("its key is not known", DEADLINE);
    relay.wait_log("the box in the peer's HELLO does not open", DEADLINE);
    let held = relay.wait_status("bob has subscribed", DEADLINE, |status| peers(status) == ["bob"]);
    assert_eq!(held["routes"][0]["counters"]["records_read"], 0, "he does not count for min_peers");

    let alice = sub("relay", "alice");
    let messages = alice.wait_messages(2);
    assert_eq!(messages[0][0], orders);
    assert_eq!(messages[0][3], format!("of {orders}"));
    assert_eq!(messages[1][3].len(), 100_000);
    assert_eq!(alice.lines().last().unwrap()["properties"]["X-Zafka-Subject"], "alice");
    relay.wait_status("all is read", DEADLINE, |status| {
        status["routes"][0]["counters"]["records_read"] == 2
    });

    let tap = {
        let (endpoint, topic) = (endpoint.clone(), orders.clone());
        let [server, ours] = [keys.public("relay"), keys.secret("alice")];
        std::thread::spawn(move || {
            let [server, ours] = [server.to_str().unwrap(), ours.to_str().unwrap()];
            let keys = ["--server-key", server, "--curve-key", ours];
            run(&[&["tap", &endpoint, "--count", "1", "--topic", &topic], &keys[..]].concat())
        })
    };
    relay.wait_status("tap has subscribed", DEADLINE, |status| peers(status).len() == 3);
    kafka.admin().produce(&orders, &[Record::new("k", "for tap")]);
    let (exit, out, err) = tap.join().unwrap();
    assert!(exit.success() && out.contains("for tap"), "{out}{err}");
    assert_eq!(alice.wait_messages(3)[2][3], "for tap");

    fs::remove_file(keys.known("alice")).unwrap();
    alice.wait_event("DISCONNECTED");
    relay.wait_status("alice is out", DEADLINE, |status| peers(status) == ["bob"]);
    kafka.admin().produce(&orders, &[Record::new("k", "too late")]);
    relay.wait_log("ended", DEADLINE);

    assert_eq!(alice.messages().len(), 3);
    for other in [&bob, &stranger, &misled] {
        assert_eq!(other.messages(), Vec::<Vec<String>>::new());
    }
    assert!(!stranger.has_event("HANDSHAKE_SUCCEEDED") && !misled.has_event("HANDSHAKE_SUCCEEDED"));
    // Secret keys show nowhere.
    let log = relay.log();
    for name in ["relay", "alice", "bob"] {
        let text = fs::read_to_string(keys.secret(name)).unwrap();
        let key = text.split("secret-key = \"").nth(1).unwrap().split('"').next().unwrap();
        assert!(!log.contains(key), "the secret key of {name} is in the log");
    }
}

#[test]
#[ignore = "needs Java and Maven, and Python"]
fn libzmq_senders_write_what_the_rules_say() {
    let kafka = KafkaNode::shared();
    let topic = unique("edge");
    kafka.admin().create_topic(&topic, 1, &[]);
    let keys = Keys::make(&["relay", "plc-7", "plc-8"], &["plc-7", "plc-8"]);
    let rule = format!("[[identity.access]]\nwho = {{ sub = \"plc-7\" }}\nwrite = [\"{topic}\"]");
    let [endpoint, pull] = [endpoint(), endpoint()];
    let frames = "frames = [\"{topic}\", \"{value}\"]";
    let toml = format!(
        "[kafka]\nbootstrap_servers = [\"{}\"]\n{}[[route]]\nname = \"in\"\n\
         from.zmq = {{ socket = \"router\", bind = [\"{endpoint}\"], {frames} }}\n\
         to.kafka = {{ topics = [\"/^edge.*$/\"] }}\n\
         [[route]]\nname = \"pull\"\n\
         from.zmq = {{ socket = \"pull\", bind = [\"{pull}\"], {frames} }}\n\
         to.kafka = {{ topics = [\"/^edge.*$/\"] }}\n",
        kafka.bootstrap(),
        keys.toml(&rule)
    );
    let mut relay = Zafka::run(ZAFKA, &toml);
    let [mine, other] = [format!("|{topic}|42"), format!("|{topic}-other|42")];
    let dealer = |ours: &str, words: &[&str]| {
        let (server, ours) = (keys.public("relay"), keys.secret(ours));
        Curve::client("DEALER", &endpoint, &server, ours.to_str().unwrap(), words)
    };
    let allowed = dealer("plc-7", &[&mine, &other]);
    let denied = dealer("plc-8", &[&mine]);
    let answers = allowed.wait_messages(2);
    assert_eq!(answers[0][1], "OK", "{answers:?}");
    assert!(answers[0][2].contains(&format!("\"topic\":\"{topic}\"")), "{answers:?}");
    assert_eq!(answers[1][1], "ERROR", "{answers:?}");
    assert!(answers[1][2].contains("\"not_allowed\""), "{answers:?}");
    let answers = denied.wait_messages(1);
    assert!(answers[0][2].contains("\"not_allowed\""), "{answers:?}");

    // REQ is answered likewise; of a PUSH that may not write the message is left out.
    let client = |kind: &str, to: &str, ours: &str, word: &str| {
        let (server, ours) = (keys.public("relay"), keys.secret(ours));
        Curve::client(kind, to, &server, ours.to_str().unwrap(), &[word])
    };
    let req = client("REQ", &endpoint, "plc-7", &format!("{topic}|43"));
    assert_eq!(req.wait_messages(1)[0][0], "OK");
    let _denied = client("PUSH", &pull, "plc-8", &format!("{topic}|no"));
    let _allowed = client("PUSH", &pull, "plc-7", &format!("{topic}|44"));
    relay.wait_status("both have pushed", DEADLINE, |status| {
        let counters = &status["ingest"][1]["counters"];
        (&counters["acknowledged"], &counters["skipped"]) == (&json!(1), &json!(1))
    });
    let values: Vec<_> =
        kafka.admin().read(&topic).into_iter().map(|record| record.value).collect();
    assert_eq!(values, ["42", "43", "44"].map(|value| Some(value.as_bytes().to_vec())));
}

#[test]
#[ignore = "needs Java and Maven, and Python"]
fn libzmq_peers_show_tokens() {
    let kafka = KafkaNode::shared();
    let topic = unique("orders");
    kafka.admin().create_topic(&topic, 1, &[]);
    kafka.admin().produce(&topic, &[Record::new("k", "first")]);
    let issuer = Issuer::start();
    let keys = Keys::make(&["relay"], &[]);
    let endpoint = endpoint();
    let rules = format!(
        "max_lease = \"3s\"\n[[identity.issuer]]\nissuer = {:?}\naudience = [{AUDIENCE:?}]\n\
         [[identity.access]]\nwho = {{ \"/realm_access/roles\" = \"dash\" }}\nread = [{topic:?}]",
        issuer.name()
    );
    let toml = format!(
        "[kafka]\nbootstrap_servers = [\"{}\"]\n{}[[route]]\nname = \"r\"\n\
         from.kafka = {{ topics = [\"{topic}\"], start = \"earliest\" }}\n\
         to.zmq = {{ socket = \"pub\", bind = [\"{endpoint}\"], slow_peer = \"block\", \
         min_peers = 1 }}\n",
        kafka.bootstrap(),
        keys.toml(&rules)
    );
    let mut relay = Zafka::run_with(ZAFKA, &toml, &[("RUST_LOG", "trace")]);
    let sub = |token: &str| {
        let server = keys.public("relay");
        Curve::with_token("SUB", &endpoint, &server, "new", &[""], token)
    };
    let role = json!({ "realm_access": { "roles": ["dash"] } });
    let token = issuer.token("alice", 600, &role);
    let alice = sub(&token);
    assert_eq!(alice.wait_messages(1)[0][3], "first");
    let properties = alice.lines().last().unwrap()["properties"].clone();
    assert_eq!(properties["X-Zafka-Subject"], "alice");
    assert!(properties["X-Zafka-Until"].as_str().unwrap().ends_with('Z'), "{properties}");
    relay.wait_status("alice has a lease", DEADLINE, |status| {
        let peers = status["routes"][0]["peers"].as_array().into_iter().flatten();
        peers.into_iter().any(|peer| peer["subject"] == "alice" && peer["lease_ends"].is_i64())
    });

    // Without the role a peer gets nothing. One that forges a token is refused for good, and one
    // that has stolen it waits.
    let bob = sub(&issuer.token("bob", 600, &json!({})));
    let (signed, _) = token.rsplit_once('.').unwrap();
    let forger = sub(&format!("{signed}.{}", "A".repeat(86)));
    let thief = sub(&token);
    bob.wait_event("HANDSHAKE_SUCCEEDED");
    forger.wait_event("HANDSHAKE_FAILED_AUTH");
    relay.wait_log("its token was used with another key", DEADLINE);

    // A lease ends, and with it the connection. A key that is new is fetched once a token names it.
    alice.wait_event("DISCONNECTED");
    relay.wait_log("its lease is over", DEADLINE);
    issuer.rotate();
    let carol = sub(&issuer.token("carol", 600, &role));
    relay.wait_status("carol is let in", DEADLINE, |status| peers(status).contains(&"carol"));
    // Her short lease ends again and again, and what comes meanwhile is not hers.
    wait_until("carol gets a record", DEADLINE, || {
        kafka.admin().produce(&topic, &[Record::new("k", "second")]);
        carol.messages().iter().any(|frames| frames[3] == "second")
    });
    for other in [&bob, &forger, &thief] {
        assert_eq!(other.messages(), Vec::<Vec<String>>::new());
    }
    assert!(!forger.has_event("HANDSHAKE_SUCCEEDED") && !thief.has_event("HANDSHAKE_SUCCEEDED"));
    assert!(!relay.log().contains(signed), "a token is in the log");
}

#[test]
fn a_file_with_identity_is_checked() {
    let keys = Keys::make(&["relay", "alice"], &["alice"]);
    let route = "[[route]]\nname = \"r\"\nfrom.kafka = { topics = [\"t\"] }\n\
                 to.zmq = { socket = \"pub\", bind = [\"tcp://*:5556\"] }\n";
    let kafka = "[kafka]\nbootstrap_servers = [\"127.0.0.1:9092\"]\n";
    let rule = "[[identity.access]]\nwho = { sub = \"alice\" }\nread = [\"t\"]";
    let (code, out) = check(&format!("{kafka}{}{route}", keys.toml(rule)), &[]);
    assert_eq!(code, Some(0), "{out}");
    fs::write(keys.known("mallory"), "no certificate").unwrap();
    let (code, out) = check(&format!("{kafka}{}{route}", keys.toml(rule)), &[]);
    assert_eq!(code, Some(2), "{out}");
    assert!(out.contains("identity.keys: ") && out.contains("mallory.key: no public-key"), "{out}");
}
