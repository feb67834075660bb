//! One topic: its partitions, and the records that wait until they are known. Time is an argument.
#![warn(clippy::disallowed_methods)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use kafka_protocol::ResponseError as Code;
use uuid::Uuid;

use super::super::super::partition::{Buffers, Partition, Settings, each_record};
use super::super::super::partitioner::{Answers, Sticky, of_key};
use super::super::super::{Deliveries, PartitionIndex, Ticket, WriteError};
use super::super::Key;
use super::{Learned, Slot};
use crate::metadata::{self, BELIEVED};
use crate::records::{BatchBuilder, NewRecord, ProducerId};

/// Time between two answers that lack a topic, after which it counts as absent.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Size of the pieces in which records wait for their topic.
const PIECE: usize = 1 << 20;
/// Earlier lives of a topic that are remembered: answers about them are not believed.
const PAST_IDS: usize = 8;

/// Records that wait for their topic or partition, with the partition that was asked for.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) builder: BatchBuilder,
    pub(super) entries: Vec<(Ticket, Option<i32>)>,
    since: Instant,
    pub(super) last: Instant,
}

/// A topic that records were sent to.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    /// Topic id; nil until it is known, and if brokers have none.
    pub(super) id: Uuid,
    past_ids: VecDeque<Uuid>,
    /// Answers in a row about one of them.
    stale_answers: u32,
    pub(super) slots: Vec<Slot>,
    /// Partitions that it has now; there may have been more.
    pub(super) count: u32,
    sticky: Sticky,
    pub(super) waiting: VecDeque<Waiting>,
    /// Time of the first answer that lacked it.
    absent_since: Option<Instant>,
}

/// The prospect of a topic.
pub(super) enum Outlook {
    There,
    AskAgain,
    Gone(WriteError),
}

impl Topic {
    /// Makes a topic of which nothing is known yet.
    pub(super) fn new(name: &Arc<str>) -> Self {
        Self {
            name: Arc::clone(name),
            id: Uuid::nil(),
            past_ids: VecDeque::new(),
            stale_answers: 0,
            slots: Vec::new(),
            count: 0,
            sticky: Sticky::default(),
            waiting: VecDeque::new(),
            absent_since: None,
        }
    }

    /// The partition of a record; `None` while that is not known.
    #[inline]
    pub(super) fn place(
        &mut self,
        wanted: Option<i32>,
        key: Option<&[u8]>,
        random: &mut u64,
    ) -> Option<usize> {
        let index = match (wanted, key) {
            (Some(wanted), _) => u32::try_from(wanted).ok().filter(|at| *at < self.count)?,
            (None, Some(key)) if self.count > 0 => of_key(key, self.count),
            (None, _) => {
                let slots = &self.slots;
                self.sticky.next(self.count, |at| filling(slots, at), || next_random(random))?
            }
        };
        usize::try_from(index).ok()
    }

