//! Transactions: control batches never come out, aborted batches only under read_uncommitted.

use super::super::{Aborted, BatchFault};
use super::build::{Batch, Outcome, batch, marker, read, read_stepwise, records};

fn transactional(producer: i64, offsets: std::ops::Range<i64>) -> Batch {
    Batch { attributes: 0x10, producer, ..batch(offsets.start, records(offsets)) }
}

fn committed(bytes: &[u8], from: i64, aborted: &[(i64, i64)]) -> Outcome {
    let aborted = aborted
        .iter()
        .map(|&(producer_id, first_offset)| Aborted { producer_id, first_offset })
        .collect();
    read_stepwise(bytes, from, Some(aborted), 1 << 20, usize::MAX)
}

fn concat(batches: &[Batch]) -> Vec<u8> {
    batches.iter().flat_map(Batch::bytes).collect()
}

/// Two producers and one without transactions, interleaved; producer 1 aborts and then commits.
fn interleaved(codec: i16) -> Vec<u8> {
    let mut all = [
        transactional(1, 0..2),
        transactional(2, 2..4),
        batch(4, records(4..6)),
        transactional(1, 6..8),
        marker(8, 1, false),
        transactional(1, 9..11),
        marker(11, 2, true),
        marker(12, 1, true),
        transactional(2, 13..15),
    ];
    for one in &mut all {
        if one.attributes & 0x20 == 0 {
            one.attributes |= codec;
        }
    }
    concat(&all)
}

#[test]
fn aborted_batches_are_left_out_under_read_committed() {
    for codec in [0, 4] {
        let bytes = interleaved(codec);
        let outcome = committed(&bytes, 0, &[(1, 0)]);
        assert_eq!(outcome.offsets(), [2, 3, 4, 5, 9, 10, 13, 14]);
        assert_eq!((outcome.next_offset, outcome.error), (Some(15), None));
        // The order of the list does not matter, nor do transactions that are not here.
        let outcome = committed(&bytes, 0, &[(2, 13), (7, 1), (1, 0), (2, 100)]);
        assert_eq!(outcome.offsets(), [2, 3, 4, 5, 9, 10]);
        assert_eq!(outcome.next_offset, Some(15));
        // A fetch that begins inside the transaction.
        let outcome = committed(&bytes, 7, &[(1, 0)]);
        assert_eq!(outcome.offsets(), [9, 10, 13, 14]);
        // The same producer aborts twice.
        let outcome = committed(&bytes, 0, &[(1, 9), (1, 0)]);
        assert_eq!(outcome.offsets(), [2, 3, 4, 5, 13, 14]);
    }
}

#[test]
fn read_uncommitted_leaves_out_markers_alone() {
    for codec in [0, 3] {
        let outcome = read(&interleaved(codec));
        assert_eq!(outcome.offsets(), [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 13, 14]);
        assert_eq!((outcome.next_offset, outcome.error), (Some(15), None));
    }
}

#[test]
fn markers_alone_move_the_position() {
    let bytes = concat(&[marker(5, 1, true), transactional(2, 6..7), marker(7, 2, false)]);
    let outcome = committed(&bytes, 0, &[(2, 6)]);
    let expected = Outcome { records: vec![], next_offset: Some(8), runs: 1, error: None };
    assert_eq!(outcome, expected);
}

#[test]
fn a_run_goes_on_over_markers_and_ends_at_an_aborted_batch() {
    let mut all: Vec<_> = (0..10)
        .flat_map(|n| [transactional(1, 2 * n..2 * n + 1), marker(2 * n + 1, 1, true)])
        .collect();
    let outcome = committed(&concat(&all), 0, &[]);
    assert_eq!((outcome.runs, outcome.records.len(), outcome.next_offset), (1, 10, Some(20)));
    all.push(transactional(9, 20..30));
    all.push(batch(30, records(30..31)));
    let outcome = committed(&concat(&all), 0, &[(9, 20)]);
    assert_eq!((outcome.runs, outcome.records.len(), outcome.next_offset), (2, 11, Some(31)));
}

#[test]
fn records_without_a_transaction_are_kept_whoever_wrote_them() {
    let idempotent = Batch { attributes: 0, ..transactional(1, 0..3) };
    let outcome = committed(&idempotent.bytes(), 0, &[(1, 0)]);
    assert_eq!(outcome.offsets(), [0, 1, 2]);
}

#[test]
fn a_transaction_that_begins_behind_a_batch_does_not_cover_it() {
    let bytes = concat(&[transactional(1, 0..3), transactional(1, 3..6)]);
    assert_eq!(committed(&bytes, 0, &[(1, 3)]).offsets(), [0, 1, 2]);
    // It begins within the batch: a producer's batch is in one transaction.
    assert_eq!(committed(&bytes, 0, &[(1, 2)]).offsets(), [0_i64; 0]);
}

#[test]
fn other_control_records_end_nothing() {
    let mut leader = marker(3, 1, true);
    leader.records[0].key = Some(vec![0, 0, 0, 2]);
    let bytes =
        concat(&[transactional(1, 0..3), leader, transactional(1, 4..6), marker(6, 1, false)]);
    assert_eq!(committed(&bytes, 0, &[(1, 0)]).offsets(), [0_i64; 0]);
    // A marker that was compressed is read all the same.
    let abort = Batch { attributes: 0x34, ..marker(3, 1, false) };
    let bytes = concat(&[transactional(1, 0..3), abort, transactional(1, 4..6)]);
    assert_eq!(committed(&bytes, 0, &[(1, 0)]).offsets(), [4, 5]);
    assert_eq!(read(&bytes).offsets(), [0, 1, 2, 4, 5]);
}

#[test]
fn a_marker_that_cannot_be_read_is_an_error() {
    for key in [None, Some(vec![]), Some(vec![0, 0, 0]), Some(vec![0xff, 0, 0, 0])] {
        let mut bad = marker(3, 1, false);
        bad.records[0].key = key;
        let bytes = concat(&[batch(0, records(0..3)), bad, batch(4, records(4..5))]);
        let outcome = committed(&bytes, 0, &[]);
        assert_eq!((outcome.offsets(), outcome.next_offset), (vec![0, 1, 2], Some(3)));
        assert_eq!(outcome.error, Some(BatchFault::Control.at(3)));
    }
}
