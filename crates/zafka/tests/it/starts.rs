//! Start offsets of partitions, and the offsets at which they resume.

use std::collections::BTreeMap;

use zafka_testkit::{Admin, KafkaNode, LibzmqSub, Record, unique, wait_until};

use crate::common::{Fetcher, OneRoute, counter, is_at, partition};
use crate::{DEADLINE, decoded};

fn admin() -> &'static Admin {
    KafkaNode::shared().admin()
}

/// A new topic.
fn topic(partitions: i32) -> String {
    let topic = unique("starts");
    admin().create_topic(&topic, partitions, &[]);
    topic
}

/// Writes `count` records to a partition, the value of each its offset as text if it began empty.
fn write(topic: &str, partition: i32, from: i64, count: i64) {
    let record = |at: i64| Record::new("k", at.to_string()).partition(partition);
    let records: Vec<_> = (from..from + count).map(record).collect();
    let produced = admin().produce(topic, &records);
    assert!(produced.iter().zip(from..).all(|(at, offset)| at.offset == offset), "{produced:?}");
}

fn lossless(from: &str) -> OneRoute {
    OneRoute::lossless(KafkaNode::shared().bootstrap(), from)
}

/// Offsets by partition, in the order of arrival.
fn offsets(messages: &[Vec<Vec<u8>>]) -> BTreeMap<(String, i32), Vec<i64>> {
    let mut offsets: BTreeMap<_, Vec<i64>> = BTreeMap::new();
    for message in decoded(messages) {
        offsets.entry((message.topic, message.partition)).or_default().push(message.offset);
    }
    offsets
}

/// Waits until the route is at the end of `topic`, whose partitions end at `ends`, and the
/// subscriber has each from `starts` on.
fn assert_reads(
    route: &mut OneRoute,
    subscriber: &LibzmqSub,
    topic: &str,
    starts: &[i64],
    ends: &[i64],
) {
    route.relay.wait_status("the end", DEADLINE, |status| {
        (0..).zip(ends).all(|(number, end)| is_at(status, topic, number, *end))
    });
    let count: i64 = ends.iter().zip(starts).map(|(end, start)| end - start).sum();
    let status = route.relay.status();
    wait_until(&format!("{count} messages, at {status:#?}"), DEADLINE, || {
        subscriber.count() >= count as usize
    });
    let messages = subscriber.messages();
    let expected: BTreeMap<_, Vec<i64>> = (0..)
        .zip(starts.iter().zip(ends))
        .filter(|(_, (start, end))| start < end)
        .map(|(number, (start, end))| ((topic.to_owned(), number), (*start..*end).collect()))
        .collect();
    assert_eq!(offsets(&messages), expected);
}

