//! Who leads a partition: Metadata requests over a connection of their own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::Decodable;
use tokio::time::timeout;
use uuid::Uuid;

use super::position::topic_name;
use crate::connection::{Connection, Connector};

/// From the first version that flexible brokers share to the last whose fields we know.
const VERSIONS: std::ops::RangeInclusive<i16> = 9..=13;
/// How long one server may take to be reached and to answer.
const WAIT: Duration = Duration::from_secs(5);
/// The largest answer that is read.
const LIMIT: usize = 64 << 20;

/// What the cluster says.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    /// Addresses of brokers, by id.
    pub(super) brokers: HashMap<i32, String>,
    pub(super) topics: HashMap<Arc<str>, Topic>,
}

/// A topic, or why there is none.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    pub(super) id: Uuid,
    pub(super) error: Option<String>,
    pub(super) leaders: HashMap<i32, Leader>,
}

/// Who leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    /// Its id; -1 where there is none.
    pub(super) broker: i32,
    pub(super) epoch: i32,
}

/// Asks one server after another.
pub(super) struct Asker {
    connector: Arc<Connector>,
    bootstrap: Vec<String>,
    connection: Option<Connection>,
    turn: usize,
}

impl Asker {
    pub(super) fn new(connector: Arc<Connector>, bootstrap: Vec<String>) -> Self {
        Self { connector, bootstrap, connection: None, turn: 0 }
    }

    /// Asks for these topics. `known` are brokers that may be asked too.
    ///
    /// # Errors
    /// Why the server whose turn it was did not answer; the next call asks another one.
    pub(super) async fn ask(&mut self, topics: &[Arc<str>], known: &[String]) -> Result<Metadata, String> {
        let servers: Vec<&String> = known.iter().chain(&self.bootstrap).collect();
        let server = servers.get(self.turn % servers.len().max(1)).map(|server| server.to_string());
        let server = server.ok_or("no broker is known")?;
        let answer = timeout(WAIT, self.exchange(&server, topics)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("{server}: no answer to a metadata request")));
        if answer.is_err() {
            self.connection = None;
            self.turn = self.turn.wrapping_add(1);
        }
        answer
    }

    async fn exchange(&mut self, server: &str, topics: &[Arc<str>]) -> Result<Metadata, String> {
        // Out of its place while in use: what is given up half way is not used again.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connector.connect(server).await.map_err(|error| error.to_string())?,
        };
        let told = |error: &dyn std::fmt::Display| format!("{server}: {error}");
        connection.renew().await.map_err(|error| error.to_string())?;
        let version = connection.version(ApiKey::Metadata, VERSIONS);
        let version = version.ok_or_else(|| told(&"too old for our metadata requests (version 9)"))?;
        let names =
            topics.iter().map(|topic| MetadataRequestTopic::default().with_name(Some(topic_name(topic))));
        let request = MetadataRequest::default()
            .with_allow_auto_topic_creation(false)
            .with_topics(Some(names.collect()));
        connection.send(&request, version).await.map_err(|error| told(&error))?;
        let mut body = connection.receive(LIMIT).await.map_err(|error| told(&error))?;
        let response = MetadataResponse::decode(&mut body, version)
            .map_err(|error| told(&format!("an answer that cannot be read: {error}")))?;
        self.connection = Some(connection);
        Ok(read(response, topics))
    }
}

fn read(response: MetadataResponse, asked: &[Arc<str>]) -> Metadata {
    let address = |host: &str, port: i32| {
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    };
    let brokers = response.brokers.iter();
    let brokers = brokers.map(|broker| (broker.node_id.0, address(&broker.host, broker.port))).collect();
    let topics = response.topics.into_iter().filter_map(|topic| {
        let name = topic.name?;
        let name = asked.iter().find(|asked| ***asked == *name.0)?;
        let leaders = topic.partitions.iter().map(|partition| {
            let leader = Leader { broker: partition.leader_id.0, epoch: partition.leader_epoch };
            (partition.partition_index, leader)
        });
        let error = ResponseError::try_from_code(topic.error_code).map(|error| error.to_string());
        Some((Arc::clone(name), Topic { id: topic.topic_id, error, leaders: leaders.collect() }))
    });
    Metadata { brokers, topics: topics.collect() }
}
