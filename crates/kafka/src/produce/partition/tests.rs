//! Each rule by itself.

use kafka_protocol::ResponseError as Code;

use super::*;
use crate::produce::Delivery;

struct Bench {
    partition: Partition,
    buffers: Buffers,
    now: Instant,
    next: Ticket,
}

fn settings() -> Settings {
    Settings { batch_bytes: 1000, linger: Duration::ZERO, delivery_timeout: None, codec: None }
}

fn leader(broker: i32, epoch: i32) -> Option<Leader> {
    Some(Leader { broker, epoch })
}

const ID: ProducerId = ProducerId { id: 7, epoch: 0 };

impl Bench {
    fn new(settings: Settings) -> Self {
        Self {
            partition: Partition::new(3, settings),
            buffers: Buffers::default(),
            now: Instant::now(),
            next: 0,
        }
    }

    /// A partition with a leader that has answered, whose log has record 0.
    fn open() -> Self {
        let mut bench = Self::new(settings());
        bench.partition.handle_leader(leader(1, 1));
        bench.push(1);
        assert!(bench.partition.poll_id(bench.now));
        bench.partition.handle_id(Ok(ID), bench.now);
        let first = bench.request().unwrap();
        bench.written(&first, 0);
        assert_eq!(bench.told(), [(0, Ok(Some(0)))]);
        bench
    }

    fn push(&mut self, records: usize) {
        for _ in 0..records {
            let value = [b'v'; 10];
            let record = NewRecord { timestamp: 5, key: None, value: Some(&value), headers: &[] };
            self.partition.push(self.next, &record, &mut self.buffers, self.now);
            self.next += 1;
        }
    }

    fn request(&mut self) -> Option<Request> {
        self.partition.poll_request(self.now, Fill::Any, &mut self.buffers)
    }

    /// A request with so many records of its own.
    fn sent(&mut self, records: usize) -> Request {
        self.push(records);
        self.request().unwrap()
    }

    fn answer(&mut self, request: &Request, error: Option<Code>, base_offset: i64) {
        let answer =
            Answer { error, message: None, base_offset, log_append_time: -1, log_start: 0 };
        self.partition.handle_answer(request.number, &answer, &mut self.buffers, self.now);
    }

    fn written(&mut self, request: &Request, offset: i64) {
        self.answer(request, None, offset);
    }

    fn error(&mut self, request: &Request, code: Code) {
        self.answer(request, Some(code), -1);
    }

    /// Passes the pause after an error.
    fn rest(&mut self) {
        self.now += BACKOFF.longest;
        self.partition.handle_timeout(self.now);
    }

    fn told(&mut self) -> Vec<(Ticket, Result<Option<i64>, &'static str>)> {
        let mut told = Vec::new();
        while let Some(deliveries) = self.partition.poll_delivery() {
            told.extend(deliveries.map(|Delivery { ticket, outcome }| {
                (ticket, outcome.map(|written| written.offset).map_err(|error| kind(&error)))
            }));
        }
        told
    }
}

fn kind(error: &WriteError) -> &'static str {
    match error {
        WriteError::TooLarge(_) => "too large",
        WriteError::NotAllowed(_) => "not allowed",
        WriteError::Unknown(_) => "unknown",
        WriteError::Kafka { retriable: true, .. } => "retriable",
        WriteError::Kafka { retriable: false, .. } => "final",
    }
}

/// Epoch and sequence of a request.
fn place(request: &Request) -> (i16, i32) {
    let bytes = &request.bytes;
    (
        i16::from_be_bytes([bytes[51], bytes[52]]),
        i32::from_be_bytes(bytes[53..57].try_into().unwrap()),
    )
}

