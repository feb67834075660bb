//! The partitions that are fetched from one broker, and the fetch session that it keeps of them (KIP-227): a request
//! names only what changed since the one before it. A plain state machine without I/O.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::position::{Key, Position, Why, topic_name};
use super::sizes::Sizes;
use crate::assignment::Assignment;
use crate::config::Isolation;
use crate::records::{Aborted, outline};

/// The last version that names topics; from the next one on they go by their id.
pub(super) const LAST_BY_NAME: i16 = 12;
/// How long a broker waits for a record before it answers that there is none.
const MAX_WAIT_MS: i32 = 500;
/// How long a partition rests after an answer that was of no use.
const REST: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// The most that is asked of one partition where a batch did not fit.
const PARTITION_BYTES_MAX: i32 = 1 << 30;

/// What every request says.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) isolation: Isolation,
    pub(super) rack: String,
}

/// What a partition was given by an answer.
pub(super) struct Given {
    pub(super) assignment: Arc<Assignment>,
    /// The first offset wanted.
    pub(super) from: i64,
    /// None: the partition stands at `from`.
    pub(super) records: Bytes,
    /// Aborted transactions, under read_committed.
    pub(super) aborted: Option<Vec<Aborted>>,
}

/// What an answer brought.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) given: Vec<Given>,
    /// Partitions that are not fetched here any more.
    pub(super) left: Vec<(Position, Why)>,
    /// Errors to be told.
    pub(super) errors: Vec<String>,
    /// Bytes of records.
    pub(super) bytes: usize,
}

/// What the broker's session has of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    offset: i64,
    last_epoch: i32,
    leader_epoch: i32,
    max_bytes: i32,
}

struct Member {
    position: Position,
    /// How many times more was asked for, since one batch did not fit.
    doubled: u32,
    told: Option<Told>,
    /// Whether it is among those to be told with the next request.
    changed: bool,
    resting: bool,
    failures: u32,
    /// The offset that the last answer of no use was to.
    failed_at: i64,
}

impl Member {
    fn to_tell(&self, sizes: Sizes) -> Told {
        Told {
            offset: self.position.offset,
            last_epoch: self.position.last_epoch,
            leader_epoch: self.position.leader_epoch,
            max_bytes: sizes.partition.saturating_mul(1 << self.doubled).min(PARTITION_BYTES_MAX),
        }
    }
}

#[derive(Default)]
struct Topic {
    id: Uuid,
    members: BTreeMap<i32, Member>,
}

/// The session's number at the broker and the number of its next request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Session {
    id: i32,
    epoch: i32,
    by_id: bool,
}

pub(super) struct Share {
    terms: Terms,
    sizes: Sizes,
    topics: HashMap<Arc<str>, Topic>,
    ids: HashMap<Uuid, Arc<str>>,
    session: Session,
    changed: Vec<Key>,
    forgotten: Vec<(Arc<str>, Uuid, i32)>,
    resting: Vec<(Instant, Key)>,
    len: usize,
    /// Where a request without a session begins, so that every partition gets its turn.
    turn: usize,
}

impl Share {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            terms,
            sizes: Sizes::over(Duration::ZERO),
            topics: HashMap::new(),
            ids: HashMap::new(),
            session: Session::default(),
            changed: Vec::new(),
            forgotten: Vec::new(),
            resting: Vec::new(),
            len: 0,
            turn: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fetches a partition from now on, in place of what was fetched of it before.
    pub(super) fn insert(&mut self, position: Position) {
        let key = position.key();
        self.take(&key, None);
        let id = position.topic_id;
        let topic = self.topics.entry(Arc::clone(&key.0)).or_insert_with(|| Topic { id, ..Topic::default() });
        if topic.id != id {
            // One id at a time: who leaves the topic of another id has been told, or will be.
            self.ids.remove(&topic.id);
            topic.id = id;
            self.session = Session::default();
        }
        if !topic.id.is_nil() {
            self.ids.insert(topic.id, Arc::clone(&key.0));
        }
        let member = Member {
            position,
            doubled: 0,
            told: None,
            changed: true,
            resting: false,
            failures: 0,
            failed_at: -1,
        };
        topic.members.insert(key.1, member);
        self.changed.push(key);
        self.len += 1;
    }

