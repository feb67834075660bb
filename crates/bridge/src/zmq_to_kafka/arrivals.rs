//! Messages that came together: their sender, and the memory that they hold until each of them is
//! settled. Pure.

use std::ops::Range;
use std::sync::Arc;

use zafka_sockets::{Permit, Sender, message_weight};

use super::ages::Ages;

/// A place in the table.
pub(super) type ArrivalId = usize;

/// Messages of one sender that came at once.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) sender: Arc<Sender>,
    /// Time of arrival in ms since the epoch.
    pub(super) received_ms: i64,
    permit: Permit,
    /// Memory of each message so far, with those before it.
    sizes: Vec<Size>,
    /// Messages that are not settled.
    left: usize,
    /// Messages that are settled, and their size, whose share is to be given back.
    settled: usize,
    settled_size: Size,
}

/// Memory that messages take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Bytes of their frames.
    pub(super) bytes: usize,
    /// Sum of the [`message_weight`] of each.
    pub(super) weight: usize,
}

impl Size {
    /// Returns the size of one message.
    pub(super) fn new(bytes: usize, frames: usize) -> Self {
        Self { bytes, weight: message_weight(bytes, frames) }
    }
}

/// Messages that came and are not settled. An arrival's place is used again.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    slots: Vec<Option<Arrival>>,
    free: Vec<ArrivalId>,
    /// Some of its messages are settled since [`Self::release`].
    touched: Vec<ArrivalId>,
    ages: Ages,
}

/// The sizes of an arrival's messages so far.
#[derive(Debug)]
pub(super) struct Sizes<'a> {
    sizes: &'a mut Vec<Size>,
    sum: Size,
}

impl Sizes<'_> {
    /// Takes note of the size of the next message.
    #[inline]
    pub(super) fn add(&mut self, size: Size) {
        self.sum.bytes += size.bytes;
        self.sum.weight += size.weight;
        self.sizes.push(self.sum);
    }

    /// The size of all of them.
    #[inline]
    pub(super) fn sum(&self) -> Size {
        self.sum
    }
}

impl Arrivals {
    /// Takes in so many messages.
    pub(super) fn add(
        &mut self,
        sender: Arc<Sender>,
        permit: Permit,
        messages: usize,
        received_ms: i64,
    ) -> ArrivalId {
        self.ages.add(received_ms);
        let arrival = Arrival {
            sender,
            received_ms,
            permit,
            sizes: Vec::with_capacity(messages),
            left: messages,
            settled: 0,
            settled_size: Size::default(),
        };
        match self.free.pop() {
            Some(id) => {
                if let Some(slot) = self.slots.get_mut(id) {
                    *slot = Some(arrival);
                }
                id
            }
            None => {
                self.slots.push(Some(arrival));
                self.slots.len() - 1
            }
        }
    }

    /// Parts the last messages of an arrival from it, which were not taken.
    pub(super) fn part(
        &mut self,
        id: ArrivalId,
        messages: usize,
        size: Size,
    ) -> Option<(Arc<Sender>, Permit)> {
        let slot = self.slots.get_mut(id)?;
        let arrival = slot.as_mut()?;
        let permit = arrival.permit.split(messages, size.bytes, size.weight);
        let sender = Arc::clone(&arrival.sender);
        arrival.left -= messages;
        if arrival.left == 0 && arrival.settled == 0 {
            // Nothing is left to be given back.
            self.ages.remove(arrival.received_ms);
            *slot = None;
            self.free.push(id);
        }
        Some((sender, permit))
    }

    /// Returns an arrival that has messages which are not settled.
    pub(super) fn get(&self, id: ArrivalId) -> Option<&Arrival> {
        self.slots.get(id)?.as_ref()
    }

    /// Takes note of the size of an arrival's next message.
    pub(super) fn measure(&mut self, id: ArrivalId, size: Size) {
        if let Some(mut sizes) = self.sizes(id) {
            sizes.add(size);
        }
    }

    /// The sizes of an arrival's messages, to which those of the next ones are to be added.
    pub(super) fn sizes(&mut self, id: ArrivalId) -> Option<Sizes<'_>> {
        let Arrival { sizes, .. } = self.slots.get_mut(id)?.as_mut()?;
        Some(Sizes { sum: sizes.last().copied().unwrap_or_default(), sizes })
    }

    /// The size of messages of an arrival, by their numbers.
    pub(super) fn size(&self, id: ArrivalId, messages: &Range<usize>) -> Size {
        let Some(arrival) = self.get(id) else { return Size::default() };
        let before = |index: usize| {
            let last = index.checked_sub(1).and_then(|last| arrival.sizes.get(last));
            last.copied().unwrap_or_default()
        };
        let (start, end) = (before(messages.start), before(messages.end));
        Size {
            bytes: end.bytes.saturating_sub(start.bytes),
            weight: end.weight.saturating_sub(start.weight),
        }
    }

    /// Takes note that messages of this size together are settled.
    pub(super) fn settle(&mut self, id: ArrivalId, messages: usize, size: Size) {
        let Some(Some(arrival)) = self.slots.get_mut(id) else { return };
        if arrival.settled == 0 {
            self.touched.push(id);
        }
        arrival.left = arrival.left.saturating_sub(messages);
        arrival.settled += messages;
        arrival.settled_size.bytes += size.bytes;
        arrival.settled_size.weight += size.weight;
    }

    /// Gives back the memory of settled messages. To be called once their senders are answered: one
    /// that is being closed has nothing under way only then.
    pub(super) fn release(&mut self) {
        for id in self.touched.drain(..) {
            let Some(slot) = self.slots.get_mut(id) else { continue };
            let Some(arrival) = slot else { continue };
            if arrival.left == 0 {
                self.ages.remove(arrival.received_ms);
                *slot = None;
                self.free.push(id);
            } else {
                let size = std::mem::take(&mut arrival.settled_size);
                let settled = std::mem::take(&mut arrival.settled);
                arrival.permit.release(settled, size.bytes, size.weight);
            }
        }
    }

    /// Returns the time when the oldest was received, in ms since the epoch; 0 if there is none.
    pub(super) fn oldest(&self) -> i64 {
        self.ages.oldest()
    }
}
