use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::config::parse;

const TOP: &str = "[kafka]\nbootstrap_servers = ['a:1']\n";
/// The keys that a route needs: `from.kafka`, `to.zmq`, `from.zmq`, `to.kafka`.
const SOURCE: &str = "topics = ['t'], group = 'g'";
const PUB: &str = "socket = 'pub', bind = ['tcp://127.0.0.1:1']";
const PULL: &str = "socket = 'pull', bind = ['tcp://127.0.0.1:2']";
const TARGET: &str = "topic = 'u'";

fn read(text: &str) -> Config {
    parse(text, Path::new("."), &|_| None, false, None).expect(text).config
}

fn published(name: &str, from: &str, to: &str) -> String {
    format!("[[route]]\nname = '{name}'\nfrom.kafka = {{ {from} }}\nto.zmq = {{ {to} }}\n")
}

fn written(name: &str, from: &str, to: &str) -> String {
    format!("[[route]]\nname = '{name}'\nfrom.zmq = {{ {from} }}\nto.kafka = {{ {to} }}\n")
}

/// The difference of two files with these routes.
fn between(old: &str, new: &str) -> Difference {
    Difference::between(&read(&format!("{TOP}{old}")), &read(&format!("{TOP}{new}")))
}

/// The keys of the one route that differ.
#[track_caller]
fn changed(old: &str, new: &str) -> Vec<String> {
    let Difference { needs_restart, mut routes } = between(old, new);
    assert_eq!((needs_restart.len(), routes.len()), (0, 1), "{new}");
    match routes.remove(0) {
        (name, RouteChange::Changed(keys)) if name == "r" => keys,
        other => panic!("{new}: {other:?}"),
    }
}

/// The routes before and after, and the fate of each.
type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a [(&'a str, &'a str)]);

#[test]
fn routes_come_change_and_go() {
    let [one, two, other] = ["1", "2", "3"].map(|port| {
        published(
            port,
            "topics = ['t']",
            &format!("socket = 'pub', bind = ['tcp://127.0.0.1:{port}']"),
        )
    });
    let changed = two.replace("'t'", "'t2'");
    let ingest = written("in", PULL.replace(":2'", ":9'").as_str(), TARGET);
    let cases: [Case<'_>; 5] = [
        (&[&one, &two], &[&one, &two], &[("1", "unchanged"), ("2", "unchanged")]),
        (&[&one, &two], &[&two, &one], &[("2", "unchanged"), ("1", "unchanged")]),
        (&[&one, &two], &[&one, &other], &[("1", "unchanged"), ("3", "added"), ("2", "removed")]),
        (&[&one, &two], &[&one, &changed], &[("1", "unchanged"), ("2", "changed")]),
        (&[&one, &ingest], &[&ingest], &[("in", "unchanged"), ("1", "removed")]),
    ];
    for (old, new, expected) in cases {
        let found = between(&old.concat(), &new.concat()).routes;
        let found: Vec<_> =
            found.iter().map(|(name, change)| (name.as_str(), word(change))).collect();
        assert_eq!(found, expected);
    }
}

fn word(change: &RouteChange) -> &'static str {
    match change {
        RouteChange::Unchanged => "unchanged",
        RouteChange::Added => "added",
        RouteChange::Removed => "removed",
        RouteChange::Changed(_) => "changed",
    }
}

#[test]
fn a_route_that_turns_round() {
    let (old, new) = (published("r", SOURCE, PUB), written("r", PULL, TARGET));
    assert_eq!(changed(&old, &new), ["route.from", "route.to"]);
    assert_eq!(changed(&new, &old), ["route.from", "route.to"]);
}

