//! Replicas, for the fast fetcher: preferred ones, dead ones, and one that leads with a shorter
//! log.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use zafka_testkit::{
    Admin, KafkaCluster, Kind, LibzmqSub, Peer, Record, Sequence, Session, Zafka, sequence_value,
    unique, wait_until,
};

use crate::common::{OneRoute, RouteToml, counter, endpoint, is_at, partition, relay_toml};
use crate::flow::{expecting, flood, wait_subscribed};
use crate::{DEADLINE, ZAFKA, decoded};

/// The cluster of three nodes that tests break in turn; each finds all of its nodes running.
pub fn cluster() -> MutexGuard<'static, KafkaCluster> {
    static CLUSTER: LazyLock<Mutex<KafkaCluster>> =
        LazyLock::new(|| Mutex::new(KafkaCluster::start(3)));
    // A test that failed with it left it as it was.
    let mut cluster = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    cluster.revive();
    cluster
}

/// Returns all of its addresses, as the inside of a list of TOML.
pub fn bootstrap(cluster: &KafkaCluster) -> String {
    cluster.bootstrap().replace(',', "\", \"")
}

fn write(admin: &Admin, topic: &str, life: &str, count: usize) {
    let records: Vec<_> = (0..count).map(|at| Record::new("k", format!("{life} {at}"))).collect();
    // A producer of its own for each life: none has written what an election took away.
    let compression = if life == "new" { "lz4" } else { "none" };
    admin.produce_as(topic, &records, compression, None);
}

fn in_sync(admin: &Admin, topic: &str) -> usize {
    admin.try_describe(topic).map_or(0, |topic| topic.partition(0).isr.len())
}

/// Offsets and values from the message `from` on.
fn read(subscriber: &LibzmqSub, from: usize) -> Vec<(i64, String)> {
    let messages = decoded(&subscriber.messages()[from..]);
    messages.into_iter().map(|m| (m.offset, String::from_utf8(m.value.unwrap()).unwrap())).collect()
}

fn written(life: &str, from: i64, count: i64) -> Vec<(i64, String)> {
    (0..count).map(|at| (from + at, format!("{life} {at}"))).collect()
}

