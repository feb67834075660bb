//! A peer: one connection of a PUB socket, from its handshake to its end.
//!
//! Its task always reads, even while its output is blocked: a close with unread input would become a reset, and throw
//! away what the kernel still holds for the peer.

use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use zafka_zmtp::{Config, Connection, Event, Mechanism, Role, SocketType};

use crate::ring::{Change, LOOKS, Subscribed};
use crate::shared::Shared;
use crate::silence::{Gone, Silence};
use crate::stream::Stream;
use crate::subscriptions::PeerId;
use crate::writer::{Drained, Writer};

/// Bytes read at a time.
const READ_BYTES: usize = 8 * 1024;
/// Reads before others get their turn.
const READS: usize = 8;
/// Commands that wait for a peer that does not read, beyond which it is not answered for now.
const CONTROL_BYTES: usize = 4 * 1024;
/// How long a peer has to answer the end of a connection with its own, while the kernel gives it what it still holds.
const PARTING: Duration = Duration::from_secs(30);

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

    /// Writes to a peer that was idle, from the task that made the chunk, so that a lone record needs no wake-up.
    /// Where the peer's own task is writing, or the kernel takes no more, that task goes on.
    pub(crate) fn write_now(&self, shared: &Shared) {
        let drained = self.writer.try_lock().map(|mut writer| writer.drain(shared, self));
        if !matches!(drained, Some(Ok(Drained::Idle))) {
            self.wake.notify_one();
        }
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Closed {
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

/// Serves a connection to its end. Returns whether its handshake had succeeded.
pub(crate) async fn serve(shared: Arc<Shared>, stream: Stream, address: String, origin: Origin) -> bool {
    let max_peers = shared.config.limits.max_peers;
    let Some(peer) = join(&shared, stream, &address) else {
        match shared.count_closed("peer_limit") {
            Some(since) => {
                warn!(
                    route = shared.name,
                    peer = address,
                    max_peers,
                    since_last_warning = since,
                    "connection refused: max_peers reached"
                );
            }
            None => debug!(route = shared.name, peer = address, "connection refused: max_peers reached"),
        }
        return false;
    };
    let membership = Membership { shared: Arc::clone(&shared), id: peer.id };
    let closed = match run(&shared, &peer, origin).await {
        Ok(never) => match never {},
        Err(closed) => closed,
    };
    drop(membership);
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
        (_, None) => debug!(route = shared.name, peer = address, reason = %closed, "connection closed"),
    }
    established
}

/// A place in the ring for a connection, if there is one. The stream of a refused one is closed without the ring's lock.
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
        })
    };
    Some(ring.join(join))
}

/// A peer's place in the ring; given up also where the task is dropped.
struct Membership {
    shared: Arc<Shared>,
    id: PeerId,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.shared.change(|ring| ring.leave(self.id));
    }
}

enum Never {}

async fn run(shared: &Shared, peer: &Peer, origin: Origin) -> Result<Never, Closed> {
    let mut closing = shared.closing.subscribe();
    let limits = &shared.config.limits;
    let handshake_end = Instant::now() + limits.handshake_timeout;
    let mut connection = Connection::new(connection_config(shared, origin), std::time::Instant::now());
    // From the moment on when the socket closes: when the peer's answer to that is not waited for any more.
    let mut farewell: Option<Instant> = None;
    let mut more_to_read = false;
    let mut silence = Silence::new(&shared.config);
    loop {
        if std::mem::take(&mut more_to_read) {
            tokio::task::yield_now().await;
        }
        // After the end of our direction nothing more can be written, and the failure would cut off what the kernel holds.
        let drained = if farewell.is_some() { Drained::Idle } else { flush(shared, peer, &mut connection)? };
        silence.flushed(peer, &mut connection, drained, std::time::Instant::now());
        let timer = match farewell {
            Some(end) => Some(end),
            None if connection.is_ready() => {
                let due = [connection.poll_timeout(), silence.poll_timeout()];
                due.into_iter().flatten().min().map(Instant::from_std)
            }
            None => Some(handshake_end),
        };
        tokio::select! {
            readable = peer.stream.readable() => {
                readable?;
                let outcome = read(shared, peer, &mut connection);
                if farewell.is_some() {
                    // Nobody hears them any more.
                    peer.writer.lock().clear();
                }
                if outcome.is_err() && farewell.is_none() {
                    // The peer is told why, where that fits into the kernel's buffer.
                    let _ = flush(shared, peer, &mut connection);
                }
                more_to_read = outcome? == Read::More;
            }
            writable = peer.stream.writable(), if drained == Drained::Blocked => {
                writable?;
                peer.writer.lock().unblock();
            }
            // Others get their turn, and so does what this peer has to say.
            () = tokio::task::yield_now(), if drained == Drained::More => {}
            () = peer.wake.notified() => {}
            () = tokio::time::sleep_until(timer.unwrap_or(handshake_end)), if timer.is_some() => {
                if farewell.is_some() {
                    return Err(Closed::BySocket);
                }
                if !connection.is_ready() {
                    return Err(Closed::HandshakeTimeout(limits.handshake_timeout));
                }
                // After a pause of ours, signs of life may be waiting to be read.
                more_to_read = read(shared, peer, &mut connection)? == Read::More;
                let now = std::time::Instant::now();
                silence.handle_timeout(peer, &mut connection, now).map_err(Closed::Gone)?;
                connection.handle_timeout(now)?;
            }
            _ = closing.wait_for(|closing| *closing), if farewell.is_none() => {
                // The peer gets the end of our direction after all that the kernel holds, and answers with its own.
                farewell = Some(Instant::now() + PARTING);
                if !connection.is_ready() || peer.stream.shutdown_write().is_err() {
                    return Err(Closed::BySocket);
                }
            }
        }
    }
}

