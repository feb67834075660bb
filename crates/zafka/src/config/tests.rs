mod identity;
mod oauth;

use std::path::PathBuf;

use zafka_envelope::FramePlan;
use zafka_kafka::config::{
    FetcherKind, GroupProtocol, Isolation, OnCorrupt, OnOutOfRange, Sasl, SourceConfig, Start,
    TopicSelector,
};
use zafka_kafka::produce::ProducerKind;
use zafka_sockets::config::{DEFAULT_RING_BYTES, EndpointConfig, Limits, PubConfig, SlowPeer};

use super::*;

const PASSWORD: &str = "hunter2-not-to-be-seen";

fn variable(name: &str) -> Option<String> {
    match name {
        "PASSWORD" => Some(PASSWORD.to_owned()),
        "SERVER" => Some("broker:9092".to_owned()),
        "TWO" => Some("2".to_owned()),
        _ => None,
    }
}

fn read(text: &str) -> Result<Loaded, Vec<Mistake>> {
    parse(text, Path::new("."), &variable, false, None)
}

/// A file whose first line is `first`, with a cluster and a route that are in order.
fn with_security(security: &str) -> String {
    format!(
        "[kafka.security]\n{security}\n[kafka]\nbootstrap_servers = ['a:1']\n[[route]]\n\
         name = 'r'\n\
         from.kafka = {{ topics = ['t'] }}\nto.zmq = {{ socket = 'pub', bind = ['tcp://*:*'] }}\n"
    )
}

/// A file with these keys in from.kafka (line 5) and to.zmq (line 6).
fn with_route(from: &str, to: &str) -> String {
    format!(
        "[kafka]\nbootstrap_servers = ['a:1']\n[[route]]\nname = 'r'\nfrom.kafka = {{ {from} }}\n\
         to.zmq = {{ {to} }}\n"
    )
}

const FROM: &str = "topics = ['t']";
const TO: &str = "socket = 'pub', bind = ['tcp://127.0.0.1:1']";

#[track_caller]
fn expect(text: &str, expected: &[(usize, &str, &str, &str)]) {
    let mistakes = read(text).expect_err(text);
    let shown: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    let shown = shown.join("\n");
    assert_eq!(mistakes.len(), expected.len(), "{text}\n{shown}");
    for (mistake, (line, key, found, allowed)) in mistakes.iter().zip(expected) {
        assert_eq!((mistake.line, mistake.key.as_str()), (*line, *key), "{shown}");
        assert!(mistake.found.contains(found), "expected {found:?}\n{shown}");
        assert!(mistake.allowed.contains(allowed), "expected {allowed:?}\n{shown}");
    }
    assert!(!shown.contains(PASSWORD), "{shown}");
}

#[test]
fn the_example_is_read() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/zafka.toml");
    let config = load(&path).unwrap().config;
    assert_eq!(config.cluster.bootstrap_servers, ["127.0.0.1:9092"]);
    assert_eq!(config.admin.as_ref().unwrap().bind.to_string(), "127.0.0.1:9644");
    let [orders, telemetry] = config.routes.as_slice() else { panic!("{config:?}") };
    assert_eq!(orders.source.group.as_ref().unwrap().id, "zafka-orders");
    assert!(
        matches!(&orders.source.topics[1], TopicSelector::Pattern(p) if p.is_match("payments.eu"))
    );
    assert_eq!(orders.socket.slow_peer, SlowPeer::Block);
    assert_eq!(telemetry.source.route, "telemetry");
    assert_eq!(telemetry.socket.heartbeat.unwrap().timeout, Duration::from_secs(30));
    let frames =
        FramePlan::parse(&["{topic}/{header.device}", "{offset:u64be}", "{value}"]).unwrap();
    assert_eq!(telemetry.frames, frames);
}

#[test]
fn defaults() {
    let config = read(&with_route(FROM, TO)).unwrap().config;
    assert_eq!(config.shutdown_timeout, Duration::from_secs(5));
    assert!(config.admin.is_none());
    assert_eq!(config.cluster.security, Security::default());
    let route = &config.routes[0];
    assert!(route.source.group.is_none());
    assert_eq!(route.source.start, Start::Latest);
    assert_eq!(route.source.isolation, Isolation::ReadCommitted);
    assert_eq!(route.source.on_out_of_range, OnOutOfRange::Earliest);
    assert_eq!(route.source.on_corrupt, OnCorrupt::Stop);
    assert_eq!(route.source.fetcher, FetcherKind::Fast);
    assert_eq!(route.source.stall_timeout, Duration::from_secs(30));
    assert_eq!(route.source.revoke_timeout, Duration::from_secs(5));
    assert_eq!(route.source.topic_refresh, Duration::from_secs(30));
    assert_eq!(route.frames, FramePlan::default());
    let of_crate = SourceConfig::new(&route.source.route, route.source.topics.clone());
    assert_eq!(of_crate, route.source);
    let bind = route.socket.bind.clone();
    assert_eq!(PubConfig { bind, ..PubConfig::default() }, route.socket);
    assert_eq!(route.socket.slow_peer, SlowPeer::Drop);
    assert_eq!(route.socket.min_peers, 0);
    assert_eq!(route.socket.ring_bytes, DEFAULT_RING_BYTES);
    assert_eq!(route.socket.limits, Limits::default());
    assert!(route.socket.heartbeat.is_none());
}

