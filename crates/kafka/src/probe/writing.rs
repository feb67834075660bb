//! Asks a cluster once what may be written to. Nothing is written; a producer id is asked for and
//! left unused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{ApiKey, DescribeConfigsRequest, InitProducerIdRequest, ProducerId};
use kafka_protocol::protocol::StrBytes;
use regex::Regex;
use tokio::runtime;
use tokio::time::{Instant, sleep, timeout_at};

use super::Unanswered;
use crate::authorized::{NOT_TOLD, WRITE, list};
use crate::config::{ClusterConfig, TopicSelector};
use crate::connection::{Connection, Connector, RequestError};
use crate::error::{ProbeError, StartError, WriteFault};
use crate::security::prepare;

/// Time for all of it.
const DEADLINE: Duration = Duration::from_secs(15);
/// Time between two tries for a producer id.
const PAUSE: Duration = Duration::from_millis(200);
/// The largest answer that is read.
const LIMIT: usize = 64 << 20;
/// The type of a topic among resources with a configuration.
const TOPIC: i8 = 2;
const MIN_INSYNC: &str = "min.insync.replicas";
/// Topics whose configuration is asked for at a time.
const AT_A_TIME: usize = 500;

/// The cluster's answer on the topics that one route may write to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writable {
    /// Topics that are there and can be written to, sorted by name.
    pub topics: Vec<WritableTopic>,
    /// Topics that are named and cannot be written to now; of those that a pattern matches, the
    /// ones that this client may not write to.
    pub faults: Vec<(String, WriteFault)>,
}

/// A topic that can be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WritableTopic {
    /// Its name.
    pub name: String,
    /// Number of its partitions.
    pub partitions: usize,
    /// `min.insync.replicas`, if this client may see it.
    pub min_insync_replicas: Option<u32>,
}

/// Asks what each of several routes may write to, by names and by patterns for whole names, and
/// whether idempotent writes are allowed. Blocks, for up to about 15 s.
///
/// # Errors
/// If no broker answers or one refuses the client, if a certificate or key cannot be used, or if
/// idempotent writes are not allowed.
pub fn probe_writing(
    cluster: &ClusterConfig,
    routes: &[Vec<TopicSelector>],
) -> Result<Vec<Writable>, ProbeError> {
    let tokens = prepare(&cluster.security)?;
    let connector = Connector::new(cluster, tokens)?;
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::from)?;
    runtime.block_on(async {
        let deadline = Instant::now() + DEADLINE;
        let asked = timeout_at(deadline, ask(&connector, &cluster.bootstrap_servers, routes)).await;
        asked.unwrap_or_else(|_| Err(ProbeError::cluster(Unanswered::Late(DEADLINE))))
    })
}

async fn ask(
    connector: &Arc<Connector>,
    servers: &[String],
    routes: &[Vec<TopicSelector>],
) -> Result<Vec<Writable>, ProbeError> {
    let mut connection = connector.connect_any(servers).await.map_err(ProbeError::cluster)?;
    let listing = list(&mut connection, routes.iter().flatten()).await;
    let listing = listing.map_err(ProbeError::cluster)?;
    let mut found: Vec<_> = routes.iter().map(|route| writable(route, &listing)).collect();
    let names = found.iter().flat_map(|found| found.topics.iter().map(|topic| topic.name.clone()));
    let mut names: Vec<_> = names.collect();
    names.sort();
    names.dedup();
    let configured = min_insync(&mut connection, &names).await.map_err(ProbeError::cluster)?;
    for topic in found.iter_mut().flat_map(|found| &mut found.topics) {
        topic.min_insync_replicas = configured.get(&topic.name).copied();
    }
    try_idempotence(&mut connection).await?;
    Ok(found)
}

fn writable(
    route: &[TopicSelector],
    listing: &BTreeMap<String, MetadataResponseTopic>,
) -> Writable {
    let mut writable = Writable::default();
    let is_named = |name: &str| {
        let mut selectors = route.iter();
        selectors.any(|selector| matches!(selector, TopicSelector::Name(named) if named == name))
    };
    for (name, topic) in listing {
        let by_pattern = || route.iter().any(|selector| is_matched(selector, name));
        if !is_named(name) && !by_pattern() {
            continue;
        }
        match fault(topic) {
            None => writable.topics.push(WritableTopic {
                name: name.clone(),
                partitions: topic.partitions.len(),
                min_insync_replicas: None,
            }),
            // A pattern promises no topic.
            Some(WriteFault::Unknown) if !is_named(name) => {}
            Some(fault) => writable.faults.push((name.clone(), fault)),
        }
    }
    writable
}