#[test]
fn one_request_until_the_leader_has_answered_then_four() {
    let mut bench = Bench::new(settings());
    bench.push(1);
    assert!(!bench.partition.poll_id(bench.now), "there is no leader");
    assert!(bench.partition.poll_wants_leader());
    bench.partition.handle_leader(leader(1, 1));
    assert!(bench.partition.poll_id(bench.now));
    assert!(!bench.partition.poll_id(bench.now), "it is asked for once");
    assert!(bench.request().is_none(), "it has no id");
    bench.partition.handle_id(Ok(ID), bench.now);
    let first = bench.request().unwrap();
    assert_eq!(place(&first), (0, 0));
    bench.push(2);
    assert!(bench.request().is_none(), "the leader has not answered");
    bench.written(&first, 40);
    let [second, third] = [bench.request().unwrap(), bench.sent(1)];
    assert_eq!((place(&second), place(&third)), ((0, 1), (0, 3)));
    let [_, _] = [bench.sent(1), bench.sent(1)];
    bench.push(1);
    assert!(bench.request().is_none(), "four are in flight");
    bench.written(&second, 41);
    assert_eq!(place(&bench.request().unwrap()), (0, 6));
    assert_eq!(bench.told(), [(0, Ok(Some(40))), (1, Ok(Some(41))), (2, Ok(Some(42)))]);
}

#[test]
fn a_batch_is_full_by_its_size_and_waits_by_linger() {
    let mut bench = Bench::new(Settings { linger: Duration::from_secs(5), ..settings() });
    bench.partition.handle_leader(leader(1, 1));
    bench.push(1);
    assert!(bench.partition.poll_id(bench.now));
    bench.partition.handle_id(Ok(ID), bench.now);
    assert!(bench.request().is_none(), "it lingers");
    let due = (bench.now + Duration::from_secs(5), "linger");
    assert_eq!(bench.partition.poll_timeout(), Some(due));
    bench.push(100);
    let full = bench.partition.poll_request(bench.now, Fill::Full, &mut bench.buffers).unwrap();
    assert!(full.bytes.len() <= 1000 && full.bytes.len() > 900, "{}", full.bytes.len());
    bench.written(&full, 0);
    while let Some(more) = bench.request() {
        bench.written(&more, 0);
    }
    bench.now += Duration::from_secs(5);
    assert!(bench.partition.poll_request(bench.now, Fill::Full, &mut bench.buffers).is_none());
    assert!(bench.request().is_some(), "its time is over");
}

#[test]
fn the_same_bytes_go_again_and_alone_at_first() {
    for code in [
        Code::RequestTimedOut,
        Code::NotEnoughReplicasAfterAppend,
        Code::NotEnoughReplicas,
        Code::NotLeaderOrFollower,
        Code::UnknownTopicOrPartition,
        Code::UnknownServerError,
    ] {
        let mut bench = Bench::open();
        let [first, second] = [bench.sent(1), bench.sent(2)];
        bench.error(&first, code);
        bench.rest();
        bench.push(1);
        assert!(bench.request().is_none(), "{code}: one is still in flight");
        // By this broker's answer it is missing what was before it.
        bench.error(&second, Code::OutOfOrderSequenceNumber);
        assert!(bench.request().is_none(), "{code}: it pauses");
        bench.rest();
        let again = bench.request().unwrap();
        assert_eq!(again.bytes, first.bytes, "{code}");
        assert!(bench.request().is_none(), "{code}: the leader has to answer first");
        bench.written(&again, 1);
        let again = bench.request().unwrap();
        assert_eq!(again.bytes, second.bytes, "{code}");
        assert_eq!(place(&bench.request().unwrap()), (0, 4), "{code}");
        bench.written(&again, 2);
        assert_eq!(bench.told(), [(1, Ok(Some(1))), (2, Ok(Some(2))), (3, Ok(Some(3)))], "{code}");
    }
}

