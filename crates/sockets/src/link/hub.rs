//! State that the links of one socket share: their number, their memory, and the counts of those
//! that came and went.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tracing::{debug, info, warn};
use zafka_zmtp::{PeerInfo, SocketType};

use super::blocks::Blocks;
use super::peer::Peer;
use super::places::Places;
use super::reserve::Reserves;
use super::seats::Seats;
use super::silence::SilenceConfig;
use crate::closed::Closed;
use crate::config::Heartbeat;
use crate::files;
use crate::gate::Gate;
use crate::memory::PeerMemory;
use crate::ration::Lines;
use crate::reached::Reached;
use crate::subscriptions::PeerId;

/// Accepted connections of a socket that may be in their handshake at the same time; others wait.
const HANDSHAKES: usize = 256;
/// Connections that may wait, unless few files may be open.
const WAITING: usize = 4096;
/// Connections that were not let in and are kept for a while, so that they do not try again at
/// once; others are closed at once.
const ENDINGS: usize = 256;
/// Time between two warnings for the same reason: a peer that is refused comes again ten times a
/// second.
const QUIET: Duration = Duration::from_secs(1);

/// Settings of each link of a socket.
#[derive(Clone, Debug)]
pub(crate) struct LinkConfig {
    pub(crate) socket_type: SocketType,
    /// Peers: connections whose handshake is done.
    pub(crate) max_peers: usize,
    /// Size of one inbound frame in bytes.
    pub(crate) max_frame: usize,
    /// Size of one inbound message in bytes.
    pub(crate) max_message: usize,
    pub(crate) handshake_timeout: Duration,
    pub(crate) heartbeat: Option<Heartbeat>,
    pub(crate) silence: SilenceConfig,
}

/// The stages of a socket's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Open,
    /// No more peers are accepted. Those that are there may finish what they have begun.
    Finishing,
    /// Every connection is ended.
    Closing,
}

/// Shared by the listeners, the connectors and the links of a socket.
#[derive(Debug)]
pub(crate) struct Hub {
    /// Name of the route, for the log.
    pub(crate) name: String,
    pub(crate) config: LinkConfig,
    /// Memory that peers make the socket hold.
    pub(crate) memory: Arc<PeerMemory>,
    /// Memory for input, if peers wait for it; otherwise input is a part of `memory`.
    pub(crate) reserves: Option<Reserves>,
    pub(crate) blocks: Blocks,
    /// Admits peers; every peer is admitted without it.
    pub(super) gate: Option<Arc<dyn Gate>>,
    /// The ends that the socket's own connections lead to.
    pub(crate) reached: Reached,
    /// Places of accepted connections in their handshake.
    pub(super) handshakes: Arc<Seats>,
    /// Places of accepted connections that were not let in.
    pub(super) endings: Arc<Seats>,
    stage: watch::Sender<Stage>,
    links: Mutex<Links>,
    emptied: Notify,
    accepted: AtomicU64,
    accepted_lines: Mutex<Lines>,
    /// Places of peers.
    pub(super) places: Places,
    closed: Mutex<BTreeMap<&'static str, Closings>>,
}

#[derive(Debug, Default)]
struct Links {
    count: usize,
    /// The next id; none is given twice.
    next: PeerId,
}

/// Connections that ended or were refused for one reason.
#[derive(Debug, Default)]
struct Closings {
    count: u64,
    warned: Option<Instant>,
    since_warned: u64,
}

/// A link, which a socket that ends waits for; gone when it is dropped.
#[derive(Debug)]
pub(super) struct LinkSlot<'a> {
    hub: &'a Hub,
    pub(super) id: PeerId,
}

