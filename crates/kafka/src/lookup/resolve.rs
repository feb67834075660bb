//! Asks for the start offsets of partitions, and commits them before anything is read: a crash must
//! not turn "latest" into a skip.

mod commit;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use tracing::{info, warn};
use uuid::Uuid;

use super::lives::TopicIds;
use super::plan::{StartPlan, TopicSnapshot, smaller};
use super::{
    Lookup, LookupError, LookupStep, Offsets, PendingQueries, PositionQuery, Resolution,
    StartPosition, StartRule, WAIT,
};
use crate::config::Start;
use crate::metadata::MetadataError;
use crate::native;
use crate::reason::{Consequence, Reason};
use crate::topic_partition::TopicPartition;

/// Time for which the starts of a topic are asked for if some of its partitions do not tell theirs;
/// then it begins without those.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

/// A partition of this member, and where it was found to begin.
struct FoundStart {
    query: PositionQuery,
    start: i64,
}

/// Topics that begin now.
#[derive(Default)]
struct TopicStarts {
    own: Vec<FoundStart>,
    /// Partitions that are not this member's, as far as is known.
    others: Vec<(TopicPartition, i64)>,
    /// Those that begin at their earliest offset all the same.
    late: Vec<PositionQuery>,
}

impl Lookup {
    /// Resolves starts, each of a topic that was the same one all along.
    pub(super) fn resolve_of_one_life(
        &mut self,
        mut queries: Vec<PositionQuery>,
        known: &TopicSnapshot,
        pending: &PendingQueries,
    ) -> Resolution {
        let topics = TopicIds::asked(&queries);
        let before = match self.topic_ids(&topics) {
            Ok(before) => before,
            Err(reason) => {
                let mut resolution = Resolution::default();
                for query in queries {
                    resolution.leave_unresolved(query, LookupStep::Start, reason.clone());
                }
                self.report_unresolved(&resolution);
                return resolution;
            }
        };
        before.without_past(&mut queries);
        let mut resolution = match self.in_group {
            true => self.resolve_in_group(queries, known, pending),
            false => self.resolve_starts(queries),
        };
        match self.topic_ids(&topics) {
            Ok(after) => {
                let recreated = resolution.settle(&before, &after);
                self.found.retain(|of, _| !recreated.contains(&*of.topic));
            }
            Err(reason) => {
                for position in std::mem::take(&mut resolution.resolved) {
                    let StartPosition { topic_partition, start: offset, .. } = position;
                    let topic_id = before.of(&topic_partition.topic);
                    let rule = StartRule::Found { offset, topic_id };
                    let query = PositionQuery { topic_partition, rule };
                    resolution.leave_unresolved(query, LookupStep::Start, reason.clone());
                }
            }
        }
        self.report_unresolved(&resolution);
        resolution
    }

    /// The ids of topics, which are sorted; none of a cluster that has none, or if librdkafka
    /// fetches: then they are asked for later.
    fn topic_ids(&mut self, topics: &[Arc<str>]) -> Result<TopicIds, LookupError> {
        let Some((runtime, metadata)) = &mut self.metadata else { return Ok(TopicIds::default()) };
        match runtime.block_on(metadata.ask(topics)) {
            Ok(told) => {
                let ids = told.topics.into_iter().map(|(name, topic)| (name.to_string(), topic.id));
                Ok(TopicIds::new(ids))
            }
            // The fetcher meets it too, and librdkafka takes over.
            Err(MetadataError::Request(error)) if error.consequence() == Consequence::Stop => {
                Ok(TopicIds::default())
            }
            Err(error) => Err(LookupError::TopicIds(error)),
        }
    }

    /// Resolves the starts of partitions without a group.
    fn resolve_starts(&self, queries: Vec<PositionQuery>) -> Resolution {
        let mut resolution = Resolution::default();
        for FoundStart { query, start } in self.resolve(queries, &mut resolution) {
            resolution.resolved.push(StartPosition {
                topic_partition: query.topic_partition,
                start,
                committed: None,
                epoch: -1,
                topic_id: Uuid::nil(),
            });
        }
        resolution
    }

