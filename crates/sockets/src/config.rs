//! Settings of a socket, already parsed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub use zafka_zmtp::Mechanism;

use crate::{Endpoint, EndpointError};

/// An endpoint, and how its connections are secured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The security mechanism of each connection; a peer with another one is closed.
    pub mechanism: Mechanism,
}

impl From<Endpoint> for EndpointConfig {
    /// Makes one whose connections are not secured.
    fn from(endpoint: Endpoint) -> Self {
        Self { endpoint, mechanism: Mechanism::Null }
    }
}

impl FromStr for EndpointConfig {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        text.parse().map(|endpoint: Endpoint| endpoint.into())
    }
}

impl fmt::Display for EndpointConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)
    }
}

/// The reaction to a peer that falls behind the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SlowPeer {
    /// Messages that the ring no longer has are skipped for that peer, and counted.
    #[default]
    Drop,
    /// No more is published until there is room.
    Block,
}

/// ZMTP heartbeats (ZMTP 3.1, "Heartbeats"); a PING goes to 3.1 peers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Time between two PINGs.
    pub interval: Duration,
    /// A peer from which nothing has come for this long after a PING is closed; not one that may
    /// be full, if full peers are waited for.
    pub timeout: Duration,
}

/// Limits on the memory that a peer can make us hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Peers of one socket: connections whose handshake is done.
    pub max_peers: usize,
    /// Distinct subscriptions of one peer. One that is longer than 256 bytes counts once for each
    /// 256 bytes it begins.
    pub max_subscriptions: usize,
    /// Size of one inbound frame in bytes.
    pub max_inbound_frame: usize,
    /// Bytes that peers together can make the socket hold: subscriptions, partial input, replies,
    /// unfinished messages.
    pub peer_memory: usize,
    /// Time a connection has to finish its ZMTP handshake.
    pub handshake_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_peers: 16_384,
            max_subscriptions: 10_000,
            max_inbound_frame: 64 * 1024,
            peer_memory: 256 * 1024 * 1024,
            handshake_timeout: Duration::from_secs(5),
        }
    }
}

/// A PUB socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PubConfig {
    /// Endpoints to listen on.
    pub bind: Vec<EndpointConfig>,
    /// Mode of the socket files of `ipc` endpoints that are bound; what the umask leaves if
    /// `None`.
    pub ipc_mode: Option<u32>,
    /// Endpoints to connect to, and to connect to again when they are lost.
    pub connect: Vec<EndpointConfig>,
    /// The policy for a peer that falls behind.
    pub slow_peer: SlowPeer,
    /// Peers that make demand enough ([`PubSocket::demand`](crate::PubSocket::demand)).
    pub min_peers: usize,
    /// Bound of the ring in bytes.
    pub ring_bytes: usize,
    /// Time for which the machine of a peer that takes nothing may acknowledge nothing, under
    /// [`SlowPeer::Block`]. `None`: it is waited for until the connection ends.
    pub peer_timeout: Option<Duration>,
    /// Heartbeats, off as in libzmq if `None`.
    pub heartbeat: Option<Heartbeat>,
    /// Limits on the memory that a peer can make us hold.
    pub limits: Limits,
}

impl Default for PubConfig {
    /// Makes a socket without endpoints.
    fn default() -> Self {
        Self {
            bind: Vec::new(),
            ipc_mode: None,
            connect: Vec::new(),
            slow_peer: SlowPeer::default(),
            min_peers: 0,
            ring_bytes: DEFAULT_RING_BYTES,
            peer_timeout: Some(DEFAULT_PEER_TIMEOUT),
            heartbeat: None,
            limits: Limits::default(),
        }
    }
}

/// Longest time for which a peer's machine may acknowledge nothing, unless set.
pub const DEFAULT_PEER_TIMEOUT: Duration = Duration::from_secs(180);
/// Bound of a route's ring unless set, in bytes.
pub const DEFAULT_RING_BYTES: usize = 16 * 1024 * 1024;
