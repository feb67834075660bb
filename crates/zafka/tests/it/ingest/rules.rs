//! Messages that are acknowledged, messages that are refused, and how both are answered.

use serde_json::Value;
use zafka_testkit::{Zafka, unique, wait_until};

use super::{Ingest, ROUTER, ask, assert_identity, topic, value};
use crate::{DEADLINE, ZAFKA};

#[test]
#[ignore = "needs Java and Maven"]
fn what_is_acknowledged_is_in_the_log_where_it_was_told() {
    const MESSAGES: usize = 5_000;
    let (node, topic) = topic("edge", 3, &[]);
    let mut ingest = Ingest::router(node.bootstrap(), &topic);
    let mut sender = ingest.dealer();
    sender.run_to(MESSAGES);
    sender.assert_true(node.admin(), &topic);
    let route = ingest.wait_acknowledged(MESSAGES);
    assert_eq!(route["counters"]["received"], MESSAGES);
    assert_identity(&route);
    ingest.stop();
}

#[test]
#[ignore = "needs Java and Maven"]
fn what_kafka_does_not_take_is_told_with_its_reason() {
    let (node, small) = topic("small", 1, &[("max.message.bytes", "1000")]);
    let absent = unique("absent");
    let to = format!("topics = [\"{small}\", \"{absent}\"]");
    let ingest = Ingest::start(node.bootstrap(), r#"socket = "router", frames = "value""#, &to);
    let dealer = ingest.connect(zmq::DEALER);
    let (word, body) = ask(&dealer, &[small.as_bytes(), &[b'x'; 5_000]]);
    assert_eq!((word.as_str(), &body["code"]), ("ERROR", &"too_large".into()), "{body}");
    let (word, body) = ask(&dealer, &[absent.as_bytes(), b"x"]);
    assert_eq!(
        (word.as_str(), &body["code"], &body["retriable"]),
        ("ERROR", &"kafka".into(), &false.into()),
        "{body}"
    );
    let (word, body) = ask(&dealer, &[b"other", b"x"]);
    assert_eq!((word.as_str(), &body["code"]), ("ERROR", &"not_allowed".into()), "{body}");
    let (word, body) = ask(&dealer, &[small.as_bytes(), b"x"]);
    assert_eq!((word.as_str(), &body["offset"]), ("OK", &0.into()), "{body}");
    assert_identity(&ingest.route().unwrap());
}

#[test]
#[ignore = "needs Java and Maven"]
fn a_topic_may_get_partitions_and_be_deleted() {
    let (node, topic) = topic("grows", 1, &[]);
    let mut ingest = Ingest::router(node.bootstrap(), &topic);
    let mut sender = ingest.dealer();
    sender.run_to(500);
    node.admin().add_partitions(&topic, 3);
    sender.run_to(1_000);
    sender.assert_true(node.admin(), &topic);
    node.admin().delete_topic(&topic);
    let dealer = ingest.connect(zmq::DEALER);
    // The first ones may be on their way while the relay still holds the topic to be there.
    let refused = || {
        let (word, body) = ask(&dealer, &[b"id", b"k", b"late"]);
        let code = body["code"].as_str().unwrap_or_default().to_owned();
        assert!(word == "ERROR" && ["kafka", "timeout_unknown"].contains(&&*code), "{word} {body}");
        code == "kafka" && body["retriable"] == false
    };
    wait_until("the topic to be told as gone", DEADLINE, refused);
    // Made again, it is written to.
    node.admin().create_topic(&topic, 2, &[]);
    wait_until("the new topic to be written to", DEADLINE, || {
        ask(&dealer, &[b"id", b"k", b"new"]).0 == "OK"
    });
    ingest.relay.wait_ready();
    assert_identity(&ingest.route().unwrap());
}

#[test]
#[ignore = "needs Java and Maven"]
fn what_cannot_be_written_goes_to_its_topic_whole_or_cut() {
    let (node, good) = topic("good", 1, &[("max.message.bytes", "1000")]);
    let dead = unique("dead");
    let from = r#"socket = "pull", frames = ["{value}"]"#;
    let to = format!("topic = \"{good}\", dead_letter = \"{dead}\"");
    let mut ingest = Ingest::start(node.bootstrap(), from, &to);
    let push = ingest.connect(zmq::PUSH);
    push.send_multipart([&[b'x'; 3_000][..]], 0).unwrap();
    push.send_multipart([&b"a"[..], b"b"], 0).unwrap();
    // The topic is not there yet: both wait, and the route says so.
    wait_until("the route to say that it waits", DEADLINE, || {
        let ready = ingest.relay.get("/readyz");
        ready.is_ok_and(|(code, body)| code == 503 && body.contains(&dead))
    });
    ingest.relay.wait_status("both of them to wait", DEADLINE, |status| {
        status["ingest"][0]["in_flight"] == 2
    });
    node.admin().create_topic(&dead, 1, &[("max.message.bytes", "2000")]);
    let status = ingest.relay.wait_status("the dead letters to be written", DEADLINE, |status| {
        status["ingest"][0]["counters"]["dead_lettered"] == 2
    });
    assert_identity(&status["ingest"][0]);
    push.send("good", 0).unwrap();
    assert_identity(&ingest.wait_acknowledged(1));
    ingest.relay.wait_ready();
    let mut letters = node.admin().read(&dead);
    letters.sort_by_key(|letter| letter.value.as_ref().unwrap()[0]);
    let header = |index: usize, name: &str| {
        let mut headers = letters[index].headers.iter();
        let found = headers.find(|(found, _)| found == name.as_bytes());
        found.map(|(_, value)| String::from_utf8(value.clone().unwrap()).unwrap())
    };
    let cut = letters[0].value.as_ref().unwrap();
    assert_eq!(header(0, "zafka.error").as_deref(), Some("too_large"));
    assert_eq!(header(0, "zafka.truncated").as_deref(), Some("3008"));
    assert!(cut.len() < 2_000 && cut.ends_with(b"xxx"), "{}", cut.len());
    assert_eq!(cut[4..8], u32::try_from(cut.len() - 8).unwrap().to_le_bytes());
    assert_eq!(letters[1].value.as_deref(), Some(&b"\x02\0\0\0\x01\0\0\0a\x01\0\0\0b"[..]));
    assert_eq!(header(1, "zafka.error").as_deref(), Some("bad_message"));
    assert_eq!((header(1, "zafka.truncated"), header(1, "zafka.peer").is_some()), (None, true));
    assert_eq!(node.admin().read(&good).len(), 1);
}

#[test]
#[ignore = "needs Java and Maven"]
fn timestamps_and_stamps() {
    let configs = [("message.timestamp.type", "LogAppendTime")];
    let (node, appended) = topic("appended", 1, &configs);
    let (_, created) = topic("created", 1, &[]);
    let from = r#"socket = "router", frames = ["{topic}", "{timestamp}", "{value}"]"#;
    let to = format!("topics = [\"{appended}\", \"{created}\"], stamp = true");
    let ingest = Ingest::start(node.bootstrap(), from, &to);
    let dealer = ingest.connect(zmq::DEALER);
    let sent = 1_700_000_000_000_i64;
    let (_, body) = ask(&dealer, &[created.as_bytes(), sent.to_string().as_bytes(), b"x"]);
    assert_eq!(body["timestamp"], sent);
    let (_, body) = ask(&dealer, &[appended.as_bytes(), sent.to_string().as_bytes(), b"x"]);
    let record = node.admin().read(&appended).remove(0);
    assert!(record.log_append && record.timestamp > sent);
    assert_eq!(body["timestamp"], record.timestamp, "the topic's own time is told");
    let record = node.admin().read(&created).remove(0);
    assert_eq!(record.timestamp, sent);
    let header = |name: &str| {
        let mut headers = record.headers.iter();
        let found = headers.find(|(found, _)| found == name.as_bytes()).unwrap();
        String::from_utf8(found.1.clone().unwrap()).unwrap()
    };
    assert_eq!((header("zafka.route"), header("zafka.sequence")), ("edge".into(), "0".into()));
    assert!(header("zafka.peer").starts_with("127.0.0.1:"));
    assert_eq!(header("zafka.connection").len(), 16);
}

#[test]
#[ignore = "needs Java and Maven"]
fn check_asks_the_cluster_what_may_be_written_to() {
    let (node, topic) = topic("checked", 2, &[("min.insync.replicas", "1")]);
    let check = |to: &str| {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("zafka.toml");
        let text = format!(
            "[kafka]\nbootstrap_servers = [\"{}\"]\n[[route]]\nname = \"edge\"\n\
             from.zmq = {{ bind = [\"tcp://127.0.0.1:*\"], {ROUTER} }}\nto.kafka = {{ {to} }}\n",
            node.bootstrap()
        );
        std::fs::write(&file, text).unwrap();
        let args = ["check", "--connect", "-c", file.to_str().unwrap()];
        let mut zafka = Zafka::spawn(ZAFKA, &args);
        let status = zafka.wait_exit(DEADLINE);
        (status.code(), zafka.log())
    };
    let (code, log) = check(&format!("topic = \"{topic}\""));
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains(&format!("  {topic}: 2 partitions\n")), "{log}");
    assert!(log.contains("min.insync.replicas is 1"), "{log}");
    let (code, log) = check(&format!("topic = \"{topic}\", topics = [\"/^checked.*$/\"]"));
    assert_eq!(code, Some(0), "{log}");
    let (code, log) = check("topic = \"absent\"");
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("error: topic \"absent\": it does not exist"), "{log}");
}

