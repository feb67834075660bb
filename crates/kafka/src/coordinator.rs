//! Asks a group's coordinator what it has by the name of the group, over connections of our own:
//! librdkafka does not report that a membership is gone, nor why it gets none. Nothing is changed
//! by asking.

mod reason;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{
    ApiKey, ConsumerGroupDescribeRequest, DescribeGroupsRequest, FindCoordinatorRequest, GroupId,
    JoinGroupRequest, ListGroupsRequest,
};
use kafka_protocol::protocol::StrBytes;
use tokio::time::timeout;

use crate::config::{GroupConfig, GroupProtocol};
use crate::connection::{AnswerError, Connection, Connector, RequestError};
pub(crate) use reason::GroupRefusal;

/// Longest time for asking, in all.
const WAIT: Duration = Duration::from_secs(15);
/// The largest answer that is read: a group may have many members, and a coordinator many groups.
const LIMIT: usize = 16 << 20;
/// The assignor of our members of the classic protocol.
pub(crate) const ASSIGNOR: &str = "cooperative-sticky";
/// The session timeout of the classic protocol, unless another one is set.
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_secs(45);
/// No member has this id.
const NOBODY: &str = "zafka-asks";
/// A subscription to nothing, as members of the classic protocol send it (version 0).
const NO_SUBSCRIPTION: &[u8] = &[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];

/// The coordinator's knowledge of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GroupAnswer {
    /// No group that it knows.
    NoGroup,
    /// A group that takes consumers, with the member that was asked for or without.
    Group { has_member: bool },
    /// The reason why a member is refused.
    Refused(GroupRefusal),
}

/// Asks for one group.
pub(crate) struct Coordinator {
    connector: Arc<Connector>,
    servers: Vec<String>,
    turn: usize,
    group: GroupConfig,
}

impl Coordinator {
    pub(crate) fn new(connector: Arc<Connector>, servers: Vec<String>, group: GroupConfig) -> Self {
        Self { connector, servers, turn: 0, group }
    }

    /// Asks for the coordinator's knowledge of the group. `member` is the id of a member, if there
    /// is one; `protocol` that by which it joins, or whichever the group's members have.
    ///
    /// # Errors
    /// Why it is not known; the next call asks another server for the coordinator.
    pub(crate) async fn ask(
        &mut self,
        member: Option<&str>,
        protocol: Option<GroupProtocol>,
    ) -> Result<GroupAnswer, RequestError> {
        let server =
            self.servers.get(self.turn % self.servers.len().max(1)).cloned().unwrap_or_default();
        let answer = timeout(WAIT, self.answer(&server, member, protocol)).await;
        let answer = answer
            .unwrap_or(Err(RequestError::Silent { broker: server, api: ApiKey::DescribeGroups }));
        if answer.is_err() {
            self.turn = self.turn.wrapping_add(1);
        }
        answer
    }

    async fn answer(
        &self,
        server: &str,
        member: Option<&str>,
        protocol: Option<GroupProtocol>,
    ) -> Result<GroupAnswer, RequestError> {
        let mut asked = match self.find(self.connector.connect(server).await?).await? {
            FoundCoordinator::At(address) => self.connector.connect(&address).await?,
            FoundCoordinator::Refused(refusal) => return Ok(GroupAnswer::Refused(refusal)),
        };
        if let Some(answer) = self.consumer_group(&mut asked, member).await? {
            return Ok(answer);
        }
        let (answer, assignor) = match self.classic_group(&mut asked, member).await? {
            Some(described) => described,
            None => (self.other_kind(&mut asked).await?, String::new()),
        };
        let joins_by_classic = match protocol {
            Some(protocol) => protocol == GroupProtocol::Classic,
            None => !assignor.is_empty(),
        };
        if joins_by_classic && member.is_none() && !matches!(answer, GroupAnswer::Refused(_)) {
            let refusal = self.would_refuse(&mut asked, assignor).await?;
            return Ok(refusal.map_or(answer, GroupAnswer::Refused));
        }
        Ok(answer)
    }

    async fn find(&self, mut asked: Connection) -> Result<FoundCoordinator, RequestError> {
        let version = asked.needed_version(ApiKey::FindCoordinator, 3..=3)?;
        let request = FindCoordinatorRequest::default().with_key(text(&self.group.id));
        let answer = asked.ask(&request, version, LIMIT).await?;
        match ResponseError::try_from_code(answer.error_code) {
            None => Ok(FoundCoordinator::At(address(&answer.host, answer.port))),
            Some(ResponseError::GroupAuthorizationFailed) => {
                Ok(FoundCoordinator::Refused(GroupRefusal::NotAuthorized))
            }
            Some(error) => Err(refused(&asked, ApiKey::FindCoordinator, error)),
        }
    }

