use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, PartitionData,
};
use kafka_protocol::messages::{ApiKey, FetchRequest, FetchResponse, ProducerId};
use kafka_protocol::records::{
    Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use uuid::Uuid;

use super::state::{RangeAction, RangeState};
use super::*;
use crate::connection::{ConnectionError, RequestError};
use crate::metadata::{Leader, Metadata, MetadataError, TopicMetadata};

const ID: Uuid = Uuid::from_u128(7);
const TIMEOUT: Duration = Duration::from_secs(30);

fn memory() -> Arc<MemoryPermit> {
    Arc::new(MemoryPermit::unbounded())
}

fn range(from: i64, to: Option<i64>) -> Range {
    Range {
        topic_partition: TopicPartition::new("t", 0),
        topic_id: None,
        from,
        to,
        isolation: Isolation::ReadCommitted,
        timeout: TIMEOUT,
    }
}

fn metadata(leader: i32, id: Uuid) -> Metadata {
    let leaders = [(0, Leader { broker: leader, epoch: leader })].into();
    let topic = TopicMetadata { id, error: None, leaders };
    Metadata {
        brokers: [1, 2].map(|id| (id, format!("broker-{id}:9092"))).into(),
        cluster: None,
        topics: [("t".into(), topic)].into(),
    }
}

/// A batch of records with these offsets, of leader epoch 5. `producer` has a transaction open;
/// `control` ends it by an abort.
fn batch(offsets: impl IntoIterator<Item = i64>, producer: Option<i64>, control: bool) -> Bytes {
    let records: Vec<Record> = offsets
        .into_iter()
        .map(|offset| Record {
            transactional: producer.is_some(),
            control,
            delete_horizon: false,
            partition_leader_epoch: 5,
            producer_id: producer.unwrap_or(-1),
            producer_epoch: if producer.is_some() { 0 } else { -1 },
            timestamp_type: TimestampType::Creation,
            offset,
            sequence: if control || producer.is_none() { -1 } else { 0 },
            timestamp: 0,
            key: control.then(|| Bytes::from_static(&[0; 4])),
            value: Some(Bytes::from_static(b"v")),
            headers: Default::default(),
        })
        .collect();
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
    bytes.freeze()
}

/// A partition whose log ends at 50, and is stable up to 40.
fn data() -> PartitionData {
    PartitionData::default().with_high_watermark(50).with_last_stable_offset(40)
}

fn with(batches: &[Bytes]) -> PartitionData {
    data().with_records(Some(batches.concat().into()))
}

fn failed(code: Code) -> PartitionData {
    data().with_error_code(code.code())
}

/// A range, and what was handed out of it.
struct Stage {
    state: RangeState,
    now: Instant,
    offsets: Vec<i64>,
}

impl Stage {
    fn new(range: Range) -> Self {
        let now = Instant::now();
        Self { state: RangeState::new(range, 1 << 20, now), now, offsets: Vec::new() }
    }

    /// The next action but the handing out of records, which are walked; time goes on to it.
    fn action(&mut self) -> RangeAction {
        loop {
            match self.state.poll_action(self.now) {
                Some(RangeAction::HandOut(mut records)) => {
                    while !records
                        .walk(|record| {
                            self.offsets.push(record.offset);
                            ControlFlow::Break(())
                        })
                        .unwrap()
                    {}
                }
                Some(action) => return action,
                None => {
                    let (due, _) = self.state.poll_timeout().expect("there is credit");
                    assert!(due > self.now, "it is due and does nothing");
                    self.now = due;
                }
            }
        }
    }

    fn metadata(&mut self, answer: Metadata) {
        let RangeAction::FetchMetadata { .. } = self.action() else {
            panic!("no metadata are wanted")
        };
        self.state.handle_metadata(Ok(answer), self.now);
    }

    fn request(&mut self) -> (FetchRequest, String) {
        let RangeAction::Fetch { address } = self.action() else { panic!("nothing is fetched") };
        let (request, version) = self.state.request(17, Duration::ZERO, self.now).unwrap();
        assert_eq!(version, 17);
        (request, address)
    }

    fn fetch(&mut self, answer: PartitionData) -> FetchRequest {
        let (request, _) = self.request();
        self.answer(answer);
        request
    }

    fn answer(&mut self, answer: PartitionData) {
        let topic =
            FetchableTopicResponse::default().with_topic_id(ID).with_partitions(vec![answer]);
        let response = FetchResponse::default().with_responses(vec![topic]);
        self.state.handle_answer(response, memory(), self.now);
    }

    fn end(&mut self) -> (Vec<i64>, i64) {
        let RangeAction::End { position } = self.action() else { panic!("no end") };
        assert!(self.state.poll_action(self.now).is_none(), "nothing follows");
        (std::mem::take(&mut self.offsets), position)
    }

    fn error(&mut self) -> ReadError {
        let RangeAction::Fail(error) = self.action() else { panic!("no error") };
        assert!(self.state.poll_action(self.now).is_none(), "nothing follows");
        error
    }
}

fn at_leader(range: Range) -> Stage {
    let mut stage = Stage::new(range);
    stage.metadata(metadata(1, ID));
    stage
}

fn offset_of(request: &FetchRequest) -> i64 {
    request.topics[0].partitions[0].fetch_offset
}

#[test]
fn a_range_is_read_answer_by_answer_without_a_session() {
    let mut stage = at_leader(range(10, Some(22)));
    let request = stage.fetch(with(&[batch(8..12, None, false), batch(12..15, None, false)]));
    assert_eq!((request.session_id, request.session_epoch, request.max_wait_ms), (0, -1, 0));
    let asked = &request.topics[0].partitions[0];
    assert_eq!((asked.fetch_offset, asked.current_leader_epoch), (10, 1));
    let request = stage.fetch(with(&[batch(15..30, None, false)]));
    assert_eq!((offset_of(&request), request.session_epoch), (15, -1));
    assert_eq!(stage.end(), ((10..22).collect(), 22));
}

#[test]
fn a_range_ends_where_the_log_ended_at_the_first_answer() {
    let uncommitted = Isolation::ReadUncommitted;
    for (to, isolation, end) in [
        (None, Isolation::ReadCommitted, 40),
        (None, uncommitted, 50),
        (Some(1000), Isolation::ReadCommitted, 40),
        (Some(45), uncommitted, 45),
    ] {
        let mut stage = at_leader(Range { isolation, ..range(38, to) });
        stage.fetch(with(&[batch(38..60, None, false)]));
        assert_eq!(stage.end(), ((38..end).collect(), end), "{to:?}");
    }
    let mut stage = at_leader(range(40, None));
    stage.fetch(data());
    assert_eq!(stage.end(), (vec![], 40), "nothing is there");
    assert_eq!(Stage::new(range(10, Some(10))).end(), (vec![], 10), "nothing is wanted");
}

#[test]
fn what_is_not_handed_out_moves_the_position() {
    for (batches, offsets) in [
        // Compacted away, also at the end of the range.
        (vec![batch([12, 14], None, false), batch([31], None, false)], vec![12, 14]),
        // An aborted transaction, its marker, and one that was committed.
        (
            vec![
                batch(10..13, Some(9), false),
                batch([13], None, false),
                batch([14], Some(9), true),
                batch(15..30, Some(9), false),
            ],
            [vec![13], (15..30).collect()].concat(),
        ),
    ] {
        let mut stage = at_leader(range(10, Some(30)));
        let transaction =
            AbortedTransaction::default().with_producer_id(ProducerId(9)).with_first_offset(10);
        stage.fetch(with(&batches).with_aborted_transactions(Some(vec![transaction])));
        assert_eq!(stage.end(), (offsets, 30));
    }
}

#[test]
fn a_leader_that_is_none_is_looked_up_again() {
    for code in [Code::NotLeaderOrFollower, Code::FencedLeaderEpoch, Code::UnknownTopicId] {
        let mut stage = at_leader(range(10, Some(15)));
        stage.fetch(with(&[batch(10..12, None, false)]));
        stage.fetch(failed(code));
        let RangeAction::FetchMetadata { leave: false } = stage.action() else { panic!("{code}") };
        stage.state.handle_metadata(Ok(metadata(1, ID)), stage.now);
        stage.fetch(failed(code));
        let RangeAction::FetchMetadata { leave: true } = stage.action() else {
            panic!("{code}: the same server names the wrong leader")
        };
        stage.state.handle_metadata(Ok(metadata(2, ID)), stage.now);
        let (request, address) = stage.request();
        assert_eq!((offset_of(&request), &*address), (12, "broker-2:9092"));
        assert_eq!(request.topics[0].partitions[0].current_leader_epoch, 2);
    }
}

#[test]
fn a_broker_that_is_lost_is_left_and_nothing_is_repeated() {
    let mut stage = at_leader(range(10, Some(15)));
    stage.fetch(with(&[batch(10..12, None, false)]));
    stage.request();
    let lost = ConnectionError::new("broker-1:9092", "closed");
    stage.state.handle_lost(lost.into(), stage.now);
    stage.metadata(metadata(2, ID));
    let request = stage.fetch(with(&[batch(12..15, None, false)]));
    assert_eq!(offset_of(&request), 12);
    assert_eq!(stage.end(), ((10..15).collect(), 15));
}

#[test]
fn what_cannot_be_gone_on_from_is_an_error() {
    let topic_partition = || TopicPartition::new("t", 0);
    let truncated = EpochEndOffset::default().with_epoch(4).with_end_offset(11);
    for (answer, expected) in [
        (
            failed(Code::OffsetOutOfRange),
            ReadError::OutOfRange { topic_partition: topic_partition(), offset: 10 },
        ),
        (
            data().with_diverging_epoch(truncated),
            ReadError::Truncated { topic_partition: topic_partition(), offset: 10 },
        ),
    ] {
        let mut stage = at_leader(range(10, Some(30)));
        if matches!(expected, ReadError::Truncated { .. }) {
            // What was read last is known to be of epoch 5.
            stage.fetch(with(&[batch(10..20, None, false)]));
        }
        stage.fetch(answer);
        assert_eq!(stage.error(), expected);
    }
}

#[test]
fn a_topic_that_was_recreated_is_not_read() {
    let other = Uuid::from_u128(8);
    let recreated =
        ReadError::Recreated { topic_partition: TopicPartition::new("t", 0), topic_id: other };
    // While it is read, and before.
    let mut stage = at_leader(range(10, Some(30)));
    stage.fetch(failed(Code::UnknownTopicId));
    stage.metadata(metadata(1, other));
    let RangeAction::FetchMetadata { leave: true } = stage.action() else {
        panic!("it is believed")
    };
    stage.state.handle_metadata(Ok(metadata(1, other)), stage.now);
    assert_eq!(stage.error(), recreated);
    let mut stage = Stage::new(Range { topic_id: Some(ID), ..range(10, Some(30)) });
    stage.metadata(metadata(1, other));
    stage.metadata(metadata(1, ID));
    stage.fetch(failed(Code::NotLeaderOrFollower));
    stage.metadata(metadata(1, other));
    stage.metadata(metadata(1, other));
    assert_eq!(stage.error(), recreated, "only the second one in a row is believed");
}

#[test]
fn a_batch_that_is_never_right_is_an_error_behind_what_is() {
    let mut broken = batch([12], None, false).to_vec();
    *broken.last_mut().unwrap() ^= 1;
    let mut stage = at_leader(range(10, Some(30)));
    let right = batch(10..12, None, false);
    stage.fetch(with(&[right, broken.clone().into()]));
    let error = loop {
        match stage.action() {
            RangeAction::Fetch { .. } => {}
            RangeAction::Fail(error) => break error,
            _ => panic!("nothing else is to be done"),
        }
        // Its requests rest in between, at times for longer than asked here.
        if let Some((request, _)) = stage.state.request(17, Duration::ZERO, stage.now) {
            assert_eq!(offset_of(&request), 12);
            stage.answer(with(&[broken.clone().into()]));
        }
    };
    assert!(matches!(error, ReadError::Corrupt { offset: 12, .. }), "{error}");
    assert_eq!(stage.offsets, [10, 11]);
}

#[test]
fn nothing_is_fetched_without_credit() {
    let mut stage = at_leader(range(10, Some(20)));
    stage.state.set_credit(0, stage.now);
    assert!(stage.state.poll_action(stage.now).is_none());
    assert!(stage.state.poll_timeout().is_none(), "only credit changes anything");
    stage.now += 2 * TIMEOUT;
    stage.state.set_credit(100, stage.now);
    let request = stage.fetch(with(&[batch(10..20, None, false)]));
    assert_eq!(request.topics[0].partitions[0].partition_max_bytes, 100);
    let Some(RangeAction::HandOut(first)) = stage.state.poll_action(stage.now) else { panic!() };
    assert_eq!(first.next_offset(), 20, "a run is handed out whole");

    let mut stage = at_leader(range(10, Some(30)));
    stage.state.set_credit(1, stage.now);
    stage.fetch(with(&[batch(10..20, None, false)]));
    let Some(RangeAction::HandOut(_)) = stage.state.poll_action(stage.now) else { panic!() };
    for _ in 0..2 {
        stage.state.set_credit(1, stage.now);
        assert!(stage.state.poll_action(stage.now).is_none(), "it is set, not added");
    }
    stage.state.set_credit(1 << 20, stage.now);
    stage.fetch(with(&[batch(20..30, None, false)]));
    assert_eq!(stage.end().1, 30);
}

#[test]
fn a_quota_that_is_used_up_is_waited_for() {
    let mut stage = at_leader(range(10, Some(20)));
    let began = stage.now;
    stage.request();
    let topic = FetchableTopicResponse::default()
        .with_topic_id(ID)
        .with_partitions(vec![with(&[batch(10..15, None, false)])]);
    let response = FetchResponse::default().with_responses(vec![topic]).with_throttle_time_ms(2000);
    stage.state.handle_answer(response, memory(), stage.now);
    stage.fetch(with(&[batch(15..20, None, false)]));
    assert_eq!(stage.now - began, Duration::from_secs(2));
    assert_eq!(stage.end().1, 20);
}

#[test]
fn a_range_without_progress_is_given_up() {
    let mut stage = Stage::new(range(10, Some(20)));
    let began = stage.now;
    let error = loop {
        match stage.action() {
            RangeAction::FetchMetadata { .. } => {
                let answer = Err(MetadataError::NoBroker);
                stage.state.handle_metadata(answer, stage.now);
            }
            RangeAction::Fail(error) => break error,
            _ => panic!("nothing else can be done"),
        }
    };
    assert!(error.is_retriable() && error.to_string().contains("no broker is known"), "{error}");
    assert_eq!(stage.now - began, TIMEOUT);
    let mut stage = at_leader(range(10, Some(20)));
    stage.request();
    let broker = "broker-1:9092".to_owned();
    let too_old = RequestError::TooOld { broker, api: ApiKey::Fetch };
    stage.state.handle_lost(too_old, stage.now);
    assert!(matches!(stage.error(), ReadError::TooOld { .. }));
}
