//! The source of a route, for tests of the route alone.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use crate::assignment::{Assignment, Positions};
use crate::exchange::{RevokeDone, RouteRequest};
use crate::generation::Generation;
use crate::mailbox::Mailbox;
use crate::topic_partition::TopicPartition;

/// Makes an assignment that begins at `start`.
pub fn assignment(topic: &str, partition: i32, start: i64) -> Arc<Assignment> {
    Assignment::new(TopicPartition::new(topic, partition), start, None)
}

/// Keeps any more of it from being handed out.
pub fn set_revoking(assignment: &Assignment) {
    assignment.set_revoking();
}

/// It goes on elsewhere, for the log does not have what was due.
pub fn reset_to(assignment: &Assignment, to: i64, was_truncated: bool) -> Generation {
    assignment.reset_to(to, was_truncated)
}

/// Makes the answer to a revocation, and what comes of it.
pub fn revoke_done() -> (RevokeDone, Drained) {
    let (answer, answers) = channel();
    (RevokeDone::new(0, Mailbox::new(&answer)), Drained(answers))
}

/// A route's answer to a revocation.
#[derive(Debug)]
pub struct Drained(Receiver<RouteRequest>);

impl Drained {
    /// Returns what the route has delivered, once it has answered.
    pub fn take(&mut self) -> Option<Positions> {
        match self.0.try_recv() {
            Ok(RouteRequest::Drained { positions, .. }) => Some(positions),
            _ => None,
        }
    }
}
