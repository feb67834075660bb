//! A subscriber in a child process.

use std::process::ExitStatus;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::{Kind, build};
use crate::child::{Running, command, spawn};
use crate::paths::RunDir;

/// A SUB that writes what it receives to a file. Dropping it kills it.
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
        let directory = RunDir::new("peer");
        let output = std::fs::File::create(directory.join("messages")).unwrap();
        let errors = std::fs::File::create(directory.join("peer.log")).unwrap();
        let mut peer = command(program);
        // Ten minutes: a test that hangs ends before its peers do.
        peer.args(args).args([endpoint, way, &count.to_string(), "600"]).args(prefixes);
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
