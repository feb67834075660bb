//! The membership thread: it polls librdkafka without a pause, whatever the rest waits for, answers the group's
//! rebalances, and owns every assignment from its take-up to its release.

mod partitions;
mod session;
mod thread;

use std::sync::Arc;

use crate::assignment::{Assignment, Positions};
use crate::lookup::Begin;
use crate::topics::Listing;

pub(crate) use thread::{Starting, start};

/// What the membership thread is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Positions to commit.
    Commit(Positions),
    /// Commits of this partition may go below the last one, from here on.
    SetBack(Arc<Assignment>),
    /// Revoked partitions are drained up to these positions.
    Drained { id: u64, positions: Positions },
    /// A final commit is done, or given up.
    Committed { id: u64 },
    /// The log does not have the offset due.
    OutOfRange { assignment: Arc<Assignment>, from: i64, reason: String },
    /// Where such a partition goes on.
    ResetTo { assignment: Arc<Assignment>, from: i64, to: i64 },
    /// Topics were listed.
    Listed(Listing),
    /// Where partitions begin.
    TakenUp { id: u64, begins: Vec<Begin> },
    /// Commit these, leave the group, end.
    Close(Positions),
}
