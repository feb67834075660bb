//! The keys that sockets of both directions have.

use toml::de::DeValue;
use zafka_envelope::FramePlanError;
use zafka_identity::Claims;
use zafka_sockets::Endpoint;
use zafka_sockets::config::{EndpointConfig, Heartbeat};
use zafka_zmtp::curve::PublicKey;

use super::endpoints::{self, Securing};
use super::keys::{self, Key};
use super::mistake::Parsed;
use super::reader::{Span, Table};

/// The endpoints of `to.zmq` or `from.zmq`, and what of them is compared with other routes.
pub struct ReadSocket {
    /// The path of its table.
    pub path: &'static str,
    /// Its part between two routes.
    pub role: Role,
    /// Each endpoint to bind, and its place.
    pub binds: Vec<(Endpoint, Span)>,
    /// Each endpoint to connect to, and its place.
    pub connects: Vec<(Endpoint, Span)>,
    /// Each endpoint to bind that could be secured as well.
    pub bind: Vec<EndpointConfig>,
    /// Each endpoint to connect to that could be secured as well.
    pub connect: Vec<EndpointConfig>,
    /// Keys of peers to connect to.
    pub servers: Vec<(PublicKey, Claims)>,
    /// The place of `max_peers`.
    pub max_peers_at: Span,
}

/// The part of a socket between two routes of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is a `pub`.
    Publishes,
    /// It is a `sub`.
    Subscribes,
    /// It is something else.
    Other,
}

impl ReadSocket {
    /// Reads the endpoints of the table at `path`.
    pub fn read(
        table: &Table<'_, '_>,
        path: &'static str,
        role: Role,
        securing: &Securing,
    ) -> Self {
        if !table.has(&keys::BIND) && !table.has(&keys::CONNECT) {
            let allowed = keys::BIND.kind.to_string();
            table.mistake(&keys::BIND, "neither `bind` nor `connect` is there", allowed);
        }
        let binds = endpoints::binds(table, securing);
        let connects = endpoints::connects(table, securing);
        Self {
            path,
            role,
            binds: binds.places,
            connects: connects.places,
            bind: binds.configs,
            connect: connects.configs,
            servers: connects.servers,
            max_peers_at: table.span_of(&keys::MAX_PEERS),
        }
    }

    /// The path of its key `connect`.
    pub fn connect_key(&self) -> String {
        format!("{}.connect", self.path)
    }
}

/// A preset's name, or a list of templates, of which `parse` makes a plan.
pub fn frames<P>(
    table: &Table<'_, '_>,
    key: &Key,
    preset: fn(&str) -> Parsed<P>,
    parse: fn(&[String]) -> Result<P, Vec<FramePlanError>>,
) -> Option<P> {
    if !table.raw(key).is_some_and(|value| matches!(value.get_ref(), DeValue::Array(_))) {
        return table.text(key, preset);
    }
    let templates = table.list(key, |text| Ok(text.to_owned()))?;
    let (templates, spans): (Vec<_>, Vec<_>) = templates.into_iter().unzip();
    let report = |mistakes: Vec<FramePlanError>| {
        for mistake in mistakes {
            let span = mistake.frame.and_then(|frame| spans.get(frame)).cloned();
            let span = span.unwrap_or_else(|| table.span_of(key));
            table.mistake_at(&span, key, mistake.to_string(), "");
        }
    };
    parse(&templates).map_err(report).ok()
}

/// `heartbeat`.
pub fn heartbeat(table: &Table<'_, '_>) -> Option<Heartbeat> {
    let table = table.table(&keys::HEARTBEAT, &keys::HEARTBEAT_SECTION)?;
    let interval = table.duration(&keys::HEARTBEAT_INTERVAL);
    let timeout = table.duration(&keys::HEARTBEAT_TIMEOUT);
    interval.map(|interval| Heartbeat { interval, timeout: timeout.unwrap_or(interval) })
}
