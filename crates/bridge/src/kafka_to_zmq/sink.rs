//! The socket, as the state of a route sees it.

use std::sync::Arc;

use zafka_sockets::{Chunk, Demand, Label, Origin};

/// The socket that chunks are published to. A type parameter of the state, so that the hot path
/// stays static.
///
/// Nothing here waits. `withdraw` is a call and no action, for the position of what is withdrawn
/// is read right after it: what is delivered in between would be delivered and not counted.
pub trait Sink {
    /// Returns true if a chunk that takes `size` bytes may be published now.
    fn admits(&self, size: usize) -> bool;

    /// Publishes a chunk, to be written with the next flush at the latest.
    fn add(&mut self, chunk: Chunk);

    /// Writes what was added to the peers that were idle.
    fn flush(&mut self);

    /// Takes what is unsent of an origin out of the ring. Its position does not move any more.
    fn withdraw(&mut self, origin: &Arc<Origin>);

    /// Returns the label of a topic, as Kafka names it: rights are by it. None if the socket has no
    /// labels.
    fn label(&mut self, topic: &str) -> Option<Label>;

    /// Returns the demand for a routing frame, or for anything if it is none, of the peers that may
    /// have messages of the label.
    fn demand(&mut self, frame: Option<Vec<u8>>, label: Option<&Label>) -> Arc<Demand>;

    /// Returns whether there were messages that no peer wanted.
    fn has_unheard(&self) -> bool;
}
