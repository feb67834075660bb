//! The messages under way: which records each is made of, what becomes of them, and in which order
//! its sender is told. Pure.
//!
//! A message is settled once all of its records are. Answers with an id go out as messages settle;
//! those without one in the order of the messages of their sender.

use std::collections::{BTreeMap, HashMap, VecDeque};

use zafka_kafka::produce::{Ticket, WriteError, Written};

use super::wire::{Batch, BatchPart, Failure, Place};

/// Number of a message within its route.
pub(crate) type MessageId = u64;

/// A message under way. `M` is whatever the caller keeps for it.
#[derive(Debug)]
struct Pending<M> {
    message: M,
    sender: u64,
    topic: String,
    records: usize,
    left: usize,
    /// The records that are written, by partition.
    parts: BTreeMap<i32, BatchPart>,
    /// Of its last record, as sent or as the topic set it.
    timestamp: i64,
    failure: Option<WriteError>,
}

/// A message whose outcome is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settled<M> {
    pub(crate) message: M,
    pub(crate) outcome: Result<Place, Failure>,
}

/// Whether answers wait for those of earlier messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// In the order of each sender's messages.
    OfMessages,
    /// As messages settle.
    AsSettled,
}

/// The messages of one sender that were not told, in order.
type Queue<M> = VecDeque<(MessageId, Option<Settled<M>>)>;

/// The messages under way.
#[derive(Debug)]
pub(crate) struct Ledger<M> {
    order: Order,
    is_batch: bool,
    next: MessageId,
    next_ticket: Ticket,
    in_flight: usize,
    pending: HashMap<MessageId, Pending<M>>,
    tickets: HashMap<Ticket, MessageId>,
    /// For each sender its messages that were not told, in order; those that are settled wait
    /// here.
    queues: HashMap<u64, Queue<M>>,
}

impl<M> Ledger<M> {
    pub(crate) fn new(order: Order, is_batch: bool) -> Self {
        Self {
            order,
            is_batch,
            next: 0,
            next_ticket: 0,
            in_flight: 0,
            pending: HashMap::new(),
            tickets: HashMap::new(),
            queues: HashMap::new(),
        }
    }

    /// Messages that were not told.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Enters a message of `records` records (at least one), the last of them with `timestamp`, and
    /// returns the first of as many tickets.
    pub(crate) fn enter(
        &mut self,
        message: M,
        sender: u64,
        topic: String,
        timestamp: i64,
        records: usize,
    ) -> Ticket {
        let id = self.next;
        self.next += 1;
        self.in_flight += 1;
        let first = self.next_ticket;
        self.next_ticket += records;
        for ticket in first..self.next_ticket {
            self.tickets.insert(ticket, id);
        }
        let pending = Pending {
            message,
            sender,
            topic,
            records,
            left: records,
            parts: BTreeMap::new(),
            timestamp,
            failure: None,
        };
        self.pending.insert(id, pending);
        if self.order == Order::OfMessages {
            self.queues.entry(sender).or_default().push_back((id, None));
        }
        first
    }

    /// Enters a message whose outcome is known at once; in order, it may have to wait.
    pub(crate) fn settle_now(
        &mut self,
        message: M,
        sender: u64,
        failure: Failure,
        out: &mut Vec<Settled<M>>,
    ) {
        let id = self.next;
        self.next += 1;
        self.in_flight += 1;
        let settled = Settled { message, outcome: Err(failure) };
        if self.order == Order::OfMessages {
            self.queues.entry(sender).or_default().push_back((id, None));
        }
        self.tell(id, sender, settled, out);
    }

