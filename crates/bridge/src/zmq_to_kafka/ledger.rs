//! The messages under way: the records of each, their outcomes, and the order in which senders are
//! answered. Pure.
//!
//! A message is settled once all of its records are. Answers with an id go out as messages settle;
//! those without one in the order of the messages of their sender.
//!
//! A ticket is a place in a table, so that an outcome needs no search, and a number within it:
//! neighbors of one arrival share a place if nothing is kept of them. A place is reused; another
//! number within the ticket distinguishes its lives.

mod run;
mod several;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use zafka_envelope::InboundPlan;
use zafka_kafka::produce::{Delivered, Ticket, WriteError, Written};

use super::arrivals::ArrivalId;
use super::wire::{Failure, Place};
use run::Group;
pub(crate) use run::Run;
use several::Several;

/// Bits of a ticket that are the message's number among those of its place.
const INDEX_BITS: u32 = 15;
/// Bits of a ticket that are the place in the table.
const PLACE_BITS: u32 = 32;
/// Bits of a ticket that distinguish the lives of one place. The highest are of dead letters.
const LIFE_BITS: u32 = 15;

/// A message under way. `M` is the caller's data about it.
#[derive(Debug)]
struct Pending<M> {
    message: M,
    sender: u64,
    /// The number of places that were taken before.
    number: u64,
    /// Topic of its records, if its sender gets an answer.
    topic: Option<Arc<str>>,
    /// Timestamp of its last record, as sent or as the topic set it.
    timestamp: i64,
    /// Its records, if they are not exactly one or if it is answered as a batch.
    several: Option<Box<Several>>,
}

/// A message whose outcome is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settled<M> {
    pub(crate) message: M,
    pub(crate) outcome: Result<Place, Failure>,
}

/// Messages whose outcome is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told<M> {
    /// One of them.
    Message(Settled<M>),
    /// Neighbors of which nothing was kept.
    Run(Run),
}

/// A message under way.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a, M> {
    /// One that stands by itself, and how many records it has.
    Message(&'a M, usize),
    /// One of which nothing is kept: its arrival, and its number in it.
    Neighbor((ArrivalId, usize)),
}

/// The order of answers: each waits for those of earlier messages, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The order of each sender's messages.
    OfMessages,
    /// The order in which messages settle.
    AsSettled,
}

impl Order {
    /// Returns the order of a route: a sender recognizes answers without an id by it.
    pub(crate) fn of(is_router: bool, frames: &InboundPlan) -> Self {
        if is_router && !frames.has_id() { Self::OfMessages } else { Self::AsSettled }
    }
}

/// A place in the table.
#[derive(Debug)]
struct Slot<M> {
    /// The number of messages or groups that were here before.
    life: usize,
    state: State<M>,
}

#[derive(Debug)]
enum State<M> {
    Free,
    Pending(Pending<M>),
    /// Neighbors of one arrival.
    Group(Box<Group>),
    /// A settled message that waits for those before it.
    Settled(Box<Settled<M>>),
}

/// The messages under way.
#[derive(Debug)]
pub(crate) struct Ledger<M> {
    order: Order,
    is_batch: bool,
    in_flight: usize,
    entered: u64,
    slots: Vec<Slot<M>>,
    free: Vec<usize>,
    /// The group that the next message may join.
    open: Option<usize>,
    /// Places of each sender's messages that were not reported, in order.
    queues: HashMap<u64, VecDeque<usize>>,
}

impl<M> Ledger<M> {
    pub(crate) fn new(order: Order, is_batch: bool) -> Self {
        Self {
            order,
            is_batch,
            in_flight: 0,
            entered: 0,
            slots: Vec::new(),
            free: Vec::new(),
            open: None,
            queues: HashMap::new(),
        }
    }

