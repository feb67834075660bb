//! Messages that came together and of which nothing is kept: they are entered, settled and answered
//! by their numbers, so that no single one costs anything.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use zafka_kafka::produce::Written;

use crate::zmq_to_kafka::arrivals::ArrivalId;
use crate::zmq_to_kafka::wire::Failure;

/// Messages that follow one another in an arrival, and are settled alike.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The arrival that they came with.
    pub(crate) arrival: ArrivalId,
    /// Their numbers in it.
    pub(crate) messages: Range<usize>,
    /// The topic of their records, if their sender gets answers.
    pub(crate) topic: Option<Arc<str>>,
    /// Timestamp of each of them, as sent or as the topic set it.
    pub(crate) timestamp: i64,
    /// The place of the first in the log, behind which the others stand; or why none has one.
    pub(crate) outcome: Result<Written, Failure>,
}

/// Messages of one arrival that follow one another, each with one record in one topic.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) sender: u64,
    /// The number of places that were taken before.
    pub(super) number: u64,
    arrival: ArrivalId,
    /// The number of its first message in the arrival.
    first: usize,
    topic: Option<Arc<str>>,
    timestamp: i64,
    /// Messages.
    count: usize,
    /// Messages that are not settled.
    left: usize,
    /// Messages that were answered, if that is done in their order.
    told: usize,
    /// Settled messages that wait for others, by the number of the first of each run, with its
    /// length.
    waiting: BTreeMap<usize, (usize, Result<Written, Failure>)>,
}

impl Group {
    /// The most messages of a group.
    pub(super) const MOST: usize = (1 << super::INDEX_BITS) - 1;

    /// Makes a group without messages.
    pub(super) fn new(
        (arrival, first): (ArrivalId, usize),
        sender: u64,
        number: u64,
        topic: Option<&Arc<str>>,
        timestamp: i64,
    ) -> Self {
        let topic = topic.cloned();
        let (count, left, told, waiting) = (0, 0, 0, BTreeMap::new());
        Self { sender, number, arrival, first, topic, timestamp, count, left, told, waiting }
    }

    /// Takes in the next message of the arrival, if it is the one with this number, and like the
    /// others. Returns its number in the group.
    #[inline]
    pub(super) fn enter(
        &mut self,
        (arrival, index): (ArrivalId, usize),
        topic: Option<&Arc<str>>,
        timestamp: i64,
    ) -> Option<usize> {
        let is_next = self.arrival == arrival && self.first + self.count == index;
        let is_alike = self.timestamp == timestamp
            && match (&self.topic, topic) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                (one, other) => one.is_none() && other.is_none(),
            };
        if !is_next || !is_alike || self.count == Self::MOST {
            return None;
        }
        self.count += 1;
        self.left += 1;
        Some(self.count - 1)
    }

    /// Messages that it may take in.
    pub(super) fn room(&self) -> usize {
        Self::MOST - self.count
    }

    /// Takes in so many messages behind the last one, all like it; at most [`Self::room`].
    pub(super) fn extend(&mut self, count: usize) {
        let count = count.min(self.room());
        self.count += count;
        self.left += count;
    }

    /// The arrival of a message, and its number in it.
    pub(super) fn neighbor(&self, at: usize) -> (ArrivalId, usize) {
        (self.arrival, self.first + at)
    }

    /// Takes note that `count` messages from `at` on are settled. Returns true if they are in the
    /// group, and were not before.
    pub(super) fn settle(&mut self, at: usize, count: usize) -> bool {
        let is_known = at >= self.told
            && at + count <= self.count
            && count <= self.left
            && !self.waiting.contains_key(&at);
        if is_known {
            self.left -= count;
        }
        is_known
    }

    /// Keeps the outcome of settled messages, until those before them are answered.
    pub(super) fn wait(&mut self, at: usize, count: usize, outcome: Result<Written, Failure>) {
        self.waiting.insert(at, (count, outcome));
    }

    /// Returns the messages that come next in their order, once they are settled.
    pub(super) fn next_told(&mut self) -> Option<Run> {
        let entry = self.waiting.first_entry()?;
        if *entry.key() != self.told && !zafka_planted::is("answers-overtake") {
            return None;
        }
        let (at, (count, outcome)) = entry.remove_entry();
        self.told += count;
        Some(self.run(at, count, outcome))
    }

    /// Returns `count` messages from `at` on, with their outcome.
    pub(super) fn run(&self, at: usize, count: usize, outcome: Result<Written, Failure>) -> Run {
        let log_append_time =
            outcome.as_ref().ok().and_then(|written: &Written| written.log_append_time);
        let first = self.first + at;
        Run {
            arrival: self.arrival,
            messages: first..first + count,
            topic: self.topic.clone(),
            timestamp: log_append_time.unwrap_or(self.timestamp),
            outcome,
        }
    }

    /// Returns true if all messages are settled.
    pub(super) fn is_settled(&self) -> bool {
        self.left == 0
    }

    /// Returns true if all were answered in their order.
    pub(super) fn is_told(&self) -> bool {
        self.told == self.count
    }

    /// Settles all that are left; those that are answered in order wait for their turn. Returns the
    /// number that were left.
    pub(super) fn abandon(&mut self, failure: &Failure) -> usize {
        let (mut at, mut gaps) = (self.told, Vec::new());
        for (first, (count, _)) in &self.waiting {
            gaps.push(at..*first);
            at = first + count;
        }
        gaps.push(at..self.count);
        for gap in gaps.into_iter().filter(|gap| !gap.is_empty()) {
            self.wait(gap.start, gap.len(), Err(failure.clone()));
        }
        std::mem::take(&mut self.left)
    }
}