on_both_fetchers!(start_is_a_position_or_a_time, "needs Java and Maven");
fn start_is_a_position_or_a_time(fetcher: Fetcher) {
    const DAY: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z
    let topic = topic(2);
    for (number, times) in [(0, [-2_000, -1_000, 0, 1_000]), (1, [-4_000, -3_000, -2_000, -1_000])]
    {
        let record = |time| Record {
            timestamp: Some(DAY + time),
            ..Record::new("k", "v").partition(number)
        };
        admin().produce(&topic, &times.map(record));
    }
    let cases = [
        ("earliest", [0, 0]),
        ("latest", [4, 4]),
        ("2026-01-01T00:00:00Z", [2, 4]),
        ("2026-01-01T01:00:00+01:00", [2, 4]),
        ("2025-12-31T23:59:57.500Z", [0, 2]),
        ("2000-01-01T00:00:00Z", [0, 0]),
        ("2100-01-01T00:00:00Z", [4, 4]),
    ];
    for (start, starts) in cases {
        for group in ["", "group"] {
            let in_group = format!(r#", group = "{topic} {start}""#);
            let from = format!(r#"topics = ["{topic}"], start = "{start}", {fetcher}"#);
            let mut route = lossless(&(from + if group.is_empty() { "" } else { &in_group }));
            route.relay.wait_ready();
            let subscriber = route.subscribe(&[&topic]);
            assert_reads(&mut route, &subscriber, &topic, &starts, &[4, 4]);
        }
    }
}

on_both_fetchers!(
    latest_and_a_time_to_come_are_the_end_when_the_route_begins,
    "needs Java and Maven"
);
fn latest_and_a_time_to_come_are_the_end_when_the_route_begins(fetcher: Fetcher) {
    for start in ["latest", "2100-01-01T00:00:00Z"] {
        let topic = topic(1);
        write(&topic, 0, 0, 10);
        let mut route = lossless(&format!(r#"topics = ["{topic}"], start = "{start}", {fetcher}"#));
        route.relay.wait_ready();
        write(&topic, 0, 10, 10);
        let subscriber = route.subscribe(&[&topic]);
        assert_reads(&mut route, &subscriber, &topic, &[10], &[20]);
        let first = &decoded(&subscriber.messages())[0];
        assert_eq!(first.prev, None, "the route never saw the record before");
    }
}

on_both_fetchers!(a_committed_offset_wins_over_start, "needs Java and Maven");
fn a_committed_offset_wins_over_start(fetcher: Fetcher) {
    for start in ["earliest", "latest", "2000-01-01T00:00:00Z"] {
        let topic = topic(2);
        write(&topic, 0, 0, 10);
        write(&topic, 1, 0, 10);
        admin().alter_offset(&topic, &topic, 0, 5);
        admin().alter_offset(&topic, &topic, 1, 0);
        let from =
            format!(r#"topics = ["{topic}"], group = "{topic}", start = "{start}", {fetcher}"#);
        let mut route = lossless(&from);
        let subscriber = route.subscribe(&[&topic]);
        assert_reads(&mut route, &subscriber, &topic, &[5, 0], &[10, 10]);
    }
}

on_both_fetchers!(latest_that_was_resolved_survives_a_kill, "needs Java and Maven");
fn latest_that_was_resolved_survives_a_kill(fetcher: Fetcher) {
    // A static member takes its own place over at once; the other one's is free after its session.
    for member in [r#""consumer""#, r#""classic", instance = "static""#] {
        let topic = topic(3);
        admin().set_session_timeout(&topic, 6);
        let ends = [10, 0, 3];
        (0..).zip(ends).for_each(|(number, end)| write(&topic, number, 0, end));
        let from = format!(
            "topics = [\"{topic}\"], group = \"{topic}\", start = \"latest\", {fetcher}, \
             group_protocol = {member}"
        );
        // There is no subscriber, so nothing is fetched and nothing delivered.
        let mut route = lossless(&from);
        wait_until("the resolved start to be committed", DEADLINE, || {
            admin().committed(&topic).len() == 3
        });
        let committed = admin().committed(&topic);
        assert_eq!(committed.values().copied().collect::<Vec<_>>(), ends);
        route.relay.kill9();
        (0..).zip(ends).for_each(|(number, end)| write(&topic, number, end, 10));
        route.start_again();
        let subscriber = route.subscribe(&[&topic]);
        assert_reads(&mut route, &subscriber, &topic, &ends, &ends.map(|end| end + 10));
    }
}

on_both_fetchers!(the_start_is_committed_before_the_first_record_is_sent, "needs Java and Maven");
fn the_start_is_committed_before_the_first_record_is_sent(fetcher: Fetcher) {
    let topic = topic(4);
    (0..4).for_each(|number| write(&topic, number, 0, 5_000));
    let from = format!(r#"topics = ["{topic}"], group = "{topic}", start = "earliest", {fetcher}"#);
    let mut route = lossless(&from);
    let subscriber = route.subscribe(&[&topic]);
    let messages = decoded(&subscriber.wait_messages(1, DEADLINE));
    route.relay.kill9();
    let committed = admin().committed(&topic);
    for message in messages {
        let at = committed.get(&(topic.clone(), message.partition));
        assert!(
            at.is_some(),
            "partition {} was sent before its start was committed",
            message.partition
        );
    }
}

on_both_fetchers!(
    without_a_group_every_partition_is_read_and_nothing_committed,
    "needs Java and Maven"
);
fn without_a_group_every_partition_is_read_and_nothing_committed(fetcher: Fetcher) {
    let topic = topic(5);
    (0..5).for_each(|number| write(&topic, number, 0, 100));
    let mut routes: Vec<_> = (0..2)
        .map(|_| {
            let route =
                lossless(&format!(r#"topics = ["{topic}"], start = "earliest", {fetcher}"#));
            let subscriber = route.subscribe(&[&topic]);
            (route, subscriber)
        })
        .collect();
    for (route, subscriber) in &mut routes {
        assert_reads(route, subscriber, &topic, &[0; 5], &[100; 5]);
        let status = route.relay.status().expect("it runs");
        assert_eq!(counter(&status, "commits"), 0);
        assert!(partition(&status, &topic, 0)["committed"].is_null());
        assert!(status["routes"][0]["group"].is_null());
        route.relay.terminate();
        assert!(route.relay.wait_exit(DEADLINE).success(), "{}", route.relay.log());
    }
    // Groups of other tests are named by them; one that zafka made up would not be.
    let ours = format!("-{}-", std::process::id());
    let groups = admin().groups();
    let foreign: Vec<_> =
        groups.keys().filter(|name| name.contains(&topic) || !name.contains(&ours)).collect();
    assert!(foreign.is_empty(), "groups that nobody asked for: {foreign:?}");
}

on_both_fetchers!(what_appears_later_begins_at_its_start, "needs Java and Maven");
fn what_appears_later_begins_at_its_start(fetcher: Fetcher) {
    for group in [true, false] {
        let prefix = unique("later");
        let first = format!("{prefix}.first");
        admin().create_topic(&first, 1, &[]);
        write(&first, 0, 0, 10);
        let in_group = if group { format!(r#", group = "{prefix}""#) } else { String::new() };
        let from = format!(
            "topics = [\"/^{prefix}\\\\./\"], start = \"latest\", topic_refresh = \"1s\", \
             {fetcher}{in_group}"
        );
        let mut route = lossless(&from);
        let subscriber = route.subscribe(&[&prefix]);
        route.relay.wait_status("the first topic", DEADLINE, |status| is_at(status, &first, 0, 10));

        admin().add_partitions(&first, 3);
        write(&first, 1, 0, 10);
        write(&first, 2, 0, 10);
        let second = format!("{prefix}.second");
        admin().create_topic(&second, 2, &[]);
        write(&second, 0, 0, 10);
        write(&second, 1, 0, 10);
        write(&first, 0, 10, 5);
        let messages = subscriber.wait_messages(45, DEADLINE);
        let expected = [
            (&first, 0, 10, 15),
            (&first, 1, 0, 10),
            (&first, 2, 0, 10),
            (&second, 0, 0, 10),
            (&second, 1, 0, 10),
        ]
        .map(|(topic, number, from, to)| {
            ((topic.clone(), number), (from..to).collect::<Vec<i64>>())
        });
        assert_eq!(offsets(&messages), BTreeMap::from(expected), "in a group: {group}");
    }
}

on_both_fetchers!(what_is_added_while_no_relay_runs_begins_at_its_start, "needs Java and Maven");
fn what_is_added_while_no_relay_runs_begins_at_its_start(fetcher: Fetcher) {
    let group = unique("added");
    let [first, second, named] = ["first", "second", "named"].map(|name| format!("{group}.{name}"));
    admin().create_topic(&first, 1, &[]);
    write(&first, 0, 0, 10);
    let from = |topics: &str| {
        format!(
            "topics = [{topics}], group = \"{group}\", start = \"latest\", {fetcher}, \
             group_protocol = \"classic\""
        )
    };
    let pattern = format!(r#""/^{group}\\.(first|second)$/""#);
    let mut route = lossless(&from(&pattern));
    wait_until("its start to be committed", DEADLINE, || admin().committed(&group).len() == 1);
    route.relay.terminate();
    assert!(route.relay.wait_exit(DEADLINE).success(), "{}", route.relay.log());

    admin().add_partitions(&first, 2);
    for (topic, number) in [(&second, 0), (&named, 0)] {
        admin().create_topic(topic, 1, &[]);
        write(topic, number, 0, 10);
    }
    write(&first, 1, 0, 10);
    // One that is named begins at `start` in a group that has not read it.
    let mut route = lossless(&from(&format!(r#"{pattern}, "{named}""#)));
    let subscriber = route.subscribe(&[&group]);
    route.relay.wait_status("the end", DEADLINE, |status| {
        [(&first, 0), (&first, 1), (&second, 0), (&named, 0)]
            .iter()
            .all(|(topic, number)| is_at(status, topic, *number, 10))
    });
    let messages = subscriber.wait_messages(20, DEADLINE);
    let expected = [(&first, 1), (&second, 0)]
        .map(|(topic, number)| ((topic.clone(), number), (0..10).collect::<Vec<i64>>()));
    assert_eq!(offsets(&messages), BTreeMap::from(expected));
}

on_both_fetchers!(two_relays_that_begin_a_group_together_send_no_history, "needs Java and Maven");
/// Each member commits the start of all partitions, also those of the other one.
fn two_relays_that_begin_a_group_together_send_no_history(fetcher: Fetcher) {
    for protocol in ["consumer", "classic"] {
        let group = unique("together");
        let topics = ["one", "two"].map(|name| format!("{group}.{name}"));
        for topic in &topics {
            admin().create_topic(topic, 2, &[]);
            (0..2).for_each(|number| write(topic, number, 0, 10));
        }
        let from = format!(
            "topics = [\"/^{group}\\\\./\"], group = \"{group}\", start = \"latest\", {fetcher}, \
             group_protocol = \"{protocol}\""
        );
        let mut routes = [lossless(&from), lossless(&from)];
        let subscribers = routes.each_ref().map(|route| route.subscribe(&[&group]));
        wait_until("both to have some", DEADLINE, || {
            routes.iter_mut().all(|route| {
                let status = route.relay.status().unwrap_or_default();
                status["routes"][0]["partitions"].as_array().is_some_and(|held| held.len() == 2)
            })
        });
        for topic in &topics {
            (0..2).for_each(|number| write(topic, number, 10, 5));
        }
        wait_until("the new records", DEADLINE, || {
            subscribers.iter().map(LibzmqSub::count).sum::<usize>() >= 20
        });
        wait_until("the end to be committed", DEADLINE, || {
            let committed = admin().committed(&group);
            committed.len() == 4 && committed.values().all(|offset| *offset == 15)
        });
        let messages: Vec<_> = subscribers.iter().flat_map(LibzmqSub::messages).collect();
        let expected = topics.iter().flat_map(|topic| {
            (0..2).map(|number| ((topic.clone(), number), (10..15).collect::<Vec<i64>>()))
        });
        assert_eq!(offsets(&messages), expected.collect::<BTreeMap<_, _>>(), "{protocol}");
    }
}
