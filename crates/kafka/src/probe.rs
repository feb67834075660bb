//! Asks a cluster once, as a check of the configuration. Nothing is changed: no group is joined,
//! nothing committed.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

mod writing;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::runtime::{self, Runtime};

use crate::client::{Client, SourceContext, plain};
use crate::cluster::settings;
use crate::config::{ClusterConfig, FetcherKind, GroupConfig, SourceConfig};
use crate::connection::{Connector, Refusals};
use crate::consumer::create;
use crate::coordinator::{Coordinator, GroupAnswer};
use crate::error::{ProbeError, StartError, TopicFault};
use crate::health::SourceHealth;
use crate::log_limiter::LogLimiter;
use crate::security::{Bearer, prepare};
use crate::topics::{Selection, list};
pub use writing::{Writable, WritableTopic, probe_writing};

const DEADLINE: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_secs(1);

/// The cluster's answer on the topics of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeResult {
    /// Topics it would read, with their number of partitions, sorted by name.
    pub topics: Vec<(String, i32)>,
    /// Topics that it names and cannot read now.
    pub missing: Vec<(String, TopicFault)>,
}

/// Obtains a token for the brokers, if they are shown one; returns its life. Blocks while the
/// provider answers, up to 10 s.
///
/// # Errors
/// A file that cannot be used, or the reason why there is no token.
pub fn probe_token(cluster: &ClusterConfig) -> Result<Option<Duration>, StartError> {
    match prepare(&cluster.security)? {
        Some(tokens) => Ok(Some(tokens.token()?.life(Instant::now()))),
        None => Ok(None),
    }
}

/// Reaches the brokers, authenticates, and asks for the topics and the group of each source.
/// Blocks, for up to about 10 s without an answer, and as long again for each server that does not
/// answer the fast fetcher.
///
/// If a source has the fast fetcher, its kind of connection is tried too.
///
/// # Errors
/// If a certificate or a key cannot be used, no broker answers, or one refuses the client or a
/// group.
pub fn probe(
    cluster: &ClusterConfig,
    sources: &[&SourceConfig],
) -> Result<Vec<ProbeResult>, ProbeError> {
    let tokens = prepare(&cluster.security)?;
    let fast = sources.iter().any(|source| source.fetcher == FetcherKind::Fast);
    let connector = Connector::new(cluster, tokens.clone());
    // What our own connections do not take is no mistake if librdkafka does everything.
    let connector = if fast { Some(connector?) } else { connector.ok() };
    let client = ProbeClient::new(cluster, None, tokens.as_ref())?;
    let mut found: Vec<ProbeResult> = Vec::new();
    for source in sources {
        let selection = Selection::new(&source.topics);
        let listing =
            client.until_answered(|client| list(client, &selection, &BTreeSet::new(), WAIT));
        let listing = listing.map_err(ProbeError::cluster)?;
        found.push(ProbeResult {
            topics: listing
                .topics
                .into_iter()
                .map(|(topic, count)| (topic.to_string(), count))
                .collect(),
            missing: listing.missing,
        });
    }
    for (source, found) in sources.iter().zip(&found) {
        if let (Some(group), Some((topic, _))) = (&source.group, found.topics.first()) {
            ask_group(cluster, group, topic, tokens.as_ref())?;
        }
    }
    // What both kinds of connections are refused for has been told by now.
    if let Some(connector) = connector {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::from)?;
        if fast {
            connect(&runtime, &connector, &cluster.bootstrap_servers)?;
        }
        for group in sources.iter().filter_map(|source| source.group.as_ref()) {
            let servers = cluster.bootstrap_servers.clone();
            let mut coordinator = Coordinator::new(Arc::clone(&connector), servers, group.clone());
            // If it does not say, nothing is known to be wrong.
            if let Ok(GroupAnswer::Refused(refusal)) =
                runtime.block_on(coordinator.ask(None, group.protocol))
            {
                return Err(ProbeError::group(group, refusal));
            }
        }
    }
    Ok(found)
}

/// Makes a connection of the fast fetcher to one of these brokers.
fn connect(runtime: &Runtime, connector: &Connector, servers: &[String]) -> Result<(), ProbeError> {
    match runtime.block_on(connector.connect_any(servers)) {
        Ok(_) => Ok(()),
        Err(refusals) => Err(ProbeError::cluster(Unanswered::Fast(refusals))),
    }
}

/// The reason why nothing is known of a cluster or a group.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("fetcher \"fast\": {0}")]
    Fast(Refusals),
    #[error("not authorized to use it")]
    NotAuthorized,
    /// The answer to librdkafka's request.
    #[error("{}", plain(.0))]
    Client(KafkaError),
    /// The last trouble of librdkafka's connections, in its words.
    #[error("{0}")]
    Connections(String),
    #[error("no answer within {0:?}")]
    Late(Duration),
}

/// Asks the coordinator for a committed offset, which it gives only to clients that may use the
/// group.
fn ask_group(
    cluster: &ClusterConfig,
    group: &GroupConfig,
    topic: &str,
    tokens: Option<&Arc<Bearer>>,
) -> Result<(), ProbeError> {
    let client = ProbeClient::new(cluster, Some(group), tokens)?;
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    let answer = client.until_answered(|client| client.committed_offsets(list.clone(), WAIT));
    answer.map(drop).map_err(|reason| ProbeError::group(group, reason))
}

/// A client that asks.
struct ProbeClient {
    client: Arc<Client>,
    health: Arc<SourceHealth>,
}

impl ProbeClient {
    fn new(
        cluster: &ClusterConfig,
        group: Option<&GroupConfig>,
        tokens: Option<&Arc<Bearer>>,
    ) -> Result<Self, StartError> {
        let health = Arc::new(SourceHealth::default());
        let mut settings = settings(cluster);
        if let Some(group) = group {
            settings.set("group.id", &group.id);
        }
        let context = SourceContext::new("check", &health, &Arc::new(LogLimiter::default()));
        Ok(Self { client: create(&settings, context, tokens)?, health })
    }

    /// Asks until there is an answer, a refusal, or no time left; then returns the reason.
    fn until_answered<T>(
        &self,
        ask: impl Fn(&Client) -> Result<T, KafkaError>,
    ) -> Result<T, Unanswered> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let error = match ask(&self.client) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed) {
                return Err(Unanswered::NotAuthorized);
            }
            // Errors come by the callbacks, one at a time.
            while self.client.poll(Duration::from_millis(20)).is_some() {}
            if let Some(refusal) = self.client.context().take_refusal() {
                return Err(Unanswered::Connections(refusal));
            }
            if Instant::now() >= deadline {
                let trouble = self.health.status().last_error;
                return Err(trouble.map_or(Unanswered::Client(error), Unanswered::Connections));
            }
        }
    }
}
