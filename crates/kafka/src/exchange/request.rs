//! Requests of a route to its source.

use std::sync::Arc;

use crate::assignment::{Assignment, Positions};
use crate::generation::Generation;

#[derive(Debug)]
pub(crate) enum RouteRequest {
    /// Commit these positions.
    Commit(Positions),
    /// Commits of this partition may go below the last one, from here on.
    AllowRewind(Arc<Assignment>),
    /// Fetch this generation, which the route began.
    Restart(Arc<Assignment>, Generation),
    /// Fetch the partition no more until it is restarted.
    Pause(Arc<Assignment>),
    /// Revoked partitions are drained up to these positions.
    Drained { id: u64, positions: Positions },
    /// Commit these, leave the group, end.
    Close(Positions),
}

impl RouteRequest {
    /// Pauses a partition: it is fetched no more until it is restarted.
    pub(crate) fn pause(assignment: &Arc<Assignment>) -> Self {
        assignment.pause();
        Self::Pause(Arc::clone(assignment))
    }

    /// Begins a new generation of a partition, from `offset` on; `None` if `known` is not the
    /// newest.
    pub(crate) fn restart(
        assignment: &Arc<Assignment>,
        known: u32,
        offset: i64,
    ) -> Option<(Generation, Self)> {
        let generation = assignment.restart(known, offset)?;
        Some((generation, Self::Restart(Arc::clone(assignment), generation)))
    }
}
