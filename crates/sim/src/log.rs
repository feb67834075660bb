//! The model of a partition's log: leaders and epochs, truncation, a topic recreated, retention,
//! compaction and transactions. What a reader sees of it is derived from its batches each time
//! they change.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::batch::{Batch, Kind, Record};

/// A transaction that was aborted, as a fetch response tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    /// The producer's id.
    pub producer: i64,
    /// Its first offset.
    pub first: i64,
    /// The offset of the marker that ended it.
    pub end: i64,
}

/// A partition's log, as its leader has it. Followers have the same, or less.
#[derive(Clone, Debug)]
pub struct Log {
    /// The id of the topic; another one after it was deleted and created again.
    pub topic_id: Uuid,
    /// The broker that leads it.
    pub leader: i32,
    /// The leader's epoch.
    pub epoch: i32,
    /// The number of times that it was truncated or recreated: records of one branch have their
    /// offsets for themselves.
    pub branch: u32,
    /// The first offset that it has.
    pub start: i64,
    /// The next offset to be written.
    pub end: i64,
    batches: Vec<Batch>,
    /// Epochs with their first offsets, as the leader remembers them.
    epochs: Vec<(i32, i64)>,
    /// Transactions that have not ended, by producer, with their first offsets.
    open: BTreeMap<i64, i64>,
    aborted: Vec<Aborted>,
    /// Numbers of the records that a reader sees (read_committed), by offset.
    visible: BTreeMap<i64, u64>,
}

impl Log {
    /// An empty log of a topic.
    pub fn new(topic_id: Uuid, leader: i32) -> Self {
        Self {
            topic_id,
            leader,
            epoch: 0,
            branch: 0,
            start: 0,
            end: 0,
            batches: Vec::new(),
            epochs: Vec::new(),
            open: BTreeMap::new(),
            aborted: Vec::new(),
            visible: BTreeMap::new(),
        }
    }

    /// Writes records of these numbers and values.
    pub fn write(&mut self, kind: Kind, records: Vec<(u64, Vec<u8>)>) {
        let base = self.end;
        let records: Vec<Record> = (base..)
            .zip(records)
            .map(|(offset, (number, value))| Record { offset, number, value })
            .collect();
        let last = base + (records.len() as i64 - 1).max(0);
        if self.epochs.last().is_none_or(|(epoch, _)| *epoch != self.epoch) {
            self.epochs.push((self.epoch, base));
        }
        self.batches.push(Batch { base, last, epoch: self.epoch, kind, records });
        self.end = last + 1;
        self.derive();
    }

    /// Another replica leads from now on.
    pub fn elect(&mut self, leader: i32) {
        (self.leader, self.epoch) = (leader, self.epoch + 1);
        // A leader notes its epoch before it has records; one that got none is forgotten.
        self.epochs.retain(|(_, first)| *first < self.end);
        self.epochs.push((self.epoch, self.end));
    }

    /// A replica leads that lacks what was written from an offset on; whole batches go.
    pub fn truncate(&mut self, to: i64, leader: i32) {
        self.batches.retain(|batch| batch.last < to);
        let end = self.batches.last().map_or(self.start, |batch| batch.last + 1);
        if end < self.end {
            self.end = end;
            self.branch += 1;
        }
        self.elect(leader);
        self.derive();
    }

    /// The topic is deleted and created again.
    pub fn recreate(&mut self, topic_id: Uuid, leader: i32) {
        *self = Self { branch: self.branch + 1, ..Self::new(topic_id, leader) };
    }

    /// Retention takes whole batches before an offset, and none of an open transaction.
    pub fn expire(&mut self, before: i64) {
        let before = before.min(self.last_stable());
        self.batches.retain(|batch| batch.last >= before);
        self.start = self.batches.first().map_or(self.end, |batch| batch.base).max(self.start);
        self.derive();
    }

