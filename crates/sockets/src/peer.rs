//! A peer: one connection of a PUB socket, from the moment it is accepted or made to its end.

use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tracing::{debug, warn};
use zafka_zmtp::SocketType;

use crate::files;
use crate::session;
use crate::shared::Shared;
use crate::silence::Gone;
use crate::stream::Stream;
use crate::subscriptions::PeerId;
use crate::writer::{Drained, Writer};

/// What the socket knows of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    id: PeerId,
    stream: Stream,
    address: String,
    since: SystemTime,
    socket_type: OnceLock<SocketType>,
    writer: Mutex<Writer>,
    wake: Notify,
    broken: AtomicBool,
}

impl Peer {
    pub(crate) fn id(&self) -> PeerId {
        self.id
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What of its address is the same when it comes again.
    pub(crate) fn host(&self) -> &str {
        match (&self.stream, self.address.rsplit_once(':')) {
            (Stream::Tcp(_), Some((host, port)))
                if !self.address.contains("://") && !port.is_empty() =>
            {
                host
            }
            _ => &self.address,
        }
    }

    pub(crate) fn since(&self) -> SystemTime {
        self.since
    }

    /// Whether commands wait to be written, and how many bytes of messages were written.
    pub(crate) fn written(&self) -> (bool, u64) {
        let writer = self.writer.lock();
        (writer.queued() > 0, writer.messages_written())
    }

    /// The peer's socket type, once its handshake is done.
    pub(crate) fn socket_type(&self) -> Option<SocketType> {
        self.socket_type.get().copied()
    }

    pub(crate) fn set_socket_type(&self, socket_type: SocketType) {
        let _ = self.socket_type.set(socket_type);
    }

    pub(crate) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock()
    }

    /// The socket has no memory for the message that the peer is within.
    pub(crate) fn break_off(&self) {
        self.broken.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Waits until the peer's task should look at what is to be written.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Writes to a peer that was idle, from the task that made the chunk, so that a lone record
    /// needs no wake-up. Where the peer's own task is writing, or the kernel takes no more,
    /// that task goes on.
    pub(crate) fn write_now(&self, shared: &Shared) {
        let drained = self.writer.try_lock().map(|mut writer| writer.drain(shared, self));
        if !matches!(drained, Some(Ok(Drained::Idle))) {
            self.wake.notify_one();
        }
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Closed {
    #[error("the peer closed the connection")]
    ByPeer,
    #[error("the socket is closing")]
    BySocket,
    #[error(transparent)]
    Protocol(#[from] zafka_zmtp::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no handshake within {0:?}")]
    HandshakeTimeout(Duration),
    #[error("more than {0} subscriptions (max_subscriptions)")]
    TooManySubscriptions(usize),
    #[error("what peers make the socket hold would exceed {0} bytes (peer_memory)")]
    Memory(usize),
    #[error("its machine has acknowledged nothing for {} s, though it was asked ({})", .0.silent.as_secs(), .0.key)]
    Gone(Gone),
}

impl Closed {
    /// A short label for the count of closed connections.
    fn label(&self) -> &'static str {
        match self {
            Self::ByPeer => "peer",
            Self::BySocket => "socket",
            Self::Protocol(error) => error.kind(),
            Self::Io(_) => "connection",
            Self::HandshakeTimeout(_) => "handshake_timeout",
            Self::TooManySubscriptions(_) => "subscription_limit",
            Self::Memory(_) => "peer_memory",
            Self::Gone(_) => "peer_timeout",
        }
    }
}

/// How a connection came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Accepted,
    Connected,
}

/// Serves a connection to its end. Returns whether its handshake had succeeded. `slot` is its place
/// among the accepted connections in their handshake.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    stream: Stream,
    address: String,
    origin: Origin,
    slot: Option<OwnedSemaphorePermit>,
) -> bool {
    if let Some(limit) = files::beyond_limit(&stream) {
        let text = format!(
            "{limit} files may be open, and the last are kept for brokers and the admin server"
        );
        refuse(&shared, &address, "file_limit", &text);
        return false;
    }
    let max_peers = shared.config.limits.max_peers;
    let Some(peer) = join(&shared, stream, &address) else {
        refuse(&shared, &address, "peer_limit", &format!("max_peers ({max_peers}) reached"));
        return false;
    };
    let membership = Membership { shared: Arc::clone(&shared), peer: Arc::clone(&peer) };
    let closed = match session::run(&shared, &peer, origin, slot).await {
        Ok(never) => match never {},
        Err(closed) => closed,
    };
    let by_peer = matches!(closed, Closed::ByPeer | Closed::Io(_));
    let under_way = if by_peer { shared.ring().under_way(peer.id) } else { None };
    drop(membership);
    if let Some(message) = under_way {
        shared.note_refusal(&peer, message);
    }
    let warnable = shared.count_closed(closed.label());
    let established = peer.socket_type().is_some();
    match (&closed, warnable) {
        (Closed::ByPeer | Closed::BySocket | Closed::Io(_), _) => {
            debug!(route = shared.name, peer = address, reason = %closed, "peer gone");
        }
        (_, Some(since)) => {
            warn!(route = shared.name, peer = address, reason = %closed, since_last_warning = since,
                "connection closed");
        }
        (_, None) => {
            debug!(route = shared.name, peer = address, reason = %closed, "connection closed")
        }
    }
    established
}

fn refuse(shared: &Shared, address: &str, label: &'static str, reason: &str) {
    match shared.count_closed(label) {
        Some(since) => warn!(
            route = shared.name,
            peer = address,
            since_last_warning = since,
            "connection refused: {reason}"
        ),
        None => debug!(route = shared.name, peer = address, "connection refused: {reason}"),
    }
}

/// A place in the ring for a connection, if there is one. The stream of a refused one is closed
/// without the ring's lock.
fn join(shared: &Shared, stream: Stream, address: &str) -> Option<Arc<Peer>> {
    let mut ring = shared.ring();
    if ring.peer_count() >= shared.config.limits.max_peers {
        drop(ring);
        return None;
    }
    let join = |id| {
        Arc::new(Peer {
            id,
            stream,
            address: address.to_owned(),
            since: SystemTime::now(),
            socket_type: OnceLock::new(),
            writer: Mutex::default(),
            wake: Notify::new(),
            broken: AtomicBool::new(false),
        })
    };
    Some(ring.join(join))
}

/// A peer's place in the ring; given up also where the task is dropped.
struct Membership {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.shared.change(|ring| ring.leave(self.peer.id));
        if self.peer.socket_type().is_some() {
            self.shared.count_gone();
        }
    }
}
