use bytes::BytesMut;
use kafka_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::describe_groups_response::DescribedGroupMember;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
    PartitionData, SnapshotId,
};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, BrokerId, ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    DescribeGroupsRequest, DescribeGroupsResponse, FetchRequest, FetchResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, GroupId, InitProducerIdRequest,
    InitProducerIdResponse, JoinGroupRequest, JoinGroupResponse, ListGroupsRequest,
    ListGroupsResponse, MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse,
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
    TopicName, consumer_group_describe_response, describe_groups_response, produce_response,
};
use kafka_protocol::protocol::{Encodable, StrBytes};
use proptest::prelude::*;

use super::*;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn tagged() -> std::collections::BTreeMap<i32, Bytes> {
    [(90, Bytes::from_static(b"of a later version"))].into()
}

fn api_versions(version: i16) -> ApiVersionsResponse {
    let keys = vec![ApiVersion::default().with_api_key(1).with_max_version(17); 3];
    let response = ApiVersionsResponse::default().with_api_keys(keys);
    if version < 3 {
        return response;
    }
    response
        .with_supported_features(vec![
            SupportedFeatureKey::default().with_name(text("kraft.version")),
        ])
        .with_finalized_features_epoch(7)
        .with_finalized_features(vec![
            FinalizedFeatureKey::default()
                .with_name(text("kraft.version"));
            2
        ])
        .with_zk_migration_ready(true)
        .with_unknown_tagged_fields(tagged())
}

fn fetch(version: i16) -> FetchResponse {
    let partition = PartitionData::default()
        .with_high_watermark(9)
        .with_aborted_transactions(Some(vec![
            AbortedTransaction::default().with_first_offset(3);
            2
        ]))
        .with_records(Some(Bytes::from_static(&[7; 300])))
        .with_diverging_epoch(EpochEndOffset::default().with_end_offset(5))
        .with_current_leader(LeaderIdAndEpoch::default().with_leader_epoch(2))
        .with_snapshot_id(SnapshotId::default().with_epoch(4))
        .with_unknown_tagged_fields(tagged());
    let bare = PartitionData::default().with_aborted_transactions(None).with_records(None);
    let topic = FetchableTopicResponse::default().with_partitions(vec![partition, bare]);
    let topic = if version == 12 { topic.with_topic(TopicName(text("orders"))) } else { topic };
    let endpoint = NodeEndpoint::default().with_host(text("b")).with_rack(Some(text("r")));
    let endpoints = if version >= 16 { vec![endpoint] } else { Vec::new() };
    FetchResponse::default()
        .with_session_id(3)
        .with_responses(vec![topic])
        .with_node_endpoints(endpoints)
}

fn metadata(_: i16) -> MetadataResponse {
    let partition = MetadataResponsePartition::default()
        .with_replica_nodes(vec![BrokerId(1), BrokerId(2)])
        .with_isr_nodes(vec![BrokerId(1)])
        .with_offline_replicas(vec![BrokerId(2)]);
    let topic = MetadataResponseTopic::default()
        .with_name(Some(TopicName(text("orders"))))
        .with_partitions(vec![partition; 3])
        .with_unknown_tagged_fields(tagged());
    let broker = MetadataResponseBroker::default().with_host(text("b")).with_rack(Some(text("r")));
    MetadataResponse::default()
        .with_brokers(vec![broker, MetadataResponseBroker::default()])
        .with_cluster_id(Some(text("c")))
        .with_topics(vec![topic])
}

fn handshake(_: i16) -> SaslHandshakeResponse {
    SaslHandshakeResponse::default().with_mechanisms(vec![text("PLAIN"), text("")])
}

fn authenticate(_: i16) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse::default().with_auth_bytes(Bytes::from_static(b"v="))
}

fn coordinator() -> FindCoordinatorResponse {
    FindCoordinatorResponse::default().with_host(text("b")).with_unknown_tagged_fields(tagged())
}

fn classic_groups() -> DescribeGroupsResponse {
    let member = DescribedGroupMember::default()
        .with_member_id(text("m"))
        .with_member_assignment(Bytes::from_static(b"orders"))
        .with_unknown_tagged_fields(tagged());
    let group = describe_groups_response::DescribedGroup::default()
        .with_protocol_type(text("consumer"))
        .with_protocol_data(text("range"))
        .with_members(vec![member; 3]);
    DescribeGroupsResponse::default().with_groups(vec![group; 2])
}

