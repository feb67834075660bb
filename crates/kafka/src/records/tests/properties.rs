//! Tests that nothing is lost or changed unnoticed, whatever the bytes.

use proptest::prelude::*;
use zafka_envelope::{OwnedRecord, Timestamp};

use super::super::{Aborted, outline};
use super::build::{Batch, Outcome, batch, header, read_stepwise, seal};

/// A valid response, and the records that a reader of it is to see.
#[derive(Clone, Debug)]
struct Sample {
    /// Each batch, and the records in it that come out.
    batches: Vec<(Vec<u8>, Vec<OwnedRecord>)>,
    aborted: Vec<Aborted>,
}

impl Sample {
    fn bytes(&self) -> Vec<u8> {
        self.batches.iter().flat_map(|(bytes, _)| bytes.clone()).collect()
    }

    fn visible(&self, from: i64) -> Vec<OwnedRecord> {
        self.batches
            .iter()
            .flat_map(|(_, records)| records)
            .filter(|one| one.offset >= from)
            .cloned()
            .collect()
    }

    fn read(&self, bytes: &[u8], from: i64, step: usize) -> Outcome {
        read_stepwise(bytes, from, Some(self.aborted.clone()), 1 << 20, step)
    }
}

fn bytes(size: usize) -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..size))
}

/// Records with gaps between their offsets; those are distances until the batch is laid out.
fn any_record() -> impl Strategy<Value = OwnedRecord> {
    let headers =
        proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..4), bytes(4)), 0..3);
    (1..4_i64, 0..3_000_000_000_i64, bytes(20), bytes(200), headers).prop_map(
        |(gap, timestamp, key, value, headers)| OwnedRecord {
            topic: None,
            partition: 0,
            offset: gap,
            timestamp: Timestamp::Create(timestamp),
            prev: None,
            key,
            value,
            headers: headers.iter().map(|(name, value)| header(name, value.as_deref())).collect(),
        },
    )
}

#[derive(Clone, Debug)]
struct Shape {
    records: Vec<OwnedRecord>,
    codec: i16,
    log_append: bool,
    /// A producer with a transaction that is aborted (1), committed (2), or none.
    producer: i64,
    /// Offsets compacted away behind the last record.
    tail: i32,
}

fn any_shape() -> impl Strategy<Value = Shape> {
    let records = proptest::collection::vec(any_record(), 0..6);
    (records, prop_oneof![4 => Just(0), 1 => 1..5_i16], any::<bool>(), 0..3_i64, 0..3_i32).prop_map(
        |(records, codec, log_append, producer, tail)| Shape {
            records,
            codec,
            log_append,
            producer,
            tail,
        },
    )
}

/// Batches behind each other; after every third one producer 1's transaction is aborted.
fn sample() -> impl Strategy<Value = Sample> {
    (proptest::collection::vec(any_shape(), 0..8), 0..1000_i64).prop_map(|(shapes, start)| {
        let mut sample = Sample { batches: vec![], aborted: vec![] };
        let mut next = start;
        let mut open = None;
        for (number, mut shape) in shapes.into_iter().enumerate() {
            if number % 3 == 2 {
                sample.batches.push((super::build::marker(next, 1, false).bytes(), vec![]));
                next += 1;
                open = None;
            }
            let base = next;
            let mut offset = base - 1;
            for record in &mut shape.records {
                offset += record.offset;
                record.offset = offset;
            }
            let last_delta = ((offset - base).max(0)) as i32 + shape.tail;
            next = base + i64::from(last_delta) + 1;
            let one = Batch {
                attributes: shape.codec
                    | i16::from(shape.log_append) << 3
                    | i16::from(shape.producer > 0) << 4,
                producer: if shape.producer == 0 { -1 } else { shape.producer },
                last_delta: Some(last_delta),
                ..batch(base, shape.records)
            };
            let aborted = shape.producer == 1;
            if aborted && open.is_none() {
                open = Some(base);
                sample.aborted.push(Aborted { producer_id: 1, first_offset: base });
            }
            let mut visible = if aborted { vec![] } else { one.records.clone() };
            if shape.log_append {
                visible.iter_mut().for_each(|record| record.timestamp = Timestamp::LogAppend(5000));
            }
            sample.batches.push((one.bytes(), visible));
        }
        sample
    })
}

