//! `zafka send`: against a ROUTER or PULL of libzmq that plays the relay, and through a relay to a
//! real Kafka.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Stdio;
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};
use tempfile::NamedTempFile;
use zafka_testkit::child::{Running, command, spawn};
use zafka_testkit::{KafkaNode, unique, wait_until};

use crate::clients::relay;
use crate::common::endpoint;
use crate::ingest::log;
use crate::program::run;
use crate::{DEADLINE, ZAFKA};

/// A file with a line for each number.
fn numbers(count: usize) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    (1..=count).for_each(|number| writeln!(file, "{number}").unwrap());
    file
}

fn bound(kind: zmq::SocketType, endpoint: &str) -> zmq::Socket {
    let socket = zmq::Context::new().socket(kind).unwrap();
    socket.set_rcvtimeo(DEADLINE.as_millis() as i32).unwrap();
    socket.bind(endpoint).unwrap();
    socket
}

/// Runs `zafka send ENDPOINT --file FILE ...` to its end: exit code, lines of standard output, and
/// standard error.
fn send(endpoint: &str, file: &NamedTempFile, arguments: &[&str]) -> (i32, Vec<Value>, String) {
    let file = file.path().to_str().unwrap();
    let (exit, out, err) = run(&[&["send", endpoint, "--file", file], arguments].concat());
    let lines: Vec<_> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (exit.code().unwrap(), lines, err)
}

/// A relay's part: answers messages with their frames to `OK`, or as `answer` says.
struct Router(zmq::Socket);

impl Router {
    fn bind(endpoint: &str) -> Self {
        Self(bound(zmq::ROUTER, endpoint))
    }

    /// The next message: its peer and its frames.
    fn receive(&self) -> (Vec<u8>, Vec<String>) {
        let mut frames = self.0.recv_multipart(0).unwrap();
        let peer = frames.remove(0);
        (peer, frames.into_iter().map(|frame| String::from_utf8(frame).unwrap()).collect())
    }

    fn answer(&self, peer: &[u8], frames: &[&str]) {
        let frames: Vec<_> = frames.iter().map(|frame| frame.as_bytes()).collect();
        self.0.send_multipart([&[peer], &frames[..]].concat(), 0).unwrap();
    }

    /// Says that a message with an id is at this offset.
    fn acknowledge(&self, peer: &[u8], id: &str, offset: usize) {
        self.answer(peer, &[id, "OK", &place(offset)]);
    }
}

fn place(offset: usize) -> String {
    json!({"topic": "t", "partition": 0, "offset": offset, "timestamp": 5}).to_string()
}

/// Runs the part of a relay beside the program.
fn beside<T: Send + 'static>(part: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::spawn(part)
}

#[test]
fn each_line_is_a_message_and_each_answer_a_line() {
    const MESSAGES: usize = 3_000;
    let endpoint = endpoint();
    let router = Router::bind(&endpoint);
    let part = beside(move || {
        for number in 1..=MESSAGES {
            let (peer, frames) = router.receive();
            let [id, topic, key, value] = &frames[..] else { panic!("{frames:?}") };
            assert_eq!([topic, key, value], ["t", "k", &number.to_string()]);
            assert!(id.ends_with(&format!("-{number}")), "{id}");
            router.acknowledge(&peer, id, number);
        }
        router
    });
    let file = numbers(MESSAGES);
    let (code, mut lines, err) = send(&endpoint, &file, &["--topic", "t", "--key", "k"]);
    assert_eq!(code, 0, "{err}");
    let summary = lines.pop().unwrap()["summary"].clone();
    for (name, expected) in
        [("messages", MESSAGES), ("acknowledged", MESSAGES), ("refused", 0), ("unanswered", 0)]
    {
        assert_eq!(summary[name], expected, "{summary}");
    }
    assert!(summary["latency_us"]["p99"].as_u64() <= summary["latency_us"]["max"].as_u64());
    assert_eq!(lines.len(), MESSAGES);
    for (index, line) in lines.iter().enumerate() {
        assert_eq!((&line["message"], &line["offset"]), (&json!(index + 1), &json!(index + 1)));
        assert!(line["latency_us"].is_u64(), "{line}");
    }
    assert!(err.contains(&format!("connected to {endpoint}")), "{err}");
    assert!(err.contains("3000 messages: 3000 acknowledged, 0 refused, 0 unanswered"), "{err}");
    part.join().unwrap();
}

