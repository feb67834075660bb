//! A relay: all routes of one process.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tracing::error;
use zafka_kafka::Source;
use zafka_kafka::config::ClusterConfig;
use zafka_kafka::produce::Producer;
use zafka_sockets::{BindError, Inbound, InboundSocket, PubSocket};

use crate::config::RouteConfig;
use crate::kafka_to_zmq::{Route, RouteShared};
use crate::status::{RelayReadiness, RelayStatus, RouteStatus};
use crate::wait_log;
use crate::zmq_to_kafka::{self, IngestConfig, IngestShared};

/// Why a relay did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An endpoint cannot be bound.
    #[error("route \"{route}\": {source}")]
    Bind {
        /// The route.
        route: String,
        /// Which endpoint, and why.
        #[source]
        source: BindError,
    },
    /// The Kafka client cannot be made.
    #[error("route \"{route}\": {source}")]
    Kafka {
        /// The route.
        route: String,
        /// Why.
        #[source]
        source: zafka_kafka::StartError,
    },
}

/// Routes that run.
#[derive(Debug)]
pub struct Relay {
    routes: Vec<Arc<RouteShared>>,
    ingest: Vec<Arc<IngestShared>>,
    tasks: JoinSet<()>,
    /// Whose task is which.
    ids: HashMap<Id, Arc<RouteShared>>,
    ingest_ids: HashMap<Id, Arc<IngestShared>>,
    stop: watch::Sender<Option<Instant>>,
    /// Tells of waits; ends with the relay.
    _wait_log: JoinSet<()>,
}

/// Tells the status of a relay, also while it shuts down.
#[derive(Clone, Debug)]
pub struct StatusHandle {
    routes: Vec<Arc<RouteShared>>,
    ingest: Vec<Arc<IngestShared>>,
}

impl StatusHandle {
    /// Whether the routes are ready, and what they wait for. Cheap: probes may ask often.
    pub fn readiness(&self) -> RelayReadiness {
        let routes = self.routes.iter().map(|route| route.readiness());
        RelayReadiness {
            routes: routes.chain(self.ingest.iter().map(|route| route.readiness())).collect(),
        }
    }

    /// The status now, without the peers.
    pub fn counters(&self) -> RelayStatus {
        self.of(RouteShared::counters)
    }

    /// The status now. It looks at every peer's queue, and takes time where there are many.
    pub fn status(&self) -> RelayStatus {
        self.of(RouteShared::status)
    }

    fn of(&self, of_route: impl Fn(&RouteShared) -> RouteStatus) -> RelayStatus {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        RelayStatus {
            routes: self.routes.iter().map(|route| of_route(route)).collect(),
            ingest: self.ingest.iter().map(|route| route.status(now_ms)).collect(),
        }
    }
}

impl Relay {
    /// Starts routes from Kafka to ZeroMQ alone; see [`Self::start_all`].
    ///
    /// # Errors
    /// The first route that cannot be started; those before it are ended.
    pub async fn start(
        cluster: &ClusterConfig,
        routes: Vec<RouteConfig>,
    ) -> Result<Self, StartError> {
        Self::start_all(cluster, routes, Vec::new()).await
    }

