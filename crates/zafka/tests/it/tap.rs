//! `zafka tap` on a live relay.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use zafka_testkit::{KafkaNode, Record, Zafka, unique};

use crate::common::OneRoute;
use crate::program::run;
use crate::{DEADLINE, ZAFKA};

/// A relay of one topic with these records, which waits for a subscriber.
fn relay(frames: &str, records: &[Record]) -> (OneRoute, String) {
    let kafka = KafkaNode::shared();
    let topic = unique("tap");
    kafka.admin().create_topic(&topic, 1, &[]);
    kafka.admin().produce(&topic, records);
    let from = format!("topics = [\"{topic}\"], start = \"earliest\"");
    let to = format!("slow_peer = \"block\", min_peers = 1, frames = {frames}");
    (OneRoute::start(kafka.bootstrap(), &from, &to), topic)
}

fn lines(out: &str) -> Vec<Value> {
    let parsed = out.lines().map(serde_json::from_str);
    parsed.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{error}: {out}"))
}

fn records() -> Vec<Record> {
    vec![
        Record { headers: vec![("h".into(), Some(b"x".to_vec()))], ..Record::new("k", "text") },
        Record { timestamp: Some(1_700_000_000_000), ..Record::default() },
        Record::new("", vec![0xff, 0xfe]),
    ]
}

#[test]
#[ignore = "needs Java and Maven"]
fn a_line_of_json_for_each_message() {
    for frames in ["json", "packed", "batch"] {
        let (relay, topic) = relay(&format!("{frames:?}"), &records());
        // A batch is one message with as many records as were there.
        let count = if frames == "batch" { "1" } else { "3" };
        let (exit, out, err) =
            run(&["tap", relay.endpoint(), "--count", count, "--frames", frames]);
        assert!(exit.success(), "{err}");
        let lines = lines(&out);
        assert_eq!(lines.len(), 3, "{frames}: {out}");
        let first = &lines[0];
        assert_eq!(
            (
                &first["topic"],
                &first["partition"],
                &first["offset"],
                &first["key"],
                &first["value"]
            ),
            (&json!(topic), &json!(0), &json!(0), &json!("k"), &json!("text")),
            "{frames}"
        );
        assert_eq!(
            (&first["headers"], first.get("prev")),
            (&json!([["h", "x"]]), None),
            "{frames}"
        );
        let second = &lines[1];
        assert_eq!(
            (&second["key"], &second["value"], &second["prev"]),
            (&json!(null), &json!(null), &json!(0))
        );
        assert_eq!(second["timestamp"], 1_700_000_000_000_i64);
        assert_eq!(
            (&lines[2]["key"], &lines[2]["value"]),
            (&json!(""), &json!({"base64": "//4="}))
        );
        assert!(err.contains(&format!("connected to {}", relay.endpoint())), "{err}");
        assert!(err.trim_end().ends_with(", 0 gaps"), "{err}");
    }
}

#[test]
#[ignore = "needs Java and Maven"]
fn the_templates_of_a_route() {
    let templates =
        r#"["{topic}", "{offset:u64be}{partition:u32le}", "{timestamp}|{key}", "{value}"]"#;
    let given: Vec<String> = serde_json::from_str(templates).unwrap();
    let one_each = given.iter().flat_map(|template| ["--frames", template]).collect();
    for frames in [vec!["--frames", templates], one_each] {
        let (relay, topic) = relay(templates, &records());
        let (exit, out, err) =
            run(&[&["tap", relay.endpoint(), "--count", "3"][..], &frames].concat());
        assert!(exit.success(), "{err}");
        let lines = lines(&out);
        let record = |offset: i64, key: &str, value: Value| {
            let timestamp = &lines[offset as usize]["timestamp"];
            json!({"topic": topic, "partition": 0, "offset": offset, "timestamp": timestamp,
                "key": key, "value": value})
        };
        let binary = json!({"base64": "//4="});
        // Null and empty look alike.
        let expected =
            [record(0, "k", json!("text")), record(1, "", json!("")), record(2, "", binary)];
        assert_eq!(lines, expected);
        assert_eq!(lines[1]["timestamp"], 1_700_000_000_000_i64);
        assert!(
            err.trim_end().ends_with(", gaps unknown"),
            "no frame tells what came before: {err}"
        );
    }
}

/// An address that does not answer: its queue of connections is full. The connections keep it so.
fn blackhole() -> (TcpListener, Vec<TcpStream>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
    let waiting = std::iter::from_fn(connect).collect();
    (listener, waiting)
}

#[test]
fn endpoints_that_are_silent_are_told() {
    let (blackholed, _waiting) = blackhole();
    // It accepts, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let taps = [(&blackholed, "no answer within 5 s"), (&silent, "no handshake within 5 s")].map(
        |(listener, told)| {
            let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
            (Zafka::spawn(ZAFKA, &["tap", &endpoint]), format!("{endpoint}: {told}"))
        },
    );
    for (mut tap, told) in taps {
        tap.wait_log(&told, DEADLINE);
    }
}

#[test]
#[ignore = "needs Java and Maven"]
fn values_alone() {
    let (relay, topic) = relay("\"value\"", &records());
    let (exit, out, err) = run(&["tap", relay.endpoint(), "--count", "3", "--frames", "value"]);
    assert!(exit.success(), "{err}");
    let values = [json!("text"), json!(""), json!({"base64": "//4="})];
    assert_eq!(lines(&out), values.map(|value| json!({"topic": topic, "value": value})));
}

#[test]
#[ignore = "needs Java and Maven"]
fn prefixes_filter_and_leave_gaps_unknown() {
    let record = |tenant: &str| Record {
        headers: vec![("tenant".into(), Some(tenant.into()))],
        ..Record::new(tenant, tenant)
    };
    let records: Vec<_> = ["a/1", "b/1", "a/2", "a/3", "b/2", "c", "a/4"].map(record).into();
    let (relay, _) = relay("[\"{header.tenant}\", \"{meta}\", \"{key}\", \"{value}\"]", &records);
    let (exit, out, err) =
        run(&["tap", relay.endpoint(), "--topic", "a/", "--topic", "c", "--count", "5"]);
    assert!(exit.success(), "{err}");
    let values: Vec<_> = lines(&out).into_iter().map(|line| line["value"].clone()).collect();
    assert_eq!(values, ["a/1", "a/2", "a/3", "c", "a/4"]);
    // Before a/2 and before c records are left out: nothing tells them from records that are lost.
    let status = err.lines().last().unwrap_or_default();
    assert!(status.starts_with("5 messages, ") && status.ends_with(", gaps unknown"), "{err}");
}

#[test]
#[ignore = "needs Java and Maven"]
fn frames_of_another_layout_are_shown_as_they_are() {
    let (relay, topic) = relay("\"value\"", &records()[..1]);
    let (exit, out, err) = run(&["tap", relay.endpoint(), "--count", "1"]);
    assert!(exit.success(), "{err}");
    let line = lines(&out).remove(0);
    assert_eq!(line["frames"], json!([topic, "text"]));
    assert!(line["error"].as_str().is_some_and(|reason| !reason.is_empty()), "{line}");
}
