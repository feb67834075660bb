//! The senders in `examples/`, by the commands of their README.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use zafka_testkit::child::{Running, command};
use zafka_testkit::paths::RunDir;
use zafka_testkit::{KafkaNode, unique};

use crate::clients::relay;
use crate::common::endpoint;
use crate::examples::{DEADLINE, Example, examples};
use crate::ingest::log;

const LINES: usize = 3_000;

/// A file of numbered lines.
fn lines(count: usize, logs: &RunDir) -> PathBuf {
    let path = logs.join("lines.txt");
    let mut file = File::create(&path).unwrap();
    (0..count).for_each(|number| writeln!(file, "line {number}").unwrap());
    path
}

/// Starts a sender on another endpoint, topic and file than the README's.
fn start(example: &Example, endpoint: &str, topic: &str, lines: &Path, logs: &RunDir) -> Running {
    let line = example.sender.replace("tcp://127.0.0.1:5558", endpoint);
    let line = line.replace("orders", topic).replace("lines.txt", lines.to_str().unwrap());
    let mut shell = command("sh");
    shell.args(["-c", &format!("exec {line}")]).current_dir(example.prepare());
    Running::start(shell, &logs.join(&example.language))
}

#[test]
#[ignore = "needs Java and Maven, Python, Node, Go, a C compiler, libzmq3-dev and the registries"]
fn senders_are_told_where_their_lines_are() {
    let logs = RunDir::new("senders");
    let lines = lines(LINES, &logs);
    let node = KafkaNode::shared();
    for example in examples() {
        let topic = unique(&format!("from-{}", example.language));
        node.admin().create_topic(&topic, 3, &[]);
        let ingest = relay(node.bootstrap(), &topic);
        let mut sender = start(&example, ingest.endpoint(), &topic, &lines, &logs);
        let exit = sender.wait_exit(DEADLINE);
        let told = sender.log();
        assert!(exit.is_some_and(|exit| exit.success()), "{}:\n{told}", example.language);
        let log = log(node.bootstrap(), &topic, LINES);
        assert_eq!((told.lines().count(), log.len()), (LINES, LINES), "{}", example.language);
        for line in told.lines() {
            // TOPIC/PARTITION @OFFSET LINE
            let place = line.strip_prefix(&topic).and_then(|line| line.strip_prefix('/'));
            let (partition, rest) = place.and_then(|place| place.split_once(" @")).unwrap();
            let (offset, value) = rest.split_once(' ').unwrap();
            let at = (partition.parse().unwrap(), offset.parse().unwrap());
            assert_eq!(log.get(&at).map(Vec::as_slice), Some(value.as_bytes()), "{line}");
        }
    }
}

#[test]
#[ignore = "needs Java and Maven, Python, Node, Go, a C compiler, libzmq3-dev and the registries"]
fn senders_send_again_what_is_not_answered_and_tell_what_is_refused() {
    let logs = RunDir::new("senders");
    let lines = lines(2, &logs);
    let examples = examples();
    examples.iter().for_each(|example| drop(example.prepare()));
    // All at the same time: each waits ten seconds before it sends again.
    let started: Vec<_> = examples
        .iter()
        .map(|example| {
            let (router, endpoint) = (zmq::Context::new().socket(zmq::ROUTER).unwrap(), endpoint());
            router.set_rcvtimeo(i32::try_from(DEADLINE.as_millis()).unwrap()).unwrap();
            router.bind(&endpoint).unwrap();
            (router, start(example, &endpoint, "orders", &lines, &logs))
        })
        .collect();
    for (example, (router, mut sender)) in examples.iter().zip(started) {
        let message = || -> Vec<Vec<u8>> { router.recv_multipart(0).unwrap() };
        let first = [message(), message()];
        let again = [message(), message()];
        assert_eq!(first, again, "{}", example.language);
        let place = json!({"topic": "orders", "partition": 1, "offset": 7, "timestamp": 5});
        let error = json!({"code": "too_large", "message": "why", "retriable": false});
        let answer = |message: &[Vec<u8>], word: &str, body: &Value| {
            let body = body.to_string();
            let frames = [&message[0], &message[1], word.as_bytes(), body.as_bytes()];
            router.send_multipart(frames, 0).unwrap();
        };
        // The second answer to the first one means nothing.
        answer(&again[0], "OK", &place);
        answer(&again[0], "OK", &place);
        answer(&again[1], "ERROR", &error);
        let exit = sender.wait_exit(DEADLINE).and_then(|exit| exit.code());
        let told = sender.log();
        assert_eq!(exit, Some(1), "{}:\n{told}", example.language);
        let expected = format!("orders/1 @7 line 0\nrefused line 1: {error}\n");
        assert!(told.starts_with(&expected), "{}:\n{told}", example.language);
    }
}
