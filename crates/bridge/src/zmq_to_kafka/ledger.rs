//! The messages under way: which records each is made of, what becomes of them, and in which order
//! its sender is told. Pure.
//!
//! A message is settled once all of its records are. Answers with an id go out as messages settle;
//! those without one in the order of the messages of their sender.
//!
//! A ticket is a message's place in a table, so that what becomes of a record costs no search. A
//! place is used again; a number within the ticket tells its messages apart.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use zafka_kafka::produce::{Ticket, WriteError, Written};

use super::wire::{Batch, BatchPart, Failure, Place};

/// Bits of a ticket that are the place in the table.
const PLACE_BITS: u32 = 32;
/// Bits of a ticket that tell the messages of one place apart. The highest are of dead letters.
const LIFE_BITS: u32 = 30;

/// A message under way. `M` is whatever the caller keeps for it.
#[derive(Debug)]
struct Pending<M> {
    message: M,
    sender: u64,
    /// The number of messages that came before it.
    number: u64,
    /// If its sender gets an answer.
    topic: Option<Arc<str>>,
    /// Of its last record, as sent or as the topic set it.
    timestamp: i64,
    /// Of a message that has other than one record, or is answered as a batch.
    several: Option<Box<Several>>,
}

/// The records of a message with several of them.
#[derive(Debug)]
struct Several {
    records: usize,
    left: usize,
    parts: Parts,
    failure: Option<WriteError>,
}

/// The records that are written, by partition.
#[derive(Debug, Default)]
struct Parts {
    first: Option<BatchPart>,
    others: BTreeMap<i32, BatchPart>,
}

/// A message whose outcome is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settled<M> {
    pub(crate) message: M,
    pub(crate) outcome: Result<Place, Failure>,
}

/// The order of answers: each waits for those of earlier messages, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// In the order of each sender's messages.
    OfMessages,
    /// As messages settle.
    AsSettled,
}

/// A place in the table.
#[derive(Debug)]
struct Slot<M> {
    /// The number of messages that were here before.
    life: usize,
    state: State<M>,
}

