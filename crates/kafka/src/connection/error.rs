//! What can happen to a connection.

use crate::reason::steady;

/// Why a connection could not be made, or is of no more use. The same fault has the same text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address}: {reason}")]
pub(crate) struct ConnectionError {
    address: String,
    reason: String,
}

impl ConnectionError {
    pub(crate) fn new(address: &str, reason: &str) -> Self {
        Self { address: address.to_owned(), reason: steady(reason) }
    }
}
