//! A process that takes part in a measurement: what it says, and what it costs.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use zafka_testkit::child::{Running, command, spawn};
use zafka_testkit::paths::RunDir;

use crate::Outcome;
use crate::cores::process_ns;

/// A line of a tool's standard output (see `baseline/common.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Records and bytes received so far.
    Counts {
        /// The time at which the line came.
        at: Instant,
        /// Records so far.
        records: u64,
        /// Bytes so far.
        bytes: u64,
    },
    /// It is ready.
    Ready,
    /// It has done what it was asked for.
    Done,
}

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    running: Running,
    lines: Receiver<Line>,
    _directory: RunDir,
}

impl Process {
    /// Starts this program as one of its tools.
    ///
    /// # Errors
    /// If this program cannot be found.
    pub fn tool(name: &str, arguments: &[&str]) -> Outcome<Self> {
        let mut all = vec![name];
        all.extend_from_slice(arguments);
        Self::start(name, std::env::current_exe()?, &all)
    }

    /// Starts any program.
    ///
    /// # Errors
    /// The log file.
    pub fn start(name: &str, program: impl AsRef<OsStr>, arguments: &[&str]) -> Outcome<Self> {
        let directory = RunDir::new(name);
        let log = directory.join("log");
        let mut command = command(program);
        command.args(arguments).env_remove("RUST_LOG");
        command.stdout(Stdio::piped()).stderr(fs::File::create(&log)?);
        let mut running = Running::adopt(spawn(command), &log);
        let output = running.child().stdout.take().ok_or("no standard output")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in parsed(output) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { name: name.to_owned(), running, lines, _directory: directory })
    }

    /// The next line, or `None` if there is none within `patience`.
    ///
    /// # Errors
    /// The process has ended.
    pub fn line(&mut self, patience: Duration) -> Outcome<Option<Line>> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err(format!("{} ended:\n{}", self.name, self.running.log_tail()).into())
            }
        }
    }

    /// Waits for a line that `wanted` accepts.
    ///
    /// # Errors
    /// The process has ended, or `patience` has.
    pub fn wait_line(&mut self, patience: Duration, wanted: impl Fn(Line) -> bool) -> Outcome<()> {
        let end = Instant::now() + patience;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if self.line(left)?.is_some_and(&wanted) {
                return Ok(());
            }
        }
        let log = self.running.log_tail();
        Err(format!("{} did not say what was waited for in {patience:?}\n{log}", self.name).into())
    }

    /// Returns all that it has written to standard error.
    pub fn log(&self) -> String {
        self.running.log()
    }

    /// Fails if the process has ended.
    ///
    /// # Errors
    /// It has, with the end of its log.
    pub fn check(&mut self) -> Outcome<()> {
        if self.running.is_running() {
            return Ok(());
        }
        Err(format!("{} ended:\n{}", self.name, self.running.log_tail()).into())
    }

    /// User and system time so far, in ns.
    ///
    /// # Errors
    /// The process has ended.
    pub fn cpu_ns(&self) -> Outcome<u64> {
        process_ns(self.running.pid())
    }

    /// Resident memory now and at its highest, in KiB.
    ///
    /// # Errors
    /// The process has ended.
    pub fn memory_kib(&self) -> Outcome<Memory> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.running.pid()))?;
        let field = |name| status_field(&text, name).ok_or("/proc/PID/status is not as expected");
        Ok(Memory { resident: field("VmRSS:")?, peak: field("VmHWM:")? })
    }
}

/// Resident memory in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The size at the moment.
    pub resident: u64,
    /// The most so far.
    pub peak: u64,
}

fn parsed(output: ChildStdout) -> impl Iterator<Item = Line> {
    BufReader::new(output).lines().map_while(Result::ok).filter_map(|line| {
        let mut words = line.split(' ');
        match words.next() {
            Some("S") => {
                let mut number = || words.next()?.parse().ok();
                Some(Line::Counts { at: Instant::now(), records: number()?, bytes: number()? })
            }
            Some("R") => Some(Line::Ready),
            Some("D") => Some(Line::Done),
            _ => None,
        }
    })
}

fn status_field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_proc() {
        let status = "Name:\tx\nVmHWM:\t    9000 kB\nVmRSS:\t    8120 kB\n";
        assert_eq!(
            (status_field(status, "VmRSS:"), status_field(status, "VmHWM:")),
            (Some(8120), Some(9000))
        );
    }
}
