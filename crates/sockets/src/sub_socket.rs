//! A SUB socket of one connection, for looking at what an endpoint publishes.

use std::io::{self, IoSlice};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, sleep, timeout_at};
use zafka_zmtp::{Config, Connection, Event, Mechanism, Role, SocketType};

use crate::Endpoint;
use crate::connect::Connector;
use crate::stream::Stream;

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;
/// How long the other side has for its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Size of one message, and of one frame, in bytes.
const MAX_MESSAGE: usize = 1 << 30;
/// Events that wait to be taken; then no more is read.
const EVENTS: usize = 64;

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

/// A SUB socket that connects to one endpoint, and connects again if the connection is lost.
///
/// A task of its own connects and reads, so that it makes progress whether somebody waits for the
/// next event or not.
#[derive(Debug)]
pub struct SubSocket {
    events: mpsc::Receiver<SubEvent>,
    task: JoinHandle<()>,
}

impl SubSocket {
    /// A socket that subscribes to `prefixes`; it begins at once, on the runtime that it is made
    /// on.
    pub fn new(endpoint: Endpoint, prefixes: Vec<Vec<u8>>) -> Self {
        let (sender, events) = mpsc::channel(EVENTS);
        Self { events, task: tokio::spawn(run(endpoint, prefixes, sender)) }
    }

    /// The next event. Waits as long as there is none; may be dropped at any time without losing
    /// one.
    pub async fn next(&mut self) -> SubEvent {
        match self.events.recv().await {
            Some(event) => event,
            // The task ends with the socket or with the runtime, and there is nothing to wait for
            // then.
            None => std::future::pending().await,
        }
    }
}

impl Drop for SubSocket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Nobody takes the events any more.
#[derive(Debug)]
struct Dropped;

/// Connects and reads until nobody takes the events any more.
async fn run(endpoint: Endpoint, prefixes: Vec<Vec<u8>>, events: mpsc::Sender<SubEvent>) {
    let mut connector = Connector::new(endpoint);
    loop {
        let reason = match connector.attempt().await {
            Ok(stream) => {
                let mut link = Link::new(stream, &prefixes);
                let Ok(reason) = link.serve(&events).await else { return };
                if link.connection.is_ready() {
                    connector.succeeded();
                }
                reason
            }
            Err(error) => error.to_string(),
        };
        if events.send(SubEvent::Disconnected(reason)).await.is_err() {
            return;
        }
        sleep(connector.next_pause()).await;
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

/// One connection.
#[derive(Debug)]
struct Link {
    stream: Stream,
    connection: Connection,
    output: Vec<u8>,
    handshake_end: Instant,
}

impl Link {
    fn new(stream: Stream, prefixes: &[Vec<u8>]) -> Self {
        let mut connection = Connection::new(config(), std::time::Instant::now());
        for prefix in prefixes {
            connection.subscribe(prefix);
        }
        Self {
            stream,
            connection,
            output: Vec::new(),
            handshake_end: Instant::now() + HANDSHAKE_TIMEOUT,
        }
    }

    /// Serves the connection to its end, and gives the reason for that.
    async fn serve(&mut self, events: &mpsc::Sender<SubEvent>) -> Result<String, Dropped> {
        loop {
            if let Err(reason) = self.wait().await {
                return Ok(reason);
            }
            let ended = self.read().err();
            while let Some(event) = self.connection.poll_event() {
                let event = match event {
                    Event::Ready(_) => SubEvent::Connected,
                    Event::Message(frames) => SubEvent::Message(frames),
                    Event::Subscribe(_) | Event::Cancel(_) => continue,
                };
                events.send(event).await.map_err(|_| Dropped)?;
            }
            if let Some(reason) = ended {
                return Ok(reason);
            }
        }
    }

    /// Writes what there is to say, and waits for something to read or for room to write.
    async fn wait(&mut self) -> Result<(), String> {
        let blocked = self.flush().map_err(|error| error.to_string())?;
        let ready = async {
            tokio::select! {
                readable = self.stream.readable() => readable,
                writable = self.stream.writable(), if blocked => writable,
            }
        };
        let ready = if self.connection.is_ready() {
            // Without a deadline: a publisher is silent for as long as it has nothing to publish.
            ready.await
        } else {
            let waited = timeout_at(self.handshake_end, ready).await;
            waited.map_err(|_| format!("no handshake within {} s", HANDSHAKE_TIMEOUT.as_secs()))?
        };
        ready.map_err(|error| error.to_string())
    }

    /// Writes what can be written; true if more is left.
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

    fn read(&mut self) -> Result<(), String> {
        let mut buffer = vec![0; READ_BYTES];
        let read = match self.stream.try_read(&mut buffer) {
            Ok(0) => return Err("the other side closed the connection".to_owned()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        let outcome = self.connection.handle_input(&buffer[..read], std::time::Instant::now());
        outcome.map_err(|error| error.to_string())
    }
}
