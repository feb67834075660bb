//! Standard error that takes nothing: the relay continues, and says in its metrics what was lost.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use zafka_kafka::embedded::{EmbeddedBroker, EmbeddedRecord};
use zafka_testkit::child::{Running, command, spawn};
use zafka_testkit::http;
use zafka_testkit::{LibzmqSub, ports, wait_until};

use crate::common::{RouteToml, endpoint, relay_toml};
use crate::demo::full;
use crate::{DEADLINE, ZAFKA};

const TOPIC: &str = "orders";

/// The kind of standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stderr {
    ReaderGone,
    DiskFull,
    ReaderHangs,
    Fine,
}

impl Stderr {
    /// Makes a child's end, and an end to be kept so that it stays as it is.
    fn make(self, log: &Path) -> (Stdio, Option<UnixStream>) {
        match self {
            Self::ReaderGone => {
                let (writer, _) = UnixStream::pair().unwrap();
                (OwnedFd::from(writer).into(), None)
            }
            Self::DiskFull => (File::options().write(true).open("/dev/full").unwrap().into(), None),
            Self::ReaderHangs => {
                let (writer, reader) = full().unwrap();
                (writer, Some(reader))
            }
            Self::Fine => (File::create(log).unwrap().into(), None),
        }
    }
}

/// A relay, and its addresses.
struct Relay {
    process: Running,
    endpoint: String,
    admin: String,
    _reader: Option<UnixStream>,
}

impl Relay {
    fn start(bootstrap: &str, directory: &Path, stderr: Stderr) -> Self {
        let (endpoint, admin) = (endpoint(), format!("127.0.0.1:{}", ports::free_port()));
        let from = format!("topics = [\"{TOPIC}\"], group = \"g\", start = \"earliest\"");
        let to = format!("bind = [\"{endpoint}\"], slow_peer = \"block\", min_peers = 1");
        let routes = relay_toml(bootstrap, &[RouteToml { name: "r", from: &from, to: &to }]);
        let (file, log) = (directory.join("zafka.toml"), directory.join("log"));
        std::fs::write(&file, format!("{routes}[admin]\nbind = \"{admin}\"\n")).unwrap();
        let (stdio, reader) = stderr.make(&log);
        let mut zafka = command(ZAFKA);
        zafka.args(["run".as_ref(), "-c".as_ref(), file.as_os_str()]);
        zafka.stdout(Stdio::null()).stderr(stdio);
        let process = Running::adopt(spawn(zafka), &log);
        Self { process, endpoint, admin, _reader: reader }
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        http::get(&self.admin, path).ok()
    }

    fn committed(&self) -> Option<i64> {
        let status: Value = serde_json::from_str(&self.get("/status")?.1).ok()?;
        status["routes"][0]["partitions"][0]["committed"].as_i64()
    }

