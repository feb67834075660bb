//! Messages of magic 0 and 1.

use std::hash::Hasher;

use zafka_envelope::{OwnedRecord, Timestamp};

use super::super::error::RecordFault;
use super::super::{BatchFault, outline};
use super::build::{batch, compress, read, read_from, read_stepwise, record, records};

const LOG_APPEND: u8 = 8;

fn message(
    magic: u8,
    offset: i64,
    attributes: u8,
    timestamp: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(offset.to_be_bytes());
    out.extend([0; 8]);
    out.extend([magic, attributes]);
    if magic == 1 {
        out.extend(timestamp.to_be_bytes());
    }
    for part in [key, value] {
        out.extend(part.map_or(-1, |part| part.len() as i32).to_be_bytes());
        out.extend(part.unwrap_or_default());
    }
    seal(&mut out);
    out
}

fn seal(message: &mut [u8]) {
    let length = (message.len() - 12) as i32;
    message[8..12].copy_from_slice(&length.to_be_bytes());
    let checksum = crc32fast::hash(&message[16..]);
    message[12..16].copy_from_slice(&checksum.to_be_bytes());
}

fn of(magic: u8, record: &OwnedRecord, offset: i64) -> Vec<u8> {
    let timestamp = match record.timestamp {
        Timestamp::Create(timestamp) => timestamp,
        _ => -1,
    };
    message(magic, offset, 0, timestamp, record.key.as_deref(), record.value.as_deref())
}

/// The records as messages of the format can carry them.
fn samples(magic: u8) -> Vec<OwnedRecord> {
    let mut all = records(20..26);
    all[1].key = None;
    all[2].value = None;
    all[3].key = Some(vec![]);
    all[3].value = Some(vec![b'v'; 100_000]);
    // Compacted away.
    all.remove(4);
    if magic == 0 {
        all.iter_mut().for_each(|record| record.timestamp = Timestamp::None);
    }
    all
}

fn wrapper(magic: u8, codec: u8, all: &[OwnedRecord], attributes: u8) -> Vec<u8> {
    let first = all[0].offset;
    let inner: Vec<u8> = all
        .iter()
        .flat_map(|one| of(magic, one, if magic == 0 { one.offset } else { one.offset - first }))
        .collect();
    let last = all.last().unwrap().offset;
    message(magic, last, codec | attributes, 777, None, Some(&compress(codec.into(), &inner)))
}

#[test]
fn reads_messages_one_by_one_and_wrapped() {
    for magic in [0, 1] {
        let all = samples(magic);
        let single: Vec<u8> = all.iter().flat_map(|one| of(magic, one, one.offset)).collect();
        let outcome = read(&single);
        assert_eq!((outcome.error, outcome.runs, outcome.next_offset), (None, 1, Some(26)));
        assert_eq!(outcome.records, all);
        assert_eq!(outline(&single).next_offset, Some(26));
        assert_eq!(outline(&single).epochs, [(20, -1)]);
        for codec in 1..4 {
            let wrapped = wrapper(magic, codec, &all, 0);
            let outcome = read(&wrapped);
            assert_eq!((outcome.error, outcome.next_offset), (None, Some(26)));
            assert_eq!(outcome.records, all);
            assert_eq!(outline(&wrapped).next_offset, Some(26));
            assert_eq!(read_from(&wrapped, 23).offsets(), [23, 25]);
        }
    }
}

#[test]
fn a_log_may_change_its_format() {
    let mut bytes = of(0, &record(0), 0);
    bytes.extend(wrapper(0, 1, &records(1..4), 0));
    bytes.extend(of(1, &record(4), 4));
    bytes.extend(wrapper(1, 2, &records(5..8), 0));
    bytes.extend(batch(8, records(8..10)).bytes());
    bytes.extend(of(1, &record(10), 10));
    // Cut off.
    bytes.extend(&of(1, &record(11), 11)[..30]);
    let outcome = read(&bytes);
    assert_eq!((outcome.error.clone(), outcome.next_offset), (None, Some(11)));
    assert_eq!(outcome.offsets(), (0..11).collect::<Vec<_>>());
    assert_eq!(outcome.runs, 3);
    assert_eq!(outline(&bytes).next_offset, Some(11));
}

#[test]
fn the_broker_stamps_messages_and_wrappers() {
    let single = message(1, 0, LOG_APPEND, 777, None, None);
    assert_eq!(read(&single).records[0].timestamp, Timestamp::LogAppend(777));
    let wrapped = wrapper(1, 1, &records(0..2), LOG_APPEND);
    let stamps: Vec<_> = read(&wrapped).records.iter().map(|record| record.timestamp).collect();
    assert_eq!(stamps, [Timestamp::LogAppend(777); 2]);
}

