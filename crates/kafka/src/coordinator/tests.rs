use std::sync::{Arc, OnceLock};

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::consumer_group_describe_response::{DescribedGroup, Member};
use kafka_protocol::messages::describe_groups_response::{
    DescribedGroup as ClassicGroup, DescribedGroupMember,
};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, BrokerId, ConsumerGroupDescribeResponse,
    DescribeGroupsResponse, FindCoordinatorResponse, JoinGroupResponse, ListGroupsResponse,
};

use super::*;
use crate::connection::tests::connector;
use crate::connection::tests::fake::{self, Asked};

/// A broker's knowledge of the group.
#[derive(Clone, Copy, Debug)]
struct Has {
    find: i16,
    /// The answer of the newer protocol: an error, and the id of a member.
    consumer: (i16, &'static str),
    /// The answer of the classic protocol: an error, the protocol's type, the assignor, and the id
    /// of a member.
    classic: (i16, [&'static str; 3]),
    /// A type that is listed.
    listed: &'static str,
    join: i16,
}

const NOTHING: Has = Has {
    find: 0,
    consumer: (NOT_FOUND, ""),
    classic: (NOT_FOUND, ["", "", ""]),
    listed: "",
    join: NOT_FOUND,
};
const NOT_FOUND: i16 = 69;
const UNKNOWN_MEMBER: i16 = 25;
const LOADING: i16 = 14;

fn answer(asked: &Asked, has: Has, port: u16) -> Vec<u8> {
    match asked.key {
        ApiKey::ApiVersions => {
            let keys = [
                (ApiKey::FindCoordinator, 6),
                (ApiKey::ConsumerGroupDescribe, 1),
                (ApiKey::DescribeGroups, 6),
                (ApiKey::ListGroups, 5),
                (ApiKey::JoinGroup, 9),
            ];
            let keys = keys.map(|(key, most)| {
                ApiVersion::default().with_api_key(key as i16).with_max_version(most)
            });
            asked.answer::<ApiVersionsRequest>(
                &ApiVersionsResponse::default().with_api_keys(keys.into()),
            )
        }
        ApiKey::FindCoordinator => asked.answer::<FindCoordinatorRequest>(
            &FindCoordinatorResponse::default()
                .with_error_code(has.find)
                .with_node_id(BrokerId(1))
                .with_host(text("127.0.0.1"))
                .with_port(port.into()),
        ),
        ApiKey::ConsumerGroupDescribe => {
            let (error, id) = has.consumer;
            let member = Member::default().with_member_id(text(id));
            let group = DescribedGroup::default().with_error_code(error).with_members(vec![member]);
            asked.answer::<ConsumerGroupDescribeRequest>(
                &ConsumerGroupDescribeResponse::default().with_groups(vec![group]),
            )
        }
        ApiKey::DescribeGroups => {
            let (error, [kind, assignor, id]) = has.classic;
            let member = DescribedGroupMember::default().with_member_id(text(id));
            let group = ClassicGroup::default()
                .with_error_code(error)
                .with_protocol_type(text(kind))
                .with_protocol_data(text(assignor))
                .with_members(if id.is_empty() { Vec::new() } else { vec![member] });
            asked.answer::<DescribeGroupsRequest>(
                &DescribeGroupsResponse::default().with_groups(vec![group]),
            )
        }
        ApiKey::ListGroups => {
            let group = ListedGroup::default().with_group_id(GroupId(text("g")));
            let other = ListedGroup::default().with_group_id(GroupId(text("other")));
            let groups = match has.listed {
                "" => vec![other],
                listed => vec![other, group.with_group_type(text(listed))],
            };
            asked.answer::<ListGroupsRequest>(&ListGroupsResponse::default().with_groups(groups))
        }
        ApiKey::JoinGroup => {
            let request = asked.read::<JoinGroupRequest>();
            assert_eq!((&*request.member_id, request.session_timeout_ms), (NOBODY, 45_000));
            asked
                .answer::<JoinGroupRequest>(&JoinGroupResponse::default().with_error_code(has.join))
        }
        key => panic!("{key:?} is not to be asked for"),
    }
}

async fn ask(
    has: Has,
    member: Option<&str>,
    protocol: Option<GroupProtocol>,
) -> Result<GroupAnswer, RequestError> {
    let port = Arc::new(OnceLock::new());
    let known = Arc::clone(&port);
    let address = fake::broker(move |asked| answer(asked, has, *known.wait())).await;
    port.set(address.rsplit_once(':').unwrap().1.parse().unwrap()).unwrap();
    let group = GroupConfig { id: "g".to_owned(), instance: None, protocol, session_timeout: None };
    Coordinator::new(connector(), vec![address], group).ask(member, protocol).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_coordinator_has_by_the_name_of_a_group() {
    use GroupProtocol::{Classic, Consumer};
    let group = |has_member| Some(GroupAnswer::Group { has_member });
    let refused = |refusal| Some(GroupAnswer::Refused(refusal));
    let kind = |kind: &str| refused(GroupRefusal::Kind(kind.to_owned()));
    let consumers = |id| Has { consumer: (0, id), ..NOTHING };
    let classic = |kind, assignor| Has {
        classic: (0, [kind, assignor, "m"]),
        join: UNKNOWN_MEMBER,
        ..NOTHING
    };
    let joining = |join| Has { join, ..classic("consumer", "range") };
    let listed = |listed| Has { listed, ..NOTHING };
    for (has, member, protocol, expected) in [
        (NOTHING, Some("m"), Consumer, Some(GroupAnswer::NoGroup)),
        (NOTHING, None, Classic, Some(GroupAnswer::NoGroup)),
        (consumers("m"), Some("m"), Consumer, group(true)),
        (consumers("n"), Some("m"), Consumer, group(false)),
        (classic("consumer", ASSIGNOR), Some("m"), Classic, group(true)),
        (classic("consumer", ASSIGNOR), Some("n"), Classic, group(false)),
        (classic("consumer", "range"), None, Classic, group(false)),
        (joining(23), None, Classic, refused(GroupRefusal::Assignor("range".to_owned()))),
        // A member does not ask if it could be one.
        (joining(23), Some("m"), Classic, group(true)),
        (joining(26), None, Classic, refused(GroupRefusal::SessionTimeout(SESSION_TIMEOUT))),
        (joining(81), None, Classic, refused(GroupRefusal::Full)),
        (classic("connect", "sessioned"), None, Classic, refused(GroupRefusal::Connect)),
        (classic("connect", "sessioned"), None, Consumer, refused(GroupRefusal::Connect)),
        (classic("sr", "v0"), None, Consumer, refused(GroupRefusal::ProtocolType("sr".to_owned()))),
        (listed("share"), None, Consumer, kind("share")),
        (listed("share"), Some("m"), Consumer, kind("share")),
        (listed("consumer"), Some("m"), Consumer, group(false)),
        (Has { find: 30, ..NOTHING }, None, Consumer, refused(GroupRefusal::NotAuthorized)),
        (
            Has { consumer: (30, ""), ..NOTHING },
            None,
            Consumer,
            refused(GroupRefusal::NotAuthorized),
        ),
        // Nothing is known.
        (Has { find: 15, ..NOTHING }, None, Consumer, None),
        (Has { consumer: (LOADING, ""), ..NOTHING }, Some("m"), Consumer, None),
        (Has { classic: (LOADING, ["", "", ""]), ..NOTHING }, Some("m"), Classic, None),
    ] {
        let answer = ask(has, member, Some(protocol)).await;
        assert_eq!(
            answer.clone().ok(),
            expected,
            "{has:?} as {member:?} by {protocol:?}: {answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_answer_says_nothing() {
    let group =
        GroupConfig { id: "g".to_owned(), instance: None, protocol: None, session_timeout: None };
    let mut coordinator = Coordinator::new(connector(), vec!["127.0.0.1:1".to_owned()], group);
    assert!(coordinator.ask(Some("m"), None).await.is_err());
}

#[test]
fn refusals_say_what_is_to_be_done() {
    for (refusal, text) in [
        (GroupRefusal::NotAuthorized, "not authorized to use it: Group authorization failed"),
        (GroupRefusal::ProtocolType("sr".to_owned()), "it is a group of the protocol type \"sr\""),
        (GroupRefusal::Kind("share".to_owned()), "it is a share group"),
        (
            GroupRefusal::Assignor("range".to_owned()),
            "its members have the assignor \"range\", and zafka's have \"cooperative-sticky\"",
        ),
        (
            GroupRefusal::SessionTimeout(SESSION_TIMEOUT),
            "its broker does not allow a session_timeout of 45s \
             (group.min.session.timeout.ms, group.max.session.timeout.ms)",
        ),
    ] {
        assert_eq!(refusal.to_string(), text);
    }
}