#[test]
fn every_value_can_be_set() {
    let from = "topics = ['t'], group = 'g', group_protocol = 'classic', instance = 'i', \
                session_timeout = '20s', start = 2026-01-31T08:00:00Z, \
                isolation = 'read_uncommitted', on_out_of_range = 'stop', revoke_timeout = '1s', \
                topic_refresh = '500ms', fetcher = 'librdkafka', stall_timeout = '2s'";
    let to = "socket = 'pub', connect = ['tcp://h:1'], frames = 'packed', min_peers = '${TWO}', \
              ring_bytes = '1MiB', heartbeat = { interval = '2s' }, max_peers = 10, \
              max_subscriptions = 1_0, max_inbound_frame = 2048";
    let config = read(&with_route(from, to)).unwrap().config;
    let route = &config.routes[0];
    let group = route.source.group.as_ref().unwrap();
    assert_eq!(group.protocol, Some(GroupProtocol::Classic));
    assert_eq!(group.instance.as_deref(), Some("i"));
    assert_eq!(group.session_timeout, Some(Duration::from_secs(20)));
    assert_eq!(route.source.start, Start::Time(1_769_846_400_000));
    assert_eq!(route.source.isolation, Isolation::ReadUncommitted);
    assert_eq!(route.source.on_out_of_range, OnOutOfRange::Stop);
    assert_eq!(route.source.topic_refresh, Duration::from_millis(500));
    assert_eq!(route.source.fetcher, FetcherKind::Librdkafka);
    assert_eq!(route.source.stall_timeout, Duration::from_secs(2));
    assert_eq!(route.socket.min_peers, 2);
    assert_eq!(route.socket.ring_bytes, 1024 * 1024);
    assert_eq!(route.socket.heartbeat.unwrap().timeout, Duration::from_secs(2));
    let limits = route.socket.limits;
    assert_eq!(
        (limits.max_peers, limits.max_subscriptions, limits.max_inbound_frame),
        (10, 10, 2048)
    );
}

#[test]
fn all_mistakes_of_a_file_at_once() {
    let text = "shutdown_timeout = 5\n\
                [kafka]\n\
                bootstrap_servers = ['a:1', 'b']\n\
                rack = 'x'\n\
                [[route]]\n\
                nmae = 'r'\n\
                [route.from.kafka]\n\
                topics = ['a b', '/(/']\n\
                start = 'yesterday'\n\
                fetcher = 'slow'\n\
                [route.to.zmq]\n\
                socket = 'push'\n\
                bind = ['tcp://127.0.0.1']\n\
                frames = ['{topic}', '{nope}']\n\
                slow_peer = 'replay'\n";
    expect(
        text,
        &[
            (1, "shutdown_timeout", "found 5", "duration"),
            (3, "kafka.bootstrap_servers", "found \"b\": no port", "HOST:PORT"),
            (4, "kafka.rack", "unknown key", "bootstrap_servers, client_rack, security"),
            (5, "route.name", "missing", "text"),
            (6, "route.nmae", "did you mean `name`?", "name, from, to"),
            (8, "route.from.kafka.topics", "\"a b\": a name is made of", "a topic's name"),
            (8, "route.from.kafka.topics", "not a regular expression", "regex"),
            (9, "route.from.kafka.start", "\"yesterday\"", "RFC 3339"),
            (10, "route.from.kafka.fetcher", "\"slow\"", "\"fast\", \"librdkafka\""),
            (12, "route.to.zmq.socket", "\"push\": not available in this version", "\"pub\""),
            (13, "route.to.zmq.bind", "no port", "tcp://HOST:PORT"),
            (14, "route.to.zmq.frames", "unknown field `nope`", ""),
            (
                15,
                "route.to.zmq.slow_peer",
                "\"replay\": not available in this version",
                "\"drop\", \"block\"",
            ),
        ],
    );
}

#[test]
fn a_syntax_error_stands_alone() {
    expect("[kafka]\nbootstrap_servers = [\nfoo = 'x'\n[[route]]\n", &[(3, "", "not TOML", "")]);
    expect("a = 1\na = 2\n", &[(2, "", "not TOML", "")]);
}

#[test]
fn mistakes_of_a_source() {
    let key = |name: &str| format!("route.from.kafka.{name}");
    for (from, name, found, allowed) in [
        ("group = 'g'", "topics", "missing", "list of names"),
        ("topics = []", "topics", "an empty list", "at least one"),
        ("topics = 't'", "topics", "a text", "list of names"),
        ("topics = [1]", "topics", "found 1", "list of names"),
        ("topics = ['..']", "topics", "are not names", "a topic's name"),
        ("topics = ['/a']", "topics", "ends with a slash", "pattern between slashes"),
        ("topics = ['t'], group = ''", "group", "found \"\"", "1 to 255 bytes"),
        ("topics = ['t'], instance = 'i'", "instance", "`group` is missing", "together"),
        (
            "topics = ['t'], group = 'g', group_protocol = 'new'",
            "group_protocol",
            "\"new\"",
            "\"consumer\", \"classic\"",
        ),
        (
            "topics = ['t'], session_timeout = '20s'",
            "session_timeout",
            "`group` is missing",
            "together",
        ),
        (
            "topics = ['t'], group = 'g', session_timeout = '2h'",
            "session_timeout",
            "\"2h\"",
            "from 1s to 1h",
        ),
        (
            "topics = ['t'], group = 'g', group_protocol = 'consumer', session_timeout = '20s'",
            "session_timeout",
            "group_protocol = \"consumer\"",
            "consumer.session.timeout.ms",
        ),
        ("topics = ['t'], start = '2026-01-31'", "start", "\"2026-01-31\"", "RFC 3339"),
        ("topics = ['t'], start = 7", "start", "found 7", "RFC 3339"),
        ("topics = ['t'], start = 1969-12-31T23:59:59.9999Z", "start", "before 1970", "RFC 3339"),
        ("topics = ['t'], topic_refresh = '0s'", "topic_refresh", "\"0s\"", "from 100ms to 1h"),
        ("topics = ['t'], stall_timeout = '5ms'", "stall_timeout", "\"5ms\"", "from 1s to 1h"),
        ("topics = ['${NONE}']", "topics", "variable NONE is not set", "${NONE:-...}"),
    ] {
        expect(&with_route(from, TO), &[(5, &key(name), found, allowed)]);
    }
}

