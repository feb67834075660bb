//! A relay: the routes of one process. Each can be started, stopped and replaced while the others
//! run.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tracing::error;
use zafka_kafka::produce::Producer;
use zafka_kafka::{Cluster, Source};
use zafka_sockets::gate::Gate;
use zafka_sockets::{BindError, Inbound, InboundSocket, PubSocket, Publisher, now_ms};

use crate::config::RouteConfig;
use crate::kafka_to_zmq::{self, RouteReport, RouteShared};
use crate::principals::Principals;
use crate::registry::{Registry, Running};
use crate::status::{RelayReadiness, RelayStatus, RouteStatus};
use crate::wait_log;
use crate::zmq_to_kafka::{self, IngestConfig, IngestShared};

/// A route to be run.
#[derive(Clone, Debug)]
pub enum Route {
    /// A route from Kafka to ZeroMQ.
    KafkaToZmq(RouteConfig),
    /// A route from ZeroMQ to Kafka.
    ZmqToKafka(IngestConfig),
}

impl Route {
    /// Its name; unique within a relay.
    pub fn name(&self) -> &str {
        match self {
            Self::KafkaToZmq(config) => &config.name,
            Self::ZmqToKafka(config) => &config.name,
        }
    }
}

impl From<RouteConfig> for Route {
    fn from(config: RouteConfig) -> Self {
        Self::KafkaToZmq(config)
    }
}

impl From<IngestConfig> for Route {
    fn from(config: IngestConfig) -> Self {
        Self::ZmqToKafka(config)
    }
}

/// The reason why a route did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An endpoint cannot be bound.
    #[error("route \"{route}\": {source}")]
    Bind {
        /// The route.
        route: String,
        /// The endpoint, and the cause.
        #[source]
        source: BindError,
    },
    /// The Kafka client cannot be made.
    #[error("route \"{route}\": {source}")]
    Kafka {
        /// The route.
        route: String,
        /// The cause.
        #[source]
        source: zafka_kafka::StartError,
    },
    /// It is to write in its peers' names, and nobody knows them.
    #[error("route \"{route}\": the names of its peers are not known")]
    NoNames {
        /// The route.
        route: String,
    },
    /// A route of this name is there; it is to be stopped or replaced.
    #[error("route \"{route}\": there is one of this name")]
    Exists {
        /// The route.
        route: String,
    },
}

/// A route that stopped because it could not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoppedRoute {
    /// Its name.
    pub route: String,
    /// The reason why it stopped.
    pub reason: String,
}

/// Routes that run.
#[derive(Debug)]
pub struct Relay {
    cluster: Cluster,
    /// Admits peers, for all routes.
    gate: Option<Arc<dyn Gate>>,
    /// The principals of peers, for routes that write in their peers' names.
    principals: Option<Arc<dyn Principals>>,
    registry: Registry,
    tasks: JoinSet<()>,
    /// The task of each route that runs.
    running: HashMap<Id, (Running, watch::Sender<Option<Instant>>)>,
    /// Closes what a route has whose task broke off.
    closing: JoinSet<()>,
    /// Logs waits; ends with the relay.
    _wait_log: JoinSet<()>,
}

/// Reports the status of a relay, also while it shuts down.
#[derive(Clone, Debug)]
pub struct StatusHandle {
    registry: Registry,
}

impl StatusHandle {
    /// Returns whether the routes are ready, and what they wait for. Cheap: probes may ask often.
    pub fn readiness(&self) -> RelayReadiness {
        let (routes, ingest) = (self.registry.kafka_to_zmq(), self.registry.zmq_to_kafka());
        let routes = routes.iter().map(|route| route.readiness());
        RelayReadiness {
            routes: routes.chain(ingest.iter().map(|route| route.readiness())).collect(),
        }
    }

    /// Returns the status now, without the peers.
    pub fn counters(&self) -> RelayStatus {
        self.of(RouteShared::counters)
    }

    /// Returns the status now. It looks at every peer's queue, and takes time if there are many.
    pub fn status(&self) -> RelayStatus {
        self.of(RouteShared::status)
    }

