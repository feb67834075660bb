//! Batches that are right.

use bytes::BytesMut;
use kafka_protocol::records as theirs;
use zafka_envelope::{OwnedRecord, Timestamp};

use super::super::header::Outline;
use super::super::{RUN_BYTES, outline};
use super::build::{
    Batch, Outcome, batch, compress, header, read, read_from, read_stepwise, record, records,
};

/// Keys, values and headers that Kafka allows, as far as the other encoder can write them.
fn samples() -> Vec<OwnedRecord> {
    let mut all = records(100..110);
    all[1].key = None;
    all[2].value = None;
    all[3].key = Some(vec![]);
    all[3].value = Some(vec![]);
    all[4].headers = vec![header(b"a", Some(b"1")), header(b"null", None), header(b"", Some(b""))];
    all[5].timestamp = Timestamp::Create(0);
    all[6].timestamp = Timestamp::Create(1_700_000_000_000);
    all[7].value = Some((0..300_000_u32).map(|n| (n.wrapping_mul(n) >> 3) as u8).collect());
    all[8].key = Some(vec![b'k'; 200]);
    // Compaction takes records out.
    all.remove(0);
    all
}

fn encode_theirs(records: &[OwnedRecord], compression: theirs::Compression) -> Vec<u8> {
    let records: Vec<theirs::Record> = records
        .iter()
        .map(|record| theirs::Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 5,
            producer_id: -1,
            producer_epoch: -1,
            timestamp_type: theirs::TimestampType::Creation,
            offset: record.offset,
            sequence: record.offset as i32,
            timestamp: match record.timestamp {
                Timestamp::Create(timestamp) => timestamp,
                _ => -1,
            },
            key: record.key.clone().map(Into::into),
            value: record.value.clone().map(Into::into),
            headers: record
                .headers
                .iter()
                .map(|header| {
                    let name = String::from_utf8(header.name.clone()).unwrap();
                    (name.into(), header.value.clone().map(Into::into))
                })
                .collect(),
        })
        .collect();
    let mut out = BytesMut::new();
    let options = theirs::RecordEncodeOptions { version: 2, compression };
    let with = |data: &mut BytesMut, out: &mut BytesMut, codec: theirs::Compression| {
        out.extend_from_slice(&compress(codec as i16, data));
        Ok(())
    };
    theirs::RecordBatchEncoder::encode_with_custom_compression(
        &mut out,
        &records,
        &options,
        Some(with),
    )
    .unwrap();
    out.to_vec()
}

#[test]
fn reads_what_another_encoder_writes() {
    use theirs::Compression::{Gzip, Lz4, None, Snappy, Zstd};
    for compression in [None, Gzip, Snappy, Lz4, Zstd] {
        let expected = samples();
        let mut bytes = encode_theirs(&expected, compression);
        let outcome = read(&bytes);
        assert_eq!(outcome.error, Option::None);
        assert_eq!(outcome.records, expected);
        assert_eq!(outcome.next_offset, Some(110));
        let whole_bytes = bytes.len();
        assert_eq!(
            outline(&bytes),
            Outline {
                next_offset: Some(110),
                epochs: vec![(101, 5)],
                whole_bytes,
                error: Option::None
            }
        );
        // Many batches, the last one cut off.
        bytes.extend(encode_theirs(&records(110..120), compression));
        bytes.extend(encode_theirs(&records(120..121), compression));
        bytes.extend(encode_theirs(&records(121..130), compression));
        bytes.pop();
        let outcome = read(&bytes);
        assert_eq!(outcome.error, Option::None);
        assert_eq!(outcome.offsets(), (101..121).collect::<Vec<_>>());
        assert_eq!(outcome.next_offset, Some(121));
        assert_eq!(outline(&bytes).next_offset, Some(121));
    }
}