#[test]
fn a_message_that_is_refused_is_told_and_one_that_is_put_off_is_sent_again() {
    let endpoint = endpoint();
    let router = Router::bind(&endpoint);
    let part = beside(move || {
        let error = |code: &str, retriable: bool| {
            json!({"code": code, "message": "why", "retriable": retriable}).to_string()
        };
        for (code, retriable) in [("not_allowed", false), ("kafka", true)] {
            let (peer, frames) = router.receive();
            router.answer(&peer, &[&frames[0], "ERROR", &error(code, retriable)]);
        }
        let (peer, frames) = router.receive();
        assert_eq!(frames[3], "2");
        router.acknowledge(&peer, &frames[0], 0);
        router
    });
    let (code, lines, err) = send(&endpoint, &numbers(2), &["--topic", "t", "--window", "1"]);
    assert_eq!(code, 1, "{err}");
    assert_eq!(
        (&lines[0]["message"], &lines[0]["error"]["code"], &lines[1]["offset"]),
        (&json!(1), &json!("not_allowed"), &json!(0))
    );
    let summary = &lines[2]["summary"];
    assert_eq!((&summary["refused"], &summary["resent"]), (&json!(1), &json!(1)));
    for told in [
        "message 1 is refused: not_allowed: why",
        "kafka: why; it is sent again",
        "zafka: 1 of 2 messages were not acknowledged",
    ] {
        assert!(err.contains(told), "{told}: {err}");
    }
    part.join().unwrap();
}

#[test]
fn what_was_not_answered_is_sent_again_after_a_lost_connection() {
    const MESSAGES: usize = 500;
    let endpoint = endpoint();
    let router = Router::bind(&endpoint);
    let address = endpoint.clone();
    let part = beside(move || {
        for number in 1..=100 {
            let (peer, frames) = router.receive();
            // Every second one is answered; libzmq's linger writes the answers.
            if number % 2 == 0 {
                router.acknowledge(&peer, &frames[0], number);
            }
        }
        drop(router);
        let router = Router::bind(&address);
        let mut values: Vec<usize> = Vec::new();
        while values.last().is_none_or(|last| *last < MESSAGES) {
            let (peer, frames) = router.receive();
            values.push(frames[3].parse().unwrap());
            router.acknowledge(&peer, &frames[0], MESSAGES + values.len());
        }
        (values, router)
    });
    let (code, lines, err) = send(&endpoint, &numbers(MESSAGES), &["--topic", "t"]);
    assert_eq!(code, 0, "{err}");
    let (values, _router) = part.join().unwrap();
    assert!(values.is_sorted(), "the order is kept: {values:?}");
    let mut answered: Vec<_> = lines.iter().filter_map(|line| line["message"].as_u64()).collect();
    answered.sort();
    assert_eq!(answered, (1..=MESSAGES as u64).collect::<Vec<_>>(), "each once");
    let resent = lines.last().unwrap()["summary"]["resent"].as_u64().unwrap();
    assert!(resent >= 50, "{resent}");
}

