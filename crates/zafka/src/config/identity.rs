//! `[identity]`: keys and rights, and the security of each endpoint.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;
use zafka_identity::{Certificate, Claims, Rule, Rules, TopicPattern, Topics, Who};
use zafka_sockets::Endpoint;
use zafka_sockets::config::EndpointConfig;
use zafka_zmtp::Mechanism;
use zafka_zmtp::curve::{KeyPair, PublicKey, ServerSide};

use super::claims::claims;
use super::exchange::{self, KafkaExchange};
use super::issuers::{IssuerConfig, issuers};
use super::keys::{self, Key};
use super::mistake::{Parsed, Rejected};
use super::reader::{Span, Table};
use super::text;
use crate::blocking::{PATIENCE, in_time};
use crate::key_folder::{Folder, known};
use crate::random::random;
use crate::secret_file::Exposed;

/// The identities of peers, and their rights.
#[derive(Clone, Debug, PartialEq)]
pub struct IdentityConfig {
    /// Our own keys, the current one first.
    pub keys: Vec<KeyPair>,
    /// The folder of the keys that are known.
    pub folder: Option<PathBuf>,
    /// Keys that are known besides: of servers that routes connect to.
    pub servers: Vec<(PublicKey, Claims)>,
    /// Endpoints of the door.
    pub door: Vec<EndpointConfig>,
    /// The issuers whose tokens are taken; each name once.
    pub issuers: Vec<IssuerConfig>,
    /// The longest time that a token lets a key in.
    pub max_lease: Duration,
    /// Largest difference between the clocks of issuers and ours.
    pub clock_skew: Duration,
    /// The way to ask Kafka about peers, if it is asked.
    pub exchange: Option<KafkaExchange>,
    /// The rules that give rights.
    pub rules: Rules,
}

impl IdentityConfig {
    /// Returns our side of a bound endpoint.
    pub fn server_side(&self) -> Mechanism {
        Mechanism::CurveServer(Arc::new(ServerSide { keys: self.keys.clone(), random }))
    }
}

/// The endpoints of the door, each with its place in the file.
pub fn door(table: &Table<'_, '_>) -> Vec<(Endpoint, Span)> {
    if !table.has(&keys::IDENTITY_BIND) {
        return Vec::new();
    }
    table.only_with(&keys::IDENTITY_BIND, &keys::ISSUER);
    table.readable(&keys::IDENTITY_BIND, |text| match text::bind(text, table.reader().directory) {
        Ok(endpoint @ Endpoint::Tcp { .. }) => Ok(endpoint),
        _ => Err(Rejected::allowed("tcp://HOST:PORT, tcp://*:PORT, tcp://HOST:*")),
    })
}

/// Reads the table, with the endpoints of its door.
pub fn identity(table: &Table<'_, '_>, door: &[(Endpoint, Span)]) -> Option<IdentityConfig> {
    let current = key_pair(table, &keys::SECRET_KEY_FILE);
    let previous = key_pair(table, &keys::PREVIOUS_SECRET_KEY_FILE);
    let folder = table.folder(&keys::KEYS_FOLDER);
    if let Some(path) = &folder {
        look(table, path);
    }
    let issuers = issuers(table);
    let max_lease = table.duration(&keys::MAX_LEASE);
    let clock_skew = table.duration(&keys::CLOCK_SKEW);
    let exchange = exchange::exchange(table);
    let rules = table.tables(&keys::ACCESS, &keys::ACCESS_SECTION);
    let rules: Vec<_> =
        rules.iter().map(|rule| self::rule(rule, table.has(&keys::EXCHANGE))).collect();
    let rules = rules.into_iter().collect::<Option<Vec<_>>>()?;
    if rules.is_empty() {
        let text = "without a rule in [[identity.access]] no peer may read or write anything";
        table.reader().warn(&table.span_of(&keys::ACCESS), "identity.access", text);
    }
    let rules = Rules::new(rules);
    let keys = [current?].into_iter().chain(previous).collect();
    let mut config = IdentityConfig {
        keys,
        folder,
        servers: Vec::new(),
        door: Vec::new(),
        issuers: issuers?,
        max_lease: max_lease?,
        clock_skew: clock_skew?,
        exchange: exchange?,
        rules,
    };
    let mechanism = config.server_side();
    let secured = |(endpoint, _): &(Endpoint, Span)| {
        let (endpoint, mechanism) = (endpoint.clone(), mechanism.clone());
        EndpointConfig { endpoint, mechanism }
    };
    config.door = door.iter().map(secured).collect();
    Some(config)
}

