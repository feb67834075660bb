//! Ranges of a partition, read without a group.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Duration;

use zafka_kafka::config::Isolation;
use zafka_kafka::read::{Range, RangeReader, ReadError};
use zafka_kafka::{Cluster, TopicPartition};
use zafka_testkit::{Sequence, unique};

use crate::offline::{cluster, nodes};

fn range(topic: &str, from: i64, to: Option<i64>) -> Range {
    Range {
        topic_partition: TopicPartition::new(topic, 0),
        topic_id: None,
        from,
        to,
        isolation: Isolation::ReadCommitted,
        timeout: Duration::from_secs(60),
    }
}

/// The offsets of the next records; `None` at the end.
async fn next(reader: &mut RangeReader) -> Result<Option<Vec<i64>>, ReadError> {
    let Some(mut records) = reader.next().await? else { return Ok(None) };
    let mut offsets = Vec::new();
    while !records.walk(|record| {
        offsets.push(record.offset);
        ControlFlow::Continue(())
    })? {}
    Ok(Some(offsets))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java and Maven"]
async fn a_range_over_segments_transactions_and_leaders() {
    crate::log();
    let nodes = nodes().await;
    let (admin, topic) = (nodes.admin(), unique("range"));
    // A few segments, of the least size that brokers take.
    admin.create_topic_on(&topic, &[vec![1, 2]], &[("segment.bytes", "1048576")]);
    let sequence = |count| Sequence { value_size: 1000, ..Sequence::new(&topic, count) };
    let mut expected = BTreeSet::new();
    for (count, transaction, is_committed) in [
        (4000, None, true),
        (500, Some("aborts"), false),
        (500, Some("commits"), true),
        (100, None, true),
    ] {
        let sequence = Sequence { transaction: transaction.map(str::to_owned), ..sequence(count) };
        transaction.inspect(|id| admin.begin(id));
        let produced = admin.produce_sequence(&sequence);
        match transaction {
            Some(id) if is_committed => admin.commit(id),
            Some(id) => admin.abort(id),
            None => {}
        }
        if is_committed {
            expected.extend(produced.into_iter().map(|produced| produced.offset));
        }
    }
    let cluster = Cluster::new(&cluster(&nodes)).unwrap();
    // One record's worth of credit is one run; then its leader goes.
    let mut reader = RangeReader::start(&cluster, range(&topic, 0, None), 1).unwrap();
    let mut offsets = next(&mut reader).await.unwrap().unwrap();
    assert!(offsets.len() < 4000, "credit holds the rest back");
    let to = if nodes.leader_of(&topic, 0) == Some(1) { 2 } else { 1 };
    admin.move_leader(&topic, 0, to);
    reader.set_credit(u64::MAX);
    while let Some(read) = next(&mut reader).await.unwrap() {
        offsets.extend(read);
    }
    assert_eq!(offsets, expected.iter().copied().collect::<Vec<_>>());
    // The markers of two transactions stand in the log too.
    assert_eq!(reader.position(), 5102);
    let topic_id = reader.topic_id();
    assert!(topic_id.is_some());

    let mut reader =
        RangeReader::start(&cluster, range(&topic, 3990, Some(4600)), 1 << 30).unwrap();
    let mut offsets = Vec::new();
    while let Some(read) = next(&mut reader).await.unwrap() {
        offsets.extend(read);
    }
    assert_eq!(offsets, expected.range(3990..4600).copied().collect::<Vec<_>>());
    assert_eq!(reader.position(), 4600);

    let error = async |range| {
        let mut reader = RangeReader::start(&cluster, range, 1 << 30).unwrap();
        loop {
            match next(&mut reader).await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the range ended"),
                Err(error) => return error,
            }
        }
    };
    admin.delete_records(&topic, 0, 100);
    let gone = error(range(&topic, 99, None)).await;
    assert!(matches!(gone, ReadError::OutOfRange { offset: 99, .. }), "{gone}");
    admin.delete_topic(&topic);
    admin.create_topic_on(&topic, &[vec![1, 2]], &[]);
    let recreated = error(Range { topic_id, ..range(&topic, 0, None) }).await;
    assert!(matches!(recreated, ReadError::Recreated { .. }), "{recreated}");
}
