//! State that the links of one socket share: their number, their memory, and the counts of those
//! that came and went.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tracing::{debug, info, warn};
use zafka_zmtp::{PeerInfo, SocketType};

use super::peer::Peer;
use super::reserve::Reserves;
use super::silence::SilenceConfig;
use crate::closed::Closed;
use crate::config::Heartbeat;
use crate::gate::Gate;
use crate::memory::PeerMemory;
use crate::ration::Lines;
use crate::reached::Reached;
use crate::subscriptions::PeerId;

/// Accepted connections of a socket that may be in their handshake at the same time; others wait to
/// be accepted.
const HANDSHAKES: usize = 256;
/// Time between two warnings for the same reason: a peer that is refused comes again ten times a
/// second.
const QUIET: Duration = Duration::from_secs(1);

/// Settings of each link of a socket.
#[derive(Clone, Debug)]
pub(crate) struct LinkConfig {
    pub(crate) socket_type: SocketType,
    /// Connections, those in their handshake included.
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
    /// Of the route, for the log.
    pub(crate) name: String,
    pub(crate) config: LinkConfig,
    /// Memory that peers make the socket hold.
    pub(crate) memory: Arc<PeerMemory>,
    /// Memory for input, if peers wait for it; otherwise input is a part of `memory`.
    pub(crate) reserves: Option<Reserves>,
    /// Admits peers; every peer is admitted without it.
    pub(super) gate: Option<Arc<dyn Gate>>,
    /// The ends that the socket's own connections lead to.
    pub(crate) reached: Reached,
    /// Places of accepted connections in their handshake.
    handshakes: Arc<Semaphore>,
    stage: watch::Sender<Stage>,
    links: Mutex<Links>,
    emptied: Notify,
    accepted: AtomicU64,
    accepted_lines: Mutex<Lines>,
    connected: AtomicUsize,
    closed: Mutex<BTreeMap<&'static str, Closings>>,
}

#[derive(Debug, Default)]
struct Links {
    count: usize,
    /// Never given twice.
    next: PeerId,
}

/// Connections that ended or were refused for one reason.
#[derive(Debug, Default)]
struct Closings {
    count: u64,
    warned: Option<Instant>,
    since_warned: u64,
}

/// A link's slot among the `max_peers` of its socket; given up when it is dropped.
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
            config,
            reserves,
            gate,
            memory,
            reached: Reached::default(),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
            stage: watch::Sender::new(Stage::Open),
            links: Mutex::default(),
            emptied: Notify::new(),
            accepted: AtomicU64::new(0),
            accepted_lines: Mutex::default(),
            connected: AtomicUsize::new(0),
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

    /// Waits for a place in which an accepted connection may have its handshake. `None` never
    /// happens: the places are there as long as the socket.
    pub(super) async fn handshake_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.handshakes).acquire_owned().await.ok()
    }

    /// Returns true if all places are taken, so that connections wait to be accepted.
    pub(super) fn is_crowded(&self) -> bool {
        self.handshakes.available_permits() == 0
    }

    /// Takes a place for a link; `None` if there are `max_peers` already.
    pub(super) fn join(&self) -> Option<LinkSlot<'_>> {
        let mut links = self.links.lock();
        if links.count >= self.config.max_peers {
            return None;
        }
        links.count += 1;
        links.next += 1;
        Some(LinkSlot { hub: self, id: links.next - 1 })
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
        self.connected.fetch_add(1, Ordering::Relaxed);
        let (route, socket, line) =
            (&self.name, info.socket_type.name(), self.accepted_lines.lock().next(now));
        let peer = peer.address();
        match line {
            Some(0) => info!(route, peer, socket, "peer connected"),
            Some(left_out) => info!(route, peer, socket, left_out, "peer connected"),
            None => debug!(route, peer, socket, "peer connected"),
        }
    }

    /// Counts the end of a link whose handshake had succeeded.
    pub(super) fn count_gone(&self) {
        self.connected.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts and logs a connection that is refused.
    pub(super) fn refuse(&self, peer: &str, label: &'static str, reason: &str, now: Instant) {
        let route = &self.name;
        match self.count_closed(label, now) {
            Some(since_last_warning) => {
                warn!(route, peer, since_last_warning, "connection refused: {reason}");
            }
            None => debug!(route, peer, "connection refused: {reason}"),
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
        self.connected.load(Ordering::Relaxed)
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
