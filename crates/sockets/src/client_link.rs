//! One connection that we opened: handshake, reading, and writing what there is to say.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::io::{self, IoSlice};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, timeout_at};
use zafka_zmtp::curve::Sealer;
use zafka_zmtp::{Config, Connection, Mechanism, Role, SocketType};

use crate::stream::Stream;

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;
/// Time that the other side has for its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Size of one message, and of one frame, in bytes.
const MAX_MESSAGE: usize = 1 << 30;

/// The receiver of a socket's events has gone.
#[derive(Debug)]
pub(crate) struct Dropped;

/// Events that wait to be taken; then nothing more is read.
const EVENTS: usize = 64;

/// The events of a task of its own, which ends with this.
#[derive(Debug)]
pub(crate) struct EventStream<E> {
    events: mpsc::Receiver<E>,
    task: JoinHandle<()>,
}

impl<E> EventStream<E> {
    /// Starts the task, which begins at once, on the runtime that this is called on.
    pub(crate) fn spawn<F>(task: impl FnOnce(mpsc::Sender<E>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, events) = mpsc::channel(EVENTS);
        Self { events, task: tokio::spawn(task(sender)) }
    }

    /// The next event. Waits as long as there is none; may be dropped at any time.
    pub(crate) async fn next(&mut self) -> E {
        match self.events.recv().await {
            Some(event) => event,
            // The task ends after its last event or with the runtime; there is nothing to wait for
            // then.
            None => std::future::pending().await,
        }
    }

    /// The next event, if one is at hand.
    pub(crate) fn try_next(&mut self) -> Option<E> {
        self.events.try_recv().ok()
    }
}

impl<E> Drop for EventStream<E> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection of a socket that has one endpoint.
#[derive(Debug)]
pub(crate) struct ClientLink {
    stream: Stream,
    /// The protocol's state.
    pub(crate) connection: Connection,
    /// Bytes on their way: commands and messages, whole, in their order, boxed with CURVE.
    output: Vec<u8>,
    /// Boxes what is sent once a CURVE handshake is done.
    sealer: Option<Sealer>,
    written: usize,
    /// Bytes that were written before those in `output`.
    written_before: u64,
    handshake_end: Instant,
}

impl ClientLink {
    /// Takes over a stream.
    pub(crate) fn new(stream: Stream, socket_type: SocketType, mechanism: Mechanism) -> Self {
        let config = Config {
            socket_type,
            role: Role::Client,
            mechanism,
            identity: Bytes::new(),
            max_frame: MAX_MESSAGE,
            max_message: MAX_MESSAGE,
            heartbeat: None,
        };
        Self {
            stream,
            connection: Connection::new(config, std::time::Instant::now()),
            output: Vec::new(),
            sealer: None,
            written: 0,
            written_before: 0,
            handshake_end: Instant::now() + HANDSHAKE_TIMEOUT,
        }
    }

    /// Queues whole messages to be written. Returns the place of their end in all that is written.
    ///
    /// # Errors
    /// The connection has to be ended, and why.
    pub(crate) fn queue(&mut self, messages: &[u8]) -> Result<u64, String> {
        self.take_replies()?;
        self.put(messages)?;
        Ok(self.written_before + self.output.len() as u64)
    }

    /// Bytes that are queued and not written yet.
    pub(crate) fn unwritten(&self) -> usize {
        self.output.len() - self.written
    }

    /// Bytes that the kernel took since the connection was made.
    pub(crate) fn written(&self) -> u64 {
        self.written_before + self.written as u64
    }

    /// Writes what there is to say, and waits for something to read or for room to write. May be
    /// dropped at any time.
    ///
    /// # Errors
    /// The connection has to be ended, and why.
    pub(crate) async fn wait(&mut self) -> Result<(), String> {
        let blocked = self.flush()?;
        self.ready(blocked).await
    }

    /// Waits for something to read or, if writing was `blocked`, for room to write. May be dropped
    /// at any time.
    ///
    /// # Errors
    /// The connection has to be ended, and why.
    pub(crate) async fn ready(&self, blocked: bool) -> Result<(), String> {
        let ready = async {
            tokio::select! {
                readable = self.stream.readable() => readable,
                writable = self.stream.writable(), if blocked => writable,
            }
        };
        let ready = if self.connection.is_ready() {
            // Without a deadline: the other side is silent for as long as it has nothing to say.
            ready.await
        } else {
            let waited = timeout_at(self.handshake_end, ready).await;
            waited.map_err(|_| format!("no handshake within {} s", HANDSHAKE_TIMEOUT.as_secs()))?
        };
        ready.map_err(|error| error.to_string())
    }

    /// Writes what can be written; true if more is left.
    ///
    /// # Errors
    /// The connection has to be ended, and why.
    pub(crate) fn flush(&mut self) -> Result<bool, String> {
        self.take_replies()?;
        while let Some(rest) = self.output.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.stream.try_write_vectored(&[IoSlice::new(rest)]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        self.written_before += std::mem::take(&mut self.written) as u64;
        self.output.clear();
        Ok(false)
    }

    /// Reads once, if there is something.
    ///
    /// # Errors
    /// The connection has ended or has to be ended, and why. Events may have come before that.
    pub(crate) fn read(&mut self) -> Result<(), String> {
        let mut buffer = vec![0; READ_BYTES];
        let read = match self.stream.try_read(&mut buffer) {
            Ok(0) => return Err("the other side closed the connection".to_owned()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        let input = buffer.get(..read).unwrap_or_default();
        let outcome = self.connection.handle_input(input, std::time::Instant::now());
        outcome.map_err(|error| error.to_string())
    }

    /// Ends our direction; what the kernel holds is still delivered.
    ///
    /// # Errors
    /// The connection has ended already, and why.
    pub(crate) fn end(&self) -> Result<(), String> {
        self.stream.shutdown_write().map_err(|error| error.to_string())
    }

    fn take_replies(&mut self) -> Result<(), String> {
        while let Some(output) = self.connection.poll_output() {
            self.put(&output)?;
        }
        // The end of the handshake goes out as it is; what follows is boxed.
        if let Some(sealer) = self.connection.take_sealer() {
            self.sealer = Some(sealer);
            return self.take_replies();
        }
        Ok(())
    }

    fn put(&mut self, frames: &[u8]) -> Result<(), String> {
        match &mut self.sealer {
            Some(sealer) => {
                sealer.seal(frames, &mut self.output).map_err(|error| error.to_string())
            }
            None => {
                self.output.extend_from_slice(frames);
                Ok(())
            }
        }
    }
}
