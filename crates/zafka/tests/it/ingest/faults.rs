//! Brokers that go, come back, and cannot be reached.

use std::thread::sleep;
use std::time::Duration;

use zafka_testkit::{KafkaNode, unique, wait_until};

use super::{Ingest, MOMENT, ROUTER_TO, WINDOW, assert_identity, numbers};
use crate::DEADLINE;
use crate::replicas::{bootstrap, cluster};

#[test]
#[ignore = "needs Java and Maven"]
fn a_broker_that_is_killed_loses_nothing_that_was_acknowledged() {
    let mut cluster = cluster();
    let admin = cluster.admin().clone();
    let topic = unique("edge");
    let assignment = [vec![1, 2, 3], vec![2, 3, 1]];
    admin.create_topic_on(&topic, &assignment, &[("min.insync.replicas", "2")]);
    let mut ingest = Ingest::router(&bootstrap(&cluster), &topic);
    let mut sender = ingest.dealer();
    sender.run_to(1_000);
    (0..WINDOW).for_each(|_| sender.post());
    cluster.kill9(1);
    sender.run_to(3_000);

    // With one replica nothing is acknowledged, and the sender is not told that it failed.
    cluster.kill9(2);
    (0..WINDOW).for_each(|_| sender.post());
    ingest.relay.wait_status("messages to be under way", DEADLINE, |status| {
        status["ingest"][0]["in_flight"].as_u64() > Some(0)
    });
    sleep(MOMENT);
    assert!(sender.told.acknowledged() < sender.next);
    cluster.restart(1);
    sender.run_to(5_000);
    cluster.restart(2);
    sender.assert_true(&admin, &topic);
    assert_identity(&ingest.wait_acknowledged(5_000));
}

#[test]
#[ignore = "needs Java and Maven"]
fn a_partition_that_lacks_a_replica_stops_no_other_one() {
    const BEFORE: usize = 100;
    // Much more than all the memory.
    const OTHERS: usize = 3_000;
    let mut cluster = cluster();
    let admin = cluster.admin().clone();
    let topic = unique("part");
    // Without node 1 the first one has no leader, then a single replica; the others have two.
    let assignment = [vec![1, 2], vec![2, 3], vec![3, 2]];
    admin.create_topic_on(&topic, &assignment, &[("min.insync.replicas", "2")]);
    let to = format!(
        "topic = \"{topic}\", key = \"{{key}}\", partition = \"{{header.to}}\", \
         in_flight_bytes = \"256KiB\""
    );
    let mut ingest = Ingest::start(&bootstrap(&cluster), ROUTER_TO, &to);
    let mut senders = ["0", "1", "2"].map(|partition| ingest.dealer().to(partition));
    senders.iter_mut().for_each(|sender| sender.run_to(BEFORE));
    let [stuck, others @ ..] = &mut senders;
    cluster.kill9(1);
    (0..WINDOW).for_each(|_| stuck.post());
    let names_it = |route: &serde_json::Value| {
        let waiting = route["waiting"].as_array();
        let place = format!("{topic}/0");
        waiting.is_some_and(|all| {
            all.iter().any(|wait| wait["kind"] == "memory" && wait["partition"] == *place)
        })
    };
    let is_held = |status: &serde_json::Value| {
        let route = &status["ingest"][0];
        route["senders_held"] == 1 && names_it(route)
    };
    ingest.relay.wait_status("its sender to be held", DEADLINE, is_held);
    others.iter_mut().for_each(|sender| sender.run_to(OTHERS));
    let status = ingest.relay.wait_status("it to be held still", DEADLINE, is_held);
    assert_identity(&status["ingest"][0]);
    // A quarter, and a message.
    assert!(status["ingest"][0]["in_flight_bytes"].as_u64() <= Some((64 << 10) + 512), "{status}");
    stuck.receive();
    assert_eq!(stuck.told.acknowledged(), BEFORE);
    cluster.restart(1);
    stuck.settle();
    let all = 2 * OTHERS + BEFORE + WINDOW;
    assert_identity(&ingest.wait_acknowledged(all));
    let log = admin.read(&topic);
    for (partition, sender) in (0..).zip(&senders) {
        let of_it: Vec<_> =
            log.iter().filter(|record| record.partition == partition).cloned().collect();
        sender.told.assert_all(&of_it);
    }
    assert_eq!(log.len(), all);
    ingest.stop();
}

#[test]
#[ignore = "needs Java and Maven"]
fn senders_outlive_a_cluster_that_cannot_be_reached() {
    // More than the kernels' buffers hold.
    const MESSAGES: usize = 15_000;
    let (node, proxy) = KafkaNode::start_behind_proxy();
    node.admin().create_topic("edge", 1, &[]);
    proxy.refuse();
    let from = r#"socket = "pull", frames = ["{value}"]"#;
    let to = "topic = \"edge\", in_flight_bytes = \"1MiB\"";
    let mut ingest = Ingest::start(node.bootstrap(), from, to);
    wait_until("the relay to say that no broker is there", DEADLINE, || {
        let ready = ingest.relay.get("/readyz");
        ready.is_ok_and(|(code, body)| code == 503 && body.contains("broker"))
    });
    // Its high-water mark and the kernels' buffers are full before all is sent.
    let push = zmq::Context::new().socket(zmq::PUSH).unwrap();
    push.set_sndhwm(100).unwrap();
    push.set_sndbuf(64 << 10).unwrap();
    push.set_heartbeat_ivl(200).unwrap();
    push.set_heartbeat_timeout(2_000).unwrap();
    push.set_heartbeat_ttl(2_000).unwrap();
    push.connect(&ingest.endpoint).unwrap();
    // Its PINGs come, and tell how often it wants to hear of us.
    sleep(MOMENT);
    let sending = std::thread::spawn(move || {
        (0..MESSAGES).for_each(|number| push.send(&*format!("{number:01000}"), 0).unwrap());
        push
    });
    ingest.relay.wait_status("the sender to be held", DEADLINE, |status| {
        status["ingest"][0]["senders_held"] == 1
    });
    // Much longer than the sender's timeout.
    sleep(Duration::from_secs(10));
    assert!(!sending.is_finished(), "its own high-water mark holds it back");
    let route = ingest.route().unwrap();
    assert!(route["oldest_ms"].as_u64() >= Some(10_000), "{route}");
    let waiting = ingest.relay.get("/readyz").unwrap().1;
    assert!(waiting.contains("in_flight_bytes"), "{waiting}");
    assert_identity(&route);
    proxy.resume();
    let route = ingest.wait_acknowledged(MESSAGES);
    let (accepted, held) = (&route["counters"]["senders_accepted"], &route["senders_held"]);
    assert_eq!((accepted, held), (&1.into(), &0.into()), "it never reconnected");
    drop(sending.join().unwrap());
    assert_eq!(numbers(&node, "edge"), (0..MESSAGES).collect::<Vec<_>>());
    assert_identity(&route);
    ingest.relay.wait_ready();
}
