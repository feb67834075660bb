//! The topics that somebody is authorized to read and to write: Metadata with the operations that a
//! client is authorized for (KIP-430), over a connection that shows that one's token.
//!
//! Kafka's authorizer answers, whichever it is. Nothing is read, written or changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{ApiKey, MetadataRequest};
use tokio::time::timeout;

use crate::config::TopicSelector;
use crate::connection::{Connection, Connector, RequestError};
use crate::metadata::topic_name;
use crate::principal::{AuthorizationError, Principal};
use crate::topics::Selection;

/// The bit of Read among the operations that a client is authorized for.
const READ: i32 = 1 << 3;
/// The bit of Write.
pub(crate) const WRITE: i32 = 1 << 4;
/// A cluster that does not tell the operations.
pub(crate) const NOT_TOLD: i32 = i32::MIN;
/// The largest answer that is read.
const LIMIT: usize = 64 << 20;
/// Time for one question: the token, a connection, the answer.
const DEADLINE: Duration = Duration::from_secs(20);

/// The topics about which a cluster is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AskedTopics {
    /// Topics that may be read, or not.
    pub read: Vec<TopicSelector>,
    /// Topics that may be written to, or not.
    pub write: Vec<TopicSelector>,
}

/// Those of the topics that a client is authorized for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizedTopics {
    /// It may read these.
    pub read: BTreeSet<String>,
    /// It may write to these.
    pub write: BTreeSet<String>,
}

impl Principal {
    /// Asks which of these topics it may read and write, for up to 20 s. A topic that is not there
    /// is not among the answer.
    ///
    /// # Errors
    /// The reason why that is not known.
    pub async fn authorized(
        &self,
        topics: &AskedTopics,
    ) -> Result<AuthorizedTopics, AuthorizationError> {
        let mut has_token = false;
        let asked = timeout(DEADLINE, async {
            // Before there is a connection, to tell who says no.
            self.obtain_token().await?;
            has_token = true;
            ask(self.connector(), self.servers(), topics).await
        });
        let asked = asked.await;
        let late = format!("no answer within {} s", DEADLINE.as_secs());
        match asked {
            Ok(answer) => answer,
            Err(_) if has_token => Err(AuthorizationError::Unanswered(late)),
            Err(_) => Err(AuthorizationError::NoToken { reason: late, is_refusal: false }),
        }
    }
}

async fn ask(
    connector: &Connector,
    servers: &[String],
    topics: &AskedTopics,
) -> Result<AuthorizedTopics, AuthorizationError> {
    let connected = connector.connect_any(servers).await;
    let mut connection = connected.map_err(|refusals| AuthorizationError::of(&refusals))?;
    let listing = list(&mut connection, topics.read.iter().chain(&topics.write)).await;
    let unanswered = |error: RequestError| AuthorizationError::Unanswered(error.to_string());
    read(&listing.map_err(unanswered)?, topics)
}

/// Reads off a listing what is allowed. What is not told is not.
fn read(
    listing: &BTreeMap<String, MetadataResponseTopic>,
    topics: &AskedTopics,
) -> Result<AuthorizedTopics, AuthorizationError> {
    let (readable, writable) = (Selection::new(&topics.read), Selection::new(&topics.write));
    let mut authorized = AuthorizedTopics::default();
    for (name, topic) in listing {
        let is_there = match ResponseError::try_from_code(topic.error_code) {
            // One partition of it has no leader now.
            None | Some(ResponseError::LeaderNotAvailable) => true,
            Some(
                ResponseError::UnknownTopicOrPartition
                | ResponseError::TopicAuthorizationFailed
                | ResponseError::InvalidTopicException,
            ) => false,
            Some(code) => return Err(AuthorizationError::Unanswered(format!("{name}: {code}"))),
        };
        let operations = topic.topic_authorized_operations;
        if !is_there || !(readable.selects(name) || writable.selects(name)) {
            continue;
        }
        if operations == NOT_TOLD {
            let reason = "the cluster does not tell the operations that a client is authorized for";
            return Err(AuthorizationError::Refused(reason.to_owned()));
        }
        if operations & READ != 0 && readable.selects(name) {
            authorized.read.insert(name.clone());
        }
        if operations & WRITE != 0 && writable.selects(name) {
            authorized.write.insert(name.clone());
        }
    }
    Ok(authorized)
}

