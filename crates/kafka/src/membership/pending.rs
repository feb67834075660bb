//! Partitions on their way from their assignment to the first record: their start offsets are being
//! looked up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use crate::config::Start;
use crate::lookup::{
    BACKOFF, LookupRequest, PendingQueries, PositionQuery, StartPosition, StartRule, TopicSnapshot,
    Unresolved,
};
use crate::topic_partition::TopicPartition;

/// The partitions of one assignment by the group. Dropped, it ends the lookup.
pub(super) struct PendingAssignment {
    id: u64,
    /// Those whose start is not known yet, and the reason, once there is one.
    unresolved: BTreeMap<TopicPartition, Option<Unresolved>>,
    failures: u32,
    answered: bool,
    /// The same partitions, for the thread that looks them up.
    queries: Arc<PendingQueries>,
    known: Arc<TopicSnapshot>,
}

impl PendingAssignment {
    /// Partitions that have no committed offset begin at `start` if they are among the first, and
    /// their topic has not begun in the group; else at their earliest offset. Those `kept` continue
    /// at their positions.
    pub(super) fn new(
        id: u64,
        partitions: Vec<TopicPartition>,
        start: Start,
        known: TopicSnapshot,
        kept: &HashMap<TopicPartition, (i64, Uuid)>,
        now: Instant,
    ) -> (Self, LookupRequest) {
        let assignment = Self {
            id,
            unresolved: partitions.iter().map(|partition| (partition.clone(), None)).collect(),
            failures: 0,
            answered: false,
            queries: PendingQueries::new(partitions.iter().cloned()),
            known: Arc::new(known),
        };
        let first = &assignment.known.first;
        let query = |topic_partition: TopicPartition| {
            let start = if first.contains(&topic_partition) { start } else { Start::Earliest };
            let rule =
                kept.get(&topic_partition).map_or(StartRule::At(start), |(offset, topic_id)| {
                    StartRule::Found { offset: *offset, topic_id: *topic_id }
                });
            PositionQuery { topic_partition, rule }
        };
        let queries = partitions.into_iter().map(query).collect();
        let request = assignment.request(queries, now);
        (assignment, request)
    }

    fn request(&self, queries: Vec<PositionQuery>, due: Instant) -> LookupRequest {
        let (known, pending) = (Arc::clone(&self.known), Arc::clone(&self.queries));
        LookupRequest::Starts { id: self.id, queries, due, known, pending }
    }

    /// Takes an answer: returns those that begin now, and the request for the others that are still
    /// wanted.
    pub(super) fn answer(
        &mut self,
        resolved: Vec<StartPosition>,
        unresolved: Vec<Unresolved>,
        now: Instant,
    ) -> (Vec<StartPosition>, Option<LookupRequest>) {
        self.answered = true;
        let resolved: Vec<StartPosition> = resolved
            .into_iter()
            .filter(|position| self.unresolved.contains_key(&position.topic_partition))
            .collect();
        resolved.iter().for_each(|position| self.forget(&position.topic_partition));
        let mut queries = Vec::new();
        for open in unresolved {
            if let Some(reason) = self.unresolved.get_mut(&open.query.topic_partition) {
                queries.push(open.query.clone());
                *reason = Some(open);
            }
        }
        if queries.is_empty() {
            return (resolved, None);
        }
        (resolved, Some(self.retry(queries, now)))
    }

    /// The request again, for an answer that cannot be used now.
    pub(super) fn postpone(
        &mut self,
        resolved: Vec<StartPosition>,
        unresolved: Vec<Unresolved>,
        now: Instant,
    ) -> LookupRequest {
        let resolved = resolved.into_iter();
        let found = resolved.map(|position| {
            let StartPosition { topic_partition, start: offset, topic_id, .. } = position;
            PositionQuery { topic_partition, rule: StartRule::Found { offset, topic_id } }
        });
        self.retry(found.chain(unresolved.into_iter().map(|open| open.query)).collect(), now)
    }

    fn retry(&mut self, queries: Vec<PositionQuery>, now: Instant) -> LookupRequest {
        let request = self.request(queries, now + BACKOFF.after(self.failures));
        self.failures += 1;
        request
    }

    /// Returns true if there was an answer, even one that nothing begins yet.
    pub(super) fn is_answered(&self) -> bool {
        self.answered
    }

