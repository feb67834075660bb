//! Records are written in their senders' names: Kafka's authorizer decides about each, and its log
//! names them.

use serde_json::{Value, json};
use zafka_testkit::issuer::INTROSPECTION_SECRET;
use zafka_testkit::kafka::Provider;
use zafka_testkit::oidc::Certificates;
use zafka_testkit::{Issuer, KafkaOptions, Zafka, unique, wait_until};

use super::{Curve, TOKENS, World};
use crate::common::endpoint;
use crate::identity::secrets::assert_none_in_log;
use crate::program::run;
use crate::{DEADLINE, ZAFKA};

/// The life of exchanged tokens, in s. The broker takes them for as long once they have ended: a
/// machine that is slow is no fault.
const LIFE: i64 = 4;
/// Renewals at four fifths of its life that make more than three lives of a token: a broker that
/// nobody has brought another one has refused the first by then.
const RENEWALS: usize = 4;

/// A relay whose two routes write as their senders do, in two names at most, and those senders.
struct Writing {
    world: World,
    relay: Zafka,
    endpoint: String,
    other_endpoint: String,
}

impl Writing {
    fn start() -> Self {
        // The same issuer signs for Kafka: it counts what it exchanges.
        let (issuer, endpoint, other_endpoint) = (Issuer::start(), endpoint(), endpoint());
        issuer.grant("zafka", 600, &json!({ "aud": "kafka" }));
        issuer.exchange_for(LIFE);
        let skew = format!("{TOKENS}.clock.skew.seconds");
        let options = KafkaOptions::default().property(&skew, &LIFE.to_string());
        let client = format!("client_id = \"zafka\"\nclient_secret = {INTROSPECTION_SECRET:?}");
        let provider = Provider::from(&issuer);
        let world = World::start(Certificates::make(), &provider, client, issuer, options);
        let route = |name: &str, endpoint: &str| {
            format!(
                "[[route]]\nname = \"{name}\"\n\
                 from.zmq = {{ socket = \"router\", bind = [\"{endpoint}\"], \
                 frames = [\"{{topic}}\", \"{{value}}\"] }}\n\
                 to.kafka = {{ topics = [\"/^.*$/\"], as_peer = true }}\n"
            )
        };
        let routes = route("in", &endpoint) + &route("other", &other_endpoint);
        let rights = "write = [\"/^.*$/\"]";
        let toml = world.toml_with("max_identities = 2", rights, &routes);
        let (control, trace) = (world.keys.path("control"), [("RUST_LOG", "trace")]);
        let relay = Zafka::run_with_control(ZAFKA, &toml, &trace, &control);
        Self { world, relay, endpoint, other_endpoint }
    }

    /// A sender with a key of its own, which sends at once.
    fn send(&self, name: &str, topic: &str) -> Curve {
        self.send_to(&self.endpoint, name, topic)
    }

    fn send_to(&self, endpoint: &str, name: &str, topic: &str) -> Curve {
        let token = self.world.issuer.token(name, 600, &json!({}));
        let words = [&*format!("|{topic}|of {name}")];
        self.world.peer("DEALER", endpoint, &token, &words)
    }

    /// A sender that sends its next number once the one before is answered.
    fn counts(&self, name: &str, topic: &str) -> Curve {
        let token = self.world.issuer.token(name, 600, &json!({}));
        let words = [&*format!("|{topic}|0"), "--count"];
        self.world.peer("DEALER", &self.endpoint, &token, &words)
    }

    fn senders(&self) -> u64 {
        let status = self.relay.status().unwrap_or_default();
        status["ingest"][0]["senders_total"].as_u64().unwrap_or(u64::MAX)
    }

    fn wait_senders(&self, count: u64) {
        wait_until("senders come and go", DEADLINE, || self.senders() == count);
    }

    fn identity(&self) -> Value {
        self.relay.status().unwrap_or_default()["identity"].take()
    }

