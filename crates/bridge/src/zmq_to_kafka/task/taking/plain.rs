//! Takes messages whose records are their value and nothing else, all in one topic: what most
//! senders have is decided once for all of them, not once for each.

use std::borrow::Cow;
use std::ops::ControlFlow;

use zafka_kafka::produce::{OutboundRecord, PartitionIndex, Ticket};
use zafka_sockets::Sender;
use zafka_zmtp::{Frames, Messages};

use super::super::Task;
use super::{Halt, Writer};
use crate::zmq_to_kafka::arrivals::{ArrivalId, Size};
use crate::zmq_to_kafka::mapping::Target;
use crate::zmq_to_kafka::wire::{COMMAND_FRAMES, COMMAND_WORD};
use crate::zmq_to_kafka::{IngestConfig, OnError};

/// The form of such messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Plain {
    /// Frames of a message.
    frames: usize,
    /// The number of the value's.
    value: usize,
}

impl Plain {
    /// The form of a route's messages, if nothing but their value is needed.
    pub(in super::super) fn of(config: &IngestConfig) -> Option<Self> {
        let (frames, value) = (config.frames.frames(), config.frames.value_alone()?);
        // With more frames a command may have an envelope. Dead letters hold all frames.
        // Those of each sender have a producer of their own if they are written in its name.
        let is_plain = frames <= COMMAND_FRAMES
            && !config.as_peer
            && config.mapping.topic_alone().is_some()
            && !matches!(config.on_error, OnError::DeadLetter(_));
        is_plain.then_some(Self { frames, value })
    }

    /// The value and the size of a message; `None` of a command, and of one that does not fit.
    #[inline]
    fn value<'a>(self, frames: Frames<'a>) -> Option<(&'a [u8], Size)> {
        let (mut count, mut bytes, mut value) = (0, 0, None);
        for frame in frames {
            if count == 0 && frame == COMMAND_WORD {
                return None;
            }
            if count == self.value {
                value = Some(frame);
            }
            bytes += frame.len();
            count += 1;
        }
        let fits = count == self.frames;
        value.filter(|_| fits).map(|value| (value, Size::new(bytes, count)))
    }
}

impl Task {
    /// The form of a sender's messages, if nothing but their value is needed. The topic is judged
    /// by the first message of all.
    pub(super) fn plain_of(&self, sender: &Sender) -> Option<Plain> {
        let topic = self.topic.as_deref()?;
        self.plain.filter(|_| sender.may_write(topic))
    }

    /// Takes the messages of an arrival from `index` on that have the form, and moves `index`
    /// behind them. The arrival comes with the number of its first message.
    pub(super) fn take_plain(
        &mut self,
        plain: Plain,
        (arrival, first): (ArrivalId, usize),
        messages: &Messages,
        index: &mut usize,
    ) -> ControlFlow<Halt> {
        let (Some(topic), Some(arrived)) = (self.topic.clone(), self.arrivals.get(arrival)) else {
            return ControlFlow::Continue(());
        };
        let (sender, timestamp) = (arrived.sender.id(), arrived.received_ms);
        // Only an answer names it.
        let named = Some(&topic).filter(|_| self.is_router);
        let target = Target { topic: Cow::Borrowed(&*topic), partition: None, key: None };
        while let Some((value, size)) = plain.value(messages.frames(*index)) {
            let place = match self.place(Writer::Own, &target) {
                Ok(place) => place,
                Err(wait) => return ControlFlow::Break(Halt::Full(wait)),
            };
            self.arrivals.measure(arrival, size);
            self.counts.received += 1;
            if let Some(place) = place {
                self.count_more(place, size.weight);
            }
            let message = (arrival, *index - first);
            let ticket = self.ledger.enter_next(message, sender, named, timestamp);
            *index += 1;
            let record = OutboundRecord {
                topic: &topic,
                partition: None,
                timestamp,
                key: None,
                value: Some(value),
                headers: &[],
            };
            if let Err(error) = self.writers.send_to(Writer::Own, place, ticket, &record) {
                self.handle_unsent(place, ticket, error);
                return self.tell();
            }
            if let Some(place) = place {
                self.take_behind(plain, arrival, messages, index, (place, ticket + 1));
            }
        }
        ControlFlow::Continue(())
    }

    /// Takes the messages that follow one that was just taken, as long as nothing is to be decided:
    /// they have the form, and their records go into the batch that its record went into. `place`
    /// comes with the ticket of the first of them.
    fn take_behind(
        &mut self,
        plain: Plain,
        arrival: ArrivalId,
        messages: &Messages,
        index: &mut usize,
        (place, ticket): (PartitionIndex, Ticket),
    ) {
        let (room, most) = (self.shares.room(place), self.ledger.room_behind());
        let Some(timestamp) = self.arrivals.get(arrival).map(|arrived| arrived.received_ms) else {
            return;
        };
        let Some(mut sizes) = self.arrivals.sizes(arrival) else { return };
        let (begin, before) = (*index, sizes.sum().weight);
        let next = |bytes: usize| {
            // The one that makes the partition full is taken.
            if sizes.sum().weight - before >= room || *index - begin == most {
                return None;
            }
            let (value, size) = plain.value(messages.frames(*index))?;
            if value.len() > bytes {
                return None;
            }
            *index += 1;
            sizes.add(size);
            Some(value)
        };
        let count = self.writers.send_values(place, ticket, timestamp, next);
        let weight = sizes.sum().weight - before;
        if count > 0 {
            self.counts.received += count as u64;
            self.ledger.enter_behind(count);
            self.count_more(place, weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_found_in_messages_of_the_form_alone() {
        let plain = Plain { frames: 2, value: 1 };
        for (frames, value) in [
            (&[&b"topic"[..], b"value"][..], Some(&b"value"[..])),
            (&[b"", b""], Some(b"")),
            (&[b"value", b"ZAFKA/1"], Some(b"ZAFKA/1")),
            (&[b"ZAFKA/1", b"value"], None),
            (&[b"value"], None),
            (&[b"", b"topic", b"value"], None),
            (&[b"topic", b"value", b""], None),
        ] {
            let messages = Messages::from_frames([frames]);
            let found = plain.value(messages.frames(0));
            assert_eq!(found.map(|(value, _)| value), value, "{frames:?}");
            if let Some((_, size)) = found {
                assert_eq!(size, Size::new(messages.bytes(), 2));
            }
            assert_eq!(plain.value(messages.frames(1)), None, "there is no second one");
        }
    }
}