#[test]
fn mistakes_of_a_socket() {
    let key = |name: &str| format!("route.to.zmq.{name}");
    for (to, name, found, allowed) in [
        ("bind = ['tcp://*:1']", "socket", "missing", "pub"),
        ("socket = 'router', bind = ['tcp://*:1']", "socket", "not available", "\"pub\""),
        ("socket = 'xpub', bind = ['tcp://*:1']", "socket", "found \"xpub\"", "\"pub\""),
        ("socket = 'pub'", "bind", "neither `bind` nor `connect`", "list of endpoints"),
        (
            "socket = 'pub', connect = ['tcp://*:1']",
            "connect",
            "a wildcard can only be bound",
            "tcp://HOST:PORT",
        ),
        ("socket = 'pub', bind = ['tcp://*:1', 'tcp://*:1']", "bind", "bound twice", "once"),
        (
            "socket = 'pub', bind = ['tcp://127.0.0.1:1', 'tcp://localhost:1']",
            "bind",
            "bound twice",
            "once",
        ),
        ("socket = 'pub', bind = ['ipc://./a', 'ipc://a']", "bind", "bound twice", "once"),
        (
            "socket = 'pub', connect = ['tcp://a:0;b:1']",
            "connect",
            "SOURCE;DESTINATION",
            "tcp://HOST:PORT",
        ),
        (
            "socket = 'pub', bind = ['ipc:///a'], ipc_mode = '0880'",
            "ipc_mode",
            "\"0880\"",
            "\"0660\"",
        ),
        ("socket = 'pub', bind = ['ipc:///a'], ipc_mode = 660", "ipc_mode", "660", "octal"),
        (
            "socket = 'pub', bind = ['tcp://*:1'], ipc_mode = '660'",
            "ipc_mode",
            "no `ipc`",
            "`bind`",
        ),
        (
            "socket = 'pub', bind = ['ipc:///a'], min_peers = 3, max_peers = 2",
            "min_peers",
            "found 3",
            "at most",
        ),
        ("socket = 'pub', bind = ['ipc:///a'], min_peers = -1", "min_peers", "found -1", "from 0"),
        ("socket = 'pub', bind = ['ipc:///a'], max_peers = 0", "max_peers", "found 0", "from 1"),
        (
            "socket = 'pub', bind = ['ipc:///a'], ring_bytes = '16MB'",
            "ring_bytes",
            "16MB",
            "from 64KiB to 64GiB",
        ),
        (
            "socket = 'pub', bind = ['ipc:///a'], ring_bytes = 1024",
            "ring_bytes",
            "found 1024",
            "from 64KiB",
        ),
        (
            "socket = 'pub', bind = ['ipc:///a'], frames = 'xml'",
            "frames",
            "\"xml\"",
            "\"json\", \"packed\"",
        ),
        (
            "socket = 'pub', bind = ['ipc:///a'], frames = []",
            "frames",
            "an empty list",
            "at least one",
        ),
        ("socket = 'pub', bind = ['ipc:///a'], heartbeat = '5s'", "heartbeat", "a text", "table"),
        (
            "socket = 'pub', bind = ['ipc:///a'], heartbeat = {}",
            "heartbeat.interval",
            "missing",
            "duration",
        ),
        (
            "socket = 'pub', bind = ['ipc:///a'], heartbeat = { interval = '1s', timeout = '2h' }",
            "heartbeat.timeout",
            "\"2h\"",
            "from 100ms",
        ),
    ] {
        expect(&with_route(FROM, to), &[(6, &key(name), found, allowed)]);
    }
}

