//! The door with libzmq's clients (pyzmq) and with `zafka enrol`: keys that nobody knew are let in
//! once they are enrolled.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use zafka_testkit::child::{Running, command, spawn};
use zafka_testkit::issuer::AUDIENCE;
use zafka_testkit::{Issuer, KafkaNode, Record, Zafka, ports, unique, wait_until};

use super::secrets::Secrets;
use super::{Curve, Keys, peers};
use crate::common::endpoint;
use crate::program::run;
use crate::{DEADLINE, ZAFKA};

/// A relay with a door and a route of one topic, which those who have the role `dash` may read.
struct Relay {
    relay: Zafka,
    keys: Keys,
    issuer: Issuer,
    topic: String,
    endpoint: String,
    door: String,
}

impl Relay {
    fn start(names: &[&str], identity: &str) -> Self {
        let kafka = KafkaNode::shared();
        let (topic, issuer) = (unique("door"), Issuer::start());
        kafka.admin().create_topic(&topic, 1, &[]);
        kafka.admin().produce(&topic, &[Record::new("k", "first")]);
        let keys = Keys::make(&[&["relay"], names].concat(), &[]);
        let [endpoint, door] = [endpoint(), endpoint()];
        let rules = format!(
            "bind = [{door:?}]\n{identity}\n[[identity.issuer]]\nissuer = {:?}\n\
             audience = [{AUDIENCE:?}]\n\
             [[identity.access]]\nwho = {{ \"/realm_access/roles\" = \"dash\" }}\n\
             read = [{topic:?}]",
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
        let relay = Zafka::run_with(ZAFKA, &toml, &[("RUST_LOG", "trace")]);
        Self { relay, keys, issuer, topic, endpoint, door }
    }

    fn token(&self, subject: &str) -> String {
        self.issuer.token(subject, 600, &json!({ "realm_access": { "roles": ["dash"] } }))
    }

    /// A peer with this key at an endpoint of the relay.
    fn peer(&self, kind: &str, to: &str, name: &str, words: &[&str]) -> Curve {
        let (server, ours) = (self.keys.public("relay"), self.keys.secret(name));
        Curve::client(kind, to, &server, ours.to_str().unwrap(), words)
    }

    /// The words of `zafka enrol` for this key and the token in a file.
    fn enrol(&self, name: &str, token_file: &Path) -> Vec<String> {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let (server, ours) = (self.keys.public("relay"), self.keys.secret(name));
        let files = ["--server-key", &text(&server), "--curve-key", &text(&ours)];
        let words = ["enrol", &self.door].into_iter().chain(files);
        let words = words.chain(["--token-file", token_file.to_str().unwrap()]);
        words.map(str::to_owned).collect()
    }
}

/// The word and the JSON object of a door's answer.
fn answer(frames: &[String]) -> (&str, Value) {
    let [.., first, word, body] = frames else { panic!("{frames:?}") };
    assert_eq!(first, "ZAFKA/1");
    (word, serde_json::from_str(body).unwrap())
}

#[test]
#[ignore = "needs Java and Maven, and Python"]
fn libzmq_clients_enrol_their_keys() {
    let mut relay = Relay::start(&["alice", "bob", "carol"], "");
    let early = relay.peer("SUB", &relay.endpoint, "alice", &[""]);
    relay.relay.wait_log("its key is not known", DEADLINE);

    // The issuer's keys are fetched meanwhile: until then the door answers that it may be tried
    // again.
    let tokens = ["alice", "bob"].map(|name| relay.token(name));
    let enrolled = |kind: &str, name: &str, token: &str| {
        let body = json!({ "id": "1", "token": token });
        let command = format!("ZAFKA/1|ENROL|{body}");
        let mut enrolled = Value::Null;
        wait_until("the door knows the issuer's keys", DEADLINE, || {
            let messages = relay.peer(kind, &relay.door, name, &[&command]).wait_messages(1);
            let (word, told) = answer(&messages[0]);
            assert!(word == "OK" || told["code"] == "try_again", "{told}");
            enrolled = told;
            word == "OK"
        });
        enrolled
    };
    let alice = enrolled("DEALER", "alice", &tokens[0]);
    assert_eq!((&alice["subject"], &alice["id"]), (&json!("alice"), &json!("1")), "{alice}");
    assert_eq!(alice["read"], json!([relay.topic]), "{alice}");
    // The SUB that was there before comes in by itself.
    assert_eq!(early.wait_messages(1)[0][3], "first");
    assert_eq!(early.lines().last().unwrap()["properties"]["X-Zafka-Subject"], "alice");
    assert_eq!(enrolled("REQ", "bob", &tokens[1])["subject"], "bob");
    let bob = relay.peer("SUB", &relay.endpoint, "bob", &[""]);
    bob.wait_event("HANDSHAKE_SUCCEEDED");

    // Each is the accepted command with one thing changed.
    let stolen = format!("ZAFKA/1|ENROL|{}", json!({ "id": "1", "token": tokens[0] }));
    for (command, code) in
        [(&*stolen, "token_used"), ("ZAFKA/1|READ|{}", "unsupported"), ("ZAFKA/1|x y", "malformed")]
    {
        let messages = relay.peer("DEALER", &relay.door, "carol", &[command]).wait_messages(1);
        let (word, told) = answer(&messages[0]);
        assert_eq!((word, &told["code"]), ("ERROR", &json!(code)), "{told}");
    }
    let carol = relay.peer("SUB", &relay.endpoint, "carol", &[""]);
    relay.relay.wait_status("both are in", DEADLINE, |status| {
        let mut peers = peers(status);
        peers.sort_unstable();
        peers == ["alice", "bob"]
    });
    assert!(!carol.has_event("HANDSHAKE_SUCCEEDED"));
    let mut secrets = Secrets::default();
    for token in &tokens {
        secrets.add_token("a token", token);
    }
    for name in ["relay", "alice", "bob", "carol"] {
        secrets.add_certificate(&relay.keys.secret(name));
    }
    secrets.assert_not_told_by(&relay.relay);
}

#[test]
#[ignore = "needs Java and Maven, and Python"]
fn a_program_that_knows_nothing_of_tokens() {
    let relay = Relay::start(&["alice", "bob"], "max_lease = \"6s\"");
    let folder = tempfile::tempdir().unwrap();
    let (token, log) = (folder.path().join("token"), folder.path().join("log"));
    fs::write(&token, relay.token("alice")).unwrap();
    let once = relay.enrol("alice", &token);
    let once: Vec<_> = once.iter().map(String::as_str).collect();
    let (exit, out, err) = run(&once);
    assert!(exit.success(), "{out}{err}");
    let told: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((&told["event"], &told["subject"]), (&json!("enrolled"), &json!("alice")), "{told}");

    // It keeps the lease, however short, with the tokens that the file has.
    let mut keep = command(ZAFKA);
    keep.args(relay.enrol("alice", &token)).arg("--keep");
    keep.stdout(fs::File::create(folder.path().join("out")).unwrap());
    keep.stderr(fs::File::create(&log).unwrap());
    let mut keep = Running::adopt(spawn(keep), &log);
    let ends = || -> Vec<String> {
        let out = fs::read_to_string(folder.path().join("out")).unwrap();
        let lines = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter_map(|line| line["until"].as_str().map(str::to_owned)).collect()
    };
    wait_until("a lease", DEADLINE, || !ends().is_empty());
    let first = ends().pop();
    let alice = relay.peer("SUB", &relay.endpoint, "alice", &[""]);
    assert_eq!(alice.wait_messages(1)[0][3], "first");
    fs::write(&token, relay.token("alice")).unwrap();
    // The first of these may be by the token that was in the file before.
    let before = ends().len();
    wait_until("two later ends", DEADLINE, || ends().len() >= before + 2);
    assert!(ends().pop() > first);

    // Another key cannot use the token, and is told so.
    let stolen = relay.enrol("bob", &token);
    let stolen: Vec<_> = stolen.iter().map(String::as_str).chain(["--timeout", "3s"]).collect();
    let (exit, out, err) = run(&stolen);
    assert_eq!(exit.code(), Some(1), "{out}{err}");
    assert!(out.contains("\"code\":\"token_used\"") && err.contains("not enrolled"), "{out}{err}");
    keep.terminate();
    assert!(keep.wait_exit(DEADLINE).unwrap().success(), "{}", keep.log());
    alice.wait_event("DISCONNECTED");
}

#[test]
fn enrolments_that_cannot_begin() {
    let keys = Keys::make(&["relay", "me"], &[]);
    let token = keys.path("token");
    fs::write(&token, "a.b.c").unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let [server, ours, token] = [keys.public("relay"), keys.secret("me"), token].map(|p| text(&p));
    let endpoint = endpoint();
    let public = text(&keys.public("me"));
    for (server, ours, token, code, part) in [
        (&*server, &*ours, "/nowhere/token", 2, "/nowhere/token"),
        (&server, "/nowhere/key", &token, 2, "/nowhere/key"),
        ("/nowhere/key", &ours, &token, 2, "/nowhere/key"),
        (&server, &public, &token, 2, "this is the public file"),
        (&server, &ours, &token, 1, "not enrolled within 0.2 s"),
    ] {
        let words = ["enrol", &endpoint, "--server-key", server, "--curve-key", ours];
        let options = ["--token-file", token, "--timeout", "200ms"];
        let (exit, out, err) = run(&[&words[..], &options[..]].concat());
        assert_eq!((exit.code(), &*out), (Some(code), ""), "{err}");
        assert!(err.contains(part), "{part}: {err}");
    }
}

/// The leases that a running relay tells, by subject.
fn leases(control: &str) -> Vec<Value> {
    let (exit, out, err) = run(&["leases", "--control", control]);
    assert!(exit.success(), "{out}{err}");
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
#[ignore = "needs Python"]
fn who_is_revoked_is_out_and_stays_out() {
    let (issuer, keys) = (Issuer::start(), Keys::make(&["relay", "alice", "bob"], &[]));
    let [endpoint, control, file] = [
        endpoint(),
        keys.path("control").display().to_string(),
        keys.path("toml").display().to_string(),
    ];
    let identity = format!(
        "[[identity.issuer]]\nissuer = {:?}\naudience = [{AUDIENCE:?}]\n\
         [[identity.access]]\nwho = {{ iss = {:?} }}\nread = [\"t\"]",
        issuer.name(),
        issuer.name()
    );
    // No broker is needed to be let in.
    let toml = format!(
        "[kafka]\nbootstrap_servers = [\"127.0.0.1:1\"]\n{}\n[admin]\nbind = \"127.0.0.1:{}\"\n\
         control = {control:?}\n[[route]]\nname = \"r\"\nfrom.kafka = {{ topics = [\"t\"] }}\n\
         to.zmq = {{ socket = \"pub\", bind = [\"{endpoint}\"] }}\n",
        keys.toml(&identity),
        ports::free_port()
    );
    fs::write(&file, toml).unwrap();
    let relay = Zafka::spawn(ZAFKA, &["run", "-c", &file]);
    let (server, none) = (keys.public("relay"), json!({}));
    let sub = |name: &str, token: &str| {
        let ours = keys.secret(name);
        Curve::with_token("SUB", &endpoint, &server, ours.to_str().unwrap(), &[""], token)
    };
    let [alice, bob] = ["alice", "bob"].map(|name| sub(name, &issuer.token(name, 600, &none)));
    [&alice, &bob].iter().for_each(|peer| peer.wait_event("HANDSHAKE_SUCCEEDED"));
    let told = leases(&control);
    let subjects: Vec<_> = told.iter().map(|lease| lease["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["alice", "bob"]);
    assert_eq!((&told[0]["connections"], &told[0]["issuer"]), (&json!(1), &json!(issuer.name())));
    // The file says where the socket is.
    let (exit, out, err) = run(&["revoke", "-c", &file, "--subject", "alice", "--for", "1h"]);
    assert!(exit.success(), "{out}{err}");
    let done: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&done["keys"], &done["connections"]), (&json!(1), &json!(1)), "{done}");
    alice.wait_event("DISCONNECTED");
    // It shows its token again, and is told to try no more; so is a fresh key with a fresh token.
    alice.wait_event("HANDSHAKE_FAILED_AUTH");
    let ours = keys.path("fresh");
    let (exit, ..) = run(&["keygen", ours.to_str().unwrap()]);
    assert!(exit.success());
    let fresh = sub("fresh", &issuer.token("alice", 900, &none));
    fresh.wait_event("HANDSHAKE_FAILED_AUTH");
    assert!(!fresh.has_event("HANDSHAKE_SUCCEEDED") && !bob.has_event("DISCONNECTED"));
    let told = leases(&control);
    assert_eq!(told.len(), 1);
    // By its key, as it was told.
    let key = told[0]["key"].as_str().unwrap();
    let (exit, out, err) = run(&["revoke", "--control", &control, "--key", key]);
    assert!(exit.success(), "{out}{err}");
    bob.wait_event("HANDSHAKE_FAILED_AUTH");
    assert_eq!(leases(&control), Vec::<Value>::new());
    let log = relay.log();
    assert!(log.contains("event=\"revoked\"") && log.contains("subject alice"), "{log}");
    // Where nobody listens, and what says nothing.
    for (arguments, code, part) in [
        (&["leases", "--control", "/nowhere/control"][..], 1, "/nowhere/control"),
        (&["revoke", "--control", &control], 2, "--subject"),
        (&["revoke", "--control", &control, "--key", "/nowhere/key"], 2, "/nowhere/key"),
        (&["revoke", "--control", &control, "--issued-before", "now"], 2, "--issued-before"),
        (&["revoke", "--control", &control, "--kid", "k"], 2, "--issuer"),
        (&["leases", "-c", "/nowhere/zafka.toml"], 2, "/nowhere/zafka.toml"),
    ] {
        let (exit, out, err) = run(arguments);
        assert_eq!((exit.code(), &*out), (Some(code), ""), "{arguments:?}: {err}");
        assert!(err.contains(part), "{arguments:?}: {err}");
    }
}
