//! The partitions that a route holds.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use zafka_kafka::{Assignment, Generation, TopicPartition};

use super::action::Action;
use super::gate::Act;
use super::partition::Partition;
use super::progress::{Audience, Progress};
use super::report::RouteReport;
use super::sink::Sink;
use crate::config::RouteConfig;
use crate::rename::renamed;

/// The partitions by topic and number; each is shown in the route's report.
#[derive(Debug)]
pub(super) struct Partitions {
    config: Arc<RouteConfig>,
    report: Arc<RouteReport>,
    held: BTreeMap<TopicPartition, Partition>,
}

impl Partitions {
    pub(super) fn new(config: Arc<RouteConfig>, report: Arc<RouteReport>) -> Self {
        Self { config, report, held: BTreeMap::new() }
    }

    /// The partition of an assignment, added now if it is new.
    pub(super) fn of(
        &mut self,
        assignment: &Arc<Assignment>,
        sink: &mut impl Sink,
        actions: &mut VecDeque<Action>,
    ) -> &mut Partition {
        match self.held.entry(key(assignment)) {
            Entry::Occupied(entry) if Arc::ptr_eq(&entry.get().progress.assignment, assignment) => {
                entry.into_mut()
            }
            Entry::Occupied(mut entry) => {
                entry.get().progress.withdraw(sink);
                entry.insert(new_partition(&self.config, &self.report, assignment, sink, actions));
                entry.into_mut()
            }
            Entry::Vacant(entry) => {
                entry.insert(new_partition(&self.config, &self.report, assignment, sink, actions))
            }
        }
    }

    /// Forgets those of some assignments, and returns how far they have come.
    pub(super) fn remove(&mut self, assignments: &[Arc<Assignment>]) -> Vec<Arc<Progress>> {
        let mut gone = Vec::new();
        self.held.retain(|key, partition| {
            let held = &partition.progress.assignment;
            let is_gone = assignments.iter().any(|assignment| Arc::ptr_eq(assignment, held));
            if is_gone {
                self.report.hide(key);
                gone.push(Arc::clone(&partition.progress));
            }
            !is_gone
        });
        gone
    }

    /// Returns those that are to be held or to be opened now.
    pub(super) fn look_at_demand(&mut self, now: Instant) -> Vec<(Arc<Progress>, Act)> {
        let mut acts = Vec::new();
        for (key, partition) in &mut self.held {
            let Some(demand) = &partition.progress.audience.demand else { continue };
            let is_enough = demand.is_enough();
            self.report.note_short(key, !is_enough);
            if let Some(act) = partition.gate.look(is_enough, partition.progress.is_short(), now) {
                acts.push((Arc::clone(&partition.progress), act));
            }
        }
        acts
    }

    /// Returns the newest generation of an assignment that was announced.
    pub(super) fn newest(&self, assignment: &Arc<Assignment>) -> u32 {
        let of = self.held.get(&key(assignment));
        of.map_or(0, Partition::newest)
    }

    /// Begins a generation in place of all those before.
    pub(super) fn restart(&mut self, assignment: &Arc<Assignment>, generation: Generation) {
        let Some(partition) = self.held.get_mut(&key(assignment)) else { return };
        if Arc::ptr_eq(&partition.progress.assignment, assignment) {
            partition.restart(generation);
            self.report.show(&partition.progress);
        }
    }

    /// Returns how far they have come.
    pub(super) fn progress(&self) -> impl Iterator<Item = &Arc<Progress>> {
        self.held.values().map(|partition| &partition.progress)
    }
}

fn key(assignment: &Assignment) -> TopicPartition {
    assignment.topic_partition.clone()
}

fn new_partition(
    config: &RouteConfig,
    report: &RouteReport,
    assignment: &Arc<Assignment>,
    sink: &mut impl Sink,
    actions: &mut VecDeque<Action>,
) -> Partition {
    let RouteConfig { name, frames, rename, .. } = config;
    let (topic, number) = (assignment.topic(), assignment.partition());
    // The topic has its new name in the routing frame alone.
    let renamed = renamed(rename, topic);
    // Rights are by the topic as Kafka has it, demand by its routing frame, if all its messages
    // have the same one.
    let label = sink.label(topic);
    let demand = (config.socket.min_peers > 0)
        .then(|| sink.demand(frames.routing_frame(name, &renamed, number), label.as_ref()));
    let audience = Audience { demand, label };
    let encoder = frames.encoder_as(name, topic, &renamed, number);
    let partition = Partition::new(Arc::clone(assignment), encoder, audience);
    if !partition.gate.is_open() {
        actions.push_back(Action::Pause(Arc::clone(assignment)));
    }
    report.show(&partition.progress);
    partition
}
