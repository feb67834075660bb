//! Produce requests and their answers. A request is made of pieces, so that records are not copied.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ProduceResponse;
use std::sync::Arc;
use uuid::Uuid;

use super::super::partition::{Answer, Leader};
use super::Key;

/// Versions: from the first that flexible brokers share to the last whose fields we know.
pub(super) const VERSIONS: std::ops::RangeInclusive<i16> = 9..=13;
/// The last version that calls topics by their names.
const LAST_BY_NAME: i16 = 12;
/// Acknowledged once every replica in sync has the records.
const ACKS_ALL: i16 = -1;

/// The batch of one partition in a request.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) key: Key,
    /// Number of the request, by the partition's count.
    pub(super) number: u64,
    pub(super) topic: Arc<str>,
    /// Topic id; nil if brokers have none.
    pub(super) topic_id: Uuid,
    pub(super) partition: i32,
    pub(super) bytes: Bytes,
}

/// The version for items, given the broker's newest.
pub(super) fn version(items: &[Item], newest: i16) -> i16 {
    if items.iter().any(|item| item.topic_id.is_nil()) { newest.min(LAST_BY_NAME) } else { newest }
}

/// The body of a request. Items of one topic stand together.
pub(super) fn encode(items: &[Item], version: i16, timeout_ms: i32) -> Vec<Bytes> {
    let mut pieces = Vec::with_capacity(items.len() * 2 + 1);
    let mut text = BytesMut::with_capacity(64 + items.len() * 48);
    // No transaction.
    text.put_u8(0);
    text.put_i16(ACKS_ALL);
    text.put_i32(timeout_ms);
    let topics = || items.chunk_by(|a, b| a.topic == b.topic);
    put_length(topics().count(), &mut text);
    for topic in topics() {
        if let Some(first) = topic.first() {
            if version > LAST_BY_NAME {
                text.extend_from_slice(first.topic_id.as_bytes());
            } else {
                put_length(first.topic.len(), &mut text);
                text.extend_from_slice(first.topic.as_bytes());
            }
        }
        put_length(topic.len(), &mut text);
        for item in topic {
            text.put_i32(item.partition);
            put_length(item.bytes.len(), &mut text);
            pieces.push(text.split().freeze());
            pieces.push(item.bytes.clone());
            // No tagged fields, here and below.
            text.put_u8(0);
        }
        text.put_u8(0);
    }
    text.put_u8(0);
    pieces.push(text.freeze());
    pieces
}

