use super::*;

use zafka_envelope::Preset;
use zafka_kafka::config::{Start, TopicSelector};
use zafka_sockets::config::{EndpointConfig, SlowPeer};

const FROM: &str = "kafka://127.0.0.1:9092/orders";
const TO: &str = "pub+tcp://127.0.0.1:5556";

fn route(source: &str, destination: &str) -> (Config, RouteConfig) {
    let config =
        relay(source, destination, None).unwrap_or_else(|e| panic!("{source} {destination}: {e}"));
    let route = config.routes[0].clone();
    (config, route)
}

#[test]
fn reads_sources() {
    let (config, route) =
        route("kafka://a:1,[::1]:2/x,%2F%5Ep%5C.%2F?group=a+b%20c&start=earliest", TO);
    assert_eq!(config.cluster.bootstrap_servers, ["a:1", "[::1]:2"]);
    assert!(matches!(&route.source.topics[0], TopicSelector::Name(name) if name == "x"));
    assert!(matches!(
        &route.source.topics[1],
        TopicSelector::Pattern(pattern) if pattern.as_str() == "^p\\."
    ));
    assert_eq!(route.source.group.unwrap().id, "a+b c");
    assert_eq!(route.source.start, Start::Earliest);
}

#[test]
fn reads_destinations() {
    for (url, bind, connect) in [
        ("pub+tcp://127.0.0.1:5556", "tcp://127.0.0.1:5556", ""),
        ("pub+tcp://*:*", "tcp://*:*", ""),
        ("pub+connect+tcp://h:1", "", "tcp://h:1"),
        ("pub+ipc:///tmp/a%20b", "ipc:///tmp/a b", ""),
        ("pub+connect+ipc:///tmp/a", "", "ipc:///tmp/a"),
    ] {
        let (_, route) = route(FROM, url);
        let text = |endpoints: Vec<EndpointConfig>| {
            endpoints.iter().map(ToString::to_string).collect::<String>()
        };
        assert_eq!(
            (text(route.socket.bind).as_str(), text(route.socket.connect).as_str()),
            (bind, connect),
            "{url}"
        );
    }
    let (_, route) = route(FROM, &format!("{TO}?frames=packed&slow_peer=block&min_peers=1"));
    assert_eq!(route.frames, FramePlan::preset(Preset::Packed));
    assert_eq!((route.socket.slow_peer, route.socket.min_peers), (SlowPeer::Block, 1));
}

#[test]
fn a_list_repeats_its_key() {
    let (_, two) = route(FROM, &format!("{TO}?frames=%7Btopic%7D&frames={{value}}"));
    assert_eq!(two.frames, FramePlan::parse(&["{topic}", "{value}"]).unwrap());
    let (_, one) = route(FROM, &format!("{TO}?frames=%7Bvalue%7D"));
    assert_eq!(one.frames, FramePlan::parse(&["{value}"]).unwrap());
}

#[test]
fn says_what_is_wrong() {
    for (source, destination, key, found, allowed) in [
        ("http://a:1/t", TO, "SOURCE", "http://a:1/t", "kafka://HOST:PORT"),
        ("kafka://a/t", TO, "SOURCE brokers", "no port", "HOST:PORT"),
        ("kafka://a:1", TO, "SOURCE topics", "empty", "a topic's name"),
        ("kafka://a:1/t,", TO, "SOURCE topics", "empty", "a topic's name"),
        ("kafka://a:1/t%2", TO, "SOURCE topics", "hexadecimal", "%25"),
        ("kafka://a:1/%ff", TO, "SOURCE topics", "not UTF-8", "UTF-8"),
        ("kafka://a:1/t?start=soon", TO, "SOURCE start", "\"soon\"", "earliest"),
        ("kafka://a:1/t?group=a&group=b", TO, "SOURCE group", "2 times", "once"),
        (
            "kafka://a:1/t?isolation=x",
            TO,
            "SOURCE",
            "\"isolation\"",
            "everything else wants a file",
        ),
        ("kafka://a:1/t?frames=json", TO, "SOURCE", "belongs to DESTINATION", "group, start"),
        (FROM, "tcp://a:1", "DESTINATION", "tcp://a:1", "pub+tcp://"),
        (FROM, "push+tcp://a:1", "DESTINATION", "push+tcp://a:1", "pub+tcp://"),
        (FROM, "pub+connect+tcp://*:1", "DESTINATION", "wildcard", "tcp://HOST:PORT"),
        (
            FROM,
            "pub+tcp://a:1?slow_peer=replay",
            "DESTINATION slow_peer",
            "not available",
            "\"block\"",
        ),
        (FROM, "pub+tcp://a:1?frames=xml", "DESTINATION frames", "\"xml\"", "\"json\""),
        (FROM, "pub+tcp://a:1?frames={nope}", "DESTINATION frames", "unknown field `nope`", ""),
        (FROM, "pub+tcp://a:1?min_peers=x", "DESTINATION min_peers", "\"x\"", "whole number"),
        (
            FROM,
            "pub+tcp://a:1?ring_bytes=1",
            "DESTINATION",
            "\"ring_bytes\"",
            "everything else wants a file",
        ),
    ] {
        let Err(ConfigError::Mistakes { mistakes, .. }) = relay(source, destination, None) else {
            panic!("{source} {destination}")
        };
        let [mistake] = mistakes.as_slice() else { panic!("{source} {destination}: {mistakes:?}") };
        assert_eq!(mistake.key, key, "{mistake}");
        assert!(mistake.found.contains(found), "{found}: {mistake}");
        assert!(mistake.allowed.contains(allowed), "{allowed}: {mistake}");
    }
}

