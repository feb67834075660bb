//! The thread that commits. A commit waits for the coordinator, so no other thread does it.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use tracing::debug;

use crate::assignment::{Assignment, Positions};
use crate::client::Client;
use crate::failing_commits::CommitError;
use crate::health::SourceHealth;
use crate::mailbox::Mailbox;
use crate::native;
use crate::reason::{Consequence, Reason};
use crate::topic_partition::TopicPartition;

/// Longest wait for one commit request.
const WAIT: Duration = Duration::from_secs(10);
/// Time between two tries.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A request to the commit thread.
#[derive(Debug)]
pub(crate) enum CommitRequest {
    /// Commit these; newer positions of the same partitions take their place.
    Commit(Positions),
    /// Commits of this may from now on be lower than before.
    AllowRewind(Arc<Assignment>),
    /// Commit these until the deadline, then answer with the id.
    Final { id: u64, positions: Positions, deadline: Instant },
}

/// A final commit is done, or given up.
#[derive(Debug)]
pub(crate) struct CommitDone {
    pub(crate) id: u64,
}

/// Runs until the request channel closes.
pub(crate) fn run(
    client: &Client,
    health: &SourceHealth,
    requests: &Receiver<CommitRequest>,
    answers: &Mailbox<CommitDone>,
) {
    let mut due = PendingCommits::default();
    let mut backoff = BACKOFF.0;
    loop {
        let request =
            if due.is_empty() { requests.recv().ok() } else { requests.recv_timeout(backoff).ok() };
        match request {
            None if due.is_empty() => return,
            None => {}
            Some(request) => due.add(request, answers),
        }
        while let Ok(request) = requests.try_recv() {
            due.add(request, answers);
        }
        let outcome = due.commit(client, health);
        due.answer(answers);
        backoff = if outcome { BACKOFF.0 } else { (backoff * 2).min(BACKOFF.1) };
    }
}

/// Positions to be committed: the newest of each partition.
#[derive(Default)]
struct PendingCommits {
    positions: BTreeMap<TopicPartition, (Arc<Assignment>, i64)>,
    finals: Vec<(u64, Vec<Arc<Assignment>>, Instant)>,
}

impl PendingCommits {
    fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    fn add(&mut self, request: CommitRequest, answers: &Mailbox<CommitDone>) {
        let (positions, last) = match request {
            CommitRequest::Commit(positions) => (positions, None),
            CommitRequest::AllowRewind(assignment) => {
                self.positions.retain(|_, (due, _)| !Arc::ptr_eq(due, &assignment));
                assignment.forget_committed();
                return;
            }
            CommitRequest::Final { id, positions, deadline } => (positions, Some((id, deadline))),
        };
        let mut wanted = Vec::new();
        for (assignment, offset) in positions {
            if assignment.may_commit()
                && assignment.committed().is_none_or(|committed| offset > committed)
            {
                wanted.push(Arc::clone(&assignment));
                let key = assignment.topic_partition.clone();
                self.positions.insert(key, (assignment, offset));
            }
        }
        if let Some((id, deadline)) = last {
            self.finals.push((id, wanted, deadline));
            self.answer(answers);
        }
    }

    /// Commits once. False if something is to be tried again.
    fn commit(&mut self, client: &Client, health: &SourceHealth) -> bool {
        self.positions.retain(|_, (assignment, _)| assignment.may_commit());
        let mut list = TopicPartitionList::with_capacity(self.positions.len());
        let mut epochs = Vec::with_capacity(self.positions.len());
        for (assignment, offset) in self.positions.values() {
            let added = list.add_partition_offset(
                assignment.topic(),
                assignment.partition(),
                Offset::Offset(*offset),
            );
            epochs.push(assignment.epochs().before(*offset));
            if let Err(error) = added {
                debug!(%error, %assignment, offset, "not an offset to commit");
            }
        }
        native::set_leader_epochs(&mut list, &epochs);
        if list.count() == 0 {
            self.positions.clear();
            return true;
        }
        let wait = self
            .finals
            .iter()
            .map(|(_, _, deadline)| deadline.saturating_duration_since(Instant::now()))
            .min();
        let result = native::commit(client, &list, wait.map_or(WAIT, |wait| wait.min(WAIT)));
        let (everything, failed) = match result {
            Ok(failed) => (None, failed),
            Err(code) => (Some(code), Vec::new()),
        };
        let (mut again, mut errors) = (BTreeMap::new(), Vec::new());
        let due = std::mem::take(&mut self.positions);
        for (topic_partition, (assignment, offset)) in &due {
            let own = failed.iter().find(|(failed, _)| failed == topic_partition);
            match everything.or(own.map(|(_, code)| *code)) {
                None | Some(RDKafkaErrorCode::NoError) => {
                    assignment.set_committed(*offset);
                    health.commit_done(assignment);
                }
                Some(code) => {
                    let (topic_partition, offset) = (topic_partition.clone(), *offset);
                    let error = CommitError { topic_partition, offset, code };
                    if error.consequence() == Consequence::Retry {
                        let position = (Arc::clone(assignment), offset);
                        again.insert(error.topic_partition.clone(), position);
                    }
                    health.commit_failed(assignment, error.clone());
                    errors.push(error);
                }
            }
        }
        let reasons = errors.iter().map(|error| (&error.topic_partition, error.to_string()));
        client.context().report_partitions("commit failed", reasons);
        self.positions = again;
        self.positions.is_empty()
    }

    /// Answers the final orders that are done or past their time.
    fn answer(&mut self, answers: &Mailbox<CommitDone>) {
        let now = Instant::now();
        let positions = &self.positions;
        self.finals.retain(|(id, assignments, deadline)| {
            let waits = assignments.iter().any(|assignment| {
                let due = positions.get(&assignment.topic_partition);
                due.is_some_and(|(due, _)| Arc::ptr_eq(due, assignment))
            });
            if waits && now < *deadline {
                return true;
            }
            answers.send(CommitDone { id: *id });
            false
        });
    }
}