    /// Describes it as a group of the newer protocol; `None` if it is none.
    async fn consumer_group(
        &self,
        asked: &mut Connection,
        member: Option<&str>,
    ) -> Result<Option<GroupAnswer>, RequestError> {
        let Ok(version) = asked.needed_version(ApiKey::ConsumerGroupDescribe, 0..=1) else {
            return Ok(None);
        };
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![self.id()]);
        let answer = asked.ask(&request, version, LIMIT).await?;
        let group = answer.groups.into_iter().next().ok_or_else(|| no_group(asked))?;
        match ResponseError::try_from_code(group.error_code) {
            None => {
                let has_member =
                    group.members.iter().any(|found| Some(&*found.member_id) == member);
                Ok(Some(GroupAnswer::Group { has_member }))
            }
            Some(ResponseError::GroupIdNotFound | ResponseError::UnsupportedVersion) => Ok(None),
            Some(ResponseError::GroupAuthorizationFailed) => {
                Ok(Some(GroupAnswer::Refused(GroupRefusal::NotAuthorized)))
            }
            Some(error) => Err(refused(asked, ApiKey::ConsumerGroupDescribe, error)),
        }
    }

    /// Describes it as a group of the classic protocol, with its assignor; `None` if it is none.
    async fn classic_group(
        &self,
        asked: &mut Connection,
        member: Option<&str>,
    ) -> Result<Option<(GroupAnswer, String)>, RequestError> {
        let version = asked.needed_version(ApiKey::DescribeGroups, 5..=6)?;
        let request = DescribeGroupsRequest::default().with_groups(vec![self.id()]);
        let answer = asked.ask(&request, version, LIMIT).await?;
        let group = answer.groups.into_iter().next().ok_or_else(|| no_group(asked))?;
        match ResponseError::try_from_code(group.error_code) {
            None if *group.group_state == *"Dead" => Ok(None),
            None if group.members.is_empty() => {
                Ok(Some((GroupAnswer::Group { has_member: false }, String::new())))
            }
            None => {
                let has_member =
                    group.members.iter().any(|found| Some(&*found.member_id) == member);
                let answer = match &*group.protocol_type {
                    "consumer" => GroupAnswer::Group { has_member },
                    "connect" => GroupAnswer::Refused(GroupRefusal::Connect),
                    other => GroupAnswer::Refused(GroupRefusal::ProtocolType(other.to_owned())),
                };
                Ok(Some((answer, group.protocol_data.to_string())))
            }
            Some(ResponseError::GroupIdNotFound) => Ok(None),
            Some(ResponseError::GroupAuthorizationFailed) => {
                Ok(Some((GroupAnswer::Refused(GroupRefusal::NotAuthorized), String::new())))
            }
            Some(error) => Err(refused(asked, ApiKey::DescribeGroups, error)),
        }
    }

    /// Neither: of which kind it is.
    async fn other_kind(&self, asked: &mut Connection) -> Result<GroupAnswer, RequestError> {
        // An older broker has no other kinds.
        let Ok(version) = asked.needed_version(ApiKey::ListGroups, 5..=5) else {
            return Ok(GroupAnswer::NoGroup);
        };
        let answer = asked.ask(&ListGroupsRequest::default(), version, LIMIT).await?;
        if let Some(error) = ResponseError::try_from_code(answer.error_code) {
            return Err(refused(asked, ApiKey::ListGroups, error));
        }
        let group = answer.groups.into_iter().find(|group| *group.group_id.0 == *self.group.id);
        Ok(match group {
            // One of the kinds that were asked for has just begun.
            Some(group) if matches!(&*group.group_type, "consumer" | "classic") => {
                GroupAnswer::Group { has_member: false }
            }
            Some(group) => GroupAnswer::Refused(GroupRefusal::Kind(group.group_type.to_string())),
            None => GroupAnswer::NoGroup,
        })
    }

    /// Returns the reason why the group takes no member with our assignor and session timeout, if
    /// it does not. Asked for a member that there is none of: that is refused last, and changes
    /// nothing.
    async fn would_refuse(
        &self,
        asked: &mut Connection,
        assignor: String,
    ) -> Result<Option<GroupRefusal>, RequestError> {
        let version = asked.needed_version(ApiKey::JoinGroup, 7..=8)?;
        let session_timeout = self.group.session_timeout.unwrap_or(SESSION_TIMEOUT);
        let millis = i32::try_from(session_timeout.as_millis()).unwrap_or(i32::MAX);
        let ours = JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str(ASSIGNOR))
            .with_metadata(Bytes::from_static(NO_SUBSCRIPTION));
        let request = JoinGroupRequest::default()
            .with_group_id(self.id())
            .with_member_id(StrBytes::from_static_str(NOBODY))
            .with_session_timeout_ms(millis)
            .with_rebalance_timeout_ms(millis)
            .with_protocol_type(StrBytes::from_static_str("consumer"))
            .with_protocols(vec![ours]);
        let answer = asked.ask(&request, version, LIMIT).await?;
        Ok(match ResponseError::try_from_code(answer.error_code) {
            Some(ResponseError::InvalidSessionTimeout) => {
                Some(GroupRefusal::SessionTimeout(session_timeout))
            }
            Some(ResponseError::InconsistentGroupProtocol) => {
                Some(GroupRefusal::Assignor(assignor))
            }
            Some(ResponseError::GroupMaxSizeReached) => Some(GroupRefusal::Full),
            Some(ResponseError::GroupAuthorizationFailed) => Some(GroupRefusal::NotAuthorized),
            _ => None,
        })
    }

    fn id(&self) -> GroupId {
        GroupId(text(&self.group.id))
    }
}

enum FoundCoordinator {
    At(String),
    Refused(GroupRefusal),
}

fn refused(asked: &Connection, api: ApiKey, error: ResponseError) -> RequestError {
    RequestError::Refused { broker: asked.address().to_owned(), api, error }
}

fn no_group(asked: &Connection) -> RequestError {
    RequestError::Answer { broker: asked.address().to_owned(), error: AnswerError::Lacking }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn address(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
