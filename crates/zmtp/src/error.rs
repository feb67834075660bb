//! Faults of a peer. Every error ends its connection, and no other.

use std::fmt;

use crate::SocketType;

/// The reason why a connection must be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The peer does not speak ZMTP 3.
    #[error("the peer speaks {found}; ZMTP 3.0 or later is needed")]
    Version {
        /// The version in the greeting.
        found: FoundVersion,
    },
    /// The peer is set up for another security mechanism.
    #[error("the peer's mechanism is {theirs:?}, ours is {ours:?}")]
    Mechanism {
        /// The name of ours.
        ours: &'static str,
        /// The name in the peer's greeting; what is not printable ASCII is escaped.
        theirs: String,
    },
    /// The peer's socket type cannot talk to ours.
    #[error("the peer's socket type {theirs:?} does not fit ours, {ours}")]
    IncompatibleSocket {
        /// Our socket type.
        ours: SocketType,
        /// The peer's Socket-Type; what is not printable ASCII is escaped.
        theirs: String,
    },
    /// The bytes do not follow the protocol.
    #[error("malformed {what}: {found}")]
    Malformed {
        /// The part of the protocol that is broken.
        what: &'static str,
        /// The found value, and the allowed ones.
        found: String,
    },
    /// A frame is larger than we take.
    #[error("a frame of {size} bytes is over the limit of {limit}")]
    FrameTooLarge {
        /// Announced size of the body, in bytes.
        size: u64,
        /// The largest body allowed here, in bytes.
        limit: usize,
    },
    /// The frames of one message are together larger than we take.
    #[error("a message of at least {size} bytes is over the limit of {limit}")]
    MessageTooLarge {
        /// Bytes of its frames so far, the announced one among them.
        size: u64,
        /// The largest message allowed, in bytes.
        limit: usize,
    },
    /// One message has more frames than we take.
    #[error("a message of more than {limit} frames")]
    TooManyFrames {
        /// The largest number of frames allowed.
        limit: usize,
    },
    /// The peer sent nothing for too long.
    #[error("nothing came from the peer within {within:?} after {after}")]
    HeartbeatTimeout {
        /// The time that the peer was given.
        within: std::time::Duration,
        /// The cause of the clock's start: our PING, or the peer's own with a time to live.
        after: &'static str,
    },
    /// A box of the peer's that was made with other keys than it should be, or was tampered with.
    #[error("the box in the peer's {command} does not open: another key, or forged")]
    Unopened {
        /// The command.
        command: &'static str,
    },
    /// The peer's proof of itself is wrong; the peer receives ERROR 400.
    #[error("the peer shows {found}")]
    Rejected {
        /// The fault.
        found: &'static str,
    },
    /// The caller refused the peer ([`Connection::refuse`](crate::Connection::refuse)).
    #[error("refused: {reason}")]
    Refused {
        /// The reason that the peer received.
        reason: String,
    },
    /// The peer sent an ERROR command.
    #[error("the peer reports an error: {reason:?}")]
    PeerError {
        /// The reason it gives; what is not printable ASCII is escaped.
        reason: String,
    },
}

impl Error {
    /// A short name of the kind of error, for metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Version { .. } => "version",
            Self::Mechanism { .. } => "mechanism",
            Self::IncompatibleSocket { .. } => "socket_type",
            Self::Malformed { .. } => "malformed",
            Self::FrameTooLarge { .. }
            | Self::MessageTooLarge { .. }
            | Self::TooManyFrames { .. } => "frame_limit",
            Self::HeartbeatTimeout { .. } => "heartbeat",
            Self::Unopened { .. } => "curve_key",
            Self::Rejected { .. } | Self::Refused { .. } => "refused",
            Self::PeerError { .. } => "peer_error",
        }
    }

    pub(crate) fn malformed(what: &'static str, found: impl Into<String>) -> Self {
        Self::Malformed { what, found: found.into() }
    }
}

/// The contents of a greeting that is not ZMTP 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundVersion {
    /// The first octet is not that of a signature: ZMTP 1.0, or another protocol altogether.
    NoSignature {
        /// The first octet.
        first: u8,
    },
    /// A long identity frame at the place of the signature's end: ZMTP 1.0.
    V1,
    /// A signature, then a revision or major version below 3 (ZMTP 2.0 has 1 there).
    Revision(u8),
}

impl fmt::Display for FoundVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSignature { first } => {
                write!(f, "ZMTP 1.0 or no ZMTP at all (first octet 0x{first:02x}, not 0xff)")
            }
            Self::V1 => write!(f, "ZMTP 1.0"),
            Self::Revision(1) => write!(f, "ZMTP 2.0"),
            Self::Revision(revision) => write!(f, "an old ZMTP (revision {revision})"),
        }
    }
}

/// Bytes of a peer for a log line: printable ASCII as it is, the rest escaped, never longer than a
/// line.
pub(crate) fn printable(bytes: &[u8]) -> String {
    const SHOWN: usize = 80;
    let shown = bytes.get(..SHOWN).unwrap_or(bytes);
    let mut text: String = shown.escape_ascii().to_string();
    if bytes.len() > SHOWN {
        text.push_str("...");
    }
    text
}