/// Each key of a route, alone. Endpoints and files compare as they are written.
#[test]
fn every_key_of_a_route_is_seen() {
    let mut seen = BTreeSet::new();
    let mut see = |old: &str, new: &str, section: &Section, key: &Key| {
        assert_eq!(changed(old, new), [path(section, key)], "{new}");
        assert_eq!(changed(new, old), [path(section, key)], "{new}");
        seen.insert(path(section, key));
    };
    let old = published("r", SOURCE, PUB);
    for (to, key) in [
        ("topics = ['/t/'], group = 'g'", &keys::TOPICS),
        ("topics = ['t'], group = 'g2'", &keys::GROUP),
        ("topics = ['t']", &keys::GROUP),
        ("topics = ['t'], group = 'g', group_protocol = 'classic'", &keys::GROUP_PROTOCOL),
        ("topics = ['t'], group = 'g', session_timeout = '20s'", &keys::SESSION_TIMEOUT),
        ("topics = ['t'], group = 'g', instance = 'i'", &keys::INSTANCE),
        ("topics = ['t'], group = 'g', start = 'earliest'", &keys::START),
        ("topics = ['t'], group = 'g', isolation = 'read_uncommitted'", &keys::ISOLATION),
        ("topics = ['t'], group = 'g', on_out_of_range = 'stop'", &keys::ON_OUT_OF_RANGE),
        ("topics = ['t'], group = 'g', on_corrupt = 'skip'", &keys::ON_CORRUPT),
        ("topics = ['t'], group = 'g', fetcher = 'librdkafka'", &keys::FETCHER),
        ("topics = ['t'], group = 'g', stall_timeout = '31s'", &keys::STALL_TIMEOUT),
        ("topics = ['t'], group = 'g', revoke_timeout = '6s'", &keys::REVOKE_TIMEOUT),
        ("topics = ['t'], group = 'g', topic_refresh = '31s'", &keys::TOPIC_REFRESH),
        ("topics = ['t'], group = 'g', rename = [['t', 'v']]", &keys::FROM_RENAME),
    ] {
        see(&old, &published("r", to, PUB), &keys::FROM_KAFKA_SECTION, key);
    }
    // Two patterns differ by their texts.
    let pattern = published("r", "topics = ['/t/'], group = 'g'", PUB);
    let other = published("r", "topics = ['/u/'], group = 'g'", PUB);
    see(&pattern, &other, &keys::FROM_KAFKA_SECTION, &keys::TOPICS);
    let with_file = "socket = 'pub', bind = ['ipc:///p']";
    let old_file = published("r", SOURCE, with_file);
    let new_file = published("r", SOURCE, &format!("{with_file}, ipc_mode = '0660'"));
    see(&old_file, &new_file, &keys::TO_ZMQ_SECTION, &keys::IPC_MODE);
    for (more, key) in [
        ("connect = ['tcp://127.0.0.1:3']", &keys::CONNECT),
        ("frames = 'packed'", &keys::FRAMES),
        ("slow_peer = 'block'", &keys::SLOW_PEER),
        ("peer_timeout = '4m'", &keys::PEER_TIMEOUT),
        ("min_peers = 1", &keys::MIN_PEERS),
        ("ring_bytes = '1MiB'", &keys::RING_BYTES),
        ("heartbeat = { interval = '1s' }", &keys::HEARTBEAT),
        ("max_peers = 7", &keys::MAX_PEERS),
        ("max_subscriptions = 7", &keys::MAX_SUBSCRIPTIONS),
        ("peer_memory = '2MiB'", &keys::PEER_MEMORY),
        ("max_inbound_frame = '2KiB'", &keys::MAX_INBOUND_FRAME),
    ] {
        let new = published("r", SOURCE, &format!("{PUB}, {more}"));
        see(&old, &new, &keys::TO_ZMQ_SECTION, key);
    }
    let moved = published("r", SOURCE, "socket = 'pub', bind = ['tcp://127.0.0.1:9']");
    see(&old, &moved, &keys::TO_ZMQ_SECTION, &keys::BIND);

    let old = written("r", PULL, TARGET);
    let moved = written("r", "socket = 'pull', bind = ['tcp://127.0.0.1:9']", TARGET);
    see(&old, &moved, &keys::FROM_ZMQ_SECTION, &keys::BIND);
    let sub =
        |prefix| format!("socket = 'sub', subscribe = ['{prefix}'], bind = ['tcp://127.0.0.1:2']");
    let [a, b] = ["a", "b"].map(|prefix| written("r", &sub(prefix), TARGET));
    see(&old, &a, &keys::FROM_ZMQ_SECTION, &keys::INBOUND_SOCKET);
    see(&a, &b, &keys::FROM_ZMQ_SECTION, &keys::SUBSCRIBE);
    let with_file = "socket = 'pull', bind = ['ipc:///p']";
    let old_file = written("r", with_file, TARGET);
    let new_file = written("r", &format!("{with_file}, ipc_mode = '0660'"), TARGET);
    see(&old_file, &new_file, &keys::FROM_ZMQ_SECTION, &keys::IPC_MODE);
    for (more, key) in [
        ("connect = ['tcp://127.0.0.1:3']", &keys::CONNECT),
        ("frames = 'packed'", &keys::INBOUND_FRAMES),
        ("heartbeat = { interval = '1s' }", &keys::HEARTBEAT),
        ("max_peers = 7", &keys::MAX_PEERS),
        ("max_message = '2KiB'", &keys::MAX_MESSAGE),
        ("peer_memory = '2MiB'", &keys::SENDER_MEMORY),
    ] {
        let new = written("r", &format!("{PULL}, {more}"), TARGET);
        see(&old, &new, &keys::FROM_ZMQ_SECTION, key);
    }
    for (more, key) in [
        ("topics = ['u', 'v']", &keys::TO_TOPICS),
        ("rename = [['a', 'b']]", &keys::RENAME),
        ("key = 'k'", &keys::TO_KEY),
        ("partition = '1'", &keys::TO_PARTITION),
        ("headers = { a = 'b' }", &keys::TO_HEADERS),
        ("compression = 'zstd'", &keys::COMPRESSION),
        ("linger = '1s'", &keys::LINGER),
        ("batch_size = '2KiB'", &keys::BATCH_SIZE),
        ("in_flight_bytes = '1MiB'", &keys::IN_FLIGHT_BYTES),
        ("delivery_timeout = '9s'", &keys::DELIVERY_TIMEOUT),
        ("on_error = 'stop'", &keys::ON_ERROR),
        ("dead_letter = 'd'", &keys::DEAD_LETTER),
        ("stamp = true", &keys::STAMP),
        ("producer = 'librdkafka'", &keys::PRODUCER),
    ] {
        see(&old, &written("r", PULL, &format!("{TARGET}, {more}")), &keys::TO_KAFKA_SECTION, key);
    }
    see(&old, &written("r", PULL, "topic = 'v'"), &keys::TO_KAFKA_SECTION, &keys::TO_TOPIC);
    // It cannot stand in such a file: see the tests of `[identity.exchange]`.
    seen.insert(path(&keys::TO_KAFKA_SECTION, &keys::AS_PEER));

    let sections = [
        &keys::FROM_KAFKA_SECTION,
        &keys::TO_ZMQ_SECTION,
        &keys::FROM_ZMQ_SECTION,
        &keys::TO_KAFKA_SECTION,
    ];
    let all = sections.into_iter().flat_map(|of| of.keys.iter().map(|key| path(of, key)));
    // A route that reads has one socket type.
    let missing: Vec<_> =
        all.filter(|key| key != "route.to.zmq.socket" && !seen.contains(key)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn what_holds_for_the_process_needs_a_restart() {
    let old = format!("{TOP}{}", published("r", SOURCE, PUB));
    let sasl = |password: &str| {
        let text = "[kafka.security.sasl]\nmechanism = 'PLAIN'\nusername = 'u'\npassword = ";
        format!("{old}{text}'{password}'\n")
    };
    let admin = |more: &str| format!("{old}[admin]\nbind = '127.0.0.1:9'\n{more}");
    for (one, other, expected) in [
        (old.clone(), old.replace("'a:1'", "'a:1', 'b:1'"), &["kafka.bootstrap_servers"][..]),
        (old.clone(), old.replace("[[route", "client_rack = 'k'\n[[route"), &["kafka.client_rack"]),
        (old.clone(), sasl("hunter2"), &["kafka.security"]),
        (sasl("hunter2"), sasl("hunter3"), &["kafka.security"]),
        (sasl("hunter2"), sasl("hunter2"), &[]),
        (old.clone(), admin(""), &["admin"]),
        (admin(""), admin("").replace(":9'", ":8'"), &["admin.bind"]),
        (admin(""), admin("hosts = ['relay.example.org']"), &["admin.hosts"]),
        // It is of use at the end alone.
        (old.clone(), format!("shutdown_timeout = '6s'\n{old}"), &[]),
    ] {
        for (one, other) in [(&one, &other), (&other, &one)] {
            let difference = Difference::between(&read(one), &read(other));
            assert_eq!(difference.needs_restart, expected, "{one}{other}");
            assert_eq!(difference.routes, [("r".to_owned(), RouteChange::Unchanged)]);
            let shown = format!("{difference:?}");
            assert!(!shown.contains("hunter"), "{shown}");
        }
    }
}