#[test]
fn a_partition_moves_once_the_old_leader_s_requests_have_ended() {
    let mut bench = Bench::open();
    let [first, second] = [bench.sent(1), bench.sent(1)];
    bench.partition.handle_leader(leader(2, 2));
    bench.push(1);
    assert!(bench.request().is_none());
    assert_eq!(bench.partition.held_at(), Some(1));
    bench.written(&first, 1);
    assert!(bench.request().is_none(), "one has not ended");
    bench.partition.handle_lost(second.number, true, bench.now);
    bench.rest();
    let again = bench.request().unwrap();
    assert_eq!((again.bytes.clone(), bench.partition.broker()), (second.bytes, Some(2)));
    assert!(bench.request().is_none(), "the new leader has not answered");
    bench.partition.handle_leader(leader(1, 1));
    assert_eq!(bench.partition.broker(), Some(2), "an old epoch is not news");
    bench.written(&again, 2);
    assert!(bench.request().is_some());
}

#[test]
fn what_is_too_large_is_divided_and_the_rest_goes_on() {
    let mut bench = Bench::open();
    let [large, behind] = [bench.sent(5), bench.sent(1)];
    bench.error(&large, Code::MessageTooLarge);
    assert!(bench.request().is_none(), "one is in flight");
    bench.error(&behind, Code::OutOfOrderSequenceNumber);
    let first = bench.request().unwrap();
    assert_eq!(place(&first), (1, 0), "a new epoch");
    bench.written(&first, 1);
    let [second, third] = [bench.request().unwrap(), bench.request().unwrap()];
    assert_eq!((place(&second), place(&third)), ((1, 3), (1, 5)));
    bench.written(&second, 4);
    bench.written(&third, 6);
    let told: Vec<_> = (1..=6).map(|at: i64| (at as Ticket, Ok(Some(at)))).collect();
    assert_eq!(bench.told(), told);
    // Later ones are smaller from the start.
    bench.push(5);
    let first = bench.request().unwrap();
    assert!(first.bytes.len() <= large.bytes.len() / 2 + 80, "{}", first.bytes.len());
}

#[test]
fn what_is_refused_alone_fails_alone() {
    for (code, told) in [
        (Code::MessageTooLarge, "too large"),
        (Code::InvalidTimestamp, "final"),
        (Code::PolicyViolation, "final"),
        (Code::TopicAuthorizationFailed, "not allowed"),
    ] {
        let mut bench = Bench::open();
        let [bad, good] = [bench.sent(1), bench.sent(1)];
        bench.error(&bad, code);
        bench.error(&good, Code::OutOfOrderSequenceNumber);
        assert_eq!(bench.told(), [(1, Err(told))], "{code}");
        let again = bench.request().unwrap();
        assert_eq!(place(&again), (1, 0), "{code}");
        bench.written(&again, 1);
        assert_eq!(bench.told(), [(2, Ok(Some(1)))], "{code}");
    }
}

#[test]
fn what_may_be_in_the_log_is_never_told_failed_nor_sealed_anew() {
    for (code, records) in [
        (Code::MessageTooLarge, 1),
        (Code::MessageTooLarge, 5),
        (Code::OutOfOrderSequenceNumber, 1),
        (Code::UnknownProducerId, 1),
        (Code::InvalidProducerEpoch, 1),
        (Code::TopicAuthorizationFailed, 2),
    ] {
        let mut bench = Bench::open();
        let lost = bench.sent(records);
        bench.partition.handle_lost(lost.number, true, bench.now);
        bench.rest();
        let again = bench.request().unwrap();
        bench.error(&again, code);
        let told = bench.told();
        assert_eq!(told.len(), records, "{code}");
        assert!(told.iter().all(|(_, outcome)| *outcome == Err("unknown")), "{code}: {told:?}");
        assert!(bench.partition.is_empty(), "{code}");
    }
}

