//! `zafka relay SOURCE DESTINATION`: a route as two URLs (percent-decoding by RFC 3986; `+` is
//! literal).

mod ingest;

use std::path::Path;

use zafka_bridge::config::RouteConfig;
use zafka_envelope::{FramePlan, FramePlanError};
use zafka_kafka::config::{ClusterConfig, GroupConfig, SourceConfig};
use zafka_sockets::Endpoint;
use zafka_sockets::config::PubConfig;

use crate::config::{AdminConfig, Config, ConfigError, Defaults, Mistake, Rejected, text};
use crate::redact::{has_credentials, redacted};

const SOURCE: &str = "kafka://HOST:PORT[,HOST:PORT]/TOPIC[,TOPIC]?group=NAME&start=earliest";
const DESTINATION: &str = "pub+tcp://, pub+connect+tcp://, pub+ipc://, pub+connect+ipc://";
const SOURCE_KEYS: &[&str] = &["group", "start"];
const DESTINATION_KEYS: &[&str] = &["frames", "slow_peer", "min_peers"];
/// Name of the one route.
const ROUTE: &str = "relay";

/// The configuration of one route named `relay`, from its two URLs.
///
/// # Errors
/// Every mistake of both URLs.
pub fn relay(
    source: &str,
    destination: &str,
    admin: Option<AdminConfig>,
) -> Result<Config, ConfigError> {
    let mut mistakes = Mistakes::default();
    let Defaults { route, ingest, shutdown_timeout } = Defaults::read()?;
    let read = if ingest::is_source(source) {
        let route = ingest::route(source, destination, ingest, &mut mistakes);
        route.map(|(cluster, route)| (cluster, Vec::new(), vec![route]))
    } else {
        let from = from_kafka(source, route.source, &mut mistakes);
        let to = to_zmq(destination, route.frames, route.socket, &mut mistakes);
        from.zip(to).map(|((cluster, source), (frames, socket))| {
            let (name, rename) = (ROUTE.to_owned(), Vec::new());
            let route = RouteConfig { name, source, frames, rename, socket };
            (cluster, vec![route], Vec::new())
        })
    };
    match read {
        Some((cluster, routes, ingest)) if mistakes.0.is_empty() => {
            let identity = None;
            Ok(Config { cluster, routes, ingest, admin, identity, shutdown_timeout })
        }
        _ => Err(ConfigError::Mistakes {
            place: "the command line".to_owned(),
            mistakes: mistakes.0,
        }),
    }
}

fn from_kafka(
    url: &str,
    defaults: SourceConfig,
    mistakes: &mut Mistakes,
) -> Option<(ClusterConfig, SourceConfig)> {
    if brings_credentials(url, SOURCE_KEYS) {
        return mistakes.credentials(
            "SOURCE",
            url,
            "kafka.security.sasl of a file (zafka run -c FILE)",
        );
    }
    let Some((rest, query)) = url.strip_prefix("kafka://").map(split_query) else {
        return mistakes.add("SOURCE", format!("found {:?}", redacted(url)), SOURCE);
    };
    let query = Query::parse("SOURCE", query, SOURCE_KEYS, mistakes);
    let (servers, topics) = rest.split_once('/').unwrap_or((rest, ""));
    let servers: Vec<_> =
        servers.split(',').map(|s| mistakes.decoded("SOURCE brokers", s, text::broker)).collect();
    let topics: Vec<_> =
        topics.split(',').map(|t| mistakes.decoded("SOURCE topics", t, text::topic)).collect();
    let group = query.one("group", text::label, mistakes);
    let start = query.one("start", text::start, mistakes);
    let cluster = ClusterConfig::new(servers.into_iter().collect::<Option<_>>()?);
    let source = SourceConfig {
        route: ROUTE.to_owned(),
        topics: topics.into_iter().collect::<Option<_>>()?,
        group: group.map(|id| GroupConfig::new(&id)),
        start: start.unwrap_or(defaults.start),
        ..defaults
    };
    Some((cluster, source))
}

fn to_zmq(
    url: &str,
    frames: FramePlan,
    defaults: PubConfig,
    mistakes: &mut Mistakes,
) -> Option<(FramePlan, PubConfig)> {
    // A path may have any character.
    if !url.contains("ipc://") && brings_credentials(url, DESTINATION_KEYS) {
        return mistakes.credentials("DESTINATION", url, DESTINATION);
    }
    let found = |mistakes: &mut Mistakes| {
        mistakes.add("DESTINATION", format!("found {:?}", redacted(url)), DESTINATION)
    };
    let Some((scheme, rest)) = url.split_once("://") else { return found(mistakes) };
    let (transport, read): (_, fn(&str, &Path) -> text::Parsed<Endpoint>) = match scheme {
        "pub+tcp" => ("tcp", text::bind),
        "pub+connect+tcp" => ("tcp", text::connect),
        "pub+ipc" => ("ipc", text::bind),
        "pub+connect+ipc" => ("ipc", text::connect),
        _ => return found(mistakes),
    };
    let (address, query) = split_query(rest);
    let query = Query::parse("DESTINATION", query, DESTINATION_KEYS, mistakes);
    // A path on the command line is relative to the working directory.
    let directory = Path::new("");
    let endpoint = mistakes
        .decoded("DESTINATION", address, |text| read(&format!("{transport}://{text}"), directory));
    let frames = query.frames(Some(frames), text::preset, FramePlan::parse, mistakes);
    let slow_peer = query.one("slow_peer", |text| text::SLOW_PEER.read(text), mistakes);
    let max_peers = defaults.limits.max_peers;
    let min_peers = query.one("min_peers", |text| text::whole(text, 0, max_peers as u64), mistakes);
    let endpoint = vec![endpoint?.into()];
    let (bind, connect) =
        if scheme.contains("connect") { (Vec::new(), endpoint) } else { (endpoint, Vec::new()) };
    let socket = PubConfig {
        bind,
        connect,
        slow_peer: slow_peer.unwrap_or(defaults.slow_peer),
        min_peers: min_peers.map_or(Some(defaults.min_peers), |min| usize::try_from(min).ok())?,
        ..defaults
    };
    Some((frames?, socket))
}

