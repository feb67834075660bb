//! The task of a broker that answers by a script.

use std::sync::mpsc::channel;

use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{ApiVersionsRequest, FetchResponse, SaslAuthenticateResponse};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use tokio::sync::mpsc;
use tokio::time::timeout;
use uuid::Uuid;

use super::super::budget::Budget;
use super::super::share::Terms;
use super::*;
use crate::config::{ClusterConfig, Credentials, Isolation, Sasl, Secret, Security};
use crate::connection::Connector;
use crate::connection::tests::fake::{Asked, api_versions, broker, sasl};
use crate::fetcher::Outlet;
use crate::noise::Noise;
use crate::report::Reporter;
use crate::status::Board;

const ID: Uuid = Uuid::from_u128(7);
const PATIENCE: Duration = Duration::from_secs(10);

/// The task of one broker, and the route and the dispatcher that it works for.
struct Stage {
    orders: UnboundedSender<Order>,
    told: UnboundedReceiver<Told>,
    records: mpsc::Receiver<Fetched>,
}

impl Stage {
    fn new(address: String, sasl: Option<Sasl>, room: usize) -> Self {
        let security = Security { tls: None, sasl };
        let cluster = ClusterConfig { bootstrap_servers: Vec::new(), security, client_rack: None };
        let board = Arc::new(Board::default());
        let (sender, records) = mpsc::channel(room);
        let terms = Terms {
            isolation: Isolation::ReadUncommitted,
            rack: String::new(),
            answer_bytes: 1 << 20,
            partition_bytes: 1 << 20,
        };
        let wiring = Wiring {
            connector: Connector::new(&cluster, None).unwrap(),
            bootstrap: Vec::new(),
            terms: terms.clone(),
            refresh: Duration::from_secs(30),
            budget: Budget::new(1 << 20),
            limit: 1 << 20,
            outlet: Outlet::new(sender, Arc::clone(&board)),
            commands: channel().0,
            reporter: Reporter::new("r", &board, &Arc::new(Noise::default())),
            board,
        };
        let (orders, ordered) = mpsc::unbounded_channel();
        let (tell, told) = mpsc::unbounded_channel();
        let task = Broker {
            id: 1,
            address,
            wiring: Arc::new(wiring),
            share: Share::new(terms),
            orders: ordered,
            tell,
        };
        tokio::spawn(task.run());
        Self { orders, told, records }
    }

    fn add(&self, partition: i32) -> Arc<Assignment> {
        let assignment = Assignment::new(Arc::from("t"), partition, 0, None);
        let position = Position { topic_id: ID, ..Position::new(Arc::clone(&assignment), 0) };
        self.orders.send(Order::Add(position)).unwrap();
        assignment
    }

    async fn until_told(&mut self, what: &str, is_it: impl Fn(&Told) -> bool) {
        let told = async { while !is_it(&self.told.recv().await.unwrap()) {} };
        timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
    }
}

/// One batch with one record of so many bytes.
fn batch(size: usize) -> Bytes {
    let record = Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 5,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence: -1,
        timestamp: 0,
        key: None,
        value: Some(vec![b'v'; size].into()),
        headers: Default::default(),
    };
    let mut bytes = bytes::BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, [&record], &options).unwrap();
    bytes.freeze()
}

/// Partition 0 has a large batch, partition 1 is led by another broker.
fn large_answer(asked: &Asked) -> Vec<u8> {
    let partitions = vec![
        PartitionData::default().with_partition_index(0).with_records(Some(batch(LARGE))),
        PartitionData::default().with_partition_index(1).with_error_code(Code::NotLeaderOrFollower.code()),
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
    let mut stage = Stage::new(address, Some(Sasl::Plain(credentials)), 1);
    let [first, second] = [0, 1].map(|partition| stage.add(partition));
    let fetched = timeout(PATIENCE, stage.records.recv()).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&fetched.assignment, &first));
    assert_eq!(fetched.next_offset(), 1);
    stage
        .until_told("the partition that left", |told| {
            matches!(told, Told::Returned(position, Why::Elsewhere { .. })
                if Arc::ptr_eq(&position.assignment, &second))
        })
        .await;
    stage.until_told("the refusal", |told| matches!(told, Told::Failed { .. })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_stops_half_way_is_given_up_and_orders_are_heard_meanwhile() {
    let address = broker(move |asked| match asked.key {
        ApiKey::ApiVersions => versions(asked),
        _ => {
            let mut answer = large_answer(asked);
            answer.truncate(LARGE / 2);
            answer
        }
    })
    .await;
    let mut stage = Stage::new(address, None, 1);
    let [first, _] = [0, 1].map(|partition| stage.add(partition));
    stage.until_told("the first notice", |told| matches!(told, Told::Failed { .. })).await;
    stage.orders.send(Order::Return(Arc::clone(&first))).unwrap();
    let mut returned = false;
    let told = async {
        loop {
            match stage.told.recv().await.unwrap() {
                Told::Returned(position, Why::Asked) => {
                    returned = Arc::ptr_eq(&position.assignment, &first);
                }
                Told::Failed { .. } => break,
                Told::Connected(_) => panic!("it did not go on"),
                told => panic!("{told:?}"),
            }
        }
    };
    timeout(PATIENCE, told).await.unwrap();
    assert!(returned, "before the answer is given up");
}
