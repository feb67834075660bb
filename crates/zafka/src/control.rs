//! The control socket of a relay (`[admin] control`): leases are listed, and keys, subjects and
//! tokens revoked.
//!
//! It is a socket file that its owner alone may open, which is all of its protection: unlike a
//! loopback address no web page reaches it. A request is a line of JSON; its answer is lines of
//! JSON, the last of which says that it is one.

mod ask;
mod serve;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use zafka_identity::Revoked;

pub use ask::ask;
pub use serve::Control;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum ControlRequest {
    /// All leases.
    Leases {},
    /// Keeps out the peers that are revoked.
    Revoke {
        /// The object.
        what: What,
        /// Time in s that it lasts at the least.
        seconds: u64,
    },
}

/// The object of a revocation, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum What {
    /// A public key in Z85.
    Key(String),
    /// A subject.
    Subject {
        /// Its issuer; any without one.
        issuer: Option<String>,
        /// Its name.
        subject: String,
    },
    /// A token.
    Token {
        /// Its issuer; any without one.
        issuer: Option<String>,
        /// Its id (`jti`).
        id: String,
    },
    /// Tokens that a key of an issuer signed.
    SignedBy {
        /// The issuer.
        issuer: String,
        /// The key's id (`kid`).
        id: String,
    },
    /// Tokens of an issuer that are older than a time.
    IssuedBefore {
        /// The issuer.
        issuer: String,
        /// Time in s since the epoch.
        time: i64,
    },
}

impl TryFrom<What> for Revoked {
    type Error = String;

    fn try_from(what: What) -> Result<Self, String> {
        Ok(match what {
            What::Key(key) => Self::Key(key.parse().map_err(|error| format!("{error}"))?),
            What::Subject { issuer, subject } => Self::Subject { issuer, subject },
            What::Token { issuer, id } => Self::Token { issuer, id },
            What::SignedBy { issuer, id } => Self::SignedBy { issuer, id },
            What::IssuedBefore { issuer, time } => Self::IssuedBefore { issuer, time },
        })
    }
}

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// A lease.
    Lease(LeaseLine),
    /// A revocation was done.
    Revoked(RevokedLine),
    /// The request was not done, and why.
    Error(String),
    /// The last line: the answer is whole.
    End,
}

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseLine {
    /// The key, in Z85.
    pub key: String,
    /// The issuer of its token.
    pub issuer: String,
    /// The subject of its token.
    pub subject: String,
    /// The id of its token, if that has one.
    pub token_id: Option<String>,
    /// Its end, in s since the epoch.
    pub until: i64,
    /// Connections that are there by it.
    pub connections: usize,
}

/// A revocation that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedLine {
    /// The object, in words.
    pub revoked: String,
    /// Keys whose leases, or other admissions, have ended.
    pub keys: usize,
    /// Connections that are closed by it.
    pub connections: usize,
    /// The time until which it holds, in s since the epoch.
    pub until: i64,
}
