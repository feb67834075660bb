//! The client's assignment, by which the group is answered, whatever fetches.

use std::sync::Arc;

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use tracing::debug;

use super::{Driver, librdkafka};
use crate::assignment::Assignment;
use crate::client::ClientError;
use crate::config::FetcherKind;
use crate::fetcher::Fetcher;

impl Driver<'_> {
    /// Takes partitions into the assignment and fetches them. None of them: answers the group.
    pub(super) fn add(&mut self, assignments: &[Arc<Assignment>]) {
        let added = self.fetcher.add(assignments);
        self.report("adding partitions", added);
        if self.fetcher.kind() == FetcherKind::Fast && self.env.config.group.is_some() {
            self.report("adding partitions", self.hold(assignments));
        }
    }

    /// Has librdkafka hold partitions without fetching them. They are given to it at their end,
    /// since a pause alone comes too late for its first fetch.
    fn hold(&self, assignments: &[Arc<Assignment>]) -> Result<(), ClientError> {
        let mut list = TopicPartitionList::with_capacity(assignments.len());
        for assignment in assignments {
            list.add_partition_offset(assignment.topic(), assignment.partition(), Offset::End)?;
        }
        self.client.incremental_assign(&list)?;
        if assignments.is_empty() {
            return Ok(());
        }
        self.client.pause(&list)?;
        // The call succeeds also if it failed for some.
        list.elements().iter().try_for_each(|element| element.error())?;
        Ok(())
    }

    /// Fetches partitions no more and takes them out of the assignment, which is the answer to a
    /// revocation; so it is if they are none.
    pub(super) fn remove(&mut self, assignments: &[Arc<Assignment>]) {
        self.fetcher.remove(assignments);
        if self.env.config.group.is_some() {
            let removed = self.client.incremental_unassign(&list_of(assignments));
            self.report("removing partitions", removed.map_err(ClientError::from));
        }
    }

    pub(super) fn assign_nothing(&self) {
        if let Err(error) = self.client.incremental_assign(&TopicPartitionList::new()) {
            debug!(route = self.env.config.route, %error, "an assignment that is declined");
        }
    }

    /// Lets librdkafka fetch from now on.
    pub(super) fn use_librdkafka(
        &mut self,
        assignments: &[Arc<Assignment>],
    ) -> Result<(), ClientError> {
        if !assignments.is_empty() {
            self.remove(assignments);
        }
        let librdkafka = librdkafka(self.env, &self.client)?;
        self.fetcher.stop();
        self.fetcher = Fetcher::Librdkafka(librdkafka);
        self.fetcher.add(assignments)?;
        // They were paused.
        Ok(self.client.resume(&list_of(assignments))?)
    }
}

fn list_of(assignments: &[Arc<Assignment>]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(assignments.len());
    for assignment in assignments {
        list.add_partition(assignment.topic(), assignment.partition());
    }
    list
}
