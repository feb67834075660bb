//! Reasons why a group takes no member.

use std::time::Duration;

use super::ASSIGNOR;
use crate::reason::{Consequence, Reason};

/// The reason why a group takes no member of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GroupRefusal {
    /// The user may not use it.
    #[error("not authorized to use it: Group authorization failed")]
    NotAuthorized,
    /// Kafka Connect has it.
    #[error("it is a Connect group")]
    Connect,
    /// It is of the classic protocol, and not of consumers.
    #[error("it is a group of the protocol type \"{0}\"")]
    ProtocolType(String),
    /// It is of another kind, such as "share".
    #[error("it is a {0} group")]
    Kind(String),
    /// The broker has other limits for the session timeout.
    #[error(
        "its broker does not allow a session_timeout of {0:?} \
         (group.min.session.timeout.ms, group.max.session.timeout.ms)"
    )]
    SessionTimeout(Duration),
    /// Its members have this other assignor.
    #[error("its members have the assignor \"{0}\", and zafka's have \"{ASSIGNOR}\"")]
    Assignor(String),
    /// It has no room.
    #[error("it has as many members as its broker allows (group.max.size)")]
    Full,
}

impl Reason for GroupRefusal {
    /// A right or a place may come back, and until then a member may be one still. Anything else
    /// says that there is no group by this name that has our members.
    fn consequence(&self) -> Consequence {
        match self {
            Self::NotAuthorized | Self::Full => Consequence::Retry,
            Self::Connect
            | Self::ProtocolType(_)
            | Self::Kind(_)
            | Self::SessionTimeout(_)
            | Self::Assignor(_) => Consequence::Stop,
        }
    }
}
