//! Leaders of partitions: Metadata requests over a connection of their own.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

mod shared;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::time::timeout;
use tracing::debug;
use uuid::Uuid;

use crate::connection::{Connection, ConnectionError, Connector, RequestError, decode};
use crate::guard::Panicked;
pub(crate) use shared::MetadataHandle;

/// The versions, from the first that flexible brokers share to the last whose fields we know.
const VERSIONS: std::ops::RangeInclusive<i16> = 9..=13;
/// Longest time for one server to be reached and to answer.
const WAIT: Duration = Duration::from_secs(5);
/// Longest time for an answer on a connection that was idle. A proxy that closes those may send
/// nothing.
const IDLE_WAIT: Duration = Duration::from_secs(2);
/// A connection is left after so long, for that of the next server: its broker may have lost touch
/// with the cluster and answer for ever with what was true before.
const LIFE: Duration = Duration::from_secs(180);
/// Answers in a row that tell of a life of a topic that is over, before they are believed: a server
/// that does is left, so that each is of another one, and it was the one before all of them that
/// had lost touch with the cluster.
pub(crate) const BELIEVED: u32 = 4;
/// The largest answer that is read.
const LIMIT: usize = 64 << 20;

/// The cluster's answer.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    /// Addresses of brokers, by id.
    pub(crate) brokers: HashMap<i32, String>,
    /// Its id, which another cluster behind the same addresses does not have.
    pub(crate) cluster: Option<String>,
    pub(crate) topics: HashMap<Arc<str>, TopicMetadata>,
}

impl Metadata {
    /// The same of these topics alone.
    fn of(&self, topics: &[Arc<str>]) -> Self {
        let topics = topics.iter().filter_map(|topic| self.topics.get_key_value(topic));
        let topics = topics.map(|(name, topic)| (Arc::clone(name), topic.clone())).collect();
        Self { brokers: self.brokers.clone(), cluster: self.cluster.clone(), topics }
    }
}

/// A topic, or why there is none.
#[derive(Clone, Debug)]
pub(crate) struct TopicMetadata {
    pub(crate) id: Uuid,
    pub(crate) error: Option<ResponseError>,
    pub(crate) leaders: HashMap<i32, Leader>,
}

/// The leader of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leader {
    /// Its id; -1 if there is none.
    pub(crate) broker: i32,
    pub(crate) epoch: i32,
}

/// The reason why the cluster does not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MetadataError {
    /// No broker to ask.
    #[error("no broker is known")]
    NoBroker,
    /// The broker that was asked has no answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The task that asked panicked.
    #[error(transparent)]
    Panicked(Panicked),
}

impl From<ConnectionError> for MetadataError {
    fn from(error: ConnectionError) -> Self {
        Self::Request(error.into())
    }
}

/// Asks one server after another.
struct MetadataClient {
    connector: Arc<Connector>,
    bootstrap: Vec<String>,
    connection: Option<(Connection, Instant)>,
    turn: usize,
    /// The number of servers that were left.
    left: u64,
}

impl MetadataClient {
    fn new(connector: Arc<Connector>, bootstrap: Vec<String>) -> Self {
        Self { connector, bootstrap, connection: None, turn: 0, left: 0 }
    }

    /// Returns the number of the server that is asked now; those before it had others.
    fn server(&self) -> u64 {
        self.left
    }

    /// Continues with the next server.
    fn leave(&mut self) {
        self.connection = None;
        self.turn = self.turn.wrapping_add(1);
        self.left += 1;
    }

    /// Asks for these topics, which are sorted. `known` are brokers that may be asked too.
    ///
    /// # Errors
    /// Why the server whose turn it was did not answer; the next call asks another one.
    async fn ask(
        &mut self,
        topics: &[Arc<str>],
        known: &[String],
    ) -> Result<Metadata, MetadataError> {
        if self.connection.take_if(|(_, since)| since.elapsed() > LIFE).is_some() {
            // Of those that the cluster has now, if there are any.
            self.turn = self.turn.wrapping_add(1).checked_rem(known.len()).unwrap_or(self.turn);
            self.left += 1;
        }
        let servers: Vec<&String> = known.iter().chain(&self.bootstrap).collect();
        let server = servers.get(self.turn % servers.len().max(1)).map(|server| server.to_string());
        let server = server.ok_or(MetadataError::NoBroker)?;
        if let Some((connection, since)) = self.connection.take() {
            // Brokers and load balancers close connections that are idle: that is no fault of the
            // server.
            match timeout(IDLE_WAIT, self.exchange(connection, since, &server, topics)).await {
                Ok(Ok(metadata)) => return Ok(metadata),
                Ok(Err(reason)) => debug!(?reason, "connecting again for metadata"),
                Err(_) => {
                    debug!(server, "no answer on an idle connection: connecting again for metadata")
                }
            }
        }
        let answer = timeout(WAIT, self.connect_and_exchange(&server, topics)).await;
        let silent = RequestError::Silent { broker: server, api: ApiKey::Metadata };
        let answer = answer.unwrap_or(Err(silent.into()));
        if answer.is_err() {
            self.leave();
        }
        answer
    }

    async fn connect_and_exchange(
        &mut self,
        server: &str,
        topics: &[Arc<str>],
    ) -> Result<Metadata, MetadataError> {
        let connection = self.connector.connect(server).await?;
        self.exchange(connection, Instant::now(), server, topics).await
    }

