//! Messages that came together: their sender, and the memory that they hold until each of them is
//! settled. Pure.

use std::sync::Arc;

use zafka_sockets::{Permit, Sender, message_weight};

use super::ages::Ages;

/// A place in the table.
pub(super) type ArrivalId = usize;

/// Messages of one sender that came at once.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) sender: Arc<Sender>,
    /// In ms since the epoch.
    pub(super) received_ms: i64,
    permit: Permit,
    /// Messages that are not settled.
    left: usize,
    /// Messages that are, and their bytes, whose share is to be given back.
    settled: usize,
    settled_bytes: usize,
    settled_weight: usize,
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
            left: messages,
            settled: 0,
            settled_bytes: 0,
            settled_weight: 0,
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

    /// An arrival that has messages which are not settled.
    pub(super) fn get(&self, id: ArrivalId) -> Option<&Arrival> {
        self.slots.get(id)?.as_ref()
    }

    /// A message of so many bytes and frames is settled.
    pub(super) fn settle(&mut self, id: ArrivalId, bytes: usize, frames: usize) {
        let Some(Some(arrival)) = self.slots.get_mut(id) else { return };
        if arrival.settled == 0 {
            self.touched.push(id);
        }
        arrival.left -= 1;
        arrival.settled += 1;
        arrival.settled_bytes += bytes;
        arrival.settled_weight += message_weight(bytes, frames);
    }

    /// Gives back the memory of what is settled. To be called once its senders are told: one that
    /// is being let go has nothing under way only then.
    pub(super) fn release(&mut self) {
        for id in self.touched.drain(..) {
            let Some(slot) = self.slots.get_mut(id) else { continue };
            let Some(arrival) = slot else { continue };
            if arrival.left == 0 {
                self.ages.remove(arrival.received_ms);
                *slot = None;
                self.free.push(id);
            } else {
                let Arrival { settled, settled_bytes, settled_weight, .. } = *arrival;
                arrival.permit.release(settled, settled_bytes, settled_weight);
                (arrival.settled, arrival.settled_bytes, arrival.settled_weight) = (0, 0, 0);
            }
        }
    }

    /// Returns the time when the oldest was received, in ms since the epoch; 0 if there is none.
    pub(super) fn oldest(&self) -> i64 {
        self.ages.oldest()
    }
}