#[test]
fn endpoints_that_lead_to_one_peer() {
    let key = "route.to.zmq.connect";
    let connect = |list: &str| with_route(FROM, &format!("socket = 'pub', connect = [{list}]"));
    let (twice, same) = (
        "tcp://a:1 is there twice",
        "tcp://localhost:1 leads to the same peer as tcp://127.0.0.1:1",
    );
    expect(&connect("'tcp://a:1', 'tcp://b:1', 'tcp://a:1'"), &[(6, key, twice, "each peer once")]);
    expect(
        &connect("'tcp://127.0.0.1:1', 'tcp://localhost:1'"),
        &[(6, key, same, "each peer once")],
    );
    expect(
        &connect("'x', 'tcp://a:1', 'tcp://a:1'"),
        &[(6, key, "no transport", "tcp"), (6, key, twice, "")],
    );
    let other = "[[route]]\nname = 's'\nfrom.kafka = { topics = ['u'] }\n\
                 to.zmq = { socket = 'pub', bind = ['tcp://*:2'], connect = ['tcp://a:1', \
                 'tcp://localhost:2'] }\n";
    let itself = "tcp://localhost:2 is bound by this relay";
    expect(&(connect("'tcp://a:1'") + other), &[(10, key, itself, "subscribers bind")]);

    let loaded = read(&connect("'tcp://10.0.0.1:1', 'tcp://name:1'")).unwrap();
    let mistakes = loaded.mistakes_by_name(&|_| vec!["10.0.0.1".parse().unwrap()]);
    let [mistake] = mistakes.as_slice() else { panic!("{mistakes:?}") };
    let (line, key) =
        ("line 6, column 59: route.to.zmq.connect: ", "tcp://name:1 leads to the same peer as");
    assert!(mistake.to_string().starts_with(&format!("{line}{key}")), "{mistake}");
}

#[test]
fn mistakes_between_routes() {
    let two = |from: &str, name: &str, from2: &str, bind2: &str| {
        with_route(from, TO)
            + &format!(
                "[[route]]\nname = '{name}'\nfrom.kafka = {{ {from2} }}\n\
                 to.zmq = {{ socket = 'pub', bind = ['{bind2}'] }}\n"
            )
    };
    let free = "tcp://127.0.0.1:*";
    let topics = "route.from.kafka.topics";
    expect(&two(FROM, "r", FROM, free), &[(8, "route.name", "for the second time", "of its own")]);
    expect(&two(FROM, "s", FROM, "tcp://*:1"), &[(10, "route.to.zmq.bind", "bound twice", "once")]);
    let grouped = "topics = ['a', 'b'], group = 'g', instance = 'i'";
    expect(
        &two(grouped, "s", "topics = ['b'], group = 'g'", free),
        &[(9, topics, "reads b", "a group of its own")],
    );
    expect(
        &two(grouped, "s", "topics = ['/a|z/'], group = 'g'", free),
        &[(9, topics, "reads /a|z/", "a group")],
    );
    let instance = "topics = ['c'], group = 'g', instance = 'i'";
    expect(
        &two(grouped, "s", instance, free),
        &[(9, "route.from.kafka.instance", "the same instance", "of its own")],
    );
    let protocol = "topics = ['c'], group = 'g', group_protocol = 'classic'";
    expect(
        &two(grouped, "s", protocol, free),
        &[(9, "route.from.kafka.group", "another group_protocol", "one")],
    );
    // Whatever else is wrong with both.
    let wrong = |source: &str| format!("{source}, start = 'then', group_protocol = 'new'");
    let twice = two(
        &wrong(grouped),
        "r",
        &wrong("topics = [1, 'b'], group = 'g', instance = 'i'"),
        "tcp://*:1",
    );
    let twice = twice.replace("bind = ['tcp", "bind = ['x', 'tcp");
    expect(
        &twice,
        &[
            (5, "route.from.kafka.start", "then", "RFC 3339"),
            (5, "route.from.kafka.group_protocol", "new", "classic"),
            (6, "route.to.zmq.bind", "no transport", "ipc"),
            (8, "route.name", "for the second time", "of its own"),
            (9, topics, "reads b", "a group of its own"),
            (9, topics, "found 1", "names"),
            (9, "route.from.kafka.instance", "the same instance", "of its own"),
            (9, "route.from.kafka.start", "then", "RFC 3339"),
            (9, "route.from.kafka.group_protocol", "new", "classic"),
            (10, "route.to.zmq.bind", "no transport", "ipc"),
            (10, "route.to.zmq.bind", "bound twice", "once"),
        ],
    );
    assert!(read(&two(grouped, "s", "topics = ['a'], group = 'h'", free)).is_ok());
    assert!(read(&two(FROM, "s", FROM, free)).is_ok());
}

#[test]
fn names_at_one_port_are_warned_of() {
    let to =
        "socket = 'pub', bind = ['tcp://127.0.0.1:1', 'tcp://relay.example:1', 'tcp://eth0:2']";
    let loaded = read(&(with_route(FROM, to) + "[admin]\nbind = '127.0.0.1:2'\n")).unwrap();
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "line 6: route.to.zmq.bind: tcp://relay.example:1 and tcp://127.0.0.1:1 have one port: \
             if they stand for one address, only one can be bound",
            "line 6: route.to.zmq.bind: tcp://eth0:2 and admin.bind have one port: if they stand \
             for one address, only one can be bound",
        ]
    );
}