    /// Takes the outcome of a record. Appends the messages that may be told now to `out`.
    pub(crate) fn handle_delivery(
        &mut self,
        ticket: Ticket,
        outcome: Result<Written, WriteError>,
        out: &mut Vec<Settled<M>>,
    ) {
        let Some(id) = self.tickets.remove(&ticket) else { return };
        let Some(pending) = self.pending.get_mut(&id) else { return };
        pending.left -= 1;
        match outcome {
            Ok(written) => pending.take(written),
            Err(error) => {
                // That some of it may be there counts for more than why the rest is not.
                let is_unknown = |error: &WriteError| matches!(error, WriteError::Unknown(_));
                if !pending.failure.as_ref().is_some_and(is_unknown) {
                    pending.failure = Some(error);
                }
            }
        }
        if pending.left == 0
            && let Some(pending) = self.pending.remove(&id)
        {
            let sender = pending.sender;
            let settled = pending.settle(self.is_batch);
            self.tell(id, sender, settled, out);
        }
    }

    /// Settles all that is under way, for no more will be heard of it.
    pub(crate) fn abandon(&mut self, failure: &Failure, out: &mut Vec<Settled<M>>) {
        self.tickets.clear();
        let mut left: Vec<_> = self.pending.drain().collect();
        left.sort_by_key(|(id, _)| *id);
        for (id, pending) in left {
            let settled = Settled { message: pending.message, outcome: Err(failure.clone()) };
            self.tell(id, pending.sender, settled, out);
        }
    }

    fn tell(&mut self, id: MessageId, sender: u64, settled: Settled<M>, out: &mut Vec<Settled<M>>) {
        if self.order == Order::AsSettled {
            self.in_flight -= 1;
            return out.push(settled);
        }
        let Some(queue) = self.queues.get_mut(&sender) else { return };
        // Numbers rise within a queue.
        if let Ok(index) = queue.binary_search_by_key(&id, |(id, _)| *id) {
            queue[index].1 = Some(settled);
        }
        while let Some((_, settled)) = queue.front_mut() {
            let Some(settled) = settled.take() else { return };
            self.in_flight -= 1;
            out.push(settled);
            queue.pop_front();
        }
        self.queues.remove(&sender);
    }
}

impl<M> Pending<M> {
    fn take(&mut self, written: Written) {
        let Written { partition, offset, log_append_time } = written;
        self.timestamp = log_append_time.unwrap_or(self.timestamp);
        let part = BatchPart { partition, first: offset, last: offset, count: 0 };
        let part = self.parts.entry(partition).or_insert(part);
        part.count += 1;
        // One that is not told leaves the ends unknown.
        part.first = part.first.zip(offset).map(|(known, offset)| known.min(offset));
        part.last = part.last.zip(offset).map(|(known, offset)| known.max(offset));
    }

    fn settle(self, is_batch: bool) -> Settled<M> {
        let outcome = match self.failure {
            // Some records of a batch may be in the log: then the whole is not known to be failed.
            Some(error) if !self.parts.is_empty() => Err(WriteError::Unknown(format!(
                "a part of the batch was written; the rest: {error}"
            ))
            .into()),
            Some(error) => Err(error.into()),
            None => Ok(place(self.topic, self.timestamp, self.records, self.parts, is_batch)),
        };
        Settled { message: self.message, outcome }
    }
}

