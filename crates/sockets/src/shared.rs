//! What the tasks of one socket share: the ring under its lock, and the socket's counts.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, Semaphore, watch};
use tracing::warn;

use crate::config::PubConfig;
use crate::memory::PeerMemory;
use crate::peer::{Closed, Peer};
use crate::ration::{Bucket, Lines};
use crate::reached::Reached;
use crate::refusals::{Refusals, UnderWay};
use crate::ring::{Ring, RingConfig};
use crate::wait::{Wait, WaitKind, since_epoch};

/// Shared by the publisher, the listeners, the connectors and the peers of a socket.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) config: PubConfig,
    ring: Mutex<Ring<Arc<Peer>>>,
    /// Told whenever the ring may admit more than before.
    pub(crate) room: Notify,
    /// True once the socket closes.
    pub(crate) closing: watch::Sender<bool>,
    /// Told whenever something became wanted by enough or by too few peers.
    pub(crate) demand_changed: Notify,
    /// The moment since when the ring has had no room for what is to be published, in ms since the
    /// epoch; 0 if it has.
    full_since: AtomicI64,
    /// Where the socket's own connections lead.
    pub(crate) reached: Reached,
    /// What peers make the socket hold.
    pub(crate) memory: Arc<PeerMemory>,
    /// Places of accepted connections in their handshake.
    pub(crate) handshakes: Arc<Semaphore>,
    /// The ration of changes of subscriptions that all peers share.
    pub(crate) changes: Mutex<Bucket>,
    /// Messages that peers do not take.
    refusals: Mutex<Refusals>,
    accepted: AtomicU64,
    accepted_lines: Mutex<Lines>,
    connected: AtomicUsize,
    closed: Mutex<BTreeMap<&'static str, Closings>>,
}

/// Time between two warnings for the same reason: a peer that is refused comes again ten times a
/// second.
const QUIET: Duration = Duration::from_secs(1);

/// Accepted connections of a socket that may be in their handshake at the same time; others wait to
/// be accepted.
const HANDSHAKES: usize = 256;
/// Changes of subscriptions that all peers together may make at once, and in a second.
const SOCKET_BURST: u32 = 200_000;
const SOCKET_CHANGES: u32 = 50_000;

/// Time without room in the ring from which on the route is said to wait, in ms.
const WAIT_FROM_MS: i64 = 3000;

/// Connections that ended or were refused for one reason.
#[derive(Debug, Default)]
struct Closings {
    count: u64,
    warned: Option<Instant>,
    since_warned: u64,
}

impl Shared {
    pub(crate) fn new(name: String, config: PubConfig) -> Arc<Self> {
        let ring = Ring::new(RingConfig {
            slow_peer: config.slow_peer,
            ring_bytes: config.ring_bytes,
            peer_memory: config.limits.peer_memory,
        });
        let memory = Arc::clone(ring.peer_memory());
        Arc::new(Self {
            name,
            config,
            ring: Mutex::new(ring),
            room: Notify::new(),
            closing: watch::Sender::new(false),
            demand_changed: Notify::new(),
            full_since: AtomicI64::new(0),
            reached: Reached::default(),
            memory,
            handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
            changes: Mutex::new(Bucket::new(SOCKET_BURST, SOCKET_CHANGES, Instant::now())),
            refusals: Mutex::default(),
            accepted: AtomicU64::new(0),
            accepted_lines: Mutex::default(),
            connected: AtomicUsize::new(0),
            closed: Mutex::default(),
        })
    }