    /// Messages that were not reported.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Enters a message of `records` records (at least one), the last of them with `timestamp`, and
    /// returns the ticket of each of them.
    pub(crate) fn enter(
        &mut self,
        message: M,
        sender: u64,
        topic: Option<Arc<str>>,
        timestamp: i64,
        records: usize,
    ) -> Ticket {
        let number = self.entered;
        self.entered += 1;
        let is_several = records != 1 || (self.is_batch && topic.is_some());
        let several = is_several.then(|| Box::new(Several::new(records)));
        let pending = Pending { message, sender, number, topic, timestamp, several };
        let place = self.place(sender, State::Pending(pending));
        self.in_flight += 1;
        self.ticket(place)
    }

    /// Enters a message of one record, of which nothing is kept: the one with this number among
    /// those that came together. Returns the ticket of its record; that of the next one of them is
    /// one more, as a rule.
    pub(crate) fn enter_next(
        &mut self,
        message: (ArrivalId, usize),
        sender: u64,
        topic: Option<&Arc<str>>,
        timestamp: i64,
    ) -> Ticket {
        self.in_flight += 1;
        if let Some(place) = self.open
            && let Some(Slot { life, state: State::Group(group) }) = self.slots.get_mut(place)
            && let Some(index) = group.enter(message, topic, timestamp)
        {
            return ticket(*life, place) + index;
        }
        let number = self.entered;
        self.entered += 1;
        let mut group = Group::new(message, sender, number, topic, timestamp);
        let index = group.enter(message, topic, timestamp).unwrap_or_default();
        let place = self.place(sender, State::Group(Box::new(group)));
        self.open = Some(place);
        self.ticket(place) + index
    }

    /// The number of messages that [`Self::enter_behind`] may enter now.
    pub(crate) fn room_behind(&self) -> usize {
        let slot = self.open.and_then(|place| self.slots.get(place));
        match slot {
            Some(Slot { state: State::Group(group), .. }) => group.room(),
            _ => 0,
        }
    }

    /// Enters the messages that follow in the arrival of the one that [`Self::enter_next`] has just
    /// entered, all like it. Their tickets follow that one's.
    pub(crate) fn enter_behind(&mut self, count: usize) {
        let slot = self.open.and_then(|place| self.slots.get_mut(place));
        if let Some(Slot { state: State::Group(group), .. }) = slot {
            group.extend(count);
            self.in_flight += count;
        }
    }

    /// Enters a message whose outcome is known at once; if answers have an order, it may have to
    /// wait.
    pub(crate) fn settle_now(
        &mut self,
        message: M,
        sender: u64,
        failure: Failure,
        out: &mut Vec<Told<M>>,
    ) {
        let settled = Settled { message, outcome: Err(failure) };
        if self.order == Order::AsSettled {
            return out.push(Told::Message(settled));
        }
        self.place(sender, State::Settled(Box::new(settled)));
        self.in_flight += 1;
        self.tell(sender, out);
    }

    /// Takes the outcome of records whose tickets follow one another. Appends the messages that may
    /// be reported now to `out`.
    pub(crate) fn handle_delivered(&mut self, delivered: Delivered, out: &mut Vec<Told<M>>) {
        let Delivered { first, count, outcome } = delivered;
        let (life, place, index) = parted(first);
        let is_of_it =
            |slot: &&mut Slot<M>| slot.life == life || zafka_planted::is("a-ticket-is-anybodys");
        match self.slots.get_mut(place).filter(is_of_it).map(|slot| &mut slot.state) {
            Some(State::Pending(_)) => self.settle_record(place, outcome, out),
            Some(State::Group(group)) => {
                if !group.settle(index, count) {
                    return;
                }
                let outcome = outcome.map_err(Failure::from);
                if self.order == Order::OfMessages {
                    let sender = group.sender;
                    group.wait(index, count, outcome);
                    return self.tell(sender, out);
                }
                out.push(Told::Run(group.run(index, count, outcome)));
                self.in_flight -= count;
                if group.is_settled() {
                    self.leave(place);
                }
            }
            Some(State::Settled(_) | State::Free) | None => {}
        }
    }

