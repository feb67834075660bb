//! The partitions that are fetched from one broker, and the fetch session that it keeps of them
//! (KIP-227): a request names only what changed since the one before it. A plain state machine
//! without I/O.

mod answers;
mod cuts;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::position::{Key, Position};
use super::sizes::Sizes;
use crate::assignment::Assignment;
use crate::config::Isolation;
pub(super) use answers::{Answer, Broken, Given};

/// The last version that names topics; from the next one on they go by their id.
pub(super) const LAST_BY_NAME: i16 = 12;
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
            last_epoch: self.position.claim(),
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

impl Session {
    /// Another one in its place. The broker closes this one, whose number the first request of the
    /// other has: it would keep a place in the broker's cache until it is the oldest.
    fn anew(self) -> Self {
        Self { epoch: 0, ..self }
    }
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
    /// How many of them their leader is to serve itself.
    without_rack: usize,
    /// Where a request without a session begins, so that every partition gets its turn.
    turn: usize,
    /// The next request begins another session.
    renew: bool,
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
            without_rack: 0,
            turn: 0,
            renew: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fetches a partition from now on, in place of what was fetched of it before.
    pub(super) fn insert(&mut self, position: Position) {
        let key = position.key();
        self.take(&key, None);
        // The broker's session still has it, and would not answer for it while its log does not
        // change: nobody would know where it stands.
        let is_told = |(name, id, partition): &(Arc<str>, Uuid, i32)| {
            (name, *id, *partition) == (&key.0, position.topic_id, key.1)
        };
        self.renew |= self.forgotten.iter().any(is_told);
        let id = position.topic_id;
        let topic = self
            .topics
            .entry(Arc::clone(&key.0))
            .or_insert_with(|| Topic { id, ..Topic::default() });
        if topic.id != id {
            // One id at a time: who leaves the topic of another id has been told, or will be.
            self.ids.remove(&topic.id);
            topic.id = id;
            self.session = self.session.anew();
        }
        if !topic.id.is_nil() {
            self.ids.insert(topic.id, Arc::clone(&key.0));
        }
        self.without_rack += usize::from(position.without_rack);
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
        self.session = self.session.anew();
        self.changed.clear();
        self.forgotten.clear();
        self.resting.clear();
        self.ids.clear();
        self.len = 0;
        self.without_rack = 0;
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
        self.without_rack -= usize::from(member.position.without_rack);
        Some(member)
    }

    /// Goes on at an offset, after a rest where the last answers were of no use; tells how many
    /// they are.
    pub(super) fn go_on_at(
        &mut self,
        assignment: &Arc<Assignment>,
        generation: u32,
        offset: i64,
        now: Instant,
    ) -> u32 {
        let key = (Arc::clone(&assignment.topic), assignment.partition);
        if let Some(member) = self.member(&key)
            && Arc::ptr_eq(&member.position.assignment, assignment)
            && member.position.generation.number == generation
        {
            member.position.seek(offset);
            return self.rest(&key, now);
        }
        0
    }

    /// Leaves a partition out of the requests for a while; tells after how many answers of no use
    /// to this offset.
    fn rest(&mut self, key: &Key, now: Instant) -> u32 {
        let Some(topic) = self.topics.get_mut(&key.0) else { return 0 };
        let Some(member) = topic.members.get_mut(&key.1) else { return 0 };
        if member.told.take().is_some() {
            self.forgotten.push((Arc::clone(&key.0), topic.id, key.1));
        }
        let rest = REST.0.saturating_mul(1 << member.failures.min(8)).min(REST.1);
        member.failures += 1;
        member.failed_at = member.position.offset;
        if !std::mem::replace(&mut member.resting, true) {
            self.resting.push((now + rest, key.clone()));
        }
        self.member(key).map_or(0, |member| member.failures)
    }

    /// When the first of those that rest goes on.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.resting.iter().map(|(due, _)| *due).min()
    }

    fn wake(&mut self, now: Instant) {
        if self.resting.is_empty() {
            return;
        }
        let due: Vec<Key> =
            self.resting.extract_if(.., |(due, _)| *due <= now).map(|(_, key)| key).collect();
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

    /// The connection is another one: so is the session, and how much is asked for.
    pub(super) fn connected(&mut self, sizes: Sizes) {
        self.sizes = sizes;
        self.session = self.session.anew();
    }
}
