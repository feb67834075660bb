//! Answers that speak of a truncated log: which are believed.

use super::*;

/// The broker's answers, in turn.
enum Reply {
    /// The log is truncated: epoch and end offset.
    Diverging(i32, i64),
    OutOfRange,
    /// A batch of this epoch, of five records from the offset asked for on.
    Batch(i32),
    Nothing,
}
use Reply::{Batch, Diverging, Nothing, OutOfRange};

/// The outcome of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// The partition left.
    Left(ReturnReason),
    /// It is asked for again: offset and epoch told.
    Asks(i64, i32),
    Rests,
}
use Outcome::{Asks, Left, Rests};

fn of_epoch(offset: i64, epoch: i32) -> PartitionData {
    let mut records = batch(offset..offset + 5, b"v").to_vec();
    let mut at = 0;
    while at < records.len() {
        // The epoch, which is not under the checksum, follows the length.
        let length = u32::from_be_bytes(records[at + 8..at + 12].try_into().unwrap());
        records[at + 12..at + 16].copy_from_slice(&epoch.to_be_bytes());
        at += 12 + length as usize;
    }
    data(0).with_records(Some(records.into()))
}

fn requested(
    session: &mut FetchSession,
    requested: &Reply,
    asked_at: i64,
    now: Instant,
) -> Outcome {
    let data = match requested {
        Diverging(epoch, end) => data(0).with_diverging_epoch(
            EpochEndOffset::default().with_epoch(*epoch).with_end_offset(*end),
        ),
        OutOfRange => data(0).with_error_code(Code::OffsetOutOfRange.code()),
        Batch(epoch) => of_epoch(asked_at, *epoch),
        Nothing => data(0),
    };
    let answer = session.answer(answer_of(0, vec![data]), now).unwrap();
    if let Some((_, why)) = answer.removed.into_iter().next() {
        return Left(why);
    }
    match session.request(17, now) {
        None => Rests,
        Some((request, _)) => {
            let partition = &request.topics[0].partitions[0];
            Asks(partition.fetch_offset, partition.last_fetched_epoch)
        }
    }
}

/// We are at 1,800, and have read epoch 5 up to 1,500 and epoch 7 from there on.
fn at_1800() -> FetchSession {
    let mut session = session();
    let assignment = Assignment::new(TopicPartition::new("t", 0), 1800, None);
    assignment.epochs().note(1000, 1500, 5);
    assignment.epochs().note(1500, 1800, 7);
    session.insert(FetchPosition { topic_id: ID, ..FetchPosition::of(&assignment) });
    session
}

#[test]
fn a_cut_is_believed_where_the_log_can_have_been_cut() {
    let cases = [
        ("theirs ends before", vec![(Diverging(7, 1700), Left(ReturnReason::Diverged(1700)))]),
        ("ours ends before that", vec![(Diverging(5, 1700), Left(ReturnReason::Diverged(1500)))]),
        (
            "the leader has no note of the epoch, and has batches of it",
            vec![
                (Diverging(6, 2500), Asks(1800, -1)),
                (Batch(7), Asks(1805, -1)),
                (Batch(7), Asks(1810, -1)),
                (Batch(8), Asks(1815, 8)),
                (Diverging(7, 1812), Left(ReturnReason::Diverged(1810))),
            ],
        ),
        (
            "or its batches were compacted away, and the end is ours",
            vec![
                (Diverging(2, 1800), Asks(1800, -1)),
                (Nothing, Asks(1800, -1)),
                (Batch(9), Asks(1805, 9)),
            ],
        ),
        (
            "the leader really has others where we go on",
            vec![
                (Diverging(6, 2500), Asks(1800, -1)),
                (Batch(6), Left(ReturnReason::Diverged(1500))),
            ],
        ),
        (
            "the leader does not know the epoch at all",
            vec![(OutOfRange, Asks(1800, -1)), (Batch(7), Asks(1805, -1))],
        ),
        (
            "nor the offset",
            vec![(OutOfRange, Asks(1800, -1)), (OutOfRange, Left(ReturnReason::OutOfRange))],
        ),
        (
            "it goes on about it though nothing was told",
            vec![(Diverging(6, 2500), Asks(1800, -1)), (Diverging(6, 2500), Rests)],
        ),
    ];
    for (name, steps) in cases {
        let (mut session, now) = (at_1800(), Instant::now());
        let (request, _) = session.request(17, now).unwrap();
        let mut at = 1800;
        assert_eq!(request.topics[0].partitions[0].last_fetched_epoch, 7);
        for (step, (answer, expected)) in steps.into_iter().enumerate() {
            let outcome = requested(&mut session, &answer, at, now);
            assert_eq!(outcome, expected, "{name}: answer {step}");
            if let Asks(offset, _) = outcome {
                at = offset;
            }
        }
    }
}

/// Else the same stretch would be read again and again.
#[test]
fn a_cut_that_is_told_again_without_another_epoch_is_none() {
    let (mut session, now) = (session(), Instant::now());
    let assignment = Assignment::new(TopicPartition::new("t", 0), 1650, None);
    assignment.epochs().note(1500, 1650, 7);
    session.insert(FetchPosition { topic_id: ID, ..FetchPosition::of(&assignment) });
    session.request(17, now).unwrap();
    assert_eq!(
        requested(&mut session, &Diverging(7, 1600), 1650, now),
        Left(ReturnReason::Diverged(1600))
    );
    let generation = assignment.reset_to(1600, true);
    session.insert(FetchPosition {
        topic_id: ID,
        ..FetchPosition::start(Arc::clone(&assignment), generation)
    });
    let mut at = 1600;
    session.request(17, now).unwrap();
    for (answer, expected) in [
        // The same records again.
        (Batch(7), Asks(1605, 7)),
        (Diverging(7, 1600), Asks(1605, -1)),
        (Batch(7), Asks(1610, -1)),
        // Another epoch, and a truncation of that.
        (Batch(8), Asks(1615, 8)),
        (Diverging(7, 1600), Left(ReturnReason::Diverged(1600))),
    ] {
        assert_eq!(requested(&mut session, &answer, at, now), expected);
        if let Asks(offset, _) = expected {
            at = offset;
        }
    }
}
