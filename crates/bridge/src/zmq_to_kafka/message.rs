//! A message under way, with what its sender is to be told by.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use zafka_sockets::{Permit, Sender};

/// A message that was received and is not settled.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) sender: Arc<Sender>,
    /// What stood before its frames, and comes back with the answer.
    pub(super) envelope: Vec<Bytes>,
    pub(super) id: Option<Bytes>,
    /// Its frames without the envelope, kept if it may become a dead letter.
    pub(super) frames: Vec<Bytes>,
    /// The size in bytes of one that was too large, of which only the first frames are there.
    pub(super) discarded: Option<u64>,
    /// Whether its sender may not write what it asks for: then it becomes no dead letter, and
    /// stops no route.
    pub(super) is_denied: bool,
    /// In ms since the epoch.
    pub(super) received_ms: i64,
    pub(super) permit: Permit,
}

/// A header to add to a record.
pub(super) type Header = (String, Option<Vec<u8>>);

/// The headers that tell where a record came from.
pub(super) fn stamp(route: &str, message: &Message) -> Vec<Header> {
    let header = |name: &str, value: Vec<u8>| (name.to_owned(), Some(value));
    let sender = &message.sender;
    let mut headers = vec![
        header("zafka.route", route.as_bytes().to_vec()),
        header("zafka.peer", sender.address().as_bytes().to_vec()),
        header("zafka.connection", format!("{:016x}", sender.token()).into_bytes()),
        header("zafka.sequence", sender.next_sequence().to_string().into_bytes()),
    ];
    headers.extend(message.id.as_ref().map(|id| header("zafka.id", id.to_vec())));
    headers
}

pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
