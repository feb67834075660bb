//! `zafka check`: every mistake of a file, what may not be meant, and whether the cluster can be
//! used.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::io::Write;
use std::net::{IpAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use zafka_bridge::config::RouteConfig;
use zafka_bridge::zmq_to_kafka::IngestConfig;
use zafka_oidc::Secret;
use zafka_sockets::config::EndpointConfig;

use super::{CheckArgs, EXIT_USAGE, connect};
use crate::config::checks::selector_text;
use crate::config::{Config, ConfigError, Mistake, load};
use crate::introspection::Introspector;

/// Time to look names up, all of them together.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Checks the file, and asks the cluster if that is wanted. Findings go to `out`; what is wrong,
/// and so ends it with 1 or 2, goes to `err`.
pub fn check(
    args: &CheckArgs,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> std::io::Result<ExitCode> {
    let file = args.config.display();
    match load(&args.config) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                writeln!(out, "{file}: warning: {warning}")?;
            }
            let deadline = Instant::now() + RESOLVE_TIMEOUT;
            let by_name = loaded.mistakes_by_name(&|name| addresses(name, deadline));
            if !by_name.is_empty() {
                return tell(args, &by_name, err);
            }
            if args.connect {
                return connected(args, &loaded.config, out, err);
            }
            for route in &loaded.config.routes {
                writeln!(out, "{}", summary(route))?;
            }
            for route in &loaded.config.ingest {
                writeln!(out, "{}", ingest_summary(route))?;
            }
            writeln!(out, "{file}: no mistakes")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(ConfigError::Mistakes { mistakes, .. }) => tell(args, &mistakes, err),
        Err(error @ ConfigError::Read { .. }) => {
            writeln!(err, "{error}")?;
            Ok(ExitCode::from(EXIT_USAGE))
        }
    }
}

fn tell(args: &CheckArgs, mistakes: &[Mistake], err: &mut dyn Write) -> std::io::Result<ExitCode> {
    let file = args.config.display();
    for mistake in mistakes {
        writeln!(err, "{file}: {mistake}")?;
    }
    let plural = if mistakes.len() == 1 { "" } else { "s" };
    writeln!(err, "{file}: {} mistake{plural}", mistakes.len())?;
    Ok(ExitCode::from(EXIT_USAGE))
}

/// The addresses of a name; none if it is not resolved in time.
fn addresses(name: &str, deadline: Instant) -> Vec<IpAddr> {
    let (found, answer) = mpsc::channel();
    let name = name.to_owned();
    // The resolver of the system has no deadline of ours; its thread ends with the process at the
    // latest.
    std::thread::spawn(move || {
        let addresses = (name.as_str(), 0).to_socket_addrs().into_iter().flatten();
        let _ = found.send(addresses.map(|address| address.ip()).collect());
    });
    answer.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap_or_default()
}