    /// Finds the message of a record that is under way.
    pub(crate) fn find(&self, ticket: Ticket) -> Option<Found<'_, M>> {
        let (life, place, index) = parted(ticket);
        match &self.slots.get(place).filter(|slot| slot.life == life)?.state {
            State::Pending(Pending { message, several, .. }) => {
                let records = several.as_ref().map_or(1, |several| several.records());
                Some(Found::Message(message, records))
            }
            State::Group(group) => Some(Found::Neighbor(group.neighbor(index))),
            State::Settled(_) | State::Free => None,
        }
    }

    /// Returns the caller's part of a message that stands by itself.
    pub(crate) fn message(&mut self, ticket: Ticket) -> Option<&mut M> {
        let (life, place, _) = parted(ticket);
        match &mut self.slots.get_mut(place).filter(|slot| slot.life == life)?.state {
            State::Pending(Pending { message, .. }) => Some(message),
            State::Group(_) | State::Settled(_) | State::Free => None,
        }
    }

    /// Takes the outcome of one record, as [`Self::handle_delivered`] does.
    pub(crate) fn handle_delivery(
        &mut self,
        ticket: Ticket,
        outcome: Result<Written, WriteError>,
        out: &mut Vec<Told<M>>,
    ) {
        self.handle_delivered(Delivered { first: ticket, count: 1, outcome }, out);
    }

    /// Takes the outcome of a record of a message that stands by itself.
    fn settle_record(
        &mut self,
        place: usize,
        outcome: Result<Written, WriteError>,
        out: &mut Vec<Told<M>>,
    ) {
        let Some(Slot { state: State::Pending(pending), .. }) = self.slots.get_mut(place) else {
            return;
        };
        if let Ok(Written { log_append_time: Some(time), .. }) = outcome {
            pending.timestamp = time;
        }
        let is_settled = pending.several.as_mut().is_none_or(|several| several.take(&outcome));
        if is_settled {
            let is_batch = self.is_batch;
            self.settle(place, |pending| pending.settle(outcome, is_batch), out);
        }
    }

    /// Settles all messages under way: no more outcomes will come.
    pub(crate) fn abandon(&mut self, failure: &Failure, out: &mut Vec<Told<M>>) {
        let pending = self.slots.iter().enumerate().filter_map(|(place, slot)| match &slot.state {
            State::Pending(pending) => Some((pending.number, place)),
            State::Group(group) => Some((group.number, place)),
            State::Free | State::Settled(_) => None,
        });
        let mut left: Vec<_> = pending.collect();
        left.sort_unstable();
        for (_, place) in left {
            if self.abandon_group(place, failure, out) {
                continue;
            }
            let settle = |pending: Pending<M>| Settled {
                message: pending.message,
                outcome: Err(failure.clone()),
            };
            self.settle(place, settle, out);
        }
    }

    /// Settles the rest of a group, if there is one in this place.
    fn abandon_group(&mut self, place: usize, failure: &Failure, out: &mut Vec<Told<M>>) -> bool {
        let Some(Slot { state: State::Group(group), .. }) = self.slots.get_mut(place) else {
            return false;
        };
        let (left, sender) = (group.abandon(failure), group.sender);
        if self.order == Order::OfMessages {
            self.tell(sender, out);
        } else {
            // Which of them these are does not matter any more: all are settled now.
            out.push(Told::Run(group.run(0, left, Err(failure.clone()))));
            self.in_flight -= left;
            self.leave(place);
        }
        true
    }

    /// Settles the message of a place.
    fn settle(
        &mut self,
        place: usize,
        settle: impl FnOnce(Pending<M>) -> Settled<M>,
        out: &mut Vec<Told<M>>,
    ) {
        let Some(slot) = self.slots.get_mut(place) else { return };
        let State::Pending(pending) = std::mem::replace(&mut slot.state, State::Free) else {
            return;
        };
        let sender = pending.sender;
        let settled = settle(pending);
        if self.order == Order::AsSettled {
            self.in_flight -= 1;
            self.leave(place);
            return out.push(Told::Message(settled));
        }
        let Some(queue) = self.queues.get_mut(&sender) else { return };
        if queue.front() != Some(&place) && !zafka_planted::is("answers-overtake") {
            slot.state = State::Settled(Box::new(settled));
            return;
        }
        queue.pop_front();
        self.in_flight -= 1;
        self.leave(place);
        out.push(Told::Message(settled));
        self.tell(sender, out);
    }

    /// Reports a sender's messages as far as they are settled in their order.
    fn tell(&mut self, sender: u64, out: &mut Vec<Told<M>>) {
        while let Some(queue) = self.queues.get_mut(&sender) {
            let Some(place) = queue.front().copied() else {
                self.queues.remove(&sender);
                return;
            };
            let Some(slot) = self.slots.get_mut(place) else { return };
            match &mut slot.state {
                State::Settled(_) => {
                    let state = std::mem::replace(&mut slot.state, State::Free);
                    if let State::Settled(settled) = state {
                        out.push(Told::Message(*settled));
                    }
                    self.in_flight -= 1;
                }
                State::Group(group) => {
                    while let Some(run) = group.next_told() {
                        self.in_flight -= run.messages.len();
                        out.push(Told::Run(run));
                    }
                    if !group.is_told() {
                        return;
                    }
                }
                State::Pending(_) | State::Free => return,
            }
            queue.pop_front();
            self.leave(place);
        }
    }

    /// Takes a place for messages of a sender, and its turn to be reported.
    fn place(&mut self, sender: u64, state: State<M>) -> usize {
        let place = match self.free.pop() {
            Some(place) => {
                if let Some(slot) = self.slots.get_mut(place) {
                    slot.state = state;
                }
                place
            }
            None => {
                self.slots.push(Slot { life: 0, state });
                self.slots.len() - 1
            }
        };
        if self.order == Order::OfMessages {
            self.queues.entry(sender).or_default().push_back(place);
        }
        place
    }

    /// Returns the first ticket of a place's present life.
    fn ticket(&self, place: usize) -> Ticket {
        ticket(self.slots.get(place).map_or(0, |slot| slot.life), place)
    }

    /// Frees a place: all of its messages were reported.
    fn leave(&mut self, place: usize) {
        self.open.take_if(|open| *open == place);
        if let Some(slot) = self.slots.get_mut(place) {
            slot.state = State::Free;
            slot.life = (slot.life + 1) & ((1 << LIFE_BITS) - 1);
            self.free.push(place);
        }
    }
}

impl<M> Pending<M> {
    /// Settles the message. `last`: the outcome of its last record.
    fn settle(self, last: Result<Written, WriteError>, is_batch: bool) -> Settled<M> {
        let Self { message, topic, timestamp, several, .. } = self;
        let Some(several) = several else {
            let outcome = last.map_err(Failure::from).map(|written| Place {
                topic: topic.unwrap_or_default(),
                partition: Some(written.partition),
                offset: written.offset,
                timestamp,
                batch: None,
            });
            return Settled { message, outcome };
        };
        Settled { message, outcome: several.outcome(topic, timestamp, is_batch) }
    }
}

fn ticket(life: usize, place: usize) -> Ticket {
    ((life << PLACE_BITS) | place) << INDEX_BITS
}

/// Parts a ticket into its life, its place and the number in that.
fn parted(ticket: Ticket) -> (usize, usize, usize) {
    let low = |number: usize, bits: u32| number & ((1 << bits) - 1);
    let place = ticket >> INDEX_BITS;
    (place >> PLACE_BITS, low(place, PLACE_BITS), low(ticket, INDEX_BITS))
}
