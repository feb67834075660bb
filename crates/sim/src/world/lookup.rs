//! The lookups of a relay: the starts of partitions, and their ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use uuid::Uuid;
use zafka_kafka::sim::{self, Begin, BeginRule, SimQuestion};
use zafka_kafka::{Assignment, TopicPartition};

use super::{Event, Process, World, relay_of};
use crate::cluster::{Cluster, Partition};
use crate::group::{Committed, Group};
use crate::relay::{Found, Still, partition_of};

/// The cluster and the group, as far as the lookup of a relay reaches.
struct Reached<'a> {
    number: usize,
    now: Duration,
    cluster: &'a Cluster,
    group: &'a mut Group,
    unreachable: &'a BTreeSet<i32>,
    found: &'a mut BTreeMap<Partition, Found>,
    still: &'a mut BTreeMap<Partition, Still>,
    happened: Vec<String>,
}

impl sim::SimCluster for Reached<'_> {
    fn topic_id(&mut self, topic: &str) -> Uuid {
        let log = self.cluster.logs.iter().find(|((name, _), _)| name == topic);
        log.map_or_else(Uuid::nil, |(_, log)| log.topic_id)
    }

    fn begin(&mut self, of: &TopicPartition, rule: BeginRule) -> Option<Begin> {
        let key = (of.topic.to_string(), of.partition);
        let log = self.cluster.logs.get(&key)?;
        let is_member = self.group.owners.get(&key) == Some(&Some(self.number));
        if self.group.is_loading || self.unreachable.contains(&log.leader) || !is_member {
            return None;
        }
        let offset = match rule {
            BeginRule::Kept(kept) => kept,
            BeginRule::Earliest | BeginRule::Anew => log.start,
        };
        if rule == BeginRule::Anew {
            self.group.committed.remove(&key);
        }
        let first = || Committed { offset, epoch: -1 };
        let committed = *self.group.committed.entry(key.clone()).or_insert_with(first);
        self.happened.push(format!("{of} begins at {committed:?} ({rule:?})"));
        self.found.insert(key, Found { generation: 0, branch: log.branch });
        Some(Begin { start: committed.offset, epoch: committed.epoch })
    }

    fn earliest(&mut self, of: &Assignment, generation: u32) -> Option<i64> {
        let key = partition_of(of);
        let log = self.cluster.logs.get(&key)?;
        if self.unreachable.contains(&log.leader) {
            return None;
        }
        self.found.insert(key, Found { generation: generation + 1, branch: log.branch });
        Some(log.start)
    }

    fn end(&mut self, of: &Assignment) -> Option<i64> {
        let key = partition_of(of);
        let log = self.cluster.logs.get(&key)?;
        let end = (!self.unreachable.contains(&log.leader)).then(|| log.last_stable());
        if end.is_none_or(|end| end <= sim::position(of))
            && let Some(still) = self.still.get_mut(&key)
        {
            // Nothing is missing, or nobody knows.
            still.since = self.now;
        }
        end
    }
}

impl World {
    pub(super) fn look_up_later(&mut self, process: Process, question: SimQuestion) {
        let now = self.clock.instant();
        let wait =
            question.due().map_or_else(Default::default, |due| due.saturating_duration_since(now));
        let wait = wait.as_millis() as u64;
        self.after(wait + 1, wait + 60, Event::LookUp(process, question));
    }

    /// The lookup asks the cluster.
    pub(super) fn look_up(&mut self, process: Process, question: SimQuestion) {
        // The ids of topics come before the starts, and once more at any moment after them.
        let is_settled = self.random.percent(50);
        let Some(mut reached) = self.reached(process) else { return };
        let mut asked = question.ask(&mut reached);
        if let Ok(Some(answer)) = &mut asked
            && is_settled
        {
            answer.confirm(&mut reached);
        }
        for what in reached.happened {
            self.tell(|| format!("{process:?} {what}"));
        }
        match asked {
            Ok(Some(answer)) => {
                let longest = self.settings.lookup_ms;
                self.after(0, longest, Event::Answered(process, answer));
            }
            Ok(None) => {}
            Err(question) => self.after(100, 200, Event::LookUp(process, question)),
        }
    }

    fn reached(&mut self, process: Process) -> Option<Reached<'_>> {
        let relay = relay_of(&mut self.relays, process)?;
        Some(Reached {
            number: process.0,
            now: self.clock.now(),
            cluster: &self.cluster,
            group: &mut self.group,
            unreachable: &self.unreachable,
            found: &mut relay.found,
            still: &mut relay.still,
            happened: Vec::new(),
        })
    }

    /// The lookup has an answer.
    pub(super) fn answered(&mut self, process: Process, mut answer: sim::SimAnswer) {
        if let Some(mut reached) = self.reached(process) {
            answer.confirm(&mut reached);
        }
        if let Some(relay) = self.relay(process) {
            relay.membership.answer(answer);
        }
        self.wake_membership(process);
    }
}
