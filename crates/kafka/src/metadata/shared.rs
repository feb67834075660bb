//! Metadata for all routes of a relay, over one connection. Questions that come while a request is
//! under way are asked together with the next one.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Mutex as Turn;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::{Metadata, MetadataClient, MetadataError};
use crate::connection::Connector;

/// Topics that a handle asks for.
struct Question {
    topics: Vec<Arc<str>>,
    /// The server that is to be left, if it is still the one that is asked.
    distrusted: Option<u64>,
    answer: oneshot::Sender<(Result<Metadata, MetadataError>, u64)>,
}

/// The connection, and the questions that wait for it.
struct SharedMetadata {
    waiting: Mutex<Vec<Question>>,
    /// Locked by a handle that waits, which asks for the others too.
    exchange: Turn<Exchange>,
}

struct Exchange {
    client: MetadataClient,
    /// Addresses of brokers, sorted, that may be asked too.
    known: Vec<String>,
}

impl SharedMetadata {
    /// Asks for all that wait, in one request.
    async fn ask_for_all(&self, exchange: &mut Exchange) {
        let mut questions = std::mem::take(&mut *self.waiting.lock());
        questions.retain(|question| !question.answer.is_closed());
        let server = Some(exchange.client.server());
        if questions.iter().any(|question| question.distrusted == server) {
            exchange.client.leave();
        }
        let topics: BTreeSet<Arc<str>> =
            questions.iter().flat_map(|question| question.topics.iter().cloned()).collect();
        let topics: Vec<Arc<str>> = topics.into_iter().collect();
        let answer = exchange.client.ask(&topics, &exchange.known).await;
        if let Ok(metadata) = &answer {
            exchange.known = metadata.brokers.values().cloned().collect();
            exchange.known.sort_unstable();
        }
        for question in questions {
            let answer = match &answer {
                Ok(metadata) => Ok(metadata.of(&question.topics)),
                Err(error) => Err(error.clone()),
            };
            // Its handle may have stopped to wait.
            let _ = question.answer.send((answer, exchange.client.server()));
        }
    }
}

/// Asks for metadata. Clones ask over the same connection.
#[derive(Clone)]
pub(crate) struct MetadataHandle {
    shared: Arc<SharedMetadata>,
    /// The server that answered last.
    server: Option<u64>,
    distrusted: Option<u64>,
}

impl MetadataHandle {
    /// A handle with a connection of its own.
    pub(crate) fn new(connector: Arc<Connector>, bootstrap: Vec<String>) -> Self {
        let client = MetadataClient::new(connector, bootstrap);
        let exchange = Turn::new(Exchange { client, known: Vec::new() });
        let shared = Arc::new(SharedMetadata { waiting: Mutex::default(), exchange });
        Self { shared, server: None, distrusted: None }
    }

    /// Asks another server next, unless the one that answered last was left already.
    pub(crate) fn leave(&mut self) {
        self.distrusted = self.server;
    }

