//! The builder's batches are those that Java writes, and that the walk reads.

use bytes::BytesMut;
use proptest::prelude::*;
use zafka_envelope::{OwnedRecord, Timestamp};

use super::super::{BatchBuilder, Codec, Draft, NewRecord, ProducerId};
use super::build::{header, read};
use super::java::vectors;

const CODECS: [Option<Codec>; 5] =
    [None, Some(Codec::Gzip), Some(Codec::Snappy), Some(Codec::Lz4), Some(Codec::Zstd)];

/// The draft of records as they are to be read.
fn draft(records: &[OwnedRecord], codec: Option<Codec>) -> Draft {
    let mut builder = BatchBuilder::new(BytesMut::new());
    for one in records {
        let Timestamp::Create(timestamp) = one.timestamp else { panic!("{:?}", one.timestamp) };
        let headers = one.headers.iter();
        let headers: Vec<_> = headers
            .map(|one| (std::str::from_utf8(&one.name).unwrap(), one.value.as_deref()))
            .collect();
        let record = NewRecord {
            timestamp,
            key: one.key.as_deref(),
            value: one.value.as_deref(),
            headers: &headers,
        };
        let before = builder.size();
        builder.push(&record);
        assert!(builder.size() - before <= record.size_limit(), "{one:?}");
    }
    builder.finish(codec).0
}

/// The records of [`vectors`], at the offsets that a draft has.
fn of_java(large: bool) -> Vec<OwnedRecord> {
    let value = b"0123456789".repeat(if large { 4000 } else { 2 });
    let record = |offset: i64, after: i64, key: Option<&[u8]>, value: Option<&[u8]>| OwnedRecord {
        topic: None,
        partition: 0,
        offset,
        timestamp: Timestamp::Create(1_700_000_000_000 + after),
        prev: None,
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        headers: Vec::new(),
    };
    let mut records = vec![
        record(0, 0, Some(b"key"), Some(&value)),
        record(1, 5, None, Some(b"")),
        record(2, 3, Some(b""), None),
    ];
    records[0].headers = vec![header(b"a", Some(b"1")), header(b"a", None), header(b"", Some(b""))];
    records
}

#[test]
fn what_is_built_is_byte_for_byte_what_java_writes() {
    let mut seen = 0;
    for (magic, codec, what, mut java) in vectors() {
        if (magic, what) != ("2", "create") {
            continue;
        }
        let place = ["none", "gzip", "snappy", "lz4", "zstd"].iter().position(|one| *one == codec);
        let place = place.unwrap();
        let ours = draft(&of_java(place > 0), CODECS[place]).seal(ProducerId::NONE, -1);
        // The broker's: it gives the offset.
        java[..8].fill(0);
        if place == 0 {
            assert_eq!(ours, java);
        } else {
            // Compressors differ in their bytes, not in what they are read as.
            let [ours, java] = [&ours[..], &java[..]].map(read);
            assert_eq!((&ours.records, &ours.error), (&java.records, &None), "{codec}");
        }
        seen += 1;
    }
    assert_eq!(seen, 5);
}

#[test]
fn a_seal_changes_the_producer_and_nothing_else() {
    let records = of_java(false);
    let sealed = draft(&records, None).seal(ProducerId { id: 0x0102_0304, epoch: 5 }, 77);
    assert_eq!(sealed[43..57], [0, 0, 0, 0, 1, 2, 3, 4, 0, 5, 0, 0, 0, 77]);
    let again = Draft::of_sealed(&sealed);
    assert_eq!(again.count(), 3);
    let again = again.seal(ProducerId { id: 9, epoch: 0 }, 0);
    assert_eq!(read(&again).records, records);
    assert_eq!(read(&sealed).records, records, "sealed bytes stay as they are");
    assert_eq!(read(&sealed).error, None);
}

#[test]
fn records_of_numbers_alone_are_read() {
    let mut records = vec![of_java(false)[2].clone(); 300];
    for (offset, record) in records.iter_mut().enumerate() {
        record.offset = offset as i64;
        // The time is a number of up to ten bytes.
        record.timestamp = Timestamp::Create(if offset % 3 == 0 { i64::MAX - 1 } else { 7 });
        record.key = (offset % 5 == 4).then(Vec::new);
        record.value = None;
        record.headers = vec![header(b"", None); offset % 7 % 3];
    }
    let sealed = draft(&records, None).seal(ProducerId::NONE, -1);
    assert_eq!(read(&sealed).records, records);
}

