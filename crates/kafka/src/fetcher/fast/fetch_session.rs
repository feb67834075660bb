//! The partitions that are fetched from one broker, and the fetch session that it keeps of them
//! (KIP-227): a request names only what changed since the one before it. A plain state machine
//! without I/O.

mod answers;
mod requests;
#[cfg(test)]
mod tests;
mod truncation;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::position::FetchPosition;
use super::sizes::FetchSizes;
use crate::assignment::Assignment;
use crate::backoff::Backoff;
use crate::config::Isolation;
use crate::topic_partition::TopicPartition;
pub(crate) use answers::{FetchAnswer, FetchedPartition, PartitionError, RejectedBatch};

/// The last version that names topics; from the next one on they go by their id.
pub(super) const LAST_BY_NAME: i16 = 12;
/// Time that a partition rests after an answer that brought nothing.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
/// The most that is asked of one partition if a batch did not fit.
const PARTITION_BYTES_MAX: i32 = 1 << 30;

/// The part that all requests have in common.
#[derive(Clone, Debug)]
pub(crate) struct FetchOptions {
    pub(crate) isolation: Isolation,
    pub(crate) rack: String,
    pub(crate) kind: FetchKind,
}

/// The memory of brokers between two requests: a session, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FetchKind {
    /// A fetch session of what is to be fetched; an answer waits for records.
    Session,
    /// A request for no partition; an answer comes at once.
    WithoutSession,
}

/// A partition as the broker's session has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RequestedState {
    offset: i64,
    last_epoch: i32,
    leader_epoch: i32,
    max_bytes: i32,
}

struct SessionPartition {
    position: FetchPosition,
    /// The number of times that the size was doubled, since one batch did not fit.
    doubled: u32,
    requested: Option<RequestedState>,
    /// True if the next request is to name it.
    changed: bool,
    resting: bool,
    failures: u32,
    /// The offset of the last answer that brought nothing.
    failed_at: i64,
}

impl SessionPartition {
    fn wanted_state(&self, sizes: FetchSizes) -> RequestedState {
        RequestedState {
            offset: self.position.offset,
            last_epoch: self.position.claim(),
            leader_epoch: self.position.leader_epoch,
            max_bytes: sizes.partition.saturating_mul(1 << self.doubled).min(PARTITION_BYTES_MAX),
        }
    }
}

#[derive(Default)]
struct SessionTopic {
    id: Uuid,
    partitions: BTreeMap<i32, SessionPartition>,
}

/// The session's number at the broker and the number of its next request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SessionId {
    id: i32,
    epoch: i32,
    by_id: bool,
}

impl SessionId {
    /// Another one in its place. The broker closes this one, whose number the first request of the
    /// other has: it would keep a place in the broker's cache until it is the oldest.
    fn anew(self) -> Self {
        Self { epoch: 0, ..self }
    }
}

pub(crate) struct FetchSession {
    options: FetchOptions,
    sizes: FetchSizes,
    topics: HashMap<Arc<str>, SessionTopic>,
    ids: HashMap<Uuid, Arc<str>>,
    session: SessionId,
    changed: Vec<TopicPartition>,
    forgotten: Vec<(Arc<str>, Uuid, i32)>,
    resting: Vec<(Instant, TopicPartition)>,
    len: usize,
    /// The number of them that their leader is to serve itself.
    without_rack: usize,
    /// The partition at which a request without a session begins, so that every one gets its turn.
    turn: usize,
    /// The next request begins another session.
    renew: bool,
}

