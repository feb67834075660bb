//! `[[route]]`: `from.kafka` and `to.zmq`.

use std::time::Duration;

use toml::de::DeValue;
use zafka_bridge::config::RouteConfig;
use zafka_envelope::FramePlan;
use zafka_kafka::config::{GroupConfig, SourceConfig};
use zafka_sockets::Endpoint;
use zafka_sockets::config::{Heartbeat, Limits, PubConfig};

use super::keys;
use super::reader::{Reader, Span, Table};
use super::text;

const KIB: u64 = 1024;
const GIB: u64 = 1024 * 1024 * 1024;
/// A TTL of ZMTP has 16 bits of tenths of a second.
const HEARTBEAT_MAX: Duration = Duration::from_secs(6553);
const HOUR: Duration = Duration::from_secs(3600);

/// A route and where its parts are in the file.
pub struct ReadRoute {
    /// The route.
    pub config: RouteConfig,
    /// Where its name is.
    pub name_at: Span,
    /// Where its topics are.
    pub topics_at: Span,
    /// Where its group, and its instance, are.
    pub group_at: Span,
    /// Where each endpoint to bind is.
    pub binds: Vec<(Endpoint, Span)>,
    /// Where `max_peers` is.
    pub max_peers_at: Span,
}

/// The routes of the file that have no mistake.
pub fn routes(top: &Table<'_, '_>) -> Vec<ReadRoute> {
    let Some(value) = top.raw(&keys::ROUTE) else { return Vec::new() };
    let DeValue::Array(items) = value.get_ref() else {
        top.mistake(&keys::ROUTE, "not a list of tables", "[[route]]");
        return Vec::new();
    };
    if items.is_empty() {
        top.mistake(&keys::ROUTE, "found an empty list", "at least one route");
    }
    let routes = items.iter().filter_map(|item| match item.get_ref() {
        DeValue::Table(table) => route(&top.reader().table(&keys::ROUTE_SECTION, table, item.span())),
        _ => {
            top.reader().mistake(&item.span(), "route", "not a table", "[[route]]");
            None
        }
    });
    routes.collect()
}

fn route(table: &Table<'_, '_>) -> Option<ReadRoute> {
    let name = table.text(&keys::NAME, text::label);
    let from = table.table(&keys::FROM, &keys::FROM_SECTION);
    let from = from.and_then(|from| from.table(&keys::FROM_KAFKA, &keys::FROM_KAFKA_SECTION));
    let to = table.table(&keys::TO, &keys::TO_SECTION);
    let to = to.and_then(|to| to.table(&keys::TO_ZMQ, &keys::TO_ZMQ_SECTION));
    let source = from.as_ref().and_then(|from| source(from, name.clone().unwrap_or_default()));
    let served = to.as_ref().and_then(socket);
    let (from, to, (socket, frames, binds)) = (from?, to?, served?);
    Some(ReadRoute {
        config: RouteConfig { name: name?, source: source?, frames, socket },
        name_at: table.span_of(&keys::NAME),
        topics_at: from.span_of(&keys::TOPICS),
        group_at: from.span_of(if from.has(&keys::INSTANCE) { &keys::INSTANCE } else { &keys::GROUP }),
        binds,
        max_peers_at: to.span_of(&keys::MAX_PEERS),
    })
}

fn source(table: &Table<'_, '_>, route: String) -> Option<SourceConfig> {
    let topics = table.list(&keys::TOPICS, text::topic);
    let id = table.text(&keys::GROUP, text::label);
    let instance = table.text(&keys::INSTANCE, text::instance);
    let protocol = table.text(&keys::GROUP_PROTOCOL, text::group_protocol);
    if !table.has(&keys::GROUP) {
        for key in [&keys::INSTANCE, &keys::GROUP_PROTOCOL] {
            if table.has(key) {
                table.mistake(key, "`group` is missing", "only together with `group`");
            }
        }
    }
    let start = table.text(&keys::START, text::start);
    let isolation = table.text(&keys::ISOLATION, text::isolation);
    let on_out_of_range = table.text(&keys::ON_OUT_OF_RANGE, text::on_out_of_range);
    let up_to_5_min = |text: &str| text::duration(text, Duration::ZERO, Duration::from_secs(300));
    let revoke_timeout = table.text(&keys::REVOKE_TIMEOUT, up_to_5_min);
    let refresh = |text: &str| text::duration(text, Duration::from_millis(100), HOUR);
    let topic_refresh = table.text(&keys::TOPIC_REFRESH, refresh);
    let fetcher = table.text(&keys::FETCHER, text::fetcher);
    let up_to_an_hour = |text: &str| text::duration(text, Duration::from_secs(1), HOUR);
    let stall_timeout = table.text(&keys::STALL_TIMEOUT, up_to_an_hour);
    Some(SourceConfig {
        route,
        topics: topics?.into_iter().map(|(topic, _)| topic).collect(),
        group: id.map(|id| GroupConfig { id, instance, protocol }),
        start: start?,
        isolation: isolation?,
        on_out_of_range: on_out_of_range?,
        revoke_timeout: revoke_timeout?,
        topic_refresh: topic_refresh?,
        fetcher: fetcher?,
        stall_timeout: stall_timeout?,
    })
}

