//! A membership that is gone without a word, and what keeps a relay out of its group.

use serde_json::Value;
use zafka_testkit::{KafkaNode, KafkaOptions, LibzmqSub, Proxy, Record, unique, wait_until};

use crate::common::{Fetcher, OneRoute, RouteToml, endpoint, is_at, partition, relay_toml};
use crate::program::check;
use crate::{DEADLINE, decoded};

/// Writes records `from..to` to partition 0.
fn write(node: &KafkaNode, topic: &str, from: i64, to: i64) {
    let records: Vec<_> =
        (from..to).map(|at| Record::new("k", at.to_string()).partition(0)).collect();
    node.admin().produce(topic, &records);
}

fn wait_offsets(subscriber: &LibzmqSub, expected: std::ops::Range<i64>) {
    let messages = decoded(&subscriber.wait_messages(expected.clone().count(), DEADLINE));
    let mut offsets: Vec<_> = messages.iter().map(|message| message.offset).collect();
    // A new membership may repeat.
    offsets.sort_unstable();
    offsets.dedup();
    wait_until("each record", DEADLINE, || {
        offsets = decoded(&subscriber.messages()).iter().map(|message| message.offset).collect();
        offsets.sort_unstable();
        offsets.dedup();
        offsets.len() >= expected.clone().count()
    });
    assert_eq!(offsets, expected.collect::<Vec<_>>());
}

on_both_fetchers!(a_group_that_is_deleted_is_joined_anew, "needs Java and Maven");
fn a_group_that_is_deleted_is_joined_anew(fetcher: Fetcher) {
    let (kafka, topic) = (KafkaNode::shared(), unique("deleted"));
    let admin = kafka.admin();
    admin.create_topic(&topic, 1, &[]);
    admin.set_session_timeout(&topic, 6);
    write(kafka, &topic, 0, 10);
    let from = format!(
        "topics = [\"{topic}\"], group = \"{topic}\", start = \"latest\", \
         group_protocol = \"consumer\", {fetcher}"
    );
    let mut route = OneRoute::lossless(kafka.bootstrap(), &from);
    let subscriber = route.subscribe(&[&topic]);
    route.relay.wait_status("its end", DEADLINE, |status| is_at(status, &topic, 0, 10));
    write(kafka, &topic, 10, 20);
    wait_until("a commit", DEADLINE, || admin.committed(&topic).values().eq([&20]));

    route.relay.process().stop();
    wait_until("the group to be empty", DEADLINE, || {
        admin.group(&topic).is_ok_and(|group| group.members.is_empty())
    });
    admin.delete_group(&topic);
    write(kafka, &topic, 20, 30);
    route.relay.process().cont();
    // It continues at its position, and not at the end.
    wait_until("what was missed to be committed", DEADLINE, || {
        admin.committed(&topic).values().eq([&30])
    });
    wait_offsets(&subscriber, 10..30);
    route.relay.wait_ready();
    assert!(route.relay.log().contains("no such group any more"), "{}", route.relay.log());
}

/// One run for both fetchers: it takes two clusters.
#[test]
#[ignore = "needs Java and Maven"]
fn another_cluster_has_offsets_of_its_own() {
    let proxy = Proxy::start("127.0.0.1:0");
    let node = |id: &str| {
        let options = KafkaOptions { cluster_id: Some(id.to_owned()), ..KafkaOptions::default() };
        KafkaNode::start_with(options.advertise(proxy.port()))
    };
    let [one, two] = ["one-AAAAAAAAAAAAAAAAAA", "two-AAAAAAAAAAAAAAAAAA"].map(node);
    for fetcher in [Fetcher::Fast, Fetcher::Librdkafka] {
        let topic = unique("moved");
        for (node, count) in [(&one, 10), (&two, 20)] {
            node.admin().create_topic(&topic, 1, &[]);
            write(node, &topic, 0, count);
        }
        two.admin().alter_offset(&topic, &topic, 0, 15);
        proxy.cut();
        proxy.set_upstream(one.listener());
        let from =
            format!(r#"topics = ["{topic}"], group = "{topic}", start = "earliest", {fetcher}"#);
        let mut route = OneRoute::lossless(one.bootstrap(), &from);
        let subscriber = route.subscribe(&[&topic]);
        wait_offsets(&subscriber, 0..10);
        wait_until("a commit", DEADLINE, || one.admin().committed(&topic).values().eq([&10]));

        proxy.set_upstream(two.listener());
        proxy.cut();
        route.relay.wait_log("the brokers are those of another cluster now", DEADLINE);
        wait_until("its end to be committed", DEADLINE, || {
            two.admin().committed(&topic).values().eq([&20])
        });
        wait_until("its records", DEADLINE, || {
            let messages = decoded(&subscriber.messages());
            let mut offsets: Vec<_> = messages.iter().map(|message| message.offset).collect();
            if matches!(fetcher, Fetcher::Librdkafka) {
                // It fetches on from the other cluster until that is noticed.
                let own = offsets.len().saturating_sub(5).max(10);
                offsets.drain(10.min(offsets.len())..own.min(offsets.len()));
            }
            offsets == (0..10).chain(15..20).collect::<Vec<_>>()
        });
        let status =
            route.relay.wait_status("its end", DEADLINE, |status| is_at(status, &topic, 0, 20));
        assert!(partition(&status, &topic, 0)["committed"].is_i64());
        assert_eq!(status["routes"][0]["counters"]["offset_resets"], 0);
        assert_eq!(one.admin().committed(&topic).values().copied().collect::<Vec<_>>(), [10]);
    }
}

fn reason(status: &Value) -> &str {
    status["routes"][0]["reason"].as_str().unwrap_or_default()
}

on_both_fetchers!(what_keeps_a_relay_out_of_its_group_is_told, "needs Java and Maven");
fn what_keeps_a_relay_out_of_its_group_is_told(fetcher: Fetcher) {
    let (kafka, topic) = (KafkaNode::shared(), unique("kept-out"));
    kafka.admin().create_topic(&topic, 1, &[]);
    let share = unique("share");
    kafka.admin().make_share_group(&share, &topic);
    for (group, more, told) in [
        (&share, "", "it is a share group"),
        (
            &topic,
            r#", group_protocol = "classic", session_timeout = "45m""#,
            "group.max.session.timeout.ms",
        ),
    ] {
        let from = format!(r#"topics = ["{topic}"], group = "{group}"{more}, {fetcher}"#);
        let mut route = OneRoute::lossless(kafka.bootstrap(), &from);
        route.relay.wait_status(told, DEADLINE, |status| reason(status).contains(told));
        let (code, body) = route.relay.get("/readyz").unwrap();
        assert!(
            code == 503 && body.contains(told) && body.contains(group.as_str()),
            "{code} {body}"
        );
        let line =
            route.relay.log().lines().any(|line| line.contains("WARN") && line.contains(told));
        assert!(line, "{}", route.relay.log());

        let to = format!("bind = [\"{}\"]", endpoint());
        let routes = [RouteToml { name: "orders", from: &from, to: &to }];
        let (code, out) = check(&relay_toml(kafka.bootstrap(), &routes), &["--connect"]);
        assert!(
            code == Some(1) && out.contains(told) && out.contains(group.as_str()),
            "{code:?} {out}"
        );
    }
}