/// Reads the public key in a file.
///
/// # Errors
/// What is wrong with the file.
pub fn public_key_in(path: &Path) -> Result<Certificate, String> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
    Certificate::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Reads both keys in a file that its owner alone can read.
///
/// # Errors
/// What is wrong with the file.
pub fn key_pair_in(path: &Path) -> Result<KeyPair, String> {
    let keys = public_key_in(path)?.into_key_pair();
    let keys = keys.map_err(|error| format!("{}: {error}", path.display()))?;
    match Exposed::look(path) {
        None => Ok(keys),
        Some(exposed) => Err(format!("{exposed}; it has to be {}", exposed.remedy())),
    }
}

fn key_pair(table: &Table<'_, '_>, key: &Key) -> Option<KeyPair> {
    let found = key_pair_in(&table.path(key)?);
    found.map_err(|error| table.mistake(key, error, key.kind.to_string())).ok()
}

/// The key of a server that we connect to, with what is known of it.
pub fn server_key(table: &Table<'_, '_>, key: &Key) -> Option<(PublicKey, Claims)> {
    let path = table.path(key)?;
    let found = public_key_in(&path);
    let certificate =
        found.map_err(|error| table.mistake(key, error, key.kind.to_string())).ok()?;
    Some(known(&path, certificate))
}

/// Reports what is wrong in the folder.
fn look(table: &Table<'_, '_>, path: &Path) {
    #[allow(clippy::disallowed_methods, reason = "a single look: no time passes for it")]
    let now = std::time::Instant::now();
    let mut folder = Folder::new(path.to_owned());
    match in_time(PATIENCE, move || folder.look(now)).and_then(|looked| looked) {
        Ok(found) => {
            for problem in found.unwrap_or_default().problems {
                table.mistake(&keys::KEYS_FOLDER, problem, "public certificates named *.key");
            }
        }
        Err(error) => {
            let found = format!("{}: {error}", path.display());
            table.mistake(&keys::KEYS_FOLDER, found, "a folder that can be listed");
        }
    }
}

fn rule(table: &Table<'_, '_>, has_exchange: bool) -> Option<Rule> {
    let who = who(table);
    let read = topics(table, &keys::ACCESS_READ, has_exchange);
    let write = topics(table, &keys::ACCESS_WRITE, has_exchange);
    if !table.has(&keys::ACCESS_READ) && !table.has(&keys::ACCESS_WRITE) {
        table.mistake(&keys::ACCESS_READ, "neither `read` nor `write` is there", "at least one");
    }
    let (who, read, write) = (who?, read?, write?);
    for (topics, key) in [(&read, &keys::ACCESS_READ), (&write, &keys::ACCESS_WRITE)] {
        if *topics == Topics::Kafka && who == Who::AnyKey {
            let found = "found \"kafka\" for peers without a token";
            table.mistake(key, found, "claims of tokens in `who`, such as { iss = \"ISSUER\" }");
        }
    }
    Some(Rule { who, read, write })
}

/// A list of topics, or `"kafka"`.
fn topics(table: &Table<'_, '_>, key: &Key, has_exchange: bool) -> Option<Topics> {
    let is_text = |value: &DeValue<'_>| matches!(value, DeValue::String(_));
    if !table.raw(key).is_some_and(|value| is_text(value.get_ref())) {
        let patterns = table.readable(key, topic);
        return Some(Topics::Named(patterns.into_iter().map(|(pattern, _)| pattern).collect()));
    }
    let topics = table.text(key, |text| match text {
        "kafka" => Ok(Topics::Kafka),
        _ => Err(Rejected::allowed(key.kind.to_string())),
    })?;
    if !has_exchange {
        let found = "`[identity.exchange]` is missing";
        table.mistake(key, found, "\"kafka\" only together with `[identity.exchange]`");
    }
    Some(topics)
}

fn topic(text: &str) -> Parsed<TopicPattern> {
    TopicPattern::parse(text).map_err(|error| {
        let allowed = "a topic's name, or /^PATTERN$/; {CLAIM} in both stands for a claim";
        Rejected::because(error.to_string(), allowed)
    })
}

/// A table of claims, or `"any-key"`.
fn who(table: &Table<'_, '_>) -> Option<Who> {
    let key = &keys::ACCESS_WHO;
    match table.raw(key)?.get_ref() {
        DeValue::Table(claims) if claims.is_empty() => {
            let allowed = "at least one claim, or \"any-key\"";
            table.mistake(key, "found an empty table", allowed);
            None
        }
        DeValue::Table(wanted) => claims(table, key, wanted).map(Who::Claims),
        _ => table.text(key, |text| match text {
            "any-key" => Ok(Who::AnyKey),
            _ => Err(Rejected::allowed(key.kind.to_string())),
        }),
    }
}