    /// Keeps the connection to be used again, unless it is given up half way.
    async fn exchange(
        &mut self,
        mut connection: Connection,
        since: Instant,
        server: &str,
        topics: &[Arc<str>],
    ) -> Result<Metadata, MetadataError> {
        connection.renew().await?;
        let version = connection.needed_version(ApiKey::Metadata, VERSIONS)?;
        let names = topics
            .iter()
            .map(|topic| MetadataRequestTopic::default().with_name(Some(topic_name(topic))));
        let request = MetadataRequest::default()
            .with_allow_auto_topic_creation(false)
            .with_topics(Some(names.collect()));
        connection.send(&request, version).await?;
        let mut body = connection.receive(LIMIT).await?;
        let response = decode::<MetadataRequest>(&mut body, version)
            .map_err(|error| RequestError::Answer { broker: server.to_owned(), error })?;
        self.connection = Some((connection, since));
        Ok(read(response, topics))
    }
}

fn read(response: MetadataResponse, asked: &[Arc<str>]) -> Metadata {
    let address = |host: &str, port: i32| {
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    };
    let brokers = response.brokers.iter();
    let brokers =
        brokers.map(|broker| (broker.node_id.0, address(&broker.host, broker.port))).collect();
    let topics = response.topics.into_iter().filter_map(|topic| {
        let name = topic.name?;
        let name = asked.get(asked.binary_search_by(|asked| (**asked).cmp(&name.0)).ok()?)?;
        let leaders = topic.partitions.iter().map(|partition| {
            let leader = Leader { broker: partition.leader_id.0, epoch: partition.leader_epoch };
            (partition.partition_index, leader)
        });
        let error = ResponseError::try_from_code(topic.error_code);
        Some((
            Arc::clone(name),
            TopicMetadata { id: topic.topic_id, error, leaders: leaders.collect() },
        ))
    });
    let cluster = response.cluster_id.map(|id| id.to_string());
    Metadata { brokers, cluster, topics: topics.collect() }
}

/// A topic's name as requests have it.
pub(crate) fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use kafka_protocol::messages::ApiVersionsRequest;
    use kafka_protocol::messages::BrokerId;
    use kafka_protocol::messages::metadata_response::{
        MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };

    use super::*;
    use crate::config::ClusterConfig;
    use crate::connection::tests::fake::{Count, api_versions, broker};

    #[tokio::test]
    async fn a_connection_that_was_closed_while_it_was_idle_is_made_again() {
        let asked = Count::default();
        let count = Arc::clone(&asked);
        let address = broker(move |asked| match asked.key {
            ApiKey::Metadata => match count.fetch_add(1, Ordering::Relaxed) {
                // As far as the caller can tell, it was closed before.
                1 | 3 | 4 => Vec::new(),
                _ => asked.answer::<MetadataRequest>(&MetadataResponse::default()),
            },
            _ => asked.answer::<ApiVersionsRequest>(&api_versions()),
        })
        .await;
        let cluster = ClusterConfig::new(Vec::new());
        let mut asker = MetadataClient::new(Connector::new(&cluster, None).unwrap(), vec![address]);
        for (round, (answered, total)) in
            [(true, 1), (true, 3), (false, 5), (true, 6)].into_iter().enumerate()
        {
            let answer = asker.ask(&[], &[]).await;
            assert_eq!(
                (answer.is_ok(), asked.load(Ordering::Relaxed)),
                (answered, total),
                "round {round}"
            );
        }
    }

    #[test]
    fn what_the_cluster_says() {
        let topic = |name: &'static str, code: i16, leader: i32| {
            let partition = MetadataResponsePartition::default()
                .with_partition_index(3)
                .with_leader_id(BrokerId(leader))
                .with_leader_epoch(8);
            MetadataResponseTopic::default()
                .with_name(Some(topic_name(name)))
                .with_error_code(code)
                .with_topic_id(Uuid::from_u128(7))
                .with_partitions(if code == 0 { vec![partition] } else { Vec::new() })
        };
        let broker = |id: i32, host: &'static str| {
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(id))
                .with_host(host.into())
                .with_port(9092)
        };
        let response = MetadataResponse::default()
            .with_cluster_id(Some("c".into()))
            .with_brokers(vec![broker(1, "kafka"), broker(2, "::1")])
            .with_topics(vec![topic("c", 3, 0), topic("not asked for", 0, 1), topic("a", 0, 2)]);
        let asked: [Arc<str>; 3] = ["a", "b", "c"].map(Arc::from);
        let Metadata { brokers, cluster, topics } = read(response, &asked);
        assert_eq!(cluster.as_deref(), Some("c"));
        assert_eq!(
            brokers,
            HashMap::from([(1, "kafka:9092".to_owned()), (2, "[::1]:9092".to_owned())])
        );
        let mut names: Vec<&str> = topics.keys().map(|name| &**name).collect();
        names.sort_unstable();
        assert_eq!(names, ["a", "c"]);
        assert_eq!(topics["a"].leaders, HashMap::from([(3, Leader { broker: 2, epoch: 8 })]));
        assert!(
            topics["a"].error.is_none()
                && topics["c"].error.is_some()
                && topics["c"].leaders.is_empty()
        );
    }
}