    /// Resolves the starts of partitions that the group gave.
    fn resolve_in_group(
        &mut self,
        queries: Vec<PositionQuery>,
        known: &TopicSnapshot,
        pending: &PendingQueries,
    ) -> Resolution {
        let mut resolution = Resolution::default();
        let new = self.committed(queries, &mut resolution);
        let (at_start, mut rest): (Vec<_>, Vec<_>) =
            new.into_iter().partition(|query| query.rule.is_at_start());
        let TopicStarts { mut own, mut others, late } =
            self.begin(at_start, known, &mut resolution);
        rest.extend(late);
        // That may have taken seconds. What the group has given to another member meanwhile is that
        // one's to commit.
        own.retain(|found| pending.contains(&found.query.topic_partition));
        if own.is_empty() {
            others.clear();
        } else {
            own = self.begun_meanwhile(own, &mut others, &mut resolution);
        }
        let begins_topics = !own.is_empty();
        own.extend(self.resolve(rest, &mut resolution));
        own.retain(|found| pending.contains(&found.query.topic_partition));
        let committed = self.commit(own, &others, &mut resolution);
        if begins_topics {
            self.begin_at_the_smaller(committed, &mut resolution);
        } else {
            resolution.resolved.extend(committed.into_iter().map(StartPosition::committed));
        }
        resolution
    }

    fn report_unresolved(&self, resolution: &Resolution) {
        for step in [LookupStep::Committed, LookupStep::Start, LookupStep::Commit] {
            let open = resolution.unresolved.iter().filter(|open| open.step == step);
            let failed = open.map(|open| (&open.query.topic_partition, &open.reason));
            self.client.context().report_partitions(&step.to_string(), failed);
        }
    }

    /// Those without a committed offset.
    fn committed(
        &self,
        queries: Vec<PositionQuery>,
        resolution: &mut Resolution,
    ) -> Vec<PositionQuery> {
        let mut committed =
            self.committed_offsets(queries.iter().map(|query| &query.topic_partition));
        let mut new = Vec::new();
        for query in queries {
            if query.rule == StartRule::Anew {
                new.push(query);
                continue;
            }
            match committed.take(&query.topic_partition) {
                Ok(Some((start, epoch))) => {
                    let (topic_partition, committed) = (query.topic_partition, Some(start));
                    resolution.resolved.push(StartPosition {
                        topic_partition,
                        start,
                        committed,
                        epoch,
                        topic_id: Uuid::nil(),
                    });
                }
                Ok(None) => new.push(query),
                Err(reason) => resolution.leave_unresolved(query, LookupStep::Committed, reason),
            }
        }
        new
    }