fn place(
    topic: String,
    timestamp: i64,
    count: usize,
    parts: BTreeMap<i32, BatchPart>,
    is_batch: bool,
) -> Place {
    let mut parts: Vec<_> = parts.into_values().collect();
    let only = if parts.len() == 1 { parts.pop() } else { None };
    let (first, last) = (only.and_then(|part| part.first), only.and_then(|part| part.last));
    Place {
        topic,
        partition: only.map(|part| part.partition),
        offset: last,
        timestamp,
        batch: is_batch.then_some(Batch { first, last, count, partitions: parts }),
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
        let [a, b] = ["a", "b"].map(|name| ledger.enter(name, 1, "t".to_owned(), 5, 1));
        let other = ledger.enter("other", 2, "t".to_owned(), 5, 1);
        ledger.settle_now("refused", 1, failure(), &mut out);
        ledger.handle_delivery(b, written(8), &mut out);
        assert!(out.is_empty(), "the first of the sender is not settled");
        // What is settled and cannot be told yet is under way too.
        assert_eq!(ledger.in_flight(), 4);
        ledger.handle_delivery(other, written(3), &mut out);
        assert_eq!(names(&mut out), ["other"]);
        ledger.handle_delivery(a, written(7), &mut out);
        assert_eq!(names(&mut out), ["a", "b", "refused"]);
        assert!(ledger.queues.is_empty() && ledger.tickets.is_empty());
        ledger.settle_now("again", 1, failure(), &mut out);
        assert_eq!(names(&mut out), ["again"]);
        assert!(ledger.queues.is_empty());
    }

    #[test]
    fn answers_with_ids_come_as_messages_settle() {
        let mut ledger = Ledger::new(Order::AsSettled, false);
        let mut out = Vec::new();
        let [a, b] = ["a", "b"].map(|name| ledger.enter(name, 1, "t".to_owned(), 5, 1));
        ledger.settle_now("refused", 1, failure(), &mut out);
        ledger.handle_delivery(b, written(8), &mut out);
        ledger.handle_delivery(b, written(8), &mut out);
        ledger.handle_delivery(a, written(7), &mut out);
        assert_eq!(names(&mut out), ["refused", "b", "a"], "each is told once");
    }

    #[test]
    fn a_batch_is_told_after_its_last_record() {
        let mut ledger = Ledger::new(Order::OfMessages, true);
        let mut out = Vec::new();
        let first = ledger.enter("batch", 1, "t".to_owned(), 5, 3);
        ledger.handle_delivery(first + 1, written(6), &mut out);
        ledger.handle_delivery(first, written(5), &mut out);
        assert!(out.is_empty());
        ledger.handle_delivery(first + 2, written(7), &mut out);
        let place = out.pop().unwrap().outcome.unwrap();
        let ends = Batch { first: Some(5), last: Some(7), count: 3, partitions: Vec::new() };
        assert_eq!((place.partition, place.offset), (Some(1), Some(7)));
        assert_eq!(place.batch, Some(ends));

        let first = ledger.enter("several", 1, "t".to_owned(), 5, 3);
        for (ticket, partition, offset) in [(0, 2, Some(9)), (1, 0, Some(4)), (2, 2, None)] {
            let written = Written { partition, offset, log_append_time: None };
            ledger.handle_delivery(first + ticket, Ok(written), &mut out);
        }
        let place = out.pop().unwrap().outcome.unwrap();
        assert_eq!((place.partition, place.offset), (None, None));
        let batch = place.batch.unwrap();
        assert_eq!((batch.first, batch.last, batch.count), (None, None, 3));
        let part =
            |partition, offset, count| BatchPart { partition, first: offset, last: offset, count };
        assert_eq!(batch.partitions, [part(0, Some(4), 1), part(2, None, 2)]);

        let first = ledger.enter("partly", 1, "t".to_owned(), 5, 2);
        ledger.handle_delivery(first, written(8), &mut out);
        ledger.handle_delivery(first + 1, Err(WriteError::TooLarge("big".to_owned())), &mut out);
        assert_eq!(
            out.pop().unwrap().outcome.unwrap_err().code,
            Code::TimeoutUnknown,
            "a part is there"
        );
        let first = ledger.enter("neither", 1, "t".to_owned(), 5, 2);
        for ticket in [first, first + 1] {
            ledger.handle_delivery(ticket, Err(WriteError::TooLarge("big".to_owned())), &mut out);
        }
        assert_eq!(out.pop().unwrap().outcome.unwrap_err().code, Code::TooLarge);
    }

    #[test]
    fn what_is_abandoned_is_told_in_order() {
        let mut ledger = Ledger::new(Order::OfMessages, false);
        let mut out = Vec::new();
        let tickets: Vec<_> =
            (0..100).map(|_| ledger.enter("m", 1, "t".to_owned(), 5, 1)).collect();
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