    /// The metric of lines that were dropped.
    fn dropped(&self) -> Option<u64> {
        let (_, text) = self.get("/metrics")?;
        let line = text.lines().find(|line| line.starts_with("zafka_log_lines_dropped_total "))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

fn broker(records: usize) -> EmbeddedBroker {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic(TOPIC, 1).unwrap();
    let producer = broker.producer().unwrap();
    for _ in 0..records {
        producer
            .send(&EmbeddedRecord { topic: TOPIC, value: Some(b"v"), ..EmbeddedRecord::default() })
            .unwrap();
    }
    producer.flush(DEADLINE).unwrap();
    broker
}

#[test]
fn a_relay_goes_on_and_ends_in_order() {
    for stderr in [Stderr::ReaderGone, Stderr::DiskFull, Stderr::ReaderHangs] {
        let broker = broker(10);
        let directory = tempfile::tempdir().unwrap();
        let mut relay = Relay::start(&broker.bootstrap(), directory.path(), stderr);
        let sub = LibzmqSub::connect(&relay.endpoint, &[TOPIC]);
        sub.wait_messages(10, DEADLINE);
        wait_until(&format!("{stderr:?}: the relay to be ready"), DEADLINE, || {
            relay.get("/readyz").is_some_and(|(code, _)| code == 200)
        });
        if stderr == Stderr::ReaderHangs {
            // What waits for its reader is not dropped before there is much of it.
            assert_eq!(relay.dropped(), Some(0));
        } else {
            wait_until(&format!("{stderr:?}: dropped lines"), DEADLINE, || {
                relay.dropped() > Some(0)
            });
        }
        relay.process.terminate();
        let exit = relay.process.wait_exit(DEADLINE).and_then(|exit| exit.code());
        assert_eq!(exit, Some(0), "{stderr:?}");

        let mut next = Relay::start(&broker.bootstrap(), directory.path(), Stderr::Fine);
        wait_until(&format!("{stderr:?}: the committed offset"), DEADLINE, || {
            assert!(next.process.is_running(), "{}", next.process.log());
            next.committed() == Some(10)
        });
    }
}

#[test]
fn a_broker_that_stops_does_not_end_the_relay() {
    let broker = broker(1);
    let directory = tempfile::tempdir().unwrap();
    let mut relay = Relay::start(&broker.bootstrap(), directory.path(), Stderr::DiskFull);
    wait_until("the relay to be ready", DEADLINE, || {
        relay.get("/readyz").is_some_and(|(code, _)| code == 200)
    });
    broker.set_reachable(false).unwrap();
    wait_until("the relay to miss its broker", DEADLINE, || {
        relay.get("/readyz").is_some_and(|(code, body)| code == 503 && body.contains("no broker"))
    });
    broker.set_reachable(true).unwrap();
    wait_until("the relay to be ready again", DEADLINE, || {
        relay.get("/readyz").is_some_and(|(code, _)| code == 200)
    });
    assert!(relay.process.is_running());
}

/// A command's exit code with these two outputs, and the log.
fn exit_of(arguments: &[&str], stdout: Stdio, stderr: Stderr, log: &Path) -> (Option<i32>, String) {
    let (stdio, _reader) = stderr.make(log);
    let mut zafka = command(ZAFKA);
    zafka.args(arguments).stdout(stdout).stderr(stdio);
    let mut process = Running::adopt(spawn(zafka), log);
    let exit = process.wait_exit(Duration::from_secs(30));
    (exit.and_then(|exit| exit.code()), process.log())
}

#[test]
fn commands_end_with_their_own_codes() {
    let directory = tempfile::tempdir().unwrap();
    let (file, log) = (directory.path().join("zafka.toml"), directory.path().join("log"));
    std::fs::write(&file, "wrong = 1\n").unwrap();
    let file = file.to_str().unwrap();
    let demo = format!("tcp://127.0.0.1:{}", ports::free_port());
    let full_disk = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    for stderr in [Stderr::ReaderGone, Stderr::DiskFull, Stderr::ReaderHangs] {
        for (arguments, code) in [
            (&["run", "-c", file][..], 2),
            (&["run", "-c", "/nowhere/zafka.toml"], 2),
            (&["demo", "--bind", &demo, "--count", "3"], 0),
        ] {
            let (exit, _) = exit_of(arguments, Stdio::null(), stderr, &log);
            assert_eq!(exit, Some(code), "{stderr:?}: {arguments:?}");
        }
    }
    // Standard output that takes nothing is said, if that can be.
    let fine = directory.path().join("fine.toml");
    let route = "name = 'r'\nfrom.kafka = { topics = ['t'] }\n\
                 to.zmq = { socket = 'pub', bind = ['tcp://127.0.0.1:*'] }";
    std::fs::write(
        &fine,
        format!("[kafka]\nbootstrap_servers = ['127.0.0.1:1']\n[[route]]\n{route}\n"),
    )
    .unwrap();
    let fine = fine.to_str().unwrap();
    for arguments in [&["check", "-c", fine][..], &["demo", "--bind", &demo]] {
        let (exit, said) = exit_of(arguments, full_disk(), Stderr::Fine, &log);
        assert_eq!(exit, Some(1), "{arguments:?}: {said}");
        assert!(said.contains("cannot write to standard output: No space left"), "{said}");
        assert_eq!(
            exit_of(arguments, full_disk(), Stderr::DiskFull, &log).0,
            Some(1),
            "{arguments:?}"
        );
    }
}
