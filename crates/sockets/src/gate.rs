//! The gate of a socket: it admits peers, and decides what each may do.
//!
//! Sockets know no identity and no topics: what an origin's messages belong to is a label, and the
//! access of a peer decides by labels.

use std::fmt::Debug;
use std::sync::Arc;

use tokio::sync::watch;
use zafka_zmtp::PeerInfo;
use zafka_zmtp::curve::PublicKey;

/// A peer that asks to be let in.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// The route of the socket.
    pub route: &'a str,
    /// `IP:PORT` or the path of an ipc endpoint; the endpoint, if we connected.
    pub address: &'a str,
    /// Its handshake. With CURVE it has proven its key.
    pub peer: &'a PeerInfo,
    /// The process on the other side of an ipc connection, as the kernel knew it when it connected.
    pub process: Option<Process>,
}

/// The owner of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// The gate's verdict on a peer.
#[derive(Debug)]
pub enum Verdict {
    /// Let in.
    Admitted(Arc<dyn Access>),
    /// It would be let in, and there is no place for it.
    NoPlace,
    /// Refused for now: it is kept waiting for a second or two and closed without an error, so that
    /// it tries again.
    Later(String),
    /// Refused for good: it gets an error, so that it does not try again.
    Refused(String),
}

/// Takes a place for a peer that may have this access. Returns false if there is none for it.
pub type TakePlace<'a> = &'a mut dyn FnMut(&dyn Access) -> bool;

/// Admits peers.
pub trait Gate: Debug + Send + Sync {
    /// Decides on a peer, at once: from memory alone. One that would be let in needs a place too:
    /// it is in, for the log and for counts, once `take_place` has returned true, and not before.
    fn admit(&self, presented: &Presented<'_>, take_place: TakePlace<'_>) -> Verdict;

    /// Changes whenever some access may have come to its end.
    fn ends(&self) -> watch::Receiver<u64>;
}

/// The standing of a peer: whether a gate decides about it, and the decision.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Standing<'a> {
    /// The socket has no gate: every peer may do everything.
    Ungated,
    /// The socket has a gate, which has not let the peer in: it may do nothing.
    Outside,
    /// The gate has let it in.
    Admitted(&'a Arc<dyn Access>),
}

impl<'a> Standing<'a> {
    /// Returns true if the peer may send messages that go to this label.
    pub(crate) fn may_write(self, label: &str) -> bool {
        match self {
            Self::Ungated => true,
            Self::Outside => false,
            Self::Admitted(access) => access.holds() && access.may_write(label),
        }
    }

    /// Returns true if there is anything that the peer may send messages to.
    pub(crate) fn may_write_something(self) -> bool {
        match self {
            Self::Ungated => true,
            Self::Outside => false,
            Self::Admitted(access) => access.holds() && access.may_write_something(),
        }
    }

    /// Returns true if what it was let in with has ended.
    pub(crate) fn has_ended(self) -> bool {
        self.access().is_some_and(|access| !access.holds())
    }

    /// The access that it was let in with.
    pub(crate) fn access(self) -> Option<&'a Arc<dyn Access>> {
        match self {
            Self::Ungated | Self::Outside => None,
            Self::Admitted(access) => Some(access),
        }
    }
}

/// The rights of a peer. The answers of one access stay as they are, until it ends.
pub trait Access: Debug + Send + Sync {
    /// Returns true if the peer may have messages of this label.
    fn may_read(&self, label: &str) -> bool;

    /// Returns true if the peer may send messages that go to this label.
    fn may_write(&self, label: &str) -> bool;

    /// Returns true if there is anything that the peer may send messages to.
    fn may_write_something(&self) -> bool;

    /// Returns true while it is valid. A peer whose access has ended is closed.
    fn holds(&self) -> bool;

    /// Returns the peer's subject; `None` if it is not known.
    fn subject(&self) -> Option<&str>;

    /// Returns the subject whose connections are bounded together, of all its keys: a text that no
    /// other one has. `None` if they are bounded by their keys alone.
    fn bounded_as(&self) -> Option<String> {
        None
    }

    /// Returns the CURVE key that it belongs to; `None` if it is not known by one.
    fn key(&self) -> Option<PublicKey> {
        None
    }

    /// Returns the time when it ends unless it is renewed, in ms since the epoch; `None` if it has
    /// no end.
    fn until(&self) -> Option<i64> {
        None
    }

    /// Properties that the peer gets in its handshake: ASCII letters, digits and `-` in names.
    fn properties(&self) -> Vec<(&'static str, String)>;
}
