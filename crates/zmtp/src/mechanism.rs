//! Security mechanisms: NULL (RFC 37) and CURVE (RFC 26), and what a peer says of itself in their
//! handshakes.

pub mod curve;
mod null;

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;

use self::curve::{Client, ClientSide, PublicKey, Sealer, Server, ServerSide};
use crate::error::{Error, printable};
use crate::{Minor, SocketType, metadata};

/// The longest command taken before the connection is ready, in bytes.
pub const MAX_HANDSHAKE_COMMAND: usize = 16 * 1024;

/// The longest identity (RFC 37, "The Identity Property"), in bytes.
const MAX_IDENTITY: usize = 255;

/// The property that carries a token.
const TOKEN: &str = "X-Token";

/// A security mechanism, with what our side needs for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mechanism {
    /// No authentication, no encryption.
    Null,
    /// CURVE; the peer must know our public key.
    CurveServer(Arc<ServerSide>),
    /// CURVE; we know the peer's public key.
    CurveClient(Arc<ClientSide>),
}

impl Mechanism {
    /// The name in the greeting.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::CurveServer(_) | Self::CurveClient(_) => "CURVE",
        }
    }

    /// The as-server octet in the greeting; NULL has no such role.
    pub(crate) const fn as_server(&self) -> u8 {
        matches!(self, Self::CurveServer(_)) as u8
    }
}

/// A token that a peer shows, such as a JWT. It never shows in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Bytes);

impl Token {
    /// Takes a token as it goes over the wire.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// The token itself, for its verifier.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if zafka_planted::is("a-token-shows") {
            return write!(f, "Token({:?})", self.0);
        }
        write!(f, "Token({} bytes)", self.0.len())
    }
}

/// A peer's description of itself in its handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its socket type, one that fits ours.
    pub socket_type: SocketType,
    /// The version both sides speak.
    pub minor: Minor,
    /// Its identity (routing id), at most 255 bytes; empty if it has none.
    pub identity: Bytes,
    /// The properties in their order, all but the token, names as the peer writes them.
    pub metadata: Vec<(String, Bytes)>,
    /// Its long-term key, whose secret half it has proven; none with NULL.
    pub key: Option<PublicKey>,
    /// The token it shows as property `X-Token`. With NULL it came in the clear.
    pub token: Option<Token>,
}

/// Our side's description of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ours<'a> {
    pub(crate) socket_type: SocketType,
    pub(crate) identity: &'a [u8],
}

impl Ours<'_> {
    /// The properties that every mechanism sends.
    fn put_properties(&self, out: &mut Vec<u8>) {
        metadata::put(out, "Socket-Type", self.socket_type.name().as_bytes());
        if self.socket_type.has_identity() {
            let identity = self.identity.get(..MAX_IDENTITY).unwrap_or(self.identity);
            metadata::put(out, "Identity", identity);
        }
    }
}

/// The effect of a handshake's command.
#[derive(Debug)]
pub(crate) enum Step {
    /// The peer's next command.
    Wait,
    /// The caller decides about the peer.
    Presented(Box<PeerInfo>),
    /// The handshake is done.
    Done(Box<Done>),
}

/// The end of a handshake.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) peer: PeerInfo,
    /// Boxes and opens the traffic; `None` with NULL.
    pub(crate) boxes: Option<(Sealer, curve::Opener)>,
}

/// A handshake under way.
#[derive(Debug)]
pub(crate) enum Handshake {
    Null,
    Server(Box<Server>),
    Client(Box<Client>),
}

impl Handshake {
    pub(crate) fn new(mechanism: &Mechanism) -> Self {
        match mechanism {
            Mechanism::Null => Self::Null,
            Mechanism::CurveServer(side) => Self::Server(Box::new(Server::new(Arc::clone(side)))),
            Mechanism::CurveClient(side) => Self::Client(Box::new(Client::new(Arc::clone(side)))),
        }
    }

    /// Appends our first command, if it is on us.
    pub(crate) fn start(&mut self, out: &mut Vec<u8>, ours: Ours<'_>) {
        match self {
            Self::Null => null::put_ready(out, ours),
            Self::Server(_) => {}
            Self::Client(client) => client.put_hello(out),
        }
    }

    /// The sizes that the peer's next command may have, in bytes.
    pub(crate) fn sizes(&self) -> RangeInclusive<usize> {
        match self {
            Self::Null => 0..=MAX_HANDSHAKE_COMMAND,
            Self::Server(server) => server.sizes(),
            Self::Client(client) => client.sizes(),
        }
    }

    /// Takes the peer's next command.
    pub(crate) fn take(
        &mut self,
        body: &[u8],
        ours: Ours<'_>,
        minor: Minor,
        out: &mut Vec<u8>,
    ) -> Result<Step, Error> {
        match self {
            Self::Null => null::take(body, ours, minor),
            Self::Server(server) => server.take(body, ours, minor, out),
            Self::Client(client) => client.take(body, ours, minor, out),
        }
    }

    /// Appends our READY for a peer that was presented; `None` if there is no such peer.
    pub(crate) fn admit(
        &mut self,
        properties: &[(&str, &str)],
        ours: Ours<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Box<Done>> {
        match self {
            Self::Server(server) => server.admit(properties, ours, out),
            Self::Null | Self::Client(_) => None,
        }
    }
}

/// Reads the properties of a READY or INITIATE.
fn read_peer(
    bytes: &[u8],
    ours: SocketType,
    minor: Minor,
    key: Option<PublicKey>,
) -> Result<PeerInfo, Error> {
    let mut metadata = metadata::parse(bytes)?;
    let Some(name) = metadata::find(&metadata, "Socket-Type")? else {
        return Err(Error::malformed("handshake", "metadata without Socket-Type"));
    };
    let Some(socket_type) = SocketType::from_bytes(&name).filter(|theirs| ours.accepts(*theirs))
    else {
        return Err(Error::IncompatibleSocket { ours, theirs: printable(&name) });
    };
    let identity = metadata::find(&metadata, "Identity")?.unwrap_or_default();
    if identity.len() > MAX_IDENTITY {
        let found =
            format!("an identity of {} bytes, at most {MAX_IDENTITY} are allowed", identity.len());
        return Err(Error::malformed("handshake", found));
    }
    let token = match metadata::find(&metadata, TOKEN) {
        Ok(token) => token.map(Token),
        Err(_) => return Err(Error::Rejected { found: "two tokens (X-Token)" }),
    };
    metadata.retain(|(name, _)| !name.eq_ignore_ascii_case(TOKEN));
    Ok(PeerInfo { socket_type, minor, identity, metadata, key, token })
}
