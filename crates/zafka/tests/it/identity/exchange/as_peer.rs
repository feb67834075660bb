//! Records are written in their senders' names: Kafka's authorizer decides about each, and its log
//! names them.

use serde_json::{Value, json};
use zafka_testkit::{Zafka, unique, wait_until};

use super::{Curve, World};
use crate::common::endpoint;
use crate::identity::secrets::assert_none_in_log;
use crate::program::run;
use crate::{DEADLINE, ZAFKA};

/// A relay that writes as its senders do, in two names at most, and those senders.
struct Writing {
    world: World,
    relay: Zafka,
    endpoint: String,
}

impl Writing {
    fn start() -> Self {
        let (world, endpoint) = (World::start(), endpoint());
        let toml = world.toml_with(
            "max_identities = 2",
            "write = [\"/^.*$/\"]",
            &format!(
                "[[route]]\nname = \"in\"\n\
                 from.zmq = {{ socket = \"router\", bind = [\"{endpoint}\"], \
                 frames = [\"{{topic}}\", \"{{value}}\"] }}\n\
                 to.kafka = {{ topics = [\"/^.*$/\"], as_peer = true }}\n"
            ),
        );
        let (control, trace) = (world.keys.path("control"), [("RUST_LOG", "trace")]);
        let relay = Zafka::run_with_control(ZAFKA, &toml, &trace, &control);
        Self { world, relay, endpoint }
    }

    /// A sender with a key of its own, which sends at once.
    fn send(&self, name: &str, topic: &str) -> Curve {
        let token = self.world.issuer.token(name, 600, &json!({}));
        let words = [&*format!("|{topic}|of {name}")];
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

#[test]
#[ignore = "needs Java and Maven, and Python"]
fn records_are_written_in_their_senders_names() {
    let mut writing = Writing::start();
    // The relay itself may do nothing with it.
    let orders = unique("orders");
    writing.world.kafka.admin().create_topic(&orders, 1, &[]);
    writing.world.allow("alice", "write", &orders);
    let alice = writing.send("alice", &orders);
    assert_eq!(answer(&alice), "OK");
    assert_eq!(writing.world.kafka.admin().read(&orders).len(), 1);
    // To the relay's rules bob is as she is. He may see the topic, and write to another one.
    writing.world.allow("bob", "describe", &orders);
    writing.world.allow("bob", "write", &unique("payments"));
    assert_eq!(answer(&writing.send("bob", &orders)), "not_allowed");
    writing.world.allow("bob", "write", &orders);
    wait_until("bob may write", DEADLINE, || answer(&writing.send("bob", &orders)) == "OK");
    assert_eq!(writing.world.kafka.admin().read(&orders).len(), 2);

    // The broker's log names who has written: nobody else.
    let audited = writing.audited("WRITE", &orders);
    for (name, verdict) in [("alice", "Allowed"), ("bob", "Denied"), ("bob", "Allowed")] {
        let line = format!("Principal = User:{name} is {verdict} operation = WRITE");
        let is_told = audited.iter().any(|told| told.contains(&line));
        assert!(is_told, "{line}: {audited:#?}");
    }
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

    // A lease that ends: what no broker can have is not written.
    writing.wait_senders(0);
    writing.world.kafka.stop_process();
    let alice = writing.send("alice", &orders);
    writing
        .relay
        .wait_status("her message waits", DEADLINE, |status| status["ingest"][0]["in_flight"] == 1);
    let control = writing.world.keys.path("control").display().to_string();
    let (exit, out, err) = run(&["revoke", "--control", &control, "--subject", "alice"]);
    assert!(exit.success(), "{out}{err}");
    assert_eq!(answer(&alice), "not_allowed");
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
