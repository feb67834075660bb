//! Waits: states in which a socket sends nothing though nothing is wrong with the relay.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Origin;

/// One wait.
#[derive(Clone, Debug)]
pub struct Wait {
    /// The origin whose chunks wait; `None` if it is the whole socket.
    pub origin: Option<Arc<Origin>>,
    /// Its kind.
    pub kind: WaitKind,
    /// A text for people, without the origin and the peer.
    pub reason: String,
    /// The address of the peer that is waited for, if it is one.
    pub peer: Option<String>,
    /// The moment it began, in ms since the epoch.
    pub since: i64,
}

/// The kinds of a socket's waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitKind {
    /// A peer has to take what it is owed first.
    Peer,
    /// A peer does not take a message, however often it is sent.
    Message,
}

impl WaitKind {
    /// Its name in the status and in labels of routes, whose messages are records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Message => "record",
        }
    }
}

/// Returns the time of day, in ms since the epoch.
pub fn now_ms() -> i64 {
    since_epoch(SystemTime::now())
}

/// A moment in ms since the epoch.
pub(crate) fn since_epoch(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