fn connection_config(shared: &Shared, origin: Origin) -> Config {
    let limits = &shared.config.limits;
    Config {
        socket_type: SocketType::Pub,
        role: match origin {
            Origin::Accepted => Role::Server,
            Origin::Connected => Role::Client,
        },
        mechanism: Mechanism::Null,
        identity: Bytes::new(),
        max_frame: limits.max_inbound_frame,
        max_message: limits.max_inbound_frame,
        heartbeat: shared.config.heartbeat.map(|heartbeat| zafka_zmtp::Heartbeat {
            interval: heartbeat.interval,
            timeout: heartbeat.timeout,
        }),
    }
}

/// Queues what the connection has to say, and writes what can be written.
fn flush(shared: &Shared, peer: &Peer, connection: &mut Connection) -> Result<Drained, Closed> {
    queue_output(peer, connection);
    let drained = peer.writer.lock().drain(shared, peer)?;
    if drained == Drained::Idle {
        // What waited for those before it.
        queue_output(peer, connection);
        if peer.written().0 {
            return Ok(Drained::More);
        }
    }
    Ok(drained)
}

/// Takes what the connection has to say, unless much of that waits already: the connection bounds the rest.
fn queue_output(peer: &Peer, connection: &mut Connection) {
    let mut writer = peer.writer.lock();
    while writer.queued() < CONTROL_BYTES
        && let Some(output) = connection.poll_output()
    {
        writer.queue(&output);
    }
}

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    /// All that is there was read.
    All,
    /// There may be more, but others should get their turn.
    More,
}

/// Reads what is there, up to a number of reads.
fn read(shared: &Shared, peer: &Peer, connection: &mut Connection) -> Result<Read, Closed> {
    let mut buffer = [0; READ_BYTES];
    for _ in 0..READS {
        match peer.stream.try_read(&mut buffer) {
            Ok(0) => return Err(Closed::ByPeer),
            Ok(read) => {
                let outcome = connection.handle_input(&buffer[..read], std::time::Instant::now());
                // What it has to say comes first: a peer that subscribes together with its READY may be written to from
                // the next moment on.
                queue_output(peer, connection);
                let mut changes = Vec::new();
                while let Some(event) = connection.poll_event() {
                    handle_event(shared, peer, event, &mut changes);
                }
                subscribe(shared, peer, &changes)?;
                outcome?;
                if read < buffer.len() {
                    return Ok(Read::All);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Read::All),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Read::More)
}

/// Takes an event; what it says of subscriptions goes to `changes`.
fn handle_event(shared: &Shared, peer: &Peer, event: Event, changes: &mut Vec<Change>) {
    match event {
        Event::Ready(info) => {
            shared.count_accepted();
            info!(
                route = shared.name,
                peer = peer.address,
                socket = info.socket_type.name(),
                "peer connected"
            );
            let _ = peer.socket_type.set(info.socket_type);
        }
        Event::Subscribe(prefix) => {
            debug!(route = shared.name, peer = peer.address, prefix = %prefix.escape_ascii(), "subscribed");
            changes.push(Change::Subscribe(prefix));
        }
        Event::Cancel(prefix) => changes.push(Change::Cancel(prefix)),
        // A SUB has nothing else to say to a PUB; libzmq drops it as well.
        Event::Message(_) => {}
    }
}

/// Changes a peer's subscriptions: all that came in one read with one hold of the ring, or in parts where they are many.
fn subscribe(shared: &Shared, peer: &Peer, changes: &[Change]) -> Result<(), Closed> {
    let max = shared.config.limits.max_subscriptions;
    for part in changes.chunks(LOOKS) {
        if shared.change(|ring| ring.apply(peer.id, part, max)) == Subscribed::TooMany {
            return Err(Closed::TooManySubscriptions(max));
        }
    }
    Ok(())
}
