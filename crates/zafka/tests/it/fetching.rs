//! Stories of the fast fetcher alone: topics that are deleted or recreated, quotas, large answers,
//! many partitions, and stalled partitions.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use zafka_testkit::{
    Admin, KafkaNode, LibzmqSub, Record, Sequence, Session, Zafka, unique, wait_until,
};

use crate::common::{OneRoute, RouteToml, counter, endpoint, is_at, partition, relay_toml};
use crate::flow::{expecting, load, shown_committed};
use crate::{DEADLINE, ZAFKA, decoded};

/// The API key of Fetch.
const FETCH: i16 = 1;

fn admin() -> &'static Admin {
    KafkaNode::shared().admin()
}

fn lossless(from: &str) -> OneRoute {
    OneRoute::lossless(KafkaNode::shared().bootstrap(), from)
}

fn write(topic: &str, life: &str, count: usize) {
    let records: Vec<_> = (0..count).map(|at| Record::new("k", format!("{life} {at}"))).collect();
    admin().produce(topic, &records);
}

fn resident_bytes(route: &mut OneRoute) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", route.relay.process().pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells it");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
#[ignore = "needs Java and Maven"]
fn a_topic_made_again_is_noticed_without_asking_for_topics() {
    for (group, protocol) in [(false, ""), (true, "consumer"), (true, "classic")] {
        // The second life has fewer records than were read of the first, as many, or more.
        for count in [5, 10, 30] {
            let topic = unique("again");
            admin().create_topic(&topic, 1, &[]);
            write(&topic, "old", 10);
            let in_group = format!(r#", group = "{topic}", group_protocol = "{protocol}""#);
            let from = format!(r#"topics = ["{topic}"], start = "earliest", topic_refresh = "1h""#);
            let mut route = lossless(&(from + if group { &in_group } else { "" }));
            let subscriber = route.subscribe(&[&topic]);
            route
                .relay
                .wait_status("the first life", DEADLINE, |status| is_at(status, &topic, 0, 10));
            admin().delete_topic(&topic);
            admin().create_topic(&topic, 1, &[]);
            write(&topic, "new", count);
            let messages = decoded(&subscriber.wait_messages(10 + count, DEADLINE));
            let values =
                messages[10..].iter().map(|m| String::from_utf8(m.value.clone().unwrap()).unwrap());
            let expected: Vec<_> = (0..count).map(|at| format!("new {at}")).collect();
            assert_eq!(values.collect::<Vec<_>>(), expected, "{protocol}, {count} records");
            assert_eq!(messages[10].prev, None);
            let end =
                route.relay.wait_status("the end", DEADLINE, |s| is_at(s, &topic, 0, count as i64));
            assert_eq!(counter(&end, "offset_resets"), 1);
            route
                .relay
                .wait_log("topic recreated (new topic id); resuming from its start", DEADLINE);
            wait_until("the end to be committed", DEADLINE, || {
                !group
                    || admin().committed(&topic).get(&(topic.clone(), 0)) == Some(&(count as i64))
            });
        }
    }
}

#[test]
#[ignore = "needs Java and Maven"]
fn a_topic_that_goes_is_told_and_the_others_go_on() {
    let [gone, kept] = [unique("gone"), unique("kept")];
    for topic in [&gone, &kept] {
        admin().create_topic(topic, 2, &[]);
        write(topic, "old", 10);
    }
    let mut route = lossless(&format!(
        r#"topics = ["{gone}", "{kept}"], start = "earliest", topic_refresh = "1s""#
    ));
    let subscriber = route.subscribe(&[""]);
    subscriber.wait_messages(20, DEADLINE);
    admin().delete_topic(&gone);
    wait_until("readyz to name the topic", DEADLINE, || {
        route.relay.get("/readyz").is_ok_and(|(code, body)| code == 503 && body.contains(&gone))
    });
    let before = route.relay.log().lines().count();
    for round in 1..=100 {
        write(&kept, "more", 1);
        subscriber.wait_messages(20 + round, DEADLINE);
        sleep(Duration::from_millis(30));
    }
    let lines = route.relay.log().lines().count() - before;
    assert!(lines < 10, "a flood of {lines} lines:\n{}", route.relay.log());
    admin().create_topic(&gone, 2, &[]);
    write(&gone, "new", 10);
    subscriber.wait_messages(130, DEADLINE);
    route.relay.wait_ready();
    assert_eq!(subscriber.count(), 130);
}

#[test]
#[ignore = "needs Java and Maven"]
fn a_quota_is_kept_to_and_nothing_is_lost() {
    // A node of its own: a quota is for every client.
    let kafka = KafkaNode::start();
    let topic = unique("quota");
    kafka.admin().create_topic(&topic, 3, &[]);
    kafka.admin().limit_consumers(Some(250_000));
    let records =
        Sequence { partitions: vec![0, 1, 2], value_size: 1_000, ..Sequence::new(&topic, 4_000) };
    let produced = kafka.admin().produce_sequence(&records);
    let from = format!(r#"topics = ["{topic}"], group = "{topic}", start = "earliest""#);
    let endpoint = endpoint();
    let to = format!(r#"bind = ["{endpoint}"], slow_peer = "block", min_peers = 1"#);
    let toml =
        relay_toml(kafka.bootstrap(), &[RouteToml { name: "limited", from: &from, to: &to }]);
    let mut relay = Zafka::run_with(ZAFKA, &toml, &[("RUST_LOG", "zafka_kafka=debug")]);
    let subscriber = LibzmqSub::connect(&endpoint, &[&topic]);
    let messages = decoded(&subscriber.wait_messages(4_000, DEADLINE));
    expecting(&[(&records, &produced)]).assert(&[Session::new(messages)]);
    assert!(relay.log().contains("throttled"), "the node did not limit it: {}", relay.log());
    let status = relay.wait_status("all of it to be committed", DEADLINE, |status| {
        shown_committed(status, 0).values().sum::<i64>() == 4_000
    });
    assert_eq!((counter(&status, "kafka_errors"), counter(&status, "rebalances")), (0, 1));
}

#[test]
#[ignore = "needs Java and Maven"]
fn records_larger_than_all_limits_come_from_many_partitions_in_bounded_memory() {
    const LARGE: usize = 10_000_000;
    let topic = unique("large");
    admin().create_topic(&topic, 6, &[("max.message.bytes", "20000000")]);
    let mut checker = expecting(&[]);
    let mut first = 0;
    for (count, value_size) in [(600, 100), (6, LARGE), (600, 1_000), (6, LARGE), (6, 100)] {
        let partitions = (0..6).collect();
        let records = Sequence { first, value_size, partitions, ..Sequence::new(&topic, count) };
        checker.expect_sequence(&records, &admin().produce_sequence(&records));
        first += count as u64;
    }
    let from = format!(r#"topics = ["{topic}"], start = "earliest""#);
    let to = r#"slow_peer = "block", min_peers = 1, ring_bytes = "1 MiB""#;
    let mut route = OneRoute::start(KafkaNode::shared().bootstrap(), &from, to);
    let subscriber = route.subscribe(&[&topic]);
    let messages = subscriber.wait_messages(first as usize, DEADLINE);
    checker.assert(&[Session::new(decoded(&messages))]);
    let resident = resident_bytes(&mut route);
    println!("{} MiB resident at most", resident >> 20);
    // 120 MB went through. An answer, an encoded message, and what the kernel and the allocator
    // keep of them.
    assert!(resident < 100_000_000, "{} MB resident", resident / 1_000_000);
}

#[test]
#[ignore = "needs Java and Maven"]
fn a_trickle_over_a_thousand_partitions_comes_in_order() {
    const PARTITIONS: i32 = 1_000;
    let topic = unique("thousand");
    admin().create_topic(&topic, PARTITIONS, &[]);
    let from = format!(r#"topics = ["{topic}"], group = "{topic}", start = "earliest""#);
    let mut route = lossless(&from);
    let subscriber = route.subscribe(&[&topic]);
    let held = |status: &Value| status["routes"][0]["partitions"].as_array().map_or(0, Vec::len);
    route
        .relay
        .wait_status("the partitions", DEADLINE, |status| held(status) == PARTITIONS as usize);
    let records = load(&topic, PARTITIONS, 4_000, 500);
    let writing = KafkaNode::shared().admin().produce_in_background(records.clone());
    wait_until("the first records", DEADLINE, || subscriber.count() > 0);
    let produced = writing.join();
    let messages = decoded(&subscriber.wait_messages(records.count, DEADLINE));
    expecting(&[(&records, &produced)]).assert(&[Session::new(messages)]);
    route.relay.wait_status("all of it to be committed", DEADLINE, |status| {
        shown_committed(status, 0).values().sum::<i64>() == 4_000
    });
    route.relay.wait_ready();
    admin().delete_topic(&topic);
}

#[test]
#[ignore = "needs Java and Maven"]
fn a_partition_that_stands_still_is_told_until_it_goes_on() {
    let (kafka, proxy) = KafkaNode::start_behind_proxy();
    let topic = unique("still");
    kafka.admin().create_topic(&topic, 2, &[]);
    let from = format!(
        r#"topics = ["{topic}"], group = "{topic}", start = "earliest", stall_timeout = "2s""#
    );
    let mut route = OneRoute::lossless(kafka.bootstrap(), &from);
    let subscriber = route.subscribe(&[&topic]);
    let records = Sequence { partitions: vec![0, 1], ..Sequence::new(&topic, 1_000) };
    let mut checker = expecting(&[(&records, &kafka.admin().produce_sequence(&records))]);
    subscriber.wait_messages(1_000, DEADLINE);
    let metric = |route: &OneRoute| {
        let (_, text) = route.relay.get("/metrics").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("zafka_partitions_stalled{"));
        line.and_then(|line| line.split(' ').nth(1)).map(str::to_owned)
    };
    assert_eq!(metric(&route).as_deref(), Some("0"));

    // Fetch requests vanish; the membership, which has connections of its own, lives on.
    proxy.swallow(FETCH);
    wait_until("the request under way to be answered", DEADLINE, || proxy.swallowed() > 0);
    let more = Sequence { first: 1_000, partitions: vec![1], ..Sequence::new(&topic, 1_000) };
    checker.expect_sequence(&more, &kafka.admin().produce_sequence(&more));
    route.relay.wait_status("the stall", DEADLINE, |status| {
        status["routes"][0]["partitions_stalled"] == 1
    });
    let (code, body) = route.relay.get("/readyz").unwrap();
    // A broker that has given no answer for five seconds is told before the stall.
    let said = body.contains(&format!("{topic}/1 stalled at offset"))
        || body.contains("no answer to a fetch");
    assert!(code == 503 && said, "{body}");
    assert_eq!(metric(&route).as_deref(), Some("1"));
    let stalls = |route: &OneRoute| -> Vec<String> {
        let log = route.relay.log();
        log.lines().filter(|line| line.contains("partition stalled")).map(str::to_owned).collect()
    };
    let told = stalls(&route);
    assert!(
        told.len() == 1 && told[0].contains(&topic) && told[0].contains("partition=1"),
        "{told:?}"
    );

    proxy.resume();
    checker.assert(&[Session::new(decoded(&subscriber.wait_messages(2_000, DEADLINE)))]);
    route.relay.wait_log("partition resumed", DEADLINE);
    route.relay.wait_ready();
    assert_eq!(metric(&route).as_deref(), Some("0"));
    assert_eq!(stalls(&route), told, "it is told once");
    let status = route.relay.status().expect("it runs");
    assert_eq!(counter(&status, "rebalances"), 1, "the membership was not lost");
}

#[test]
#[ignore = "needs Java and Maven"]
fn a_partition_that_waits_for_good_reason_is_not_told() {
    let [held, full] = [unique("held"), unique("full")];
    for topic in [&held, &full] {
        admin().create_topic(topic, 1, &[]);
    }
    // One waits for a transaction to end, the other for a subscriber to come.
    let transaction = unique("open");
    write(&held, "before", 10);
    admin().begin(&transaction);
    admin().produce_as(&held, &[Record::new("k", "in it")], "none", Some(&transaction));
    admin().flush(&transaction);
    write(&held, "after", 10);
    write(&full, "unheard", 10);
    let keys = r#"start = "earliest", stall_timeout = "1s""#;
    let mut routes =
        [&held, &full].map(|topic| lossless(&format!(r#"topics = ["{topic}"], {keys}"#)));
    let subscriber = routes[0].subscribe(&[&held]);
    routes[0].relay.wait_status("the last stable offset", DEADLINE, |s| is_at(s, &held, 0, 10));
    routes[1].relay.wait_status("the lag", DEADLINE, |s| partition(s, &full, 0)["lag"] == 10);
    for route in &mut routes {
        let none = |status: &Value| status["routes"][0]["partitions_stalled"] == 0;
        route.relay.wait_status("nothing to stall", DEADLINE, none);
    }
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        for route in &mut routes {
            let status = route.relay.status().expect("it runs");
            assert_eq!(status["routes"][0]["partitions_stalled"], 0, "{status:#}");
        }
        sleep(Duration::from_millis(100));
    }
    admin().commit(&transaction);
    subscriber.wait_messages(21, DEADLINE);
    routes[1].subscribe(&[&full]).wait_messages(10, DEADLINE);
}