#[test]
fn without_an_id_answers_come_in_order() {
    let endpoint = endpoint();
    let router = Router::bind(&endpoint);
    let part = beside(move || {
        let peers: Vec<_> = (0..3).map(|_| router.receive()).collect();
        for (offset, (peer, frames)) in peers.iter().enumerate() {
            assert_eq!(frames[..], [format!("<{}>", offset + 1), "acme".to_owned()]);
            router.answer(peer, &["OK", &place(offset)]);
        }
        router
    });
    let frames = ["--frames", r#"["<{value}>", "{header.tenant}"]"#, "--header", "tenant=acme"];
    let (code, lines, err) = send(&endpoint, &numbers(3), &frames);
    assert_eq!(code, 0, "{err}");
    let offsets: Vec<_> = lines[..3].iter().map(|line| line["offset"].clone()).collect();
    assert_eq!(offsets, [0, 1, 2]);
    part.join().unwrap();
}

#[test]
fn a_pull_gets_every_line_as_often_as_asked_for() {
    let endpoint = endpoint();
    let pull = bound(zmq::PULL, &endpoint);
    let part = beside(move || {
        let values = (0..3_000).map(|_| pull.recv_multipart(0).unwrap().remove(2));
        (values.collect::<Vec<_>>(), pull)
    });
    let arguments = ["--topic", "t", "--push", "--repeat", "3"];
    let (code, lines, err) = send(&endpoint, &numbers(1_000), &arguments);
    assert_eq!(code, 0, "{err}");
    let (values, _pull) = part.join().unwrap();
    let expected: Vec<_> =
        (0..3_000).map(|index: usize| (index % 1_000 + 1).to_string().into_bytes()).collect();
    assert_eq!(values, expected);
    assert_eq!(lines.len(), 1, "a PULL answers nothing");
    assert_eq!(lines[0]["summary"]["written"], 3_000);
}

#[test]
fn it_gives_up_if_nobody_answers() {
    let endpoint = endpoint();
    let arguments = ["--topic", "t", "--timeout", "300ms"];
    let (code, lines, err) = send(&endpoint, &numbers(2), &arguments);
    assert_eq!(code, 1, "{err}");
    assert_eq!(lines[..2], [1, 2].map(|number| json!({"message": number, "unanswered": true})));
    assert_eq!(lines[2]["summary"]["unanswered"], 2);
    for told in
        ["Connection refused", "no answer came in time", "2 of 2 messages were not acknowledged"]
    {
        assert!(err.contains(told), "{told}: {err}");
    }
}

#[test]
fn a_route_with_other_frames_is_told() {
    let endpoint = endpoint();
    let router = Router::bind(&endpoint);
    let part = beside(move || {
        let (peer, _) = router.receive();
        let error = json!({"code": "bad_message", "message": "4 frames", "retriable": false});
        router.answer(&peer, &["ERROR", &error.to_string()]);
        router
    });
    let (code, _, err) = send(&endpoint, &numbers(1), &["--topic", "t"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("without naming it: bad_message: 4 frames"), "{err}");
    part.join().unwrap();
}

#[test]
fn standard_input_is_sent_as_it_comes_and_a_signal_ends_it() {
    let endpoint = endpoint();
    let router = Router::bind(&endpoint);
    let log = NamedTempFile::new().unwrap();
    let mut process = command(ZAFKA);
    process.args(["send", &endpoint, "--topic", "t"]).stdin(Stdio::piped());
    process.stdout(log.reopen().unwrap()).stderr(Stdio::null());
    let mut process = Running::adopt(spawn(process), log.path());
    let mut stdin = process.child().stdin.take().unwrap();
    for line in ["one", "two"] {
        writeln!(stdin, "{line}").unwrap();
        // The input has not ended.
        let (peer, frames) = router.receive();
        assert_eq!(frames[3], line);
        router.acknowledge(&peer, &frames[0], 0);
    }
    wait_until("both answers", DEADLINE, || process.log().lines().count() == 2);
    process.interrupt();
    let exit = process.wait_exit(DEADLINE).unwrap();
    assert!(exit.success(), "all that was sent is acknowledged: {}", process.log());
    assert!(process.log().contains("\"summary\""), "{}", process.log());
}

#[test]
fn a_signal_with_messages_unanswered_is_a_failure() {
    let endpoint = endpoint();
    let router = Router::bind(&endpoint);
    let (file, log) = (numbers(1), NamedTempFile::new().unwrap());
    let mut process = command(ZAFKA);
    process.args(["send", &endpoint, "--topic", "t", "--file"]).arg(file.path());
    process.stdout(log.reopen().unwrap()).stderr(Stdio::null());
    let mut process = Running::adopt(spawn(process), log.path());
    router.receive();
    process.terminate();
    assert_eq!(process.wait_exit(DEADLINE).unwrap().code(), Some(1));
    assert!(process.log().contains(r#"{"message":1,"unanswered":true}"#), "{}", process.log());
}

#[test]
#[ignore = "needs Java and Maven"]
fn every_line_is_in_the_log_where_it_was_told() {
    const MESSAGES: usize = 2_000;
    let node = KafkaNode::shared();
    let topic = unique("send");
    node.admin().create_topic(&topic, 3, &[]);
    let ingest = relay(node.bootstrap(), &topic);
    let (code, mut lines, err) =
        send(ingest.endpoint(), &numbers(MESSAGES), &["--topic", &topic, "--key", "k"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(lines.pop().unwrap()["summary"]["acknowledged"], MESSAGES);
    let log = log(node.bootstrap(), &topic, MESSAGES);
    let mut last = -1;
    for line in &lines {
        let at = (line["partition"].as_i64().unwrap(), line["offset"].as_i64().unwrap());
        assert_eq!(log.get(&at), Some(&line["message"].to_string().into_bytes()), "{line}");
        assert!(at.1 > last, "one key, one partition: in order");
        last = at.1;
    }
    let (code, lines, _) = send(ingest.endpoint(), &numbers(1), &["--topic", "other"]);
    assert_eq!((code, &lines[0]["error"]["code"]), (1, &json!("not_allowed")));
}

#[test]
#[ignore = "needs Java and Maven"]
fn relays_that_are_killed_lose_nothing_that_is_sent() {
    const MESSAGES: usize = 20_000;
    let node = KafkaNode::shared();
    let topic = unique("send");
    node.admin().create_topic(&topic, 3, &[]);
    let mut ingest = relay(node.bootstrap(), &topic);
    let (file, out) = (numbers(MESSAGES), NamedTempFile::new().unwrap());
    let mut process = command(ZAFKA);
    process.args(["send", ingest.endpoint(), "--topic", &topic, "--rate", "5000", "--file"]);
    process.arg(file.path()).stdout(out.reopen().unwrap()).stderr(Stdio::null());
    let mut process = Running::adopt(spawn(process), out.path());
    for told in [2_000, 8_000] {
        wait_until("enough answers", DEADLINE, || process.log().lines().count() >= told);
        ingest.start_again();
    }
    let exit = process.wait_exit(DEADLINE);
    assert!(exit.is_some_and(|exit| exit.success()), "{}", process.log_tail());
    let log = log(node.bootstrap(), &topic, MESSAGES);
    let mut answered = BTreeSet::new();
    for line in process.log().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let Some(message) = line["message"].as_u64() else { continue };
        let at = (line["partition"].as_i64().unwrap(), line["offset"].as_i64().unwrap());
        assert_eq!(log.get(&at), Some(&message.to_string().into_bytes()), "{line}");
        assert!(answered.insert(message), "told twice: {line}");
    }
    assert_eq!(answered.len(), MESSAGES);
}