fn consumer_groups() -> ConsumerGroupDescribeResponse {
    let topic = consumer_group_describe_response::TopicPartitions::default()
        .with_topic_name(TopicName(text("orders")))
        .with_partitions(vec![1, 2]);
    let assignment = consumer_group_describe_response::Assignment::default()
        .with_topic_partitions(vec![topic; 2])
        .with_unknown_tagged_fields(tagged());
    let member = consumer_group_describe_response::Member::default()
        .with_member_id(text("m"))
        .with_subscribed_topic_names(vec![TopicName(text("orders")); 2])
        .with_assignment(assignment.clone())
        .with_target_assignment(assignment);
    let group = consumer_group_describe_response::DescribedGroup::default()
        .with_error_message(Some(text("none")))
        .with_assignor_name(text("uniform"))
        .with_members(vec![member; 3])
        .with_unknown_tagged_fields(tagged());
    ConsumerGroupDescribeResponse::default().with_groups(vec![group; 2])
}

fn listed_groups() -> ListGroupsResponse {
    let group =
        ListedGroup::default().with_group_id(GroupId(text("g"))).with_group_type(text("share"));
    ListGroupsResponse::default().with_groups(vec![group; 3])
}

fn joined() -> JoinGroupResponse {
    let member = JoinGroupResponseMember::default().with_member_id(text("m"));
    JoinGroupResponse::default().with_leader(text("l")).with_members(vec![member; 2])
}

fn configurations() -> DescribeConfigsResponse {
    let synonym = DescribeConfigsSynonym::default().with_name(text("a")).with_value(None);
    let config = DescribeConfigsResourceResult::default()
        .with_name(text("min.insync.replicas"))
        .with_value(Some(text("2")))
        .with_synonyms(vec![synonym; 2])
        .with_documentation(Some(text("d")))
        .with_unknown_tagged_fields(tagged());
    let result = DescribeConfigsResult::default()
        .with_error_message(Some(text("none")))
        .with_resource_name(text("orders"))
        .with_configs(vec![config; 2]);
    DescribeConfigsResponse::default().with_results(vec![result; 3])
}

fn produced(version: i16) -> ProduceResponse {
    let error = produce_response::BatchIndexAndErrorMessage::default()
        .with_batch_index_error_message(Some(text("no key")));
    let bare = produce_response::PartitionProduceResponse::default();
    let mut partition = bare
        .clone()
        .with_record_errors(vec![error; 2])
        .with_error_message(Some(text("no keys")))
        .with_unknown_tagged_fields(tagged());
    let mut endpoints = Vec::new();
    if version >= 10 {
        let leader = produce_response::LeaderIdAndEpoch::default().with_leader_epoch(2);
        partition = partition.with_current_leader(leader);
        endpoints.push(produce_response::NodeEndpoint::default().with_host(text("b")));
    }
    let topic = produce_response::TopicProduceResponse::default()
        .with_partition_responses(vec![partition, bare]);
    let topic = if version < 13 { topic.with_name(TopicName(text("orders"))) } else { topic };
    ProduceResponse::default().with_responses(vec![topic; 2]).with_node_endpoints(endpoints)
}

fn encoded(response: &impl Encodable, version: i16) -> Bytes {
    let mut bytes = BytesMut::new();
    response.encode(&mut bytes, version).unwrap();
    bytes.freeze()
}

/// Each answer of each version, and what decodes it.
type Decode = fn(&mut Bytes, i16) -> Result<(), AnswerError>;
fn every_answer() -> Vec<(i16, i16, Bytes, Decode)> {
    fn decoded<R: Request>(body: &mut Bytes, version: i16) -> Result<(), AnswerError> {
        decode::<R>(body, version).map(drop)
    }
    let mut all: Vec<(i16, i16, Bytes, Decode)> = Vec::new();
    for version in [0, 3] {
        let body = encoded(&api_versions(version), version);
        all.push((ApiVersionsRequest::KEY, version, body, decoded::<ApiVersionsRequest>));
    }
    for version in 9..=13 {
        let body = encoded(&metadata(version), version);
        all.push((MetadataRequest::KEY, version, body, decoded::<MetadataRequest>));
    }
    for version in 12..=17 {
        let body = encoded(&fetch(version), version);
        all.push((FetchRequest::KEY, version, body, decoded::<FetchRequest>));
    }
    for version in 9..=13 {
        let body = encoded(&produced(version), version);
        all.push((ProduceRequest::KEY, version, body, decoded::<ProduceRequest>));
    }
    for version in 2..=4 {
        let id = InitProducerIdResponse::default().with_unknown_tagged_fields(tagged());
        let body = encoded(&id, version);
        all.push((InitProducerIdRequest::KEY, version, body, decoded::<InitProducerIdRequest>));
    }
    let body = encoded(&handshake(1), 1);
    all.push((SaslHandshakeRequest::KEY, 1, body, decoded::<SaslHandshakeRequest>));
    for version in 0..=2 {
        let body = encoded(&authenticate(version), version);
        all.push((SaslAuthenticateRequest::KEY, version, body, decoded::<SaslAuthenticateRequest>));
    }
    all.push((
        FindCoordinatorRequest::KEY,
        3,
        encoded(&coordinator(), 3),
        decoded::<FindCoordinatorRequest>,
    ));
    for version in 5..=6 {
        let body = encoded(&classic_groups(), version);
        all.push((DescribeGroupsRequest::KEY, version, body, decoded::<DescribeGroupsRequest>));
    }
    for version in 0..=1 {
        let body = encoded(&consumer_groups(), version);
        all.push((
            ConsumerGroupDescribeRequest::KEY,
            version,
            body,
            decoded::<ConsumerGroupDescribeRequest>,
        ));
    }
    all.push((
        ListGroupsRequest::KEY,
        5,
        encoded(&listed_groups(), 5),
        decoded::<ListGroupsRequest>,
    ));
    let body = encoded(&configurations(), 4);
    all.push((DescribeConfigsRequest::KEY, 4, body, decoded::<DescribeConfigsRequest>));
    for version in 7..=8 {
        let body = encoded(&joined(), version);
        all.push((JoinGroupRequest::KEY, version, body, decoded::<JoinGroupRequest>));
    }
    all
}