    fn of(&self, of_route: impl Fn(&RouteShared) -> RouteStatus) -> RelayStatus {
        let now_ms = now_ms();
        let (routes, ingest) = (self.registry.kafka_to_zmq(), self.registry.zmq_to_kafka());
        RelayStatus {
            routes: routes.iter().map(|route| of_route(route)).collect(),
            ingest: ingest.iter().map(|route| route.status(now_ms)).collect(),
        }
    }
}

/// A route whose endpoints are bound.
enum Bound {
    KafkaToZmq(RouteConfig, PubSocket, Publisher),
    ZmqToKafka(IngestConfig, InboundSocket, UnboundedReceiver<Inbound>),
}

impl Bound {
    async fn new(route: Route, gate: Option<Arc<dyn Gate>>) -> Result<Self, StartError> {
        let failed = |name: &str, source| StartError::Bind { route: name.to_owned(), source };
        match route {
            Route::KafkaToZmq(config) => {
                let (name, socket) = (&config.name, config.socket.clone());
                let started = PubSocket::start_with_gate(name, socket, gate).await;
                let (socket, publisher) = started.map_err(|error| failed(&config.name, error))?;
                Ok(Self::KafkaToZmq(config, socket, publisher))
            }
            Route::ZmqToKafka(config) => {
                let (name, socket) = (&config.name, config.socket.clone());
                let started = InboundSocket::start_with_gate(name, socket, gate).await;
                let (socket, messages) = started.map_err(|error| failed(&config.name, error))?;
                Ok(Self::ZmqToKafka(config, socket, messages))
            }
        }
    }
}

impl Relay {
    /// Binds every endpoint, then begins to read and to write. Brokers need not be reachable: they
    /// are tried until they are.
    ///
    /// # Errors
    /// The first route that cannot be started; those before it are ended.
    pub async fn start(
        cluster: &Cluster,
        routes: impl IntoIterator<Item = impl Into<Route>>,
    ) -> Result<Self, StartError> {
        Self::start_with_gate(cluster, routes, None, None).await
    }