#[test]
fn keeps_headers_as_they_are() {
    let mut one = record(7);
    one.headers = vec![
        header(b"same", Some(b"1")),
        header(b"same", None),
        header(b"same", Some(b"1")),
        header(&[0xff, 0xfe], Some(&[0x80])),
        header(b"", None),
    ];
    let all = vec![record(6), one, record(8)];
    for codec in 0..5 {
        let bytes = Batch { attributes: codec, ..batch(5, all.clone()) }.bytes();
        for step in [1, 2, 3, usize::MAX] {
            let outcome = read_stepwise(&bytes, 0, None, 1 << 20, step);
            assert_eq!(
                outcome,
                Outcome { records: all.clone(), next_offset: Some(9), runs: 1, error: None }
            );
        }
    }
}

#[test]
fn leaves_out_what_is_below_the_first_offset() {
    let mut bytes = batch(10, records(10..15)).bytes();
    bytes.extend(Batch { attributes: 4, ..batch(15, records(15..20)) }.bytes());
    bytes.extend(batch(20, records(20..25)).bytes());
    for from in 0..25 {
        let outcome = read_from(&bytes, from);
        assert_eq!(outcome.offsets(), (from.max(10)..25).collect::<Vec<_>>());
        assert_eq!((outcome.next_offset, outcome.error), (Some(25), None));
    }
    // The position never falls back.
    let outcome = read_from(&bytes, 40);
    assert_eq!((outcome.offsets(), outcome.next_offset), (vec![], Some(40)));
}

#[test]
fn a_batch_keeps_its_range_when_records_were_compacted_away() {
    let mut bytes =
        Batch { last_delta: Some(9), ..batch(10, vec![record(12), record(15)]) }.bytes();
    bytes.extend(Batch { last_delta: Some(99), ..batch(20, vec![]) }.bytes());
    let outcome = read(&bytes);
    assert_eq!(
        (outcome.offsets(), outcome.next_offset, outcome.runs),
        (vec![12, 15], Some(120), 1)
    );
    assert_eq!(outline(&bytes).next_offset, Some(120));
    let empty = Batch { last_delta: Some(99), ..batch(20, vec![]) }.bytes();
    assert_eq!(read(&empty).next_offset, Some(120));
}

#[test]
fn timestamps() {
    let mut all = records(0..2);
    all[1].timestamp = Timestamp::None;
    let bytes = Batch { base_timestamp: -1, ..batch(0, all.clone()) }.bytes();
    assert_eq!(read(&bytes).records, all);
    for codec in [0, 4] {
        let bytes = Batch { attributes: 8 | codec, ..batch(0, all.clone()) }.bytes();
        let stamps: Vec<_> = read(&bytes).records.iter().map(|record| record.timestamp).collect();
        assert_eq!(stamps, [Timestamp::LogAppend(5000); 2]);
    }
}

#[test]
fn a_run_is_bounded_and_compressed_batches_stand_alone() {
    let mut large = record(0);
    large.value = Some(vec![b'x'; RUN_BYTES / 2 + 1]);
    let mut bytes = vec![];
    for offset in 0..3 {
        let mut one = large.clone();
        one.offset = offset;
        bytes.extend(batch(offset, vec![one]).bytes());
    }
    assert_eq!(read(&bytes).runs, 3);
    let mut bytes = vec![];
    for offset in 0..6 {
        let attributes = if offset < 2 { 3 } else { 0 };
        bytes.extend(Batch { attributes, ..batch(offset, vec![record(offset)]) }.bytes());
    }
    let outcome = read(&bytes);
    assert_eq!((outcome.runs, outcome.offsets()), (3, (0..6).collect()));
}

#[test]
fn nothing_comes_of_nothing() {
    assert_eq!(read(&[]), Outcome { records: vec![], next_offset: None, runs: 0, error: None });
    assert_eq!(
        outline(&[]),
        Outline { next_offset: None, epochs: vec![], whole_bytes: 0, error: None }
    );
}