/// Returns true if there are credentials in a URL. They are looked for before it is taken apart,
/// for a password may have any character that takes it apart.
fn brings_credentials(url: &str, keys: &[&str]) -> bool {
    let (address, query) = split_query(url);
    let is_value = |part: &&str| part.split_once('=').is_some_and(|(key, _)| keys.contains(&key));
    has_credentials(address) || query.split('&').filter(|part| !is_value(part)).any(has_credentials)
}

/// Splits a URL at its `?`.
fn split_query(url: &str) -> (&str, &str) {
    url.split_once('?').unwrap_or((url, ""))
}

#[derive(Default)]
struct Mistakes(Vec<Mistake>);

impl Mistakes {
    fn add<T>(
        &mut self,
        key: &str,
        found: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Option<T> {
        let (key, found, allowed) = (key.to_owned(), found.into(), allowed.into());
        self.0.push(Mistake { line: 0, column: 0, key, found, allowed });
        None
    }

    fn credentials<T>(&mut self, key: &str, url: &str, allowed: &str) -> Option<T> {
        let found = format!("found {:?}: credentials do not belong in a URL", redacted(url));
        self.add(key, found, allowed)
    }

    /// Decodes a part of a URL, then reads it.
    fn decoded<T>(
        &mut self,
        key: &str,
        raw: &str,
        read: impl Fn(&str) -> text::Parsed<T>,
    ) -> Option<T> {
        match decode(raw).and_then(|text| read(&text)) {
            Ok(value) => Some(value),
            Err(wrong) => self.add(key, wrong.about(raw), wrong.allowed),
        }
    }
}

/// The keys of a URL's query, not yet decoded.
struct Query<'a> {
    url: &'static str,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Query<'a> {
    fn parse(url: &'static str, query: &'a str, allowed: &[&str], mistakes: &mut Mistakes) -> Self {
        let mut pairs = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            if allowed.contains(&key) {
                pairs.push((key, value));
                continue;
            }
            let other = if url == "SOURCE" { "DESTINATION" } else { "SOURCE" };
            let keys = allowed.join(", ");
            if !ingest::is_ingest_key(allowed)
                && (SOURCE_KEYS.contains(&key) || DESTINATION_KEYS.contains(&key))
            {
                mistakes.add::<()>(
                    url,
                    format!("found the key {key:?}, which belongs to {other}"),
                    keys,
                );
            } else {
                let allowed = format!("{keys}; everything else wants a file (zafka run -c FILE)");
                mistakes.add::<()>(url, format!("found the key {key:?}"), allowed);
            }
        }
        Self { url, pairs }
    }

    fn values(&self, key: &str) -> Vec<&'a str> {
        self.pairs.iter().filter(|(name, _)| *name == key).map(|(_, value)| *value).collect()
    }

    /// A key that may be there once.
    fn one<T>(
        &self,
        key: &str,
        read: impl Fn(&str) -> text::Parsed<T>,
        mistakes: &mut Mistakes,
    ) -> Option<T> {
        let path = format!("{} {key}", self.url);
        match self.values(key).as_slice() {
            [] => None,
            [raw] => mistakes.decoded(&path, raw, read),
            many => mistakes.add(&path, format!("found {} times", many.len()), "once"),
        }
    }

    /// `frames`: a preset, or a template for each time the key is there, of which `parse` makes a
    /// plan; `default` if it is not there.
    fn frames<P>(
        &self,
        default: Option<P>,
        preset: fn(&str) -> text::Parsed<P>,
        parse: fn(&[String]) -> Result<P, Vec<FramePlanError>>,
        mistakes: &mut Mistakes,
    ) -> Option<P> {
        let path = format!("{} frames", self.url);
        let values = self.values("frames");
        match values.as_slice() {
            [] if default.is_some() => return default,
            [] => {
                let allowed = "a preset, or a template for each time the key is there";
                return mistakes.add(&path, "missing", allowed);
            }
            [one] if !one.contains(['{', '%']) => return mistakes.decoded(&path, one, preset),
            _ => {}
        }
        let read = |text: &str| Ok(text.to_owned());
        let templates = values.iter().map(|raw| mistakes.decoded(&path, raw, read));
        // All are read, so that each mistake is reported.
        let templates: Vec<Option<String>> = templates.collect();
        let templates = templates.into_iter().collect::<Option<Vec<_>>>()?;
        let report = |list: Vec<FramePlanError>| {
            for mistake in list {
                mistakes.add::<()>(&path, mistake.to_string(), "");
            }
        };
        parse(&templates).map_err(report).ok()
    }
}

/// Percent-decoding by RFC 3986, section 2.1; the result is UTF-8.
fn decode(text: &str) -> text::Parsed<String> {
    let malformed = || {
        Rejected::because("a percent sign without two hexadecimal digits", "%25 for a percent sign")
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit =
            || rest.next().and_then(|digit| char::from(digit).to_digit(16)).ok_or_else(malformed);
        let (high, low) = (digit()?, digit()?);
        bytes.extend(u8::try_from(high * 16 + low).ok());
    }
    String::from_utf8(bytes).map_err(|_| Rejected::because("not UTF-8 once decoded", "UTF-8"))
}

#[cfg(test)]
mod tests;
