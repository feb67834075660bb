//! Reasons for the end of a connection.

use std::io;
use std::time::Duration;

/// The reason why a connection ended.
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
    #[error(
        "its machine has acknowledged nothing for {} s, though it was asked ({})",
        .0.silent.as_secs(),
        .0.key
    )]
    Gone(Gone),
    #[error("not let in: {0}")]
    PutOff(String),
    #[error("what it may do has ended")]
    AccessEnded,
    #[error("it shows a token without encryption: that token is to be taken for stolen")]
    TokenInClear,
    #[error("max_peers ({0}) reached")]
    PeerLimit(usize),
    #[error("its key has {0} connections already, as many as one may have")]
    KeyLimit(usize),
    #[error("its subject has {0} connections already, as many as one may have")]
    SubjectLimit(usize),
    #[error("too many connections wait for their handshake")]
    HandshakeLimit,
    #[error("{0} files may be open, and the last are kept for brokers and the admin server")]
    FileLimit(u64),
    #[error("more than {0} bytes of answers wait for a peer that does not read them")]
    AnswersUnread(usize),
}

/// A peer whose machine does not acknowledge any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    /// Time for which it has not.
    pub(crate) silent: Duration,
    /// The key that limits that.
    pub(crate) key: &'static str,
}

impl Closed {
    /// A short label for the count of closed connections.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::ByPeer => "peer",
            Self::BySocket => "socket",
            Self::Protocol(error) => error.kind(),
            Self::Io(_) => "connection",
            Self::HandshakeTimeout(_) => "handshake_timeout",
            Self::TooManySubscriptions(_) => "subscription_limit",
            Self::Memory(_) => "peer_memory",
            Self::Gone(_) => "peer_timeout",
            Self::AnswersUnread(_) => "output_overflow",
            Self::PutOff(_) => "put_off",
            Self::AccessEnded => "access_ended",
            Self::TokenInClear => "token_in_clear",
            Self::PeerLimit(_) => "peer_limit",
            Self::KeyLimit(_) => "key_limit",
            Self::SubjectLimit(_) => "subject_limit",
            Self::HandshakeLimit => "handshake_limit",
            Self::FileLimit(_) => "file_limit",
        }
    }

    /// Returns true if the peer itself ended the connection, or the network did.
    pub(crate) fn is_by_peer(&self) -> bool {
        matches!(self, Self::ByPeer | Self::Io(_))
    }
}