#[test]
fn the_path_of_an_endpoint_starts_at_the_file() {
    let read_in = |directory: &str, to: &str| {
        parse(&with_route(FROM, to), Path::new(directory), &variable, false, None)
    };
    let to = "socket = 'pub', bind = ['ipc://run/a', 'ipc:///b'], connect = ['ipc://c'], \
              ipc_mode = '0660'";
    let socket = read_in("/etc/zafka", to).unwrap().config.routes.remove(0).socket;
    let shown = |endpoints: &[EndpointConfig]| {
        endpoints.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(shown(&socket.bind), ["ipc:///etc/zafka/run/a", "ipc:///b"]);
    assert_eq!(shown(&socket.connect), ["ipc:///etc/zafka/c"]);
    assert_eq!(socket.ipc_mode, Some(0o660));
    let far = read_in(&format!("/{}", "d".repeat(110)), to).unwrap_err();
    assert!(
        far.iter().all(|mistake| mistake.found.contains("107 bytes")) && far.len() == 2,
        "{far:?}"
    );
}

#[test]
fn what_is_missing_or_comes_later() {
    expect("", &[(1, "kafka", "missing", "table"), (1, "route", "missing", "array of tables")]);
    let text = "[kafka]\nbootstrap_servers = ['${SERVER}']\n[[route]]\nname = 'r'\n\
                from.zmq = { socket = 'pull' }\nto.kafka = { topic = 'x' }\n";
    expect(
        text,
        &[(5, "route.from.zmq.bind", "neither `bind` nor `connect`", "list of endpoints")],
    );
    let ends = |from: &str, to: &str| {
        format!("[kafka]\nbootstrap_servers = ['a:1']\n[[route]]\nname = 'r'\n{from}\n{to}\n")
    };
    let (kafka, zmq) =
        ("from.kafka = { topics = ['t'] }", "to.zmq = { socket = 'pub', bind = ['tcp://*:1'] }");
    expect(&ends("from = {}", zmq), &[(5, "route.from.kafka", "missing", "table; or `zmq`")]);
    expect(&ends(kafka, "to = {}"), &[(6, "route.to.zmq", "missing", "table; or `kafka`")]);
    expect(
        &ends(kafka, "to.kafka = { topic = 'x' }"),
        &[(6, "route.to.kafka", "does not go with `from.kafka`", "`zmq`")],
    );
    expect(
        &ends("from.zmq = { socket = 'pull', bind = ['tcp://*:2'] }", zmq),
        &[(6, "route.to.zmq", "does not go with `from.zmq`", "`kafka`")],
    );
    let text = with_route(FROM, TO) + "[admin]\nbind = 'localhost'\n";
    expect(&text, &[(8, "admin.bind", "\"localhost\"", "IP:PORT")]);
    let text = with_route(FROM, TO) + "[admin]\nhosts = ['relay.example.org', 'localhost:1']\n";
    let wrong = (8, "admin.hosts", "\"localhost:1\"", "without a port");
    expect(&text, &[(7, "admin.bind", "missing", "IP:PORT"), wrong]);
    for (bind, taken) in
        [("127.0.0.1:1", true), ("0.0.0.0:1", true), ("127.0.0.1:2", false), ("[::1]:1", false)]
    {
        let text = with_route(FROM, TO) + &format!("[admin]\nbind = '{bind}'\n");
        let mistake = (6, "route.to.zmq.bind", "by the admin server too", "`admin.bind`");
        if taken { expect(&text, &[mistake]) } else { assert!(read(&text).is_ok(), "{bind}") }
    }
    expect(
        &with_route(FROM, TO).replace("'a:1'", ""),
        &[(2, "kafka.bootstrap_servers", "an empty list", "one")],
    );
}

#[test]
fn mistakes_of_security() {
    let sasl = "kafka.security.sasl";
    for (security, key, found, allowed) in [
        ("tls = 'yes'", "kafka.security.tls".to_owned(), "a text", "true, false, or a table"),
        (
            "tls = { ca = 'none.pem' }",
            "kafka.security.tls.ca".to_owned(),
            "none.pem: cannot be read: No such file",
            "a file",
        ),
        (
            "tls = { key_password = 'p' }",
            "kafka.security.tls.key_password".to_owned(),
            "`key` is missing",
            "together",
        ),
        (
            "tls = { key_password_file = 'Cargo.toml' }",
            "kafka.security.tls.key_password_file".to_owned(),
            "`key` is missing",
            "together",
        ),
        (
            "sasl = { mechanism = 'GSSAPI' }",
            format!("{sasl}.mechanism"),
            "Kerberos is not supported",
            "PLAIN",
        ),
        (
            "sasl = { mechanism = 'PLAIN', username = 'u' }",
            format!("{sasl}.password"),
            "missing",
            "password_file",
        ),
        (
            "sasl = { mechanism = 'PLAIN', username = 'u', password = '${NONE}' }",
            format!("{sasl}.password"),
            "variable NONE is not set",
            "",
        ),
        (
            "sasl = { mechanism = 'PLAIN', username = 'u', password = ['hunter2-not-to-be-seen'] }",
            format!("{sasl}.password"),
            "not a text",
            "a text",
        ),
        (
            "sasl = { mechanism = 'SCRAM-SHA-512', username = 'u', password = 'p', scope = ['s'] }",
            format!("{sasl}.scope"),
            "not a key of this mechanism",
            "username",
        ),
        (
            "sasl = { mechanism = 'OAUTHBEARER', token_url = 'http://idp/t', client_id = 'c', \
             client_secret = 's' }",
            format!("{sasl}.token_url"),
            "in the clear",
            "https",
        ),
        (
            "sasl = { mechanism = 'OAUTHBEARER', token_url = 'https://i/t', client_id = 'c', \
             client_secret = 's', extensions = { auth = 'x' } }",
            format!("{sasl}.extensions"),
            "\"auth\"",
            "letters",
        ),
    ] {
        expect(&with_security(security), &[(2, &key, found, allowed)]);
    }
}

#[test]
fn secrets_are_read_and_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("secret"), format!("{PASSWORD}\n\n")).unwrap();
    std::fs::write(directory.path().join("ca.pem"), "").unwrap();
    for (security, expected) in [
        (
            "sasl = { mechanism = 'PLAIN', username = 'u', password = '${PASSWORD}' }",
            PASSWORD.to_owned(),
        ),
        (
            "sasl = { mechanism = 'PLAIN', username = 'u', password_file = 'secret' }",
            format!("{PASSWORD}\n"),
        ),
    ] {
        let text = with_security(&format!("tls = {{ ca = 'ca.pem' }}\n{security}"));
        let loaded = parse(&text, directory.path(), &variable, true, None).unwrap();
        let security = &loaded.config.cluster.security;
        let Some(Sasl::Plain(credentials)) = &security.sasl else { panic!("{security:?}") };
        assert_eq!(credentials.password.expose(), expected);
        assert_eq!(security.tls.as_ref().unwrap().ca, Some(directory.path().join("ca.pem")));
        assert!(!format!("{loaded:?}").contains("hunter2"));
    }
}