#[derive(Debug)]
enum State<M> {
    Free,
    Pending(Pending<M>),
    /// It waits for those before it.
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
    /// For each sender the places of its messages that were not told, in order.
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
            queues: HashMap::new(),
        }
    }

    /// Messages that were not told.
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
        let place = self.place(State::Pending(pending));
        if self.order == Order::OfMessages {
            self.queues.entry(sender).or_default().push_back(place);
        }
        (self.life(place) << PLACE_BITS) | place
    }

    /// Enters a message whose outcome is known at once; in order, it may have to wait.
    pub(crate) fn settle_now(
        &mut self,
        message: M,
        sender: u64,
        failure: Failure,
        out: &mut Vec<Settled<M>>,
    ) {
        let settled = Settled { message, outcome: Err(failure) };
        if self.order == Order::AsSettled {
            return out.push(settled);
        }
        let place = self.place(State::Settled(Box::new(settled)));
        self.queues.entry(sender).or_default().push_back(place);
        self.tell(sender, out);
    }

    /// Takes a record's place in the log, if that settles a message which nothing else is to be
    /// known of; returns that message. Otherwise this does nothing.
    pub(crate) fn take_written(&mut self, ticket: Ticket) -> Option<M> {
        let (life, place) = parted(ticket);
        let slot = self.slots.get_mut(place).filter(|slot| slot.life == life)?;
        let is_alone = |pending: &Pending<M>| pending.several.is_none() && pending.topic.is_none();
        if self.order != Order::AsSettled
            || !matches!(&slot.state, State::Pending(pending) if is_alone(pending))
        {
            return None;
        }
        let State::Pending(pending) = std::mem::replace(&mut slot.state, State::Free) else {
            return None;
        };
        self.leave(place);
        Some(pending.message)
    }

    /// Takes the outcome of a record. Appends the messages that may be told now to `out`.
    pub(crate) fn handle_delivery(
        &mut self,
        ticket: Ticket,
        outcome: Result<Written, WriteError>,
        out: &mut Vec<Settled<M>>,
    ) {
        let (life, place) = parted(ticket);
        let is_of_it =
            |slot: &&mut Slot<M>| slot.life == life || zafka_planted::is("a-ticket-is-anybodys");
        let slot = self.slots.get_mut(place).filter(is_of_it);
        let Some(Slot { state: State::Pending(pending), .. }) = slot else { return };
        if let Ok(Written { log_append_time: Some(time), .. }) = outcome {
            pending.timestamp = time;
        }
        let is_settled = pending.several.as_mut().is_none_or(|several| several.take(&outcome));
        if is_settled {
            let is_batch = self.is_batch;
            self.settle(place, |pending| pending.settle(outcome, is_batch), out);
        }
    }

    /// Settles all that is under way, for no more will be heard of it.
    pub(crate) fn abandon(&mut self, failure: &Failure, out: &mut Vec<Settled<M>>) {
        let pending = self.slots.iter().enumerate().filter_map(|(place, slot)| match &slot.state {
            State::Pending(pending) => Some((pending.number, place)),
            State::Free | State::Settled(_) => None,
        });
        let mut left: Vec<_> = pending.collect();
        left.sort_unstable();
        for (_, place) in left {
            let settle = |pending: Pending<M>| Settled {
                message: pending.message,
                outcome: Err(failure.clone()),
            };
            self.settle(place, settle, out);
        }
    }

    /// Settles the message of a place.
    fn settle(
        &mut self,
        place: usize,
        settle: impl FnOnce(Pending<M>) -> Settled<M>,
        out: &mut Vec<Settled<M>>,
    ) {
        let Some(slot) = self.slots.get_mut(place) else { return };
        let State::Pending(pending) = std::mem::replace(&mut slot.state, State::Free) else {
            return;
        };
        let sender = pending.sender;
        let settled = settle(pending);
        if self.order == Order::AsSettled {
            self.leave(place);
            return out.push(settled);
        }
        let Some(queue) = self.queues.get_mut(&sender) else { return };
        if queue.front() != Some(&place) && !zafka_planted::is("answers-overtake") {
            slot.state = State::Settled(Box::new(settled));
            return;
        }
        queue.pop_front();
        self.leave(place);
        out.push(settled);
        self.tell(sender, out);
    }

    /// Tells of a sender's messages as far as they are settled in their order.
    fn tell(&mut self, sender: u64, out: &mut Vec<Settled<M>>) {
        while let Some(queue) = self.queues.get_mut(&sender) {
            let Some(place) = queue.front().copied() else {
                self.queues.remove(&sender);
                return;
            };
            let Some(slot) = self.slots.get_mut(place) else { return };
            if !matches!(slot.state, State::Settled(_)) {
                return;
            }
            if let State::Settled(settled) = std::mem::replace(&mut slot.state, State::Free) {
                out.push(*settled);
            }
            queue.pop_front();
            self.leave(place);
        }
    }

    /// A place for a message.
    fn place(&mut self, state: State<M>) -> usize {
        self.in_flight += 1;
        match self.free.pop() {
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
        }
    }

    /// Returns the number of the message that is in its place.
    fn life(&self, place: usize) -> usize {
        self.slots.get(place).map_or(0, |slot| slot.life)
    }

    /// The message of a place was told.
    fn leave(&mut self, place: usize) {
        self.in_flight -= 1;
        if let Some(slot) = self.slots.get_mut(place) {
            slot.life = (slot.life + 1) & ((1 << LIFE_BITS) - 1);
            self.free.push(place);
        }
    }
}

impl Several {
    fn new(records: usize) -> Self {
        Self { records, left: records, parts: Parts::default(), failure: None }
    }

    /// Takes the outcome of a record. Returns whether it was the last.
    fn take(&mut self, outcome: &Result<Written, WriteError>) -> bool {
        self.left = self.left.saturating_sub(1);
        match outcome {
            Ok(written) => self.parts.add(*written),
            Err(error) => {
                // That some of it may be there counts for more than why the rest is not.
                let is_unknown = |error: &WriteError| matches!(error, WriteError::Unknown(_));
                if !self.failure.as_ref().is_some_and(is_unknown) {
                    self.failure = Some(error.clone());
                }
            }
        }
        self.left == 0 || zafka_planted::is("told-before-its-last-record")
    }
}

impl Parts {
    fn add(&mut self, written: Written) {
        let Written { partition, offset, .. } = written;
        let new = BatchPart { partition, first: offset, last: offset, count: 0 };
        let first = self.first.get_or_insert(new);
        let part = if first.partition == partition {
            first
        } else {
            self.others.entry(partition).or_insert(new)
        };
        part.count += 1;
        // One that is not told leaves the ends unknown.
        part.first = part.first.zip(offset).map(|(known, offset)| known.min(offset));
        part.last = part.last.zip(offset).map(|(known, offset)| known.max(offset));
    }