    /// Those that are open.
    pub(super) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.unresolved.keys()
    }

    /// Forgets a partition that begins, that the group wants back, or that is no more.
    pub(super) fn forget(&mut self, partition: &TopicPartition) {
        self.unresolved.remove(partition);
        self.queries.forget(partition);
    }

    pub(super) fn contains(&self, partition: &TopicPartition) -> bool {
        self.unresolved.contains_key(partition)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unresolved.is_empty()
    }

    /// A partition that waits, and why.
    pub(super) fn reason(&self) -> Option<&Unresolved> {
        self.unresolved.values().find_map(Option::as_ref)
    }
}

impl Drop for PendingAssignment {
    fn drop(&mut self) {
        self.queries.forget_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lookup::{LookupError, LookupStep};
    use crate::topics::{InitialPartitions, TopicMap};

    fn known(topics: &[(&str, i32)]) -> TopicSnapshot {
        let topics: TopicMap =
            topics.iter().map(|(topic, count)| (Arc::from(*topic), *count)).collect();
        TopicSnapshot { first: InitialPartitions::new(&topics), topics }
    }

    fn now() -> Instant {
        Instant::now()
    }

    fn part(partition: i32) -> TopicPartition {
        TopicPartition::new("orders", partition)
    }

    fn position(partition: i32) -> StartPosition {
        let (topic_partition, topic_id) = (part(partition), Uuid::nil());
        StartPosition { topic_partition, start: 7, committed: Some(7), epoch: 3, topic_id }
    }

    fn wanted(ask: &LookupRequest) -> Vec<(i32, StartRule)> {
        let LookupRequest::Starts { queries, .. } = ask else { panic!("{ask:?}") };
        queries.iter().map(|query| (query.topic_partition.partition, query.rule)).collect()
    }

    fn found(offset: i64) -> StartRule {
        StartRule::Found { offset, topic_id: Uuid::nil() }
    }

    fn open(partition: i32, offset: i64) -> Unresolved {
        let query = PositionQuery { topic_partition: part(partition), rule: found(offset) };
        Unresolved { query, step: LookupStep::Commit, reason: LookupError::NoAnswer }
    }

    #[test]
    fn those_that_came_later_begin_at_the_earliest() {
        let known = known(&[("orders", 1)]);
        let kept = HashMap::from([(part(2), (7, Uuid::nil()))]);
        let (_pending, ask) = PendingAssignment::new(
            1,
            (0..3).map(part).collect(),
            Start::Latest,
            known,
            &kept,
            now(),
        );
        let expected =
            [(0, StartRule::At(Start::Latest)), (1, StartRule::At(Start::Earliest)), (2, found(7))];
        assert_eq!(wanted(&ask), expected);
    }

    #[test]
    fn one_that_stays_open_is_asked_for_until_it_begins() {
        let (mut assignment, _) = PendingAssignment::new(
            1,
            (0..3).map(part).collect(),
            Start::Latest,
            known(&[]),
            &HashMap::new(),
            now(),
        );
        assert!(!assignment.is_answered() && assignment.reason().is_none());
        let (resolved, ask) =
            assignment.answer(vec![position(0)], vec![open(1, 5), open(2, 6)], now());
        assert_eq!(resolved, [position(0)]);
        assert_eq!(wanted(&ask.unwrap()), [(1, found(5)), (2, found(6))]);
        assert!(assignment.is_answered());
        let reason = assignment.reason().map(ToString::to_string);
        let expected = "orders/1: the start was not committed: no answer";
        assert_eq!(reason.as_deref(), Some(expected));
        // The group takes it back while it is asked for.
        assignment.forget(&part(1));
        let (resolved, ask) = assignment.answer(vec![position(1)], vec![open(2, 6)], now());
        assert_eq!((resolved, wanted(&ask.unwrap())), (Vec::new(), vec![(2, found(6))]));
        let (resolved, ask) = assignment.answer(vec![position(2)], Vec::new(), now());
        assert_eq!(resolved, [position(2)]);
        assert!(ask.is_none() && assignment.is_empty());
    }

    #[test]
    fn nobody_asks_for_what_is_forgotten() {
        let partitions = vec![part(0), part(1)];
        let (mut assignment, ask) = PendingAssignment::new(
            1,
            partitions,
            Start::Earliest,
            known(&[]),
            &HashMap::new(),
            now(),
        );
        let LookupRequest::Starts { pending, .. } = &ask else { panic!("{ask:?}") };
        assert!(pending.contains(&part(0)) && pending.contains(&part(1)));
        assignment.forget(&part(0));
        assert!(!pending.contains(&part(0)) && pending.contains(&part(1)));
        drop(assignment);
        assert!(pending.is_empty());
    }
}
