//! Snapshots of a PUB socket and its peers.

use std::sync::Arc;

use super::PubSocket;
use crate::link::{Peer, Wire};
use crate::ring::RingCounters;
use crate::wait::{Wait, since_epoch};

/// Peers that a snapshot lists. (Few in tests.)
const PEERS_SHOWN: usize = if cfg!(test) { 3 } else { 1000 };
/// The number of a peer's subscriptions that a snapshot lists, and the bytes of each.
const PREFIXES_SHOWN: (usize, usize) = (20, 128);
/// Bytes of subscriptions that a snapshot lists, over all peers.
const PREFIX_BYTES_SHOWN: usize = if cfg!(test) { 200 } else { 1 << 20 };

/// A socket at one moment.
#[derive(Clone, Debug)]
pub struct SocketSnapshot {
    /// Bytes of memory that the chunks in the ring take.
    pub ring_bytes: usize,
    /// Bytes that peers make the socket hold beside the ring (`peer_memory`).
    pub peer_bytes: usize,
    /// Peers with at least one subscription.
    pub peers_subscribed: usize,
    /// Counts since the start.
    pub counters: RingCounters,
    /// Connections that became peers since the start.
    pub accepted: u64,
    /// Connections that ended or were refused since the start, by reason.
    pub closed: Vec<(&'static str, u64)>,
    /// Waits that are no fault.
    pub waits: Vec<Wait>,
    /// Peers whose handshake is done.
    pub peers_connected: usize,
    /// The first thousand of those peers; none in [`PubSocket::counts`].
    pub peers: Vec<PeerSnapshot>,
}

/// A peer at one moment.
#[derive(Clone, Debug)]
pub struct PeerSnapshot {
    /// `IP:PORT`, or the path of an ipc endpoint.
    pub address: String,
    /// SUB or XSUB.
    pub socket_type: &'static str,
    /// Its first subscriptions, sorted, each to its 128th byte. Of all peers together they have a
    /// megabyte, and a few more bytes.
    pub subscriptions: Vec<Vec<u8>>,
    /// The number of its subscriptions.
    pub subscriptions_total: usize,
    /// Bytes in the ring that it has yet to be sent.
    pub bytes_queued: u64,
    /// Messages sent to it.
    pub messages_sent: u64,
    /// Messages skipped for it.
    pub messages_dropped: u64,
    /// The time of the connection, in ms since the epoch.
    pub connected_since: i64,
    /// The peer's subject, if a gate knows it.
    pub subject: Option<String>,
    /// The end of its access unless it is renewed, in ms since the epoch.
    pub access_until: Option<i64>,
}

impl PubSocket {
    /// Returns the socket's counts: none of its peers is looked at.
    pub fn counts(&self) -> SocketSnapshot {
        let (ring_bytes, peers_subscribed, counters) = {
            let ring = self.shared.ring();
            (ring.bytes(), ring.subscribed(), ring.counters())
        };
        SocketSnapshot {
            ring_bytes,
            peer_bytes: self.shared.hub.memory.used(),
            peers_subscribed,
            counters,
            accepted: self.shared.hub.accepted(),
            closed: self.shared.hub.closed(),
            waits: self.waits(),
            peers_connected: self.shared.hub.connected(),
            peers: Vec::new(),
        }
    }

    /// Returns the socket and its peers as they are now. Peers are looked at one by one, so that
    /// many of them do not hold up a publisher.
    pub fn snapshot(&self) -> SocketSnapshot {
        let established = |wire: &&Arc<Wire>| wire.peer().socket_type().is_some();
        let peers: Vec<_> = {
            let ring = self.shared.ring();
            let established = ring.peers().filter(established).take(PEERS_SHOWN);
            established.map(|wire| Arc::clone(wire.peer())).collect()
        };
        let mut prefix_bytes = 0;
        let of_peer = |peer: &Arc<Peer>| {
            let prefixes = if prefix_bytes < PREFIX_BYTES_SHOWN { PREFIXES_SHOWN } else { (0, 0) };
            let snapshot = self.peer_snapshot(peer, prefixes)?;
            prefix_bytes += snapshot.subscriptions.iter().map(Vec::len).sum::<usize>();
            Some(snapshot)
        };
        SocketSnapshot { peers: peers.iter().filter_map(of_peer).collect(), ..self.counts() }
    }

    /// Returns `None` if the peer has left, or has its handshake before it.
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
            subject: peer.subject(),
            access_until: peer.access_until(),
        })
    }
}