/// The topics that are named, or all that the client may see if there is a pattern, by name, with
/// the operations that it is authorized for.
///
/// # Errors
/// The broker is too old, or the connection is of no more use.
pub(crate) async fn list(
    connection: &mut Connection,
    selectors: impl Iterator<Item = &TopicSelector>,
) -> Result<BTreeMap<String, MetadataResponseTopic>, RequestError> {
    let version = connection.needed_version(ApiKey::Metadata, 9..=12)?;
    let mut names = BTreeSet::new();
    let mut patterns = false;
    for selector in selectors {
        match selector {
            TopicSelector::Name(name) => {
                names.insert(name.as_str());
            }
            TopicSelector::Pattern(_) => patterns = true,
        }
    }
    let of_name = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    // Topics that are named are asked for by name too: of one that may not be seen only that tells.
    let asked = [Some(names.iter().map(of_name).collect()), None];
    let mut listing = BTreeMap::new();
    for topics in asked.into_iter().take(1 + usize::from(patterns)) {
        let request = MetadataRequest::default()
            .with_topics(topics)
            .with_allow_auto_topic_creation(false)
            .with_include_topic_authorized_operations(true);
        for topic in connection.ask(&request, version, LIMIT).await?.topics {
            if let Some(name) = &topic.name {
                listing.entry(name.to_string()).or_insert(topic);
            }
        }
    }
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{ApiVersionsRequest, MetadataResponse};
    use regex::Regex;

    use super::*;
    use crate::config::ClusterConfig;
    use crate::connection::tests::fake::{api_versions, broker};

    fn name(name: &str) -> TopicSelector {
        TopicSelector::Name(name.to_owned())
    }

    fn pattern(text: &str) -> TopicSelector {
        TopicSelector::Pattern(Regex::new(text).unwrap())
    }

    fn topic(name: &str, error: i16, operations: i32) -> MetadataResponseTopic {
        MetadataResponseTopic::default()
            .with_name(Some(topic_name(name)))
            .with_error_code(error)
            .with_topic_authorized_operations(operations)
    }

    #[test]
    fn what_is_not_told_is_not_allowed() {
        let asked = AskedTopics {
            read: vec![name("a"), pattern("^r\\.")],
            write: vec![name("a"), pattern("^w\\.")],
        };
        let describe = 1 << 8;
        for (topics, expected) in [
            (vec![topic("a", 0, READ)], Ok((vec!["a"], vec![]))),
            (vec![topic("a", 0, WRITE)], Ok((vec![], vec!["a"]))),
            (vec![topic("a", 0, READ | WRITE)], Ok((vec!["a"], vec!["a"]))),
            (vec![topic("a", 5, READ)], Ok((vec!["a"], vec![]))),
            (vec![topic("a", 0, describe)], Ok((vec![], vec![]))),
            (vec![topic("a", 0, 0)], Ok((vec![], vec![]))),
            // Not authorized, not there, and anything else.
            (vec![topic("a", 29, READ)], Ok((vec![], vec![]))),
            (vec![topic("a", 3, NOT_TOLD)], Ok((vec![], vec![]))),
            (vec![topic("a", 17, READ)], Ok((vec![], vec![]))),
            (vec![topic("r.1", 0, READ | WRITE)], Ok((vec!["r.1"], vec![]))),
            (vec![topic("w.1", 0, READ | WRITE)], Ok((vec![], vec!["w.1"]))),
            (vec![topic("other", 0, READ | WRITE)], Ok((vec![], vec![]))),
            (vec![topic("other", 0, NOT_TOLD)], Ok((vec![], vec![]))),
            (vec![topic("__r.1", 0, READ)], Ok((vec![], vec![]))),
            (vec![topic("a", 0, READ), topic("r.1", 0, NOT_TOLD)], Err(())),
            (vec![], Ok((vec![], vec![]))),
        ] {
            let named =
                |topic: MetadataResponseTopic| (topic.name.clone().unwrap().to_string(), topic);
            let listing: BTreeMap<_, _> = topics.into_iter().map(named).collect();
            let found = read(&listing, &asked);
            let set = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
            let expected = expected
                .map(|(read, write)| AuthorizedTopics { read: set(read), write: set(write) });
            assert_eq!(found.map_err(drop), expected, "{listing:?}");
        }
    }

    #[tokio::test]
    async fn topics_by_name_are_asked_for_alone() {
        for (read, requests) in [
            (vec![name("a"), name("b")], vec![Some(vec!["a", "b"])]),
            (vec![name("a"), pattern("^r")], vec![Some(vec!["a"]), None]),
        ] {
            let (heard_tx, mut heard) = tokio::sync::mpsc::unbounded_channel();
            let address = broker(move |asked| match asked.key {
                ApiKey::Metadata => {
                    let request = asked.read::<MetadataRequest>();
                    assert!(request.include_topic_authorized_operations);
                    assert!(!request.allow_auto_topic_creation);
                    let names = request.topics.map(|topics| {
                        let names = topics.into_iter().flat_map(|topic| topic.name);
                        names.map(|name| name.to_string()).collect::<Vec<_>>()
                    });
                    heard_tx.send(names).unwrap();
                    let response = MetadataResponse::default()
                        .with_topics(vec![topic("a", 0, READ), topic("r.1", 0, READ)]);
                    asked.answer::<MetadataRequest>(&response)
                }
                _ => asked.answer::<ApiVersionsRequest>(&api_versions()),
            })
            .await;
            let cluster = ClusterConfig::new(vec![address]);
            let connector = Connector::new(&cluster, None).unwrap();
            let topics = AskedTopics { read, write: Vec::new() };
            let found = ask(&connector, &cluster.bootstrap_servers, &topics).await.unwrap();
            assert_eq!(found.read.contains("r.1"), requests.len() == 2);
            assert!(found.read.contains("a") && found.write.is_empty());
            for expected in requests {
                let expected =
                    expected.map(|names| names.iter().map(|n| (*n).to_owned()).collect());
                assert_eq!(heard.recv().await.unwrap(), expected);
            }
            assert!(heard.is_empty());
        }
    }

    #[tokio::test]
    async fn not_every_question_is_for_the_first_server() {
        let (heard_tx, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let mut bootstrap_servers = Vec::new();
        for server in 0..2 {
            let heard_tx = heard_tx.clone();
            let address = broker(move |asked| match asked.key {
                ApiKey::Metadata => {
                    heard_tx.send(server).unwrap();
                    asked.answer::<MetadataRequest>(&MetadataResponse::default())
                }
                _ => asked.answer::<ApiVersionsRequest>(&api_versions()),
            });
            bootstrap_servers.push(address.await);
        }
        let cluster = ClusterConfig::new(bootstrap_servers);
        let connector = Connector::new(&cluster, None).unwrap();
        let topics = AskedTopics { read: vec![name("a")], write: Vec::new() };
        // By chance the same one fifty times: less than once in 10^14.
        let mut asked = BTreeSet::new();
        for _ in 0..50 {
            ask(&connector, &cluster.bootstrap_servers, &topics).await.unwrap();
            asked.insert(heard.recv().await.unwrap());
        }
        assert_eq!(asked.len(), 2);
    }

    #[tokio::test]
    async fn a_broker_that_is_away_says_nothing() {
        let cluster = ClusterConfig::new(vec!["127.0.0.1:1".to_owned()]);
        let connector = Connector::new(&cluster, None).unwrap();
        let topics = AskedTopics { read: vec![name("a")], write: Vec::new() };
        let error = ask(&connector, &cluster.bootstrap_servers, &topics).await.unwrap_err();
        assert!(matches!(error, AuthorizationError::Unanswered(_)), "{error:?}");
    }
}
