//! Standard error: lines are queued, and a thread of its own writes them.
//!
//! A thread that logs never waits for standard error or fails with it, even if that is a pipe that
//! is not read, or a full disk. A line that cannot be written is dropped and counted.

mod panics;
mod queue;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

pub use panics::count as panics;
use queue::Queue;

/// Bytes that wait to be written at the most.
const QUEUE_BYTES: usize = 4 << 20;
/// Time for what waits, at the end of the process.
const FLUSH: Duration = Duration::from_secs(1);
/// Time for what waits, when a thread panics: the process may be about to end.
const PANIC_FLUSH: Duration = Duration::from_millis(250);

static QUEUE: Queue = Queue::new(QUEUE_BYTES);

/// Begins to write what is said, and says it when a thread panics.
///
/// # Errors
/// The thread cannot be started.
pub fn start() -> io::Result<()> {
    // A descriptor of its own: other writers to standard error hold that one's lock.
    let mut out = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let dropped = |lines| tracing::warn!(lines, "log lines were dropped: standard error took none");
    thread::Builder::new()
        .name("stderr".to_owned())
        .spawn(move || QUEUE.write_to(&mut out, dropped))?;
    panics::report();
    Ok(())
}

/// Queues a line.
pub fn say(text: &str) {
    QUEUE.push(format!("{text}\n").into_bytes());
}

/// Waits until everything is written, or for a second.
pub fn flush() {
    QUEUE.flush(FLUSH);
}

/// Lines that were dropped.
pub fn dropped() -> u64 {
    QUEUE.dropped()
}

/// Makes writers of which each queues what is written to it at a time. They never fail.
#[derive(Clone, Copy, Debug)]
pub struct Lines;

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        QUEUE.push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
