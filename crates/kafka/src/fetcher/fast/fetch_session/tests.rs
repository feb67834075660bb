mod truncation;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::fetch_response::{
    EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData,
};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse};
use uuid::Uuid;

use super::super::position::ReturnReason;
use super::super::testing::{batch, options};
use super::*;
use crate::assignment::Assignment;
use crate::ends::Ends;
use crate::topic_partition::TopicPartition;

const ID: Uuid = Uuid::from_u128(7);

fn session() -> FetchSession {
    let mut session = FetchSession::new(options(Isolation::ReadCommitted));
    session.connected(FetchSizes { answer: 1000, partition: 100 });
    session
}

fn position(partition: i32, offset: i64) -> FetchPosition {
    let assignment = Assignment::new(TopicPartition::new("t", partition), offset, None);
    FetchPosition { topic_id: ID, leader_epoch: 3, ..FetchPosition::of(&assignment) }
}

/// Partition and offset of all that a request asks for.
fn asked(request: &FetchRequest) -> Vec<(i32, i64)> {
    let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| (partition.partition, partition.fetch_offset)).collect()
}

fn session_of(request: &FetchRequest) -> (i32, i32) {
    (request.session_id, request.session_epoch)
}

fn forgotten(request: &FetchRequest) -> Vec<i32> {
    request.forgotten_topics_data.iter().flat_map(|topic| topic.partitions.clone()).collect()
}

fn answer_of(session: i32, partitions: Vec<PartitionData>) -> FetchResponse {
    let topic = FetchableTopicResponse::default().with_topic_id(ID).with_partitions(partitions);
    FetchResponse::default().with_session_id(session).with_responses(vec![topic])
}

fn data(partition: i32) -> PartitionData {
    PartitionData::default()
        .with_partition_index(partition)
        .with_high_watermark(50)
        .with_last_stable_offset(40)
}

fn with_records(partition: i32, offsets: std::ops::Range<i64>) -> PartitionData {
    data(partition).with_records(Some(batch(offsets, b"v")))
}

