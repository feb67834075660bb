//! Clients in other languages, against a real relay and a real Kafka.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use zafka_testkit::child::{Running, command, run};
use zafka_testkit::paths::RunDir;
use zafka_testkit::peers::python_with_client;
use zafka_testkit::{KafkaNode, unique, wait_until};

use crate::DEADLINE;
use crate::ingest::{Ingest, log};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients/python")
}

/// A relay for what senders name the topic of, with the frames that clients have unless they are
/// told otherwise.
pub fn relay(bootstrap: &str, topic: &str) -> Ingest {
    let from = r#"socket = "router", frames = ["{id}", "{topic}", "{key}", "{value}"]"#;
    Ingest::start(bootstrap, from, &format!("topics = [\"{topic}\"]"))
}

#[test]
#[ignore = "needs Python"]
fn the_python_client_passes_its_own_tests_and_its_types_fit() {
    let python = python_with_client();
    for arguments in [&["-m", "unittest", "discover", "-s", "tests"][..], &["-m", "mypy"]] {
        run(Command::new(&python).args(arguments).current_dir(folder()));
    }
}

#[test]
#[ignore = "needs Java, Maven and Python"]
fn the_example_of_the_python_client_does_as_it_stands() {
    const MESSAGES: usize = 100;
    let readme = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let (_, example) = readme.split_once("```python\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let node = KafkaNode::shared();
    let topic = unique("python");
    node.admin().create_topic(&topic, 3, &[]);
    let ingest = relay(node.bootstrap(), &topic);
    let example = example.replace("tcp://127.0.0.1:5558", ingest.endpoint());
    let example = example.replace("\"orders\"", &format!("\"{topic}\""));
    let output = Command::new(python_with_client()).args(["-c", &example]).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), MESSAGES, "{told}{}", String::from_utf8_lossy(&output.stderr));
    let log = log(node.bootstrap(), &topic, MESSAGES);
    for (number, line) in lines.iter().enumerate() {
        // topic[partition] @offset
        let place = line.strip_prefix(&topic).and_then(|line| line.strip_prefix('['));
        let (partition, offset) = place.and_then(|place| place.split_once("] @")).unwrap();
        let at = (partition.parse().unwrap(), offset.parse().unwrap());
        assert_eq!(log.get(&at), Some(&format!("{{\"order\": {number}}}").into_bytes()), "{line}");
    }
}

/// Sends numbers and prints each with its place as soon as it is told: NUMBER PARTITION OFFSET.
const NUMBERS: &str = r#"
import sys, time
from zafka import Producer

endpoint, topic, count = sys.argv[1:]

def told(number):
    return lambda ack, error: print(number, ack.partition, ack.offset, flush=True)

with Producer(endpoint, topic=topic) as producer:
    for number in range(int(count)):
        producer.send(b"%d" % number, key=b"k%d" % (number % 5), on_done=told(number))
        time.sleep(0.0002)
"#;

#[test]
#[ignore = "needs Java, Maven and Python"]
fn the_python_client_outlives_relays_that_end() {
    const MESSAGES: usize = 10_000;
    let logs = RunDir::new("python");
    let node = KafkaNode::shared();
    let topic = unique("python");
    node.admin().create_topic(&topic, 3, &[]);
    let mut ingest = relay(node.bootstrap(), &topic);
    let mut python = command(python_with_client());
    python.args(["-c", NUMBERS, ingest.endpoint(), &topic, &MESSAGES.to_string()]);
    let mut python = Running::start(python, &logs.join("told"));
    for (told, kill) in [(1_000, true), (4_000, false), (6_000, true)] {
        wait_until("enough to be told", DEADLINE, || python.log().lines().count() >= told);
        if !kill {
            ingest.stop();
        }
        ingest.start_again();
    }
    let exit = python.wait_exit(DEADLINE);
    let told = python.log();
    assert!(exit.is_some_and(|exit| exit.success()), "{}", python.log_tail());
    let log = log(node.bootstrap(), &topic, MESSAGES);
    let mut numbers = BTreeSet::new();
    for line in told.lines() {
        let parts: Vec<i64> = line.split(' ').map(|part| part.parse().unwrap()).collect();
        let [number, partition, offset] = parts[..] else { panic!("{line}") };
        let value = number.to_string().into_bytes();
        assert_eq!(log.get(&(partition, offset)), Some(&value), "{line}");
        assert!(numbers.insert(number), "told twice: {line}");
    }
    assert_eq!(numbers.len(), MESSAGES);
}