    /// Sends until that is answered so, and returns the last sender: ACLs take a moment.
    fn send_until(&self, name: &str, topic: &str, wanted: &str) -> Curve {
        let mut sender = None;
        wait_until(&format!("{name} is answered {wanted}"), DEADLINE, || {
            let last = sender.insert(self.send(name, topic));
            answer(last) == wanted
        });
        sender.unwrap()
    }

    /// The lines of the broker's log about this operation on a topic.
    fn audited(&mut self, operation: &str, topic: &str) -> Vec<String> {
        let log = self.world.kafka.log();
        let of_it = |line: &&str| {
            line.contains(&format!("operation = {operation} ")) && line.contains(topic)
        };
        log.lines().filter(of_it).map(str::to_owned).collect()
    }
}

/// The answer to the first message of a sender: whether it is written, else the code.
fn answer(sender: &Curve) -> String {
    let answer = sender.wait_messages(1)[0].clone();
    match answer[1].as_str() {
        "OK" => "OK".to_owned(),
        _ => {
            let error: Value = serde_json::from_str(&answer[2]).unwrap();
            error["code"].as_str().unwrap().to_owned()
        }
    }
}

/// The numbers of a topic in their order.
fn numbers(writing: &Writing, topic: &str) -> Vec<usize> {
    let records = writing.world.kafka.admin().read(topic);
    let texts = records.iter().map(|record| String::from_utf8(record.value.clone().unwrap()));
    texts.map(|text| text.unwrap().parse().unwrap()).collect()
}

/// A sender's records go on while the token in whose name they are written is renewed.
fn tokens_are_renewed(writing: &mut Writing) {
    let numbers_topic = unique("numbers");
    writing.world.kafka.admin().create_topic(&numbers_topic, 1, &[]);
    writing.world.allow("erin", "write", &numbers_topic);
    // What is allowed later does not count earlier.
    let other_topic = unique("other");
    writing.world.kafka.admin().create_topic(&other_topic, 1, &[]);
    writing.world.allow("frank", "write", &other_topic);
    drop(writing.send_until("frank", &other_topic, "OK"));
    let erin = writing.counts("erin", &numbers_topic);
    let exchanged = || writing.world.issuer.exchanged("erin");
    wait_until("erin's tokens to be renewed before they end", DEADLINE, || {
        exchanged().renewals >= RENEWALS
    });
    // What goes on goes on by the last one.
    let answered = erin.messages().len();
    let answers = erin.wait_messages(answered + 10);
    drop(erin);
    writing.wait_senders(0);
    writing
        .relay
        .wait_status("all is settled", DEADLINE, |status| status["ingest"][0]["in_flight"] == 0);
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer[1], "OK", "{number}: {answer:?}");
        let place: Value = serde_json::from_str(&answer[2]).unwrap();
        let told = (&place["topic"], &place["partition"], &place["offset"]);
        assert_eq!(told, (&json!(numbers_topic), &json!(0), &json!(number)), "{number}");
    }
    // None is missing, none is there twice, none is out of its order.
    let written = numbers(writing, &numbers_topic);
    assert!(written.len() >= answers.len(), "{} of {}", written.len(), answers.len());
    assert_eq!(written, (0..written.len()).collect::<Vec<_>>());
    let log = writing.world.kafka.log();
    let refused =
        log.lines().find(|line| line.contains("Failed") && line.contains("authentication"));
    assert_eq!(refused, None, "each connection was taken");
}

