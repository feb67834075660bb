//! The topics that a route reads, and several routes in one process.

use std::collections::BTreeSet;
use std::net::TcpListener;

use serde_json::Value;
use zafka_testkit::{KafkaNode, LibzmqSub, Record, Zafka, unique, wait_until};

use crate::common::{Fetcher, OneRoute, RouteToml, endpoint, is_at, relay_toml};
use crate::{DEADLINE, ZAFKA, decoded};

fn write(topic: &str, count: usize) {
    let records: Vec<_> = (0..count).map(|at| Record::new("k", at.to_string())).collect();
    KafkaNode::shared().admin().produce(topic, &records);
}

fn topics_of(status: &Value) -> BTreeSet<String> {
    let partitions = status["routes"][0]["partitions"].as_array();
    let name = |partition: &Value| partition["topic"].as_str().unwrap().to_owned();
    partitions.into_iter().flatten().map(name).collect()
}

on_both_fetchers!(patterns_find_topics_and_never_internal_ones, "needs Java and Maven");
fn patterns_find_topics_and_never_internal_ones(fetcher: Fetcher) {
    let kafka = KafkaNode::shared();
    let prefix = unique("pattern");
    let [eu, us, other] =
        ["eu.orders", "us.orders", "orders.eu"].map(|name| format!("{prefix}.{name}"));
    for topic in [&eu, &us, &other] {
        kafka.admin().create_topic(topic, 1, &[]);
        write(topic, 10);
    }
    // A group's commits make the internal topic that the pattern would match.
    kafka.admin().alter_offset(&prefix, &eu, 0, 0);
    assert!(kafka.admin().topics().contains(&"__consumer_offsets".to_owned()));
    for group in ["", "group"] {
        let in_group =
            if group.is_empty() { String::new() } else { format!(r#", group = "{prefix}""#) };
        let pattern = format!(r"/^(__.*|{}\\.[a-z]{{2}}\\.orders)$/", prefix);
        let from = format!(r#"topics = ["{pattern}"], start = "earliest", {fetcher}{in_group}"#);
        let mut route = OneRoute::lossless(kafka.bootstrap(), &from);
        let subscriber = route.subscribe(&[""]);
        let status = route.relay.wait_status("both topics", DEADLINE, |status| {
            is_at(status, &eu, 0, 10) && is_at(status, &us, 0, 10)
        });
        let expected = BTreeSet::from([eu.clone(), us.clone()]);
        assert_eq!(topics_of(&status), expected);
        let messages = decoded(&subscriber.wait_messages(20, DEADLINE));
        assert_eq!(messages.len(), 20);
        assert_eq!(
            messages.into_iter().map(|message| message.topic).collect::<BTreeSet<_>>(),
            expected
        );
    }
}

on_both_fetchers!(a_named_topic_is_waited_for_and_read_from_its_start, "needs Java and Maven");
fn a_named_topic_is_waited_for_and_read_from_its_start(fetcher: Fetcher) {
    let kafka = KafkaNode::shared();
    for group in [true, false] {
        let [there, later] = [unique("there"), unique("to-come")];
        kafka.admin().create_topic(&there, 1, &[]);
        let in_group = if group { format!(r#", group = "{there}""#) } else { String::new() };
        let from = format!(
            "topics = [\"{there}\", \"{later}\"], start = \"latest\", topic_refresh = \"1s\", \
             {fetcher}{in_group}"
        );
        let mut route = OneRoute::lossless(kafka.bootstrap(), &from);
        let subscriber = route.subscribe(&[""]);
        wait_until("readyz to name the topic", DEADLINE, || {
            route
                .relay
                .get("/readyz")
                .is_ok_and(|(code, body)| code == 503 && body.contains(&later))
        });
        // The topic that is there is read all the same.
        route
            .relay
            .wait_status("the topic that is there", DEADLINE, |status| is_at(status, &there, 0, 0));
        write(&there, 1);
        subscriber.wait_messages(1, DEADLINE);

        kafka.admin().create_topic(&later, 1, &[]);
        write(&later, 10);
        let messages = decoded(&subscriber.wait_messages(11, DEADLINE));
        let offsets: Vec<_> =
            messages.iter().filter(|m| m.topic == later).map(|m| m.offset).collect();
        assert_eq!(offsets, (0..10).collect::<Vec<_>>(), "in a group: {group}");
        route.relay.wait_ready();
    }
}

on_both_fetchers!(two_routes_in_one_process_keep_to_themselves, "needs Java and Maven");
fn two_routes_in_one_process_keep_to_themselves(fetcher: Fetcher) {
    let kafka = KafkaNode::shared();
    let topics = [unique("one"), unique("two")];
    for topic in &topics {
        kafka.admin().create_topic(topic, 2, &[]);
        write(topic, 1_000);
    }
    let endpoints = [endpoint(), format!("ipc:///tmp/{}.sock", unique("zafka"))];
    let from = topics
        .each_ref()
        .map(|t| format!(r#"topics = ["{t}"], group = "{t}", start = "earliest", {fetcher}"#));
    let to = endpoints
        .each_ref()
        .map(|e| format!(r#"bind = ["{e}"], slow_peer = "block", min_peers = 1"#));
    let routes = [
        RouteToml { name: "one", from: &from[0], to: &to[0] },
        RouteToml { name: "two", from: &from[1], to: &to[1] },
    ];
    let mut relay = Zafka::run(ZAFKA, &relay_toml(kafka.bootstrap(), &routes));
    relay.wait_ready();
    // The second waits for its peer and holds up no other.
    for (endpoint, topic) in endpoints.iter().zip(&topics) {
        let subscriber = LibzmqSub::connect(endpoint, &[""]);
        let messages = decoded(&subscriber.wait_messages(1_000, DEADLINE));
        assert_eq!(messages.len(), 1_000);
        assert!(messages.iter().all(|message| message.topic == *topic));
    }
    relay.terminate();
    assert!(relay.wait_exit(DEADLINE).success(), "{}", relay.log());
    for topic in &topics {
        let committed = kafka.admin().committed(topic);
        assert_eq!(committed.values().sum::<i64>(), 1_000, "{committed:?}");
    }
}

#[test]
#[ignore = "needs util-linux (setpriv)"]
fn an_endpoint_that_cannot_be_bound_fails_the_start() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("tcp://{}", holder.local_addr().unwrap());
    let cases = [
        (taken.as_str(), "in use"),
        ("ipc:///no/such/directory/socket", "No such file"),
        ("tcp://192.0.2.1:5556", "assign"),
    ];
    for (endpoint, why) in cases {
        let to = format!(r#"bind = ["{endpoint}"]"#);
        let fine = format!(r#"bind = ["{}"]"#, crate::common::endpoint());
        let routes = [
            RouteToml { name: "fine", from: r#"topics = ["orders"]"#, to: &fine },
            RouteToml { name: "taken", from: r#"topics = ["orders"]"#, to: &to },
        ];
        // No broker is there: the start fails before one is asked.
        let mut relay = Zafka::run(ZAFKA, &relay_toml("127.0.0.1:1", &routes));
        assert!(!relay.wait_exit(DEADLINE).success(), "{endpoint}");
        let log = relay.log();
        assert!(
            log.contains(endpoint) && log.contains("\"taken\"") && log.contains(why),
            "{endpoint}: {log}"
        );
    }
}
