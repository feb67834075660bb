//! The membership thread: it polls librdkafka without a pause, whatever the rest waits for, answers
//! the group's rebalances, and owns every assignment from its take-up to its release.

mod absent;
mod group_watch;
mod joining;
mod lives;
mod partitions;
mod renewal;
mod session;
mod standing;
mod take_up;
mod thread;
mod watch;

use std::sync::Arc;

use crate::assignment::{Assignment, Positions};
use crate::coordinator::Standing;
use crate::generation::{Due, Generation};
use crate::lookup::{Begin, Open};
use crate::native::TopicId;
use crate::topics::Listing;

pub(crate) use standing::Membership;
pub(crate) use thread::{Starting, start};

/// Why a partition goes on at another offset than the one due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reset {
    /// The log does not have it: retention took it, or it lies past the end.
    OutOfRange,
    /// The log was cut by an unclean leader election (KIP-320).
    Truncated,
    /// The topic is another one of the same name (KIP-516).
    MadeAnew,
    /// A batch cannot be read, and is skipped.
    Corrupt,
}

impl Reset {
    fn told(self) -> &'static str {
        match self {
            Self::OutOfRange => "the log does not have the offset due: going on at the earliest",
            Self::Truncated => "the log was cut before the offset due: going on where it was cut",
            Self::Corrupt => "a batch that cannot be read: going on behind it",
            Self::MadeAnew => "the topic was deleted and made again: going on at its start",
        }
    }
}

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
    OutOfRange { due: Due, reason: String },
    /// The fetcher cannot go on at the offset due: it is to be `to`, or the earliest.
    Elsewhere { due: Due, to: Option<i64>, why: Reset },
    /// Where such a partition goes on.
    ResetTo { due: Due, to: i64, why: Reset },
    /// The route begins this generation.
    Restart(Arc<Assignment>, Generation),
    /// A thread or a task of the source panicked; nobody does its work.
    Broke(String),
    /// The route wants nothing of it until it is restarted.
    Hold(Arc<Assignment>),
    /// Brokers do not have the requests that the fast fetcher needs.
    TooOld(String),
    /// The ends of partitions that stand still.
    Ends(Vec<(Arc<Assignment>, i64)>),
    /// The ids of topics that librdkafka fetches.
    TopicIds(Vec<(String, TopicId)>),
    /// What the coordinator has by the group's name; asked for as that member.
    Standing { asked_as: Option<Membership>, answer: Result<Standing, String> },
    /// A broker is one of another cluster.
    OtherCluster(String),
    /// Topics were listed.
    Listed(Listing),
    /// Where partitions begin, and those of which it is not known yet.
    TakenUp { id: u64, begins: Vec<Begin>, open: Vec<Open> },
    /// Commit these, leave the group, end.
    Close(Positions),
}
