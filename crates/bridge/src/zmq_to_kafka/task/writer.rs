//! The producer that a record goes to, and the events of producers.

use zafka_kafka::produce::News;

use crate::zmq_to_kafka::identities::SlotId;

/// The producer of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// The relay's.
    Own,
    /// The producer of an identity.
    Peer(SlotId),
}

/// The news of a producer, or something to be done about identities.
#[derive(Debug)]
pub(super) enum Event {
    News(Writer, News),
    Peers(PeerEvent),
}

/// Something to be done about identities.
#[derive(Debug)]
pub(super) enum PeerEvent {
    /// Some lease may be over, the time of something has come, or another route wants a place.
    Look,
    /// The end of an identity whose token nobody takes any more.
    Refused { slot: SlotId, serial: u64, reason: String },
}
