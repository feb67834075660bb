//! The configuration file: from TOML to typed configuration, with every mistake of a file at once.
//!
//! `keys` holds each key once; `reader` walks the file by it; `text` makes values of texts; the
//! rest puts them together. Nothing behind this module checks a value again.

mod admin;
mod binds;
pub mod checks;
mod choice;
mod claims;
mod connects;
mod defaults;
pub mod difference;
#[cfg(test)]
mod docs;
mod endpoints;
mod exchange;
mod expand;
mod identity;
mod ingest;
mod issuers;
mod keys;
mod kind;
mod loops;
mod mistake;
mod oauth;
mod reader;
mod rename;
mod route;
mod security;
mod socket;
#[cfg(test)]
mod tests;
pub mod text;

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;
use zafka_bridge::Route;
use zafka_bridge::config::RouteConfig;
use zafka_bridge::zmq_to_kafka::IngestConfig;
use zafka_kafka::AskedTopics;
use zafka_kafka::config::{ClusterConfig, Security, TopicSelector};

pub use admin::bind_warning;
use connects::Connect;
pub use defaults::Defaults;
use endpoints::Securing;
pub use exchange::KafkaExchange;
pub use identity::{IdentityConfig, key_pair_in, public_key_in};
pub use issuers::IssuerConfig;
pub use mistake::{ConfigError, Mistake, Rejected, Warning};
use reader::{Reader, Table};

use crate::hosts::Host;
use crate::open_files;
use crate::secret_file::Exposed;

/// The routes of a process, and its settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The cluster that all routes read from.
    pub cluster: ClusterConfig,
    /// The routes from Kafka to ZeroMQ. There is at least one route of either direction, and each
    /// name is unique.
    pub routes: Vec<RouteConfig>,
    /// The routes from ZeroMQ to Kafka.
    pub ingest: Vec<IngestConfig>,
    /// The admin server, if there is one.
    pub admin: Option<AdminConfig>,
    /// The identities of the peers and their rights; without it every peer may do everything.
    pub identity: Option<IdentityConfig>,
    /// Time to send what is in the rings at the end.
    pub shutdown_timeout: Duration,
}

impl Config {
    /// The routes of both directions.
    pub fn all_routes(&self) -> Vec<Route> {
        let ingest = self.ingest.iter().cloned().map(Route::from);
        self.routes.iter().cloned().map(Route::from).chain(ingest).collect()
    }

    /// The topics that peers may want to read and write, of all routes.
    pub fn asked_topics(&self) -> AskedTopics {
        let read = self.routes.iter().flat_map(|route| route.source.topics.clone());
        let write = self.ingest.iter().flat_map(|route| match route.mapping.topic.constant() {
            Some(topic) => vec![TopicSelector::Name(topic)],
            None => route.mapping.allowed.clone(),
        });
        AskedTopics { read: read.collect(), write: write.collect() }
    }

    /// Keeps the routes that `is_kept` says of, by their names.
    pub fn retain_routes(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.routes.retain(|route| is_kept(&route.name));
        self.ingest.retain(|route| is_kept(&route.name));
    }

    /// Adds a route; there is none of its name.
    pub fn add_route(&mut self, route: Route) {
        match route {
            Route::KafkaToZmq(route) => self.routes.push(route),
            Route::ZmqToKafka(route) => self.ingest.push(route),
        }
    }
}

/// The admin server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// The address that it listens at.
    pub bind: SocketAddr,
    /// Further hosts that requests may name.
    pub hosts: Vec<Host>,
    /// The path of the control socket, if there is to be one.
    pub control: Option<PathBuf>,
}

impl AdminConfig {
    /// A server at this address, and no more.
    pub fn at(bind: SocketAddr) -> Self {
        Self { bind, hosts: Vec::new(), control: None }
    }
}

/// A configuration, and what in it may not be meant.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Sorted by line.
    pub warnings: Vec<Warning>,
    /// The endpoints that each route connects to.
    connects: Vec<Vec<Connect>>,
}

impl Loaded {
    /// Returns mistakes that are seen only once names are looked up: endpoints to connect to that
    /// lead to one peer.
    pub fn mistakes_by_name(&self, resolve: &dyn Fn(&str) -> Vec<IpAddr>) -> Vec<Mistake> {
        connects::by_name(&self.connects, resolve)
    }
}

