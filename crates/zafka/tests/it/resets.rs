//! Offsets that the log no longer has, and topics that are recreated.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use zafka_testkit::{Admin, KafkaNode, LibzmqSub, Record, Zafka, unique, wait_until};

use crate::common::{
    Fetcher, OneRoute, RouteToml, counter, endpoint, is_at, partition, relay_toml,
};
use crate::{DEADLINE, ZAFKA, decoded};

fn admin() -> &'static Admin {
    KafkaNode::shared().admin()
}

/// A new topic of one partition with `count` records.
fn topic(count: usize) -> String {
    let topic = unique("resets");
    admin().create_topic(&topic, 1, &[]);
    write(&topic, "old", count);
    topic
}

/// Writes records whose values are `life` and a number.
fn write(topic: &str, life: &str, count: usize) {
    let records: Vec<_> = (0..count).map(|at| Record::new("k", format!("{life} {at}"))).collect();
    admin().produce(topic, &records);
}

/// A topic of 20 records that begins at 10, and a group of the same name at `committed`.
fn cut_topic(committed: i64) -> String {
    let topic = topic(20);
    admin().alter_offset(&topic, &topic, 0, committed);
    admin().delete_records(&topic, 0, 10);
    topic
}

fn from(fetcher: Fetcher, topic: &str, more: &str) -> String {
    format!(r#"topics = ["{topic}"], group = "{topic}", start = "latest", {fetcher}, {more}"#)
}

on_both_fetchers!(
    what_was_deleted_is_counted_and_the_route_goes_on_at_the_earliest,
    "needs Java and Maven"
);
fn what_was_deleted_is_counted_and_the_route_goes_on_at_the_earliest(fetcher: Fetcher) {
    // Offset committed, records skipped; 10 is the first that is there, 20 the end, 25 behind it.
    for (committed, skipped, resets, first) in
        [(5, 5, 1, 10), (0, 10, 1, 10), (10, 0, 0, 10), (25, 0, 1, 10)]
    {
        let topic = cut_topic(committed);
        let mut route =
            OneRoute::lossless(KafkaNode::shared().bootstrap(), &from(fetcher, &topic, ""));
        let subscriber = route.subscribe(&[&topic]);
        let messages = decoded(&subscriber.wait_messages((20 - first) as usize, DEADLINE));
        let offsets: Vec<_> = messages.iter().map(|message| message.offset).collect();
        assert_eq!(offsets, (first..20).collect::<Vec<_>>(), "committed at {committed}");
        assert_eq!(messages[0].prev, None, "committed at {committed}");
        let status =
            route.relay.wait_status("the end", DEADLINE, |status| is_at(status, &topic, 0, 20));
        let counted = (counter(&status, "records_skipped"), counter(&status, "offset_resets"));
        assert_eq!(counted, (skipped, resets), "committed at {committed}");
        if resets > 0 {
            route.relay.wait_log("offset reset", DEADLINE);
        }
        wait_until("the end to be committed", DEADLINE, || {
            admin().committed(&topic).get(&(topic.clone(), 0)) == Some(&20)
        });
    }
}

on_both_fetchers!(records_that_go_while_the_route_waits_are_counted, "needs Java and Maven");
fn records_that_go_while_the_route_waits_are_counted(fetcher: Fetcher) {
    let topic = topic(20);
    let mut route = OneRoute::lossless(
        KafkaNode::shared().bootstrap(),
        &format!(r#"topics = ["{topic}"], start = "earliest", {fetcher}"#),
    );
    route
        .relay
        .wait_status("the partition", DEADLINE, |status| partition(status, &topic, 0)["read"] == 0);
    admin().delete_records(&topic, 0, 15);
    let subscriber = route.subscribe(&[&topic]);
    route.relay.wait_status("the end", DEADLINE, |status| is_at(status, &topic, 0, 20));
    // What was fetched ahead before the records went may come; what does not is counted.
    let skipped = counter(&route.relay.status().expect("it runs"), "records_skipped") as usize;
    assert!(skipped <= 15, "{skipped}");
    assert_eq!(subscriber.wait_messages(20 - skipped, DEADLINE).len(), 20 - skipped);
}

on_both_fetchers!(a_route_may_stop_where_records_are_gone, "needs Java and Maven");
fn a_route_may_stop_where_records_are_gone(fetcher: Fetcher) {
    for committed in [5, 25] {
        let topic = cut_topic(committed);
        let stop = from(fetcher, &topic, r#"on_out_of_range = "stop""#);
        let mut route = OneRoute::lossless(KafkaNode::shared().bootstrap(), &stop);
        let subscriber = route.subscribe(&[&topic]);
        let status = route.relay.wait_exit(DEADLINE);
        assert!(!status.success());
        let log = route.relay.log();
        assert!(log.contains("every route has stopped") && log.contains(&topic), "{log}");
        assert!(log.contains(&committed.to_string()), "the offset that is gone: {log}");
        assert_eq!(subscriber.count(), 0);
        assert_eq!(admin().committed(&topic).get(&(topic.clone(), 0)), Some(&committed));
    }
}

on_both_fetchers!(a_route_that_stopped_is_told_of_while_others_go_on, "needs Java and Maven");
fn a_route_that_stopped_is_told_of_while_others_go_on(fetcher: Fetcher) {
    let [gone, kept] = [cut_topic(5), topic(20)];
    let [first, second] = [endpoint(), endpoint()];
    let served = |at: &str| format!(r#"bind = ["{at}"], slow_peer = "block""#);
    let routes = [
        RouteToml {
            name: "gone",
            from: &from(fetcher, &gone, r#"on_out_of_range = "stop""#),
            to: &served(&first),
        },
        RouteToml { name: "kept", from: &from(fetcher, &kept, ""), to: &served(&second) },
    ];
    let mut relay = Zafka::run(ZAFKA, &relay_toml(KafkaNode::shared().bootstrap(), &routes));
    let status = relay.wait_status("the route to stop", DEADLINE, |status| {
        status["routes"][0]["stopped"] == true
    });
    let reason = status["routes"][0]["reason"].as_str().expect("a reason");
    assert!(reason.contains(&gone), "{reason}");
    wait_until("readyz to name that route alone", DEADLINE, || {
        let Ok((503, body)) = relay.get("/readyz") else { return false };
        let answer: Value = serde_json::from_str(&body).unwrap();
        answer["not_ready"] == json!([{ "route": "gone", "reason": reason }])
    });
    let subscriber = LibzmqSub::connect(&second, &[&kept]);
    relay.wait_status("the subscriber", DEADLINE, |status| {
        status["routes"][1]["peers_subscribed"] == 1
    });
    write(&kept, "more", 5);
    subscriber.wait_messages(5, DEADLINE);
    relay.terminate();
    relay.wait_exit(DEADLINE);
}

on_both_fetchers!(a_topic_made_again_is_read_from_its_start, "needs Java and Maven");
fn a_topic_made_again_is_read_from_its_start(fetcher: Fetcher) {
    for group in [Some("consumer"), Some("classic"), None] {
        // The second life has fewer records than were read of the first, or more.
        for count in [5, 30] {
            let topic = topic(10);
            let in_group = group
                .map(|protocol| format!(r#", group = "{topic}", group_protocol = "{protocol}""#));
            let in_group = in_group.unwrap_or_default();
            let from = format!(
                "topics = [\"{topic}\"], start = \"earliest\", topic_refresh = \"1s\", \
                 {fetcher}{in_group}"
            );
            let mut route = OneRoute::lossless(KafkaNode::shared().bootstrap(), &from);
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
            assert_eq!(values.collect::<Vec<_>>(), expected, "group: {group:?}, {count} records");
            assert_eq!(messages[10].prev, None);
            route.relay.wait_status("the end", DEADLINE, |s| is_at(s, &topic, 0, count as i64));
        }
    }
}

on_both_fetchers!(
    a_topic_made_again_between_two_listings_is_read_from_its_start,
    "needs Java and Maven"
);
fn a_topic_made_again_between_two_listings_is_read_from_its_start(fetcher: Fetcher) {
    let topic = topic(10);
    // So late that librdkafka's membership does not miss the topic in between.
    let keys = r#"start = "earliest", topic_refresh = "10s""#;
    let from = format!(r#"topics = ["{topic}"], group = "{topic}", {keys}, {fetcher}"#);
    let mut route = OneRoute::lossless(KafkaNode::shared().bootstrap(), &from);
    let subscriber = route.subscribe(&[&topic]);
    route.relay.wait_status("the first life", DEADLINE, |status| is_at(status, &topic, 0, 10));
    // A commit that comes once the new one is there would be one of the new one.
    wait_until("the end of it to be committed", DEADLINE, || {
        admin().committed(&topic).get(&(topic.clone(), 0)) == Some(&10)
    });
    admin().delete_topic(&topic);
    admin().create_topic(&topic, 1, &[]);
    write(&topic, "new", 30);
    let lacks = || {
        let had: Vec<_> =
            decoded(&subscriber.messages()).into_iter().map(|m| m.value.unwrap()).collect();
        let new = (0..30).map(|at| format!("new {at}"));
        new.filter(|value| !had.iter().any(|had| *had == value.as_bytes())).collect::<Vec<_>>()
    };
    let deadline = Instant::now() + DEADLINE;
    while !lacks().is_empty() {
        assert!(Instant::now() < deadline, "{:?} did not come\n{}", lacks(), route.relay.log());
        sleep(Duration::from_millis(100));
    }
    route.relay.wait_status("the end", DEADLINE, |status| is_at(status, &topic, 0, 30));
}

on_both_fetchers!(
    a_topic_made_again_is_read_from_its_start_whatever_start_says,
    "needs Java and Maven"
);
fn a_topic_made_again_is_read_from_its_start_whatever_start_says(fetcher: Fetcher) {
    for group in [true, false] {
        let topic = topic(10);
        let in_group = if group { format!(r#", group = "{topic}""#) } else { String::new() };
        let from = format!(
            r#"topics = ["{topic}"], start = "latest", topic_refresh = "1s", {fetcher}{in_group}"#
        );
        let mut route = OneRoute::lossless(KafkaNode::shared().bootstrap(), &from);
        let subscriber = route.subscribe(&[&topic]);
        route.relay.wait_status("the first life", DEADLINE, |status| is_at(status, &topic, 0, 10));
        admin().delete_topic(&topic);
        route.relay.wait_status("the partition to be gone", DEADLINE, |status| {
            partition(status, &topic, 0).is_null() && status["routes"][0]["ready"] == false
        });
        admin().create_topic(&topic, 1, &[]);
        // Before anybody takes it up.
        write(&topic, "new", 5);
        let messages = decoded(&subscriber.wait_messages(5, DEADLINE));
        let offsets: Vec<_> = messages.iter().map(|message| message.offset).collect();
        assert_eq!(offsets, [0, 1, 2, 3, 4], "group: {group}");
        assert!(messages.iter().all(|message| message.value.as_ref().unwrap().starts_with(b"new")));
        route.relay.wait_status("the end", DEADLINE, |status| is_at(status, &topic, 0, 5));
        route.relay.wait_ready();
    }
}
