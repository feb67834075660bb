#![allow(clippy::unwrap_used)]

mod resets;

use super::*;

use zafka_envelope::{FramePlan, OwnedRecord, Preset, decode_json};
use zafka_kafka::TopicPartition;
use zafka_zmtp::frame::{MORE, read_header};

use crate::kafka_to_zmq::testing::Offsets;

/// Larger than all that a case makes.
const WHOLE: usize = 1 << 20;

/// Records, and the resulting positions.
struct Fake {
    records: Offsets,
    next_offset: i64,
}

fn records(offsets: impl IntoIterator<Item = i64>, next_offset: i64) -> Fake {
    Fake { records: Offsets::new(offsets), next_offset }
}

impl Records for Fake {
    fn assignment(&self) -> &Arc<Assignment> {
        unreachable!("a partition does not ask")
    }

    fn generation(&self) -> Generation {
        unreachable!("a partition does not ask")
    }

    fn walk(&mut self, f: impl FnMut(&Record<'_>) -> ControlFlow<()>) -> bool {
        self.records.walk(f)
    }

    fn next_offset(&self) -> i64 {
        self.next_offset
    }
}

fn chunks_of(size: usize) -> Buffers {
    Buffers::new(size, 0)
}

fn partition(start: i64) -> Partition {
    partition_of(Preset::Json, start)
}

fn partition_of(preset: Preset, start: i64) -> Partition {
    let assignment = Assignment::new(TopicPartition::new("orders", 3), start, None);
    let encoder =
        FramePlan::preset(preset).encoder("route", assignment.topic(), assignment.partition());
    Partition::new(assignment, encoder, Audience::default())
}

/// The records of a chunk of preset `json`.
fn decoded(chunk: &Chunk) -> Vec<OwnedRecord> {
    let (mut rest, mut frames, mut records) = (chunk.bytes(), Vec::new(), Vec::new());
    while let Some(header) = read_header(rest) {
        let (frame, after) = rest[header.header_size..].split_at(header.body_size as usize);
        frames.push(frame);
        rest = after;
        if header.flags & MORE == 0 {
            records.push(decode_json(&frames).unwrap());
            frames.clear();
        }
    }
    records
}

/// Offset and `prev` of each record.
fn links(step: &Step) -> Vec<(i64, Option<i64>)> {
    let chunk = step.chunk.as_ref();
    chunk
        .map(decoded)
        .unwrap_or_default()
        .iter()
        .map(|record| (record.offset, record.prev))
        .collect()
}

fn position(step: &Step) -> Option<i64> {
    step.chunk.as_ref().map(Chunk::position)
}

#[test]
fn a_chunk_knows_the_offset_of_each_message() {
    for (preset, offsets, expected) in [
        (Preset::Json, &[10, 11, 12][..], &[10, 11, 12][..]),
        // Records that no reader is given: before the first, and in between.
        (Preset::Packed, &[12, 13, 17, 18], &[12, 13, 17, 18]),
        // Several records a message: the first one counts.
        (Preset::Batch, &[11, 12, 14], &[11]),
    ] {
        let mut partition = partition_of(preset, 10);
        let mut records = records(offsets.iter().copied(), 20);
        let chunk = partition.encode(&mut records, &chunks_of(WHOLE)).unwrap().chunk.unwrap();
        let found: Vec<_> = (0..).map_while(|message| chunk.position_of(message)).collect();
        assert_eq!(found, expected);
        let last = expected.len() - 1;
        let begins = chunk.starts_from(expected[last]).unwrap();
        assert_eq!(begins == 0, last == 0);
        assert_eq!(chunk.starts_from(expected[last] + 1), Some(chunk.len()));
    }
}

#[test]
fn messages_of_several_records_know_where_they_begin() {
    // Two records of this size do not go into one message.
    let offsets: Vec<i64> = (10..16).chain([20]).collect();
    let mut partition = partition_of(Preset::Batch, 10);
    let mut records = Fake {
        records: Offsets { value: vec![0; 200 << 10], ..Offsets::new(offsets.clone()) },
        next_offset: 21,
    };
    let chunk = partition.encode(&mut records, &chunks_of(8 << 20)).unwrap().chunk.unwrap();
    assert_eq!(chunk.messages(), offsets.len());
    let found: Vec<_> = (0..).map_while(|message| chunk.position_of(message)).collect();
    assert_eq!(found, offsets);
}

#[test]
fn each_record_names_the_one_before_but_the_first() {
    let mut partition = partition(10);
    let step = partition.encode(&mut records([10, 11, 14], 15), &chunks_of(WHOLE)).unwrap();
    assert_eq!(links(&step), [(10, None), (11, Some(10)), (14, Some(11))]);
    assert_eq!((position(&step), step.records, step.finished, step.from), (Some(15), 3, true, 10));
    let step = partition.encode(&mut records([20], 21), &chunks_of(WHOLE)).unwrap();
    assert_eq!(links(&step), [(20, Some(14))]);
    assert_eq!((step.from, partition.progress.read()), (15, 21));
}

#[test]
fn positions_pass_what_no_reader_is_given() {
    // Offsets, and their result: the position after them, if anything moved.
    let cases: [(&[i64], i64, Option<i64>); 6] = [
        (&[], 0, None),
        (&[], 3, Some(3)),
        (&[], 2, None),
        (&[3, 4], 5, Some(5)),
        (&[5], 9, Some(9)),
        (&[], 9, None),
    ];
    let mut partition = partition(0);
    for (offsets, next_offset, expected) in cases {
        let step = partition
            .encode(&mut records(offsets.iter().copied(), next_offset), &chunks_of(WHOLE))
            .unwrap();
        assert_eq!(position(&step), expected, "{offsets:?} {next_offset}");
        assert_eq!(
            step.chunk.is_some_and(|chunk| chunk.is_empty()),
            offsets.is_empty() && expected.is_some()
        );
    }
    let step = partition.encode(&mut records([12], 13), &chunks_of(WHOLE)).unwrap();
    assert_eq!(links(&step), [(12, Some(5))], "`prev` is a record, not a position");
}

#[test]
fn chunks_are_cut_after_the_record_that_fills_them() {
    let one = partition_of(Preset::Packed, 0)
        .encode(&mut records([0], 1), &chunks_of(WHOLE))
        .unwrap()
        .chunk
        .unwrap()
        .len();
    for (size, lengths) in
        [(1, vec![1; 9]), (one, vec![1; 9]), (one + 1, vec![2, 2, 2, 2, 1]), (WHOLE, vec![9])]
    {
        let mut partition = partition_of(Preset::Packed, 0);
        let (mut fetched, mut found, mut next) = (records(0..9, 12), Vec::new(), 0);
        loop {
            let step = partition.encode(&mut fetched, &chunks_of(size)).unwrap();
            let messages = step.chunk.as_ref().map_or(0, Chunk::messages);
            assert_eq!((step.from, step.records as usize), (next, messages));
            found.push(messages);
            next += step.records as i64;
            if step.finished {
                assert_eq!(position(&step), Some(12), "past the end only with the last one");
                break;
            }
            assert_eq!(position(&step), Some(next));
        }
        assert_eq!(found, lengths, "chunks of {size} bytes");
    }
}

#[test]
fn a_record_larger_than_a_chunk_is_one() {
    let mut partition = partition(0);
    let mut fetched = records(0..3, 3);
    fetched.records.value = vec![7; 5000];
    for offset in 0..3 {
        let step = partition.encode(&mut fetched, &chunks_of(1000)).unwrap();
        let chunk = step.chunk.unwrap();
        assert!(chunk.len() > 5000 && chunk.messages() == 1);
        assert_eq!((chunk.position(), step.finished), (offset + 1, offset == 2));
    }
}

#[test]
fn a_batch_ends_with_its_chunk() {
    let mut partition = partition_of(Preset::Batch, 0);
    let step = partition.encode(&mut records(0..100, 100), &chunks_of(1000)).unwrap();
    let chunk = step.chunk.unwrap();
    assert!(step.records > 1 && step.records < 100 && chunk.messages() == 1);
    assert_eq!(chunk.position(), step.records as i64);
}

#[test]
fn a_chunk_that_is_discarded_was_not_read() {
    let mut partition = partition(0);
    let mut fetched = records(0..3, 3);
    partition.encode(&mut fetched, &chunks_of(1)).unwrap();
    let step = partition.encode(&mut fetched, &chunks_of(1)).unwrap();
    let progress = Arc::clone(&partition.progress);
    assert_eq!(progress.read(), 2);
    let pending = crate::kafka_to_zmq::progress::PendingChunk {
        chunk: step.chunk.unwrap(),
        progress,
        from: step.from,
    };
    pending.discard();
    assert_eq!(partition.progress.read(), 1);
}