    /// In the order of their numbers.
    fn into_sorted(self) -> Vec<BatchPart> {
        let mut all: Vec<_> = self.first.into_iter().chain(self.others.into_values()).collect();
        all.sort_unstable_by_key(|part| part.partition);
        all
    }
}

impl<M> Pending<M> {
    /// `last`: the outcome of its last record.
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
        let Several { records, parts, failure, .. } = *several;
        let outcome = match failure {
            // Some records of a batch may be in the log: then the whole is not known to be failed.
            Some(error)
                if parts.first.is_some() && !zafka_planted::is("unknown-is-told-failed") =>
            {
                Err(WriteError::Unknown(format!(
                    "a part of the batch was written; the rest: {error}"
                ))
                .into())
            }
            Some(error) => Err(error.into()),
            None => Ok(place(topic, timestamp, records, parts, is_batch)),
        };
        Settled { message, outcome }
    }
}

/// The life and the place that a ticket is of.
fn parted(ticket: Ticket) -> (usize, usize) {
    (ticket >> PLACE_BITS, ticket & ((1 << PLACE_BITS) - 1))
}

fn place(
    topic: Option<Arc<str>>,
    timestamp: i64,
    count: usize,
    parts: Parts,
    is_batch: bool,
) -> Place {
    let only = parts.first.filter(|_| parts.others.is_empty());
    let (first, last) = (only.and_then(|part| part.first), only.and_then(|part| part.last));
    let partitions = if only.is_some() { Vec::new() } else { parts.into_sorted() };
    Place {
        topic: topic.unwrap_or_default(),
        partition: only.map(|part| part.partition),
        offset: last,
        timestamp,
        batch: is_batch.then(|| Box::new(Batch { first, last, count, partitions })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zmq_to_kafka::wire::Code;

    fn written(offset: i64) -> Result<Written, WriteError> {
        Ok(Written { partition: 1, offset: Some(offset), log_append_time: None })
    }

    fn names(out: &mut Vec<Settled<&'static str>>) -> Vec<&'static str> {
        out.drain(..).map(|settled| settled.message).collect()
    }

    fn failure() -> Failure {
        Failure::new(Code::BadMessage, "no")
    }

    #[test]
    fn answers_without_ids_keep_the_order_of_each_sender() {
        let mut ledger = Ledger::new(Order::OfMessages, false);
        let mut out = Vec::new();
        let [a, b] = ["a", "b"].map(|name| ledger.enter(name, 1, Some("t".into()), 5, 1));
        let other = ledger.enter("other", 2, Some("t".into()), 5, 1);
        ledger.settle_now("refused", 1, failure(), &mut out);
        ledger.handle_delivery(b, written(8), &mut out);
        assert!(out.is_empty(), "the first of the sender is not settled");
        // What is settled and cannot be told yet is under way too.
        assert_eq!(ledger.in_flight(), 4);
        ledger.handle_delivery(other, written(3), &mut out);
        assert_eq!(names(&mut out), ["other"]);
        ledger.handle_delivery(a, written(7), &mut out);
        assert_eq!(names(&mut out), ["a", "b", "refused"]);
        assert!(ledger.queues.is_empty() && ledger.in_flight() == 0);
        assert_eq!((ledger.slots.len(), ledger.free.len()), (4, 4), "all places are free");
        ledger.settle_now("again", 1, failure(), &mut out);
        assert_eq!(names(&mut out), ["again"]);
        assert!(ledger.queues.is_empty());
    }

    #[test]
    fn answers_with_ids_come_as_messages_settle() {
        let mut ledger = Ledger::new(Order::AsSettled, false);
        let mut out = Vec::new();
        let [a, b] = ["a", "b"].map(|name| ledger.enter(name, 1, Some("t".into()), 5, 1));
        ledger.settle_now("refused", 1, failure(), &mut out);
        ledger.handle_delivery(b, written(8), &mut out);
        ledger.handle_delivery(b, written(8), &mut out);
        ledger.handle_delivery(a, written(7), &mut out);
        assert_eq!(names(&mut out), ["refused", "b", "a"], "each is told once");
    }

    #[test]
    fn a_ticket_of_before_says_nothing_of_who_is_there_now() {
        let mut ledger = Ledger::new(Order::AsSettled, false);
        let mut out = Vec::new();
        let before = ledger.enter("before", 1, Some("t".into()), 5, 1);
        ledger.handle_delivery(before, written(1), &mut out);
        let now = ledger.enter("now", 1, Some("t".into()), 5, 1);
        assert_eq!(ledger.slots.len(), 1, "it has the other's place");
        ledger.handle_delivery(before, written(2), &mut out);
        assert_eq!((names(&mut out), ledger.in_flight()), (vec!["before"], 1));
        ledger.handle_delivery(now, written(3), &mut out);
        assert_eq!(names(&mut out), ["now"]);
        // The same of a message that gets no answer.
        let before = ledger.enter("before", 1, None, 5, 1);
        assert_eq!(ledger.take_written(before), Some("before"));
        let now = ledger.enter("now", 1, None, 5, 1);
        assert_eq!((ledger.take_written(before), ledger.in_flight()), (None, 1));
        assert_eq!((ledger.take_written(now), ledger.in_flight()), (Some("now"), 0));
        let several = ledger.enter("several", 1, None, 5, 2);
        assert_eq!(ledger.take_written(several), None);
    }

    #[test]
    fn a_batch_is_told_after_its_last_record() {
        let mut ledger = Ledger::new(Order::OfMessages, true);
        let mut out = Vec::new();
        let first = ledger.enter("batch", 1, Some("t".into()), 5, 3);
        ledger.handle_delivery(first, written(6), &mut out);
        ledger.handle_delivery(first, written(5), &mut out);
        assert!(out.is_empty());
        ledger.handle_delivery(first, written(7), &mut out);
        let place = out.pop().unwrap().outcome.unwrap();
        let ends = Batch { first: Some(5), last: Some(7), count: 3, partitions: Vec::new() };
        assert_eq!((place.partition, place.offset), (Some(1), Some(7)));
        assert_eq!(place.batch, Some(Box::new(ends)));

        let first = ledger.enter("several", 1, Some("t".into()), 5, 3);
        for (partition, offset) in [(2, Some(9)), (0, Some(4)), (2, None)] {
            let written = Written { partition, offset, log_append_time: None };
            ledger.handle_delivery(first, Ok(written), &mut out);
        }
        let place = out.pop().unwrap().outcome.unwrap();
        assert_eq!((place.partition, place.offset), (None, None));
        let batch = place.batch.unwrap();
        assert_eq!((batch.first, batch.last, batch.count), (None, None, 3));
        let part =
            |partition, offset, count| BatchPart { partition, first: offset, last: offset, count };
        assert_eq!(batch.partitions, [part(0, Some(4), 1), part(2, None, 2)]);

        let first = ledger.enter("partly", 1, Some("t".into()), 5, 2);
        ledger.handle_delivery(first, written(8), &mut out);
        ledger.handle_delivery(first, Err(WriteError::TooLarge("big".to_owned())), &mut out);
        assert_eq!(
            out.pop().unwrap().outcome.unwrap_err().code,
            Code::TimeoutUnknown,
            "a part is there"
        );
        let first = ledger.enter("neither", 1, Some("t".into()), 5, 2);
        for _ in 0..2 {
            ledger.handle_delivery(first, Err(WriteError::TooLarge("big".to_owned())), &mut out);
        }
        assert_eq!(out.pop().unwrap().outcome.unwrap_err().code, Code::TooLarge);
    }

    #[test]
    fn what_is_abandoned_is_told_in_order() {
        let mut ledger = Ledger::new(Order::OfMessages, false);
        let mut out = Vec::new();
        let tickets: Vec<_> =
            (0..100).map(|_| ledger.enter("m", 1, Some("t".into()), 5, 1)).collect();
        ledger.handle_delivery(tickets[3], written(3), &mut out);
        let failure = Failure::new(Code::TimeoutUnknown, "the relay ends");
        ledger.abandon(&failure, &mut out);
        assert_eq!(out.len(), 100);
        assert!(out[3].outcome.is_ok() && out[4].outcome == Err(failure));
        assert_eq!(ledger.in_flight(), 0);
        ledger.handle_delivery(tickets[0], written(1), &mut out);
        assert_eq!(out.len(), 100, "it was told already");
    }
}