#[test]
fn an_old_lz4_header_checksum_is_right_in_magic_0_alone() {
    for magic in [0, 1] {
        let all = samples(magic);
        let inner: Vec<u8> = all.iter().flat_map(|one| of(magic, one, one.offset)).collect();
        let mut frame = compress(3, &inner);
        // Flags without sizes: the checksum is the seventh byte; it was made over the magic too.
        assert_eq!(frame[4] & 9, 0);
        let mut hasher = twox_hash::XxHash32::with_seed(0);
        hasher.write(&frame[..6]);
        let old = (hasher.finish() >> 8) as u8;
        assert_ne!(frame[6], old);
        frame[6] = old;
        let outcome = read(&message(magic, 25, 3, -1, None, Some(&frame)));
        if magic == 0 {
            assert_eq!((outcome.error, outcome.records), (None, all));
        } else {
            assert!(matches!(outcome.error.unwrap().fault, BatchFault::Decompress { .. }));
        }
    }
}

#[test]
fn what_is_broken_is_an_error() {
    let good = of(1, &record(0), 0);
    let mut flipped = of(1, &record(1), 1);
    *flipped.last_mut().unwrap() ^= 1;
    let nested = wrapper(1, 1, &records(2..4), 0);
    let nested = message(1, 5, 1, 0, None, Some(&compress(1, &nested)));
    let other = message(1, 5, 1, 0, None, Some(&compress(1, &of(0, &record(5), 0))));
    let inner_flipped = message(1, 5, 1, 0, None, Some(&compress(1, &flipped)));
    let cut = message(1, 5, 1, 0, None, Some(&compress(1, &good[..good.len() - 1])));
    let empty = message(1, 5, 1, 0, None, Some(&compress(1, &[])));
    let null = message(1, 5, 1, 0, None, None);
    let negative = message(1, -5, 0, 0, None, None);
    let falling =
        message(1, 5, 1, 0, None, Some(&compress(1, &[good.clone(), good.clone()].concat())));
    let record_fault = |fault| BatchFault::Record { number: 0, fault };
    let mut length = message(1, 5, 0, 0, None, None);
    let value_length = length.len() - 4;
    length[value_length..].copy_from_slice(&7_i32.to_be_bytes());
    seal(&mut length);
    let beyond = message(0, 5, 1, 0, None, Some(&compress(1, &of(0, &record(6), 6))));
    let cases: [(Vec<u8>, i64, Option<BatchFault>); 11] = [
        (beyond, 5, Some(BatchFault::Offsets { base: 6, delta: 0 })),
        (flipped, 1, None),
        (nested, 5, Some(record_fault(RecordFault::Nested))),
        (other, 5, Some(record_fault(RecordFault::Nested))),
        (inner_flipped, 5, Some(record_fault(RecordFault::Checksum))),
        (cut, 5, Some(BatchFault::Rest(good.len() - 1))),
        (empty, 5, Some(BatchFault::Count(0))),
        (null, 5, None),
        (negative, -5, Some(BatchFault::Offsets { base: -5, delta: 0 })),
        (falling, 5, None),
        (length, 5, Some(record_fault(RecordFault::Cut))),
    ];
    for (number, (bad, base_offset, fault)) in cases.into_iter().enumerate() {
        let mut bytes = good.clone();
        bytes.extend(bad);
        bytes.extend(of(1, &record(6), 6));
        let outcome = read(&bytes);
        assert_eq!((outcome.offsets(), outcome.next_offset), (vec![0], Some(1)), "case {number}");
        let error = outcome.error.unwrap();
        assert_eq!(error.base_offset, base_offset, "case {number}");
        if let Some(fault) = fault {
            assert_eq!(error.fault, fault, "case {number}");
        }
    }
}

#[test]
fn bombs_and_falling_offsets_are_errors() {
    let zeros = vec![0; 8 << 20];
    let big = message(1, 0, 0, 0, None, Some(&zeros));
    let bomb = message(1, 0, 1, 0, None, Some(&compress(1, &big)));
    let limit = 1 << 20;
    assert_eq!(
        read_stepwise(&bomb, 0, None, limit, 1).error,
        Some(BatchFault::TooLarge { limit }.at(0))
    );
    let mut bytes = of(1, &record(5), 5);
    bytes.extend(of(1, &record(5), 5));
    let outcome = read(&bytes);
    assert_eq!((outcome.offsets(), outcome.error), (vec![5], Some(BatchFault::Order(5).at(5))));
}