#[test]
fn what_never_reached_the_broker_goes_on_under_a_new_epoch() {
    let mut bench = Bench::open();
    let lost = bench.sent(1);
    bench.partition.handle_lost(lost.number, false, bench.now);
    bench.rest();
    let again = bench.request().unwrap();
    bench.error(&again, Code::OutOfOrderSequenceNumber);
    assert!(bench.partition.poll_report().is_some_and(|report| report.contains("may be lost")));
    bench.rest();
    let again = bench.request().unwrap();
    assert_eq!(place(&again), (1, 0));
    bench.written(&again, 9);
    assert_eq!(bench.told(), [(1, Ok(Some(9)))]);
}

#[test]
fn a_log_that_was_deleted_has_lost_nothing() {
    let mut bench = Bench::open();
    let sent = bench.sent(1);
    let answer = Answer {
        error: Some(Code::UnknownProducerId),
        message: None,
        base_offset: -1,
        log_append_time: -1,
        log_start: 1,
    };
    bench.partition.handle_answer(sent.number, &answer, &mut bench.buffers, bench.now);
    assert_eq!(bench.partition.poll_report(), None);
    bench.rest();
    assert_eq!(place(&bench.request().unwrap()), (1, 0));
}

#[test]
fn a_repeat_is_written_though_nobody_knows_where() {
    let mut bench = Bench::open();
    let sent = bench.sent(2);
    bench.error(&sent, Code::DuplicateSequenceNumber);
    assert_eq!(bench.told(), [(1, Ok(None)), (2, Ok(None))]);
}

#[test]
fn a_new_id_comes_after_the_last_epoch() {
    let mut bench = Bench::new(settings());
    bench.partition.handle_leader(leader(1, 1));
    bench.push(1);
    assert!(bench.partition.poll_id(bench.now));
    bench.partition.handle_id(Ok(ProducerId { id: 7, epoch: i16::MAX }), bench.now);
    let first = bench.request().unwrap();
    bench.error(&first, Code::MessageTooLarge);
    bench.push(1);
    assert!(bench.request().is_none() && bench.partition.poll_id(bench.now));
    bench.partition.handle_id(Err(Some(Code::CoordinatorLoadInProgress)), bench.now);
    assert!(!bench.partition.poll_id(bench.now), "it pauses");
    bench.rest();
    assert!(bench.partition.poll_id(bench.now));
    bench.partition.handle_id(Ok(ProducerId { id: 8, epoch: 0 }), bench.now);
    assert_eq!(place(&bench.request().unwrap()), (0, 0));
}

#[test]
fn without_the_right_to_an_id_nothing_can_be_written() {
    let mut bench = Bench::new(settings());
    bench.partition.handle_leader(leader(1, 1));
    bench.push(2);
    assert!(bench.partition.poll_id(bench.now));
    bench.partition.handle_id(Err(Some(Code::ClusterAuthorizationFailed)), bench.now);
    assert_eq!(bench.told(), [(0, Err("not allowed")), (1, Err("not allowed"))]);
}

#[test]
fn what_is_too_old_is_given_up_as_what_it_is() {
    let timeout = Duration::from_secs(60);
    let mut bench = Bench::new(Settings { delivery_timeout: Some(timeout), ..settings() });
    bench.push(1);
    assert_eq!(
        bench.partition.poll_timeout(),
        Some((bench.now + timeout, "delivery timeout")),
        "there is no leader"
    );
    bench.now += timeout / 2;
    bench.push(1);
    bench.now += timeout / 2;
    bench.partition.handle_timeout(bench.now);
    assert_eq!(bench.told(), [(0, Err("retriable"))], "it was never sent");
    bench.partition.handle_leader(leader(1, 1));
    assert!(bench.partition.poll_id(bench.now));
    bench.partition.handle_id(Ok(ID), bench.now);
    let sent = bench.request().unwrap();
    bench.now += timeout / 2;
    bench.push(1);
    bench.partition.handle_timeout(bench.now);
    assert_eq!(bench.told(), [(1, Err("unknown"))], "its request is under way");
    assert!(bench.request().is_none(), "and has not ended");
    bench.written(&sent, 5);
    assert_eq!(bench.told(), [], "it was told already");
    assert_eq!(place(&bench.request().unwrap()), (1, 0));
}

