//! Events: all that the membership thread receives, each kind from its sender.

use super::monitor::GroupReply;
use crate::commits::CommitDone;
use crate::exchange::RouteRequest;
use crate::fetcher::FetchFault;
use crate::guard::Panicked;
use crate::lookup::LookupAnswer;

#[derive(Debug)]
pub(crate) enum MembershipEvent {
    Route(RouteRequest),
    Lookup(LookupAnswer),
    Commit(CommitDone),
    Fetch(FetchFault),
    Group(GroupReply),
    Panicked(Panicked),
}

impl From<RouteRequest> for MembershipEvent {
    fn from(request: RouteRequest) -> Self {
        Self::Route(request)
    }
}

impl From<LookupAnswer> for MembershipEvent {
    fn from(answer: LookupAnswer) -> Self {
        Self::Lookup(answer)
    }
}

impl From<CommitDone> for MembershipEvent {
    fn from(done: CommitDone) -> Self {
        Self::Commit(done)
    }
}

impl From<FetchFault> for MembershipEvent {
    fn from(fault: FetchFault) -> Self {
        Self::Fetch(fault)
    }
}

impl From<GroupReply> for MembershipEvent {
    fn from(reply: GroupReply) -> Self {
        Self::Group(reply)
    }
}

impl From<Panicked> for MembershipEvent {
    fn from(panicked: Panicked) -> Self {
        Self::Panicked(panicked)
    }
}
