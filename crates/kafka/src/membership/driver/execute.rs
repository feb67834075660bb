//! Executes the actions that the decisions call for.

use std::sync::Arc;
use std::time::Instant;

use rdkafka::consumer::Consumer;
use tokio::sync::mpsc::error::TrySendError;
use tracing::error;

use super::Driver;
use crate::client::ClientError;
use crate::exchange::{RevokeDone, SourceEvent};
use crate::membership::action::Action;
use crate::membership::partitions::Partitions;
use crate::membership::stop::StopReason;
use crate::native;

impl Driver<'_> {
    /// Executes the actions that are called for, then shows the health.
    pub(super) fn execute_all(&mut self, partitions: &mut Partitions<'_>) {
        while let Some(action) = partitions.poll_action() {
            self.execute(partitions, action);
        }
        if let Some(health) = partitions.poll_health() {
            self.env.health.set_membership(health);
        }
    }

    fn execute(&mut self, partitions: &mut Partitions<'_>, action: Action) {
        match action {
            Action::Subscribe(topics) => self.subscribe(&topics),
            Action::Add(assignments) => self.add(&assignments),
            Action::Remove(assignments) => self.remove(&assignments),
            Action::AssignNothing => self.assign_nothing(),
            Action::Seek(assignment, generation) => {
                let sought = self.fetcher.seek(&assignment, generation);
                let what = format!("{assignment}: resuming at {}", generation.start);
                self.report(&what, sought);
            }
            Action::Pause(assignment) => {
                let paused = self.fetcher.pause(&assignment);
                self.report(&format!("{assignment}: pausing"), paused);
            }
            Action::UseLibrdkafka(assignments) => {
                if let Err(reason) = self.use_librdkafka(&assignments) {
                    partitions.stop(StopReason::Fetcher(reason));
                }
            }
            // The thread ends before its sender only by a panic, which stops the route.
            Action::Lookup(request) => drop(self.lookups.send(request)),
            // As above.
            Action::Commit(request) => drop(self.commits.send(request)),
            Action::Publish(event) => self.publish(event),
            Action::Revoke { id, assignments } => {
                let done = RevokeDone::new(id, self.env.mailbox());
                self.publish(SourceEvent::Revoked { assignments, done });
            }
            Action::Report(reason) => self.client.context().report(&reason),
            Action::CheckMember => {
                let is_member = native::membership(&self.client).is_some();
                partitions.handle_member(is_member, Instant::now());
            }
            Action::CheckBackpressure => {
                let was_backpressured = self.env.health.was_backpressured();
                partitions.handle_backpressure(was_backpressured, Instant::now());
            }
            Action::Stop(reason) => {
                let reason = reason.to_string();
                error!(route = self.env.config.route, reason, "the Kafka side of the route stops");
                self.env.health.set_stopped(&reason);
                self.publish(SourceEvent::Stopped(reason));
            }
        }
    }

    fn subscribe(&self, topics: &[Arc<str>]) {
        if topics.is_empty() {
            return self.client.unsubscribe();
        }
        let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
        self.report("subscribing", self.client.subscribe(&topics).map_err(ClientError::from));
    }

    pub(super) fn report(&self, what: &str, outcome: Result<(), ClientError>) {
        if let Err(reason) = outcome {
            self.client.context().report(&format!("{what}: {reason}"));
        }
    }

    /// Sends to the route, now or as soon as there is room.
    fn publish(&mut self, event: SourceEvent) {
        self.lasting.events.push_back(event);
        self.flush_events();
    }

    pub(super) fn flush_events(&mut self) {
        while let Some(event) = self.lasting.events.pop_front() {
            if let Err(TrySendError::Full(event)) = self.env.events.try_send(event) {
                self.lasting.events.push_front(event);
                return;
            }
        }
    }
}
