//! The task of a broker that answers by a script.

use std::sync::mpsc::{Receiver, channel};

use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{ApiVersionsRequest, FetchResponse, SaslAuthenticateResponse};
use tokio::sync::mpsc;
use tokio::time::timeout;
use uuid::Uuid;

use super::super::testing::{batch, context, options};
use super::*;
use crate::config::{Credentials, Isolation, Sasl, Secret};
use crate::connection::tests::fake::{Asked, api_versions, broker, sasl};
use crate::fetcher::Fetched;
use crate::mailbox::Mailbox;
use crate::topic_partition::TopicPartition;

const ID: Uuid = Uuid::from_u128(7);
const PATIENCE: Duration = Duration::from_secs(10);

/// The task of one broker, and the route and the dispatcher that it works for.
struct Stage {
    /// Partitions 0 and 1, which it fetches from the beginning.
    assignments: [Arc<Assignment>; 2],
    broker_commands: UnboundedSender<BrokerCommand>,
    events: UnboundedReceiver<BrokerEvent>,
    records: mpsc::Receiver<Fetched>,
    faults: Receiver<FetchFault>,
}

impl Stage {
    fn new(address: String, sasl: Option<Sasl>) -> Self {
        Self::of(Self::assignments(), address, sasl)
    }

    fn assignments() -> [Arc<Assignment>; 2] {
        [0, 1].map(|partition| Assignment::new(TopicPartition::new("t", partition), 0, None))
    }

    fn of(assignments: [Arc<Assignment>; 2], address: String, sasl: Option<Sasl>) -> Self {
        let stage = Self::idle(assignments, address, sasl);
        for assignment in &stage.assignments {
            let position = FetchPosition { topic_id: ID, ..FetchPosition::of(assignment) };
            stage.broker_commands.send(BrokerCommand::Add(position)).unwrap();
        }
        stage
    }

    /// A task with nothing to fetch yet.
    fn idle(assignments: [Arc<Assignment>; 2], address: String, sasl: Option<Sasl>) -> Self {
        let (sender, records) = mpsc::channel(1);
        let options = options(Isolation::ReadUncommitted);
        let (faults_tx, faults) = channel();
        let context = Arc::new(context(sasl, options.clone(), sender, Mailbox::new(&faults_tx)));
        let (broker_commands, commands_rx) = mpsc::unbounded_channel();
        let (events_tx, events) = mpsc::unbounded_channel();
        let task = FetchTask {
            id: 1,
            address,
            context,
            session: FetchSession::new(options),
            commands: commands_rx,
            events: events_tx,
            probing: false,
        };
        tokio::spawn(task.run());
        Self { assignments, broker_commands, events, records, faults }
    }

    async fn until_event(&mut self, what: &str, is_it: impl Fn(&BrokerEvent) -> bool) {
        let event = async { while !is_it(&self.events.recv().await.unwrap()) {} };
        timeout(PATIENCE, event).await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
    }
}

/// Partition 0 has a large batch, partition 1 is led by another broker.
fn large_answer(asked: &Asked) -> Vec<u8> {
    let partitions = vec![
        PartitionData::default()
            .with_partition_index(0)
            .with_records(Some(batch(0..1, &[b'v'; LARGE]))),
        PartitionData::default()
            .with_partition_index(1)
            .with_error_code(Code::NotLeaderOrFollower.code()),
    ];
    let topic = FetchableTopicResponse::default().with_topic_id(ID).with_partitions(partitions);
    let response = FetchResponse::default().with_session_id(9).with_responses(vec![topic]);
    asked.answer::<FetchRequest>(&response)
}

fn versions(asked: &Asked) -> Vec<u8> {
    let mut versions = api_versions();
    let fetch = ApiVersion::default().with_api_key(ApiKey::Fetch as i16);
    versions.api_keys.push(fetch.with_min_version(4).with_max_version(17));
    asked.answer::<ApiVersionsRequest>(&versions)
}

