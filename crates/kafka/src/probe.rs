//! Asks a cluster once, as a check of the configuration. Nothing is changed: no group is joined, nothing committed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::client::{Client, Context, create, plain};
use crate::cluster::settings;
use crate::config::{ClusterConfig, GroupConfig, SourceConfig};
use crate::error::{ProbeError, TopicFault};
use crate::noise::Noise;
use crate::security::prepare;
use crate::status::Board;
use crate::topics::{Selection, list};

const DEADLINE: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_secs(1);

/// What a cluster says of the topics of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Topics it would read, with their number of partitions, sorted by name.
    pub topics: Vec<(String, i32)>,
    /// Topics that it names and cannot read now.
    pub missing: Vec<(String, TopicFault)>,
}

/// Reaches the brokers, authenticates, and asks for the topics and the group of each source. Blocks, for up to about
/// 10 s without an answer.
///
/// # Errors
/// Where no broker answers, or one refuses the client or a group.
pub fn probe(cluster: &ClusterConfig, sources: &[&SourceConfig]) -> Result<Vec<Found>, ProbeError> {
    let asking = Asking::new(cluster, None)?;
    let mut found: Vec<Found> = Vec::new();
    for source in sources {
        let selection = Selection::new(&source.topics);
        let listing = asking.until_answered(|client| list(client, &selection, WAIT));
        let listing = listing.map_err(ProbeError::Cluster)?;
        found.push(Found { topics: listing.topics.into_iter().collect(), missing: listing.missing });
    }
    for (source, found) in sources.iter().zip(&found) {
        if let (Some(group), Some((topic, _))) = (&source.group, found.topics.first()) {
            ask_group(cluster, group, topic)?;
        }
    }
    Ok(found)
}

/// Asks the coordinator for a committed offset, which only those are told who may use the group.
fn ask_group(cluster: &ClusterConfig, group: &GroupConfig, topic: &str) -> Result<(), ProbeError> {
    let asking = Asking::new(cluster, Some(group))?;
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    let answer = asking.until_answered(|client| client.committed_offsets(list.clone(), WAIT));
    answer.map(drop).map_err(|reason| ProbeError::Group { group: group.id.clone(), reason })
}

/// A client that asks.
struct Asking {
    client: Arc<Client>,
    board: Arc<Board>,
}

impl Asking {
    fn new(cluster: &ClusterConfig, group: Option<&GroupConfig>) -> Result<Self, ProbeError> {
        let board = Arc::new(Board::default());
        let mut settings = settings(cluster);
        if let Some(group) = group {
            settings.set("group.id", &group.id);
        }
        let context = Context::new("check", &board, &Arc::new(Noise::default()));
        let tokens = prepare(&cluster.security)?;
        Ok(Self { client: create(&settings, context, tokens.as_ref())?, board })
    }

    /// Asks until there is an answer, a refusal, or no time left; then tells why.
    fn until_answered<T>(&self, ask: impl Fn(&Client) -> Result<T, KafkaError>) -> Result<T, String> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let error = match ask(&self.client) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed) {
                return Err("not authorised to use it".to_owned());
            }
            // Errors come by the callbacks, one at a time.
            while self.client.poll(Duration::from_millis(20)).is_some() {}
            if let Some(refusal) = self.client.context().take_refusal() {
                return Err(refusal);
            }
            if Instant::now() >= deadline {
                return Err(self.board.status().last_error.unwrap_or_else(|| plain(&error)));
            }
        }
    }
}
