//! Sockets that take messages in: PULL, SUB and ROUTER.
//!
//! Each connection hands its messages over one by one, each with a permit for the memory it takes.
//! While there is no permit the connection is not read, so that the sender's own high-water mark
//! does its work. A ROUTER's sender gets answers, in a bounded buffer of its own.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

mod connection;
mod peer;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};
use zafka_zmtp::Discarded;

use crate::config::Heartbeat;
use crate::connect::{Connector, Failures};
use crate::listen::Listener;
use crate::{BindError, Endpoint};
use connection::Origin;
use peer::Peers;
pub use peer::{Sender, SenderSnapshot};

/// Memory that a message takes besides its frames, in bytes: bounds the number of small ones.
const MESSAGE_OVERHEAD: usize = 256;
/// Pause after a failed accept (out of file descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Kinds of sockets that take messages in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InboundKind {
    /// Serves PUSH.
    Pull,
    /// Serves PUB and XPUB, subscribed to these prefixes.
    Sub(Vec<Vec<u8>>),
    /// Serves DEALER and REQ, which get answers.
    Router,
}

/// A socket that takes messages in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundConfig {
    /// Its kind.
    pub kind: InboundKind,
    /// Endpoints to listen on.
    pub bind: Vec<Endpoint>,
    /// Mode of the files of ipc endpoints; as the umask has it if `None`.
    pub ipc_mode: Option<u32>,
    /// Endpoints to connect to, and to connect to again after a loss.
    pub connect: Vec<Endpoint>,
    /// Heartbeats; off as in libzmq if `None`.
    pub heartbeat: Option<Heartbeat>,
    /// Connections, those in their handshake included.
    pub max_peers: usize,
    /// Size of one message in bytes, at most 1 GiB. A larger one is thrown away as it comes, and
    /// told; one over 1 GiB ends its connection.
    pub max_message: usize,
    /// Time a connection has to finish its ZMTP handshake.
    pub handshake_timeout: Duration,
    /// Bytes of messages that were handed over and whose permits are held. A larger message goes
    /// alone.
    pub in_flight_bytes: usize,
}

/// A message as it was handed over.
#[derive(Debug)]
pub struct Inbound {
    /// Its sender.
    pub sender: Arc<Sender>,
    /// What came.
    pub content: Content,
    /// The memory it takes. To be held until the message is settled.
    pub permit: Permit,
}

/// What came of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// Its frames, one or more.
    Message(Vec<Bytes>),
    /// It was larger than `max_message`, and thrown away as it came.
    TooLarge(Discarded),
    /// Its frames; it had been read when the socket began to end, and is not to be taken.
    Late(Vec<Bytes>),
}

/// A share of `in_flight_bytes`, and the place of a message among those that its sender has under
/// way; dropped, both are free again.
#[derive(Debug)]
pub struct Permit {
    _memory: Option<OwnedSemaphorePermit>,
    sender: Arc<Sender>,
    bytes: usize,
}

impl Permit {
    fn new(memory: Option<OwnedSemaphorePermit>, sender: &Arc<Sender>, bytes: usize) -> Self {
        sender.begin(bytes);
        Self { _memory: memory, sender: Arc::clone(sender), bytes }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.sender.end(self.bytes);
    }
}

/// A socket with its listeners, connectors and senders.
#[derive(Debug)]
pub struct InboundSocket {
    shared: Arc<Shared>,
    endpoints: Vec<Endpoint>,
    tasks: Mutex<JoinSet<()>>,
}

/// Counts and memory of a socket at one moment.
#[derive(Clone, Debug)]
pub struct InboundSnapshot {
    /// Connections that became senders since the start.
    pub accepted: u64,
    /// Connections that ended or were refused since the start, by reason.
    pub closed: Vec<(&'static str, u64)>,
    /// Bytes of `in_flight_bytes` that are taken.
    pub bytes_in_flight: usize,
    /// Senders that are not read: their next message waits for memory, or they are on hold.
    pub senders_held: usize,
    /// The senders whose handshake is done.
    pub senders: Vec<SenderSnapshot>,
}

/// The stages of a socket's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Takes messages.
    Open,
    /// Has ended its own direction of each connection that gets no answers, and reads what still
    /// comes; takes nothing more from those that do.
    Finishing,
    /// Writes the answers that are left, then ends each connection.
    Closing,
}

#[derive(Debug)]
struct Shared {
    name: String,
    config: InboundConfig,
    memory: Arc<Semaphore>,
    /// Permits in all; what one message may take at the most.
    capacity: usize,
    messages: mpsc::UnboundedSender<Inbound>,
    peers: Peers,
    accepted: AtomicU64,
    stage: watch::Sender<Stage>,
}