type Served = (PubConfig, FramePlan, Vec<(Endpoint, Span)>);

fn socket(table: &Table<'_, '_>) -> Option<Served> {
    let socket = table.text(&keys::SOCKET, text::socket);
    let binds = table.list(&keys::BIND, text::bind).unwrap_or_default();
    let connects = table.list(&keys::CONNECT, text::connect).unwrap_or_default();
    if !table.has(&keys::BIND) && !table.has(&keys::CONNECT) {
        table.mistake(&keys::BIND, "neither `bind` nor `connect` is there", keys::BIND.takes);
    }
    let frames = frames(table);
    let slow_peer = table.text(&keys::SLOW_PEER, text::slow_peer);
    let min_peers = table.text(&keys::MIN_PEERS, |text| text::whole(text, 0, 1_000_000));
    let max_peers = table.text(&keys::MAX_PEERS, |text| text::whole(text, 1, 1_000_000));
    let ring_bytes = table.text(&keys::RING_BYTES, |text| text::size(text, 64 * KIB, 64 * GIB));
    let max_subscriptions = table.text(&keys::MAX_SUBSCRIPTIONS, |text| text::whole(text, 1, 10_000_000));
    let max_inbound_frame = table.text(&keys::MAX_INBOUND_FRAME, |text| text::size(text, KIB, GIB));
    let heartbeat = heartbeat(table);
    if let (Some(min), Some(max)) = (min_peers, max_peers)
        && min > max
    {
        table.mistake(
            &keys::MIN_PEERS,
            format!("found {min}"),
            format!("at most `max_peers`, which is {max}"),
        );
    }
    socket?;
    let config = PubConfig {
        bind: binds.iter().map(|(endpoint, _)| endpoint.clone()).collect(),
        connect: connects.into_iter().map(|(endpoint, _)| endpoint).collect(),
        slow_peer: slow_peer?,
        min_peers: usize::try_from(min_peers?).ok()?,
        ring_bytes: usize::try_from(ring_bytes?).ok()?,
        heartbeat,
        limits: Limits {
            max_peers: usize::try_from(max_peers?).ok()?,
            max_subscriptions: usize::try_from(max_subscriptions?).ok()?,
            max_inbound_frame: usize::try_from(max_inbound_frame?).ok()?,
            ..Limits::default()
        },
    };
    Some((config, frames?, binds))
}

/// A preset's name, or a list of templates.
fn frames(table: &Table<'_, '_>) -> Option<FramePlan> {
    let is_list = table.raw(&keys::FRAMES).is_some_and(|value| value.get_ref().is_array());
    if !is_list {
        return table.text(&keys::FRAMES, text::preset);
    }
    let templates = table.list(&keys::FRAMES, |text| Ok(text.to_owned()))?;
    let (templates, spans): (Vec<_>, Vec<_>) = templates.into_iter().unzip();
    let plan = FramePlan::parse(&templates);
    plan.map_err(|mistakes| {
        for mistake in mistakes {
            let span = mistake.frame.and_then(|frame| spans.get(frame)).cloned();
            let span = span.unwrap_or_else(|| table.span_of(&keys::FRAMES));
            table.reader().mistake(&span, "route.to.zmq.frames", mistake.to_string(), "");
        }
    })
    .ok()
}

fn heartbeat(table: &Table<'_, '_>) -> Option<Heartbeat> {
    let table = table.table(&keys::HEARTBEAT, &keys::HEARTBEAT_SECTION)?;
    let read = |text: &str| text::duration(text, Duration::from_millis(100), HEARTBEAT_MAX);
    let interval = table.text(&keys::HEARTBEAT_INTERVAL, read);
    let timeout = table.text(&keys::HEARTBEAT_TIMEOUT, read);
    interval.map(|interval| Heartbeat { interval, timeout: timeout.unwrap_or(interval) })
}

/// What can only be seen with all routes side by side.
pub fn compare(reader: &Reader<'_>, routes: &[ReadRoute]) {
    for (index, route) in routes.iter().enumerate() {
        for (at, (endpoint, span)) in route.binds.iter().enumerate() {
            let here = route.binds.iter().take(at).any(|(other, _)| same(other, endpoint));
            let before = routes.iter().take(index).flat_map(|other| &other.binds);
            if here || before.into_iter().any(|(other, _)| same(other, endpoint)) {
                let found = format!("{endpoint} is bound twice");
                reader.mistake(span, "route.to.zmq.bind", found, "each endpoint once");
            }
        }
        for other in routes.iter().take(index) {
            super::checks::compare(reader, other, route);
        }
    }
}

/// Whether two endpoints cannot both be bound; a wildcard port is another one each time.
fn same(one: &Endpoint, other: &Endpoint) -> bool {
    match (one, other) {
        (Endpoint::Tcp { host, port }, Endpoint::Tcp { host: other_host, port: other_port }) => {
            let same_host = host == other_host || host == "*" || other_host == "*";
            port == other_port && *port != zafka_sockets::Port::Any && same_host
        }
        _ => one == other,
    }
}
