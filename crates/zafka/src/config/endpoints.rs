//! `bind` and `connect`: endpoints, as texts or as tables, and how each is secured.

use std::sync::Arc;

use zafka_identity::Claims;
use zafka_sockets::Endpoint;
use zafka_sockets::config::EndpointConfig;
use zafka_zmtp::Mechanism;
use zafka_zmtp::curve::{ClientSide, PublicKey};

use super::identity::{IdentityConfig, server_key};
use super::keys::{self, Key};
use super::mistake::Parsed;
use super::reader::{Span, Table};
use super::text::{self, WantedMechanism};
use crate::random::random;

/// The state of `[identity]` in the file: its presence, and its content if it has no mistakes.
pub enum Securing {
    /// No `[identity]`.
    Off,
    /// An `[identity]`; `None` if it has mistakes.
    On(Box<Option<IdentityConfig>>),
}

impl Securing {
    /// Adds keys of servers that routes connect to.
    pub fn know(&mut self, servers: &[(PublicKey, Claims)]) {
        if let Self::On(identity) = self
            && let Some(identity) = identity.as_mut()
        {
            identity.servers.extend(servers.iter().cloned());
        }
    }

    /// Returns the content of `[identity]`.
    pub fn into_identity(self) -> Option<IdentityConfig> {
        match self {
            Self::Off => None,
            Self::On(identity) => *identity,
        }
    }

    /// Returns whether peers' tokens are exchanged; `None` if `[identity]` has mistakes.
    pub fn has_exchange(&self) -> Option<bool> {
        match self {
            Self::Off => Some(false),
            Self::On(identity) => Some(Option::as_ref(identity)?.exchange.is_some()),
        }
    }

    /// Returns whether Kafka decides about some peers; `None` as for [`Self::has_exchange`].
    pub fn asks_kafka(&self) -> Option<bool> {
        match self {
            Self::Off => Some(false),
            Self::On(identity) => Some(Option::as_ref(identity)?.rules.ask_kafka()),
        }
    }

    pub fn is_on(&self) -> bool {
        matches!(self, Self::On(_))
    }

    fn identity(&self) -> Option<&IdentityConfig> {
        match self {
            Self::Off => None,
            Self::On(identity) => Option::as_ref(identity),
        }
    }
}

/// Endpoints of one key.
#[derive(Default)]
pub struct ReadEndpoints {
    /// Each that could be read, and its place.
    pub places: Vec<(Endpoint, Span)>,
    /// Each that could be secured as well.
    pub configs: Vec<EndpointConfig>,
    /// Keys of peers to connect to.
    pub servers: Vec<(PublicKey, Claims)>,
}

/// The security settings of one endpoint.
struct Said {
    endpoint: Endpoint,
    mechanism: Option<WantedMechanism>,
    server: Option<(PublicKey, Claims)>,
    has_server_key: bool,
}

/// `bind`.
pub fn binds(table: &Table<'_, '_>, securing: &Securing) -> ReadEndpoints {
    let directory = table.reader().directory;
    read(table, &keys::BIND, securing, |text| text::bind(text, directory))
}

/// `connect`.
pub fn connects(table: &Table<'_, '_>, securing: &Securing) -> ReadEndpoints {
    let directory = table.reader().directory;
    read(table, &keys::CONNECT, securing, |text| text::connect(text, directory))
}

fn read(
    table: &Table<'_, '_>,
    key: &'static Key,
    securing: &Securing,
    endpoint: impl Fn(&str) -> Parsed<Endpoint>,
) -> ReadEndpoints {
    let plain = |text: &str| {
        let endpoint = endpoint(text)?;
        Ok(Said { endpoint, mechanism: None, server: None, has_server_key: false })
    };
    let from_table = |table: &Table<'_, '_>| {
        let mechanism = table.choice(&keys::ENDPOINT_MECHANISM, &text::ENDPOINT_MECHANISM);
        let server = server_key(table, &keys::ENDPOINT_SERVER_KEY_FILE);
        let has_server_key = table.has(&keys::ENDPOINT_SERVER_KEY_FILE);
        let endpoint = table.text(&keys::ENDPOINT, &endpoint)?;
        Some(Said { endpoint, mechanism, server, has_server_key })
    };
    let items = table.texts_or_tables(key, &keys::ENDPOINT_SECTION, plain, from_table);
    let mut endpoints = ReadEndpoints::default();
    for (said, span) in items {
        if let Some(mechanism) = secure(table, key, &span, &said, securing) {
            let endpoint = said.endpoint.clone();
            endpoints.configs.push(EndpointConfig { endpoint, mechanism });
        }
        endpoints.servers.extend(said.server);
        endpoints.places.push((said.endpoint, span));
    }
    endpoints
}

/// Returns the mechanism of an endpoint; reports a mistake.
fn secure(
    table: &Table<'_, '_>,
    key: &'static Key,
    span: &Span,
    said: &Said,
    securing: &Securing,
) -> Option<Mechanism> {
    let mistake = |found: &str, allowed: &str| {
        table.mistake_at(span, key, format!("{}: {found}", said.endpoint), allowed);
        None
    };
    let is_tcp = matches!(said.endpoint, Endpoint::Tcp { .. });
    let wanted = match said.mechanism {
        Some(wanted) => wanted,
        None if securing.is_on() && is_tcp => WantedMechanism::Curve,
        None => WantedMechanism::Null,
    };
    let connects = std::ptr::eq(key, &raw const keys::CONNECT);
    if said.has_server_key && (!connects || wanted == WantedMechanism::Null) {
        return mistake("`server_key_file` is there", "only in `connect` with mechanism \"curve\"");
    }
    match wanted {
        WantedMechanism::Null if !securing.is_on() || !is_tcp => Some(Mechanism::Null),
        WantedMechanism::Null if is_loopback(&said.endpoint) => Some(Mechanism::Null),
        WantedMechanism::Null => mistake(
            "mechanism \"null\" where others can reach it",
            "with [identity]: \"curve\", or \"null\" on a loopback address",
        ),
        WantedMechanism::Curve if !is_tcp => {
            mistake("mechanism \"curve\"", "for tcp; an ipc peer is known by the kernel")
        }
        WantedMechanism::Curve if !securing.is_on() => {
            mistake("mechanism \"curve\" without keys", "together with [identity]")
        }
        WantedMechanism::Curve if !connects => Some(securing.identity()?.server_side()),
        WantedMechanism::Curve if !said.has_server_key => mistake(
            "the peer's key is missing",
            "with [identity]: { endpoint = \"..\", server_key_file = \"..\" }",
        ),
        WantedMechanism::Curve => {
            let (server, _) = said.server.as_ref()?;
            let keys = securing.identity()?.keys.first()?.clone();
            let side = ClientSide { keys, server: *server, token: None, random };
            Some(Mechanism::CurveClient(Arc::new(side)))
        }
    }
}

/// Returns true if an endpoint is reached from this machine alone, as far as its text shows.
fn is_loopback(endpoint: &Endpoint) -> bool {
    let Endpoint::Tcp { host, .. } = endpoint else { return true };
    host == "lo" || text::is_loopback(host)
}