/// A compact length: one more, in groups of seven bits.
fn put_length(length: usize, out: &mut BytesMut) {
    let mut rest = length + 1;
    while rest >= 0x80 {
        out.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// The answer on one item.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) answer: Answer,
    /// The new leader (KIP-951), if the answer names one.
    pub(super) leader: Option<Leader>,
}

/// The answers of the items, in their order, each with the partition and the number of its item;
/// none for one that the answer leaves out.
pub(super) fn read(
    response: &ProduceResponse,
    items: &[Item],
    version: i16,
) -> Vec<(Key, u64, Option<Answered>)> {
    let mut answers: Vec<_> = items.iter().map(|item| (item.key, item.number, None)).collect();
    // They come in the order of the request as a rule.
    let mut expected = 0;
    for topic in &response.responses {
        let is_of = |item: &Item| match version > LAST_BY_NAME {
            true => item.topic_id == topic.topic_id,
            false => *item.topic == **topic.name,
        };
        for partition in &topic.partition_responses {
            let fits = |item: &Item| item.partition == partition.index && is_of(item);
            let place = match items.get(expected) {
                Some(item) if fits(item) => Some(expected),
                _ => items.iter().position(fits),
            };
            let Some(place) = place else { continue };
            expected = place + 1;
            let leader = &partition.current_leader;
            let leader = Leader { broker: leader.leader_id.0, epoch: leader.leader_epoch };
            let answer = Answer {
                error: ResponseError::try_from_code(partition.error_code),
                message: partition.error_message.as_ref().map(|message| message.to_string()),
                base_offset: partition.base_offset,
                log_append_time: partition.log_append_time_ms,
                log_start: partition.log_start_offset,
            };
            let leader = Some(leader).filter(|leader| leader.broker >= 0 && leader.epoch >= 0);
            if let Some((.., answered)) = answers.get_mut(place) {
                *answered = Some(Answered { answer, leader });
            }
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::produce_response::{
        LeaderIdAndEpoch, PartitionProduceResponse, TopicProduceResponse,
    };
    use kafka_protocol::messages::{BrokerId, ProduceRequest, TopicName};
    use kafka_protocol::protocol::{Decodable, StrBytes};

    use super::*;

    fn item(topic: &str, id: u128, partition: i32, bytes: &'static [u8]) -> Item {
        Item {
            key: Key { topic: 0, partition: 0 },
            number: 0,
            topic: Arc::from(topic),
            topic_id: Uuid::from_u128(id),
            partition,
            bytes: Bytes::from_static(bytes),
        }
    }

    #[test]
    fn a_request_is_what_brokers_read() {
        let items =
            [item("a", 7, 3, b"first"), item("a", 7, 4, &[9; 300]), item("b", 8, 0, b"third")];
        for version in VERSIONS {
            let mut bytes = Bytes::from(encode(&items, version, 1500).concat());
            let request = ProduceRequest::decode(&mut bytes, version).unwrap();
            assert!(bytes.is_empty(), "v{version}");
            assert_eq!((request.acks, request.timeout_ms), (-1, 1500));
            assert_eq!(request.transactional_id, None);
            let mut read = Vec::new();
            for topic in &request.topic_data {
                for partition in &topic.partition_data {
                    let records = partition.records.clone().unwrap();
                    read.push((topic.name.to_string(), topic.topic_id, partition.index, records));
                }
            }
            let expected = items.iter().map(|item| {
                let by_name = version <= LAST_BY_NAME;
                let name = if by_name { item.topic.to_string() } else { String::new() };
                let id = if by_name { Uuid::nil() } else { item.topic_id };
                (name, id, item.partition, item.bytes.clone())
            });
            assert_eq!(read, expected.collect::<Vec<_>>(), "v{version}");
        }
    }

    #[test]
    fn topics_without_an_id_are_called_by_their_names() {
        let by_id = [item("a", 7, 3, b"")];
        let one_by_name = [item("a", 7, 3, b""), item("b", 0, 3, b"")];
        assert_eq!((version(&by_id, 13), version(&by_id, 10)), (13, 10));
        assert_eq!((version(&one_by_name, 13), version(&one_by_name, 9)), (12, 9));
    }

    #[test]
    fn an_answer_is_read_in_whatever_order() {
        let items = [item("a", 7, 3, b""), item("a", 7, 4, b""), item("b", 8, 0, b"")];
        let partition = |index: i32, error: i16, offset: i64| {
            PartitionProduceResponse::default()
                .with_index(index)
                .with_error_code(error)
                .with_base_offset(offset)
        };
        let moved = LeaderIdAndEpoch::default().with_leader_id(BrokerId(2)).with_leader_epoch(5);
        let name = |name: &'static str| TopicName(StrBytes::from_static_str(name));
        let response = ProduceResponse::default().with_responses(vec![
            TopicProduceResponse::default()
                .with_name(name("b"))
                .with_partition_responses(vec![partition(0, 6, -1).with_current_leader(moved)]),
            TopicProduceResponse::default()
                .with_name(name("a"))
                .with_partition_responses(vec![partition(9, 0, 1), partition(3, 0, 40)]),
        ]);
        let answers = read(&response, &items, 12).into_iter().map(|(.., one)| one);
        let answers: Vec<_> = answers.collect();
        let offsets: Vec<_> =
            answers.iter().map(|one| one.as_ref().map(|one| one.answer.base_offset)).collect();
        assert_eq!(offsets, [Some(40), None, Some(-1)]);
        let last = answers[2].as_ref().unwrap();
        assert_eq!(last.leader, Some(Leader { broker: 2, epoch: 5 }));
        assert_eq!(last.answer.error, Some(ResponseError::NotLeaderOrFollower));
    }
}
