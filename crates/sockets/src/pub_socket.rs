//! The PUB socket: live fan-out of chunks to SUB and XSUB peers.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::Endpoint;
use crate::chunk::{Chunk, Origin};
use crate::config::PubConfig;
use crate::connect::{Connector, Failures};
use crate::keep_running::keep_running;
use crate::listen::Listener;
use crate::peer::{self, Peer};
use crate::ring::{Demand, RingCounters};
use crate::shared::Shared;
use crate::wait::{Wait, since_epoch};

/// Bytes of chunks that are added before they are written, unless the ring is small.
const FLUSH_BYTES: usize = 512 * 1024;
/// Peers that a snapshot lists. (Few in tests.)
const PEERS_SHOWN: usize = if cfg!(test) { 3 } else { 1000 };
/// How many of a peer's subscriptions a snapshot lists, and how many bytes of each.
const PREFIXES_SHOWN: (usize, usize) = (20, 128);
/// Bytes of subscriptions that a snapshot lists, over all peers.
const PREFIX_BYTES_SHOWN: usize = if cfg!(test) { 200 } else { 1 << 20 };
/// How long peers have to answer the end of a connection with theirs.
const FAREWELL: Duration = Duration::from_secs(1);
/// Time between two looks at whether something has finished, where nothing tells.
const LOOK: Duration = Duration::from_millis(2);
/// Pause after a failed accept (out of file descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time between two looks at whether an endpoint still leads to a peer that another one leads to.
const SAME_PEER_PAUSE: Duration = Duration::from_secs(30);

/// Why a socket did not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind {endpoint}: {source}")]
pub struct BindError {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// A PUB socket with its listeners, connectors and peers.
#[derive(Debug)]
pub struct PubSocket {
    shared: Arc<Shared>,
    endpoints: Vec<Endpoint>,
    tasks: Mutex<JoinSet<()>>,
}

/// The one writer of a socket's ring.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    /// Peers that were idle and are owed what was added since the last flush.
    idle: Vec<Arc<Peer>>,
    /// Memory that the chunks added since then take, in bytes.
    unflushed: usize,
    flush_bytes: usize,
}

/// What is known of a socket at one moment.
#[derive(Clone, Debug)]
pub struct SocketSnapshot {
    /// Bytes of memory that the chunks in the ring take.
    pub ring_bytes: usize,
    /// Peers with at least one subscription.
    pub peers_subscribed: usize,
    /// Counts since the start.
    pub counters: RingCounters,
    /// Connections that became peers since the start.
    pub accepted: u64,
    /// Connections that ended or were refused since the start, by reason.
    pub closed: Vec<(&'static str, u64)>,
    /// What is waited for though nothing is wrong.
    pub waits: Vec<Wait>,
    /// Peers whose handshake is done.
    pub peers_connected: usize,
    /// Those peers, the first thousand of them; none in [`PubSocket::counts`].
    pub peers: Vec<PeerSnapshot>,
}

/// What is known of a peer at one moment.
#[derive(Clone, Debug)]
pub struct PeerSnapshot {
    /// `IP:PORT`, or the path of an ipc endpoint.
    pub address: String,
    /// SUB or XSUB.
    pub socket_type: &'static str,
    /// Its first subscriptions, sorted, each to its 128th byte. Of all peers together they have a
    /// megabyte, and a few more bytes.
    pub subscriptions: Vec<Vec<u8>>,
    /// How many it has.
    pub subscriptions_total: usize,
    /// Bytes in the ring that it has yet to be sent.
    pub bytes_queued: u64,
    /// Messages sent to it.
    pub messages_sent: u64,
    /// Messages skipped for it.
    pub messages_dropped: u64,
    /// When it connected, in ms since the epoch.
    pub connected_since: i64,
}

impl PubSocket {
    /// Binds every `bind` endpoint and begins to connect to every `connect` endpoint. `name` is for
    /// the logs.
    ///
    /// # Errors
    /// The first endpoint that cannot be bound; those bound before it are let go.
    pub async fn start(name: &str, config: PubConfig) -> Result<(Self, Publisher), BindError> {
        let mut listeners = Vec::new();
        let mut endpoints = Vec::new();
        for endpoint in &config.bind {
            let failed = |source| BindError { endpoint: endpoint.clone(), source };
            let listener = Listener::bind(endpoint, config.ipc_mode).await.map_err(failed)?;
            endpoints.push(listener.endpoint().map_err(failed)?);
            listeners.push(listener);
        }
        let shared = Shared::new(name.to_owned(), config);
        let mut tasks = JoinSet::new();
        for (listener, endpoint) in listeners.into_iter().zip(&endpoints) {
            info!(route = name, %endpoint, "bound");
            tasks.spawn(keep_accepting(Arc::clone(&shared), Arc::new(listener)));
        }
        for endpoint in &shared.config.connect {
            endpoints.push(endpoint.clone());
            let (shared, endpoint) = (Arc::clone(&shared), endpoint.clone());
            tasks.spawn(async move {
                let what = format!("the connector to {endpoint}");
                let make = || keep_connected(Arc::clone(&shared), endpoint.clone());
                keep_running(&shared.name, &what, make).await;
            });
        }
        let publisher = Publisher::new(Arc::clone(&shared));
        Ok((Self { shared, endpoints, tasks: Mutex::new(tasks) }, publisher))
    }

