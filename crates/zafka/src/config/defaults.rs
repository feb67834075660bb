//! Routes whose keys all have their defaults: what a URL or the demo does not say is taken from
//! here, so that the table of keys is the only home of a default.

use std::path::Path;
use std::time::Duration;

use zafka_bridge::config::RouteConfig;
use zafka_bridge::zmq_to_kafka::IngestConfig;

use super::{ConfigError, parse};

/// A file with the keys alone that must be there.
const FILE: &str = "
[kafka]
bootstrap_servers = ['127.0.0.1:9092']

[[route]]
name = 'out'
from.kafka = { topics = ['t'] }
to.zmq = { socket = 'pub', bind = ['tcp://127.0.0.1:*'] }

[[route]]
name = 'in'
from.zmq = { socket = 'pull', bind = ['tcp://127.0.0.1:*'] }
to.kafka = { topic = 't' }
";

/// A route of each direction, with defaults.
#[derive(Debug)]
pub struct Defaults {
    /// A route from Kafka to ZeroMQ.
    pub route: RouteConfig,
    /// A route from ZeroMQ to Kafka.
    pub ingest: IngestConfig,
    /// `shutdown_timeout`.
    pub shutdown_timeout: Duration,
}

impl Defaults {
    /// Reads them from the tables of keys.
    ///
    /// # Errors
    /// The tables contradict themselves.
    pub fn read() -> Result<Self, ConfigError> {
        let mistakes =
            |mistakes| ConfigError::Mistakes { place: "the defaults".to_owned(), mistakes };
        let loaded = parse(FILE, Path::new(""), &|_| None, false, None).map_err(mistakes)?;
        let config = loaded.config;
        let (routes, ingest) = (config.routes.into_iter().next(), config.ingest.into_iter().next());
        match (routes, ingest) {
            (Some(route), Some(ingest)) => {
                Ok(Self { route, ingest, shutdown_timeout: config.shutdown_timeout })
            }
            _ => Err(mistakes(Vec::new())),
        }
    }
}