    /// Gives a partition up, if it is fetched here for this assignment.
    pub(super) fn remove(&mut self, assignment: &Arc<Assignment>) -> Option<Position> {
        let key = (Arc::clone(&assignment.topic), assignment.partition);
        self.take(&key, Some(assignment)).map(|member| member.position)
    }

    /// Gives every partition up.
    pub(super) fn drain(&mut self) -> Vec<Position> {
        self.session = Session::default();
        self.changed.clear();
        self.forgotten.clear();
        self.resting.clear();
        self.ids.clear();
        self.len = 0;
        let members = self.topics.drain().flat_map(|(_, topic)| topic.members.into_values());
        members.map(|member| member.position).collect()
    }

    fn member(&mut self, key: &Key) -> Option<&mut Member> {
        self.topics.get_mut(&key.0)?.members.get_mut(&key.1)
    }

    fn take(&mut self, key: &Key, of: Option<&Arc<Assignment>>) -> Option<Member> {
        let topic = self.topics.get_mut(&key.0)?;
        let member = topic.members.get(&key.1)?;
        if of.is_some_and(|of| !Arc::ptr_eq(of, &member.position.assignment)) {
            return None;
        }
        let member = topic.members.remove(&key.1)?;
        if member.told.is_some() {
            self.forgotten.push((Arc::clone(&key.0), topic.id, key.1));
        }
        if member.resting {
            self.resting.retain(|(_, resting)| resting != key);
        }
        if topic.members.is_empty() {
            let id = topic.id;
            self.topics.remove(&key.0);
            self.ids.remove(&id);
        }
        self.len -= 1;
        Some(member)
    }

    /// Goes on at an offset, after a rest where the last answers were of no use.
    pub(super) fn go_on_at(&mut self, assignment: &Arc<Assignment>, offset: i64, now: Instant) {
        let key = (Arc::clone(&assignment.topic), assignment.partition);
        if let Some(member) = self.member(&key)
            && Arc::ptr_eq(&member.position.assignment, assignment)
        {
            member.position.seek(offset);
            self.rest(&key, now);
        }
    }

    /// Leaves a partition out of the requests for a while.
    fn rest(&mut self, key: &Key, now: Instant) {
        let Some(topic) = self.topics.get_mut(&key.0) else { return };
        let Some(member) = topic.members.get_mut(&key.1) else { return };
        if member.told.take().is_some() {
            self.forgotten.push((Arc::clone(&key.0), topic.id, key.1));
        }
        let rest = REST.0.saturating_mul(1 << member.failures.min(8)).min(REST.1);
        member.failures += 1;
        member.failed_at = member.position.offset;
        if !std::mem::replace(&mut member.resting, true) {
            self.resting.push((now + rest, key.clone()));
        }
    }