impl InboundSocket {
    /// Binds every `bind` endpoint and begins to connect to every `connect` endpoint. `name` is for
    /// the logs. The channel is bounded by `in_flight_bytes`.
    ///
    /// # Errors
    /// The first endpoint that cannot be bound; those bound before it are let go.
    pub async fn start(
        name: &str,
        config: InboundConfig,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Inbound>), BindError> {
        let mut listeners = Vec::new();
        let mut endpoints = Vec::new();
        for endpoint in &config.bind {
            let failed = |source| BindError { endpoint: endpoint.clone(), source };
            let listener = Listener::bind(endpoint, config.ipc_mode).await.map_err(failed)?;
            endpoints.push(listener.endpoint().map_err(failed)?);
            listeners.push(listener);
        }
        let (messages, received) = mpsc::unbounded_channel();
        let capacity =
            config.in_flight_bytes.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            memory: Arc::new(Semaphore::new(capacity)),
            capacity,
            messages,
            peers: Peers::default(),
            accepted: AtomicU64::new(0),
            stage: watch::Sender::new(Stage::Open),
            config,
        });
        let mut tasks = JoinSet::new();
        for (listener, endpoint) in listeners.into_iter().zip(&endpoints) {
            info!(route = name, %endpoint, "bound");
            tasks.spawn(accept(Arc::clone(&shared), listener));
        }
        for endpoint in &shared.config.connect {
            endpoints.push(endpoint.clone());
            tasks.spawn(keep_connected(Arc::clone(&shared), endpoint.clone()));
        }
        Ok((Self { shared, endpoints, tasks: Mutex::new(tasks) }, received))
    }

    /// The endpoints it is bound to, wildcards resolved, and those it connects to.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Reads the socket's counts and senders now.
    pub fn snapshot(&self) -> InboundSnapshot {
        let senders = self.shared.peers.snapshot();
        InboundSnapshot {
            accepted: self.shared.accepted.load(Ordering::Relaxed),
            closed: self.shared.peers.closed(),
            bytes_in_flight: self.shared.capacity - self.shared.memory.available_permits(),
            senders_held: senders.iter().filter(|sender| sender.held_since.is_some()).count(),
            senders,
        }
    }

    /// How many senders are not read, and since when the first of them is, in ms since the epoch.
    pub fn held(&self) -> Option<(usize, i64)> {
        self.shared.peers.held()
    }

    /// Accepts nothing more. PULL and SUB end their own direction and read what senders still have
    /// under way, until each sender has ended its own or `deadline` has passed; ROUTER takes no
    /// further message. What was handed over before this returns is in the channel.
    pub async fn finish(&self, deadline: Instant) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
        self.shared.stage.send_replace(Stage::Finishing);
        if self.shared.config.kind != InboundKind::Router {
            let _ = timeout_at(deadline, self.shared.peers.none_left()).await;
        }
    }

    /// Writes the answers that are left within `grace`, then ends every connection.
    pub async fn close(&self, grace: Duration) {
        self.shared.stage.send_replace(Stage::Closing);
        let _ = timeout_at(Instant::now() + grace, self.shared.peers.none_left()).await;
    }
}

impl Drop for InboundSocket {
    fn drop(&mut self) {
        self.shared.stage.send_replace(Stage::Closing);
    }
}

impl Shared {
    /// Permits that a message of `size` bytes takes.
    fn permits(&self, size: usize) -> u32 {
        // The capacity fits into 32 bits.
        u32::try_from((size + MESSAGE_OVERHEAD).min(self.capacity)).unwrap_or(u32::MAX)
    }

    /// Takes the memory that a message takes, if it is free and nobody waits for it.
    fn try_permit(&self, size: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.memory).try_acquire_many_owned(self.permits(size)).ok()
    }

    /// Waits for the memory that a message takes, in turn with the other senders. There is always
    /// an end: the semaphore is never closed.
    fn permit(&self, size: usize) -> impl Future<Output = Memory> + Send + use<> {
        let permit = Arc::clone(&self.memory).acquire_many_owned(self.permits(size));
        async { permit.await.ok() }
    }
}

/// Memory of a message.
type Memory = Option<OwnedSemaphorePermit>;

async fn accept(shared: Arc<Shared>, listener: Listener) {
    let mut failing = false;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                failing = false;
                tokio::spawn(connection::serve(
                    Arc::clone(&shared),
                    stream,
                    address,
                    Origin::Accepted,
                ));
            }
            // It was gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(route = shared.name, %error, "accept failed; retrying");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn keep_connected(shared: Arc<Shared>, endpoint: Endpoint) {
    let (mut connector, mut failures) = (Connector::new(endpoint), Failures::default());
    loop {
        match connector.attempt().await {
            Ok(stream) => {
                // A task of its own: the connection ends with the socket, not with this task.
                let address = connector.endpoint().to_string();
                let serving =
                    connection::serve(Arc::clone(&shared), stream, address, Origin::Connected);
                if tokio::spawn(serving).await.unwrap_or(false) {
                    connector.succeeded();
                    failures.clear();
                }
            }
            Err(error) if failures.is_news(&error.to_string(), Instant::now()) => {
                let endpoint = connector.endpoint();
                warn!(route = shared.name, %endpoint, %error, "cannot connect; retrying");
            }
            Err(_) => {}
        }
        sleep(connector.next_pause()).await;
    }
}