#[test]
fn after_a_long_silence_the_leader_is_asked_with_one_request() {
    let mut bench = Bench::open();
    bench.now += QUIET;
    let first = bench.sent(1);
    bench.push(1);
    assert!(bench.request().is_none());
    bench.written(&first, 1);
    assert!(bench.request().is_some());
}

#[test]
fn a_topic_that_was_made_again_gets_what_was_not_answered() {
    let mut bench = Bench::open();
    let sent = bench.sent(1);
    bench.partition.handle_recreated(leader(1, 0));
    assert!(bench.request().is_none());
    bench.partition.handle_lost(sent.number, true, bench.now);
    bench.rest();
    let again = bench.request().unwrap();
    assert_eq!(again.bytes, sent.bytes);
    bench.written(&again, 0);
    assert_eq!(bench.told(), [(1, Ok(Some(0)))]);
}

#[test]
fn a_topic_that_is_gone_ends_everything() {
    let mut bench = Bench::open();
    let [sent, lost] = [bench.sent(1), bench.sent(1)];
    bench.partition.handle_lost(lost.number, false, bench.now);
    bench.push(2);
    let error =
        WriteError::Kafka { error: "gone".to_owned(), reason: "gone".to_owned(), retriable: false };
    bench.partition.fail_all(&error);
    assert_eq!(
        bench.told(),
        [(1, Err("unknown")), (2, Err("final")), (3, Err("final")), (4, Err("final"))]
    );
    bench.error(&sent, Code::UnknownTopicOrPartition);
    assert!(bench.partition.is_empty());
}

#[test]
fn a_buffer_in_flight_is_not_used_again() {
    let mut bench = Bench::open();
    bench.push(1);
    bench.partition.expected = 1 << 20;
    let held = bench.request().unwrap();
    bench.partition.expected = 1 << 20;
    let before = held.bytes.clone();
    bench.written(&held, 1);
    for _ in 0..20 {
        bench.partition.expected = 1 << 20;
        let next = bench.sent(1);
        assert_ne!(next.bytes.as_ptr(), held.bytes.as_ptr());
        bench.written(&next, 2);
    }
    assert_eq!(held.bytes, before);
}

#[test]
fn what_no_broker_can_have_is_given_up_and_the_rest_is_waited_for() {
    let denied = WriteError::NotAllowed("over".to_owned());
    // One is under way, one was sent and its answer got lost, one was refused for now.
    let mut bench = Bench::open();
    let first = bench.sent(2);
    bench.push(3);
    bench.partition.fail_never_sent(&denied);
    let told = bench.told();
    assert_eq!(told.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(), [3, 4, 5]);
    assert!(told.iter().all(|(_, outcome)| *outcome == Err("not allowed")), "{told:?}");
    bench.written(&first, 1);
    assert_eq!(bench.told(), [(1, Ok(Some(1))), (2, Ok(Some(2)))]);

    let mut bench = Bench::open();
    let lost = bench.sent(1);
    bench.partition.handle_lost(lost.number, true, bench.now);
    bench.partition.fail_never_sent(&denied);
    assert_eq!(bench.told(), [], "a broker may have it: it is sent again");

    let mut bench = Bench::open();
    let refused = bench.sent(1);
    bench.error(&refused, Code::NotLeaderOrFollower);
    bench.partition.fail_never_sent(&denied);
    assert_eq!(bench.told(), [(1, Err("not allowed"))], "no broker has it");

    let mut bench = Bench::new(settings());
    bench.push(1);
    bench.partition.fail_never_sent(&denied);
    assert_eq!(bench.told(), [(0, Err("not allowed"))]);
}