    /// The same; a gate admits peers for all routes, and decides what each may do. Routes that
    /// write as their peers do need principals.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with_gate(
        cluster: &Cluster,
        routes: impl IntoIterator<Item = impl Into<Route>>,
        gate: Option<Arc<dyn Gate>>,
        principals: Option<Arc<dyn Principals>>,
    ) -> Result<Self, StartError> {
        let registry = Registry::default();
        let mut wait_log = JoinSet::new();
        wait_log.spawn(wait_log::keep_logging(registry.clone()));
        let mut relay = Self {
            cluster: cluster.clone(),
            gate,
            principals,
            registry,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            closing: JoinSet::new(),
            _wait_log: wait_log,
        };
        let mut bound = Vec::new();
        for route in routes {
            bound.push(Bound::new(route.into(), relay.gate.clone()).await?);
        }
        for bound in bound {
            relay.run(bound)?;
        }
        Ok(relay)
    }

    /// Starts a route beside those that run.
    ///
    /// # Errors
    /// If it cannot be started, or if there is one of its name. The others run on.
    pub async fn start_route(&mut self, route: impl Into<Route>) -> Result<(), StartError> {
        let route = route.into();
        if self.registry.has(route.name()) {
            return Err(StartError::Exists { route: route.name().to_owned() });
        }
        let bound = Bound::new(route, self.gate.clone()).await?;
        self.run(bound)
    }

    /// Stops a route as [`Self::shutdown`] does, and forgets it. The others run on. Does nothing if
    /// there is none of this name.
    pub async fn stop_route(&mut self, name: &str, timeout: Duration) {
        self.stop_routes(&[name], timeout).await;
    }

    /// Stops routes side by side, as [`Self::stop_route`] does.
    pub async fn stop_routes(&mut self, names: &[&str], timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let is_meant = |(route, _): &(Running, _)| names.contains(&route.name());
        for (_, stop) in self.running.values().filter(|running| is_meant(running)) {
            stop.send_replace(Some(deadline));
        }
        while self.running.values().any(is_meant) && self.join_next().await {}
        // One that broke off before has its endpoints until then.
        while self.closing.join_next().await.is_some() {}
        names.iter().for_each(|name| self.registry.remove(name));
    }

    /// Returns true if there is a route of this name that has not stopped.
    pub fn runs(&self, name: &str) -> bool {
        let mut routes = self.running.values().map(|(route, _)| route);
        routes.any(|route| route.name() == name && route.stopped().is_none())
    }

    /// Stops the route of the same name, if there is one, and starts this one in its place. It may
    /// have the endpoints and the group of the old one, and so begins when that has ended.
    ///
    /// # Errors
    /// If it cannot be started: then there is none of this name any more. The others run on.
    pub async fn replace_route(
        &mut self,
        route: impl Into<Route>,
        timeout: Duration,
    ) -> Result<(), StartError> {
        let route = route.into();
        self.stop_route(route.name(), timeout).await;
        self.start_route(route).await
    }

    fn run(&mut self, bound: Bound) -> Result<(), StartError> {
        let (stop, stopped) = watch::channel(None);
        let (route, task) = match bound {
            Bound::KafkaToZmq(config, socket, publisher) => {
                let (source, receivers) = Source::start(&self.cluster, config.source.clone())
                    .map_err(|source| StartError::Kafka { route: config.name.clone(), source })?;
                let (config, report) = (Arc::new(config), Arc::new(RouteReport::default()));
                let shared = Arc::new(RouteShared { config, socket, source, report });
                let task = kafka_to_zmq::RouteTask::new(Arc::clone(&shared), publisher);
                (Running::KafkaToZmq(shared), self.tasks.spawn(task.run(receivers, stopped)))
            }
            Bound::ZmqToKafka(config, socket, messages) => {
                let names = match (config.as_peer, &self.principals) {
                    (false, _) => None,
                    (true, Some(principals)) => {
                        Some((Arc::clone(principals), self.cluster.clone()))
                    }
                    (true, None) => return Err(StartError::NoNames { route: config.name.clone() }),
                };
                let producer = Producer::start(&self.cluster, &config.producer)
                    .map_err(|source| StartError::Kafka { route: config.name.clone(), source })?;
                let shared = Arc::new(IngestShared::new(config, socket, producer.health()));
                let run =
                    zmq_to_kafka::run(Arc::clone(&shared), producer, names, messages, stopped);
                (Running::ZmqToKafka(shared), self.tasks.spawn(run))
            }
        };
        self.registry.add(route.clone());
        self.running.insert(task.id(), (route, stop));
        Ok(())
    }

    /// A handle that reports the relay's status.
    pub fn status_handle(&self) -> StatusHandle {
        StatusHandle { registry: self.registry.clone() }
    }

    /// Waits until every route has stopped by itself, and returns why. Routes stop only if they
    /// cannot go on. May be dropped at any time, and called again.
    pub async fn stopped(&mut self) -> Vec<StoppedRoute> {
        while self.join_next().await {}
        let all = self.registry.all();
        let of = |route: &Running| {
            Some(StoppedRoute { route: route.name().to_owned(), reason: route.stopped()? })
        };
        all.iter().filter_map(of).collect()
    }

    /// Stops reading, sends what is in the rings within `timeout`, commits what was delivered,
    /// leaves the groups.
    pub async fn shutdown(mut self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        for (_, stop) in self.running.values() {
            stop.send_replace(Some(deadline));
        }
        while self.join_next().await {}
    }

    /// Waits for the end of one task. False if none runs. May be dropped at any time.
    async fn join_next(&mut self) -> bool {
        let Some(joined) = self.tasks.join_next_with_id().await else {
            return self.closing.join_next().await.is_some();
        };
        let (id, failure) = match joined {
            Ok((id, ())) => (id, None),
            Err(failure) => (failure.id(), Some(failure)),
        };
        if let Some((route, _)) = self.running.remove(&id)
            && let Some(failure) = failure
        {
            // A mistake of ours.
            let reason = format!("internal error: {failure}");
            error!(route = route.name(), reason, "route stopped");
            route.set_stopped(reason);
            self.closing.spawn(close(route));
        }
        true
    }
}

/// Lets go of what a route has whose task broke off.
async fn close(route: Running) {
    match route {
        Running::KafkaToZmq(route) => {
            route.source.close(Vec::new()).await;
            // It would never receive anything.
            route.socket.close().await;
        }
        Running::ZmqToKafka(route) => route.socket.close(Duration::ZERO).await,
    }
}