impl FetchSession {
    pub(crate) fn new(options: FetchOptions) -> Self {
        Self {
            options,
            sizes: FetchSizes::for_round_trip(Duration::ZERO),
            topics: HashMap::new(),
            ids: HashMap::new(),
            session: SessionId::default(),
            changed: Vec::new(),
            forgotten: Vec::new(),
            resting: Vec::new(),
            len: 0,
            without_rack: 0,
            turn: 0,
            renew: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fetches a partition from now on, in place of what was fetched of it before.
    pub(crate) fn insert(&mut self, position: FetchPosition) {
        let key = position.topic_partition().clone();
        self.take_out(&key, None);
        // The broker's session still has it, and would not answer for it while its log does not
        // change: its position would be unknown.
        let is_told = |(name, id, partition): &(Arc<str>, Uuid, i32)| {
            (name, *id, *partition) == (&key.topic, position.topic_id, key.partition)
        };
        self.renew |= self.forgotten.iter().any(is_told);
        let id = position.topic_id;
        let topic = self
            .topics
            .entry(Arc::clone(&key.topic))
            .or_insert_with(|| SessionTopic { id, ..SessionTopic::default() });
        if topic.id != id {
            // One id at a time: a partition that leaves the topic of another id is in this request,
            // or in a later one.
            self.ids.remove(&topic.id);
            topic.id = id;
            self.session = self.session.anew();
        }
        if !topic.id.is_nil() {
            self.ids.insert(topic.id, Arc::clone(&key.topic));
        }
        self.without_rack += usize::from(position.without_rack);
        let tracked = SessionPartition {
            position,
            doubled: 0,
            requested: None,
            changed: true,
            resting: false,
            failures: 0,
            failed_at: -1,
        };
        topic.partitions.insert(key.partition, tracked);
        self.changed.push(key);
        self.len += 1;
    }

    /// Gives a partition up, if it is fetched here for this assignment.
    pub(crate) fn remove(&mut self, assignment: &Arc<Assignment>) -> Option<FetchPosition> {
        self.take_out(&assignment.topic_partition, Some(assignment)).map(|tracked| tracked.position)
    }

    /// Gives every partition up.
    pub(super) fn drain(&mut self) -> Vec<FetchPosition> {
        self.session = self.session.anew();
        self.changed.clear();
        self.forgotten.clear();
        self.resting.clear();
        self.ids.clear();
        self.len = 0;
        self.without_rack = 0;
        let partitions = self.topics.drain().flat_map(|(_, topic)| topic.partitions.into_values());
        partitions.map(|tracked| tracked.position).collect()
    }

    fn partition(&mut self, key: &TopicPartition) -> Option<&mut SessionPartition> {
        self.topics.get_mut(&key.topic)?.partitions.get_mut(&key.partition)
    }

    fn take_out(
        &mut self,
        key: &TopicPartition,
        of: Option<&Arc<Assignment>>,
    ) -> Option<SessionPartition> {
        let topic = self.topics.get_mut(&key.topic)?;
        let tracked = topic.partitions.get(&key.partition)?;
        if of.is_some_and(|of| !Arc::ptr_eq(of, &tracked.position.assignment)) {
            return None;
        }
        let tracked = topic.partitions.remove(&key.partition)?;
        if tracked.requested.is_some() {
            self.forgotten.push((Arc::clone(&key.topic), topic.id, key.partition));
        }
        if tracked.resting {
            self.resting.retain(|(_, resting)| resting != key);
        }
        if topic.partitions.is_empty() {
            let id = topic.id;
            self.topics.remove(&key.topic);
            self.ids.remove(&id);
        }
        self.len -= 1;
        self.without_rack -= usize::from(tracked.position.without_rack);
        Some(tracked)
    }

    /// Continues at an offset, after a rest if the last answers brought nothing; returns how many
    /// they are.
    pub(crate) fn go_on_at(
        &mut self,
        assignment: &Arc<Assignment>,
        generation: u32,
        offset: i64,
        now: Instant,
    ) -> u32 {
        let key = &assignment.topic_partition;
        if let Some(tracked) = self.partition(key)
            && Arc::ptr_eq(&tracked.position.assignment, assignment)
            && tracked.position.generation.number == generation
        {
            tracked.position.seek(offset);
            return self.rest(key, now);
        }
        0
    }

    /// Leaves a partition out of the requests for a while; returns how many answers to this offset
    /// brought nothing.
    fn rest(&mut self, key: &TopicPartition, now: Instant) -> u32 {
        let Some(topic) = self.topics.get_mut(&key.topic) else { return 0 };
        let Some(tracked) = topic.partitions.get_mut(&key.partition) else { return 0 };
        if tracked.requested.take().is_some() {
            self.forgotten.push((Arc::clone(&key.topic), topic.id, key.partition));
        }
        let rest = BACKOFF.after(tracked.failures);
        tracked.failures += 1;
        tracked.failed_at = tracked.position.offset;
        if !std::mem::replace(&mut tracked.resting, true) {
            self.resting.push((now + rest, key.clone()));
        }
        self.partition(key).map_or(0, |tracked| tracked.failures)
    }

    /// Returns the time when the first of those that rest continues.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.resting.iter().map(|(due, _)| *due).min()
    }

    fn wake(&mut self, now: Instant) {
        if self.resting.is_empty() {
            return;
        }
        let due: Vec<TopicPartition> =
            self.resting.extract_if(.., |(due, _)| *due <= now).map(|(_, key)| key).collect();
        for key in due {
            if let Some(tracked) = self.partition(&key)
                && std::mem::take(&mut tracked.resting)
            {
                self.change(&key);
            }
        }
    }

    fn change(&mut self, key: &TopicPartition) {
        if let Some(tracked) = self.partition(key)
            && !tracked.resting
            && !std::mem::replace(&mut tracked.changed, true)
        {
            self.changed.push(key.clone());
        }
    }

    /// The connection is another one: so is the session, and how much is asked for.
    pub(crate) fn connected(&mut self, sizes: FetchSizes) {
        self.sizes = sizes;
        self.session = self.session.anew();
    }
}
