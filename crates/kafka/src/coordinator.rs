//! Asks a group's coordinator what it has by the name of the group, over connections of our own:
//! librdkafka does not tell of a membership that is gone, nor why it gets none. Nothing is changed
//! by asking.

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
use crate::connection::{Connection, Connector};

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
/// A subscription to nothing, as members of the classic protocol tell it (version 0).
const NO_SUBSCRIPTION: &[u8] = &[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];

/// The coordinator's knowledge of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GroupAnswer {
    /// Nothing.
    NoGroup,
    /// A group that takes consumers, with the member that was asked for or without.
    Group { has_member: bool },
    /// The reason why a member is refused.
    Refused(String),
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
    ) -> Result<GroupAnswer, String> {
        let server =
            self.servers.get(self.turn % self.servers.len().max(1)).cloned().unwrap_or_default();
        let answer = timeout(WAIT, self.answer(&server, member, protocol)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("{server}: no answer for the group")));
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
    ) -> Result<GroupAnswer, String> {
        let connection = self.connector.connect(server).await.map_err(|error| error.to_string())?;
        let (mut connection, address) = match self.find(connection).await? {
            FoundCoordinator::At(address) => (self.connect(&address).await?, address),
            FoundCoordinator::Refused(reason) => return Ok(GroupAnswer::Refused(reason)),
        };
        let told = |error: String| format!("{address}: {error}");
        if let Some(answer) = self.consumer_group(&mut connection, member).await.map_err(told)? {
            return Ok(answer);
        }
        let described = self.classic_group(&mut connection, member).await.map_err(told)?;
        let (answer, assignor) = match described {
            Some(described) => described,
            None => (self.other_kind(&mut connection).await.map_err(told)?, String::new()),
        };
        let joins_by_classic = match protocol {
            Some(protocol) => protocol == GroupProtocol::Classic,
            None => !assignor.is_empty(),
        };
        if joins_by_classic && member.is_none() && !matches!(answer, GroupAnswer::Refused(_)) {
            let refusal = self.would_refuse(&mut connection, &assignor).await.map_err(told)?;
            return Ok(refusal.map_or(answer, GroupAnswer::Refused));
        }
        Ok(answer)
    }

    async fn connect(&self, address: &str) -> Result<Connection, String> {
        self.connector.connect(address).await.map_err(|error| error.to_string())
    }

    async fn find(&self, mut connection: Connection) -> Result<FoundCoordinator, String> {
        let version = speaks(&connection, ApiKey::FindCoordinator, 3, 3)?;
        let request = FindCoordinatorRequest::default().with_key(text(&self.group.id));
        let answer =
            connection.ask(&request, version, LIMIT).await.map_err(|error| error.to_string())?;
        match ResponseError::try_from_code(answer.error_code) {
            None => Ok(FoundCoordinator::At(address(&answer.host, answer.port))),
            Some(ResponseError::GroupAuthorizationFailed) => {
                Ok(FoundCoordinator::Refused(NOT_AUTHORIZED.to_owned()))
            }
            Some(error) => Err(format!("FindCoordinator: {error}")),
        }
    }

    /// As a group of the newer protocol; `None` if it is none.
    async fn consumer_group(
        &self,
        connection: &mut Connection,
        member: Option<&str>,
    ) -> Result<Option<GroupAnswer>, String> {
        let Ok(version) = speaks(connection, ApiKey::ConsumerGroupDescribe, 0, 1) else {
            return Ok(None);
        };
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![self.id()]);
        let answer =
            connection.ask(&request, version, LIMIT).await.map_err(|error| error.to_string())?;
        let group = answer.groups.into_iter().next().ok_or("no group in the answer")?;
        match ResponseError::try_from_code(group.error_code) {
            None => {
                let has_member =
                    group.members.iter().any(|found| Some(&*found.member_id) == member);
                Ok(Some(GroupAnswer::Group { has_member }))
            }
            Some(ResponseError::GroupIdNotFound | ResponseError::UnsupportedVersion) => Ok(None),
            Some(ResponseError::GroupAuthorizationFailed) => {
                Ok(Some(GroupAnswer::Refused(NOT_AUTHORIZED.to_owned())))
            }
            Some(error) => Err(format!("ConsumerGroupDescribe: {error}")),
        }
    }

    /// As a group of the classic protocol, with its assignor; `None` if it is none.
    async fn classic_group(
        &self,
        connection: &mut Connection,
        member: Option<&str>,
    ) -> Result<Option<(GroupAnswer, String)>, String> {
        let version = speaks(connection, ApiKey::DescribeGroups, 5, 6)?;
        let request = DescribeGroupsRequest::default().with_groups(vec![self.id()]);
        let answer =
            connection.ask(&request, version, LIMIT).await.map_err(|error| error.to_string())?;
        let group = answer.groups.into_iter().next().ok_or("no group in the answer")?;
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
                    "connect" => GroupAnswer::Refused("it is a Connect group".to_owned()),
                    other => GroupAnswer::Refused(format!(
                        "it is a group of the protocol type \"{other}\""
                    )),
                };
                Ok(Some((answer, group.protocol_data.to_string())))
            }
            Some(ResponseError::GroupIdNotFound) => Ok(None),
            Some(ResponseError::GroupAuthorizationFailed) => {
                Ok(Some((GroupAnswer::Refused(NOT_AUTHORIZED.to_owned()), String::new())))
            }
            Some(error) => Err(format!("DescribeGroups: {error}")),
        }
    }

    /// Neither: of which kind it is.
    async fn other_kind(&self, connection: &mut Connection) -> Result<GroupAnswer, String> {
        // An older broker has no other kinds.
        let Ok(version) = speaks(connection, ApiKey::ListGroups, 5, 5) else {
            return Ok(GroupAnswer::NoGroup);
        };
        let answer = connection.ask(&ListGroupsRequest::default(), version, LIMIT).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if let Some(error) = ResponseError::try_from_code(answer.error_code) {
            return Err(format!("ListGroups: {error}"));
        }
        let group = answer.groups.into_iter().find(|group| *group.group_id.0 == *self.group.id);
        Ok(match group {
            // One of the kinds that were asked for has just begun.
            Some(group) if matches!(&*group.group_type, "consumer" | "classic") => {
                GroupAnswer::Group { has_member: false }
            }
            Some(group) => GroupAnswer::Refused(format!("it is a {} group", group.group_type)),
            None => GroupAnswer::NoGroup,
        })
    }

    /// Returns the reason why the group takes no member with our assignor and session timeout, if
    /// it does not. Asked for a member that there is none of: that is refused last, and changes
    /// nothing.
    async fn would_refuse(
        &self,
        connection: &mut Connection,
        assignor: &str,
    ) -> Result<Option<String>, String> {
        let version = speaks(connection, ApiKey::JoinGroup, 7, 8)?;
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
        let answer =
            connection.ask(&request, version, LIMIT).await.map_err(|error| error.to_string())?;
        Ok(match ResponseError::try_from_code(answer.error_code) {
            Some(ResponseError::InvalidSessionTimeout) => Some(format!(
                "its broker does not allow a session_timeout of {session_timeout:?} \
                 (group.min.session.timeout.ms, group.max.session.timeout.ms)"
            )),
            Some(ResponseError::InconsistentGroupProtocol) => Some(format!(
                "its members have the assignor \"{assignor}\", and zafka's have \"{ASSIGNOR}\""
            )),
            Some(ResponseError::GroupMaxSizeReached) => {
                Some("it has as many members as its broker allows (group.max.size)".to_owned())
            }
            Some(ResponseError::GroupAuthorizationFailed) => Some(NOT_AUTHORIZED.to_owned()),
            _ => None,
        })
    }

    fn id(&self) -> GroupId {
        GroupId(text(&self.group.id))
    }
}

enum FoundCoordinator {
    At(String),
    Refused(String),
}

pub(crate) const NOT_AUTHORIZED: &str = "not authorized to use it: Group authorization failed";

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn address(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn speaks(connection: &Connection, key: ApiKey, least: i16, most: i16) -> Result<i16, String> {
    connection
        .version(key, least..=most)
        .ok_or_else(|| format!("too old for our own {key:?} requests"))
}

#[cfg(test)]
mod tests;
