mod cuts;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::fetch_response::{
    EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData,
};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse};
use uuid::Uuid;

use super::super::position::Why;
use super::super::testing::{batch, terms};
use super::*;
use crate::assignment::Assignment;
use crate::status::Ends;

const ID: Uuid = Uuid::from_u128(7);

fn share() -> Share {
    let mut share = Share::new(terms(Isolation::ReadCommitted));
    share.connected(Sizes { answer: 1000, partition: 100 });
    share
}

fn position(partition: i32, offset: i64) -> Position {
    let assignment = Assignment::new(Arc::from("t"), partition, offset, None);
    Position { topic_id: ID, leader_epoch: 3, ..Position::of(&assignment) }
}

/// Partition and offset of all that a request asks for.
fn asked(request: &FetchRequest) -> Vec<(i32, i64)> {
    let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| (partition.partition, partition.fetch_offset)).collect()
}

fn session(request: &FetchRequest) -> (i32, i32) {
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

#[test]
fn a_session_is_told_only_what_changed() {
    let (mut share, now) = (share(), Instant::now());
    let gone = position(2, 30);
    for position in [position(0, 10), position(1, 20), gone.clone()] {
        share.insert(position);
    }
    let (request, version) = share.request(17, now).unwrap();
    let mut all = asked(&request);
    all.sort_unstable();
    assert_eq!((all, version), (vec![(0, 10), (1, 20), (2, 30)], 17));
    assert_eq!(session(&request), (0, 0), "a new session is asked for");
    assert_eq!(request.topics[0].partitions[0].current_leader_epoch, 3);

    let answer = share.answer(answer_of(9, vec![with_records(1, 20..25), data(0)]), now).unwrap();
    assert_eq!(answer.given.len(), 1);
    assert_eq!((answer.given[0].from, answer.given[0].assignment.ends()), (20, Ends::new(50, 40)));
    assert!(share.remove(&gone.assignment).is_some());
    let (request, _) = share.request(17, now).unwrap();
    assert_eq!((asked(&request), session(&request)), (vec![(1, 25)], (9, 1)));
    assert_eq!(request.topics[0].partitions[0].last_fetched_epoch, 5);
    assert_eq!(forgotten(&request), [2]);

    // Nothing came: nothing is to be told, and yet it is to be asked.
    share.answer(answer_of(9, vec![]), now).unwrap();
    let (request, _) = share.request(17, now).unwrap();
    assert_eq!((asked(&request), session(&request)), (vec![], (9, 2)));
}

#[test]
fn a_partition_that_comes_again_is_answered_for() {
    let (mut share, now) = (share(), Instant::now());
    let again = position(0, 10);
    share.insert(again.clone());
    share.request(17, now).unwrap();
    // Restarted while the first request of the session is under way.
    share.remove(&again.assignment).unwrap();
    share.insert(again.clone());
    share.answer(answer_of(9, vec![]), now).unwrap();
    let (request, _) = share.request(17, now).unwrap();
    assert_eq!((asked(&request), session(&request)), (vec![(0, 10)], (9, 0)), "another session");
    share.answer(answer_of(10, vec![data(0)]), now).unwrap();
    assert_eq!(again.assignment.ends(), Ends::new(50, 40));
    let (request, _) = share.request(17, now).unwrap();
    assert_eq!((asked(&request), session(&request)), (vec![], (10, 1)), "once");
}

#[test]
fn a_lost_session_is_begun_anew() {
    for code in [
        Code::FetchSessionIdNotFound,
        Code::InvalidFetchSessionEpoch,
        Code::FetchSessionTopicIdError,
    ] {
        let (mut share, now) = (share(), Instant::now());
        share.insert(position(0, 10));
        share.request(17, now).unwrap();
        share.answer(answer_of(9, vec![]), now).unwrap();
        share.request(17, now).unwrap();
        let lost = FetchResponse::default().with_error_code(code.code());
        assert!(share.answer(lost, now).unwrap().given.is_empty());
        let (request, _) = share.request(17, now).unwrap();
        // By its number the broker closes the one before, if it has it.
        assert_eq!((asked(&request), session(&request)), (vec![(0, 10)], (9, 0)), "{code}");
        let lost = FetchResponse::default().with_error_code(code.code());
        assert!(share.answer(lost, now).is_err(), "{code}: it is not asked as fast as it answers");
    }
    let (mut share, now) = (share(), Instant::now());
    share.insert(position(0, 10));
    share.request(17, now).unwrap();
    let refused = FetchResponse::default().with_error_code(Code::ClusterAuthorizationFailed.code());
    assert!(share.answer(refused, now).is_err());
}

#[test]
fn without_a_session_every_partition_is_first_in_turn() {
    let (mut share, now) = (share(), Instant::now());
    for partition in 0..3 {
        share.insert(position(partition, 0));
    }
    let mut first: Vec<i32> = (0..3)
        .map(|_| {
            let (request, _) = share.request(17, now).unwrap();
            share.answer(answer_of(0, vec![]), now).unwrap();
            assert_eq!(asked(&request).len(), 3);
            asked(&request)[0].0
        })
        .collect();
    first.sort_unstable();
    assert_eq!(first, [0, 1, 2]);
}

#[test]
fn topics_without_an_id_go_by_name() {
    let (mut share, now) = (share(), Instant::now());
    share.insert(Position { topic_id: Uuid::nil(), ..position(0, 1) });
    let (request, version) = share.request(17, now).unwrap();
    assert_eq!((version, request.topics[0].topic.0.as_str()), (12, "t"));
    let topic = FetchableTopicResponse::default()
        .with_topic(request.topics[0].topic.clone())
        .with_partitions(vec![with_records(0, 1..3)]);
    let answer = share.answer(FetchResponse::default().with_responses(vec![topic]), now).unwrap();
    assert_eq!(answer.given.len(), 1);
}

#[test]
fn an_answer_to_another_offset_is_not_taken() {
    let (mut share, now) = (share(), Instant::now());
    let position = position(0, 10);
    share.insert(position.clone());
    share.request(17, now).unwrap();
    share.go_on_at(&position.assignment, 0, 12, now);
    let answer = share.answer(answer_of(9, vec![with_records(0, 10..20)]), now).unwrap();
    assert!(answer.given.is_empty());
    assert!(share.request(17, now).is_none(), "it rests");
    let due = share.next_due().unwrap();
    let (request, _) = share.request(17, due).unwrap();
    assert_eq!((asked(&request), forgotten(&request)), (vec![(0, 12)], vec![]));
}

#[test]
fn what_cannot_be_fetched_here_leaves_with_its_reason() {
    let leader = LeaderIdAndEpoch::default().with_leader_id(BrokerId(4)).with_leader_epoch(8);
    let elsewhere =
        |reason: &str, leader| Why::Elsewhere { reason: format!("t/0: {reason}"), leader };
    let failed = |code: Code| data(0).with_error_code(code.code());
    let cut = EpochEndOffset::default().with_epoch(2).with_end_offset(6);
    for (data, why) in [
        (failed(Code::OffsetOutOfRange), Why::OutOfRange),
        (failed(Code::NotLeaderOrFollower), elsewhere("NotLeaderOrFollower", None)),
        (failed(Code::UnknownTopicId), elsewhere("UnknownTopicId", None)),
        (
            failed(Code::FencedLeaderEpoch).with_current_leader(leader),
            elsewhere("FencedLeaderEpoch", Some((4, 8))),
        ),
        (data(0).with_diverging_epoch(cut), Why::Diverged(6)),
        (data(0).with_preferred_read_replica(BrokerId(2)), Why::Nearer(2)),
    ] {
        let (mut share, now) = (share(), Instant::now());
        share.insert(position(0, 10));
        share.request(17, now).unwrap();
        let answer = share.answer(answer_of(9, vec![data]), now).unwrap();
        assert_eq!(answer.left.into_iter().map(|(_, why)| why).collect::<Vec<_>>(), [why]);
        assert!(share.is_empty() && share.request(17, now).is_none());
    }
}

/// The epoch of what was read last is told from the first request on: it was committed with the
/// offset.
#[test]
fn a_cut_log_goes_on_where_both_logs_agree() {
    // Ours is of epoch 2 up to 3, theirs up to 6.
    for (ours, cut_at) in [(3, 3), (8, 6)] {
        let (mut share, now) = (share(), Instant::now());
        let assignment = position(0, 10).assignment;
        assignment.epochs().note(0, 10, 2);
        assignment.epochs().note(ours, 10, 4);
        share.insert(Position { topic_id: ID, ..Position::of(&assignment) });
        let (request, _) = share.request(17, now).unwrap();
        assert_eq!(request.topics[0].partitions[0].last_fetched_epoch, 4);
        let theirs = EpochEndOffset::default().with_epoch(2).with_end_offset(6);
        let answer =
            share.answer(answer_of(9, vec![data(0).with_diverging_epoch(theirs)]), now).unwrap();
        let whys: Vec<_> = answer.left.into_iter().map(|(_, why)| why).collect();
        assert_eq!(whys, [Why::Diverged(cut_at)]);
    }
}

#[test]
fn what_is_read_tells_of_its_epochs() {
    let (mut share, now) = (share(), Instant::now());
    let position = position(0, 10);
    share.insert(position.clone());
    share.request(17, now).unwrap();
    share.answer(answer_of(9, vec![with_records(0, 10..20)]), now).unwrap();
    let epochs = position.assignment.epochs();
    assert_eq!((epochs.before(10), epochs.before(20)), (-1, 5));
}

#[test]
fn what_will_fail_again_is_asked_less_and_less() {
    let (mut share, now) = (share(), Instant::now());
    share.insert(position(0, 10));
    let mut rests = Vec::new();
    for _ in 0..7 {
        let start = share.next_due().unwrap_or(now);
        share.request(17, start).unwrap();
        let failed = data(0).with_error_code(Code::TopicAuthorizationFailed.code());
        let answer = share.answer(answer_of(9, vec![failed]), start).unwrap();
        assert_eq!(answer.errors, ["t/0: TopicAuthorizationFailed"]);
        rests.push(share.next_due().unwrap() - start);
    }
    assert_eq!(rests[0], Duration::from_millis(100));
    assert!(rests.is_sorted() && rests[6] == Duration::from_secs(2), "{rests:?}");
}

#[test]
fn a_batch_that_does_not_fit_is_asked_for_whole() {
    let (mut share, now) = (share(), Instant::now());
    share.insert(position(0, 10));
    share.request(17, now).unwrap();
    let whole = with_records(0, 10..30).records.unwrap();
    let part = data(0).with_records(Some(whole.slice(..50)));
    share.answer(answer_of(9, vec![part]), now).unwrap();
    let (request, _) = share.request(17, now).unwrap();
    assert_eq!(request.topics[0].partitions[0].partition_max_bytes, 200);
    let answer = share.answer(answer_of(9, vec![data(0).with_records(Some(whole))]), now).unwrap();
    assert_eq!(answer.given.len(), 1);
    let (request, _) = share.request(17, now).unwrap();
    let partition = &request.topics[0].partitions[0];
    assert_eq!((partition.fetch_offset, partition.partition_max_bytes), (30, 100));
}

#[test]
fn what_is_no_batch_is_told_and_not_asked_for_whole() {
    let (mut share, now) = (share(), Instant::now());
    share.insert(position(0, 10));
    share.request(17, now).unwrap();
    let mut broken = with_records(0, 10..30).records.unwrap().to_vec();
    broken[16] = 9;
    let broken = data(0).with_records(Some(broken.into()));
    let answer = share.answer(answer_of(9, vec![broken]), now).unwrap();
    assert_eq!(
        answer.broken[0].error.to_string(),
        "the record batch at offset 10: its magic is 9, not 0, 1 or 2"
    );
    // Where it claims to end is past the log, and no other follows.
    assert_eq!((answer.broken[0].to, answer.broken[0].failures), (None, 1));
    let (request, _) = share.request(17, share.next_due().unwrap()).unwrap();
    assert!(
        request.topics.is_empty() || request.topics[0].partitions[0].partition_max_bytes == 100
    );
}

#[test]
fn a_batch_that_stays_broken_is_asked_less_and_less() {
    let (mut share, mut now) = (share(), Instant::now());
    let position = position(0, 10);
    share.insert(position.clone());
    let mut rests = Vec::new();
    for _ in 0..7 {
        share.request(17, now).unwrap();
        let answer = share.answer(answer_of(9, vec![with_records(0, 10..20)]), now).unwrap();
        assert_eq!(answer.given.len(), 1);
        // Its checksum is wrong.
        share.go_on_at(&position.assignment, 0, 10, now);
        rests.push(share.next_due().unwrap() - now);
        now = share.next_due().unwrap();
    }
    assert!(rests.is_sorted() && rests[6] == Duration::from_secs(2), "{rests:?}");
    share.request(17, now).unwrap();
    share.answer(answer_of(9, vec![with_records(0, 10..20)]), now).unwrap();
    share.request(17, now).unwrap();
    share.answer(answer_of(9, vec![with_records(0, 20..30)]), now).unwrap();
    share.go_on_at(&position.assignment, 0, 20, now);
    assert_eq!(
        share.next_due().unwrap() - now,
        Duration::from_millis(100),
        "it went on in between"
    );
}

#[test]
fn another_topic_joins_the_session() {
    let (mut share, now) = (share(), Instant::now());
    share.insert(position(0, 10));
    share.request(17, now).unwrap();
    let other = Assignment::new(Arc::from("u"), 3, 5, None);
    share.insert(Position { topic_id: Uuid::from_u128(8), ..Position::of(&other) });
    let answer = share.answer(answer_of(9, vec![with_records(0, 10..20)]), now).unwrap();
    assert_eq!(answer.given.len(), 1, "the answer under way is taken");
    let (request, _) = share.request(17, now).unwrap();
    let mut all = asked(&request);
    all.sort_unstable();
    assert_eq!((all, session(&request)), (vec![(0, 20), (3, 5)], (9, 1)));
}

#[test]
fn without_a_session_topics_have_their_turn_too() {
    let (mut share, now) = (share(), Instant::now());
    share.insert(position(0, 10));
    let other = Assignment::new(Arc::from("u"), 0, 5, None);
    share.insert(Position { topic_id: Uuid::from_u128(8), ..Position::of(&other) });
    let mut first = HashSet::new();
    for _ in 0..4 {
        let (request, _) = share.request(17, now).unwrap();
        assert_eq!(request.topics.len(), 2);
        first.insert(request.topics[0].topic_id);
        share.answer(answer_of(0, vec![]), now).unwrap();
    }
    assert_eq!(first.len(), 2, "a broker that is asked for too much reads the first one only");
}

#[test]
fn where_a_partition_was_put_is_told_also_without_a_record() {
    let (mut share, now) = (share(), Instant::now());
    share.insert(Position { sought: true, ..position(0, 10) });
    share.request(17, now).unwrap();
    let answer = share.answer(answer_of(9, vec![data(0)]), now).unwrap();
    let given: Vec<_> =
        answer.given.iter().map(|given| (given.from, given.records.len())).collect();
    assert_eq!(given, [(10, 0)]);
    share.request(17, now).unwrap();
    assert!(share.answer(answer_of(9, vec![data(0)]), now).unwrap().given.is_empty(), "once");
}

#[test]
fn a_topic_made_anew_is_another_one() {
    let (mut share, now) = (share(), Instant::now());
    let old = position(0, 10);
    share.insert(old.clone());
    share.request(17, now).unwrap();
    share.insert(Position { topic_id: Uuid::from_u128(8), ..position(0, 0) });
    let answer = share.answer(answer_of(9, vec![with_records(0, 10..20)]), now).unwrap();
    assert!(answer.given.is_empty(), "an answer of the old one");
    let (request, _) = share.request(17, now).unwrap();
    assert_eq!((asked(&request), request.topics[0].topic_id), (vec![(0, 0)], Uuid::from_u128(8)));
}

/// A broker takes what a request names into the session before it forgets what the request forgets.
#[test]
fn by_name_what_came_back_under_another_id_is_not_forgotten() {
    let (mut share, now) = (share(), Instant::now());
    let nameless = Assignment::new(Arc::from("u"), 0, 0, None);
    share.insert(Position::of(&nameless));
    let old = position(0, 10);
    share.insert(old.clone());
    let (_, version) = share.request(17, now).unwrap();
    assert_eq!(version, 12, "one of them has no id");
    share.answer(answer_of(9, vec![]), now).unwrap();
    share.remove(&old.assignment);
    share.insert(Position { topic_id: Uuid::from_u128(8), ..position(0, 0) });
    let (request, _) = share.request(17, now).unwrap();
    assert_eq!((asked(&request), forgotten(&request)), (vec![(0, 0)], vec![]));
}

/// The rack stands for a whole request.
#[test]
fn a_leader_that_is_to_serve_a_partition_itself_is_not_told_our_rack() {
    let here = Terms { rack: "here".to_owned(), ..terms(Isolation::ReadCommitted) };
    let (mut share, now) = (Share::new(here), Instant::now());
    let racks = |share: &mut Share| {
        let rack = share.request(17, now).unwrap().0.rack_id.to_string();
        share.answer(answer_of(9, vec![]), now).unwrap();
        rack
    };
    share.insert(position(0, 10));
    assert_eq!(racks(&mut share), "here");
    let kept = Position { without_rack: true, ..position(1, 10) };
    share.insert(kept.clone());
    assert_eq!(racks(&mut share), "");
    share.remove(&kept.assignment);
    assert_eq!(racks(&mut share), "here");
}

#[test]
fn a_session_is_closed_by_the_one_that_takes_its_place() {
    let (mut share, now) = (share(), Instant::now());
    share.insert(position(0, 10));
    share.request(17, now).unwrap();
    share.answer(answer_of(9, vec![]), now).unwrap();
    share.connected(Sizes { answer: 1000, partition: 100 });
    assert_eq!(session(&share.request(17, now).unwrap().0), (9, 0), "another connection");
    share.answer(answer_of(10, vec![]), now).unwrap();
    assert_eq!(session(&share.request(12, now).unwrap().0), (10, 0), "by name");
}

/// A broker cuts no batch off that stands first (KIP-74). One that does is not asked as fast as it
/// answers.
#[test]
fn a_batch_that_is_always_cut_off_is_told_and_rests() {
    let (mut share, now) = (share(), Instant::now());
    share.insert(position(0, 10));
    let whole = with_records(0, 10..30).records.unwrap();
    let mut asked = Vec::new();
    let errors = loop {
        let (request, _) = share.request(17, now).expect("it does not rest yet");
        asked.extend(request.topics.iter().map(|topic| topic.partitions[0].partition_max_bytes));
        let part = data(0).with_records(Some(whole.slice(..50)));
        let answer = share.answer(answer_of(9, vec![part]), now).unwrap();
        if !answer.errors.is_empty() {
            break answer.errors;
        }
    };
    assert_eq!(errors, ["t/0: no whole batch in 50 bytes"]);
    assert!(asked.is_sorted() && asked.last() == Some(&PARTITION_BYTES_MAX), "{asked:?}");
    assert!(share.request(17, now).is_none() && share.next_due() > Some(now));
}
