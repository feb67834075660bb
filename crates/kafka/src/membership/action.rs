//! The actions that the partitions' decisions call for. The driver executes them in their order.

use std::sync::Arc;

use super::stop::StopReason;
use crate::assignment::Assignment;
use crate::commits::CommitRequest;
use crate::exchange::SourceEvent;
use crate::generation::Generation;
use crate::lookup::LookupRequest;

#[derive(Debug)]
pub(super) enum Action {
    /// Subscribe to these topics, or to none.
    Subscribe(Vec<Arc<str>>),
    /// Take partitions into the client's assignment and fetch them from their positions. None of
    /// them: answers the group.
    Add(Vec<Arc<Assignment>>),
    /// Fetch partitions no more and take them out of the client's assignment, which answers a
    /// revocation; so it does if they are none.
    Remove(Vec<Arc<Assignment>>),
    /// Answer an assignment without taking any of it.
    AssignNothing,
    /// Fetch this generation in place of the one before.
    Seek(Arc<Assignment>, Generation),
    /// Fetch a partition no more until a generation of it begins.
    Pause(Arc<Assignment>),
    /// Let librdkafka fetch, and these partitions from their positions.
    UseLibrdkafka(Vec<Arc<Assignment>>),
    Lookup(LookupRequest),
    Commit(CommitRequest),
    /// Send the route an event.
    Publish(SourceEvent),
    /// Announce revoked partitions to the route; its answer has this id.
    Revoke {
        id: u64,
        assignments: Vec<Arc<Assignment>>,
    },
    /// Report an error.
    Report(String),
    /// Look whether the group has this member, and say so.
    CheckMember,
    /// Look whether the route takes less than there is, and say so.
    CheckBackpressure,
    /// Stop the route: nothing is fetched any more.
    Stop(StopReason),
}
