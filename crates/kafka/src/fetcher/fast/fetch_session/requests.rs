//! The content of a request: the partitions that changed since the one before it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{FetchKind, FetchSession, LAST_BY_NAME, SessionId};
use crate::config::Isolation;
use crate::metadata::topic_name;
use crate::topic_partition::TopicPartition;

/// Time that a broker waits for a record before it answers that there is none.
const MAX_WAIT_MS: i32 = 500;
/// The epoch of a request that is of no session and asks for none (KIP-227).
const WITHOUT_SESSION: i32 = -1;

impl FetchSession {
    /// The next request and its version, at most `newest`; `None` while there is nothing to be
    /// fetched.
    pub(crate) fn request(&mut self, newest: i16, now: Instant) -> Option<(FetchRequest, i16)> {
        self.wake(now);
        if std::mem::take(&mut self.renew) {
            self.session = self.session.anew();
        }
        let by_id = newest > LAST_BY_NAME && self.topics.values().all(|topic| !topic.id.is_nil());
        if by_id != self.session.by_id {
            self.session = SessionId { by_id, ..self.session.anew() };
        }
        if self.session.epoch == 0 && !self.begin_session() {
            return None;
        }
        if self.len == self.resting.len() {
            return None;
        }
        // In the order in which partitions have their turn: without a session, a broker reads in
        // that order.
        let mut topics: Vec<FetchTopic> = Vec::new();
        let mut places: HashMap<Arc<str>, usize> = HashMap::new();
        for key in std::mem::take(&mut self.changed) {
            let Some(topic) = self.topics.get_mut(&key.topic) else { continue };
            let Some(tracked) = topic.partitions.get_mut(&key.partition) else { continue };
            tracked.changed = false;
            let wanted_state = tracked.wanted_state(self.sizes);
            if tracked.resting || tracked.requested.replace(wanted_state) == Some(wanted_state) {
                continue;
            }
            let id = topic.id;
            let place = *places.entry(Arc::clone(&key.topic)).or_insert_with(|| {
                let topic = FetchTopic::default();
                topics.push(if by_id {
                    topic.with_topic_id(id)
                } else {
                    topic.with_topic(topic_name(&key.topic))
                });
                topics.len() - 1
            });
            topics[place].partitions.push(
                FetchPartition::default()
                    .with_partition(key.partition)
                    .with_current_leader_epoch(wanted_state.leader_epoch)
                    .with_fetch_offset(wanted_state.offset)
                    .with_last_fetched_epoch(wanted_state.last_epoch)
                    .with_partition_max_bytes(wanted_state.max_bytes),
            );
        }
        let request = FetchRequest::default()
            .with_max_wait_ms(match self.options.kind {
                FetchKind::Session => MAX_WAIT_MS,
                FetchKind::WithoutSession => 0,
            })
            .with_min_bytes(1)
            .with_max_bytes(self.sizes.answer_for(self.len))
            .with_isolation_level(match self.options.isolation {
                Isolation::ReadUncommitted => 0,
                Isolation::ReadCommitted => 1,
            })
            .with_session_id(self.session.id)
            .with_session_epoch(match self.options.kind {
                FetchKind::Session => self.session.epoch,
                FetchKind::WithoutSession => WITHOUT_SESSION,
            })
            .with_rack_id(self.rack())
            .with_topics(topics)
            .with_forgotten_topics_data(self.forgotten(by_id));
        Some((request, if by_id { newest } else { newest.min(LAST_BY_NAME) }))
    }

    /// Our rack, by which a leader names a preferred replica and gives no records itself. It
    /// stands for the whole request, so one partition that is not to be sent away keeps the
    /// others too.
    fn rack(&self) -> StrBytes {
        match self.without_rack {
            0 => StrBytes::from_string(self.options.rack.clone()),
            _ => StrBytes::default(),
        }
    }

    /// Everything is to be requested again. False if there is nothing.
    fn begin_session(&mut self) -> bool {
        self.forgotten.clear();
        self.changed.clear();
        self.turn = self.turn.wrapping_add(1);
        for (name, topic) in &mut self.topics {
            for (partition, tracked) in &mut topic.partitions {
                tracked.requested = None;
                tracked.changed = !tracked.resting;
                if tracked.changed {
                    self.changed.push(TopicPartition::new(Arc::clone(name), *partition));
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
                    && topic
                        .partitions
                        .get(&partition)
                        .is_some_and(|tracked| tracked.requested.is_some())
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
}