/// The records that came out are those before the position, all of them, and no others.
fn assert_nothing_lost(outcome: &Outcome, visible: &[OwnedRecord], from: i64) {
    let reached = outcome.next_offset.unwrap_or(from);
    let expected: Vec<_> =
        visible.iter().filter(|record| record.offset < reached).cloned().collect();
    assert_eq!(outcome.records, expected, "position {reached}, error {:?}", outcome.error);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_right_comes_out_whole(sample in sample(), from in 0..1030_i64, step in 1..4_usize) {
        let bytes = sample.bytes();
        let outcome = sample.read(&bytes, from, step);
        prop_assert_eq!(&outcome.error, &None);
        prop_assert_eq!(&outcome.records, &sample.visible(from));
        let next = outline(&bytes).next_offset.map(|next| next.max(from));
        prop_assert_eq!(outcome.next_offset, next);
        prop_assert_eq!(outline(&bytes).whole_bytes, bytes.len());
    }

    #[test]
    fn what_is_cut_off_is_read_as_far_as_it_is_whole(
        sample in sample(),
        from in 0..1030_i64,
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = sample.bytes();
        prop_assume!(!bytes.is_empty());
        let bytes = &bytes[..cut.index(bytes.len())];
        let outcome = sample.read(bytes, from, usize::MAX);
        prop_assert_eq!(&outcome.error, &None);
        assert_nothing_lost(&outcome, &sample.visible(from), from);
        prop_assert_eq!(outcome.next_offset, outline(bytes).next_offset.map(|next| next.max(from)));
    }

    #[test]
    fn what_is_changed_is_noticed(
        sample in sample(),
        at in any::<prop::sample::Index>(),
        bits in 1..=255_u8,
    ) {
        prop_assume!(!sample.batches.is_empty());
        let mut bytes = sample.bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        let (which, within) = locate(&sample, at);
        let outcome = sample.read(&bytes, 0, usize::MAX);
        outline(&bytes);
        // No checksum covers base offset and leader epoch: see the next test.
        if within < 8 {
            return Ok(());
        }
        assert_nothing_lost(&outcome, &sample.visible(0), 0);
        if !(12..16).contains(&within) {
            // The broken batch and what follows did not come out.
            let before = sample.batches[..which].iter();
            let before: usize = before.map(|(_, records)| records.len()).sum();
            prop_assert_eq!(outcome.records.len(), before);
        }
    }

    #[test]
    fn a_changed_batch_with_a_right_checksum_gives_as_many_records_or_an_error(
        sample in sample(),
        which in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        prop_assume!(!sample.batches.is_empty());
        let mut sample = sample;
        let which = which.index(sample.batches.len());
        let bad = &mut sample.batches[which].0;
        for (at, byte) in changes {
            // Base offset, then what the checksum covers.
            let at = at.index(bad.len());
            if !(8..21).contains(&at) {
                bad[at] = byte;
            }
        }
        seal(bad);
        let count = i32::from_be_bytes([bad[57], bad[58], bad[59], bad[60]]);
        let attributes = bad[22];
        let range = bad.len();
        let bytes = sample.bytes();
        let outcome = read_stepwise(&bytes, 0, None, 1 << 20, usize::MAX);
        prop_assert_eq!(&outcome, &read_stepwise(&bytes, 0, None, 1 << 20, 1));
        prop_assert!(outcome.records.is_sorted_by(|a, b| a.offset < b.offset));
        prop_assert!(outcome.records.iter().all(|one| Some(one.offset) < outcome.next_offset));
        if outcome.error.is_none() {
            let batch = &bytes[start(&sample, which)..][..range];
            let alone = read_stepwise(batch, 0, None, 1 << 20, usize::MAX);
            let expected = if attributes & 0x20 == 0 { count } else { 0 };
            prop_assert_eq!(alone.records.len() as i32, expected);
        }
        // With transactions it does not fall either.
        sample.read(&bytes, 0, 2);
    }

    #[test]
    fn any_bytes_behind_a_header_are_survived(
        mut bytes in proptest::collection::vec(any::<u8>(), 61..400),
        attributes in 0..64_u8,
        magic in 0..3_u8,
        count in 0..4_u8,
    ) {
        bytes[..8].fill(0);
        bytes[16] = magic;
        if magic == 2 {
            bytes[21..27].copy_from_slice(&[0, attributes, 0, 0, 0, count]);
            bytes[57..61].copy_from_slice(&[0, 0, 0, count]);
            seal(&mut bytes);
        } else {
            let length = (bytes.len() - 12) as i32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            let checksum = crc32fast::hash(&bytes[16..]);
            bytes[12..16].copy_from_slice(&checksum.to_be_bytes());
        }
        let outcome = read_stepwise(&bytes, 0, Some(vec![]), 1 << 16, 1);
        prop_assert!(outcome.error.is_some() || outcome.next_offset.is_some());
    }
}

/// Returns the batch that a byte is in, and its position there.
fn locate(sample: &Sample, at: usize) -> (usize, usize) {
    let which = (0..sample.batches.len()).rev().find(|which| start(sample, *which) <= at).unwrap();
    (which, at - start(sample, which))
}

fn start(sample: &Sample, which: usize) -> usize {
    sample.batches[..which].iter().map(|(bytes, _)| bytes.len()).sum()
}
