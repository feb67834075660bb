//! A SUB socket of one connection, for looking at what an endpoint publishes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::Bytes;
use tokio::time::{Duration, Instant, timeout};
use zafka_zmtp::{Config, Connection, Event, Mechanism, Role, SocketType};

use crate::Endpoint;
use crate::connect::{Backoff, connect};
use crate::stream::Stream;

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;
/// How long the other side has for its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Size of one message, and of one frame, in bytes.
const MAX_MESSAGE: usize = 1 << 30;

/// What happens on a SUB socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubEvent {
    /// The handshake is done, and the subscriptions are on their way.
    Connected,
    /// The connection could not be made or was lost, and why; it is tried again.
    Disconnected(String),
    /// A message, frame by frame.
    Message(Vec<Bytes>),
}

/// A SUB socket that connects to one endpoint, and connects again where the connection is lost.
#[derive(Debug)]
pub struct SubSocket {
    endpoint: Endpoint,
    prefixes: Vec<Vec<u8>>,
    backoff: Backoff,
    link: Option<Link>,
    events: VecDeque<SubEvent>,
    next_attempt: Instant,
}

#[derive(Debug)]
struct Link {
    stream: Stream,
    connection: Connection,
    output: Vec<u8>,
}

impl SubSocket {
    /// A socket that will subscribe to `prefixes`.
    pub fn new(endpoint: Endpoint, prefixes: Vec<Vec<u8>>) -> Self {
        Self {
            endpoint,
            prefixes,
            backoff: Backoff::default(),
            link: None,
            events: VecDeque::new(),
            next_attempt: Instant::now(),
        }
    }

    /// The next event. Waits as long as there is none; may be dropped at any time without losing one.
    pub async fn next(&mut self) -> SubEvent {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            let outcome = match &mut self.link {
                Some(link) => link.step(&mut self.events).await,
                None => {
                    tokio::time::sleep_until(self.next_attempt).await;
                    connect(&self.endpoint).await.map_err(|error| error.to_string()).map(|stream| {
                        let mut connection = Connection::new(config(), std::time::Instant::now());
                        for prefix in &self.prefixes {
                            connection.subscribe(prefix);
                        }
                        self.link = Some(Link { stream, connection, output: Vec::new() });
                    })
                }
            };
            match outcome {
                Ok(()) if matches!(self.events.front(), Some(SubEvent::Connected)) => self.backoff.reset(),
                Ok(()) => {}
                Err(reason) => {
                    self.link = None;
                    self.next_attempt = Instant::now() + self.backoff.next_pause();
                    self.events.push_back(SubEvent::Disconnected(reason));
                }
            }
        }
    }
}

fn config() -> Config {
    Config {
        socket_type: SocketType::Sub,
        role: Role::Client,
        mechanism: Mechanism::Null,
        identity: Bytes::new(),
        max_frame: MAX_MESSAGE,
        max_message: MAX_MESSAGE,
        heartbeat: None,
    }
}

impl Link {
    /// Writes what there is to say and reads once.
    async fn step(&mut self, events: &mut VecDeque<SubEvent>) -> Result<(), String> {
        let blocked = self.flush().map_err(|error| error.to_string())?;
        let ready = async {
            tokio::select! {
                readable = self.stream.readable() => readable,
                writable = self.stream.writable(), if blocked => writable,
            }
        };
        if self.connection.is_ready() {
            ready.await.map_err(|error| error.to_string())?;
        } else {
            let waited = timeout(HANDSHAKE_TIMEOUT, ready).await;
            waited.map_err(|_| "no handshake within 5 s".to_owned())?.map_err(|error| error.to_string())?;
        }
        self.read(events)
    }

    /// Writes what can be written; true where more is left.
    fn flush(&mut self) -> io::Result<bool> {
        while let Some(output) = self.connection.poll_output() {
            self.output.extend_from_slice(&output);
        }
        while !self.output.is_empty() {
            match self.stream.try_write_vectored(&[IoSlice::new(&self.output)]) {
                Ok(written) => drop(self.output.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn read(&mut self, events: &mut VecDeque<SubEvent>) -> Result<(), String> {
        let mut buffer = vec![0; READ_BYTES];
        let read = match self.stream.try_read(&mut buffer) {
            Ok(0) => return Err("the other side closed the connection".to_owned()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        let outcome = self.connection.handle_input(&buffer[..read], std::time::Instant::now());
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Ready(_) => events.push_back(SubEvent::Connected),
                Event::Message(frames) => events.push_back(SubEvent::Message(frames)),
                Event::Subscribe(_) | Event::Cancel(_) => {}
            }
        }
        outcome.map_err(|error| error.to_string())
    }
}
