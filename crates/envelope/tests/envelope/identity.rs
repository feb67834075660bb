//! Encode, then decode, is the identity for json, packed and batch; other lists restore what they
//! carry.

use proptest::collection::vec;
use proptest::prelude::*;
use zafka_envelope::{FramePlan, OwnedHeader, OwnedRecord, Preset, Timestamp};

use crate::vectors::decode;
use crate::wire::{Message, encode, frames, split};

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => vec(any::<u8>(), 0..40),
        8 => any::<String>().prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 240..300),
        1 => (60_000usize..300_000, any::<u8>()).prop_map(|(size, byte)| vec![byte; size]),
    ]
}

fn small() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..12), any::<String>().prop_map(String::into_bytes)]
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        Just(Timestamp::None),
        // -1 is how Kafka and the envelope say none.
        any::<i64>().prop_filter("a time", |ms| *ms != -1).prop_map(Timestamp::Create),
        any::<i64>().prop_map(Timestamp::LogAppend),
    ]
}

fn record() -> impl Strategy<Value = OwnedRecord> {
    let header = (small(), proptest::option::of(small()))
        .prop_map(|(name, value)| OwnedHeader { name, value });
    let offset = prop_oneof![0..100i64, 0..=i64::MAX];
    let prev = proptest::option::of(prop_oneof![0..100i64, 0..=i64::MAX]);
    let bytes = || proptest::option::of(bytes());
    (offset, prev, timestamp(), bytes(), bytes(), vec(header, 0..5)).prop_map(
        |(offset, prev, timestamp, key, value, headers)| OwnedRecord {
            topic: None,
            partition: 0,
            offset,
            timestamp,
            prev,
            key,
            value,
            headers,
        },
    )
}

fn topic() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9._-]{1,249}",
        any::<String>().prop_filter("a topic's size", |topic| topic.len() <= 249)
    ]
}

/// The records of one partition.
fn records() -> impl Strategy<Value = Vec<OwnedRecord>> {
    (topic(), any::<i32>(), vec(record(), 1..8)).prop_map(|(topic, partition, mut records)| {
        for record in &mut records {
            record.topic = Some(topic.clone());
            record.partition = partition;
        }
        records
    })
}

/// Records as they follow each other in a partition: numbers that change little, fields that come
/// and go.
fn followers() -> impl Strategy<Value = Vec<OwnedRecord>> {
    let start = prop_oneof![0..100i64, 990..1000i64, 0..i64::MAX / 2];
    let step =
        (1..4i64, prop_oneof![8 => 0..30i64, 1 => -2000..2000i64], any::<[bool; 4]>(), 0..9u8);
    (topic(), start, any::<bool>(), vec(step, 1..60)).prop_map(
        |(topic, start, log_append, steps)| {
            let (mut offset, mut ms, mut prev) = (start, start, None);
            let follower = |(by, later, [no_key, no_value, no_prev, headers], rare): (
                i64,
                i64,
                [bool; 4],
                u8,
            )| {
                let text = |absent: bool| (!(absent && rare == 0)).then(|| b"text".to_vec());
                let header = OwnedHeader { name: b"n".to_vec(), value: None };
                ms += later;
                let timestamp = match (rare, log_append) {
                    (1, _) => Timestamp::None,
                    (2, _) | (_, true) => Timestamp::LogAppend(ms),
                    _ if ms == -1 => Timestamp::None,
                    _ => Timestamp::Create(ms),
                };
                let record = OwnedRecord {
                    topic: Some(topic.clone()),
                    partition: 7,
                    offset,
                    timestamp,
                    prev: prev.filter(|_| !(no_prev && rare == 3)),
                    key: text(no_key),
                    value: text(no_value),
                    headers: if headers && rare == 4 { vec![header] } else { Vec::new() },
                };
                prev = Some(offset);
                offset += by;
                record
            };
            steps.into_iter().map(follower).collect()
        },
    )
}

fn encoded(plan: &FramePlan, records: &[OwnedRecord]) -> Vec<Message> {
    let topic = records[0].topic.as_deref().unwrap_or_default();
    let headers: Vec<_> = records.iter().map(OwnedRecord::borrow_headers).collect();
    let borrowed: Vec<_> = records.iter().zip(&headers).map(|(r, h)| r.as_record(h)).collect();
    split(&encode(&mut plan.encoder("route", topic, records[0].partition), &borrowed))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn presets_restore_the_records(records in records()) {
        for preset in [Preset::Json, Preset::Packed, Preset::Batch] {
            let messages = encoded(&FramePlan::preset(preset), &records);
            let mut decoded = Vec::new();
            for message in &messages {
                decoded.extend(decode(preset, message).unwrap().unwrap());
            }
            prop_assert_eq!(&decoded, &records, "{}", preset);
        }
    }

    #[test]
    fn what_went_before_leaves_no_trace(records in followers()) {
        for preset in [Preset::Json, Preset::Packed] {
            let plan = FramePlan::preset(preset);
            let each = records.iter().map(std::slice::from_ref);
            let alone = each.flat_map(|record| encoded(&plan, record));
            prop_assert_eq!(encoded(&plan, &records), alone.collect::<Vec<_>>(), "{}", preset);
        }
    }

    #[test]
    fn lists_restore_what_they_carry(records in records()) {
        let plan = FramePlan::parse(&[
            "{value}", "{offset:u64be}", "{key}", "{timestamp}", "{partition:u32le}/{topic}",
            "{offset:u32le}",
        ]).unwrap();
        let messages = encoded(&plan, &records);
        prop_assert_eq!(messages.len(), records.len());
        for (message, record) in messages.iter().zip(&records) {
            let [value, offset, key, timestamp, place, low] = frames(message).try_into().unwrap();
            prop_assert_eq!(value, record.value.as_deref().unwrap_or_default());
            prop_assert_eq!(offset, record.offset.to_be_bytes());
            prop_assert_eq!(key, record.key.as_deref().unwrap_or_default());
            let ms = match record.timestamp {
                Timestamp::None => -1,
                Timestamp::Create(ms) | Timestamp::LogAppend(ms) => ms,
            };
            prop_assert_eq!(timestamp.to_vec(), ms.to_string().into_bytes());
            prop_assert_eq!(&place[..4], record.partition.to_le_bytes());
            prop_assert_eq!(&place[5..], record.topic.as_deref().unwrap().as_bytes());
            prop_assert_eq!(low, (record.offset as u32).to_le_bytes());
        }
    }

    #[test]
    fn meta_is_what_a_json_parser_reads(records in records()) {
        for message in encoded(&FramePlan::default(), &records) {
            let meta: serde_json::Value = serde_json::from_slice(&message[1]).unwrap();
            prop_assert_eq!(meta["topic"].as_str(), records[0].topic.as_deref());
            prop_assert_eq!(meta["topic"].as_str().unwrap().as_bytes(), &message[0]);
        }
    }
}
