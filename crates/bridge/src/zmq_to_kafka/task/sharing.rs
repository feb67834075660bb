//! Holds back messages whose partition has as much under way as it may.

use std::collections::hash_map::Entry;
use std::ops::ControlFlow;
use std::sync::Arc;

use zafka_kafka::produce::{PartitionIndex, Ticket};
use zafka_sockets::{Content, Grant, Inbound, Sender, now_ms};
use zafka_zmtp::Messages;

use super::writer::Writer;
use super::{Task, Turn};
use crate::zmq_to_kafka::arrivals::{ArrivalId, Size};
use crate::zmq_to_kafka::ledger::{Found, Order};
use crate::zmq_to_kafka::mapping::Target;
use crate::zmq_to_kafka::message::Message;
use crate::zmq_to_kafka::parked::{Origin, Wait};
use crate::zmq_to_kafka::shares::Shares;
use crate::zmq_to_kafka::spread::{Freed, Spread};

/// Messages of one sender that came together, or the last of them.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) inbound: Inbound,
    /// The first message that was not taken.
    pub(super) from: usize,
    /// Time of arrival in ms since the epoch.
    pub(super) received_ms: i64,
}

/// The partitions of a message's records.
pub(super) enum Places {
    /// The partition of its only record; `None` if it is not known.
    One(Option<PartitionIndex>),
    /// The partition of each record.
    Each(Vec<Option<PartitionIndex>>),
}

impl Places {
    /// The partition of record `index`.
    pub(super) fn get(&self, index: usize) -> Option<PartitionIndex> {
        match self {
            Self::One(place) => *place,
            Self::Each(places) => places.get(index).copied().flatten(),
        }
    }
}

