//! A message under way, with the frames by which its sender is answered.

use bytes::Bytes;
use zafka_sockets::Sender;

use super::arrivals::{ArrivalId, Size};
use super::spread::Spread;

/// A message that was received and is not settled.
#[derive(Debug)]
pub(super) struct Message {
    /// The arrival that it came with.
    pub(super) arrival: ArrivalId,
    /// The memory that it takes, its envelope included.
    pub(super) size: Size,
    /// The rest, which most messages do not need.
    pub(super) kept: Option<Box<Kept>>,
}

/// The part of a message that is kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The frames before the message's own, which come back with the answer.
    pub(super) envelope: Vec<Bytes>,
    pub(super) id: Option<Bytes>,
    /// Its frames without the envelope, kept if it may become a dead letter.
    pub(super) frames: Vec<Bytes>,
    /// The size in bytes of one that was too large, of which only the first frames are there.
    pub(super) discarded: Option<u64>,
    /// True if its sender may not write what it asks for: then it becomes no dead letter, and stops
    /// no route.
    pub(super) is_denied: bool,
    /// The partitions of its records, if it has several.
    pub(super) spread: Option<Spread>,
}

impl Message {
    /// Returns the kept part, to which more is to be added.
    pub(super) fn kept_mut(&mut self) -> &mut Kept {
        self.kept.get_or_insert_default()
    }

    /// Its frames, if they were kept.
    pub(super) fn frames(&self) -> &[Bytes] {
        self.kept.as_ref().map_or(&[], |kept| &kept.frames)
    }

    /// Its size if it was too large.
    pub(super) fn discarded(&self) -> Option<u64> {
        self.kept.as_ref().and_then(|kept| kept.discarded)
    }

    /// Returns the partitions of its records, if it has several.
    pub(super) fn spread(&mut self) -> Option<&mut Spread> {
        self.kept.as_mut()?.spread.as_mut()
    }

    pub(super) fn is_denied(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.is_denied)
    }

    /// Returns the frames before an answer: its envelope, and its id.
    pub(super) fn reply(&self) -> impl Iterator<Item = &[u8]> {
        let kept = self.kept.iter().flat_map(|kept| kept.envelope.iter().chain(&kept.id));
        kept.map(|frame| &**frame)
    }
}

/// A header to add to a record.
pub(super) type Header = (String, Option<Vec<u8>>);

/// The headers that name the origin of a record.
pub(super) fn stamp(route: &str, sender: &Sender, id: Option<&[u8]>) -> Vec<Header> {
    let header = |name: &str, value: Vec<u8>| (name.to_owned(), Some(value));
    let mut headers = vec![
        header("zafka.route", route.as_bytes().to_vec()),
        header("zafka.peer", sender.address().as_bytes().to_vec()),
        header("zafka.connection", format!("{:016x}", sender.token()).into_bytes()),
        header("zafka.sequence", sender.next_sequence().to_string().into_bytes()),
    ];
    headers.extend(id.map(|id| header("zafka.id", id.to_vec())));
    headers
}