#[test]
#[ignore = "needs Java and Maven"]
fn a_log_that_an_unclean_election_cut_is_read_on_from_there() {
    let mut cluster = cluster();
    let admin = cluster.admin().clone();
    let topic = unique("unclean");
    let configs = [("unclean.leader.election.enable", "true"), ("min.insync.replicas", "1")];
    admin.create_topic_on(&topic, &[vec![1, 2]], &configs);
    admin.set_session_timeout(&topic, 60);
    let from = format!(r#"topics = ["{topic}"], start = "earliest""#);
    let mut asleep =
        OneRoute::lossless(&bootstrap(&cluster), &format!(r#"{from}, group = "{topic}""#));
    let mut gone =
        OneRoute::lossless(&bootstrap(&cluster), &format!(r#"{from}, group = "{topic}-gone""#));
    let mut awake = OneRoute::lossless(&bootstrap(&cluster), &from);
    let subscribers = [&asleep, &gone, &awake].map(|route| route.subscribe(&[&topic]));
    write(&admin, &topic, "old", 100);
    wait_until("both replicas to have them", DEADLINE, || in_sync(&admin, &topic) == 2);
    cluster.kill9(2);
    // Written once the cluster has given the follower up.
    write(&admin, &topic, "lost", 50);
    for (route, subscriber) in [&mut asleep, &mut gone, &mut awake].into_iter().zip(&subscribers) {
        subscriber.wait_messages(150, DEADLINE);
        route
            .relay
            .wait_status("all of it delivered", DEADLINE, |status| is_at(status, &topic, 0, 150));
    }
    let groups = [topic.clone(), format!("{topic}-gone")];
    let wait_committed = |offset: i64| {
        wait_until("all of it to be committed", DEADLINE, || {
            let committed =
                |group: &String| admin.committed(group).get(&(topic.clone(), 0)) == Some(&offset);
            groups.iter().all(committed)
        });
    };
    wait_committed(150);

    // One relay sleeps, and one is away, until the new log is past the offset that they go on from:
    // only the epoch tells them apart.
    asleep.relay.process().stop();
    gone.relay.terminate();
    assert!(gone.relay.wait_exit(DEADLINE).success(), "{}", gone.relay.log());
    cluster.kill9(1);
    cluster.restart(2);
    wait_until("the shorter replica to lead", DEADLINE, || cluster.leader_of(&topic, 0) == Some(2));
    awake.relay.wait_log("log truncated below fetch offset", DEADLINE);
    write(&admin, &topic, "new", 100);
    asleep.relay.process().cont();
    gone.start_again();
    for route in [&mut asleep, &mut gone] {
        route.relay.wait_log("log truncated below fetch offset", DEADLINE);
    }

    cluster.restart(1);
    wait_until("the first replica to follow", DEADLINE, || in_sync(&admin, &topic) == 2);
    admin.move_leader(&topic, 0, 1);
    write(&admin, &topic, "last", 10);
    for (route, subscriber) in [&mut asleep, &mut gone, &mut awake].into_iter().zip(&subscribers) {
        let messages = decoded(&subscriber.wait_messages(260, DEADLINE));
        assert_eq!(messages[150].prev, None, "what is before the cut is not what was read");
        let all = [written("old", 0, 100), written("lost", 100, 50), written("new", 100, 100)];
        assert_eq!(read(subscriber, 0), [all.concat(), written("last", 200, 10)].concat());
        let end =
            route.relay.wait_status("the end", DEADLINE, |status| is_at(status, &topic, 0, 210));
        assert_eq!((counter(&end, "offset_resets"), counter(&end, "records_skipped")), (1, 0));
        route.relay.wait_ready();
    }
    wait_committed(210);
}

/// The records that a subscriber lacks, by offset.
fn lacks(subscriber: &Peer, records: &Sequence, offsets: Range<i64>) -> Vec<i64> {
    let messages = decoded(&subscriber.messages());
    let had: HashSet<_> =
        messages.into_iter().map(|m| (m.offset, m.value.unwrap_or_default())).collect();
    let value =
        |at: i64| sequence_value(records.first + (at - offsets.start) as u64, records.value_size);
    offsets.clone().filter(|at| !had.contains(&(*at, value(*at)))).collect()
}

/// A subscriber holds the rest while an election truncates the log above what it has had; then the
/// relay ends, by itself or not. What Kafka still has comes.
#[test]
#[ignore = "needs Java and Maven, and Python"]
fn what_a_subscriber_held_up_when_the_log_was_cut_above_it_is_not_lost() {
    const KEPT: i64 = 9_000;
    const LOST: i64 = 500;
    let mut cluster = cluster();
    let admin = cluster.admin().clone();
    let topic = unique("held");
    let configs = [("unclean.leader.election.enable", "true"), ("min.insync.replicas", "1")];
    admin.create_topic_on(&topic, &[vec![1, 2]], &configs);
    // Records for more than the connection takes, and for less than the ring: buffers that are
    // partly filled count too.
    let to = r#"slow_peer = "block", min_peers = 1, ring_bytes = "64 MiB""#;
    let groups = ["terminated", "killed"].map(|end| format!("{topic}-{end}"));
    let mut held = groups.each_ref().map(|group| {
        let from = format!(r#"topics = ["{topic}"], start = "earliest", group = "{group}""#);
        let top = "shutdown_timeout = \"1s\"\n";
        let mut route = OneRoute::start_with(top, &bootstrap(&cluster), &from, to);
        let mut subscriber = Peer::spawn(Kind::Python, route.endpoint(), &[&topic], 0);
        wait_subscribed(&mut route.relay, 0, 1);
        subscriber.stop();
        (route, subscriber)
    });
    let written = |first: i64, count: i64| {
        let records = flood(&topic, 1, count as usize);
        let records = Sequence { first: first as u64, ..records };
        admin.produce_sequence(&records);
        records
    };
    let kept = written(0, KEPT);
    wait_until("both replicas to have them", DEADLINE, || in_sync(&admin, &topic) == 2);
    cluster.kill9(2);
    written(100_000, LOST);
    for (route, _) in &mut held {
        route.relay.wait_status("all of it read and some of it delivered", DEADLINE, |status| {
            let found = partition(status, &topic, 0);
            found["read"] == KEPT + LOST && found["delivered"].as_i64() > Some(0)
        });
    }
    cluster.kill9(1);
    cluster.restart(2);
    wait_until("the shorter replica to lead", DEADLINE, || cluster.leader_of(&topic, 0) == Some(2));
    for (route, _) in &mut held {
        route.relay.wait_log("log truncated below fetch offset", DEADLINE);
        let status = route.relay.wait_status("the end of the log", DEADLINE, |status| {
            partition(status, &topic, 0)["read"] == KEPT
        });
        let delivered = partition(&status, &topic, 0)["delivered"].as_i64();
        assert!(delivered < Some(KEPT), "nothing is left to lose: {status:#}");
    }
    // Long enough for a commit of what was not delivered.
    sleep(Duration::from_millis(2500));
    let [(terminated, _), (killed, _)] = &mut held;
    terminated.relay.terminate();
    assert!(terminated.relay.wait_exit(DEADLINE).success(), "{}", terminated.relay.log());
    killed.relay.kill9();
    for group in &groups {
        let committed = admin.committed(group)[&(topic.clone(), 0)];
        assert!(committed < KEPT, "{group}: {committed} was not delivered");
    }
    let new = written(200_000, 100);
    for ((route, subscriber), group) in held.iter_mut().zip(&groups) {
        subscriber.cont();
        route.start_again();
        wait_until("all that Kafka has to come", 2 * DEADLINE, || {
            lacks(subscriber, &kept, 0..KEPT).is_empty()
                && lacks(subscriber, &new, KEPT..KEPT + 100).is_empty()
        });
        route.relay.wait_status("the end", DEADLINE, |status| is_at(status, &topic, 0, KEPT + 100));
        wait_until("the end to be committed", DEADLINE, || {
            admin.committed(group).get(&(topic.clone(), 0)) == Some(&(KEPT + 100))
        });
    }
}

#[test]
#[ignore = "needs Java and Maven"]
fn the_replica_of_the_same_rack_is_fetched_from_while_it_is_there() {
    const COUNT: usize = 1_000;
    const BYTES: u64 = 1_000 * COUNT as u64;
    let mut cluster = cluster();
    let admin = cluster.admin().clone();
    let topic = unique("rack");
    admin.create_topic_on(&topic, &[vec![1, 3]], &[("min.insync.replicas", "1")]);
    wait_until("the first to lead, both in sync", DEADLINE, || {
        (cluster.leader_of(&topic, 0), in_sync(&admin, &topic)) == (Some(1), 2)
    });
    let endpoint = endpoint();
    let from = format!(r#"topics = ["{topic}"], start = "earliest""#);
    let to = format!(r#"bind = ["{endpoint}"], slow_peer = "block", min_peers = 1"#);
    let toml =
        relay_toml(&bootstrap(&cluster), &[RouteToml { name: "near", from: &from, to: &to }]);
    let mut relay =
        Zafka::run(ZAFKA, &toml.replacen("[[route]]", "client_rack = \"rack-3\"\n[[route]]", 1));
    let subscriber = LibzmqSub::connect(&endpoint, &[&topic]);
    let mut checker = expecting(&[]);
    // Writes records and waits for them: the bytes that nodes 1 and 3 have sent of them.
    let mut relayed = |cluster: &mut KafkaCluster| -> [u64; 2] {
        let before = [1, 3].map(|id| cluster.bytes_out(id, &topic));
        let first = checker.len() as u64;
        let records = Sequence { first, value_size: 1_000, ..Sequence::new(&topic, COUNT) };
        checker.expect_sequence(&records, &admin.produce_sequence(&records));
        checker
            .assert(&[Session::new(decoded(&subscriber.wait_messages(checker.len(), DEADLINE)))]);
        let after = [1, 3].map(|id| cluster.bytes_out(id, &topic));
        [0, 1].map(|at| after[at] - before[at])
    };
    relayed(&mut cluster);
    relay.wait_log("fetching from preferred replica", DEADLINE);
    let [leader, near] = relayed(&mut cluster);
    assert!(
        leader < BYTES / 10 && near >= BYTES,
        "the leader has sent {leader} bytes, the replica {near}"
    );

    cluster.kill9(3);
    let [leader, _] = relayed(&mut cluster);
    assert!(leader >= BYTES, "the leader has sent {leader} bytes while the replica was away");
    cluster.restart(3);
    // Once it is in sync again.
    wait_until("the replica to be fetched from again", DEADLINE, || {
        relayed(&mut cluster)[1] >= BYTES
    });
    admin.move_leader(&topic, 0, 3);
    let [_, near] = relayed(&mut cluster);
    assert!(near >= BYTES, "the replica, which leads now, has sent {near} bytes");
    relay.wait_ready();
}

/// A broker whose listener for clients, or what stands before it, is broken while it replicates as
/// ever.
#[test]
#[ignore = "needs Java and Maven"]
fn a_replica_of_the_same_rack_that_no_client_reaches_keeps_no_record_back() {
    let (cluster, proxy) = KafkaCluster::start_behind_proxy(2, 2);
    proxy.refuse();
    let admin = cluster.admin();
    let topic = unique("unreached");
    admin.create_topic_on(&topic, &[vec![1, 2]], &[]);
    let endpoint = endpoint();
    let from = format!(r#"topics = ["{topic}"], start = "earliest""#);
    let to = format!(r#"bind = ["{endpoint}"], slow_peer = "block", min_peers = 1"#);
    let toml = relay_toml(cluster.node(1), &[RouteToml { name: "near", from: &from, to: &to }]);
    let mut relay =
        Zafka::run(ZAFKA, &toml.replacen("[[route]]", "client_rack = \"rack-2\"\n[[route]]", 1));
    let subscriber = LibzmqSub::connect(&endpoint, &[&topic]);
    let mut checker = expecting(&[]);
    let mut relayed = |count: usize| {
        let records = Sequence { first: checker.len() as u64, ..Sequence::new(&topic, count) };
        checker.expect_sequence(&records, &admin.produce_sequence(&records));
        checker
            .assert(&[Session::new(decoded(&subscriber.wait_messages(checker.len(), DEADLINE)))]);
    };
    relayed(100);
    assert_eq!(in_sync(admin, &topic), 2, "the leader goes on naming it");
    relay.wait_ready();
    proxy.resume();
    relay.wait_log("fetching from preferred replica", DEADLINE);
    relayed(100);
    proxy.refuse();
    relayed(100);
    assert_eq!(in_sync(admin, &topic), 2);
    assert!(!relay.log().contains("stalled"), "{}", relay.log());
}

/// The leader goes while it is asked for more; records that are written to the next one come.
fn leader_goes(go: impl Fn(&mut KafkaCluster, usize)) {
    let mut cluster = cluster();
    let admin = cluster.admin().clone();
    let topic = unique("leader");
    admin.create_topic_on(&topic, &[vec![1, 2, 3]], &[]);
    let from = format!(r#"topics = ["{topic}"], start = "earliest""#);
    let mut route = OneRoute::lossless(&bootstrap(&cluster), &from);
    let subscriber = route.subscribe(&[&topic]);
    let before = Sequence::new(&topic, 1_000);
    let mut checker = expecting(&[(&before, &admin.produce_sequence(&before))]);
    subscriber.wait_messages(1_000, DEADLINE);
    go(&mut cluster, 1);
    wait_until("another leader", DEADLINE, || {
        cluster.leader_of(&topic, 0).is_some_and(|leader| leader != 1)
    });
    let began = Instant::now();
    // By a producer that has nothing under way to the old leader.
    let after =
        Sequence { first: 1_000, compression: "lz4".to_owned(), ..Sequence::new(&topic, 1_000) };
    checker.expect_sequence(&after, &admin.produce_sequence(&after));
    let written = began.elapsed();
    let messages = decoded(&subscriber.wait_messages(2_000, DEADLINE));
    println!(
        "after another leader was there: written in {written:?}, relayed in {:?}",
        began.elapsed()
    );
    checker.assert(&[Session::new(messages)]);
    route.relay.wait_ready();
    assert_eq!(counter(&route.relay.status().expect("it runs"), "offset_resets"), 0);
}

#[test]
#[ignore = "needs Java and Maven"]
fn fetching_goes_on_from_the_new_leader_when_the_old_one_is_killed() {
    leader_goes(KafkaCluster::kill9);
}

#[test]
#[ignore = "needs Java and Maven"]
fn fetching_goes_on_from_the_new_leader_when_the_old_one_stands_still() {
    leader_goes(|cluster, id| cluster.stop_process(id));
}