#[test]
#[ignore = "needs Java and Maven, and Python"]
fn records_are_written_in_their_senders_names() {
    let mut writing = Writing::start();
    tokens_are_renewed(&mut writing);
    // The relay itself may do nothing with it.
    let orders = unique("orders");
    writing.world.kafka.admin().create_topic(&orders, 1, &[]);
    writing.world.allow("alice", "write", &orders);
    let alice = writing.send_until("alice", &orders, "OK");
    assert_eq!(writing.world.kafka.admin().read(&orders).len(), 1);
    // To the relay's rules bob is as she is. He may see the topic, and write to another one.
    writing.world.allow("bob", "describe", &orders);
    writing.world.allow("bob", "write", &unique("payments"));
    let denied = "Principal = User:bob is Denied operation = WRITE";
    wait_until("bob may not write", DEADLINE, || {
        assert_eq!(answer(&writing.send("bob", &orders)), "not_allowed");
        writing.audited("WRITE", &orders).iter().any(|told| told.contains(denied))
    });
    writing.world.allow("bob", "write", &orders);
    drop(writing.send_until("bob", &orders, "OK"));
    assert_eq!(writing.world.kafka.admin().read(&orders).len(), 2);

    // The broker's log names who has written: nobody else.
    for (name, verdict) in [("alice", "Allowed"), ("bob", "Allowed")] {
        let line = format!("Principal = User:{name} is {verdict} operation = WRITE");
        wait_until(&line, DEADLINE, || {
            writing.audited("WRITE", &orders).iter().any(|told| told.contains(&line))
        });
    }
    let audited = writing.audited("WRITE", &orders);
    let is_other =
        |line: &&String| !["User:alice", "User:bob"].iter().any(|one| line.contains(one));
    assert_eq!(audited.iter().find(is_other), None);

    // Two are there, and each has an identity: there is none for a third.
    writing.wait_senders(1);
    let bob = writing.send("bob", &orders);
    assert_eq!(answer(&bob), "OK");
    assert_eq!(answer(&writing.send("carol", &orders)), "busy");
    let identity = writing.identity();
    assert_eq!(identity["identities"], 2);
    assert!(identity["counters"]["identities_refused"].as_u64() >= Some(1), "{identity}");
    let (_, metrics) = writing.relay.get("/metrics").unwrap();
    assert!(metrics.contains("zafka_identity_kafka_identities 2\n"), "{metrics}");
    // Those who have left make room.
    drop((alice, bob));
    writing.wait_senders(0);
    assert_eq!(
        answer(&writing.send("carol", &orders)),
        "not_allowed",
        "she has a place, and no ACL"
    );

    // And for those of another route: they are told, and who comes again has the place.
    writing.wait_senders(0);
    let mut answers = Vec::new();
    wait_until("another route has a place", DEADLINE, || {
        answers.push(answer(&writing.send_to(&writing.other_endpoint, "dave", &orders)));
        answers.last().is_some_and(|last| last != "busy")
    });
    assert_eq!(answers.last().map(String::as_str), Some("not_allowed"), "he has no ACL");

    // A lease that ends: what no broker can have is not written.
    writing.world.kafka.stop_process();
    let alice = writing.send("alice", &orders);
    writing
        .relay
        .wait_status("her message waits", DEADLINE, |status| status["ingest"][0]["in_flight"] == 1);
    let control = writing.world.keys.path("control").display().to_string();
    let (exit, out, err) = run(&["revoke", "--control", &control, "--subject", "alice"]);
    assert!(exit.success(), "{out}{err}");
    // Kafka, which stands still, did not settle it.
    writing.relay.wait_status("her message is settled", DEADLINE, |status| {
        status["ingest"][0]["in_flight"] == 0
    });
    alice.wait_event("DISCONNECTED");
    // A connection has half a second for that: it is not there if the machine is too slow.
    let answered = alice.messages().len();
    assert!(answered <= 1 && (answered == 0 || answer(&alice) == "not_allowed"));
    writing.world.kafka.cont();
    let status = writing.relay.wait_status("all is settled", DEADLINE, |status| {
        status["ingest"][0]["in_flight"] == 0 && status["identity"]["identities"] == 1
    });
    let route = &status["ingest"][0];
    assert_eq!((&route["stopped"], &route["counters"]["unknown"]), (&json!(false), &json!(0)));
    assert_eq!(answer(&writing.send("bob", &orders)), "OK", "the route goes on");
    let values = writing.world.kafka.admin().read(&orders);
    assert_eq!(
        values.iter().filter(|record| record.value.as_deref() == Some(b"of alice")).count(),
        1
    );
    assert_none_in_log(&writing.relay);
}
