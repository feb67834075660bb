//! Events of a source's partitions, as the route receives them.

use std::sync::Arc;

use super::request::RouteRequest;
use crate::assignment::{Assignment, Positions};
use crate::generation::Generation;
use crate::mailbox::Mailbox;

/// An event of a source's partitions.
#[derive(Debug)]
pub enum SourceEvent {
    /// Partitions were assigned, and their starts are resolved.
    Assigned(Vec<Arc<Assignment>>),
    /// Partitions are to be given back: nothing more of them is handed out. `done` is to be
    /// completed once what was handed out is drained; after the route's `revoke_timeout` and a
    /// little they go without it.
    Revoked {
        /// The partitions.
        assignments: Vec<Arc<Assignment>>,
        /// The answer.
        done: RevokeDone,
    },
    /// Partitions are gone without being asked back: another member may hold them already. Nothing
    /// is committed.
    Lost(Vec<Arc<Assignment>>),
    /// The log no longer had the offset `from`: the assignment is read on from `generation.start`,
    /// below `from` if the log was truncated or the topic recreated. Records of the generation
    /// before may still wait to be received, and count as far as they lie below that start; nothing
    /// from there on is to be committed of them. If the start is lower than what was committed, so
    /// may commits be once [`Source::allow_rewind`](crate::Source::allow_rewind) is called.
    Reset {
        /// The partition.
        assignment: Arc<Assignment>,
        /// The generation that begins. Its first records, or word that there are none yet, follow
        /// in the record stream.
        generation: Generation,
        /// The offset that was due.
        from: i64,
    },
    /// The source cannot go on, and why. No records follow; commits are still taken, as far as the
    /// group lets them.
    Stopped(String),
}

/// The answer to [`SourceEvent::Revoked`]. Dropped, it completes with no positions.
#[derive(Debug)]
pub struct RevokeDone {
    id: u64,
    answer: Option<Mailbox<RouteRequest>>,
}

impl RevokeDone {
    pub(crate) fn new(id: u64, answer: Mailbox<RouteRequest>) -> Self {
        Self { id, answer: Some(answer) }
    }

    /// Lets the partitions go, after these positions are committed.
    pub fn complete(mut self, positions: Vec<(Arc<Assignment>, i64)>) {
        self.send(positions);
    }

    fn send(&mut self, positions: Positions) {
        if let Some(answer) = self.answer.take() {
            answer.send(RouteRequest::Drained { id: self.id, positions });
        }
    }
}

impl Drop for RevokeDone {
    fn drop(&mut self) {
        self.send(Vec::new());
    }
}