/// Reads a file, with the variables of this process.
///
/// # Errors
/// The file cannot be read, or has mistakes: all of them.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let variable = |name: &str| std::env::var(name).ok();
    let exposed = Exposed::look(path).is_some();
    parse(&text, directory, &variable, exposed, open_files::hard_limit())
        .map_err(|mistakes| ConfigError::Mistakes { place: path.display().to_string(), mistakes })
}

/// Reads the text of a file. Relative paths start at `directory`; `exposed`: others can read the
/// file; `open_files`: how many this process may have.
fn parse(
    text: &str,
    directory: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
    exposed: bool,
    open_files: Option<u64>,
) -> Result<Loaded, Vec<Mistake>> {
    let reader = Reader {
        text,
        directory,
        variable,
        mistakes: RefCell::default(),
        warnings: RefCell::default(),
        plain_secret: RefCell::default(),
    };
    let tree = match DeTable::parse(text) {
        Ok(tree) => tree,
        Err(error) => {
            let at = error.span().unwrap_or(0..0);
            reader.mistake(
                &at,
                "",
                format!("not TOML: {}", error.message().replace('\n', ", ")),
                "",
            );
            return Err(reader.mistakes.into_inner());
        }
    };
    let top = reader.table(&keys::TOP, tree.get_ref(), 0..0);
    let (config, connects) = top_level(&top, open_files);
    if let (true, Some((span, key))) = (exposed, reader.plain_secret.take()) {
        let text = "a secret stands in a file that others can read; use \"${VARIABLE}\" or a file";
        reader.warn(&span, &key, text);
    }
    let mut mistakes = reader.mistakes.into_inner();
    let mut warnings = reader.warnings.into_inner();
    mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
    warnings.sort_by_key(|warning| warning.line);
    match config {
        Some(config) if mistakes.is_empty() => Ok(Loaded { config, warnings, connects }),
        _ => Err(mistakes),
    }
}

fn top_level(top: &Table<'_, '_>, open_files: Option<u64>) -> (Option<Config>, Vec<Vec<Connect>>) {
    let shutdown_timeout = top.duration(&keys::SHUTDOWN_TIMEOUT);
    let cluster = cluster(top);
    let admin =
        top.table(&keys::ADMIN, &keys::ADMIN_SECTION).and_then(|table| admin::admin(&table, top));
    let mut door = Vec::new();
    let mut securing = match top.table(&keys::IDENTITY, &keys::IDENTITY_SECTION) {
        Some(table) => {
            door = identity::door(&table);
            Securing::On(Box::new(identity::identity(&table, &door)))
        }
        None if top.has(&keys::IDENTITY) => Securing::On(Box::new(None)),
        None => Securing::Off,
    };
    let routes = route::routes(top, &securing);
    checks::compare_exchange(top, cluster.as_ref(), &securing, &routes);
    for socket in routes.iter().filter_map(|route| route.socket.as_ref()) {
        securing.know(&socket.servers);
    }
    checks::compare(top.reader(), &routes);
    binds::compare(top.reader(), &routes, &door, admin.as_ref());
    connects::compare(top.reader(), &routes);
    loops::compare(top.reader(), &routes);
    let connects = connects::places(top.reader(), &routes);
    if let Some(limit) = open_files {
        checks::compare_with_limit(top.reader(), &routes, limit);
    }
    routes.iter().for_each(|route| checks::compare_prefixes(top.reader(), route));
    let (routes, ingest): (Vec<_>, Vec<_>) =
        routes.into_iter().map(|route| (route.config, route.ingest)).unzip();
    let (routes, ingest) =
        (routes.into_iter().flatten().collect(), ingest.into_iter().flatten().collect());
    let config = |(cluster, shutdown_timeout)| {
        let identity = securing.into_identity();
        Config { cluster, routes, ingest, admin, identity, shutdown_timeout }
    };
    (cluster.zip(shutdown_timeout).map(config), connects)
}

fn cluster(top: &Table<'_, '_>) -> Option<ClusterConfig> {
    let table = top.table(&keys::KAFKA, &keys::KAFKA_SECTION)?;
    let servers = table.list(&keys::BOOTSTRAP_SERVERS, text::broker);
    let client_rack = table.text(&keys::CLIENT_RACK, text::label);
    let security = if table.has(&keys::SECURITY) {
        let section = table.table(&keys::SECURITY, &keys::SECURITY_SECTION);
        section.and_then(|section| security::security(&section))
    } else {
        Some(Security::default())
    };
    let bootstrap_servers = servers?.into_iter().map(|(server, _)| server).collect();
    Some(ClusterConfig { bootstrap_servers, security: security?, client_rack })
}
