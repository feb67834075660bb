//! The names in which records are written: those of the peers, on routes that write as they do.

use std::fmt::Debug;

use tokio::sync::{OwnedSemaphorePermit, watch};
use zafka_kafka::config::{LiveSecret, OAuthBearer};
use zafka_zmtp::curve::PublicKey;

/// The lease of a peer, in whose name records are written as long as it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerLease {
    /// The peer's own token, which is never shown to a broker. It is taken away with the lease.
    pub token: LiveSecret,
    /// The tokens for the brokers, which are granted for that one.
    pub tokens: OAuthBearer,
}

impl PeerLease {
    /// Returns true once it is over, for good.
    pub(crate) fn is_over(&self) -> bool {
        self.token.is_gone()
    }
}

/// Knows the leases of peers, and bounds in how many names records are written.
pub trait Principals: Debug + Send + Sync {
    /// The lease of the owner of a key, if a token has given it one.
    fn lease(&self, key: &PublicKey) -> Option<PeerLease>;

    /// A place for one more name, over all routes; `None` if all are taken. It is free again once
    /// it is dropped.
    fn place(&self) -> Option<OwnedSemaphorePermit>;

    /// Takes note of a message that was refused since all places are taken.
    fn count_refused(&self);

    /// Changes whenever some lease may have come to its end.
    fn ends(&self) -> watch::Receiver<u64>;
}
