//! A subscriber or a sender in a child process.

use std::process::{Command, ExitStatus};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::{Kind, build};
use crate::child::{Running, command, spawn};
use crate::paths::RunDir;

/// Messages for a sender; which they are, `peers/python/send.py` says.
#[derive(Debug, Clone, Copy)]
pub struct Sending<'a> {
    /// "connect" or "bind".
    pub way: &'a str,
    /// "push", "pub", "dealer" or "req".
    pub socket: &'a str,
    /// The topic's frame.
    pub topic: &'a str,
    /// The number of messages.
    pub count: usize,
    /// Those of a DEALER without an answer at the most.
    pub window: usize,
    /// Bytes of a value, 20 or more.
    pub value_size: usize,
}

impl Sending<'_> {
    /// The value of a message.
    pub fn value(&self, number: usize) -> Vec<u8> {
        format!("{:.<width$}", format!("{number:020}"), width = self.value_size).into_bytes()
    }

    /// The key of a message.
    pub fn key(&self, number: usize) -> Vec<u8> {
        format!("k{}", number % 5).into_bytes()
    }
}

/// A SUB that writes what it receives to a file, or a sender that does so with its answers.
/// Dropping it kills it.
#[derive(Debug)]
pub struct Peer {
    process: Running,
    directory: RunDir,
    kind: Kind,
}

impl Peer {
    /// Connects to `endpoint` and ends after `count` messages (0: never).
    pub fn spawn(kind: Kind, endpoint: &str, prefixes: &[&str], count: usize) -> Self {
        Self::start(kind, "connect", endpoint, prefixes, count)
    }

    /// Binds `endpoint`, for a PUB that connects.
    pub fn bind(kind: Kind, endpoint: &str, prefixes: &[&str], count: usize) -> Self {
        Self::start(kind, "bind", endpoint, prefixes, count)
    }

    fn start(kind: Kind, way: &str, endpoint: &str, prefixes: &[&str], count: usize) -> Self {
        let (program, args) = build::program(kind);
        let mut peer = command(program);
        // Ten minutes: a test that hangs ends before its peers do.
        peer.args(args).args([endpoint, way, &count.to_string(), "600"]).args(prefixes);
        Self::run(kind, peer)
    }

    /// Sends `sending` and ends; its messages are the answers that it gets.
    pub fn send(kind: Kind, endpoint: &str, sending: &Sending<'_>) -> Self {
        let Sending { way, socket, topic, count, window, value_size } = sending;
        let (program, args) = build::sender(kind);
        let numbers = [count, window, value_size].map(ToString::to_string);
        let mut peer = command(program);
        peer.args(args).args([endpoint, way, "600", socket, topic]).args(numbers);
        Self::run(kind, peer)
    }

    fn run(kind: Kind, mut peer: Command) -> Self {
        let directory = RunDir::new("peer");
        let output = std::fs::File::create(directory.join("messages")).unwrap();
        let errors = std::fs::File::create(directory.join("peer.log")).unwrap();
        peer.stdout(output).stderr(errors);
        let process = Running::adopt(spawn(peer), &directory.join("peer.log"));
        Self { process, directory, kind }
    }

    /// The process: kill, log.
    pub fn process(&mut self) -> &mut Running {
        &mut self.process
    }

    /// SIGSTOP: nothing is read any more, the connection stays.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// SIGCONT.
    pub fn cont(&mut self) {
        self.process.cont();
    }

    /// Messages so far, each as its frames.
    pub fn messages(&self) -> Vec<Vec<Vec<u8>>> {
        let text = std::fs::read_to_string(self.directory.join("messages")).unwrap();
        // What follows the last line end is still being written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(decode).collect()
    }

    /// Waits until there are `count` messages, and gives all; panics with what the peer printed
    /// at the deadline or when the peer has ended.
    pub fn wait_messages(&mut self, count: usize, deadline: Duration) -> Vec<Vec<Vec<u8>>> {
        let end = std::time::Instant::now() + deadline;
        loop {
            // Asked first: what it wrote before it ended is then complete.
            let running = self.process.is_running();
            let lines = count_lines(&self.directory.join("messages"));
            if lines >= count {
                return self.messages();
            }
            if !running || std::time::Instant::now() >= end {
                let log = self.process.log_tail();
                panic!("{:?} has {lines} of {count} messages (runs: {running})\n{log}", self.kind);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for the exit that follows the last message; `None` at the deadline.
    pub fn wait_exit(&mut self, deadline: Duration) -> Option<ExitStatus> {
        self.process.wait_exit(deadline)
    }
}

fn count_lines(path: &std::path::Path) -> usize {
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

fn decode(line: &str) -> Vec<Vec<u8>> {
    let frames: Vec<String> =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    frames.iter().map(|frame| BASE64_STANDARD.decode(frame).unwrap()).collect()
}
