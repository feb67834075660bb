//! The messages under way: which records each is made of, what becomes of them, and in which order
//! its sender is told. Pure.
//!
//! A message is settled once all of its records are. Answers with an id go out as messages settle;
//! those without one in the order of the messages of their sender.

use std::collections::{HashMap, VecDeque};

use zafka_kafka::produce::{Ticket, WriteError, Written};

use super::wire::{Batch, Failure, Place};

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
    partition: i32,
    first: Option<i64>,
    last: Option<i64>,
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
            pending: HashMap::new(),
            tickets: HashMap::new(),
            queues: HashMap::new(),
        }
    }

    /// Messages that are not settled.
    pub(crate) fn in_flight(&self) -> usize {
        self.pending.len()
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
            partition: 0,
            first: None,
            last: None,
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
            return out.push(settled);
        }
        let Some(queue) = self.queues.get_mut(&sender) else { return };
        // Numbers rise within a queue.
        if let Ok(index) = queue.binary_search_by_key(&id, |(id, _)| *id) {
            queue[index].1 = Some(settled);
        }
        while let Some((_, settled)) = queue.front_mut() {
            let Some(settled) = settled.take() else { return };
            out.push(settled);
            queue.pop_front();
        }
        self.queues.remove(&sender);
    }
}

impl<M> Pending<M> {
    fn take(&mut self, written: Written) {
        self.partition = written.partition;
        self.timestamp = written.log_append_time.unwrap_or(self.timestamp);
        let lower = |known: Option<i64>| {
            known.map_or(written.offset, |known| written.offset.map(|o| o.min(known)))
        };
        let higher = |known: Option<i64>| {
            known.map_or(written.offset, |known| written.offset.map(|o| o.max(known)))
        };
        (self.first, self.last) = (lower(self.first), higher(self.last));
    }

    fn settle(self, is_batch: bool) -> Settled<M> {
        // Some records of a batch may be in the log: then the whole is not known to be failed.
        let written = self.first.is_some();
        let outcome = match self.failure {
            Some(error) if written && self.records > 1 => Err(WriteError::Unknown(format!(
                "a part of the batch was written; the rest: {error}"
            ))
            .into()),
            Some(error) => Err(error.into()),
            None => Ok(Place {
                topic: self.topic,
                partition: self.partition,
                offset: self.last,
                timestamp: self.timestamp,
                batch: is_batch.then_some(Batch {
                    first: self.first,
                    last: self.last,
                    count: self.records,
                }),
            }),
        };
        Settled { message: self.message, outcome }
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
        assert_eq!(ledger.in_flight(), 2);
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
        assert_eq!(place.batch, Some(Batch { first: Some(5), last: Some(7), count: 3 }));
        assert_eq!(place.offset, Some(7));

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