    /// The endpoints it is bound to, wildcards resolved, and those it connects to.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// What is known of the socket now, but for its peers: none of them is looked at.
    pub fn counts(&self) -> SocketSnapshot {
        let (ring_bytes, peers_subscribed, counters) = {
            let ring = self.shared.ring();
            (ring.bytes(), ring.subscribed(), ring.counters())
        };
        SocketSnapshot {
            ring_bytes,
            peers_subscribed,
            counters,
            accepted: self.shared.accepted(),
            closed: self.shared.closed(),
            waits: self.waits(),
            peers_connected: self.shared.connected(),
            peers: Vec::new(),
        }
    }

    /// What is known of the socket now. Peers are looked at one by one, so that many of them do not
    /// hold up a publisher.
    pub fn snapshot(&self) -> SocketSnapshot {
        let established = |peer: &&Arc<Peer>| peer.socket_type().is_some();
        let peers: Vec<_> =
            self.shared.ring().peers().filter(established).take(PEERS_SHOWN).cloned().collect();
        let mut prefix_bytes = 0;
        let of_peer = |peer: &Arc<Peer>| {
            let prefixes = if prefix_bytes < PREFIX_BYTES_SHOWN { PREFIXES_SHOWN } else { (0, 0) };
            let snapshot = self.peer_snapshot(peer, prefixes)?;
            prefix_bytes += snapshot.subscriptions.iter().map(Vec::len).sum::<usize>();
            Some(snapshot)
        };
        SocketSnapshot { peers: peers.iter().filter_map(of_peer).collect(), ..self.counts() }
    }

    /// What is waited for now though nothing is wrong. Peers are not looked at.
    pub fn waits(&self) -> Vec<Wait> {
        self.shared.full().into_iter().chain(self.shared.refused()).collect()
    }

    /// Nothing where the peer has left, or has its handshake before it.
    fn peer_snapshot(&self, peer: &Peer, prefixes: (usize, usize)) -> Option<PeerSnapshot> {
        let socket_type = peer.socket_type()?.name();
        let view = self.shared.ring().view(peer.id(), prefixes)?;
        Some(PeerSnapshot {
            address: peer.address().to_owned(),
            socket_type,
            subscriptions: view.prefixes,
            subscriptions_total: view.prefixes_total,
            bytes_queued: view.bytes_queued,
            messages_sent: view.messages_sent,
            messages_dropped: view.messages_dropped,
            connected_since: since_epoch(peer.since()),
        })
    }

    /// Demand for what has `frame` as its routing frame, or for anything where that is none;
    /// `min_peers` make it enough.
    pub fn demand(&self, frame: Option<Vec<u8>>) -> Arc<Demand> {
        self.shared.ring().demand(frame.map(Bytes::from), self.shared.config.min_peers)
    }

    /// Whether there were messages that no peer wanted.
    pub fn has_unheard(&self) -> bool {
        self.shared.ring().counters().records_unheard > 0
    }

    /// Waits until some demand became enough or too little. One waits at a time.
    pub async fn demand_changed(&self) {
        self.shared.demand_changed.notified().await;
    }

    /// Takes what is unsent of an origin out of the ring; messages that are half written are
    /// finished. The origin's delivered position does not move any more.
    pub fn withdraw(&self, origin: &Arc<Origin>) {
        self.shared.change(|ring| ring.withdraw(origin));
    }

    /// Waits until every peer has been written all that it is owed. False where that took longer
    /// than `deadline`.
    pub async fn drained(&self, deadline: Instant) -> bool {
        loop {
            if self.shared.ring().is_drained() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            sleep(LOOK).await;
        }
    }