#[test]
fn what_was_sent_is_waited_for_though_what_came_behind_it_is_given_up() {
    use Code::{NotLeaderOrFollower as Refused, RequestTimedOut as Unclear};
    let denied = || WriteError::NotAllowed("over".to_owned());
    // What became of the requests of two batches; then what is told at once, and what is sent
    // again.
    for (name, first, second, told, again) in [
        ("lost, refused", None, Some(Refused), vec![(2, Err("not allowed"))], true),
        ("unclear, refused", Some(Unclear), Some(Refused), vec![(2, Err("not allowed"))], true),
        ("both lost", None, None, vec![], true),
        (
            "both refused",
            Some(Refused),
            Some(Refused),
            vec![(1, Err("not allowed")), (2, Err("not allowed"))],
            false,
        ),
        // The log takes the second one only behind the first.
        (
            "refused, lost",
            Some(Refused),
            None,
            vec![(1, Err("not allowed")), (2, Err("unknown"))],
            false,
        ),
    ] {
        let mut bench = Bench::open();
        let requests = [(bench.sent(1), first), (bench.sent(1), second)];
        for (request, error) in &requests {
            match error {
                Some(code) => bench.error(request, *code),
                None => bench.partition.handle_lost(request.number, true, bench.now),
            }
        }
        bench.partition.fail_never_sent(&denied());
        assert_eq!(bench.told(), told, "{name}");
        bench.rest();
        let sent = bench.request();
        assert_eq!(sent.is_some(), again, "{name}");
        let Some(sent) = sent else { continue };
        assert_eq!(sent.bytes, requests[0].0.bytes, "{name}: as it was");
        bench.written(&sent, 1);
        assert_eq!(bench.told(), [(1, Ok(Some(1)))], "{name}");
        if told.is_empty() {
            let sent = bench.request().unwrap();
            bench.written(&sent, 2);
            assert_eq!(bench.told(), [(2, Ok(Some(2)))], "{name}");
        }
        // What comes later goes on behind it.
        let later = bench.sent(1);
        let behind = if told.is_empty() { 3 } else { 2 };
        assert_eq!(place(&later), (0, behind), "{name}");
    }
    // One that is under way again, while what came behind it waits for that.
    let mut bench = Bench::open();
    let [first, second] = [bench.sent(1), bench.sent(1)];
    bench.partition.handle_lost(first.number, true, bench.now);
    bench.error(&second, Refused);
    bench.rest();
    let again = bench.request().unwrap();
    bench.partition.fail_never_sent(&denied());
    assert_eq!(bench.told(), [(2, Err("not allowed"))]);
    bench.partition.handle_lost(again.number, true, bench.now);
    bench.rest();
    assert_eq!(bench.told(), [], "it is not given up");
    let again = bench.request().unwrap();
    bench.error(&again, Code::DuplicateSequenceNumber);
    assert_eq!(bench.told(), [(1, Ok(None))], "it was there");
}

#[test]
fn what_is_refused_after_the_end_is_not_sent_again() {
    let denied = WriteError::NotAllowed("over".to_owned());
    for (name, ends, told) in [
        ("refused", Some(Code::NotLeaderOrFollower), vec![(1, Err("not allowed"))]),
        ("too large", Some(Code::MessageTooLarge), vec![(1, Err("not allowed"))]),
        ("never sent", None, vec![(1, Err("not allowed"))]),
        ("unclear", Some(Code::RequestTimedOut), vec![]),
    ] {
        let mut bench = Bench::open();
        let sent = bench.sent(2);
        bench.partition.fail_never_sent(&denied);
        assert_eq!(bench.told(), [], "{name}: it is under way");
        match ends {
            Some(code) => bench.error(&sent, code),
            None => bench.partition.handle_lost(sent.number, false, bench.now),
        }
        let told_of: Vec<_> = bench.told().into_iter().take(1).collect();
        assert_eq!(told_of, told, "{name}");
        bench.rest();
        assert_eq!(bench.request().is_some(), told.is_empty(), "{name}");
    }
}