#[test]
fn warnings() {
    let route = with_route("topics = ['orders', 'orders.eu', 'x']", TO);
    let admin = with_route(FROM, TO) + "[admin]\nbind = '0.0.0.0:2'\n";
    let plain = with_security("sasl = { mechanism = 'PLAIN', username = 'u', password = 'p' }");
    for (text, line, part) in [
        (&route, 5, "a subscription to \"orders\" receives \"orders.eu\" too"),
        (&admin, 8, "no authentication"),
        (&plain, 2, "the password travels"),
        (&plain, 2, "others can read"),
    ] {
        let loaded = parse(text, Path::new("."), &variable, true, None).unwrap();
        let found = loaded
            .warnings
            .iter()
            .any(|warning| warning.line == line && warning.text.contains(part));
        assert!(found, "{part}: {:?}", loaded.warnings);
    }
}

#[test]
fn peers_that_do_not_fit_the_limit_of_open_files() {
    let two = with_route(FROM, &format!("{TO}, max_peers = 1000"))
        + "[[route]]\nname = 's'\nfrom.kafka = { topics = ['u'] }\n\
           to.zmq = { socket = 'pub', bind = ['tcp://*:2'], max_peers = 2000 }\n";
    for (limit, warned) in
        [(None, false), (Some(u64::MAX), false), (Some(3256), false), (Some(3255), true)]
    {
        let loaded = parse(&two, Path::new("."), &variable, false, limit).unwrap();
        let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings.len(), usize::from(warned), "{limit:?}: {warnings:?}");
        for warning in &warnings {
            let start = "line 10: route.to.zmq.max_peers: the routes allow 3000 peers together";
            assert!(warning.starts_with(start) && warning.contains("3255 files"), "{warning}");
        }
    }
}

#[test]
fn prefixes_of_partitions_and_constants() {
    let pairs = |frames: &str, topics: &[(&str, i32)]| {
        let config = read(&with_route(FROM, &format!("{TO}, frames = [{frames}]"))).unwrap().config;
        let topics: Vec<_> =
            topics.iter().map(|(name, partitions)| ((*name).to_owned(), *partitions)).collect();
        checks::prefix_pairs(&config.routes[0], &topics).len()
    };
    assert_eq!(pairs("'{topic}.{partition}'", &[("a", 11)]), 1, "1 and 10");
    assert_eq!(pairs("'{topic}.{partition}.'", &[("a", 11)]), 0);
    assert_eq!(pairs("'{topic}'", &[("a", 1), ("ab", 1), ("abc", 1), ("b", 1)]), 3);
    assert_eq!(pairs("'all', '{topic}'", &[("a", 1), ("ab", 1)]), 0, "the same frame");
    assert_eq!(pairs("'{key}'", &[("a", 1), ("ab", 1)]), 0, "differs from record to record");
}

