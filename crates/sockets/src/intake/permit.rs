//! The memory that messages take from the moment at which they are handed over until they are
//! settled.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::Sender;
use crate::memory::Charge;

/// A share of `in_flight_bytes`, and the place of messages among those that their sender has under
/// way; dropped, both are free again.
#[derive(Debug)]
pub struct Permit {
    pub(super) memory: Memory,
    pub(super) aside: Option<Aside>,
    sender: Arc<Sender>,
    messages: usize,
    bytes: usize,
}

/// Memory of messages.
pub(super) type Memory = Option<OwnedSemaphorePermit>;

/// Messages that were set aside: they have no share of `in_flight_bytes` for now.
#[derive(Debug)]
pub(super) struct Aside {
    /// The memory that they hold.
    pub(super) _charge: Charge,
    /// The share that they are to have.
    pub(super) weight: usize,
}

/// A share of `in_flight_bytes` for messages that were set aside.
#[derive(Debug)]
pub struct Grant(pub(super) Memory);

impl Permit {
    pub(super) fn new(memory: Memory, sender: &Arc<Sender>, messages: usize, bytes: usize) -> Self {
        sender.begin(messages, bytes);
        Self { memory, aside: None, sender: Arc::clone(sender), messages, bytes }
    }

    /// Parts the share of some of the messages from it; as [`Self::release`]. What was set aside is
    /// held for them.
    #[must_use]
    pub fn split(&mut self, messages: usize, bytes: usize, weight: usize) -> Self {
        let (messages, bytes) = (messages.min(self.messages), bytes.min(self.bytes));
        let memory = &mut self.memory;
        let memory =
            memory.as_mut().and_then(|memory| memory.split(weight.min(memory.num_permits())));
        let aside = self.aside.take();
        let aside = aside.map(|aside| Aside { weight: weight.min(aside.weight), ..aside });
        self.messages -= messages;
        self.bytes -= bytes;
        Self { memory, aside, sender: Arc::clone(&self.sender), messages, bytes }
    }

    /// Returns the weight of all of its messages if they were set aside.
    pub fn set_aside(&self) -> Option<usize> {
        self.aside.as_ref().map(|aside| aside.weight)
    }

    /// Takes messages in again. Those that were set aside stay so until they are settled if `room`
    /// is none; others keep the share that they have.
    pub fn take_in(&mut self, room: Grant) {
        let has_room = room.0.as_ref().is_some_and(|memory| memory.num_permits() > 0);
        if has_room && self.aside.take().is_some() {
            self.memory = room.0;
        }
    }

    /// Gives back the share of some of the messages, which are settled. `bytes` are those of their
    /// frames, `weight` is the sum of what [`message_weight`](super::message_weight) says of each.
    pub fn release(&mut self, messages: usize, bytes: usize, weight: usize) {
        let (messages, bytes) = (messages.min(self.messages), bytes.min(self.bytes));
        if let Some(memory) = &mut self.memory {
            drop(memory.split(weight.min(memory.num_permits())));
        }
        self.messages -= messages;
        self.bytes -= bytes;
        self.sender.end(messages, bytes);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // The memory follows by itself.
        self.sender.end(self.messages, self.bytes);
    }
}