    /// When the first of those that rest goes on.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.resting.iter().map(|(due, _)| *due).min()
    }

    fn wake(&mut self, now: Instant) {
        if self.resting.is_empty() {
            return;
        }
        let due: Vec<Key> = self.resting.extract_if(.., |(due, _)| *due <= now).map(|(_, key)| key).collect();
        for key in due {
            if let Some(member) = self.member(&key)
                && std::mem::take(&mut member.resting)
            {
                self.change(&key);
            }
        }
    }

    fn change(&mut self, key: &Key) {
        if let Some(member) = self.member(key)
            && !member.resting
            && !std::mem::replace(&mut member.changed, true)
        {
            self.changed.push(key.clone());
        }
    }

    /// The connection is another one: so is the session.
    pub(super) fn forget_session(&mut self) {
        self.session = Session::default();
    }

    /// How much is asked for, in the sessions to come.
    pub(super) fn set_sizes(&mut self, sizes: Sizes) {
        self.sizes = sizes;
        self.forget_session();
    }

    /// The next request and its version, at most `newest`; `None` while there is nothing to be fetched.
    pub(super) fn request(&mut self, newest: i16, now: Instant) -> Option<(FetchRequest, i16)> {
        self.wake(now);
        let by_id = newest > LAST_BY_NAME && self.topics.values().all(|topic| !topic.id.is_nil());
        if by_id != self.session.by_id {
            self.session = Session { by_id, ..Session::default() };
        }
        if self.session.epoch == 0 && !self.begin_session() {
            return None;
        }
        if self.len == self.resting.len() {
            return None;
        }
        // In the order in which partitions have their turn: without a session, a broker reads in that order.
        let mut topics: Vec<FetchTopic> = Vec::new();
        let mut places: HashMap<Arc<str>, usize> = HashMap::new();
        for key in std::mem::take(&mut self.changed) {
            let Some(topic) = self.topics.get_mut(&key.0) else { continue };
            let Some(member) = topic.members.get_mut(&key.1) else { continue };
            member.changed = false;
            let to_tell = member.to_tell(self.sizes);
            if member.resting || member.told.replace(to_tell) == Some(to_tell) {
                continue;
            }
            let id = topic.id;
            let place = *places.entry(Arc::clone(&key.0)).or_insert_with(|| {
                let topic = FetchTopic::default();
                topics.push(if by_id {
                    topic.with_topic_id(id)
                } else {
                    topic.with_topic(topic_name(&key.0))
                });
                topics.len() - 1
            });
            topics[place].partitions.push(
                FetchPartition::default()
                    .with_partition(key.1)
                    .with_current_leader_epoch(to_tell.leader_epoch)
                    .with_fetch_offset(to_tell.offset)
                    .with_last_fetched_epoch(to_tell.last_epoch)
                    .with_partition_max_bytes(to_tell.max_bytes),
            );
        }
        let request = FetchRequest::default()
            .with_max_wait_ms(MAX_WAIT_MS)
            .with_min_bytes(1)
            .with_max_bytes(self.sizes.answer)
            .with_isolation_level(match self.terms.isolation {
                Isolation::ReadUncommitted => 0,
                Isolation::ReadCommitted => 1,
            })
            .with_session_id(self.session.id)
            .with_session_epoch(self.session.epoch)
            .with_rack_id(StrBytes::from_string(self.terms.rack.clone()))
            .with_topics(topics)
            .with_forgotten_topics_data(self.forgotten(by_id));
        Some((request, if by_id { newest } else { newest.min(LAST_BY_NAME) }))
    }

    /// Everything is to be told anew. False where there is nothing.
    fn begin_session(&mut self) -> bool {
        self.forgotten.clear();
        self.changed.clear();
        self.turn = self.turn.wrapping_add(1);
        for (name, topic) in &mut self.topics {
            for (partition, member) in &mut topic.members {
                member.told = None;
                member.changed = !member.resting;
                if member.changed {
                    self.changed.push((Arc::clone(name), *partition));
                }
            }
        }
        let len = self.changed.len();
        if len > 0 {
            self.changed.rotate_left(self.turn % len);
        }
        len > 0
    }

    fn forgotten(&mut self, by_id: bool) -> Vec<ForgottenTopic> {
        let mut topics: BTreeMap<(Arc<str>, Uuid), ForgottenTopic> = BTreeMap::new();
        for (name, id, partition) in std::mem::take(&mut self.forgotten) {
            // What came back meanwhile has just been told.
            let back = self.topics.get(&name).is_some_and(|topic| {
                (topic.id == id || !by_id)
                    && topic.members.get(&partition).is_some_and(|member| member.told.is_some())
            });
            if back {
                continue;
            }
            let topic = topics.entry((Arc::clone(&name), id)).or_insert_with(|| {
                let topic = ForgottenTopic::default();
                if by_id { topic.with_topic_id(id) } else { topic.with_topic(topic_name(&name)) }
            });
            topic.partitions.push(partition);
        }
        topics.into_values().collect()
    }

    /// Takes an answer to the last request.
    ///
    /// # Errors
    /// Where it is an error of the whole request; the next one begins a new session.
    pub(super) fn answer(&mut self, response: FetchResponse, now: Instant) -> Result<Answer, String> {
        if let Some(code) = Code::try_from_code(response.error_code) {
            self.session = Session { by_id: self.session.by_id, ..Session::default() };
            return match code {
                Code::FetchSessionIdNotFound
                | Code::InvalidFetchSessionEpoch
                | Code::FetchSessionTopicIdError => Ok(Answer::default()),
                code => Err(format!("fetch: {code}")),
            };
        }
        self.session.id = response.session_id;
        self.session.epoch = match response.session_id {
            // The broker keeps none, as yet.
            0 => 0,
            _ => self.session.epoch.checked_add(1).unwrap_or(1),
        };
        let mut answer = Answer::default();
        for topic in response.responses {
            let name = if self.session.by_id {
                self.ids.get(&topic.topic_id).cloned()
            } else {
                self.topics.get_key_value(topic.topic.0.as_str()).map(|(name, _)| Arc::clone(name))
            };
            let Some(name) = name else { continue };
            for data in topic.partitions {
                self.partition(&(Arc::clone(&name), data.partition_index), data, &mut answer, now);
            }
        }
        Ok(answer)
    }

    fn partition(&mut self, key: &Key, data: PartitionData, answer: &mut Answer, now: Instant) {
        let isolation = self.terms.isolation;
        let Some(member) = self.member(key) else { return };
        if !member.position.assignment.is_wanted() {
            // It goes, and nobody wants more of it.
            drop(self.take(key, None));
            return;
        }
        // An answer to what is no longer asked.
        if member.told.is_none_or(|told| told.offset != member.position.offset) {
            return;
        }
        if let Some(code) = Code::try_from_code(data.error_code) {
            return self.failed(key, code, &data, answer, now);
        }
        if member.position.offset != member.failed_at {
            member.failures = 0;
        }
        if data.diverging_epoch.end_offset >= 0 {
            let why = Why::Diverged(data.diverging_epoch.end_offset.min(member.position.offset));
            return self.leave(key, why, answer);
        }
        if data.preferred_read_replica.0 >= 0 {
            return self.leave(key, Why::Nearer(data.preferred_read_replica.0), answer);
        }
        let committed = isolation == Isolation::ReadCommitted && data.last_stable_offset >= 0;
        let end = if committed { data.last_stable_offset } else { data.high_watermark };
        member.position.assignment.set_end_offset(end);
        let from = member.position.offset;
        let sought = std::mem::take(&mut member.position.sought);
        let Some(records) = data.records.filter(|records| !records.is_empty()) else {
            if sought {
                // There may be no record for long: the route is to know where it stands now.
                let assignment = Arc::clone(&member.position.assignment);
                answer.given.push(Given { assignment, from, records: Bytes::new(), aborted: None });
            }
            return;
        };
        let outline = outline(&records);
        let Some(next) = outline.next_offset.filter(|next| *next > from) else {
            if let Some(error) = outline.error {
                answer.errors.push(format!("{}/{}: {error}", key.0, key.1));
                return self.rest(key, now);
            }
            if outline.whole_bytes == 0 {
                // Not one whole batch: ask for more.
                member.doubled = (member.doubled + 1).min(PARTITION_BYTES_MAX.ilog2());
                return self.change(key);
            }
            answer
                .errors
                .push(format!("{}/{}: no record at or after offset {from} in the answer", key.0, key.1));
            return self.rest(key, now);
        };
        member.position.offset = next;
        member.position.last_epoch = outline.last_epoch;
        member.doubled = 0;
        let aborted = match isolation {
            Isolation::ReadUncommitted => None,
            Isolation::ReadCommitted => {
                let aborted = data.aborted_transactions.unwrap_or_default();
                let aborted = aborted.into_iter().map(|transaction| Aborted {
                    producer_id: transaction.producer_id.0,
                    first_offset: transaction.first_offset,
                });
                Some(aborted.collect())
            }
        };
        let assignment = Arc::clone(&member.position.assignment);
        answer.bytes += records.len();
        answer.given.push(Given { assignment, from, records, aborted });
        self.change(key);
    }

    fn failed(&mut self, key: &Key, code: Code, data: &PartitionData, answer: &mut Answer, now: Instant) {
        let reason = format!("{}/{}: {code}", key.0, key.1);
        match code {
            Code::OffsetOutOfRange => self.leave(key, Why::OutOfRange, answer),
            Code::UnknownTopicOrPartition
            | Code::LeaderNotAvailable
            | Code::NotLeaderOrFollower
            | Code::ReplicaNotAvailable
            | Code::KafkaStorageError
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::OffsetNotAvailable
            | Code::UnknownTopicId
            | Code::InconsistentTopicId => {
                let leader = &data.current_leader;
                let leader = (leader.leader_id.0 >= 0).then_some((leader.leader_id.0, leader.leader_epoch));
                self.leave(key, Why::Elsewhere { reason, leader }, answer);
            }
            _ => {
                answer.errors.push(reason);
                self.rest(key, now);
            }
        }
    }

    fn leave(&mut self, key: &Key, why: Why, answer: &mut Answer) {
        if let Some(member) = self.take(key, None) {
            answer.left.push((member.position, why));
        }
    }
}