    /// Ends every connection: what the kernel holds is still delivered, nothing else is.
    pub async fn close(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
        self.shared.closing.send_replace(true);
        let deadline = Instant::now() + FAREWELL;
        while self.shared.ring().peer_count() > 0 && Instant::now() < deadline {
            sleep(LOOK).await;
        }
    }
}

impl Drop for PubSocket {
    fn drop(&mut self) {
        self.shared.closing.send_replace(true);
    }
}

impl Publisher {
    /// Waits until a chunk that takes `size` bytes ([`Chunk::weight`]) may be published: peers
    /// enough, and (where slow peers block) room in the ring. There is no deadline here: a peer
    /// that is gone is closed (`peer_timeout`), and one that lives is waited for.
    pub async fn room(&self, size: usize) {
        while !self.admits(size) {
            self.shared.room.notified().await;
        }
    }

    /// Whether a chunk that takes `size` bytes may be published now.
    pub fn admits(&self, size: usize) -> bool {
        self.shared.admits(size)
    }

    /// Adds a chunk to the ring and writes it to the peers that are idle.
    pub fn publish(&mut self, chunk: Chunk) {
        self.add(chunk);
        self.flush();
    }

    /// Adds a chunk to the ring, to be written to the peers that are idle with the next
    /// [`Publisher::flush`], which has to follow: for chunks that are at hand one after the
    /// other. What comes to half a megabyte is written now. Each write wakes a peer's program,
    /// and costs more than the copying where it is small.
    pub fn add(&mut self, chunk: Chunk) {
        // A ring that drops what it has no room for would drop what is not written yet.
        if self.unflushed + chunk.weight() > self.shared.config.ring_bytes {
            self.flush();
        }
        self.unflushed += chunk.weight();
        // Whoever waits for room is the publisher itself: it is not told of what it makes.
        let mut ring = self.shared.ring();
        let spare = ring.publish(chunk, &mut self.idle);
        let (spent, unfinished) = (ring.take_spent(), ring.is_unfinished());
        drop(ring);
        drop((spare, spent));
        if unfinished {
            self.shared.change(|ring| ring.tidy());
        }
        if self.unflushed >= self.flush_bytes {
            self.flush();
        }
    }

    /// Writes what was added to the peers that were idle.
    pub fn flush(&mut self) {
        self.unflushed = 0;
        for peer in self.idle.drain(..) {
            peer.write_now(&self.shared);
        }
    }

    fn new(shared: Arc<Shared>) -> Self {
        let flush_bytes = FLUSH_BYTES.min(shared.config.ring_bytes / 8);
        Self { shared, idle: Vec::new(), unflushed: 0, flush_bytes }
    }
}

async fn keep_accepting(shared: Arc<Shared>, listener: Arc<Listener>) {
    let make = || accept(Arc::clone(&shared), Arc::clone(&listener));
    keep_running(&shared.name, "the listener", make).await;
}

async fn accept(shared: Arc<Shared>, listener: Arc<Listener>) {
    let mut failing = false;
    loop {
        // Connections that are not accepted cost us nothing; the kernel bounds them.
        let Ok(slot) = Arc::clone(&shared.handshakes).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, address)) => {
                failing = false;
                let (shared, origin) = (Arc::clone(&shared), peer::Origin::Accepted);
                tokio::spawn(peer::serve(shared, stream, address, origin, Some(slot)));
            }
            // It was gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(route = shared.name, %error, "connections cannot be accepted, trying on");
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
            Ok(stream) => match shared.reached.claim(connector.endpoint(), &stream) {
                Ok(_claim) => {
                    // A task of its own: the connection is ended by the socket's closing, not with
                    // this one.
                    let serving = tokio::spawn(peer::serve(
                        Arc::clone(&shared),
                        stream,
                        connector.endpoint().to_string(),
                        peer::Origin::Connected,
                        None,
                    ));
                    if serving.await.unwrap_or(false) {
                        connector.succeeded();
                        failures.clear();
                    }
                }
                Err(other) => {
                    drop(stream);
                    shared.count_closed("same_peer");
                    // The name's other addresses are not tried: they may well be that peer's too.
                    connector.succeeded();
                    let reason = format!(
                        "it leads to the same peer as {other}, which would get everything twice"
                    );
                    if failures.is_news(&reason, Instant::now()) {
                        warn!(route = shared.name, endpoint = %connector.endpoint(), reason, "not used");
                    }
                    sleep(SAME_PEER_PAUSE).await;
                }
            },
            Err(error) if failures.is_news(&error.to_string(), Instant::now()) => {
                let endpoint = connector.endpoint();
                warn!(route = shared.name, %endpoint, %error, "cannot connect, trying again");
            }
            Err(_) => {}
        }
        sleep(connector.next_pause()).await;
    }
}