#[test]
fn values_alone_are_written_as_any_record_up_to_a_size() {
    let values: Vec<Vec<u8>> =
        [0, 1, 63, 64, 100, 8191, 8192, 3, 1_100_000, 5].map(|size| vec![size as u8; size]).into();
    for most in [0, 97, 98, 99, 5_000, 20_000, 1_118_000, usize::MAX] {
        let mut one_by_one = BatchBuilder::new(BytesMut::new());
        let mut at_once = BatchBuilder::new(BytesMut::new());
        let first = NewRecord { key: Some(b"k"), ..NewRecord::of_value(7, b"") };
        one_by_one.push(&first);
        at_once.push(&first);
        let mut expected = 0;
        for value in &values {
            let record = NewRecord::of_value(1_000_000, value);
            if one_by_one.size() + record.size_limit() > most {
                break;
            }
            one_by_one.push(&record);
            one_by_one.sum_up();
            expected += 1;
        }
        let mut left = values.iter();
        let next = |room| left.next().map(|value| &**value).filter(|value| value.len() <= room);
        assert_eq!(at_once.push_values(1_000_000, most, next), expected, "{most}");
        assert_eq!(at_once.size(), one_by_one.size());
        let made = [one_by_one, at_once]
            .map(|builder| builder.finish(None).0.seal(ProducerId { id: 5, epoch: 1 }, 9));
        assert!(made[0] == made[1], "{most}");
        let read = read(&made[1]);
        assert_eq!((read.records.len(), read.error), (expected + 1, None));
    }
}

#[test]
fn the_checksum_is_that_of_the_whole_whenever_it_was_summed_up() {
    for codec in [None, Some(Codec::Zstd)] {
        for every in [1, 7, 1000] {
            let mut builder = BatchBuilder::new(BytesMut::new());
            for number in 0..2_000 {
                let value = format!("{number:0>40}");
                builder.push(&NewRecord::of_value(number, value.as_bytes()));
                if number % every == 0 {
                    builder.sum_up();
                }
            }
            let sealed = builder.finish(codec).0.seal(ProducerId { id: 5, epoch: 1 }, 9);
            assert_eq!(sealed[17..21], crc32c::crc32c(&sealed[21..]).to_be_bytes(), "{every}");
            let again = Draft::of_sealed(&sealed).seal(ProducerId { id: 6, epoch: 0 }, 0);
            assert_eq!(again[17..21], crc32c::crc32c(&again[21..]).to_be_bytes());
        }
    }
}

#[test]
fn what_compression_does_not_make_smaller_is_written_as_it_is() {
    let mut records = of_java(false);
    records[0].value = Some((0..200_u8).map(|at| at.wrapping_mul(89) ^ at >> 3).collect());
    for codec in CODECS {
        let sealed = draft(&records[..1], codec).seal(ProducerId::NONE, -1);
        assert_eq!(read(&sealed).records, records[..1], "{codec:?}");
        assert_eq!(sealed[22], 0, "{codec:?}");
    }
}

fn any_record() -> impl Strategy<Value = OwnedRecord> {
    let bytes = |size| proptest::option::of(proptest::collection::vec(any::<u8>(), 0..size));
    let headers = proptest::collection::vec(("[a-zé]{0,3}", bytes(4)), 0..4);
    let timestamp = prop_oneof![4 => 0..3_000_000_000_000_i64, 1 => 0..i64::MAX];
    (timestamp, bytes(200), bytes(20_000), headers).prop_map(|(timestamp, key, value, headers)| {
        let headers = headers.iter();
        OwnedRecord {
            topic: None,
            partition: 0,
            offset: 0,
            timestamp: Timestamp::Create(timestamp),
            prev: None,
            key,
            value,
            headers: headers
                .map(|(name, value)| header(name.as_bytes(), value.as_deref()))
                .collect(),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_built_is_read(
        mut records in proptest::collection::vec(any_record(), 1..20),
        codec in 0..CODECS.len(),
        id in any::<i64>(),
        epoch in any::<i16>(),
        sequence in any::<i32>(),
    ) {
        for (offset, record) in records.iter_mut().enumerate() {
            record.offset = offset as i64;
        }
        let draft = draft(&records, CODECS[codec]);
        prop_assert_eq!(draft.count() as usize, records.len());
        let sealed = draft.seal(ProducerId { id, epoch }, sequence);
        let outcome = read(&sealed);
        prop_assert_eq!(outcome.error, None);
        prop_assert_eq!(outcome.next_offset, Some(records.len() as i64));
        prop_assert_eq!(outcome.records, records);
    }
}