impl Task {
    /// Finds the partitions of a message's records.
    ///
    /// # Errors
    /// One of them takes no more for now.
    pub(super) fn places(
        &mut self,
        writer: Writer,
        targets: &[Target<'_>],
    ) -> Result<Places, Wait> {
        match targets {
            [target] => Ok(Places::One(self.place(writer, target)?)),
            targets => {
                let places = targets.iter().map(|target| self.place(writer, target));
                Ok(Places::Each(places.collect::<Result<_, _>>()?))
            }
        }
    }

    #[inline]
    pub(super) fn place(
        &mut self,
        writer: Writer,
        target: &Target<'_>,
    ) -> Result<Option<PartitionIndex>, Wait> {
        let Target { topic, partition, key } = target;
        let index = self.writers.locate(writer, topic, *partition, key.as_deref());
        let Some(found) = index else { return Ok(None) };
        let is_for_any = partition.is_none() && key.is_none();
        match self.parked.wait_for(found, topic, is_for_any, &self.shares) {
            Some(wait) => Err(wait),
            None => Ok(index),
        }
    }

    /// Takes note of the records of a message that are under way from now on.
    pub(super) fn count_in(&mut self, places: &Places, message: &mut Message) {
        let weight = message.size.weight;
        match places {
            Places::One(Some(place)) => self.count_more(*place, weight),
            Places::One(None) => {}
            Places::Each(places) => {
                let places: Option<Vec<_>> = places.iter().copied().collect();
                let Some(places) = places else { return };
                let spread = Spread::new(&places, weight);
                spread.parts().for_each(|(place, weight)| self.count_more(place, weight));
                message.kept_mut().spread = Some(spread);
            }
        }
    }

    /// Takes note of records that are under way from now on.
    #[inline]
    pub(super) fn count_more(&mut self, place: PartitionIndex, weight: usize) {
        if self.shares.add(place, weight) {
            self.writers.set_full(place, true);
        }
    }

    /// Takes note of records that are not under way any more.
    pub(super) fn count_out(&mut self, place: PartitionIndex, weight: usize) {
        if self.shares.remove(place, weight) {
            self.writers.set_full(place, false);
            self.parked.open(place);
        }
    }

    /// Takes note of the outcome of records of a partition whose tickets follow one another.
    /// Returns the bytes to be counted out there.
    pub(super) fn count_delivered(
        &mut self,
        place: Option<PartitionIndex>,
        first: Ticket,
        count: usize,
    ) -> usize {
        let freed = place.and_then(|place| {
            let message = self.ledger.message(first)?;
            Some((message.arrival, message.spread()?.settle(place, count)))
        });
        let (arrival, weight) = match freed {
            None => self.weight_of(self.ledger.find(first), count),
            Some((arrival, Some(Freed { weight, to: None }))) => (arrival, weight),
            Some((_, Some(Freed { weight, to: Some(to) }))) => {
                self.moved.push((to, weight));
                return weight;
            }
            Some((_, None)) => return 0,
        };
        self.count_settled(arrival, weight);
        weight
    }

    /// Counts the bytes that were counted out of a partition where they count now.
    pub(super) fn count_moved(&mut self) {
        while let Some((place, weight)) = self.moved.pop() {
            self.count_more(place, weight);
        }
    }

    /// Returns the arrival and the weight of records under way whose tickets follow one another,
    /// given the message of the first.
    fn weight_of(&self, found: Option<Found<'_, Message>>, count: usize) -> (ArrivalId, usize) {
        match found {
            Some(Found::Message(message, records)) => {
                (message.arrival, message.size.weight / records)
            }
            Some(Found::Neighbor((arrival, number))) => {
                (arrival, self.arrivals.size(arrival, &(number..number + count)).weight)
            }
            None => (0, 0),
        }
    }

    /// Takes note of messages that are settled, of a sender whose answers have an order: they keep
    /// their memory until they are answered.
    pub(super) fn count_settled(&mut self, arrival: ArrivalId, weight: usize) {
        if self.order == Order::OfMessages
            && weight > 0
            && let Some(arrival) = self.arrivals.get(arrival)
        {
            *self.untold.entry(arrival.sender.id()).or_default() += weight;
            self.shares.add_untold(weight);
        }
    }

    /// Takes note that they are answered.
    pub(super) fn count_told(&mut self, arrival: ArrivalId, weight: usize) {
        if self.order == Order::OfMessages
            && let Some(arrival) = self.arrivals.get(arrival)
            && let Entry::Occupied(mut untold) = self.untold.entry(arrival.sender.id())
        {
            let left = untold.get().saturating_sub(weight);
            self.shares.remove_untold(untold.insert(left) - left);
            if left == 0 {
                let (sender, _) = untold.remove_entry();
                self.parked.answered(sender);
            }
        }
    }

    /// Returns true if a sender's next messages are to wait for answers to those before, since many
    /// wait for that already.
    pub(super) fn is_stuck(&self, part: &Part) -> bool {
        self.shares.is_untold_full()
            && !self.is_closing
            && matches!(part.inbound.content, Content::Messages(_))
            && self.untold.contains_key(&part.inbound.sender.id())
    }

    /// Moves the shares of records whose partitions are known now; they counted among those of
    /// unknown topics.
    pub(super) fn move_shares(&mut self, writer: Writer, placed: Vec<(Ticket, PartitionIndex)>) {
        for (ticket, place) in placed {
            let place = self.writers.outer(writer, place);
            let spread = self.ledger.message(ticket).and_then(Message::spread);
            let weight = spread.map(|spread| spread.place(place));
            let weight = weight.unwrap_or_else(|| self.weight_of(self.ledger.find(ticket), 1).1);
            self.count_out(PartitionIndex { partition: None, ..place }, weight);
            self.count_more(place, weight);
        }
        self.parked.topics_known();
    }

    /// Forgets all shares, since another part of the producer writes. Those of messages that are
    /// under way count nowhere.
    pub(super) fn forget_shares(&mut self) {
        self.shares = Shares::new(self.shared.config.socket.in_flight_bytes);
        self.untold.clear();
        self.parked.open_all();
    }

    /// Sets the messages of an arrival from `index` on aside, the first of which has to wait.
    pub(super) fn park(
        &mut self,
        arrival: ArrivalId,
        messages: Messages,
        index: usize,
        received_ms: i64,
        wait: Wait,
    ) {
        let rest = index..messages.len();
        let sizes = rest
            .clone()
            .map(|index| Size::new(messages.size(index), messages.frames(index).count()));
        let size = sizes.fold(Size::default(), |all, size| Size {
            bytes: all.bytes + size.bytes,
            weight: all.weight + size.weight,
        });
        let Some((sender, permit)) = self.arrivals.part(arrival, rest.len(), size) else { return };
        let inbound = Inbound { sender, content: Content::Messages(messages), permit };
        let mut part = Part { inbound, from: index, received_ms };
        self.set_aside(&mut part);
        let origin = origin(&part.inbound.sender);
        self.parked.park_for(&origin, part, wait, &self.shares, now_ms());
    }

    /// Gives back the memory of messages, if they may be set aside, and stops reading their sender.
    pub(super) fn set_aside(&mut self, part: &mut Part) {
        let Inbound { sender, content, permit } = &mut part.inbound;
        // First, so that others get the memory that becomes free.
        sender.hold(true);
        self.shared.socket.set_aside(content, permit);
        if permit.set_aside().is_none() {
            self.kept += 1;
            // The one that it is for may wait for what this keeps.
            self.turn = None;
        }
    }

    /// Queues for the memory of messages that were set aside, if some may continue.
    pub(super) fn queue_for_room(&mut self) {
        if self.turn.is_some() || self.parked.is_empty() {
            return;
        }
        let shares = &self.shares;
        if let Some(part) = self.parked.next(|index| shares.is_full(index), now_ms()) {
            // It would wait forever for the memory that messages behind it keep.
            let weight = part.inbound.permit.set_aside().filter(|_| self.kept == 0).unwrap_or(0);
            self.turn = Some(Box::pin(self.shared.socket.room(weight)));
        }
    }

    /// Takes messages that were set aside, for which there is memory now.
    pub(super) fn handle_room(&mut self, room: Grant) -> ControlFlow<()> {
        self.turn = None;
        let Some(mut part) = self.parked.take() else { return ControlFlow::Continue(()) };
        if part.inbound.permit.set_aside().is_none() {
            self.kept = self.kept.saturating_sub(1);
        }
        part.inbound.permit.take_in(room);
        let sender = Arc::clone(&part.inbound.sender);
        if self.take(part)?.is_whole && self.parked.go_on() {
            sender.hold(false);
        }
        ControlFlow::Continue(())
    }

    /// Refuses the messages that were set aside, at the end.
    pub(super) fn refuse_parked(&mut self) {
        (self.turn, self.kept) = (None, 0);
        for mut part in self.parked.take_all() {
            if let Content::Messages(messages) = part.inbound.content {
                part.inbound.content = Content::Late(messages);
            }
            // The route ends in any case.
            let _ = self.take(part);
        }
    }
}

/// Returns the sender of messages, as those that wait are told apart. One that has a routing id is
/// the same on its next connection if its key is too: anybody may take any routing id.
pub(super) fn origin(sender: &Sender) -> Origin {
    let (key, id) = (sender.key(), sender.routing_id());
    let name = (!id.is_empty()).then(|| {
        let key = key.as_ref().map(|key| key.as_bytes().as_slice()).unwrap_or_default();
        [&[u8::from(!key.is_empty())], key, id].concat().into()
    });
    Origin { sender: sender.id(), name }
}

/// Waits for memory, without a deadline: it is there once Kafka keeps up.
pub(super) async fn room(turn: &mut Option<Turn>) -> Grant {
    match turn {
        Some(turn) => turn.await,
        None => std::future::pending().await,
    }
}
