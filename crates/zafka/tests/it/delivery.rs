//! Delivery when relays end and SUBs are stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use zafka_testkit::admin::Background;
use zafka_testkit::{
    KafkaNode, Kind, LibzmqSub, Peer, Produced, Record, Sequence, Session, Zafka, unique,
    wait_until,
};

use crate::common::{
    Fetcher, OneRoute, RouteToml, counter, endpoint, is_at, partition, relay_toml,
};
use crate::flow::{
    Committed, ends, expecting, flood, load, sessions, shown_committed, wait_records, wait_stuck,
    wait_subscribed,
};
use crate::{DEADLINE, ZAFKA, decoded};

/// A ring small enough to be full soon.
const BLOCK: &str = r#"slow_peer = "block", min_peers = 1, ring_bytes = "1 MiB""#;

/// A topic on the shared node, with a group of its name.
fn topic(name: &str, partitions: i32) -> String {
    let topic = unique(name);
    KafkaNode::shared().admin().create_topic(&topic, partitions, &[]);
    // The least that the node allows: what a killed member held is free again soon.
    KafkaNode::shared().admin().set_session_timeout(&topic, 6);
    topic
}

fn in_group(fetcher: Fetcher, topic: &str) -> String {
    format!(r#"topics = ["{topic}"], group = "{topic}", start = "earliest", {fetcher}"#)
}

fn in_background(sequence: &Sequence) -> Background {
    KafkaNode::shared().admin().produce_in_background(sequence.clone())
}

/// A SUB that stands still, and a route that is stuck for it with more records than both can hold.
struct Stalled {
    route: OneRoute,
    subscriber: Peer,
    status: Value,
    records: Sequence,
    produced: Vec<Produced>,
}

impl Stalled {
    fn new(fetcher: Fetcher, topic: &str, partitions: i32, shutdown_timeout: &str) -> Self {
        let bootstrap = KafkaNode::shared().bootstrap();
        let top = format!("shutdown_timeout = \"{shutdown_timeout}\"\n");
        let mut route = OneRoute::start_with(&top, bootstrap, &in_group(fetcher, topic), BLOCK);
        let mut subscriber = Peer::spawn(Kind::Python, route.endpoint(), &[topic], 0);
        // First the stop: how much the SUB takes before it is none of the clock's business.
        wait_subscribed(&mut route.relay, 0, 1);
        subscriber.stop();
        let records = flood(topic, partitions, 16_000);
        let writing = in_background(&records);
        let status = wait_stuck(&mut route.relay, 0);
        Self { route, subscriber, status, records, produced: writing.join() }
    }
}

/// The SUB stands still while records flow, the relay is ended, the SUB goes on, the relay is
/// started again.
fn ended_while_stalled(fetcher: Fetcher, end: impl Fn(&mut Zafka)) {
    let admin = KafkaNode::shared().admin();
    let topic = topic("stalled", 2);
    let Stalled { mut route, mut subscriber, status, records, produced } =
        Stalled::new(fetcher, &topic, 2, "1s");
    assert!(
        shown_committed(&status, 0).values().sum::<i64>() < 16_000,
        "nothing is left to lose: {status:#}"
    );
    end(&mut route.relay);
    let committed = admin.committed(&topic);
    assert!(committed.values().sum::<i64>() > 0, "{committed:?}");

    // What is committed has left zafka: the SUB gets it though no relay is there.
    subscriber.cont();
    wait_until("the SUB to have what was committed", DEADLINE, || {
        let has = ends(&decoded(&subscriber.messages()));
        committed
            .iter()
            .all(|(partition, offset)| has.get(partition).is_some_and(|end| end >= offset))
    });
    route.start_again();
    let messages = wait_records(&[&subscriber], 16_000).remove(0);
    let checker = expecting(&[(&records, &produced)]);
    checker.assert(&sessions(messages, &[Committed::new(), committed]));
}

on_both_fetchers!(
    a_relay_killed_under_a_stalled_peer_loses_nothing,
    "needs Java and Maven, and Python"
);
fn a_relay_killed_under_a_stalled_peer_loses_nothing(fetcher: Fetcher) {
    ended_while_stalled(fetcher, Zafka::kill9);
}

on_both_fetchers!(
    a_relay_terminated_under_a_stalled_peer_loses_nothing,
    "needs Java and Maven, and Python"
);
fn a_relay_terminated_under_a_stalled_peer_loses_nothing(fetcher: Fetcher) {
    ended_while_stalled(fetcher, |relay| {
        relay.terminate();
        assert!(relay.wait_exit(DEADLINE).success(), "{}", relay.log());
    });
}

/// The relay is killed again and again under load.
fn killed_repeatedly(from: &str, topic: &str, waits: &[u64]) {
    let admin = KafkaNode::shared().admin();
    let mut route = OneRoute::lossless(KafkaNode::shared().bootstrap(), from);
    let subscriber = route.subscribe(&[topic]);
    let mut floors = vec![Committed::new()];
    let mut checker = expecting(&[]);
    for wait in waits {
        let records = Sequence { first: checker.len() as u64, ..load(topic, 2, 10_000, 4_000) };
        let writing = in_background(&records);
        let before = subscriber.count();
        wait_until("records to flow", DEADLINE, || subscriber.count() > before + 1_000);
        sleep(Duration::from_millis(*wait));
        route.relay.kill9();
        floors.push(admin.committed(topic));
        route.start_again();
        checker.expect_sequence(&records, &writing.join());
    }
    let messages = wait_records(&[&subscriber], checker.len()).remove(0);
    checker.assert(&sessions(messages, &floors));
}

on_both_fetchers!(kills_at_any_moment_lose_nothing, "needs Java and Maven");
fn kills_at_any_moment_lose_nothing(fetcher: Fetcher) {
    let topic = topic("killed", 2);
    killed_repeatedly(&in_group(fetcher, &topic), &topic, &[137, 911]);
}

on_both_fetchers!(kills_of_a_static_classic_member_lose_nothing, "needs Java and Maven");
fn kills_of_a_static_classic_member_lose_nothing(fetcher: Fetcher) {
    let topic = topic("killed-classic", 2);
    // A static member of the classic protocol takes its own place over at once.
    let from = format!(
        r#"{}, group_protocol = "classic", instance = "{topic}""#,
        in_group(fetcher, &topic)
    );
    killed_repeatedly(&from, &topic, &[0, 53, 311, 700, 1_234]);
}

on_both_fetchers!(
    termination_sends_what_is_in_the_ring_and_commits_it,
    "needs Java and Maven, and Python"
);
fn termination_sends_what_is_in_the_ring_and_commits_it(fetcher: Fetcher) {
    let topic = topic("terminated", 2);
    let Stalled { mut route, mut subscriber, status, produced, .. } =
        Stalled::new(fetcher, &topic, 2, "60s");
    route.relay.terminate();
    route.relay.wait_log("a second signal ends at once", DEADLINE);
    subscriber.cont();
    assert!(route.relay.wait_exit(DEADLINE).success(), "{}", route.relay.log());
    let committed = KafkaNode::shared().admin().committed(&topic);
    let count = usize::try_from(committed.values().sum::<i64>()).unwrap();
    let in_ring = shown_committed(&status, 0).values().sum::<i64>();
    assert!(count as i64 > in_ring, "the ring was not sent: {in_ring} before, {count} after");
    // The SUB has what is committed, to the record.
    let messages = wait_records(&[&subscriber], count).remove(0);
    assert_eq!(ends(&messages), committed);
    let mut written = expecting(&[]);
    for (at, number) in produced.iter().zip(0..) {
        if at.offset < committed[&(topic.clone(), at.partition)] {
            let one = Sequence { first: number, ..flood(&topic, 2, 1) };
            written.expect_sequence(&one, &[*at]);
        }
    }
    written.assert(&[Session::new(messages)]);
}

on_both_fetchers!(a_second_signal_ends_at_once, "needs Java and Maven, and Python");
fn a_second_signal_ends_at_once(fetcher: Fetcher) {
    let topic = topic("twice", 1);
    let Stalled { mut route, mut subscriber, .. } = Stalled::new(fetcher, &topic, 1, "10m");
    route.relay.terminate();
    route.relay.wait_log("a second signal ends at once", DEADLINE);
    route.relay.terminate();
    route.relay.wait_exit(DEADLINE);
    let committed = KafkaNode::shared().admin().committed(&topic);
    subscriber.cont();
    wait_until("the SUB to have what was committed", DEADLINE, || {
        ends(&decoded(&subscriber.messages())).values().sum::<i64>() >= committed.values().sum()
    });
}

on_both_fetchers!(
    a_stopped_peer_that_is_dropped_for_holds_nobody_up_and_sees_its_gaps,
    "needs Java and Maven, and Python"
);
fn a_stopped_peer_that_is_dropped_for_holds_nobody_up_and_sees_its_gaps(fetcher: Fetcher) {
    let kafka = KafkaNode::shared();
    let topic = topic("dropped", 2);
    let to = r#"slow_peer = "drop", min_peers = 2, ring_bytes = "1 MiB""#;
    let mut route = OneRoute::start(kafka.bootstrap(), &in_group(fetcher, &topic), to);
    let healthy = route.subscribe(&[&topic]);
    let mut stopped = Peer::spawn(Kind::Python, route.endpoint(), &[&topic], 0);
    kafka.admin().produce(&topic, &[Record::new("k", "first").partition(0)]);
    stopped.wait_messages(1, DEADLINE);
    stopped.stop();

    // No faster than the healthy one takes them: nothing is dropped for it.
    let mut checker = expecting(&[]);
    let mut largest = 0;
    for first in (0..16_000).step_by(200) {
        let records = Sequence { first, ..flood(&topic, 2, 200) };
        checker.expect_sequence(&records, &kafka.admin().produce_sequence(&records));
        let written = checker.len() + 1;
        wait_until("the healthy one to have them", DEADLINE, || healthy.count() >= written);
        let status = route.relay.status().expect("it runs");
        largest = largest.max(status["routes"][0]["ring_bytes"].as_u64().unwrap());
    }
    assert!((1..=1 << 20).contains(&largest), "the ring holds {largest} bytes");
    let all = healthy.wait_messages(16_001, DEADLINE);
    // All that left the ring counts as delivered; what is in it is still owed to the stopped peer.
    let status = route.relay.wait_status("it to be committed", DEADLINE, |status| {
        let committed = shown_committed(status, 0);
        let delivered =
            [0, 1].map(|number| partition(status, &topic, number)["delivered"].as_i64());
        committed.values().copied().map(Some).eq(delivered)
            && committed.values().sum::<i64>() > 15_000
    });
    let dropped = counter(&status, "messages_dropped");
    assert!(dropped > 0, "{status:#}");
    let mut by_peer: Vec<_> = status["routes"][0]["peers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["messages_dropped"].as_u64())
        .collect();
    by_peer.sort();
    assert_eq!(by_peer, [Some(0), Some(dropped)], "only the stopped peer loses");
    checker.expect(&topic, Produced { partition: 0, offset: 0 });
    checker.assert(&[Session::new(decoded(&all))]);

    // It goes on with what the ring has, and each partition's next message tells what is missing
    // before it.
    stopped.cont();
    route.relay.wait_status("the ring to be empty", DEADLINE, |status| {
        status["routes"][0]["ring_bytes"] == 0
    });
    kafka.admin().produce(&topic, &[0, 1].map(|number| Record::new("k", "last").partition(number)));
    let status = route.relay.wait_status("the last ones to be sent", DEADLINE, |status| {
        counter(status, "messages_sent") + counter(status, "messages_dropped") == 2 * 16_003
    });
    let missing = counter(&status, "messages_dropped");
    let messages = decoded(&stopped.wait_messages(16_003 - missing as usize, DEADLINE));
    assert_eq!(messages.len() as u64, 16_003 - missing);
    let mut has = Committed::new();
    let mut gaps = 0;
    for message in &messages {
        let end = has.entry((message.topic.clone(), message.partition)).or_insert(0);
        let prev = message.prev.map_or(0, |prev| prev + 1);
        assert!(prev >= *end, "{message:?}");
        gaps += prev - *end;
        *end = message.offset + 1;
    }
    assert_eq!(gaps as u64, missing, "a loss that prev does not show");
}

on_both_fetchers!(
    a_stalled_route_holds_no_other_up_and_stays_in_its_group,
    "needs Java and Maven, and Python"
);
fn a_stalled_route_holds_no_other_up_and_stays_in_its_group(fetcher: Fetcher) {
    let admin = KafkaNode::shared().admin();
    let topics = [topic("consumer", 2), topic("classic", 2), topic("free", 2)];
    let endpoints = [endpoint(), endpoint(), endpoint()];
    let protocols = [r#""consumer""#, r#""classic""#, r#""consumer""#];
    let from = [0, 1, 2]
        .map(|i| format!("{}, group_protocol = {}", in_group(fetcher, &topics[i]), protocols[i]));
    let to = [0, 1, 2].map(|i| format!(r#"bind = ["{}"], {BLOCK}"#, endpoints[i]));
    let routes = [0, 1, 2].map(|i| RouteToml { name: &topics[i], from: &from[i], to: &to[i] });
    let mut relay = Zafka::run(ZAFKA, &relay_toml(KafkaNode::shared().bootstrap(), &routes));

    let mut stopped = [0, 1].map(|i| Peer::spawn(Kind::Python, &endpoints[i], &[""], 0));
    for (route, peer) in stopped.iter_mut().enumerate() {
        wait_subscribed(&mut relay, route, 1);
        peer.stop();
    }
    let records = [0, 1].map(|i| flood(&topics[i], 2, 16_000));
    let writing = records.each_ref().map(in_background);
    let produced = writing.map(Background::join);
    wait_stuck(&mut relay, 0);
    let before = wait_stuck(&mut relay, 1);

    // The free route goes on for longer than the session timeout of 6 s.
    let free = LibzmqSub::connect(&endpoints[2], &[""]);
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < Duration::from_secs(9) {
        admin.produce(&topics[2], &[Record::new("k", "v")]);
        sent += 1;
        free.wait_messages(sent, DEADLINE);
        sleep(Duration::from_millis(20));
    }
    for (topic, kind) in topics.iter().zip(["Consumer", "Classic"]) {
        let group = admin.group(topic).unwrap();
        assert_eq!(
            (group.kind.as_str(), group.state.as_str(), group.members.len()),
            (kind, "Stable", 1)
        );
        assert_eq!(group.members[0].assignment.len(), 2, "{group:?}");
    }
    relay.wait_ready();
    for i in [0, 1] {
        stopped[i].cont();
        let messages = wait_records(&[&stopped[i]], 16_000).remove(0);
        expecting(&[(&records[i], &produced[i])]).assert(&[Session::new(messages)]);
    }
    let after = relay.status().expect("it runs");
    for i in [0, 1] {
        let rebalances = |status: &Value| status["routes"][i]["counters"]["rebalances"].clone();
        assert_eq!(rebalances(&before), rebalances(&after));
    }
}

on_both_fetchers!(
    nothing_moves_without_min_peers_and_who_restores_them_gets_what_was_undelivered,
    "needs Java and Maven, and Python"
);
fn nothing_moves_without_min_peers_and_who_restores_them_gets_what_was_undelivered(
    fetcher: Fetcher,
) {
    let topic = topic("unattended", 1);
    let records = flood(&topic, 1, 16_000);
    let produced = in_background(&records).join();
    let mut route =
        OneRoute::start(KafkaNode::shared().bootstrap(), &in_group(fetcher, &topic), BLOCK);
    // The route's position is committed, and stays there.
    let still = |status: &Value| {
        let found = partition(status, &topic, 0);
        found["read"] == 0
            && found["delivered"] == 0
            && found["committed"] == 0
            && found["lag"] == 16_000
    };
    route.relay.wait_status("the partition", DEADLINE, still);
    route.relay.wait_ready();
    for _ in 0..50 {
        let status = route.relay.status().expect("it runs");
        assert!(still(&status), "{status:#}");
        sleep(Duration::from_millis(20));
    }

    // The first SUB is gone with the kernel's buffers full.
    let mut first = Peer::spawn(Kind::Python, route.endpoint(), &[&topic], 0);
    wait_subscribed(&mut route.relay, 0, 1);
    first.stop();
    let status = wait_stuck(&mut route.relay, 0);
    let delivered = partition(&status, &topic, 0)["delivered"].as_i64().unwrap();
    first.process().kill9();
    let peerless = |status: &Value| status["routes"][0]["peers_subscribed"] == 0;
    let status = route.relay.wait_status("the peer to be gone", DEADLINE, peerless);
    assert_eq!(partition(&status, &topic, 0)["delivered"], delivered);
    assert!(counter(&status, "bytes_unsent") > 0, "{status:#}");

    let second = route.subscribe(&[&topic]);
    let left = 16_000 - usize::try_from(delivered).unwrap();
    let messages = decoded(&second.wait_messages(left, DEADLINE));
    assert_eq!(messages[0].offset, delivered);
    let rest = Sequence { first: delivered as u64, ..flood(&topic, 1, left) };
    expecting(&[(&rest, &produced[delivered as usize..])]).assert(&[Session::new(messages)]);
    route.relay.wait_status("the end", DEADLINE, |status| is_at(status, &topic, 0, 16_000));
}

on_both_fetchers!(
    a_peer_that_disconnects_is_owed_nothing_and_another_gets_everything,
    "needs Java and Maven, and Python"
);
fn a_peer_that_disconnects_is_owed_nothing_and_another_gets_everything(fetcher: Fetcher) {
    let topic = topic("disconnected", 2);
    let records = flood(&topic, 2, 16_000);
    let to = BLOCK.replace("min_peers = 1", "min_peers = 2");
    let mut route =
        OneRoute::start(KafkaNode::shared().bootstrap(), &in_group(fetcher, &topic), &to);
    let staying = route.subscribe(&[&topic]);
    let mut leaving = Peer::spawn(Kind::Python, route.endpoint(), &[&topic], 0);
    wait_subscribed(&mut route.relay, 0, 2);
    leaving.stop();
    let writing = in_background(&records);
    let status = wait_stuck(&mut route.relay, 0);
    let read: i64 =
        [0, 1].iter().map(|p| partition(&status, &topic, *p)["read"].as_i64().unwrap()).sum();
    let had: BTreeSet<_> = decoded(&staying.messages())
        .iter()
        .map(|message| (message.partition, message.offset))
        .collect();
    assert!(had.len() as i64 <= read && read < 16_000, "{} had, {read} read", had.len());
    leaving.process().kill9();
    // Another takes its place; it begins at the live end, or at what is undelivered.
    let _other = route.subscribe(&[&topic]);
    let produced = writing.join();
    let messages = wait_records(&[&staying], 16_000).remove(0);
    // The one that stayed has some again, none from below what both had.
    let delivered = |number| partition(&status, &topic, number)["delivered"].as_i64().unwrap();
    let floor = [0, 1].map(|number| ((topic.clone(), number), delivered(number))).into();
    expecting(&[(&records, &produced)]).assert(&sessions(messages, &[BTreeMap::new(), floor]));
    let status = route.relay.wait_status("the end", DEADLINE, |status| {
        shown_committed(status, 0).values().sum::<i64>() == 16_000
    });
    assert!(counter(&status, "bytes_unsent") > 0, "{status:#}");
}
