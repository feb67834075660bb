//! Settings of the Kafka side, already parsed.

use std::path::PathBuf;
use std::time::Duration;

use regex::Regex;
use zafka_oidc::TokenConfig;
pub use zafka_oidc::{LiveSecret, Secret};

/// The way to reach a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// `HOST:PORT` of some of its brokers; never empty.
    pub bootstrap_servers: Vec<String>,
    /// TLS and SASL.
    pub security: Security,
    /// The rack to fetch from if a replica is there (KIP-392).
    pub client_rack: Option<String>,
}

impl ClusterConfig {
    /// Reaches these servers in plain text, without a login and from no rack.
    pub fn new(bootstrap_servers: Vec<String>) -> Self {
        Self { bootstrap_servers, security: Security::default(), client_rack: None }
    }
}

/// TLS and SASL, each on or off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// TLS, if on.
    pub tls: Option<Tls>,
    /// SASL, if on.
    pub sasl: Option<Sasl>,
}

/// TLS settings; files are PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificate authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// The client's certificate and key, for mutual TLS.
    pub client: Option<ClientCertificate>,
}

/// A client's certificate and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Certificate chain.
    pub certificate: PathBuf,
    /// Private key (PKCS#8).
    pub key: PathBuf,
    /// Password of the key, if it is encrypted.
    pub key_password: Option<Secret>,
}

/// A SASL mechanism with what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sasl {
    /// PLAIN (RFC 4616).
    Plain(Credentials),
    /// SCRAM-SHA-256 (RFC 7677).
    ScramSha256(Credentials),
    /// SCRAM-SHA-512.
    ScramSha512(Credentials),
    /// OAUTHBEARER (RFC 7628, KIP-255).
    OAuthBearer(OAuthBearer),
}

/// A user and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password.
    pub password: Secret,
}

/// Tokens for the brokers, and what goes beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuthBearer {
    /// The source of the tokens.
    pub tokens: TokenConfig,
    /// SASL extensions (KIP-342).
    pub extensions: Vec<(String, String)>,
}

/// The topics that a route reads from a cluster, and the way it reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// Name of the route, for logs.
    pub route: String,
    /// Topics by name or pattern; never empty.
    pub topics: Vec<TopicSelector>,
    /// The group to read in; without one every partition is read and nothing is committed.
    pub group: Option<GroupConfig>,
    /// The start of a partition without a committed offset.
    pub start: Start,
    /// The part of transactions that is read.
    pub isolation: Isolation,
    /// The reaction if the log no longer has an offset.
    pub on_out_of_range: OnOutOfRange,
    /// The reaction to a batch that cannot be read.
    pub on_corrupt: OnCorrupt,
    /// Time a revoked partition has to drain.
    pub revoke_timeout: Duration,
    /// Time between two listings of topics.
    pub topic_refresh: Duration,
    /// The fetcher.
    pub fetcher: FetcherKind,
    /// Time without progress, though there is something to read, after which a partition is
    /// reported.
    pub stall_timeout: Duration,
}

impl SourceConfig {
    /// Reads topics from all partitions, with the defaults of everything else.
    pub fn new(route: &str, topics: Vec<TopicSelector>) -> Self {
        Self {
            route: route.to_owned(),
            topics,
            group: None,
            start: Start::default(),
            isolation: Isolation::default(),
            on_out_of_range: OnOutOfRange::default(),
            on_corrupt: OnCorrupt::default(),
            revoke_timeout: Duration::from_secs(5),
            topic_refresh: Duration::from_secs(30),
            fetcher: FetcherKind::default(),
            stall_timeout: Duration::from_secs(30),
        }
    }
}

/// One entry of `topics`.
#[derive(Clone, Debug)]
pub enum TopicSelector {
    /// A topic by its name.
    Name(String),
    /// A pattern that is searched for in the whole name (`^` and `$` pin it down); never matches
    /// internal topics (`__...`).
    Pattern(Regex),
}

/// Patterns are compared by their texts.
impl PartialEq for TopicSelector {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(one), Self::Name(other)) => one == other,
            (Self::Pattern(one), Self::Pattern(other)) => one.as_str() == other.as_str(),
            _ => false,
        }
    }
}

impl Eq for TopicSelector {}

/// Membership in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.id`.
    pub id: String,
    /// `group.instance.id` of a static member (KIP-345).
    pub instance: Option<String>,
    /// The protocol; what the cluster has if `None`.
    pub protocol: Option<GroupProtocol>,
    /// Time after which the group gives up a silent member of the classic protocol; `None` is 45 s.
    pub session_timeout: Option<Duration>,
}

impl GroupConfig {
    /// A dynamic member by the protocol and with the session timeout that the cluster has.
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), instance: None, protocol: None, session_timeout: None }
    }
}

/// The protocol by which a group is coordinated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupProtocol {
    /// KIP-848: the coordinator assigns.
    Consumer,
    /// The leading member assigns, cooperative-sticky (KIP-429).
    Classic,
}

/// The start of a partition without a committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Start {
    /// The first record that the log still has.
    Earliest,
    /// The end of the log: what is written from now on.
    #[default]
    Latest,
    /// The first record that is not older than this time, in ms since the epoch.
    Time(i64),
}

/// The part of transactions that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Committed transactions only.
    #[default]
    ReadCommitted,
    /// Open and aborted transactions too.
    ReadUncommitted,
}

/// The reaction if the log no longer has the offset of a partition's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnOutOfRange {
    /// Go on at the earliest offset; what was skipped is counted and logged.
    #[default]
    Earliest,
    /// Stop the route.
    Stop,
}

/// The reaction to a batch that fails its checks for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnCorrupt {
    /// Its partition stands still there; the others go on.
    #[default]
    Stop,
    /// Go on behind it; what was skipped is counted and logged. Not by librdkafka.
    Skip,
}

/// The program part that fetches records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FetcherKind {
    /// Fetch requests of our own; librdkafka if a broker is too old for them.
    #[default]
    Fast,
    /// librdkafka.
    Librdkafka,
}
