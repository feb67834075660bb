//! Security mechanisms and their handshakes. NULL so far: each side sends READY with its metadata.

use bytes::Bytes;

use crate::command::{self, Command};
use crate::error::{Error, printable};
use crate::{Minor, SocketType, metadata};

/// The longest command taken before the connection is ready, in bytes.
pub const MAX_HANDSHAKE_COMMAND: usize = 16 * 1024;

/// The longest identity (RFC 37, "The Identity Property"), in bytes.
const MAX_IDENTITY: usize = 255;

/// A security mechanism, with what our side needs for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mechanism {
    /// No authentication, no encryption.
    Null,
}

impl Mechanism {
    /// The name in the greeting.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
        }
    }
}

/// What a peer says of itself in its handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its socket type, one that fits ours.
    pub socket_type: SocketType,
    /// The version both sides speak.
    pub minor: Minor,
    /// Its identity (routing id), at most 255 bytes; empty if it has none.
    pub identity: Bytes,
    /// All properties in their order, names as the peer writes them.
    pub metadata: Vec<(String, Bytes)>,
}

/// Appends our first command.
pub(crate) fn put_first(
    out: &mut Vec<u8>,
    mechanism: &Mechanism,
    ours: SocketType,
    identity: &[u8],
) {
    match mechanism {
        Mechanism::Null => {
            let mut properties = Vec::new();
            metadata::put(&mut properties, "Socket-Type", ours.name().as_bytes());
            if ours.has_identity() {
                let identity = identity.get(..MAX_IDENTITY).unwrap_or(identity);
                metadata::put(&mut properties, "Identity", identity);
            }
            command::put(out, "READY", &[&properties]);
        }
    }
}

/// Takes the peer's command; what it says of itself once the handshake is done.
pub(crate) fn take(
    mechanism: &Mechanism,
    body: &[u8],
    ours: SocketType,
    minor: Minor,
) -> Result<PeerInfo, Error> {
    match (mechanism, command::parse(body)?) {
        (Mechanism::Null, Command::Ready { metadata }) => read_peer(metadata, ours, minor),
        (_, Command::Error { reason }) => Err(Error::PeerError { reason: printable(reason) }),
        (Mechanism::Null, other) => {
            let name = other.name();
            Err(Error::malformed("handshake", format!("{name} where READY or ERROR should be")))
        }
    }
}

fn read_peer(bytes: &[u8], ours: SocketType, minor: Minor) -> Result<PeerInfo, Error> {
    let metadata = metadata::parse(bytes)?;
    let Some(name) = metadata::find(&metadata, "Socket-Type")? else {
        return Err(Error::malformed("handshake", "READY without Socket-Type"));
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
    Ok(PeerInfo { socket_type, minor, identity, metadata })
}
