//! Topics and their partitions: the partition of each record, and records whose topic is not known
//! yet. Time is an argument.
#![warn(clippy::disallowed_methods)]

mod hand_over;
mod topic;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use kafka_protocol::ResponseError as Code;
use uuid::Uuid;

use super::super::partition::{Buffers, Leader, Partition, Settings};
use super::super::partitioner::Answers;
use super::super::{Deliveries, OutboundRecord, PartitionIndex, Ticket, WriteError};
use super::Key;
use crate::metadata::Metadata;
use crate::records::{NewRecord, RECORD_LIMIT};
use topic::{Outlook, Topic};

/// Topics that are not known to be there, at the most. A sender may name any.
const UNKNOWN_TOPICS: usize = 10_000;

/// A partition, and the list that it is in.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) partition: Partition,
    /// True if it is in the list of partitions that something happened to.
    pub(super) is_touched: bool,
    /// True if it is in the list of partitions that have something for their broker.
    pub(super) is_ready: bool,
    /// True if as much is under way for it as may be.
    pub(super) is_full: bool,
    absent_since: Option<Instant>,
}

impl Slot {
    /// The batch that records without a key would join, and whether they are welcome.
    fn filling(&self) -> (u64, Answers) {
        let (batch, answers) = self.partition.filling();
        let answers = match (self.is_full, answers) {
            (true, Answers::Yes) => Answers::Full,
            (true, _) => Answers::Never,
            (false, answers) => answers,
        };
        (batch, answers)
    }
}

/// The news in a metadata answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Learned {
    /// True if the next request is to follow soon.
    pub(super) ask_again: bool,
    /// True if the answer is an older state.
    pub(super) is_stale: bool,
}

/// The topics.
#[derive(Debug)]
pub(super) struct Topics {
    settings: Settings,
    names: HashMap<Arc<str>, usize>,
    topics: Vec<Option<Topic>>,
    unknown: usize,
    last: Option<(Arc<str>, usize)>,
    /// Partitions that something happened to.
    touched: Vec<Key>,
    failed: VecDeque<Deliveries>,
    /// Records that waited, and have a partition now.
    placed: Vec<(Ticket, PartitionIndex)>,
    random: u64,
}

