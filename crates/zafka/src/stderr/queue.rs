//! A bounded queue of lines between the threads that log and the one that writes.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Pause before another try to write to what takes nothing now (a non-blocking descriptor).
const PAUSE: Duration = Duration::from_millis(10);

/// The queue.
#[derive(Debug)]
pub struct Queue {
    max_bytes: usize,
    state: Mutex<State>,
    filled: Condvar,
    written: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// True while a line that is no longer in the queue is being written.
    writing: bool,
}

impl Queue {
    /// A queue that holds `max_bytes` at the most.
    pub const fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            state: Mutex::new(State { lines: VecDeque::new(), bytes: 0, writing: false }),
            filled: Condvar::new(),
            written: Condvar::new(),
            dropped: AtomicU64::new(0),
        }
    }

    /// Adds a line, its end included; one for which there is no room is dropped. Never waits.
    pub fn push(&self, line: Vec<u8>) {
        let mut state = self.state.lock();
        if state.bytes + line.len() > self.max_bytes {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line);
        drop(state);
        self.filled.notify_one();
    }

    /// Lines that were dropped, for lack of room or because they could not be written.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything is written or dropped. False if that takes longer than `timeout`.
    pub fn flush(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.state.lock();
        while state.writing || !state.lines.is_empty() {
            if self.written.wait_until(&mut state, deadline).timed_out() {
                return false;
            }
        }
        true
    }

    /// Writes the lines to `out` for ever. After some were dropped, `tell` is given their number
    /// once those that wait are written, so that there is room for one more.
    pub fn write_to(&self, out: &mut impl Write, tell: impl Fn(u64)) {
        let (mut told, mut half_written) = (0, false);
        loop {
            let line = self.next();
            match write_line(out, &line, &mut half_written) {
                Ok(()) => {
                    let dropped = self.dropped();
                    if dropped > told && self.state.lock().lines.is_empty() {
                        tell(dropped - told);
                        told = dropped;
                    }
                }
                Err(_) => {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            self.state.lock().writing = false;
            self.written.notify_all();
        }
    }

    /// Waits for the next line. There is no deadline: it may never come.
    fn next(&self) -> Vec<u8> {
        let mut state = self.state.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.bytes -= line.len();
                state.writing = true;
                return line;
            }
            self.filled.wait(&mut state);
        }
    }
}

/// Writes a line, after the end of the one before it if that was written in part.
fn write_line(out: &mut impl Write, line: &[u8], half_written: &mut bool) -> io::Result<()> {
    if *half_written {
        write_all(out, b"\n", &mut false)?;
        *half_written = false;
    }
    write_all(out, line, half_written)
}

/// Writes all of `bytes`, and returns whether some of it was written when it fails.
fn write_all(out: &mut impl Write, bytes: &[u8], half_written: &mut bool) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(error) => {
                *half_written = written > 0;
                return Err(error);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// The result of a write: so many bytes, or an error.
    type Answer = Result<usize, ErrorKind>;

    /// An output whose every write waits for its answer.
    struct Output {
        answers: Receiver<Answer>,
        written: Arc<Mutex<String>>,
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // A test that has ended asks for nothing more.
            let answer = self.answers.recv().unwrap_or_else(|_| {
                loop {
                    thread::park()
                }
            });
            let taken = answer?.min(bytes.len());
            self.written.lock().push_str(std::str::from_utf8(&bytes[..taken]).unwrap());
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A queue of 40 bytes that is written to an output.
    fn queue() -> (&'static Queue, Sender<Answer>, Arc<Mutex<String>>) {
        let queue: &'static Queue = Box::leak(Box::new(Queue::new(40)));
        let (answer, answers) = channel();
        let written: Arc<Mutex<String>> = Arc::default();
        let mut output = Output { answers, written: Arc::clone(&written) };
        let tell = |lines| queue.push(format!("{lines} dropped\n").into_bytes());
        thread::spawn(move || queue.write_to(&mut output, tell));
        (queue, answer, written)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_cannot_be_written_is_dropped_counted_and_told() {
        let all: Answer = Ok(usize::MAX);
        for (answers, written, dropped) in [
            (&[all, all][..], "one\ntwo\n", 0),
            (&[Err(ErrorKind::BrokenPipe), Err(ErrorKind::BrokenPipe)], "", 2),
            (&[Err(ErrorKind::StorageFull), all, all], "two\n1 dropped\n", 1),
            // What was written of a line stays a line of its own.
            (&[Ok(2), Err(ErrorKind::StorageFull), all, all, all], "on\ntwo\n1 dropped\n", 1),
            (&[Ok(2), Err(ErrorKind::StorageFull), Err(ErrorKind::StorageFull)], "on", 2),
            (
                &[
                    Ok(1),
                    Err(ErrorKind::Interrupted),
                    Err(ErrorKind::WouldBlock),
                    Ok(2),
                    Ok(1),
                    all,
                ],
                "one\ntwo\n",
                0,
            ),
            (&[Ok(0), all, all], "two\n1 dropped\n", 1),
        ] {
            let (queue, answer, output) = queue();
            queue.push(b"one\n".to_vec());
            queue.push(b"two\n".to_vec());
            answers.iter().for_each(|next| answer.send(*next).unwrap());
            assert!(queue.flush(LONG), "{answers:?}");
            assert_eq!(
                (output.lock().as_str(), queue.dropped()),
                (written, dropped),
                "{answers:?}"
            );
        }
    }

    #[test]
    fn an_output_that_hangs_holds_nobody_up() {
        let (queue, answer, output) = queue();
        for number in 0..1000 {
            queue.push(format!("{number:03}\n").into_bytes());
        }
        assert!(!queue.flush(Duration::ZERO));
        // Ten lines have room, and one more if the first was under way before they came.
        let dropped = queue.dropped();
        assert!((989..=990).contains(&dropped), "{dropped}");
        for _ in 0..1000 - dropped + 1 {
            answer.send(Ok(usize::MAX)).unwrap();
        }
        assert!(queue.flush(LONG));
        let output = output.lock();
        assert!(
            output.starts_with("000\n") && output.contains(&format!("{dropped} dropped\n")),
            "{output}"
        );
    }
}
