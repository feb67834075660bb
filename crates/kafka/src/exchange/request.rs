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
