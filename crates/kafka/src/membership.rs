//! The membership thread: it polls librdkafka without a pause, whatever the rest waits for, answers
//! the group's rebalances, and owns every assignment from its start to its release.

mod absent;
mod driver;
mod group_check;
mod membership_check;
mod monitor;
mod partitions;
mod pending;
mod renewal;
mod stalls;
mod thread;
mod topic_ids;

use std::sync::Arc;

use crate::assignment::{Assignment, Positions};
use crate::coordinator::GroupAnswer;
use crate::generation::{DueOffset, Generation};
use crate::lookup::{StartPosition, Unresolved};
use crate::native::TopicId;
use crate::topics::Listing;

pub(crate) use monitor::Membership;
pub(crate) use thread::{MembershipThread, start};

/// Why a partition goes on at another offset than the one due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResetReason {
    /// The log does not have it: retention took it, or it lies past the end.
    OutOfRange,
    /// The log was truncated by an unclean leader election (KIP-320).
    Truncated,
    /// The topic is another one of the same name (KIP-516).
    Recreated,
    /// A batch cannot be read, and is skipped.
    Corrupt,
}

impl ResetReason {
    fn message(self) -> &'static str {
        match self {
            Self::OutOfRange => "fetch offset out of range; resuming at the earliest offset",
            Self::Truncated => "log truncated below fetch offset; resuming at the truncation point",
            Self::Corrupt => "corrupt batch; resuming after it",
            Self::Recreated => "topic recreated (new topic id); resuming from its start",
        }
    }
}

/// What the membership thread is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Positions to commit.
    Commit(Positions),
    /// Commits of this partition may go below the last one, from here on.
    AllowRewind(Arc<Assignment>),
    /// Revoked partitions are drained up to these positions.
    Drained { id: u64, positions: Positions },
    /// A final commit is done, or given up.
    Committed { id: u64 },
    /// The log does not have the offset due.
    OutOfRange { due: DueOffset, reason: String },
    /// The fetcher cannot go on at the offset due: it is to be `to`, or the earliest.
    ResetNeeded { due: DueOffset, to: Option<i64>, reason: ResetReason },
    /// Where such a partition goes on.
    ResetTo { due: DueOffset, to: i64, reason: ResetReason },
    /// The route begins this generation.
    Restart(Arc<Assignment>, Generation),
    /// A thread or a task of the source panicked; nobody does its work.
    Panicked(String),
    /// The route wants nothing of it until it is restarted.
    Pause(Arc<Assignment>),
    /// Brokers do not have the requests that the fast fetcher needs.
    BrokerTooOld(String),
    /// The ends of partitions that stand still.
    Ends(Vec<(Arc<Assignment>, i64)>),
    /// The ids of topics that librdkafka fetches.
    TopicIds(Vec<(String, TopicId)>),
    /// What the coordinator has by the group's name; asked for as that member.
    GroupAnswer { asked_as: Option<Membership>, answer: Result<GroupAnswer, String> },
    /// A broker is one of another cluster.
    OtherCluster(String),
    /// Topics were listed.
    Listed(Listing),
    /// Where partitions begin, and those of which it is not known yet.
    StartsResolved { id: u64, resolved: Vec<StartPosition>, unresolved: Vec<Unresolved> },
    /// Commit these, leave the group, end.
    Close(Positions),
}
