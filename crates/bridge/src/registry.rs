//! The present routes of a relay, as its reports see them.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::kafka_to_zmq::RouteShared;
use crate::status::WaitStatus;
use crate::zmq_to_kafka::IngestShared;

/// A route that was started. It stays one after it has stopped by itself, so that its reason is
/// seen.
#[derive(Clone, Debug)]
pub(crate) enum Running {
    /// A route from Kafka to ZeroMQ.
    KafkaToZmq(Arc<RouteShared>),
    /// A route from ZeroMQ to Kafka.
    ZmqToKafka(Arc<IngestShared>),
}

impl Running {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::KafkaToZmq(route) => &route.config.name,
            Self::ZmqToKafka(route) => &route.config.name,
        }
    }

    /// Returns true if it is the same route, and not another one of its name.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::KafkaToZmq(one), Self::KafkaToZmq(other)) => Arc::ptr_eq(one, other),
            (Self::ZmqToKafka(one), Self::ZmqToKafka(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Returns its waits, with which nothing is wrong.
    pub(crate) fn waits(&self) -> Vec<WaitStatus> {
        match self {
            Self::KafkaToZmq(route) => route.waits().0,
            Self::ZmqToKafka(route) => route.waits(),
        }
    }

    /// Returns the reason why it stopped for good, once it did.
    pub(crate) fn stopped(&self) -> Option<String> {
        match self {
            Self::KafkaToZmq(route) => route.report.stopped(),
            Self::ZmqToKafka(route) => route.stopped.lock().clone(),
        }
    }

    pub(crate) fn set_stopped(&self, reason: String) {
        match self {
            Self::KafkaToZmq(route) => *route.report.stopped.lock() = Some(reason),
            Self::ZmqToKafka(route) => *route.stopped.lock() = Some(reason),
        }
    }
}

/// The routes in the order in which they were started; clones show the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry(Arc<RwLock<Vec<Running>>>);

impl Registry {
    pub(crate) fn add(&self, route: Running) {
        self.0.write().push(route);
    }

    pub(crate) fn remove(&self, name: &str) {
        self.0.write().retain(|route| route.name() != name);
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.read().iter().any(|route| route.name() == name)
    }

    pub(crate) fn all(&self) -> Vec<Running> {
        self.0.read().clone()
    }

    pub(crate) fn kafka_to_zmq(&self) -> Vec<Arc<RouteShared>> {
        let of_kind = |route: &Running| match route {
            Running::KafkaToZmq(route) => Some(Arc::clone(route)),
            Running::ZmqToKafka(_) => None,
        };
        self.0.read().iter().filter_map(of_kind).collect()
    }

    pub(crate) fn zmq_to_kafka(&self) -> Vec<Arc<IngestShared>> {
        let of_kind = |route: &Running| match route {
            Running::ZmqToKafka(route) => Some(Arc::clone(route)),
            Running::KafkaToZmq(_) => None,
        };
        self.0.read().iter().filter_map(of_kind).collect()
    }
}