/// Each route, with what the cluster says of it.
fn connected(
    args: &CheckArgs,
    config: &Config,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> std::io::Result<ExitCode> {
    let (file, servers) = (args.config.display(), config.cluster.bootstrap_servers.join(", "));
    match zafka_kafka::probe_token(&config.cluster) {
        Ok(None) => {}
        Ok(Some(life)) => {
            let seconds = life.as_secs_f64().round();
            writeln!(out, "kafka.security.sasl: a token was obtained, good for {seconds} s")?;
        }
        Err(error) => {
            writeln!(err, "{file}: no mistakes, but {error}")?;
            return Ok(ExitCode::FAILURE);
        }
    }
    let asked = connect::ask(config).and_then(|found| Ok((found, connect::ingest::ask(config)?)));
    let (found, writable) = match asked {
        Ok(asked) => asked,
        Err(error) => {
            writeln!(err, "{file}: no mistakes, but {error} (bootstrap_servers: {servers})")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let mut errors = 0;
    for (route, found) in config.routes.iter().zip(&found) {
        writeln!(out, "{}", summary(route))?;
        errors += connect::show(route, found, out)?;
    }
    for (route, writable) in config.ingest.iter().zip(&writable) {
        writeln!(out, "{}", ingest_summary(route))?;
        errors += connect::ingest::show(writable, out)?;
    }
    let away = issuers(config, out)?;
    if errors + away == 0 {
        writeln!(out, "{file}: no mistakes, and the cluster answers")?;
        return Ok(ExitCode::SUCCESS);
    }
    let plural = if errors + away == 1 { "" } else { "s" };
    let whose = if away == 0 { "of the cluster" } else { "of the cluster or an issuer" };
    writeln!(err, "{file}: no mistakes, but {} error{plural} {whose}", errors + away)?;
    Ok(ExitCode::FAILURE)
}

/// Each issuer, with the keys that it has now, and whether it can be asked about tokens. Gives the
/// number of errors.
fn issuers(config: &Config, out: &mut dyn Write) -> std::io::Result<usize> {
    let mut errors = 0;
    for issuer in config.identity.iter().flat_map(|identity| &identity.issuers) {
        writeln!(out, "issuer {:?}", issuer.issuer.name)?;
        match issuer.source.fetch() {
            Ok(fetched) => writeln!(out, "  {} keys", fetched.keys.len())?,
            Err(error) => {
                errors += 1;
                writeln!(out, "  error: {error}")?;
            }
        }
        let Some(source) = &issuer.introspection else { continue };
        // Any answer shows that the client is known there; this is no token of anybody.
        match Introspector::new(source).is_active(&Secret::new("zafka-check")) {
            Ok(false) => writeln!(out, "  says whether tokens are active")?,
            Ok(true) => {
                errors += 1;
                writeln!(out, "  error: it says that a text that is no token is active")?;
            }
            Err(error) => {
                errors += 1;
                writeln!(out, "  error: {error}")?;
            }
        }
    }
    Ok(errors)
}

/// A route in one line.
fn summary(route: &RouteConfig) -> String {
    let topics: Vec<_> = route.source.topics.iter().map(selector_text).collect();
    let endpoints = endpoints(&route.socket.bind, &route.socket.connect);
    format!("route {:?}: {} -> {endpoints}", route.name, topics.join(", "))
}

/// A route from ZeroMQ to Kafka in one line.
fn ingest_summary(route: &IngestConfig) -> String {
    let endpoints = endpoints(&route.socket.bind, &route.socket.connect);
    let allowed: Vec<_> = route.mapping.allowed.iter().map(selector_text).collect();
    let topics = route.mapping.topic.constant().unwrap_or_else(|| allowed.join(", "));
    format!("route {:?}: {endpoints} -> {topics}", route.name)
}

fn endpoints(bind: &[EndpointConfig], connect: &[EndpointConfig]) -> String {
    let bind = bind.iter().map(ToString::to_string);
    let connect = connect.iter().map(|endpoint| format!("{endpoint} (connects)"));
    bind.chain(connect).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> (ExitCode, String, String) {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("zafka.toml");
        std::fs::write(&config, text).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = check(&CheckArgs { config, connect: false }, &mut out, &mut err).unwrap();
        let text = |text| {
            String::from_utf8(text).unwrap().replace(&directory.path().display().to_string(), "")
        };
        (code, text(out), text(err))
    }

    #[test]
    fn tells_every_mistake() {
        let (code, out, err) =
            run("[kafka]\nbootstrap_servers = ['a']\n[admin]\nbind = 1\n[[route]]\n");
        assert_eq!((code, out.as_str()), (ExitCode::from(EXIT_USAGE), ""));
        let lines: Vec<_> = err.lines().collect();
        assert!(
            lines[0].starts_with(
                "/zafka.toml: line 2, column 22: kafka.bootstrap_servers: found \"a\""
            ),
            "{err}"
        );
        assert_eq!(lines.last(), Some(&"/zafka.toml: 5 mistakes"), "{err}");
    }

    #[test]
    fn sums_up_and_warns() {
        let (code, out, err) = run("[kafka]\nbootstrap_servers = ['a:1']\n[[route]]\nname = 'r'\n\
                               from.kafka = { topics = ['t', 't2', '/u.*/'] }\n\
                               to.zmq = { socket = 'pub', bind = ['tcp://*:1'], \
                               connect = ['ipc:///p'] }\n");
        assert_eq!((code, err.as_str()), (ExitCode::SUCCESS, ""));
        assert!(
            out.contains("warning: line 5: route.from.kafka.topics: a subscription to \"t\""),
            "{out}"
        );
        assert!(
            out.contains("route \"r\": t, t2, /u.*/ -> tcp://*:1, ipc:///p (connects)\n"),
            "{out}"
        );
        assert!(out.ends_with("/zafka.toml: no mistakes\n"), "{out}");
    }

    #[test]
    fn a_file_that_is_not_there() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let args = CheckArgs { config: "/nowhere/zafka.toml".into(), connect: false };
        assert_eq!(check(&args, &mut out, &mut err).unwrap(), ExitCode::from(EXIT_USAGE));
        assert!(String::from_utf8(err).unwrap().starts_with("cannot read /nowhere/zafka.toml: "));
        assert!(out.is_empty());
    }
}