impl Topics {
    pub(super) fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            names: HashMap::new(),
            topics: Vec::new(),
            unknown: 0,
            last: None,
            touched: Vec::new(),
            failed: VecDeque::new(),
            placed: Vec::new(),
            random: seed | 1,
        }
    }

    /// Takes a record. Returns true if its topic is to be asked for.
    ///
    /// # Errors
    /// It is too large for any batch, or too many topics are asked for.
    #[inline]
    pub(super) fn push(
        &mut self,
        ticket: Ticket,
        record: &OutboundRecord<'_>,
        buffers: &mut Buffers,
        now: Instant,
    ) -> Result<bool, WriteError> {
        let new = new_record(record);
        check_size(&new)?;
        let index = self.locate(record.topic, record.partition, record.key)?;
        Ok(self.put(index, ticket, record.partition, &new, buffers, now))
    }

    /// Finds the partition of a record.
    ///
    /// # Errors
    /// Too many topics are asked for.
    #[inline]
    pub(super) fn locate(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
    ) -> Result<PartitionIndex, WriteError> {
        let index = self.find(topic)?;
        let known = self.topics.get_mut(index).and_then(Option::as_mut);
        let partition = known.and_then(|topic| topic.place(partition, key, &mut self.random));
        Ok(PartitionIndex { topic: index, partition })
    }

    /// Takes a record that was located. Returns true if its topic is to be asked for.
    ///
    /// # Errors
    /// It is too large for any batch.
    #[inline(always)]
    pub(super) fn push_to(
        &mut self,
        index: PartitionIndex,
        ticket: Ticket,
        record: &OutboundRecord<'_>,
        buffers: &mut Buffers,
        now: Instant,
    ) -> Result<bool, WriteError> {
        let new = new_record(record);
        check_size(&new)?;
        Ok(self.put(index, ticket, record.partition, &new, buffers, now))
    }

    /// Takes records that are their value alone, behind one without a key that was just put into
    /// this partition: as many as its batch takes. `next` returns the next value if there is one of
    /// at most as many bytes as it is told; the tickets follow one another. Returns the number of
    /// records.
    #[inline]
    pub(super) fn push_values<'a>(
        &mut self,
        index: PartitionIndex,
        first: Ticket,
        timestamp: i64,
        now: Instant,
        next: impl FnMut(usize) -> Option<&'a [u8]>,
    ) -> usize {
        let PartitionIndex { topic, partition: Some(partition) } = index else { return 0 };
        let Some(Some(known)) = self.topics.get_mut(topic) else { return 0 };
        let count = known.add_values(partition, first, timestamp, now, next);
        if count > 0 {
            self.touch(Key { topic, partition });
        }
        count
    }

    #[inline(always)]
    fn put(
        &mut self,
        index: PartitionIndex,
        ticket: Ticket,
        wanted: Option<i32>,
        new: &NewRecord<'_>,
        buffers: &mut Buffers,
        now: Instant,
    ) -> bool {
        let Some(Some(topic)) = self.topics.get_mut(index.topic) else { return false };
        match index.partition {
            Some(partition) => {
                let touched = &mut self.touched;
                topic.add(index.topic, partition, ticket, new, buffers, touched, now);
                false
            }
            None => {
                topic.wait(ticket, wanted, new, now);
                true
            }
        }
    }

    #[inline]
    fn find(&mut self, name: &str) -> Result<usize, WriteError> {
        if let Some((last, index)) = &self.last
            && **last == *name
        {
            return Ok(*index);
        }
        let index = match self.names.get(name) {
            Some(index) => *index,
            None => self.add(name)?,
        };
        if let Some(Some(topic)) = self.topics.get(index) {
            self.last = Some((Arc::clone(&topic.name), index));
        }
        Ok(index)
    }

    fn add(&mut self, name: &str) -> Result<usize, WriteError> {
        if self.unknown >= UNKNOWN_TOPICS {
            return Err(WriteError::Kafka {
                error: Code::UnknownTopicOrPartition.to_string(),
                reason: format!("{UNKNOWN_TOPICS} other topics are being asked for"),
                retriable: true,
            });
        }
        self.unknown += 1;
        let name: Arc<str> = Arc::from(name);
        let topic = Topic::new(&name);
        let free = self.topics.iter().position(Option::is_none).filter(|_| self.topics.len() > 64);
        let index = free.unwrap_or(self.topics.len());
        match self.topics.get_mut(index) {
            Some(place) => *place = Some(topic),
            None => self.topics.push(Some(topic)),
        }
        self.names.insert(name, index);
        Ok(index)
    }

    /// The names of all topics.
    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.names.keys().cloned().collect()
    }

    pub(super) fn slot(&mut self, key: Key) -> Option<&mut Slot> {
        self.topics.get_mut(key.topic)?.as_mut()?.slots.get_mut(key.partition)
    }

    /// Name and id of a partition's topic.
    pub(super) fn name_of(&self, key: Key) -> Option<(Arc<str>, Uuid)> {
        let topic = self.topics.get(key.topic)?.as_ref()?;
        Some((Arc::clone(&topic.name), topic.id))
    }

    /// Takes note that something happened to a partition.
    pub(super) fn touch(&mut self, key: Key) {
        if let Some(slot) = self.slot(key)
            && !std::mem::replace(&mut slot.is_touched, true)
        {
            self.touched.push(key);
        }
    }

    /// Takes note that something happened to all partitions.
    fn touch_all(&mut self) {
        let keys: Vec<Key> = self.keys().collect();
        keys.into_iter().for_each(|key| self.touch(key));
    }

    /// Returns the next partition that something happened to.
    pub(super) fn poll_touched(&mut self) -> Option<Key> {
        let key = self.touched.pop()?;
        if let Some(slot) = self.slot(key) {
            slot.is_touched = false;
        }
        Some(key)
    }

    /// Returns outcomes of records that never came to a partition.
    pub(super) fn poll_failed(&mut self) -> Option<Deliveries> {
        self.failed.pop_front()
    }

    /// Returns the records that waited for their partition and have one now, if there are any.
    pub(super) fn poll_placed(&mut self) -> Option<Vec<(Ticket, PartitionIndex)>> {
        (!self.placed.is_empty()).then(|| std::mem::take(&mut self.placed))
    }

    fn keys(&self) -> impl Iterator<Item = Key> {
        let topics = self.topics.iter().enumerate();
        topics.flat_map(|(topic, known)| {
            let count = known.as_ref().map_or(0, |known| known.slots.len());
            (0..count).map(move |partition| Key { topic, partition })
        })
    }

    /// Returns the brokers with requests of partitions that they no longer lead.
    pub(super) fn held_elsewhere(&mut self) -> Vec<i32> {
        let slots = self.topics.iter().flatten().flat_map(|topic| &topic.slots);
        let held = slots.filter_map(|slot| {
            let broker = slot.partition.held_at()?;
            (slot.partition.broker() != Some(broker)).then_some(broker)
        });
        held.collect()
    }

    /// Does what is due, and returns the time at which there is something to do next.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Instant> {
        let keys: Vec<Key> = self.keys().collect();
        let mut next = None;
        for key in keys {
            let Some(slot) = self.slot(key) else { continue };
            if slot.partition.poll_timeout().is_some_and(|(due, _)| due <= now) {
                slot.partition.handle_timeout(now);
                self.touch(key);
            } else if let Some((due, _)) = slot.partition.poll_timeout() {
                next = earlier(next, due);
            }
        }
        let timeout = self.settings.delivery_timeout;
        for topic in self.topics.iter_mut().flatten() {
            while let Some(timeout) = timeout
                && let Some(waiting) = topic.waiting.front()
            {
                if now.saturating_duration_since(waiting.last) < timeout {
                    next = earlier(next, waiting.last + timeout);
                    break;
                }
                let reason = format!("the topic is not known after {timeout:?}");
                let error = Code::UnknownTopicOrPartition.to_string();
                topic.fail_waiting(
                    &WriteError::Kafka { error, reason, retriable: true },
                    1,
                    &mut self.failed,
                );
            }
        }
        next
    }

    /// Takes the cluster's answer about the topics that were asked for.
    pub(super) fn handle_metadata(
        &mut self,
        metadata: &Metadata,
        buffers: &mut Buffers,
        now: Instant,
    ) -> Learned {
        let mut learned = Learned::default();
        for index in 0..self.topics.len() {
            let Some(Some(topic)) = self.topics.get_mut(index) else { continue };
            // A topic that was added after the request is not in its answer.
            let Some(told) = metadata.topics.get(&topic.name) else {
                learned.ask_again = true;
                continue;
            };
            let was_known = topic.count > 0;
            let end = match told.error {
                None => topic.handle_partitions(told, self.settings, &mut learned, now),
                Some(error) => topic.handle_error(error, now),
            };
            self.unknown -= usize::from(!was_known && topic.count > 0);
            match end {
                Outlook::There => {
                    let settled = topic.settle_waiting(
                        index,
                        buffers,
                        &mut self.touched,
                        &mut self.placed,
                        &mut self.random,
                        now,
                    );
                    learned.ask_again |= settled;
                    topic.give_up_absent(now, &mut self.failed);
                }
                Outlook::AskAgain => learned.ask_again = true,
                Outlook::Gone(error) => {
                    topic.fail_waiting(&error, usize::MAX, &mut self.failed);
                    for slot in &mut topic.slots {
                        slot.partition.fail_all(&error);
                    }
                }
            }
        }
        self.touch_all();
        learned
    }

    /// Gives up records: those whose topic is not known, and of each partition in this way.
    pub(super) fn fail(&mut self, error: &WriteError, way: fn(&mut Partition, &WriteError)) {
        for topic in self.topics.iter_mut().flatten() {
            topic.fail_waiting(error, usize::MAX, &mut self.failed);
            topic.slots.iter_mut().for_each(|slot| way(&mut slot.partition, error));
        }
        self.touch_all();
    }

    /// Forgets topics that are not there, once nothing of them is under way.
    pub(super) fn forget_absent(&mut self) {
        for index in 0..self.topics.len() {
            let Some(place) = self.topics.get_mut(index) else { continue };
            if place.as_ref().is_some_and(Topic::is_over)
                && let Some(topic) = place.take()
            {
                self.unknown -= usize::from(topic.count == 0);
                self.names.remove(&topic.name);
                self.last = None;
            }
        }
    }

    /// Takes the leader that an answer named.
    pub(super) fn handle_leader(&mut self, key: Key, leader: Leader) {
        if let Some(slot) = self.slot(key) {
            slot.partition.handle_leader(Some(leader));
            self.touch(key);
        }
    }
}

/// Returns the record as it is put into a batch.
#[inline(always)]
fn new_record<'a>(record: &OutboundRecord<'a>) -> NewRecord<'a> {
    let OutboundRecord { timestamp, key, value, headers, .. } = *record;
    NewRecord { timestamp, key, value, headers }
}

/// Checks that a record is not too large for any batch.
///
/// # Errors
/// It is.
#[inline]
fn check_size(record: &NewRecord<'_>) -> Result<(), WriteError> {
    match record.size_limit() {
        size if size > RECORD_LIMIT => Err(WriteError::TooLarge(format!("{size} bytes"))),
        _ => Ok(()),
    }
}

fn earlier(known: Option<Instant>, due: Instant) -> Option<Instant> {
    Some(known.map_or(due, |known| known.min(due)))
}

#[cfg(test)]
mod tests;
