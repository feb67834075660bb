//! The thread that commits. A commit waits for the coordinator, so no other thread does it.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

mod queue;
#[cfg(feature = "sim")]
pub(crate) mod sim;

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use tracing::debug;

use crate::assignment::{Assignment, Positions};
use crate::client::Client;
use crate::health::SourceHealth;
use crate::mailbox::Mailbox;
use crate::native;
use queue::{CommitQueue, DueCommit};

/// Longest wait for one commit request.
const WAIT: Duration = Duration::from_secs(10);

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
    let mut queue = CommitQueue::default();
    loop {
        let request = match queue.is_empty() {
            true => requests.recv().ok(),
            false => requests.recv_timeout(queue.backoff()).ok(),
        };
        match request {
            None if queue.is_empty() => return,
            None => {}
            Some(request) => queue.handle_request(request),
        }
        while let Ok(request) = requests.try_recv() {
            queue.handle_request(request);
        }
        let due = queue.poll_commit();
        if !due.is_empty() {
            commit(&mut queue, due, client, health);
        }
        while let Some(done) = queue.poll_done(Instant::now()) {
            answers.send(done);
        }
    }
}

/// Commits once.
fn commit(queue: &mut CommitQueue, due: Vec<DueCommit>, client: &Client, health: &SourceHealth) {
    let mut list = TopicPartitionList::with_capacity(due.len());
    let mut epochs = Vec::with_capacity(due.len());
    for DueCommit { assignment, offset, epoch } in &due {
        let added = list.add_partition_offset(
            assignment.topic(),
            assignment.partition(),
            Offset::Offset(*offset),
        );
        epochs.push(*epoch);
        if let Err(error) = added {
            debug!(%error, %assignment, offset, "not an offset to commit");
        }
    }
    native::set_leader_epochs(&mut list, &epochs);
    let wait = queue.deadline().map(|late| late.saturating_duration_since(Instant::now()));
    let result = native::commit(client, &list, wait.map_or(WAIT, |wait| wait.min(WAIT)));
    let (everything, failed) = match result {
        Ok(failed) => (None, failed),
        Err(code) => (Some(code), Vec::new()),
    };
    let code_of = |due: &DueCommit| {
        let own = failed.iter().find(|(failed, _)| *failed == due.assignment.topic_partition);
        everything.or(own.map(|(_, code)| *code))
    };
    let outcomes: Vec<_> = due.into_iter().map(|due| (due.clone(), code_of(&due))).collect();
    let errors = queue.handle_outcomes(&outcomes);
    let has_failed = |assignment: &Arc<Assignment>| {
        errors.iter().any(|(failed, _)| Arc::ptr_eq(failed, assignment))
    };
    for (due, _) in outcomes.iter().filter(|(due, _)| !has_failed(&due.assignment)) {
        health.commit_done(&due.assignment);
    }
    for (assignment, error) in &errors {
        health.commit_failed(assignment, error.clone());
    }
    let reasons = errors.iter().map(|(_, error)| (&error.topic_partition, error));
    client.context().report_partitions("commit failed", reasons);
}
