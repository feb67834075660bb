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

/// Makes an event of what each sender sends.
macro_rules! from_senders {
    ($($sent:ident => $variant:ident),*) => {$(
        impl From<$sent> for MembershipEvent {
            fn from(sent: $sent) -> Self {
                Self::$variant(sent)
            }
        }
    )*};
}

from_senders! {
    RouteRequest => Route, LookupAnswer => Lookup, CommitDone => Commit, FetchFault => Fetch,
    GroupReply => Group, Panicked => Panicked
}