fn texts(errors: &[impl ToString]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn a_session_is_told_only_what_changed() {
    let (mut session, now) = (session(), Instant::now());
    let gone = position(2, 30);
    for position in [position(0, 10), position(1, 20), gone.clone()] {
        session.insert(position);
    }
    let (request, version) = session.request(17, now).unwrap();
    let mut all = asked(&request);
    all.sort_unstable();
    assert_eq!((all, version), (vec![(0, 10), (1, 20), (2, 30)], 17));
    assert_eq!(session_of(&request), (0, 0), "a new session is asked for");
    assert_eq!(request.topics[0].partitions[0].current_leader_epoch, 3);

    let answer = session.answer(answer_of(9, vec![with_records(1, 20..25), data(0)]), now).unwrap();
    assert_eq!(answer.partitions.len(), 1);
    assert_eq!(
        (answer.partitions[0].from, answer.partitions[0].assignment.ends()),
        (20, Ends::new(50, 40))
    );
    assert!(session.remove(&gone.assignment).is_some());
    let (request, _) = session.request(17, now).unwrap();
    assert_eq!((asked(&request), session_of(&request)), (vec![(1, 25)], (9, 1)));
    assert_eq!(request.topics[0].partitions[0].last_fetched_epoch, 5);
    assert_eq!(forgotten(&request), [2]);

    // Nothing came: nothing is to be told, and yet it is to be asked.
    session.answer(answer_of(9, vec![]), now).unwrap();
    let (request, _) = session.request(17, now).unwrap();
    assert_eq!((asked(&request), session_of(&request)), (vec![], (9, 2)));
}

#[test]
fn a_partition_that_comes_again_is_answered_for() {
    let (mut session, now) = (session(), Instant::now());
    let again = position(0, 10);
    session.insert(again.clone());
    session.request(17, now).unwrap();
    // Restarted while the first request of the session is under way.
    session.remove(&again.assignment).unwrap();
    session.insert(again.clone());
    session.answer(answer_of(9, vec![]), now).unwrap();
    let (request, _) = session.request(17, now).unwrap();
    assert_eq!((asked(&request), session_of(&request)), (vec![(0, 10)], (9, 0)), "another session");
    session.answer(answer_of(10, vec![data(0)]), now).unwrap();
    assert_eq!(again.assignment.ends(), Ends::new(50, 40));
    let (request, _) = session.request(17, now).unwrap();
    assert_eq!((asked(&request), session_of(&request)), (vec![], (10, 1)), "once");
}

#[test]
fn a_lost_session_is_begun_anew() {
    for code in [
        Code::FetchSessionIdNotFound,
        Code::InvalidFetchSessionEpoch,
        Code::FetchSessionTopicIdError,
    ] {
        let (mut session, now) = (session(), Instant::now());
        session.insert(position(0, 10));
        session.request(17, now).unwrap();
        session.answer(answer_of(9, vec![]), now).unwrap();
        session.request(17, now).unwrap();
        let lost = FetchResponse::default().with_error_code(code.code());
        assert!(session.answer(lost, now).unwrap().partitions.is_empty());
        let (request, _) = session.request(17, now).unwrap();
        // By its number the broker closes the one before, if it has it.
        assert_eq!((asked(&request), session_of(&request)), (vec![(0, 10)], (9, 0)), "{code}");
        let lost = FetchResponse::default().with_error_code(code.code());
        assert!(
            session.answer(lost, now).is_err(),
            "{code}: it is not asked as fast as it answers"
        );
    }
    let (mut session, now) = (session(), Instant::now());
    session.insert(position(0, 10));
    session.request(17, now).unwrap();
    let refused = FetchResponse::default().with_error_code(Code::ClusterAuthorizationFailed.code());
    assert!(session.answer(refused, now).is_err());
}

#[test]
fn without_a_session_every_partition_is_first_in_turn() {
    let (mut session, now) = (session(), Instant::now());
    for partition in 0..3 {
        session.insert(position(partition, 0));
    }
    let mut first: Vec<i32> = (0..3)
        .map(|_| {
            let (request, _) = session.request(17, now).unwrap();
            session.answer(answer_of(0, vec![]), now).unwrap();
            assert_eq!(asked(&request).len(), 3);
            asked(&request)[0].0
        })
        .collect();
    first.sort_unstable();
    assert_eq!(first, [0, 1, 2]);
}

#[test]
fn topics_without_an_id_go_by_name() {
    let (mut session, now) = (session(), Instant::now());
    session.insert(FetchPosition { topic_id: Uuid::nil(), ..position(0, 1) });
    let (request, version) = session.request(17, now).unwrap();
    assert_eq!((version, request.topics[0].topic.0.as_str()), (12, "t"));
    let topic = FetchableTopicResponse::default()
        .with_topic(request.topics[0].topic.clone())
        .with_partitions(vec![with_records(0, 1..3)]);
    let answer = session.answer(FetchResponse::default().with_responses(vec![topic]), now).unwrap();
    assert_eq!(answer.partitions.len(), 1);
}

#[test]
fn an_answer_to_another_offset_is_not_taken() {
    let (mut session, now) = (session(), Instant::now());
    let position = position(0, 10);
    session.insert(position.clone());
    session.request(17, now).unwrap();
    session.go_on_at(&position.assignment, 0, 12, now);
    let answer = session.answer(answer_of(9, vec![with_records(0, 10..20)]), now).unwrap();
    assert!(answer.partitions.is_empty());
    assert!(session.request(17, now).is_none(), "it rests");
    let due = session.next_due().unwrap();
    let (request, _) = session.request(17, due).unwrap();
    assert_eq!((asked(&request), forgotten(&request)), (vec![(0, 12)], vec![]));
}

#[test]
fn what_cannot_be_fetched_here_leaves_with_its_reason() {
    let leader = LeaderIdAndEpoch::default().with_leader_id(BrokerId(4)).with_leader_epoch(8);
    let elsewhere = |error, leader| ReturnReason::NotLeader { error, leader };
    let failed = |code: Code| data(0).with_error_code(code.code());
    let cut = EpochEndOffset::default().with_epoch(2).with_end_offset(6);
    for (data, why) in [
        (failed(Code::OffsetOutOfRange), ReturnReason::OutOfRange),
        (failed(Code::NotLeaderOrFollower), elsewhere(Code::NotLeaderOrFollower, None)),
        (failed(Code::UnknownTopicId), elsewhere(Code::UnknownTopicId, None)),
        (
            failed(Code::FencedLeaderEpoch).with_current_leader(leader),
            elsewhere(Code::FencedLeaderEpoch, Some((4, 8))),
        ),
        (data(0).with_diverging_epoch(cut), ReturnReason::Diverged(6)),
        (data(0).with_preferred_read_replica(BrokerId(2)), ReturnReason::PreferredReplica(2)),
    ] {
        let (mut session, now) = (session(), Instant::now());
        session.insert(position(0, 10));
        session.request(17, now).unwrap();
        let answer = session.answer(answer_of(9, vec![data]), now).unwrap();
        assert_eq!(answer.removed.into_iter().map(|(_, why)| why).collect::<Vec<_>>(), [why]);
        assert!(session.is_empty() && session.request(17, now).is_none());
    }
}

/// The epoch of what was read last is told from the first request on: it was committed with the
/// offset.
#[test]
fn a_cut_log_goes_on_where_both_logs_agree() {
    // Ours is of epoch 2 up to 3, theirs up to 6.
    for (ours, truncated_at) in [(3, 3), (8, 6)] {
        let (mut session, now) = (session(), Instant::now());
        let assignment = position(0, 10).assignment;
        assignment.epochs().note(0, 10, 2);
        assignment.epochs().note(ours, 10, 4);
        session.insert(FetchPosition { topic_id: ID, ..FetchPosition::of(&assignment) });
        let (request, _) = session.request(17, now).unwrap();
        assert_eq!(request.topics[0].partitions[0].last_fetched_epoch, 4);
        let theirs = EpochEndOffset::default().with_epoch(2).with_end_offset(6);
        let answer =
            session.answer(answer_of(9, vec![data(0).with_diverging_epoch(theirs)]), now).unwrap();
        let whys: Vec<_> = answer.removed.into_iter().map(|(_, why)| why).collect();
        assert_eq!(whys, [ReturnReason::Diverged(truncated_at)]);
    }
}

#[test]
fn what_is_read_tells_of_its_epochs() {
    let (mut session, now) = (session(), Instant::now());
    let position = position(0, 10);
    session.insert(position.clone());
    session.request(17, now).unwrap();
    session.answer(answer_of(9, vec![with_records(0, 10..20)]), now).unwrap();
    let epochs = position.assignment.epochs();
    assert_eq!((epochs.before(10), epochs.before(20)), (-1, 5));
}

#[test]
fn what_will_fail_again_is_asked_less_and_less() {
    let (mut session, now) = (session(), Instant::now());
    session.insert(position(0, 10));
    let mut rests = Vec::new();
    for _ in 0..7 {
        let start = session.next_due().unwrap_or(now);
        session.request(17, start).unwrap();
        let failed = data(0).with_error_code(Code::TopicAuthorizationFailed.code());
        let answer = session.answer(answer_of(9, vec![failed]), start).unwrap();
        assert_eq!(texts(&answer.errors), ["t/0: TopicAuthorizationFailed"]);
        rests.push(session.next_due().unwrap() - start);
    }
    assert_eq!(rests[0], Duration::from_millis(100));
    assert!(rests.is_sorted() && rests[6] == Duration::from_secs(2), "{rests:?}");
}

#[test]
fn a_batch_that_does_not_fit_is_asked_for_whole() {
    let (mut session, now) = (session(), Instant::now());
    session.insert(position(0, 10));
    session.request(17, now).unwrap();
    let whole = with_records(0, 10..30).records.unwrap();
    let part = data(0).with_records(Some(whole.slice(..50)));
    session.answer(answer_of(9, vec![part]), now).unwrap();
    let (request, _) = session.request(17, now).unwrap();
    assert_eq!(request.topics[0].partitions[0].partition_max_bytes, 200);
    let answer =
        session.answer(answer_of(9, vec![data(0).with_records(Some(whole))]), now).unwrap();
    assert_eq!(answer.partitions.len(), 1);
    let (request, _) = session.request(17, now).unwrap();
    let partition = &request.topics[0].partitions[0];
    assert_eq!((partition.fetch_offset, partition.partition_max_bytes), (30, 100));
}

#[test]
fn what_is_no_batch_is_told_and_not_asked_for_whole() {
    let (mut session, now) = (session(), Instant::now());
    session.insert(position(0, 10));
    session.request(17, now).unwrap();
    let mut corrupt = with_records(0, 10..30).records.unwrap().to_vec();
    corrupt[16] = 9;
    let corrupt = data(0).with_records(Some(corrupt.into()));
    let answer = session.answer(answer_of(9, vec![corrupt]), now).unwrap();
    assert_eq!(
        answer.corrupt[0].error.to_string(),
        "the record batch at offset 10: its magic is 9, not 0, 1 or 2"
    );
    // Where it claims to end is past the log, and no other follows.
    assert_eq!((answer.corrupt[0].to, answer.corrupt[0].failures), (None, 1));
    let (request, _) = session.request(17, session.next_due().unwrap()).unwrap();
    assert!(
        request.topics.is_empty() || request.topics[0].partitions[0].partition_max_bytes == 100
    );
}

#[test]
fn a_batch_that_stays_broken_is_asked_less_and_less() {
    let (mut session, mut now) = (session(), Instant::now());
    let position = position(0, 10);
    session.insert(position.clone());
    let mut rests = Vec::new();
    for _ in 0..7 {
        session.request(17, now).unwrap();
        let answer = session.answer(answer_of(9, vec![with_records(0, 10..20)]), now).unwrap();
        assert_eq!(answer.partitions.len(), 1);
        // Its checksum is wrong.
        session.go_on_at(&position.assignment, 0, 10, now);
        rests.push(session.next_due().unwrap() - now);
        now = session.next_due().unwrap();
    }
    assert!(rests.is_sorted() && rests[6] == Duration::from_secs(2), "{rests:?}");
    session.request(17, now).unwrap();
    session.answer(answer_of(9, vec![with_records(0, 10..20)]), now).unwrap();
    session.request(17, now).unwrap();
    session.answer(answer_of(9, vec![with_records(0, 20..30)]), now).unwrap();
    session.go_on_at(&position.assignment, 0, 20, now);
    assert_eq!(
        session.next_due().unwrap() - now,
        Duration::from_millis(100),
        "it went on in between"
    );
}

#[test]
fn another_topic_joins_the_session() {
    let (mut session, now) = (session(), Instant::now());
    session.insert(position(0, 10));
    session.request(17, now).unwrap();
    let other = Assignment::new(TopicPartition::new("u", 3), 5, None);
    session.insert(FetchPosition { topic_id: Uuid::from_u128(8), ..FetchPosition::of(&other) });
    let answer = session.answer(answer_of(9, vec![with_records(0, 10..20)]), now).unwrap();
    assert_eq!(answer.partitions.len(), 1, "the answer under way is taken");
    let (request, _) = session.request(17, now).unwrap();
    let mut all = asked(&request);
    all.sort_unstable();
    assert_eq!((all, session_of(&request)), (vec![(0, 20), (3, 5)], (9, 1)));
}

#[test]
fn without_a_session_topics_have_their_turn_too() {
    let (mut session, now) = (session(), Instant::now());
    session.insert(position(0, 10));
    let other = Assignment::new(TopicPartition::new("u", 0), 5, None);
    session.insert(FetchPosition { topic_id: Uuid::from_u128(8), ..FetchPosition::of(&other) });
    let mut first = HashSet::new();
    for _ in 0..4 {
        let (request, _) = session.request(17, now).unwrap();
        assert_eq!(request.topics.len(), 2);
        first.insert(request.topics[0].topic_id);
        session.answer(answer_of(0, vec![]), now).unwrap();
    }
    assert_eq!(first.len(), 2, "a broker that is asked for too much reads the first one only");
}

#[test]
fn where_a_partition_was_put_is_told_also_without_a_record() {
    let (mut session, now) = (session(), Instant::now());
    session.insert(FetchPosition { repositioned: true, ..position(0, 10) });
    session.request(17, now).unwrap();
    let answer = session.answer(answer_of(9, vec![data(0)]), now).unwrap();
    let given: Vec<_> =
        answer.partitions.iter().map(|given| (given.from, given.records.len())).collect();
    assert_eq!(given, [(10, 0)]);
    session.request(17, now).unwrap();
    assert!(
        session.answer(answer_of(9, vec![data(0)]), now).unwrap().partitions.is_empty(),
        "once"
    );
}

#[test]
fn a_topic_made_anew_is_another_one() {
    let (mut session, now) = (session(), Instant::now());
    let old = position(0, 10);
    session.insert(old.clone());
    session.request(17, now).unwrap();
    session.insert(FetchPosition { topic_id: Uuid::from_u128(8), ..position(0, 0) });
    let answer = session.answer(answer_of(9, vec![with_records(0, 10..20)]), now).unwrap();
    assert!(answer.partitions.is_empty(), "an answer of the old one");
    let (request, _) = session.request(17, now).unwrap();
    assert_eq!((asked(&request), request.topics[0].topic_id), (vec![(0, 0)], Uuid::from_u128(8)));
}

/// A broker takes what a request names into the session before it forgets what the request forgets.
#[test]
fn by_name_what_came_back_under_another_id_is_not_forgotten() {
    let (mut session, now) = (session(), Instant::now());
    let nameless = Assignment::new(TopicPartition::new("u", 0), 0, None);
    session.insert(FetchPosition::of(&nameless));
    let old = position(0, 10);
    session.insert(old.clone());
    let (_, version) = session.request(17, now).unwrap();
    assert_eq!(version, 12, "one of them has no id");
    session.answer(answer_of(9, vec![]), now).unwrap();
    session.remove(&old.assignment);
    session.insert(FetchPosition { topic_id: Uuid::from_u128(8), ..position(0, 0) });
    let (request, _) = session.request(17, now).unwrap();
    assert_eq!((asked(&request), forgotten(&request)), (vec![(0, 0)], vec![]));
}

/// The rack stands for a whole request.
#[test]
fn a_leader_that_is_to_serve_a_partition_itself_is_not_told_our_rack() {
    let here = FetchOptions { rack: "here".to_owned(), ..options(Isolation::ReadCommitted) };
    let (mut session, now) = (FetchSession::new(here), Instant::now());
    let racks = |session: &mut FetchSession| {
        let rack = session.request(17, now).unwrap().0.rack_id.to_string();
        session.answer(answer_of(9, vec![]), now).unwrap();
        rack
    };
    session.insert(position(0, 10));
    assert_eq!(racks(&mut session), "here");
    let kept = FetchPosition { without_rack: true, ..position(1, 10) };
    session.insert(kept.clone());
    assert_eq!(racks(&mut session), "");
    session.remove(&kept.assignment);
    assert_eq!(racks(&mut session), "here");
}

#[test]
fn a_session_is_closed_by_the_one_that_takes_its_place() {
    let (mut session, now) = (session(), Instant::now());
    session.insert(position(0, 10));
    session.request(17, now).unwrap();
    session.answer(answer_of(9, vec![]), now).unwrap();
    session.connected(FetchSizes { answer: 1000, partition: 100 });
    assert_eq!(session_of(&session.request(17, now).unwrap().0), (9, 0), "another connection");
    session.answer(answer_of(10, vec![]), now).unwrap();
    assert_eq!(session_of(&session.request(12, now).unwrap().0), (10, 0), "by name");
}

/// A broker cuts no batch off that stands first (KIP-74). One that does is not asked as fast as it
/// answers.
#[test]
fn a_batch_that_is_always_cut_off_is_told_and_rests() {
    let (mut session, now) = (session(), Instant::now());
    session.insert(position(0, 10));
    let whole = with_records(0, 10..30).records.unwrap();
    let mut asked = Vec::new();
    let errors = loop {
        let (request, _) = session.request(17, now).expect("it does not rest yet");
        asked.extend(request.topics.iter().map(|topic| topic.partitions[0].partition_max_bytes));
        let part = data(0).with_records(Some(whole.slice(..50)));
        let answer = session.answer(answer_of(9, vec![part]), now).unwrap();
        if !answer.errors.is_empty() {
            break answer.errors;
        }
    };
    assert_eq!(texts(&errors), ["t/0: no whole batch in 50 bytes"]);
    assert!(asked.is_sorted() && asked.last() == Some(&PARTITION_BYTES_MAX), "{asked:?}");
    assert!(session.request(17, now).is_none() && session.next_due() > Some(now));
}
