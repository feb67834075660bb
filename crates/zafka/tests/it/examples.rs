//! The clients in `examples/`, by the commands of their README.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use zafka_testkit::child::{Running, command, run};
use zafka_testkit::paths::{RunDir, once};
use zafka_testkit::{Zafka, ports};

use crate::ZAFKA;
use crate::common::endpoint;

/// Six runtimes start at the same time, on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// A language's row in the README.
pub struct Example {
    pub language: String,
    once: String,
    subscriber: String,
    pub sender: String,
}

/// The folder with the examples.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

/// The rows of the README's table.
pub fn examples() -> Vec<Example> {
    let text = fs::read_to_string(folder().join("README.md")).unwrap();
    let rows = text.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let rows = rows.filter_map(|cells| match cells[..] {
        ["", language, once, subscriber, sender, ""] if sender.contains("tcp://") => {
            Some(Example {
                language: language.to_lowercase(),
                once: once.trim_matches('`').to_owned(),
                subscriber: subscriber.trim_matches('`').to_owned(),
                sender: sender.trim_matches('`').to_owned(),
            })
        }
        _ => None,
    });
    let rows: Vec<_> = rows.collect();
    assert_eq!(rows.len(), 6, "languages in the table of examples/README.md");
    rows
}

impl Example {
    /// Copies the language's files and runs its first command there, unless that is done.
    pub fn prepare(&self) -> PathBuf {
        let files = fs::read_dir(folder().join(&self.language)).unwrap();
        let files = files.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        let mut files: Vec<_> = files.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        files.sort();
        let stamp = files.iter().fold(self.once.clone(), |stamp, (path, bytes)| {
            stamp + &path.display().to_string() + &String::from_utf8_lossy(bytes)
        });
        once(&format!("example-{}", self.language), &stamp, |place| {
            let _ = fs::remove_dir_all(place);
            fs::create_dir_all(place).unwrap();
            for (path, bytes) in &files {
                fs::write(place.join(path.file_name().unwrap()), bytes).unwrap();
            }
            let mut shell = Command::new("sh");
            shell.args(["-ec", &self.once]).current_dir(place);
            // What the test's own build was given is not for the example.
            for name in ["CARGO_TARGET_DIR", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
                shell.env_remove(name);
            }
            run(&mut shell);
        })
    }

    /// Starts the subscriber on another endpoint than the README's.
    fn subscribe(&self, endpoint: &str, logs: &RunDir) -> Running {
        let line = self.subscriber.replace("tcp://127.0.0.1:5556", endpoint);
        let mut shell = command("sh");
        shell.args(["-c", &format!("exec {line}")]).current_dir(self.prepare());
        Running::start(shell, &logs.join(&self.language))
    }
}

/// Waits until what a subscriber has printed is enough; panics with all of it at the deadline, or
/// if it ends.
fn wait_lines(
    example: &Example,
    subscriber: &mut Running,
    enough: impl Fn(&[&str]) -> bool,
) -> String {
    let end = Instant::now() + DEADLINE;
    loop {
        let running = subscriber.is_running();
        let log = subscriber.log();
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        if enough(&whole.lines().collect::<Vec<_>>()) {
            return whole.to_owned();
        }
        assert!(running && Instant::now() < end, "{} (runs: {running}):\n{log}", example.language);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The `meta` of a record, as zafka writes it.
fn meta(partition: i32, offset: i64, prev: Option<i64>, rest: &str) -> String {
    let prev = prev.map(|prev| format!(",\"prev\":{prev}")).unwrap_or_default();
    format!(
        r#"{{"v":1,"topic":"orders","partition":{partition},"offset":{offset},"timestamp":-1{prev}{rest}}}"#
    )
}

#[test]
#[ignore = "needs Java and Maven, Python, Node, Go, a C compiler, libzmq3-dev and the registries"]
fn subscribers_tell_what_is_missing() {
    let logs = RunDir::new("examples");
    let null = ",\"null_key\":true,\"null_value\":true";
    let quotes = r#","headers":[["x\"prev\":7","\"offset\":3,\"null_key\":true"]]"#;
    let messages = [
        (meta(0, 3, Some(2), ""), "k", "first"),
        (meta(1, 90, None, ""), "k", "another partition"),
        (meta(0, 4, Some(3), null), "", ""),
        // 5 and 6 are there for no reader, 8 is.
        (meta(0, 7, Some(4), quotes), "k", "a hole"),
        (meta(0, 9, Some(8), ""), "k", "one was missed"),
        (meta(0, 12, None, ""), "k", "begun anew"),
        (meta(0, 13, None, ""), "k", "nothing between"),
        (meta(0, 5, None, ""), "k", "a repeat"),
        (meta(0, 7, Some(5), ""), "k", "the end"),
    ];
    let expected = [
        "orders/0 @3 k first",
        "orders/1 @90 k another partition",
        "orders/0 @4 null null",
        "orders/0 @7 k a hole",
        "orders/0 gap: @8 to @8",
        "orders/0 @9 k one was missed",
        "orders/0 unknown: @10 to @11",
        "orders/0 @12 k begun anew",
        "orders/0 @13 k nothing between",
        "orders/0 back: @13 to @5",
        "orders/0 @5 k a repeat",
        "orders/0 @7 k the end",
    ];
    for example in examples() {
        let socket = zmq::Context::new().socket(zmq::XPUB).unwrap();
        socket.set_rcvtimeo(i32::try_from(DEADLINE.as_millis()).unwrap()).unwrap();
        let endpoint = format!("tcp://127.0.0.1:{}", ports::free_port());
        socket.bind(&endpoint).unwrap();
        let mut subscriber = example.subscribe(&endpoint, &logs);
        let subscription = socket.recv_bytes(0);
        assert_eq!(subscription.as_deref(), Ok(&b"\x01orders"[..]), "{}", subscriber.log());
        for (meta, key, value) in &messages {
            socket.send_multipart(["orders", meta.as_str(), *key, *value], 0).unwrap();
        }
        let shown = wait_lines(&example, &mut subscriber, |lines| lines.len() >= expected.len());
        assert_eq!(shown.lines().collect::<Vec<_>>(), expected, "{}", example.language);
    }
}

#[test]
#[ignore = "needs Java and Maven, Python, Node, Go, a C compiler, libzmq3-dev and the registries"]
fn subscribers_follow_a_relay() {
    let (logs, endpoint) = (RunDir::new("examples"), endpoint());
    let examples = examples();
    for example in &examples {
        example.prepare();
    }
    let mut demo = Zafka::spawn(ZAFKA, &["demo", "--bind", &endpoint]);
    let started = examples.iter().map(|example| example.subscribe(&endpoint, &logs));
    let started: Vec<_> = started.collect();
    for (example, mut subscriber) in examples.iter().zip(started) {
        let shown = wait_lines(example, &mut subscriber, |lines| lines.len() >= 5);
        for line in shown.lines() {
            // As the demo shows it: orders[0] @17 KEY  VALUE  HEADERS
            let (partition, rest) = line.split_once(' ').unwrap();
            let (offset, rest) = rest.split_once(' ').unwrap();
            let (key, value) = rest.split_once(' ').unwrap();
            let number = partition.strip_prefix("orders/").unwrap();
            let same = format!("orders[{number}] {offset} {key}  {value}  ");
            demo.wait_log(&same, DEADLINE);
        }
    }
}