#[test]
#[ignore = "needs Java and Maven"]
fn a_record_comes_through_two_relays_as_it_was() {
    let (node, from) = topic("from", 1, &[]);
    let (_, to) = topic("to", 1, &[]);
    let endpoint = crate::common::endpoint();
    // One file has both directions; a rename leads from one topic to the other.
    let toml = format!(
        "[kafka]\nbootstrap_servers = [\"{}\"]\n[[route]]\nname = \"out\"\n\
         from.kafka = {{ topics = [\"{from}\"], start = \"earliest\", rename = [[\"{from}\", \
         \"over/there\"]] }}\n\
         to.zmq = {{ socket = \"pub\", bind = [\"{endpoint}\"], slow_peer = \"block\", \
         min_peers = 1 }}\n\
         [[route]]\nname = \"in\"\n\
         from.zmq = {{ socket = \"sub\", connect = [\"{endpoint}\"], subscribe = [\"over/\"] }}\n\
         to.kafka = {{ topics = [\"{to}\"], rename = [[\"over/there\", \"{to}\"]] }}\n",
        node.bootstrap()
    );
    let records: Vec<_> = (0..20)
        .map(|at| zafka_testkit::Record {
            key: (at % 2 == 0).then(|| vec![at as u8]),
            value: (at % 3 != 0).then(|| value(at)),
            headers: vec![("a".to_owned(), Some(vec![0xff])), ("a".to_owned(), None)],
            timestamp: Some(1_700_000_000_000 + at as i64),
            partition: None,
        })
        .collect();
    node.admin().produce(&from, &records);
    let mut relay = Zafka::run(ZAFKA, &toml);
    relay.wait_status("all of it written", DEADLINE, |status: &Value| {
        status["ingest"][0]["counters"]["acknowledged"] == 20
    });
    let strip = |records: Vec<zafka_testkit::Received>| {
        let facts = |r: zafka_testkit::Received| (r.timestamp, r.key, r.value, r.headers);
        records.into_iter().map(facts).collect::<Vec<_>>()
    };
    assert_eq!(strip(node.admin().read(&to)), strip(node.admin().read(&from)));
}