    /// Binds every endpoint, then begins to read and to write. Brokers need not be reachable: they
    /// are tried until they are.
    ///
    /// # Errors
    /// The first route that cannot be started; those before it are ended.
    pub async fn start_all(
        cluster: &ClusterConfig,
        routes: Vec<RouteConfig>,
        ingest: Vec<IngestConfig>,
    ) -> Result<Self, StartError> {
        let mut relay = Self {
            routes: Vec::new(),
            ingest: Vec::new(),
            tasks: JoinSet::new(),
            ids: HashMap::new(),
            ingest_ids: HashMap::new(),
            stop: watch::Sender::new(None),
            _wait_log: JoinSet::new(),
        };
        let mut bound = Vec::new();
        for config in routes {
            let socket = PubSocket::start(&config.name, config.socket.clone()).await;
            let (socket, publisher) =
                socket.map_err(|source| StartError::Bind { route: config.name.clone(), source })?;
            bound.push((config, socket, publisher));
        }
        let mut ingest_bound = Vec::new();
        for config in ingest {
            let socket = InboundSocket::start(&config.name, config.socket.clone()).await;
            let (socket, messages) =
                socket.map_err(|source| StartError::Bind { route: config.name.clone(), source })?;
            ingest_bound.push((config, socket, messages));
        }
        for (config, socket, messages) in ingest_bound {
            relay.start_ingest(cluster, config, socket, messages)?;
        }
        for (config, socket, publisher) in bound {
            let (source, receivers) = Source::start(cluster, config.source.clone())
                .map_err(|source| StartError::Kafka { route: config.name.clone(), source })?;
            let shared = Arc::new(RouteShared {
                config,
                socket,
                source,
                partitions: Mutex::default(),
                short: Default::default(),
                records_read: Default::default(),
                bytes_encoded: Default::default(),
                headers_missing: Default::default(),
                stopped: Mutex::default(),
            });
            let route = Route::new(Arc::clone(&shared), publisher);
            let task = relay.tasks.spawn(route.run(receivers, relay.stop.subscribe()));
            relay.ids.insert(task.id(), Arc::clone(&shared));
            relay.routes.push(shared);
        }
        relay._wait_log.spawn(wait_log::keep_telling(relay.routes.clone()));
        Ok(relay)
    }

    fn start_ingest(
        &mut self,
        cluster: &ClusterConfig,
        config: IngestConfig,
        socket: InboundSocket,
        messages: UnboundedReceiver<Inbound>,
    ) -> Result<(), StartError> {
        let producer = Producer::start(cluster, &config.producer)
            .map_err(|source| StartError::Kafka { route: config.name.clone(), source })?;
        let shared = Arc::new(IngestShared::new(config, socket, producer.health()));
        let stop = self.stop.subscribe();
        let run = zmq_to_kafka::run(Arc::clone(&shared), producer, messages, stop);
        let task = self.tasks.spawn(run);
        self.ingest_ids.insert(task.id(), Arc::clone(&shared));
        self.ingest.push(shared);
        Ok(())
    }

    /// A handle that tells the relay's status.
    pub fn status_handle(&self) -> StatusHandle {
        StatusHandle { routes: self.routes.clone(), ingest: self.ingest.clone() }
    }

    /// Waits until every route has stopped by itself, and says why. Routes stop only where they
    /// cannot go on.
    pub async fn stopped(&mut self) -> Vec<(String, String)> {
        self.join().await;
        let routes = self.routes.iter().map(|route| (&route.config.name, &route.stopped));
        let ingest = self.ingest.iter().map(|route| (&route.config.name, &route.stopped));
        routes
            .chain(ingest)
            .filter_map(|(name, stopped)| Some((name.clone(), stopped.lock().clone()?)))
            .collect()
    }

    /// Stops reading, sends what is in the rings within `timeout`, commits what was delivered,
    /// leaves the groups.
    pub async fn shutdown(mut self, timeout: Duration) {
        self.stop.send_replace(Some(Instant::now() + timeout));
        self.join().await;
    }

    /// Waits for every route's task. One that broke off is a mistake of ours: it is told, and its
    /// partitions go.
    async fn join(&mut self) {
        while let Some(joined) = self.tasks.join_next().await {
            let Err(failure) = joined else { continue };
            let reason = format!("internal error: {failure}");
            if let Some(route) = self.ingest_ids.get(&failure.id()) {
                error!(route = route.config.name, reason, "route stopped");
                *route.stopped.lock() = Some(reason);
                route.socket.close(Duration::ZERO).await;
                continue;
            }
            let Some(route) = self.ids.get(&failure.id()) else { continue };
            error!(route = route.config.name, reason, "route stopped");
            *route.stopped.lock() = Some(reason);
            route.source.close(Vec::new()).await;
            // Nobody would ever hear anything on it.
            route.socket.close().await;
        }
    }
}