    /// Takes records that are their value alone, as [`Partition::push_values`] does: as long as
    /// those without a key go to this partition.
    #[inline]
    pub(super) fn add_values<'a>(
        &mut self,
        partition: usize,
        first: Ticket,
        timestamp: i64,
        now: Instant,
        next: impl FnMut(usize) -> Option<&'a [u8]>,
    ) -> usize {
        let (sticky, slots) = (&self.sticky, &mut self.slots);
        let sticks = |at: u32| sticky.sticks_to(at, |at| filling(slots, at));
        if !u32::try_from(partition).is_ok_and(sticks) {
            return 0;
        }
        let Some(slot) = slots.get_mut(partition) else { return 0 };
        slot.partition.push_values(first, timestamp, now, next)
    }

    #[expect(clippy::too_many_arguments, reason = "parts of one owner, borrowed apart")]
    #[inline]
    pub(super) fn add(
        &mut self,
        topic: usize,
        partition: usize,
        ticket: Ticket,
        record: &NewRecord<'_>,
        buffers: &mut Buffers,
        touched: &mut Vec<Key>,
        now: Instant,
    ) {
        let Some(slot) = self.slots.get_mut(partition) else { return };
        slot.partition.push(ticket, record, buffers, now);
        if !std::mem::replace(&mut slot.is_touched, true) {
            touched.push(Key { topic, partition });
        }
    }

    pub(super) fn wait(
        &mut self,
        ticket: Ticket,
        partition: Option<i32>,
        record: &NewRecord<'_>,
        now: Instant,
    ) {
        let fits = |waiting: &&mut Waiting| {
            waiting.builder.size() + record.size_limit() <= PIECE
                && now.saturating_duration_since(waiting.since) < Duration::from_secs(1)
        };
        if self.waiting.back_mut().filter(fits).is_none() {
            let builder = BatchBuilder::new(BytesMut::with_capacity(512));
            self.waiting.push_back(Waiting { builder, entries: Vec::new(), since: now, last: now });
        }
        if let Some(waiting) = self.waiting.back_mut() {
            waiting.builder.push(record);
            waiting.entries.push((ticket, partition));
            waiting.last = now;
        }
    }

    /// Brings records that waited to their partitions. True if some still wait for one that is not
    /// there.
    pub(super) fn settle_waiting(
        &mut self,
        topic: usize,
        buffers: &mut Buffers,
        touched: &mut Vec<Key>,
        placed: &mut Vec<(Ticket, PartitionIndex)>,
        random: &mut u64,
        now: Instant,
    ) -> bool {
        let mut left = VecDeque::new();
        for waiting in std::mem::take(&mut self.waiting) {
            let (since, last) = (waiting.since, waiting.last);
            let mut entries = waiting.entries.into_iter();
            let mut again = Waiting {
                builder: BatchBuilder::new(BytesMut::new()),
                entries: Vec::new(),
                since,
                last,
            };
            each_record(waiting.builder.finish(None).0.seal(ProducerId::NONE, -1), |record| {
                let Some((ticket, wanted)) = entries.next() else { return };
                match self.place(wanted, record.key, random) {
                    Some(partition) => {
                        self.add(topic, partition, ticket, record, buffers, touched, now);
                        placed.push((ticket, PartitionIndex { topic, partition: Some(partition) }));
                    }
                    None => {
                        again.builder.push(record);
                        again.entries.push((ticket, wanted));
                    }
                }
            });
            if !again.entries.is_empty() {
                left.push_back(again);
            }
        }
        self.waiting = left;
        !self.waiting.is_empty()
    }

    /// Fails the records for a partition that does not exist, and all of one that no longer exists.
    pub(super) fn give_up_absent(&mut self, now: Instant, failed: &mut VecDeque<Deliveries>) {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= PATIENCE;
        let error = WriteError::Kafka {
            error: Code::UnknownTopicOrPartition.to_string(),
            reason: format!("the topic has {} partitions", self.count),
            retriable: false,
        };
        while self.waiting.front().is_some_and(|waiting| is_over(waiting.since)) {
            self.fail_waiting(&error, 1, failed);
        }
        for slot in &mut self.slots {
            if slot.absent_since.is_some_and(is_over) {
                slot.partition.fail_all(&error);
            }
        }
    }

    pub(super) fn fail_waiting(
        &mut self,
        error: &WriteError,
        pieces: usize,
        failed: &mut VecDeque<Deliveries>,
    ) {
        let pieces = pieces.min(self.waiting.len());
        for waiting in self.waiting.drain(..pieces) {
            let tickets = waiting.entries.into_iter().map(|(ticket, _)| ticket).collect();
            // Which topic it is does not matter while its partitions are not known.
            let place = PartitionIndex { topic: 0, partition: None };
            failed.push_back(Deliveries::new(tickets, Err(error.clone())).at(place));
        }
    }

    pub(super) fn handle_error(&mut self, error: Code, now: Instant) -> Outlook {
        match error {
            Code::TopicAuthorizationFailed => {
                return Outlook::Gone(WriteError::NotAllowed(error.to_string()));
            }
            Code::UnknownTopicOrPartition | Code::InvalidTopicException => {}
            _ => return Outlook::AskAgain,
        }
        for slot in &mut self.slots {
            slot.partition.handle_leader(None);
        }
        let since = *self.absent_since.get_or_insert(now);
        if now.saturating_duration_since(since) < PATIENCE {
            return Outlook::AskAgain;
        }
        Outlook::Gone(WriteError::Kafka {
            error: error.to_string(),
            reason: "the topic is not there".to_owned(),
            retriable: false,
        })
    }

    /// Returns true if this is the id of an earlier life, reported by a server that has lost touch
    /// with the cluster. If one server after another reports it, the server before all of them was
    /// the stale one.
    fn is_past(&mut self, id: Uuid) -> bool {
        let is_past = self.past_ids.contains(&id);
        self.stale_answers = if is_past { self.stale_answers + 1 } else { 0 };
        if self.stale_answers < BELIEVED {
            return is_past;
        }
        self.stale_answers = 0;
        self.past_ids.retain(|past| *past != id);
        false
    }

    pub(super) fn handle_partitions(
        &mut self,
        told: &metadata::TopicMetadata,
        settings: Settings,
        learned: &mut Learned,
        now: Instant,
    ) -> Outlook {
        if self.is_past(told.id) {
            learned.is_stale = true;
            return Outlook::AskAgain;
        }
        let is_recreated = !self.id.is_nil() && !told.id.is_nil() && self.id != told.id;
        if is_recreated {
            if self.past_ids.len() == PAST_IDS {
                self.past_ids.pop_front();
            }
            self.past_ids.push_back(self.id);
        }
        self.id = told.id;
        self.absent_since = None;
        let count = told.leaders.keys().filter_map(|at| u32::try_from(*at).ok()).max();
        self.count = count.map_or(0, |last| last + 1);
        let count = usize::try_from(self.count).unwrap_or(0);
        while self.slots.len() < count {
            let index = i32::try_from(self.slots.len()).unwrap_or(i32::MAX);
            let partition = Partition::new(index, settings);
            self.slots.push(Slot {
                partition,
                is_touched: false,
                is_ready: false,
                is_full: false,
                absent_since: None,
            });
        }
        for (index, slot) in (0..).zip(&mut self.slots) {
            let leader = told.leaders.get(&index).filter(|leader| leader.broker >= 0).copied();
            if is_recreated {
                slot.partition.handle_recreated(leader);
            } else {
                slot.partition.handle_leader(leader);
            }
            match told.leaders.contains_key(&index) {
                true => slot.absent_since = None,
                false => _ = slot.absent_since.get_or_insert(now),
            }
            learned.ask_again |= leader.is_none() && !slot.partition.is_empty();
        }
        if self.count == 0 { Outlook::AskAgain } else { Outlook::There }
    }

    /// Returns true if it is not there, and nothing of it is under way.
    pub(super) fn is_over(&self) -> bool {
        self.absent_since.is_some()
            && self.waiting.is_empty()
            && self
                .slots
                .iter()
                .all(|slot| slot.partition.is_empty() && !slot.is_touched && !slot.is_ready)
    }
}

/// The batch that records without a key would join in a partition, and whether they are welcome.
fn filling(slots: &[Slot], partition: u32) -> (u64, Answers) {
    let slot = usize::try_from(partition).ok().and_then(|at| slots.get(at));
    slot.map_or((0, Answers::NoLeader), Slot::filling)
}

/// xorshift64: which partition is next is no secret.
fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