fn is_matched(selector: &TopicSelector, name: &str) -> bool {
    let whole = |pattern: &Regex| pattern.find(name).is_some_and(|found| found.len() == name.len());
    matches!(selector, TopicSelector::Pattern(pattern) if whole(pattern)) && !name.starts_with("__")
}

fn fault(topic: &MetadataResponseTopic) -> Option<WriteFault> {
    let operations = topic.topic_authorized_operations;
    match ResponseError::try_from_code(topic.error_code) {
        Some(ResponseError::UnknownTopicOrPartition) => Some(WriteFault::Unknown),
        Some(ResponseError::TopicAuthorizationFailed) => Some(WriteFault::NotAuthorized),
        // One partition of it has no leader now: it is there.
        Some(ResponseError::LeaderNotAvailable) | None => {
            let denied = operations != NOT_TOLD && operations & WRITE == 0;
            denied.then_some(WriteFault::NotAuthorized)
        }
        Some(error) => Some(WriteFault::Other(error.to_string())),
    }
}

/// `min.insync.replicas` of those topics whose configuration may be seen.
async fn min_insync(
    connection: &mut Connection,
    topics: &[String],
) -> Result<BTreeMap<String, u32>, RequestError> {
    let mut found = BTreeMap::new();
    let Some(version) = connection.version(ApiKey::DescribeConfigs, 4..=4) else {
        return Ok(found);
    };
    for topics in topics.chunks(AT_A_TIME) {
        let resource = |name: &String| {
            DescribeConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(StrBytes::from_string(name.clone()))
                .with_configuration_keys(Some(vec![StrBytes::from_static_str(MIN_INSYNC)]))
        };
        let request =
            DescribeConfigsRequest::default().with_resources(topics.iter().map(resource).collect());
        for result in connection.ask(&request, version, LIMIT).await?.results {
            let value = result.configs.iter().find(|config| *config.name == *MIN_INSYNC);
            let value = value.and_then(|config| config.value.as_deref()?.parse().ok());
            found.extend(value.map(|value| (result.resource_name.to_string(), value)));
        }
    }
    Ok(found)
}

/// Asks for a producer id, as every idempotent producer does.
async fn try_idempotence(connection: &mut Connection) -> Result<(), ProbeError> {
    let version = connection.needed_version(ApiKey::InitProducerId, 2..=4);
    let version = version.map_err(ProbeError::cluster)?;
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    // Ended by the deadline of the whole.
    loop {
        let answer = connection.ask(&request, version, LIMIT).await;
        let answer = answer.map_err(ProbeError::cluster)?;
        match ResponseError::try_from_code(answer.error_code) {
            None => return Ok(()),
            Some(
                ResponseError::CoordinatorLoadInProgress | ResponseError::CoordinatorNotAvailable,
            ) => sleep(PAUSE).await,
            Some(error) => return Err(ProbeError::Idempotence(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::topic_name;

    #[test]
    fn topics_and_what_keeps_from_writing_to_them() {
        let topic = |name: &str, error: i16, operations: i32| {
            let name_of = topic_name(name);
            let topic = MetadataResponseTopic::default()
                .with_name(Some(name_of))
                .with_error_code(error)
                .with_topic_authorized_operations(operations);
            (name.to_owned(), topic)
        };
        let listing = BTreeMap::from([
            topic("absent", 3, NOT_TOLD),
            topic("edge.a", 0, NOT_TOLD),
            topic("edge.b", 0, 1 << 3 | WRITE),
            topic("edge.c", 0, 1 << 3),
            topic("edge.d", 29, NOT_TOLD),
            topic("leaderless", 5, NOT_TOLD),
            topic("other", 0, WRITE),
            topic("my.edge.a", 0, WRITE),
            topic("broken", 17, WRITE),
        ]);
        let names = ["absent", "leaderless", "broken"];
        let pattern = TopicSelector::Pattern(Regex::new("^edge\\.[a-z]$").unwrap());
        let names = names.map(|name| TopicSelector::Name(name.to_owned()));
        let route: Vec<_> = names.into_iter().chain([pattern]).collect();
        let Writable { topics, faults } = writable(&route, &listing);
        let topics: Vec<_> = topics.iter().map(|topic| topic.name.as_str()).collect();
        assert_eq!(topics, ["edge.a", "edge.b", "leaderless"]);
        let faults: Vec<_> =
            faults.iter().map(|(name, fault)| format!("{name}: {fault}")).collect();
        assert_eq!(faults[0], "absent: it does not exist");
        assert!(faults[1].starts_with("broken: "), "{faults:?}");
        let denied = "not authorized to write to it";
        assert_eq!(faults[2..], [format!("edge.c: {denied}"), format!("edge.d: {denied}")]);
    }
}