    /// The ring, to look at for a moment: never held across a write or an await.
    pub(crate) fn ring(&self) -> MutexGuard<'_, Ring<Arc<Peer>>> {
        self.ring.lock()
    }

    /// Changes the ring, and tells the publisher where it may admit more than before. What the ring
    /// lets go is freed without the lock, and what would take too long under it is done in
    /// parts.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Ring<Arc<Peer>>) -> R) -> R {
        let mut ring = self.ring.lock();
        let result = change(&mut ring);
        if ring.take_demand_changed() {
            self.demand_changed.notify_one();
        }
        loop {
            let (more_room, unfinished) = (ring.take_more_room(), ring.is_unfinished());
            let (spent, broken) = (ring.take_spent(), ring.take_broken());
            if unfinished {
                MutexGuard::unlock_fair(ring);
            } else {
                drop(ring);
            }
            if more_room {
                self.room.notify_one();
            }
            drop(spent);
            for peer in broken {
                peer.break_off();
            }
            if !unfinished {
                return result;
            }
            ring = self.ring.lock();
            ring.tidy();
        }
    }

    /// Whether a chunk that takes `size` bytes may be published now. Takes note of when it first
    /// might not.
    pub(crate) fn admits(&self, size: usize) -> bool {
        let admits = self.ring().admits(size);
        let full_since = self.full_since.load(Ordering::Relaxed);
        if admits {
            if full_since != 0 {
                self.full_since.store(0, Ordering::Relaxed);
            }
        } else if full_since == 0 {
            self.full_since.store(since_epoch(SystemTime::now()), Ordering::Relaxed);
        }
        admits
    }

    /// The wait for a peer that takes too little, if there is one. A route that goes on now and
    /// then is slow, and does not wait.
    pub(crate) fn full(&self) -> Option<Wait> {
        let since = self.full_since.load(Ordering::Relaxed);
        let waited = since_epoch(SystemTime::now()).saturating_sub(since);
        if since == 0 || waited < WAIT_FROM_MS {
            return None;
        }
        let (peer, peers) = self.ring().furthest_behind()?;
        let others = match peers {
            1 => String::new(),
            peers => format!(", nor do {} others", peers - 1),
        };
        Some(Wait {
            origin: None,
            kind: WaitKind::Peer,
            reason: format!(
                "the ring is full, and this peer does not take what it is owed{others} (slow_peer)"
            ),
            peer: Some(peer.address().to_owned()),
            since,
        })
    }

    /// Takes note that a peer ended its connection within a message.
    pub(crate) fn note_refusal(&self, peer: &Peer, message: UnderWay) {
        let (size, host) = (message.size, peer.host());
        let told = self.refusals.lock().note(
            host,
            message,
            Instant::now(),
            since_epoch(SystemTime::now()),
        );
        if let Some(times) = told {
            warn!(
                route = self.name,
                peer = peer.address(),
                size,
                times,
                "the peer closed the connection within a message (is its ZMQ_MAXMSGSIZE smaller?)"
            );
        }
    }

    /// The waits for messages that peers do not take.
    pub(crate) fn refused(&self) -> Vec<Wait> {
        let held = self.ring().subscribed() < self.config.min_peers;
        self.refusals.lock().waits(held, Instant::now())
    }

    /// Counts a connection whose handshake succeeded. If a line may be logged, tells how many were
    /// left out before it.
    pub(crate) fn count_accepted(&self) -> Option<u64> {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.connected.fetch_add(1, Ordering::Relaxed);
        self.accepted_lines.lock().next(Instant::now())
    }

    /// Counts the end of a connection whose handshake had succeeded.
    pub(crate) fn count_gone(&self) {
        self.connected.fetch_sub(1, Ordering::Relaxed);
    }

    /// Why a peer is closed that needs more memory than peers may have.
    pub(crate) fn memory_exceeded(&self) -> Closed {
        Closed::Memory(self.config.limits.peer_memory)
    }

    /// Counts a connection that ended or was refused. Where that may be warned of again, tells how
    /// many there were since the last warning for the same reason.
    pub(crate) fn count_closed(&self, reason: &'static str) -> Option<u64> {
        let mut closed = self.closed.lock();
        let closings = closed.entry(reason).or_default();
        closings.count += 1;
        if closings.warned.is_some_and(|warned| warned.elapsed() < QUIET) {
            closings.since_warned += 1;
            return None;
        }
        closings.warned = Some(Instant::now());
        Some(std::mem::take(&mut closings.since_warned))
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections now whose handshake has succeeded.
    pub(crate) fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }

    pub(crate) fn closed(&self) -> Vec<(&'static str, u64)> {
        self.closed.lock().iter().map(|(reason, closings)| (*reason, closings.count)).collect()
    }
}
