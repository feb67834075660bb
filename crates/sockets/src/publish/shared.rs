//! State that the tasks of one socket share: the ring under its lock, and the socket's counts.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tracing::warn;
use zafka_zmtp::SocketType;

use super::refusals::Refusals;
use crate::config::{PubConfig, SlowPeer};
use crate::gate::Gate;
use crate::link::{Hub, LinkConfig, Peer, SilenceConfig, Wire};
use crate::ration::Bucket;
use crate::ring::{HalfWritten, Ring, RingConfig};
use crate::wait::{Wait, WaitKind, now_ms};

/// Shared by the publisher and the subscribers of a socket.
#[derive(Debug)]
pub(super) struct PubShared {
    pub(super) hub: Hub,
    pub(super) config: PubConfig,
    ring: Mutex<Ring<Arc<Wire>>>,
    /// Notified whenever the ring may admit more than before.
    pub(super) room: Notify,
    /// Notified whenever something became wanted by enough or by too few peers.
    pub(super) demand_changed: Notify,
    /// The moment since when the ring has had no room for what is to be published, in ms since the
    /// epoch; 0 if it has.
    full_since: AtomicI64,
    /// The ration of changes of subscriptions that all peers share.
    pub(super) changes: Mutex<Bucket>,
    /// Messages that peers do not take.
    refusals: Mutex<Refusals>,
}

/// Changes of subscriptions that all peers together may make at once, and in a second.
const SOCKET_BURST: u32 = 200_000;
const SOCKET_CHANGES: u32 = 50_000;

/// Time without room in the ring from which on the route is said to wait, in ms.
const WAIT_FROM_MS: i64 = 3000;

impl PubShared {
    pub(super) fn new(name: &str, config: PubConfig, gate: Option<Arc<dyn Gate>>) -> Arc<Self> {
        let settings = RingConfig {
            slow_peer: config.slow_peer,
            ring_bytes: config.ring_bytes,
            peer_memory: config.limits.peer_memory,
        };
        let ring = if gate.is_some() { Ring::gated(settings) } else { Ring::new(settings) };
        let memory = Arc::clone(ring.peer_memory());
        Arc::new(Self {
            hub: Hub::new(name, link_config(&config), memory, None, gate),
            config,
            ring: Mutex::new(ring),
            room: Notify::new(),
            demand_changed: Notify::new(),
            full_since: AtomicI64::new(0),
            changes: Mutex::new(Bucket::new(SOCKET_BURST, SOCKET_CHANGES, Instant::now())),
            refusals: Mutex::default(),
        })
    }

    /// The ring, to look at for a moment: never held across a write or an await.
    pub(super) fn ring(&self) -> MutexGuard<'_, Ring<Arc<Wire>>> {
        self.ring.lock()
    }

    /// Changes the ring, and wakes the publisher if it may admit more than before. What the ring
    /// lets go is freed without the lock, and what would take too long under it is done in parts.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Ring<Arc<Wire>>) -> R) -> R {
        let mut ring = self.ring.lock();
        let result = change(&mut ring);
        if ring.take_demand_changed() {
            self.demand_changed.notify_one();
        }
        loop {
            let (more_room, untidy) = (ring.take_more_room(), ring.is_untidy());
            let (spent, broken) = (ring.take_spent(), ring.take_broken());
            if untidy {
                MutexGuard::unlock_fair(ring);
            } else {
                drop(ring);
            }
            if more_room {
                self.room.notify_one();
            }
            drop(spent);
            for wire in broken {
                wire.break_off();
            }
            if !untidy {
                return result;
            }
            ring = self.ring.lock();
            ring.tidy();
        }
    }

    /// Returns true if a chunk that takes `size` bytes may be published now. Takes note of when it
    /// first might not.
    pub(super) fn admits(&self, size: usize) -> bool {
        let admits = self.ring().admits(size);
        let full_since = self.full_since.load(Ordering::Relaxed);
        if admits {
            if full_since != 0 {
                self.full_since.store(0, Ordering::Relaxed);
            }
        } else if full_since == 0 {
            self.full_since.store(now_ms(), Ordering::Relaxed);
        }
        admits
    }

    /// The wait for a peer that takes too little, if there is one. A route that advances now and
    /// then is slow, and does not wait.
    pub(super) fn full(&self) -> Option<Wait> {
        let since = self.full_since.load(Ordering::Relaxed);
        let waited = now_ms().saturating_sub(since);
        if since == 0 || waited < WAIT_FROM_MS {
            return None;
        }
        let (wire, peers) = self.ring().furthest_behind()?;
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
            peer: Some(wire.peer().address().to_owned()),
            since,
        })
    }

    /// Takes note that a peer ended its connection within a message.
    pub(super) fn note_refusal(&self, peer: &Peer, message: HalfWritten, now: Instant) {
        let (size, host) = (message.size, peer.host());
        let since = now_ms();
        let told = self.refusals.lock().note(host, message, now, since);
        if let Some(times) = told {
            warn!(
                route = self.hub.name,
                peer = peer.address(),
                size,
                times,
                "the peer closed the connection within a message (is its ZMQ_MAXMSGSIZE smaller?)"
            );
        }
    }

    /// The waits for messages that peers do not take.
    pub(super) fn refused(&self) -> Vec<Wait> {
        let held = self.ring().subscribed() < self.config.min_peers;
        self.refusals.lock().waits(held, Instant::now())
    }
}

fn link_config(config: &PubConfig) -> LinkConfig {
    let limits = &config.limits;
    let waits_for_full = config.slow_peer == SlowPeer::Block;
    LinkConfig {
        socket_type: SocketType::Pub,
        max_peers: limits.max_peers,
        max_frame: limits.max_inbound_frame,
        max_message: limits.max_inbound_frame,
        handshake_timeout: limits.handshake_timeout,
        heartbeat: config.heartbeat,
        silence: SilenceConfig {
            waits_for_full,
            asks_when_written: waits_for_full,
            peer_timeout: config.peer_timeout,
            heartbeat_timeout: config.heartbeat.map(|heartbeat| heartbeat.timeout),
        },
    }
}
