//! The names in which records are written: those of the peers, on routes that write as they do.

use std::fmt::Debug;
use std::sync::Arc;

use tokio::sync::watch;
use zafka_kafka::config::{LiveSecret, OAuthBearer};
use zafka_zmtp::curve::PublicKey;

use crate::identity_places::IdentityPlaces;

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

    /// The places for names, over all routes.
    fn places(&self) -> Arc<IdentityPlaces>;

    /// Changes whenever some lease may have come to its end.
    fn ends(&self) -> watch::Receiver<u64>;
}