#[test]
fn no_mistake_shows_a_variable() {
    for key in [
        "topics = ['/${PASSWORD}(/']",
        "topics = ['t'], start = '${PASSWORD}'",
        "topics = ['/${PASSWORD}']",
    ] {
        let mistakes = read(&with_route(key, TO)).unwrap_err();
        assert!(!format!("{mistakes:?}").contains("hunter2"), "{mistakes:?}");
    }
    for security in [
        "tls = { ca = '${PASSWORD}' }",
        "sasl = { mechanism = 'PLAIN', username = 'u', password_file = '${PASSWORD}' }",
    ] {
        let mistakes = read(&with_security(security)).unwrap_err();
        let shown = mistakes[0].to_string();
        assert!(
            shown.contains("${PASSWORD}: cannot be read") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
    for key in ["bind = ['${PASSWORD}']", "bind = ['tcp://*:1'], frames = '${PASSWORD}'"] {
        let mistakes = read(&with_route(FROM, &format!("socket = 'pub', {key}"))).unwrap_err();
        assert!(!format!("{mistakes:?}").contains("hunter2"), "{mistakes:?}");
    }
}

#[test]
fn no_mistake_shows_credentials_of_a_url() {
    let oidc = |url: &str| {
        with_security(&format!(
            "sasl = {{ mechanism = 'OAUTHBEARER', client_id = 'c', client_secret = 's', \
             token_url = '{url}' }}"
        ))
    };
    let server = |server: &str| with_route(FROM, TO).replace("a:1", server);
    let endpoint = |key: &str| {
        with_route(FROM, &format!("socket = 'pub', {key} = ['tcp://id:{PASSWORD}@127.0.0.1:1']"))
    };
    let url = "kafka.security.sasl.token_url";
    let does_not_belong = "***@idp/token\": credentials do not belong in a URL";
    for (text, line, key, found) in [
        (oidc(&format!("https://id:{PASSWORD}@idp/token")), 2, url, does_not_belong),
        (oidc(&format!("https://id:{PASSWORD}/?@idp/token")), 2, url, does_not_belong),
        (oidc(&format!("https://id%3A{PASSWORD}%40idp/token")), 2, url, does_not_belong),
        (oidc(&format!("id:{PASSWORD}@idp/token")), 2, url, does_not_belong),
        (oidc(&format!("http://idp/token?key={PASSWORD}")), 2, url, "http://idp/token?***"),
        (
            server(&format!("id:{PASSWORD}@a:1")),
            2,
            "kafka.bootstrap_servers",
            "\"***@a:1\": credentials do not belong in an address, but in kafka.security.sasl",
        ),
        (
            server(&format!("SASL_SSL://id:{PASSWORD}@a:1")),
            2,
            "kafka.bootstrap_servers",
            "\"SASL_SSL://***@a:1",
        ),
        (
            endpoint("bind"),
            6,
            "route.to.zmq.bind",
            "\"tcp://***@127.0.0.1:1\": credentials do not belong",
        ),
        (
            endpoint("connect"),
            6,
            "route.to.zmq.connect",
            "\"tcp://***@127.0.0.1:1\": credentials do not",
        ),
    ] {
        expect(&text, &[(line, key, found, "")]);
    }
    // An "@" without a user.
    assert!(read(&oidc("https://idp/realms/a@b/token")).is_ok());
}

#[test]
fn what_cannot_be_read_is_skipped_by_the_fetcher_that_can() {
    let skip =
        |fetcher: &str| format!("topics = ['t'], on_corrupt = 'skip', fetcher = '{fetcher}'");
    let config = read(&with_route(&skip("fast"), TO)).unwrap().config;
    assert_eq!(config.routes[0].source.on_corrupt, OnCorrupt::Skip);
    let mistakes = read(&with_route(&skip("librdkafka"), TO)).unwrap_err();
    let told = format!("{mistakes:?}");
    assert!(told.contains("on_corrupt") && told.contains("librdkafka"), "{told}");
}

#[test]
fn a_route_to_kafka_is_read_and_its_mistakes_are_named() {
    let file = |from: &str, to: &str| {
        format!(
            "[kafka]\nbootstrap_servers = ['a:1']\n[[route]]\nname = 'r'\nfrom.zmq = {{ {from} }}\n\
             to.kafka = {{ {to} }}\n"
        )
    };
    let pull = "socket = 'pull', bind = ['tcp://*:1'], frames = ['{topic}', '{value}']";
    let all = "topic = 'edge.{topic}', topics = ['/^edge\\.[a-z]+$/', 'other'], \
               rename = [['^a(.)$', '{1}'], ['b', 'c']], key = '{header.k}', \
               partition = '{header.p}', headers = { h = '{topic}' }, compression = 'zstd', \
               linger = '5ms', batch_size = '64KiB', in_flight_bytes = '1MiB', \
               delivery_timeout = '1m', dead_letter = 'dead', stamp = true, \
               producer = 'librdkafka'";
    let loaded = read(&file(pull, all)).unwrap();
    let route = &loaded.config.ingest[0];
    assert!(loaded.config.routes.is_empty());
    assert_eq!(route.socket.in_flight_bytes, 1 << 20);
    assert_eq!(route.on_error, zafka_bridge::zmq_to_kafka::OnError::DeadLetter("dead".to_owned()));
    assert_eq!((route.mapping.allowed.len(), route.mapping.rename.len()), (2, 2));
    assert!(route.mapping.stamp && route.producer.delivery_timeout.is_some());
    assert_eq!(route.producer.producer, ProducerKind::Librdkafka);
    let from = |key: &str| format!("route.from.zmq.{key}");
    let to = |key: &str| format!("route.to.kafka.{key}");
    let bind = "bind = ['tcp://*:1']";
    let cases: &[(&str, &str, u32, String, &str)] = &[
        (&format!("socket = 'dealer', {bind}"), "topic = 't'", 5, from("socket"), "\"dealer\""),
        (&format!("socket = 'router', {bind}"), "topic = 't'", 5, from("frames"), "missing"),
        (&format!("socket = 'sub', {bind}"), "topic = 't'", 5, from("subscribe"), "missing"),
        (
            &format!("socket = 'pull', {bind}, subscribe = ['']"),
            "topic = 't'",
            5,
            from("subscribe"),
            "not for this",
        ),
        (
            &format!("socket = 'pull', {bind}, frames = ['{{offset}}']"),
            "topic = 't'",
            5,
            from("frames"),
            "`offset` cannot",
        ),
        (
            &format!("socket = 'pull', {bind}, frames = ['{{value}}']"),
            "topics = ['t']",
            6,
            to("topic"),
            "carry no topic",
        ),
        (pull, "topic = '{topic}'", 6, to("topics"), "missing: `topic` has a field"),
        (pull, "topic = '{nope}'", 6, to("topic"), "unknown field `nope`"),
        (pull, "topic = 'a b'", 6, to("topic"), "\"a b\""),
        (pull, "topic = 'x', topics = ['y']", 6, to("topic"), "not among `topics`"),
        (pull, "topic = '__x'", 6, to("topic"), "\"__x\""),
        (pull, "topics = ['/edge/']", 6, to("topics"), "not anchored"),
        (pull, "topics = ['t'], rename = [['a']]", 6, to("rename"), "found a list"),
        (pull, "topics = ['t'], rename = [['^a', 'b']]", 6, to("rename"), "\"^a\""),
        (pull, "topics = ['t'], rename = [['a', '{1}']]", 6, to("rename"), "unknown field `1`"),
        (pull, "topics = ['t'], rename = [['a', 'b c']]", 6, to("rename"), "\"b c\""),
        (pull, "topics = ['t'], rename = [['a', '__b']]", 6, to("rename"), "\"__b\""),
        (pull, "topic = 't', headers = { 'zafka.x' = 'y' }", 6, to("headers"), "zafka.x"),
        (pull, "topic = 't', stamp = 'yes'", 6, to("stamp"), "a text"),
        (
            pull,
            "topic = 't', on_error = 'stop', dead_letter = 'd'",
            6,
            to("on_error"),
            "`dead_letter` is there too",
        ),
        (pull, "topic = 't', producer = 'quick'", 6, to("producer"), "\"quick\""),
        (
            &format!("socket = 'router', {bind}, frames = 'value'"),
            "topics = ['t'], on_error = 'stop'",
            6,
            to("on_error"),
            "the senders of a `router` are told",
        ),
    ];
    for (from, to, line, key, found) in cases {
        let mistakes = read(&file(from, to)).unwrap_err();
        let told: Vec<_> = mistakes.iter().map(|m| (m.line, m.key.clone())).collect();
        assert!(
            mistakes.len() == 1
                && told[0] == (*line as usize, key.clone())
                && mistakes[0].found.contains(found),
            "{from} | {to}: {mistakes:?}"
        );
    }
}

#[test]
fn a_record_that_would_go_round_is_a_mistake() {
    // The topics that the first route reads with its `rename`, and `to.kafka` of the second.
    let file = |reads: &str, from: &str, to: &str| {
        format!(
            "[kafka]\nbootstrap_servers = ['a:1']\n[[route]]\nname = 'out'\n\
             from.kafka = {{ topics = {reads} }}\n\
             to.zmq = {{ socket = 'pub', bind = ['tcp://*:1'] }}\n[[route]]\nname = 'in'\n\
             from.zmq = {{ socket = 'sub', {from} }}\nto.kafka = {{ {to} }}\n"
        )
    };
    let sub = "connect = ['tcp://localhost:1'], subscribe = ['']";
    let renamed = "topics = ['a'], rename = [['b', 'a']]";
    let loops = [
        ("['a']", sub, "topics = ['a']"),
        ("['a']", sub, "topic = 'a'"),
        ("['/^edge\\.[a-z]+$/']", sub, "topics = ['/^edge\\..+$/']"),
        ("['a'], rename = [['a', 'b']]", sub, renamed),
        // It grows at each turn.
        ("['/^e/']", sub, "topic = 'e.{topic}', topics = ['/^e.+$/']"),
        ("['a', 'b']", sub, "topics = ['a', 'b'], rename = [['a', 'b'], ['b', 'a']]"),
    ];
    for (reads, from, to) in loops {
        let mistakes = read(&file(reads, from, to)).unwrap_err();
        let [mistake] = &mistakes[..] else { panic!("{reads} {to}: {mistakes:?}") };
        assert_eq!((mistake.line, mistake.key.as_str()), (9, "route.from.zmq.connect"));
        assert!(mistake.found.contains("goes round"), "{mistake:?}");
    }
    let no_loops = [
        ("['a']", sub, "topic = 'copy.{topic}', topics = ['/^copy\\..+$/']"),
        ("['a']", sub, "topics = ['b'], rename = [['a', 'b']]"),
        ("['a']", "connect = ['tcp://localhost:1'], subscribe = ['b']", "topics = ['a']"),
        ("['a']", "connect = ['tcp://localhost:2'], subscribe = ['']", "topics = ['a']"),
        // Its messages have other frames.
        (
            "['a']",
            "connect = ['tcp://localhost:1'], subscribe = [''], frames = 'value'",
            "topics = ['a']",
        ),
    ];
    for (reads, from, to) in no_loops {
        assert!(read(&file(reads, from, to)).is_ok(), "{reads} {from} {to}");
    }
}

#[test]
fn other_names_in_the_routing_frame() {
    let from = |rename: &str| format!("topics = ['edge.a'], rename = {rename}");
    let config = read(&with_route(&from("[['^edge\\.(.+)$', 'x/{1}'], ['b', 'c']]"), TO)).unwrap();
    assert_eq!(config.config.routes[0].rename.len(), 2);
    let mistakes = read(&with_route(&from("[['^edge', 'x']]"), TO)).unwrap_err();
    assert_eq!(mistakes[0].key, "route.from.kafka.rename");
    let both = "topics = ['edge.a', 'b'], rename = [['b', 'edge']]";
    let warnings = read(&with_route(both, TO)).unwrap().warnings;
    assert!(warnings[0].text.contains("a subscription to \"edge\""), "{warnings:?}");
}