    /// Returns the committed offsets, with the leader epochs that were committed with them.
    fn committed_offsets<'a>(
        &self,
        partitions: impl Iterator<Item = &'a TopicPartition>,
    ) -> Offsets<(i64, i32)> {
        let mut list = TopicPartitionList::new();
        for TopicPartition { topic, partition } in partitions {
            list.add_partition(topic, *partition);
        }
        let list = match self.client.committed_offsets(list, WAIT) {
            Ok(list) => list,
            Err(error) => return Offsets { found: HashMap::new(), otherwise: error.into() },
        };
        let epochs = native::leader_epochs(&list);
        let found = list.elements().into_iter().zip(epochs).map(|(element, epoch)| {
            let offset = match (element.error(), element.offset()) {
                (Err(error), _) => Err(error.into()),
                (Ok(()), Offset::Offset(offset)) => Ok(Some((offset, epoch))),
                (Ok(()), _) => Ok(None),
            };
            (TopicPartition::new(element.topic(), element.partition()), offset)
        });
        Offsets { found: found.collect(), otherwise: LookupError::NoAnswer }
    }

    /// Plans for partitions that are to begin at `start` if their topic has not begun, and finds
    /// where that is, for all partitions of the topics that begin with them.
    fn begin(
        &mut self,
        queries: Vec<PositionQuery>,
        known: &TopicSnapshot,
        resolution: &mut Resolution,
    ) -> TopicStarts {
        let Some(start) = queries.first().and_then(|query| query.rule.start()) else {
            return TopicStarts::default();
        };
        let new: Vec<TopicPartition> =
            queries.into_iter().map(|query| query.topic_partition).collect();
        let at_start =
            |topic_partition| PositionQuery { topic_partition, rule: StartRule::At(start) };
        let committed = self.committed_offsets(known.partitions(&new).iter());
        if committed.found.is_empty() {
            for partition in new {
                resolution.leave_unresolved(
                    at_start(partition),
                    LookupStep::Committed,
                    committed.otherwise.clone(),
                );
            }
            return TopicStarts::default();
        }
        let plan = known.plan(&self.selection, &new, &committed.found);
        let StartPlan { at_start: own, others, late, open } = plan;
        for (partition, reason) in open {
            resolution.leave_unresolved(at_start(partition), LookupStep::Committed, reason);
        }
        let mut starts_now = TopicStarts::default();
        starts_now.late.extend(late.into_iter().map(PositionQuery::late));
        let topics: BTreeSet<&str> = own.iter().map(|partition| &*partition.topic).collect();
        if !topics.is_empty() {
            info!(
                route = self.route,
                ?topics,
                ?start,
                "the group has no committed offset for these topics: they begin at `start`"
            );
        }
        let mut starts = self.starts_at(own.iter().chain(&others), start);
        for partition in own {
            match starts.take(&partition) {
                Ok(Some(start)) => {
                    starts_now.own.push(FoundStart { query: at_start(partition), start })
                }
                answer => {
                    self.warn_no_start(&partition, answer);
                    starts_now.late.push(PositionQuery::late(partition));
                }
            }
        }
        for partition in others {
            match starts.take(&partition) {
                Ok(Some(start)) => starts_now.others.push((partition, start)),
                answer => self.warn_no_start(&partition, answer),
            }
        }
        starts_now
    }

    fn warn_no_start(
        &self,
        TopicPartition { topic, partition }: &TopicPartition,
        answer: Result<Option<i64>, LookupError>,
    ) {
        let reason = answer.err().unwrap_or(LookupError::NoOffset);
        warn!(
            route = self.route,
            %topic,
            partition,
            %reason,
            "its end could not be asked for when its topic began: the partition begins at its \
             earliest offset"
        );
    }

    /// Returns the offsets of partitions by `start`. What was found once is so until it is
    /// committed: "latest" is not asked for twice. Those that do not tell are asked again for a
    /// while.
    fn starts_at<'a>(
        &mut self,
        partitions: impl Iterator<Item = &'a TopicPartition>,
        start: Start,
    ) -> Offsets {
        let (mut known, mut asked) = (HashMap::new(), Vec::new());
        for partition in partitions {
            match self.found.get(partition) {
                Some(start) => drop(known.insert(partition.clone(), Ok(Some(*start)))),
                None => asked.push(partition),
            }
        }
        let deadline = Instant::now() + PATIENCE;
        let mut otherwise = LookupError::NoAnswer;
        while !asked.is_empty() {
            let mut answers = self.at(asked.iter().map(|partition| (*partition, start)));
            asked.retain(|partition| match answers.found.remove(*partition) {
                Some(Ok(Some(start))) => {
                    self.found.insert((*partition).clone(), start);
                    known.insert((*partition).clone(), Ok(Some(start)));
                    false
                }
                Some(answer) => {
                    known.insert((*partition).clone(), answer);
                    true
                }
                None => true,
            });
            otherwise = answers.otherwise;
            if Instant::now() >= deadline {
                break;
            }
            sleep(PAUSE);
        }
        Offsets { found: known, otherwise }
    }

    /// Looks once more before topics are begun: of those that another member has begun meanwhile,
    /// what is not this member's is left alone. Gives what of its own is still to be committed.
    fn begun_meanwhile(
        &self,
        own: Vec<FoundStart>,
        others: &mut Vec<(TopicPartition, i64)>,
        resolution: &mut Resolution,
    ) -> Vec<FoundStart> {
        let own_partitions = own.iter().map(|found| &found.query.topic_partition);
        let mut committed = self
            .committed_offsets(own_partitions.chain(others.iter().map(|(partition, _)| partition)));
        let begun: BTreeSet<Arc<str>> = (committed.found.iter())
            .filter(|(_, answer)| !matches!(answer, Ok(None)))
            .map(|(partition, _)| Arc::clone(&partition.topic))
            .collect();
        others.retain(|(partition, _)| !begun.contains(&partition.topic));
        let mut due = Vec::with_capacity(own.len());
        for found in own {
            match committed.take(&found.query.topic_partition) {
                Ok(Some((stands, epoch))) if smaller(found.start, Some(stands)) == stands => {
                    let (topic_partition, committed) = (found.query.topic_partition, Some(stands));
                    resolution.resolved.push(StartPosition {
                        topic_partition,
                        start: stands,
                        committed,
                        epoch,
                        topic_id: Uuid::nil(),
                    });
                }
                Ok(_) => due.push(found),
                Err(reason) => {
                    resolution.leave_unresolved(found.query, LookupStep::Committed, reason)
                }
            }
        }
        if due.is_empty() {
            others.clear();
        }
        due
    }

    /// Resolves partitions that do not wait for their topic.
    fn resolve(&self, queries: Vec<PositionQuery>, resolution: &mut Resolution) -> Vec<FoundStart> {
        let asked =
            queries.iter().filter_map(|query| Some((&query.topic_partition, query.rule.start()?)));
        let mut starts = self.at(asked);
        let mut found = Vec::with_capacity(queries.len());
        for query in queries {
            let start = match query.rule {
                StartRule::Found { offset, .. } => Ok(Some(offset)),
                StartRule::At(_) | StartRule::Anew => starts.take(&query.topic_partition),
            };
            match start {
                Ok(Some(start)) => found.push(FoundStart { query, start }),
                Ok(None) => {
                    resolution.leave_unresolved(query, LookupStep::Start, LookupError::NoOffset)
                }
                Err(reason) => resolution.leave_unresolved(query, LookupStep::Start, reason),
            }
        }
        found
    }

    fn at<'a>(&self, asked: impl Iterator<Item = (&'a TopicPartition, Start)>) -> Offsets {
        let mut starts = self.offsets(asked.map(|(partition, start)| (partition, time(start))));
        // No record at that time or after it: the end.
        let without = |(partition, answer): (&TopicPartition, &Result<_, _>)| {
            matches!(answer, Ok(None)).then(|| partition.clone())
        };
        let late: Vec<TopicPartition> = starts.found.iter().filter_map(without).collect();
        let mut ends = self.offsets(late.iter().map(|partition| (partition, Offset::End)));
        for partition in late {
            let end = ends.take(&partition);
            starts.found.insert(partition, end);
        }
        starts
    }
}

impl StartPosition {
    fn committed(found: FoundStart) -> Self {
        Self {
            topic_partition: found.query.topic_partition,
            start: found.start,
            committed: Some(found.start),
            epoch: -1,
            topic_id: Uuid::nil(),
        }
    }
}

/// Returns the start as ListOffsets asks for it; a time before the epoch would mean something else.
fn time(start: Start) -> Offset {
    match start {
        Start::Earliest => Offset::Beginning,
        Start::Latest => Offset::End,
        Start::Time(time) => Offset::Offset(time.max(0)),
    }
}