#[test]
fn mistakes_of_both_urls_are_told_together() {
    let error = relay("kafka://a/t?start=x", "pub+tcp://a", None).unwrap_err();
    assert!(
        error.to_string().starts_with("the command line has 3 mistakes:\n  SOURCE brokers: "),
        "{error}"
    );
}

#[test]
fn credentials_are_refused_and_never_shown() {
    for (source, destination, key, found) in [
        (
            "kafka://id:s3cret@a:1/t",
            TO,
            "SOURCE",
            "\"kafka://***@a:1/t\": credentials do not belong",
        ),
        (
            "kafka://id:s3/c,r?e&t@a:1/t?group=g",
            TO,
            "SOURCE",
            "\"kafka://***@a:1/t?***\": credentials",
        ),
        ("kafka://id:s3?start=cr&et%40a:1/t", TO, "SOURCE", "\"kafka://***@a:1/t\": credentials"),
        ("sasl_ssl://id:s3cret@a:1/t", TO, "SOURCE", "\"sasl_ssl://***@a:1/t\": credentials"),
        ("http://a:1/t?password=s3cret", TO, "SOURCE", "\"http://a:1/t?***\""),
        (FROM, "pub+tcp://id:s3cret@a:1", "DESTINATION", "\"pub+tcp://***@a:1\": credentials"),
        (FROM, "tcp://id:s3cret@a:1", "DESTINATION", "\"tcp://***@a:1\": credentials"),
    ] {
        let Err(ConfigError::Mistakes { mistakes, .. }) = relay(source, destination, None) else {
            panic!("{source} {destination}")
        };
        let [mistake] = mistakes.as_slice() else { panic!("{source} {destination}: {mistakes:?}") };
        assert_eq!(mistake.key, key, "{mistake}");
        assert!(mistake.found.contains(found), "{found}: {mistake}");
        assert!(!mistake.to_string().contains("s3"), "{mistake}");
    }
    // Cases in which an "@" is nothing secret.
    let (_, route) =
        route("kafka://a:1/t?group=a@b", "pub+ipc:///tmp/a@b?frames={topic}@&frames={value}");
    assert_eq!(route.source.group.unwrap().id, "a@b");
    assert_eq!(route.socket.bind[0].to_string(), "ipc:///tmp/a@b");
}

#[test]
fn urls_of_the_way_back() {
    let read = |source: &str, destination: &str| relay(source, destination, None);
    let config = read(
        "pull+tcp://127.0.0.1:5557?frames={topic}&frames={value}",
        "kafka://127.0.0.1:9092/edge.{topic}?topics=/^edge\\.[a-z]+$/",
    )
    .unwrap();
    let route = &config.ingest[0];
    assert!(config.routes.is_empty());
    assert_eq!(config.cluster.bootstrap_servers, ["127.0.0.1:9092"]);
    assert_eq!(route.socket.kind, zafka_sockets::InboundKind::Pull);
    assert_eq!((route.frames.frames(), route.mapping.allowed.len()), (2, 1));
    let config = read("sub+connect+tcp://h:1?subscribe=a%2F&subscribe=", "kafka://b:1/t").unwrap();
    let kind = &config.ingest[0].socket.kind;
    assert_eq!(*kind, zafka_sockets::InboundKind::Sub(vec![b"a/".to_vec(), Vec::new()]));
    for (source, destination, found) in [
        ("router+tcp://*:1", "kafka://b:1/t", "SOURCE frames: missing"),
        ("sub+tcp://*:1", "kafka://b:1/t", "SOURCE subscribe: missing"),
        ("pull+tcp://*:1?subscribe=a", "kafka://b:1/t", "not for this socket type"),
        ("pull+udp://*:1", "kafka://b:1/t", "pull+udp"),
        ("pull+tcp://*:1?group=g", "kafka://b:1/t", "\"group\""),
        ("pull+tcp://*:1", "kafka://b:1/{topic}", "DESTINATION topics: missing"),
        ("pull+tcp://*:1?frames={value}", "kafka://b:1/{topic}?topics=t", "carry no topic"),
        ("pull+tcp://*:1", "kafka://b:1/a%20b", "not the name of a topic"),
        ("pull+tcp://*:1", "kafka://b:1/{topic}?topics=/a/", "not anchored"),
        ("pull+tcp://*:1", "pub+tcp://*:2", "DESTINATION: found \"pub+tcp://*:2\""),
    ] {
        let error = read(source, destination).unwrap_err().to_string();
        assert!(error.contains(found), "{source} {destination}: {error}");
    }
}
