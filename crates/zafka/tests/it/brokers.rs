//! Brokers that are not there, that go and come back, and connections that break.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use zafka_testkit::admin::Background;
use zafka_testkit::{KafkaNode, LibzmqSub, Sequence, Session, unique, wait_until};

use crate::common::{Fetcher, OneRoute, counter};
use crate::flow::{expecting, load, shown_committed, wait_records};
use crate::replicas::{bootstrap, cluster};
use crate::{DEADLINE, decoded};

/// The time in seconds for which a group waits for its members if a broker goes and comes back.
const BROKERS_WAY_BACK: u32 = 60;

fn in_group(fetcher: Fetcher, topic: &str) -> String {
    format!(r#"topics = ["{topic}"], group = "{topic}", start = "earliest", {fetcher}"#)
}

/// Waits until a SUB has some more messages than now.
fn wait_flow(subscriber: &LibzmqSub) {
    let before = subscriber.count();
    wait_until("records to flow", DEADLINE, || subscriber.count() > before + 500);
}

/// Asserts that the SUB has everything, in order and without a repeat, and that all of it is
/// committed.
fn assert_flowed(
    route: &mut OneRoute,
    subscriber: &LibzmqSub,
    records: &Sequence,
    writing: Background,
) {
    let produced = writing.join();
    let messages = wait_records(&[subscriber], records.count).remove(0);
    expecting(&[(records, &produced)]).assert(&[Session::new(messages)]);
    route.relay.wait_status("all of it to be committed", DEADLINE, |status| {
        shown_committed(status, 0).values().sum::<i64>() == records.count as i64
    });
    route.relay.wait_ready();
}

on_both_fetchers!(a_node_that_comes_late_and_is_killed_under_load, "needs Java and Maven");
fn a_node_that_comes_late_and_is_killed_under_load(fetcher: Fetcher) {
    let mut kafka = KafkaNode::start();
    let topic = unique("late");
    kafka.admin().create_topic(&topic, 2, &[]);
    kafka.admin().set_session_timeout(&topic, BROKERS_WAY_BACK);
    kafka.terminate();
    let mut route = OneRoute::lossless(kafka.bootstrap(), &in_group(fetcher, &topic));
    let subscriber = route.subscribe(&[&topic]);
    route.relay.wait_status("errors", DEADLINE, |status| counter(status, "kafka_errors") > 0);
    let (code, body) = route.relay.get("/readyz").unwrap();
    assert_eq!(code, 503);
    assert!(body.contains("Connection refused"), "{body}");
    let lines = route.relay.log().lines().count();
    assert!(lines < 30, "a flood of {lines} lines:\n{}", route.relay.log());

    kafka.restart();
    route.relay.wait_ready();
    let records = load(&topic, 2, 20_000, 2_000);
    let writing = kafka.admin().produce_in_background(records.clone());
    wait_flow(&subscriber);
    let before = route.relay.log().lines().count();
    kafka.kill9();
    wait_until("readyz to tell", DEADLINE, || {
        route.relay.get("/readyz").is_ok_and(|(code, _)| code == 503)
    });
    kafka.restart();
    assert_flowed(&mut route, &subscriber, &records, writing);
    let lines = route.relay.log().lines().count() - before;
    assert!((1..50).contains(&lines), "{lines} lines for a killed broker:\n{}", route.relay.log());
}

on_both_fetchers!(connections_that_are_cut_stall_and_are_refused, "needs Java and Maven");
fn connections_that_are_cut_stall_and_are_refused(fetcher: Fetcher) {
    let (kafka, proxy) = KafkaNode::start_behind_proxy();
    let topic = unique("cut");
    kafka.admin().create_topic(&topic, 2, &[]);
    kafka.admin().set_session_timeout(&topic, 15);
    let mut route = OneRoute::lossless(kafka.bootstrap(), &in_group(fetcher, &topic));
    let subscriber = route.subscribe(&[&topic]);
    let records = load(&topic, 2, 20_000, 2_000);
    let writing = kafka.admin().produce_in_background(records.clone());
    for _ in 0..3 {
        wait_flow(&subscriber);
        proxy.cut();
    }
    wait_flow(&subscriber);
    proxy.stall();
    sleep(Duration::from_secs(1));
    proxy.resume();
    assert_flowed(&mut route, &subscriber, &records, writing);
    let had = subscriber.count();

    // Away for so long that the group takes the partitions: they are lost, and come back.
    let more = Sequence { first: 20_000, ..load(&topic, 2, 10_000, 2_000) };
    let writing = kafka.admin().produce_in_background(more.clone());
    wait_flow(&subscriber);
    proxy.refuse();
    wait_until("the group to be empty", DEADLINE, || {
        kafka.admin().group(&topic).is_ok_and(|group| group.members.is_empty())
    });
    let floor = kafka.admin().committed(&topic);
    proxy.resume();
    let produced = writing.join();
    wait_until("everything to be committed", DEADLINE, || {
        kafka.admin().committed(&topic).values().sum::<i64>() == 30_000
    });
    route.relay.wait_ready();
    let messages = decoded(&subscriber.messages()[had..]);
    // What was on its way when the connection went comes before the new assignment.
    let again = messages.iter().filter(|message| message.prev.is_none()).count();
    assert_eq!(again, 2, "each partition is taken up once more");
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut assigned = [false; 2];
    for message in messages {
        let assigned = &mut assigned[message.partition as usize];
        *assigned |= message.prev.is_none();
        if *assigned { after.push(message) } else { before.push(message) }
    }
    let sessions = [Session::new(before), Session::above(after, floor)];
    expecting(&[(&more, &produced)]).assert(&sessions);
}

on_both_fetchers!(connections_that_are_closed_while_they_are_idle, "needs Java and Maven");
fn connections_that_are_closed_while_they_are_idle(fetcher: Fetcher) {
    let (kafka, proxy) = KafkaNode::start_behind_proxy();
    let topic = unique("idle");
    kafka.admin().create_topic(&topic, 1, &[]);
    let from = |topics: &str| format!(r#"topics = ["{topics}"], topic_refresh = "2s", {fetcher}"#);
    // One fetches, one waits for topics: of the one, some connections are idle, of the other all.
    let mut fetches = OneRoute::lossless(kafka.bootstrap(), &from(&topic));
    let mut waits = OneRoute::lossless(kafka.bootstrap(), &from("/^none such$/"));
    let subscriber = fetches.subscribe(&[&topic]);
    for route in [&mut fetches, &mut waits] {
        route.relay.wait_ready();
    }
    let mut cut = 0;
    wait_until("connections to be idle, and to be cut", DEADLINE, || {
        cut += proxy.cut_idle(Duration::from_secs(1));
        for route in [&fetches, &waits] {
            let (code, body) = route.relay.get("/readyz").expect("it answers");
            assert_eq!(code, 200, "{body} after {cut} cuts");
        }
        cut >= 4
    });
    let records = Sequence::new(&topic, 100);
    kafka.admin().produce_sequence(&records);
    subscriber.wait_messages(100, DEADLINE);
    for route in [&mut fetches, &mut waits] {
        let status = route.relay.status().expect("it runs");
        assert_eq!(counter(&status, "kafka_errors"), 0, "{}", route.relay.log());
    }
}

on_both_fetchers!(leaders_and_coordinators_that_move_or_die_under_load, "needs Java and Maven");
fn leaders_and_coordinators_that_move_or_die_under_load(fetcher: Fetcher) {
    let mut cluster = cluster();
    let admin = Arc::clone(cluster.admin());
    let topic = unique("replicated");
    let replicas: Vec<Vec<usize>> = [[1, 2, 3], [2, 3, 1], [3, 1, 2]].map(Vec::from).to_vec();
    admin.create_topic_on(&topic, &replicas, &[]);
    admin.set_session_timeout(&topic, BROKERS_WAY_BACK);
    let mut route = OneRoute::lossless(&bootstrap(&cluster), &in_group(fetcher, &topic));
    let subscriber = route.subscribe(&[&topic]);
    let mut checker = expecting(&[]);
    // Each fault comes while records flow, and all of them arrive while it lasts.
    let mut under_load = |fault: &mut dyn FnMut()| {
        let records = Sequence { first: checker.len() as u64, ..load(&topic, 3, 10_000, 2_000) };
        let writing = admin.produce_in_background(records.clone());
        wait_flow(&subscriber);
        fault();
        checker.expect_sequence(&records, &writing.join());
        subscriber.wait_messages(checker.len(), 2 * DEADLINE);
    };
    under_load(&mut || {
        for (partition, to) in [(0, 2), (1, 3), (0, 3), (2, 1)] {
            admin.move_leader(&topic, partition, to);
            wait_until("the leader to move", DEADLINE, || {
                cluster.leader_of(&topic, partition) == Some(to)
            });
        }
    });
    let leader = cluster.leader_of(&topic, 0).expect("it has a leader");
    under_load(&mut || cluster.kill9(leader));
    assert_ne!(cluster.leader_of(&topic, 0), Some(leader));
    cluster.restart(leader);
    let coordinator = cluster.coordinator_of(&topic);
    under_load(&mut || cluster.kill9(coordinator));
    assert_ne!(cluster.coordinator_of(&topic), coordinator);
    cluster.restart(coordinator);

    checker.assert(&[Session::new(decoded(&subscriber.messages()))]);
    route.relay.wait_status("all of it to be committed", DEADLINE, |status| {
        shown_committed(status, 0).values().sum::<i64>() == checker.len() as i64
    });
    route.relay.wait_ready();
    assert!(!route.relay.log().contains("partitions lost"), "{}", route.relay.log());
}
