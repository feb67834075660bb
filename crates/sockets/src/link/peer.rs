//! Peers: what is known of the other side of a connection, and the way of bytes to it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use zafka_zmtp::SocketType;

use crate::gate::{Access, Standing};
use crate::outbox::{Drained, Feed, Outbox};
use crate::stream::Stream;
use crate::subscriptions::PeerId;

/// The side that opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Accepted,
    Connected,
}

/// The other side of a connection. It may be kept after the connection's end.
#[derive(Debug)]
pub(crate) struct Peer {
    id: PeerId,
    address: String,
    /// Length of the part of the address that is the same when the peer comes again.
    host_len: usize,
    since: SystemTime,
    socket_type: OnceLock<SocketType>,
    routing_id: OnceLock<Bytes>,
    /// Set once a gate has let it in.
    access: OnceLock<Arc<dyn Access>>,
    /// True if there is a gate.
    is_gated: bool,
    /// Its next messages are for something that takes no more.
    on_hold: AtomicBool,
    wake: Notify,
}

impl Peer {
    pub(super) fn new(
        id: PeerId,
        stream: &Stream,
        address: String,
        direction: Direction,
        is_gated: bool,
    ) -> Self {
        // A client's port is another one each time.
        let host_len = match (stream, direction, address.rsplit_once(':')) {
            (Stream::Tcp(_), Direction::Accepted, Some((host, _))) => host.len(),
            _ => address.len(),
        };
        Self {
            id,
            address,
            host_len,
            since: SystemTime::now(),
            socket_type: OnceLock::new(),
            routing_id: OnceLock::new(),
            access: OnceLock::new(),
            is_gated,
            on_hold: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    pub(crate) fn id(&self) -> PeerId {
        self.id
    }

    /// `IP:PORT` or the path of an ipc endpoint; the endpoint, if we connected.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The part of its address that is the same when it comes again.
    pub(crate) fn host(&self) -> &str {
        self.address.get(..self.host_len).unwrap_or(&self.address)
    }

    pub(crate) fn since(&self) -> SystemTime {
        self.since
    }

    /// The peer's socket type, once its handshake is done.
    pub(crate) fn socket_type(&self) -> Option<SocketType> {
        self.socket_type.get().copied()
    }

    pub(super) fn set_socket_type(&self, socket_type: SocketType) {
        let _ = self.socket_type.set(socket_type);
    }

    /// The routing id that the peer has given itself; empty if it has none.
    pub(crate) fn routing_id(&self) -> &[u8] {
        self.routing_id.get().map_or(&[], |id| id)
    }

    pub(super) fn set_routing_id(&self, id: Bytes) {
        let _ = self.routing_id.set(id);
    }

    /// Returns what decides about the peer.
    pub(crate) fn standing(&self) -> Standing<'_> {
        match self.access.get() {
            Some(access) => Standing::Admitted(access),
            None if self.is_gated => Standing::Outside,
            None => Standing::Ungated,
        }
    }

    fn access(&self) -> Option<&Arc<dyn Access>> {
        self.standing().access()
    }

    pub(super) fn set_access(&self, access: Arc<dyn Access>) {
        let _ = self.access.set(access);
    }

    /// Returns the peer's subject, if a gate knows it.
    pub(crate) fn subject(&self) -> Option<String> {
        self.access().and_then(|access| access.subject().map(str::to_owned))
    }

    /// Returns the time when its access ends unless it is renewed, in ms since the epoch.
    pub(crate) fn access_until(&self) -> Option<i64> {
        self.access().and_then(|access| access.until())
    }

    /// Stops reading it, beyond what was handed over already, or resumes.
    pub(crate) fn hold(&self, on_hold: bool) {
        if self.on_hold.swap(on_hold, Ordering::AcqRel) != on_hold {
            self.wake();
        }
    }

    pub(crate) fn is_on_hold(&self) -> bool {
        self.on_hold.load(Ordering::Acquire)
    }

    /// Makes the connection's task look at what is to be done.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }
}

/// A connection's stream and what waits to be written to it.
#[derive(Debug)]
pub(crate) struct Wire {
    peer: Arc<Peer>,
    stream: Stream,
    outbox: Mutex<Outbox>,
    broken: AtomicBool,
}

impl Wire {
    pub(super) fn new(peer: Arc<Peer>, stream: Stream) -> Self {
        Self { peer, stream, outbox: Mutex::default(), broken: AtomicBool::new(false) }
    }

    pub(crate) fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(super) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock()
    }

    /// Writes what `feed` has.
    pub(super) fn drain(&self, feed: &mut impl Feed) -> Result<Drained, crate::closed::Closed> {
        self.outbox.lock().drain(&self.stream, feed)
    }

    /// Writes to a peer that was idle, from the task that made the chunk, so that a lone message
    /// needs no wake-up. If the connection's own task is writing, or the kernel takes no more, that
    /// task does the rest.
    pub(crate) fn write_now(&self, feed: &mut impl Feed) {
        let drained = self.outbox.try_lock().map(|mut outbox| outbox.drain(&self.stream, feed));
        if !matches!(drained, Some(Ok(Drained::Idle))) {
            self.peer.wake();
        }
    }

    /// Marks a connection whose peer is within a message that there is no memory for: nothing may
    /// be written to it any more.
    pub(crate) fn break_off(&self) {
        self.broken.store(true, Ordering::Relaxed);
        self.peer.wake();
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}