/// The address of a broker that answers each fetch so.
async fn answering(fetch: fn(&Asked) -> Vec<u8>) -> String {
    broker(move |asked| match asked.key {
        ApiKey::ApiVersions => versions(asked),
        _ => fetch(asked),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_handed_out_whole_also_where_the_next_request_fails() {
    let mut authenticated = 0;
    let mut others = sasl("PLAIN", move |_| {
        authenticated += 1;
        let response = SaslAuthenticateResponse::default().with_session_lifetime_ms(1);
        match authenticated {
            1 => response,
            _ => response.with_error_code(Code::SaslAuthenticationFailed.code()),
        }
    });
    let mut fetches = 0;
    let address = broker(move |asked| match asked.key {
        ApiKey::ApiVersions => versions(asked),
        ApiKey::Fetch => {
            fetches += 1;
            assert_eq!(fetches, 1, "the session is over");
            // Until it is to be renewed.
            std::thread::sleep(Duration::from_millis(1300));
            large_answer(asked)
        }
        _ => others(asked),
    })
    .await;
    let credentials = Credentials { username: "u".to_owned(), password: Secret::new("p") };
    let mut stage = Stage::new(address, Some(Sasl::Plain(credentials)));
    let [first, second] = stage.assignments.clone();
    let fetched = timeout(PATIENCE, stage.records.recv()).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&fetched.assignment, &first));
    assert_eq!(fetched.next_offset(), 1);
    stage
        .until_event("the partition that left", |event| {
            matches!(event, BrokerEvent::Returned(position, ReturnReason::NotLeader { .. })
                if Arc::ptr_eq(&position.assignment, &second))
        })
        .await;
    stage.until_event("the refusal", |event| matches!(event, BrokerEvent::Failed { .. })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_answer_waits_for_no_room() {
    let address = answering(large_answer).await;
    let mut stage = Stage::new(address, None);
    // The one run is not taken, and there is room for no other.
    stage
        .until_event("the partition that left", |event| matches!(event, BrokerEvent::Returned(..)))
        .await;
    assert_eq!(stage.records.len(), 1);
}

/// It is dropped at the next answer, and its topic may be recreated.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_stands_still_can_be_asked_back() {
    let address = answering(large_answer).await;
    let [first, second] = Stage::assignments();
    first.set_corrupt_at(0, 0);
    let mut stage = Stage::of([Arc::clone(&first), Arc::clone(&second)], address, None);
    let is_of = |event: &BrokerEvent, assignment: &Arc<Assignment>, at: i64| {
        matches!(event, BrokerEvent::Returned(position, _)
            if Arc::ptr_eq(&position.assignment, assignment) && position.offset == at)
    };
    stage.until_event("the other one, which left", |event| is_of(event, &second, 0)).await;
    stage.broker_commands.send(BrokerCommand::Return(Arc::clone(&first))).unwrap();
    stage.until_event("the one that stands still", |event| is_of(event, &first, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_stops_half_way_is_given_up_and_orders_are_heard_meanwhile() {
    let address = answering(|asked| {
        let mut answer = large_answer(asked);
        answer.truncate(LARGE / 2);
        answer
    })
    .await;
    let mut stage = Stage::new(address, None);
    let [first, _] = stage.assignments.clone();
    stage
        .until_event("the first notice", |event| matches!(event, BrokerEvent::Failed { .. }))
        .await;
    stage.broker_commands.send(BrokerCommand::Return(Arc::clone(&first))).unwrap();
    let mut returned = false;
    let event = async {
        loop {
            match stage.events.recv().await.unwrap() {
                BrokerEvent::Returned(position, ReturnReason::Requested) => {
                    returned = Arc::ptr_eq(&position.assignment, &first);
                }
                BrokerEvent::Failed { .. } => break,
                BrokerEvent::Connected(_) => panic!("it did not go on"),
                event => panic!("{event:?}"),
            }
        }
    };
    timeout(PATIENCE, event).await.unwrap();
    assert!(returned, "before the answer is given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_can_be_tried_before_there_is_anything_to_fetch() {
    let mut there = Stage::idle(Stage::assignments(), answering(large_answer).await, None);
    there.broker_commands.send(BrokerCommand::Probe).unwrap();
    there.until_event("the connection", |event| matches!(event, BrokerEvent::Connected(1))).await;
    let mut gone = Stage::idle(Stage::assignments(), "127.0.0.1:1".to_owned(), None);
    for _ in 0..2 {
        gone.broker_commands.send(BrokerCommand::Probe).unwrap();
        gone.until_event("the refusal", |event| {
            matches!(event, BrokerEvent::Failed { broker: 1, .. })
        })
        .await;
    }
}

/// Tests that a connection on which nothing is asked may be closed without a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_closed_while_it_was_idle_is_made_again() {
    let mut fetches = 0;
    let address = broker(move |asked| match asked.key {
        ApiKey::ApiVersions => versions(asked),
        _ => {
            fetches += 1;
            if fetches == 1 { Vec::new() } else { large_answer(asked) }
        }
    })
    .await;
    let mut stage = Stage::idle(Stage::assignments(), address, None);
    stage.broker_commands.send(BrokerCommand::Probe).unwrap();
    stage.until_event("the connection", |event| matches!(event, BrokerEvent::Connected(1))).await;
    tokio::time::sleep(2 * QUIET).await;
    let position = FetchPosition { topic_id: ID, ..FetchPosition::of(&stage.assignments[0]) };
    stage.broker_commands.send(BrokerCommand::Add(position)).unwrap();
    assert!(timeout(PATIENCE, stage.records.recv()).await.unwrap().is_some());
    let event = std::iter::from_fn(|| stage.events.try_recv().ok());
    assert!(event.into_iter().all(|event| !matches!(event, BrokerEvent::Failed { .. })));
}

/// Partition 0 has a sound batch, one whose bytes are not those that were written, and one behind
/// it; partition 1 has nothing.
fn rotten_answer(asked: &Asked) -> Vec<u8> {
    let mut rotten = batch(1..2, b"rotten").to_vec();
    *rotten.last_mut().unwrap() ^= 1;
    let records = [batch(0..1, b"v").to_vec(), rotten, batch(3..4, b"v").to_vec()].concat();
    let from = asked
        .read::<FetchRequest>()
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .next()
        .cloned();
    let records = if from.is_some_and(|from| from.partition == 0) { records } else { Vec::new() };
    let partition = PartitionData::default()
        .with_partition_index(0)
        .with_high_watermark(4)
        .with_records(Some(records.into()));
    let topic =
        FetchableTopicResponse::default().with_topic_id(ID).with_partitions(vec![partition]);
    asked.answer::<FetchRequest>(
        &FetchResponse::default().with_session_id(9).with_responses(vec![topic]),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_stays_corrupt_is_reported_with_its_end() {
    let address = answering(rotten_answer).await;
    let mut stage = Stage::idle(Stage::assignments(), address, None);
    let first = Arc::clone(&stage.assignments[0]);
    let position = FetchPosition {
        topic_id: ID,
        ..FetchPosition::new(Arc::clone(&first), first.generation(), 0)
    };
    stage.broker_commands.send(BrokerCommand::Add(position)).unwrap();
    let fetched = timeout(PATIENCE, stage.records.recv()).await.unwrap().unwrap();
    assert_eq!(fetched.next_offset(), 1);
    let waiting = async {
        loop {
            // What is before it comes each time.
            let _ = stage.records.try_recv();
            match stage.faults.try_recv() {
                Ok(FetchFault::Corrupt(CorruptBatch { due, next, error })) => {
                    assert_eq!((due.offset, next), (1, Some(3)));
                    let error = error.to_string();
                    return assert!(error.contains("offset 1: its checksum is"), "{error}");
                }
                Ok(fault) => panic!("{fault:?}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(PATIENCE, waiting).await.unwrap();
}