    /// Asks for these topics. The answer is no older than the question.
    ///
    /// # Errors
    /// Why the server whose turn it was did not answer; the next call asks another one.
    pub(crate) async fn ask(&mut self, topics: &[Arc<str>]) -> Result<Metadata, MetadataError> {
        let distrusted = self.distrusted.take();
        loop {
            let (answer, mut answered) = oneshot::channel();
            let question = Question { topics: topics.to_vec(), distrusted, answer };
            self.shared.waiting.lock().push(question);
            // One request of others and one of its own are waited for, each with a deadline.
            let received = tokio::select! {
                biased;
                received = &mut answered => received.ok(),
                mut exchange = self.shared.exchange.lock() => match answered.try_recv() {
                    Err(TryRecvError::Empty) => {
                        self.shared.ask_for_all(&mut exchange).await;
                        answered.try_recv().ok()
                    }
                    // The handle before has asked for this one too.
                    received => received.ok(),
                },
            };
            // Nothing is received if the handle that asked for this one was dropped meanwhile.
            if let Some((answer, server)) = received {
                if answer.is_ok() {
                    self.server = Some(server);
                }
                return answer;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
    use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, MetadataRequest, MetadataResponse};
    use tokio::sync::Notify;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::config::ClusterConfig;
    use crate::connection::tests::fake::{Count, api_versions, broker};

    fn shared(servers: Vec<String>) -> MetadataHandle {
        let cluster = ClusterConfig::new(servers.clone());
        let connector = Connector::new(&cluster, None).unwrap();
        MetadataHandle::new(connector, servers)
    }

    fn names(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    /// A broker that answers for the topics that it is asked for, and calls itself by a name.
    async fn answering(
        name: &'static str,
        mut heard: impl FnMut(Vec<String>) + Send + 'static,
    ) -> (String, Count) {
        let connections = Count::default();
        let counted = Arc::clone(&connections);
        let address = broker(move |asked| match asked.key {
            ApiKey::Metadata => {
                let wanted = asked.read::<MetadataRequest>().topics.unwrap_or_default();
                let names = wanted.iter().flat_map(|topic| &topic.name);
                heard(names.map(|name| name.to_string()).collect());
                let topics = wanted
                    .into_iter()
                    .map(|topic| MetadataResponseTopic::default().with_name(topic.name));
                let response = MetadataResponse::default().with_cluster_id(Some(name.into()));
                asked.answer::<MetadataRequest>(&response.with_topics(topics.collect()))
            }
            _ => {
                counted.fetch_add(1, Ordering::Relaxed);
                asked.answer::<ApiVersionsRequest>(&api_versions())
            }
        });
        (address.await, connections)
    }

    async fn ask(mut handle: MetadataHandle, topics: &[&str]) {
        let topics = names(topics);
        let metadata = handle.ask(&topics).await.unwrap();
        let mut found: Vec<_> = metadata.topics.keys().cloned().collect();
        found.sort_unstable();
        assert_eq!(found, topics, "what it asked for, and nothing else");
    }

    #[tokio::test]
    async fn those_that_wait_are_asked_for_together_over_one_connection() {
        let (heard_tx, mut heard) = unbounded_channel();
        let (address, connections) =
            answering("c", move |topics| heard_tx.send(topics).unwrap()).await;
        let handle = shared(vec![address]);
        tokio::join!(
            ask(handle.clone(), &["a"]),
            ask(handle.clone(), &["b", "c"]),
            ask(handle.clone(), &["c", "d"]),
        );
        assert_eq!(heard.recv().await.unwrap(), ["a"]);
        assert_eq!(heard.recv().await.unwrap(), ["b", "c", "d"]);
        assert!(heard.is_empty());
        assert_eq!(connections.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn one_that_ends_while_it_asks_for_others_leaves_them_to_ask() {
        let ended = Arc::new(Notify::new());
        let notified = Arc::clone(&ended);
        let (address, _) = answering("c", move |topics| {
            if topics.iter().any(|topic| topic == "ends") {
                notified.notify_one();
            }
        })
        .await;
        let handle = shared(vec![address]);
        let ends = async {
            tokio::select! {
                biased;
                () = ended.notified() => {}
                () = ask(handle.clone(), &["ends"]) => panic!("it was to end before"),
            }
        };
        tokio::join!(ask(handle.clone(), &["a"]), ends, ask(handle.clone(), &["b"]));
    }

    #[tokio::test]
    async fn a_server_that_several_distrust_is_left_once() {
        let (one, _) = answering("one", |_| ()).await;
        let (other, _) = answering("other", |_| ()).await;
        let mut first = shared(vec![one, other]);
        let mut second = first.clone();
        let mut clusters = Vec::new();
        for round in 0..2 {
            for handle in [&mut first, &mut second] {
                clusters.push(handle.ask(&[]).await.unwrap().cluster.unwrap());
            }
            if round == 0 {
                first.leave();
                second.leave();
            }
        }
        assert_eq!(clusters, ["one", "one", "other", "other"]);
    }
}
