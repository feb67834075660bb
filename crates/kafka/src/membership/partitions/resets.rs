//! Faults of the fetcher, and offsets at which partitions resume.

use std::sync::Arc;

use tracing::{error, info};
use uuid::Uuid;

use super::{Action, Partitions};
use crate::assignment::Assignment;
use crate::config::{FetcherKind, OnCorrupt, OnOutOfRange};
use crate::connection::RequestError;
use crate::exchange::SourceEvent;
use crate::fetcher::{CorruptBatch, FetchFailure, FetchFault};
use crate::health::CorruptPartition;
use crate::lookup::LookupRequest;
use crate::membership::stop::StopReason;
use crate::reset::{DueOffset, ResetReason};

impl Partitions<'_> {
    /// Takes a fault of the fetcher. That the cluster is another one is the driver's to handle.
    pub(in super::super) fn handle_fault(&mut self, fault: FetchFault) {
        match fault {
            FetchFault::OutOfRange { due, error } => self.out_of_range(due, error),
            FetchFault::ResetNeeded { due, to, reason } => self.reset_needed(due, to, reason),
            FetchFault::Corrupt(batch) => self.corrupt(batch),
            FetchFault::BrokerTooOld(error) => self.use_librdkafka(&error),
            FetchFault::OtherCluster(_) => {}
        }
        self.is_changed = true;
    }

    fn out_of_range(&mut self, due: DueOffset, error: FetchFailure) {
        if !due.is_now() {
            return;
        }
        let (assignment, offset) = (&due.assignment, due.offset);
        error!(
            route = self.settings.route, topic = %assignment.topic(),
            partition = assignment.partition(), from = offset, reason = %error,
            "fetch offset out of range"
        );
        if self.settings.on_out_of_range == OnOutOfRange::Stop {
            let topic_partition = assignment.topic_partition.clone();
            return self.stop(StopReason::OutOfRange { topic_partition, offset, error });
        }
        self.reset_needed(due, None, ResetReason::OutOfRange);
    }

    /// Resumes at `to`, or at the earliest offset once that is known.
    fn reset_needed(&mut self, due: DueOffset, to: Option<i64>, reason: ResetReason) {
        if !due.is_now() {
            return;
        }
        let stops = self.settings.on_out_of_range == OnOutOfRange::Stop;
        match to {
            Some(to) if stops && reason == ResetReason::Truncated => {
                let topic_partition = due.assignment.topic_partition.clone();
                self.stop(StopReason::Truncated { topic_partition, offset: due.offset, to });
            }
            Some(to) => self.reset(&due, to, reason),
            None => self.look_up(LookupRequest::Earliest { due, reason }),
        }
    }

    pub(super) fn reset(&mut self, due: &DueOffset, to: i64, reason: ResetReason) {
        if !due.is_now() {
            return;
        }
        let (assignment, from) = (&due.assignment, due.offset);
        let skipped = count_skipped(assignment, from, to, reason);
        error!(
            route = self.settings.route, topic = %assignment.topic(),
            partition = assignment.partition(), from, to, skipped, "{}", reason.message()
        );
        // One that skips only what was skipped before is the same one, met again.
        self.memory.health.offset_resets += u64::from(to <= from || skipped > 0);
        self.memory.health.records_skipped += skipped;
        if reason == ResetReason::Recreated {
            // It is of the topic that is no more. Were the partition lost before the route has
            // heard of the reset, it would be kept for an offset of the present one.
            assignment.forget_committed();
            // From here on it is one of whatever topic has the name.
            assignment.set_topic_id(Uuid::nil());
        }
        let generation = assignment.reset_to(to, reason == ResetReason::Truncated);
        let event = SourceEvent::Reset { assignment: Arc::clone(assignment), generation, from };
        self.actions.push_back(Action::Publish(event));
        self.actions.push_back(Action::Seek(Arc::clone(assignment), generation));
    }

    /// A batch cannot be read for good: it is skipped, or its partition stands still.
    fn corrupt(&mut self, batch: CorruptBatch) {
        let CorruptBatch { due, next, error } = batch;
        let assignment = &due.assignment;
        let reason = match (self.settings.on_corrupt, next) {
            (OnCorrupt::Skip, Some(to)) => {
                self.actions.push_back(Action::Report(format!(
                    "{assignment}: {error}; going on at offset {to} (on_corrupt = \"skip\")"
                )));
                return self.reset_needed(due, Some(to), ResetReason::Corrupt);
            }
            (OnCorrupt::Skip, None) => format!(
                "{assignment}: {error}; the partition stands still, for where the batch ends \
                 cannot be told"
            ),
            (OnCorrupt::Stop, _) => {
                format!("{assignment}: {error}; the partition stands still (on_corrupt = \"stop\")")
            }
        };
        self.actions.push_back(Action::Report(reason.clone()));
        self.corrupt.retain(|known| !Arc::ptr_eq(&known.assignment, assignment));
        let (assignment, offset) = (Arc::clone(assignment), due.offset);
        self.corrupt.push(CorruptPartition { assignment, offset, reason });
    }

    /// Our own fetcher cannot be used: librdkafka takes over where it was. What is being revoked
    /// stays in the client's assignment until it is given back.
    fn use_librdkafka(&mut self, reason: &RequestError) {
        if self.fetcher == FetcherKind::Librdkafka {
            return;
        }
        info!(route = self.settings.route, %reason, "fetching by librdkafka");
        self.fetcher = FetcherKind::Librdkafka;
        let active = self.assignments.values().filter(|assignment| assignment.is_active());
        let active = active.cloned().collect();
        self.actions.push_back(Action::UseLibrdkafka(active));
    }

    /// Asks for the ids of the topics that librdkafka fetches by their names.
    pub(super) fn request_topic_ids(&mut self) {
        if self.fetcher != FetcherKind::Librdkafka || self.assignments.is_empty() {
            return;
        }
        let mut topics: Vec<String> =
            self.assignments.keys().map(|of| of.topic.to_string()).collect();
        topics.dedup();
        self.look_up(LookupRequest::TopicIds(topics));
    }

    /// Topics that are others than before are read from their starts.
    pub(super) fn update_topic_ids(&mut self, ids: Vec<(String, Uuid)>) {
        if self.fetcher != FetcherKind::Librdkafka {
            return;
        }
        for topic in self.topic_ids.update(ids) {
            let of_topic = self.assignments.iter().filter(|(of, _)| *of.topic == *topic);
            let due: Vec<DueOffset> =
                of_topic.map(|(_, assignment)| DueOffset::of(assignment)).collect();
            for due in due {
                self.reset_needed(due, None, ResetReason::Recreated);
            }
        }
    }
}

/// Returns how many records a reset skips that were not counted yet.
fn count_skipped(assignment: &Assignment, from: i64, to: i64, reason: ResetReason) -> u64 {
    let mut skipped = assignment.skipped();
    match reason {
        ResetReason::Recreated => skipped.forget_from(i64::MIN),
        // The log is another one from there on.
        _ if to < from => skipped.forget_from(to),
        _ => {}
    }
    skipped.count(from, to)
}
