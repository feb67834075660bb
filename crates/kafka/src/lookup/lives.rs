//! The lives of topics: whether a start that was looked up is one of the topic that there is now.
//! Decides, and asks nothing.
//!
//! Offsets are committed and looked up by a topic's name. A topic that was deleted and created
//! again has the same name and another id (KIP-516), and an offset of its earlier life would skip
//! records of the present one. So the ids are asked for before the starts and after them: what was
//! found in between is of a topic whose id was the same both times. The start carries that id, and
//! the fetcher does not read it in another topic.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use super::{LookupError, LookupStep, PositionQuery, Resolution, StartRule, Unresolved};
use crate::config::Start;

/// The ids of topics at one moment. Unknown ones are nil: of brokers that have none, of topics that
/// cannot be described.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopicIds(HashMap<String, Uuid>);

impl TopicIds {
    pub(crate) fn new(ids: impl IntoIterator<Item = (String, Uuid)>) -> Self {
        Self(ids.into_iter().collect())
    }

    /// The id of a topic; nil if it is not known.
    pub(crate) fn of(&self, topic: &str) -> Uuid {
        self.0.get(topic).copied().unwrap_or_default()
    }

    /// The topics of these queries, each once, in their order.
    pub(crate) fn asked<'a>(queries: impl IntoIterator<Item = &'a PositionQuery>) -> Vec<Arc<str>> {
        let topics = queries.into_iter().map(|query| Arc::clone(&query.topic_partition.topic));
        topics.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Takes offsets that were kept of an earlier life out of the queries.
    pub(crate) fn without_past(&self, queries: &mut [PositionQuery]) {
        for query in queries {
            if let StartRule::Found { topic_id, .. } = query.rule
                && differ(topic_id, self.of(&query.topic_partition.topic))
            {
                query.rule = StartRule::At(Start::Earliest);
            }
        }
    }
}

impl Resolution {
    /// Takes the ids from before the starts were asked for and after it. Starts get the id of their
    /// topic. Those of a topic that was recreated meanwhile are asked for again, and then nothing
    /// that is committed is believed. Returns the topics that were recreated.
    pub(crate) fn settle(&mut self, before: &TopicIds, after: &TopicIds) -> BTreeSet<String> {
        let mut recreated = BTreeSet::new();
        for open in &mut self.unresolved {
            let topic = &*open.query.topic_partition.topic;
            if differ(before.of(topic), after.of(topic)) {
                open.query.rule = StartRule::Anew;
                recreated.insert(topic.to_owned());
            }
        }
        for mut position in std::mem::take(&mut self.resolved) {
            let topic = position.topic_partition.topic.to_string();
            let (then, now) = (before.of(&topic), after.of(&topic));
            position.topic_id = now;
            if then == now {
                self.resolved.push(position);
                continue;
            }
            let rule = match differ(then, now) {
                true => StartRule::Anew,
                // It is there in one of the answers alone. What was found may be of either.
                false => StartRule::Found { offset: position.start, topic_id: then },
            };
            let query = PositionQuery { topic_partition: position.topic_partition, rule };
            let (step, reason) = (LookupStep::Start, LookupError::Recreated);
            self.unresolved.push(Unresolved { query, step, reason });
            if rule == StartRule::Anew {
                recreated.insert(topic);
            }
        }
        recreated
    }
}

/// Returns true if both are known and not the same.
fn differ(one: Uuid, other: Uuid) -> bool {
    !one.is_nil() && !other.is_nil() && one != other
}

#[cfg(test)]
mod tests {
    use super::super::StartPosition;
    use super::*;
    use crate::topic_partition::TopicPartition;

    const A: u128 = 1;
    const B: u128 = 2;
    /// The id of a topic whose id is not known.
    const NIL: u128 = 0;

    fn ids(id: u128) -> TopicIds {
        TopicIds::new([("t".to_owned(), Uuid::from_u128(id))])
    }

    fn query(rule: StartRule) -> PositionQuery {
        PositionQuery { topic_partition: TopicPartition::new("t", 0), rule }
    }

    fn found(id: u128) -> StartRule {
        StartRule::Found { offset: 7, topic_id: Uuid::from_u128(id) }
    }

    const EARLIEST: StartRule = StartRule::At(Start::Earliest);

    #[test]
    fn an_offset_that_was_kept_is_one_of_its_topic_alone() {
        for (kept, now, expected) in [
            (found(A), A, found(A)),
            (found(A), B, EARLIEST),
            // Whether it is another one is not known.
            (found(A), NIL, found(A)),
            (found(NIL), B, found(NIL)),
            (StartRule::At(Start::Latest), B, StartRule::At(Start::Latest)),
        ] {
            let mut queries = [query(kept)];
            ids(now).without_past(&mut queries);
            assert_eq!(queries[0].rule, expected, "{kept:?} now {now}");
        }
    }

    /// The ids before and after; the rule by which a start that was found is asked for again, and
    /// one that was not: none if it can be used, with the id after.
    #[test]
    fn a_start_is_used_if_the_topic_was_the_same_all_along() {
        let latest = StartRule::At(Start::Latest);
        for (before, after, again, open) in [
            (A, A, None, latest),
            (NIL, NIL, None, latest),
            (A, B, Some(StartRule::Anew), StartRule::Anew),
            (NIL, B, Some(found(NIL)), latest),
            (A, NIL, Some(found(A)), latest),
        ] {
            let topic_partition = TopicPartition::new("t", 0);
            let (start, topic_id) = (7, Uuid::nil());
            let position =
                StartPosition { topic_partition, start, committed: None, epoch: -1, topic_id };
            let unresolved = vec![Unresolved {
                query: query(latest),
                step: LookupStep::Start,
                reason: LookupError::NoAnswer,
            }];
            let mut resolution = Resolution { resolved: vec![position], unresolved };
            let recreated = resolution.settle(&ids(before), &ids(after));
            let rules: Vec<StartRule> =
                resolution.unresolved.iter().map(|open| open.query.rule).collect();
            let expected: Vec<StartRule> = [open].into_iter().chain(again).collect();
            assert_eq!(rules, expected, "{before} {after}");
            let used: Vec<Uuid> = resolution.resolved.iter().map(|one| one.topic_id).collect();
            let id = again.is_none().then(|| Uuid::from_u128(after));
            assert_eq!(used, id.into_iter().collect::<Vec<_>>(), "{before} {after}");
            assert_eq!(recreated.len(), usize::from(open == StartRule::Anew));
        }
    }
}