/// The layouts are those of `kafka-protocol`, to the last byte.
#[test]
fn layouts_are_walked_to_their_ends() {
    for (key, version, body, decoded) in every_answer() {
        let layout = layout(key, version).unwrap();
        if !layout.is_empty() {
            let mut left = &*body;
            walk(&mut left, layout).unwrap();
            assert!(left.is_empty(), "{key} v{version}: {} bytes left", left.len());
        }
        decoded(&mut body.clone(), version).unwrap();
    }
}

#[test]
fn more_entries_than_there_is_room_for_are_refused_before_memory_is_taken() {
    // Arrays of a classic, a compact and a tagged kind.
    let many = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let [metadata, fetch, endpoints, versions] = [&[0; 4][..], &[0; 10], &[0; 10], &[0; 6]];
    for (error, told) in [
        (
            decode::<ApiVersionsRequest>(&mut Bytes::from_static(b"\0\0\x7f\xff\xff\xff"), 0).err(),
            2147483647,
        ),
        (
            decode::<SaslHandshakeRequest>(&mut Bytes::from_static(b"\0\0\x7f\xff\xff\xff"), 1)
                .err(),
            2147483647,
        ),
        (decode::<MetadataRequest>(&mut [metadata, &many].concat().into(), 12).err(), 4294967294),
        (decode::<FetchRequest>(&mut [fetch, &many].concat().into(), 17).err(), 4294967294),
        (
            decode::<FetchRequest>(&mut [endpoints, &[1, 1, 0, 6], &many].concat().into(), 17)
                .err(),
            4294967294,
        ),
        (
            decode::<ApiVersionsRequest>(
                &mut [&versions[..2], &[1], &versions[..4], &[1, 2, 6], &many].concat().into(),
                3,
            )
            .err(),
            4294967294,
        ),
    ] {
        assert_eq!(error, Some(AnswerError::Count { count: told, bytes: 0 }));
    }
}

#[test]
fn answers_that_cannot_be() {
    for (body, expected) in [
        (&b""[..], AnswerError::Short),
        (b"\0\0\0\0\0", AnswerError::Short),
        (b"\0\0\xff\xff\xff\xfe", AnswerError::Negative(-2)),
        (b"\0\0\0\0\0\x01\xff\xfe", AnswerError::Negative(-2)),
        (b"\0\0\0\0\0\x01\0\x05abc", AnswerError::Short),
    ] {
        let mut body = Bytes::from_static(body);
        assert_eq!(decode::<SaslHandshakeRequest>(&mut body, 1).unwrap_err(), expected);
    }
    // A tagged field whose size is not that of what is in it.
    let mut body = Bytes::from_static(&[0, 0, 1, 0, 0, 0, 0, 1, 1, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        decode::<ApiVersionsRequest>(&mut body, 3).unwrap_err(),
        AnswerError::Tag { tag: 1, size: 7 }
    );
    let error = decode::<ProduceRequest>(&mut Bytes::new(), 8).unwrap_err();
    assert_eq!(error, AnswerError::Layout { key: 0, version: 8 });
    assert!(matches!(
        decode::<FetchRequest>(&mut Bytes::new(), 11),
        Err(AnswerError::Layout { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Changes an answer in any way, and asserts that it is decoded or refused. (An array's size
    /// unchecked would abort the test.)
    #[test]
    fn a_changed_answer_is_no_harm(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec(
            (any::<prop::sample::Index>(), prop_oneof![Just(0xff), Just(0x7f), any::<u8>()]),
            1..8,
        ),
        length in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let all = every_answer();
        let (_, version, body, decoded) = which.get(&all);
        let mut body = body.to_vec();
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if cut {
            body.truncate(length.index(body.len()));
        }
        let _ = decoded(&mut body.into(), *version);
    }
}