    /// Compaction takes records whose numbers are chosen; never the last batch, nor what an open
    /// transaction holds back. Batches that are empty by it go, or stay as they are.
    pub fn compact(&mut self, is_taken: impl Fn(u64) -> bool, keeps_empty: bool) {
        let stable = self.last_stable();
        let last = self.batches.iter().filter(|batch| batch.last < stable).count();
        let last = last.min(self.batches.len().saturating_sub(1));
        for batch in self.batches.iter_mut().take(last) {
            batch.records.retain(|record| !is_taken(record.number));
        }
        let mut index = 0;
        self.batches.retain(|batch| {
            index += 1;
            let is_end = matches!(batch.kind, Kind::End { .. });
            keeps_empty || is_end || index > last || !batch.records.is_empty()
        });
        self.derive();
    }

    /// Returns the producers whose transactions have not ended.
    pub fn open_producers(&self) -> Vec<i64> {
        self.open.keys().copied().collect()
    }

    /// Returns the last stable offset: what a reader of committed records reads up to.
    pub fn last_stable(&self) -> i64 {
        self.open.values().copied().min().unwrap_or(self.end)
    }

    /// Returns the records that a reader sees: number by offset.
    pub fn visible(&self) -> &BTreeMap<i64, u64> {
        &self.visible
    }

    /// Returns how far the records of an epoch, and of those before it, go: the epoch that the
    /// leader has at or before it, and its end (OffsetsForLeaderEpoch). `None` if it has none.
    pub fn end_of_epoch(&self, epoch: i32) -> Option<(i32, i64)> {
        self.epochs.last().filter(|(latest, _)| epoch <= *latest)?;
        let Some(at) = self.epochs.iter().rposition(|(known, _)| *known <= epoch) else {
            return Some((epoch, self.epochs.first().map_or(self.end, |(_, first)| *first)));
        };
        let end = self.epochs.get(at + 1).map_or(self.end, |(_, first)| *first);
        Some((self.epochs[at].0, end))
    }

    /// Returns the bytes of whole batches from an offset on, at least one, up to so many bytes, and
    /// none beyond the last stable offset.
    pub fn read(&self, offset: i64, max_bytes: usize) -> Vec<u8> {
        let stable = self.last_stable();
        let mut bytes = Vec::new();
        let due = self.batches.iter().filter(|batch| batch.last >= offset && batch.last < stable);
        for batch in due {
            let encoded = batch.encode();
            if !bytes.is_empty() && bytes.len() + encoded.len() > max_bytes {
                break;
            }
            bytes.extend_from_slice(&encoded);
        }
        bytes
    }

    /// Returns the aborted transactions that a reader from an offset on is to know.
    pub fn aborted_from(&self, offset: i64) -> impl Iterator<Item = &Aborted> {
        self.aborted.iter().filter(move |aborted| aborted.end >= offset)
    }

    /// Derives transactions and what is visible.
    fn derive(&mut self) {
        self.open.clear();
        self.aborted.clear();
        let mut seen: BTreeMap<i64, u64> = BTreeMap::new();
        let mut pending: BTreeMap<i64, Vec<(i64, u64)>> = BTreeMap::new();
        for batch in &self.batches {
            match batch.kind {
                Kind::Plain => seen.extend(batch.numbers()),
                Kind::Transactional(producer) => {
                    self.open.entry(producer).or_insert(batch.base);
                    pending.entry(producer).or_default().extend(batch.numbers());
                }
                Kind::End { producer, commits } => {
                    let first = self.open.remove(&producer);
                    let records = pending.remove(&producer).unwrap_or_default();
                    if commits {
                        seen.extend(records);
                    } else if let Some(first) = first {
                        self.aborted.push(Aborted { producer, first, end: batch.base });
                    }
                }
            }
        }
        let stable = self.last_stable();
        seen.retain(|offset, _| *offset < stable && *offset >= self.start);
        self.visible = seen;
    }
}