impl Hub {
    pub(crate) fn new(
        name: &str,
        config: LinkConfig,
        memory: Arc<PeerMemory>,
        reserves: Option<Reserves>,
        gate: Option<Arc<dyn Gate>>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            places: Places::new(config.max_peers),
            config,
            reserves,
            gate,
            memory,
            blocks: Blocks::default(),
            reached: Reached::default(),
            handshakes: Seats::new(HANDSHAKES, files::share_of_waiting(WAITING)),
            endings: Seats::new(ENDINGS, 0),
            stage: watch::Sender::new(Stage::Open),
            links: Mutex::default(),
            emptied: Notify::new(),
            accepted: AtomicU64::new(0),
            accepted_lines: Mutex::default(),
            closed: Mutex::default(),
        }
    }

    /// Moves on to a stage; every link follows.
    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.send_replace(stage);
    }

    pub(super) fn stages(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Begins a link.
    pub(super) fn join(&self) -> LinkSlot<'_> {
        let mut links = self.links.lock();
        links.count += 1;
        links.next += 1;
        LinkSlot { hub: self, id: links.next - 1 }
    }

    /// Returns true if a gate decides which peers are let in.
    pub(super) fn is_gated(&self) -> bool {
        self.gate.is_some()
    }

    /// Returns true if there are `max_peers`.
    pub(super) fn is_full(&self) -> bool {
        self.connected() >= self.config.max_peers
    }

    /// Waits until no link is left; how long is up to the caller.
    pub(crate) async fn none_left(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            if self.links.lock().count == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Returns the reason to close a peer that needs more memory than peers may have.
    pub(crate) fn memory_exceeded(&self) -> Closed {
        Closed::Memory(self.memory.limit())
    }

    /// Counts and logs a handshake that succeeded. To be called once for each link.
    pub(super) fn count_ready(&self, peer: &Peer, info: &PeerInfo, now: Instant) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let (route, socket, line) =
            (&self.name, info.socket_type.name(), self.accepted_lines.lock().next(now));
        let peer = peer.address();
        match line {
            Some(0) => info!(route, peer, socket, "peer connected"),
            Some(left_out) => info!(route, peer, socket, left_out, "peer connected"),
            None => debug!(route, peer, socket, "peer connected"),
        }
    }

    /// Counts and logs a connection that is refused.
    pub(super) fn refuse(&self, peer: &str, reason: &Closed, now: Instant) {
        let route = &self.name;
        match (reason, self.count_closed(reason.label(), now)) {
            (Closed::BySocket, _) => debug!(route, peer, "connection refused: {reason}"),
            (_, Some(since_last_warning)) => {
                warn!(route, peer, since_last_warning, "connection refused: {reason}");
            }
            (_, None) => debug!(route, peer, "connection refused: {reason}"),
        }
    }

    /// Counts and logs the end of a connection.
    pub(super) fn end(&self, peer: &Peer, reason: &Closed, now: Instant) {
        let (route, peer) = (&self.name, peer.address());
        match (reason, self.count_closed(reason.label(), now)) {
            (Closed::ByPeer | Closed::BySocket | Closed::Io(_), _) => {
                debug!(route, peer, %reason, "peer gone");
            }
            (_, Some(since_last_warning)) => {
                warn!(route, peer, %reason, since_last_warning, "connection closed");
            }
            (_, None) => debug!(route, peer, %reason, "connection closed"),
        }
    }

    /// Counts a connection that ended or was refused. If that may be warned of again, returns how
    /// many there were since the last warning for the same reason.
    pub(super) fn count_closed(&self, reason: &'static str, now: Instant) -> Option<u64> {
        let mut closed = self.closed.lock();
        let closings = closed.entry(reason).or_default();
        closings.count += 1;
        if closings.warned.is_some_and(|warned| now.saturating_duration_since(warned) < QUIET) {
            closings.since_warned += 1;
            return None;
        }
        closings.warned = Some(now);
        Some(std::mem::take(&mut closings.since_warned))
    }

    /// Connections whose handshake succeeded, since the start.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections now whose handshake has succeeded.
    pub(crate) fn connected(&self) -> usize {
        self.places.taken()
    }

    /// Connections that ended or were refused since the start, by reason.
    pub(crate) fn closed(&self) -> Vec<(&'static str, u64)> {
        self.closed.lock().iter().map(|(reason, closings)| (*reason, closings.count)).collect()
    }
}

impl Drop for LinkSlot<'_> {
    fn drop(&mut self) {
        let mut links = self.hub.links.lock();
        links.count -= 1;
        if links.count == 0 {
            self.hub.emptied.notify_waiters();
        }
    }
}
