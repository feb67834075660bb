//! SIGHUP: the file is taken anew, and what does not differ runs on.

use std::net::TcpListener;

use zafka_testkit::child::{command, spawn};
use zafka_testkit::{KafkaNode, LibzmqSub, Record, Zafka, ports, unique, wait_until};

use crate::common::{RouteToml, endpoint, relay_toml};
use crate::{DEADLINE, ZAFKA, decoded};

/// A file with these routes: name, and the endpoint to bind. No broker is there.
fn file(broker: u16, routes: &[(&str, &str)]) -> String {
    let binds: Vec<_> = routes.iter().map(|(_, bind)| format!("bind = [\"{bind}\"]")).collect();
    let routes: Vec<_> = routes
        .iter()
        .zip(&binds)
        .map(|((name, _), to)| RouteToml { name, from: "topics = [\"t\"]", to })
        .collect();
    relay_toml(&format!("127.0.0.1:{broker}"), &routes)
}

/// Name and endpoint of each route, as the relay has them.
fn routes(relay: &Zafka) -> Vec<(String, String)> {
    let status = relay.status().expect("a status");
    let routes = status["routes"].as_array().expect("routes");
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let mut routes: Vec<_> =
        routes.iter().map(|route| (text(&route["name"]), text(&route["endpoints"][0]))).collect();
    routes.sort();
    routes
}

/// Waits until a text is in the log for the `n`th time.
fn wait_log_times(relay: &mut Zafka, text: &str, n: usize) {
    wait_until(&format!("{text:?} {n} times in the log"), DEADLINE, || {
        relay.log().matches(text).count() >= n
    });
}

/// A port of its own shows that a route runs on: it would be another one after a start.
const ANY_PORT: &str = "tcp://127.0.0.1:*";

#[test]
fn routes_come_change_and_go_and_the_others_run_on() {
    let broker = ports::free_port();
    let [before, after, new] = [(); 3].map(|()| endpoint());
    let old = [("kept", ANY_PORT), ("moved", &before), ("gone", ANY_PORT)];
    let mut relay = Zafka::run(ZAFKA, &file(broker, &old));
    relay.wait_status("three routes", DEADLINE, |status| status["routes"][2].is_object());
    let kept = routes(&relay)[1].clone();

    // One takes over the endpoint that another had.
    relay.reload(&file(broker, &[("new", &before), ("kept", ANY_PORT), ("moved", &after)]));
    relay.wait_log("is reloaded: 3 of 4 routes differ", DEADLINE);
    let pair = |name: &str, endpoint: &String| (name.to_owned(), endpoint.clone());
    assert_eq!(routes(&relay), [kept.clone(), pair("moved", &after), pair("new", &before)]);
    let log = relay.log();
    for line in ["route removed", "route added", "route changed"] {
        assert_eq!(log.matches(line).count(), 1, "{line}: {log}");
    }
    assert!(log.contains("route.to.zmq.bind"), "{log}");

    // A mistake keeps all of it, and so does what only a restart can change.
    let now = routes(&relay);
    let wrong = file(broker, &[("kept", "tcp://127.0.0.1"), ("moved", &new)]);
    relay.reload(&wrong);
    relay.wait_log("the configuration is not reloaded, the old one stays", DEADLINE);
    assert!(relay.log().contains("line 6, column"), "{}", relay.log());
    relay.reload(&file(ports::free_port(), &[("moved", &new)]));
    relay.wait_log("kafka.bootstrap_servers need a restart", DEADLINE);
    assert_eq!(routes(&relay), now);

    // As it is: nothing is to be done.
    relay.reload(&file(broker, &[("kept", ANY_PORT), ("moved", &after), ("new", &before)]));
    relay.wait_log("is reloaded: 0 of 3 routes differ", DEADLINE);
    assert_eq!(routes(&relay), now);

    relay.terminate();
    assert_eq!(relay.wait_exit(DEADLINE).code(), Some(0), "{}", relay.log());
    assert!(relay.log().contains("SIGTERM: sending what is left"), "{}", relay.log());
}

#[test]
fn a_route_that_cannot_be_started_goes_on_as_it_was() {
    let broker = ports::free_port();
    let before = endpoint();
    let mut relay = Zafka::run(ZAFKA, &file(broker, &[("moved", &before), ("kept", ANY_PORT)]));
    relay.wait_status("two routes", DEADLINE, |status| status["routes"][1].is_object());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let after = format!("tcp://{}", taken.local_addr().unwrap());
    let new = file(broker, &[("moved", &after), ("kept", ANY_PORT)]);
    let was = routes(&relay);
    relay.reload(&new);
    relay.wait_log("is reloaded in part: 1 of 2 routes", DEADLINE);
    assert!(relay.log().contains("the route goes on as it was"), "{}", relay.log());
    assert_eq!(routes(&relay), was);
    // The same file once more, when that is mended.
    drop(taken);
    relay.reload(&new);
    relay.wait_log("is reloaded: 1 of 2 routes differ", DEADLINE);
    assert_eq!(routes(&relay), [was[0].clone(), ("moved".to_owned(), after)]);
}

#[test]
fn one_reload_after_the_other_and_the_end_during_one() {
    let broker = ports::free_port();
    let mut relay = Zafka::run(ZAFKA, &file(broker, &[("r", ANY_PORT)]));
    relay.wait_status("a route", DEADLINE, |status| status["routes"][0].is_object());
    for n in 1..=3 {
        let name = format!("r{n}");
        relay.reload(&file(broker, &[(&name, ANY_PORT)]));
        wait_log_times(&mut relay, "is reloaded", n);
        assert_eq!(routes(&relay)[0].0, name);
    }
    relay.reload(&file(broker, &[("last", ANY_PORT)]));
    relay.terminate();
    assert_eq!(relay.wait_exit(DEADLINE).code(), Some(0), "{}", relay.log());
}

#[test]
#[ignore = "needs script (util-linux)"]
fn the_end_of_its_terminal_is_no_request_to_reload() {
    let directory = tempfile::tempdir().unwrap();
    let [config, log] = ["zafka.toml", "log"].map(|name| directory.path().join(name));
    std::fs::write(&config, file(ports::free_port(), &[("r", ANY_PORT)])).unwrap();
    let line = format!("exec {ZAFKA} run -c {} 2> {}", config.display(), log.display());
    let mut script = command("script");
    let mut terminal = spawn({
        script.args(["-qec", &line, "/dev/null"]);
        script
    });
    let has = |text: &str| std::fs::read_to_string(&log).is_ok_and(|log| log.contains(text));
    wait_until("the relay", DEADLINE, || has("relays"));
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    wait_until("the end", DEADLINE, || has("SIGHUP: sending what is left"));
}

#[test]
#[ignore = "needs Java and Maven"]
fn a_changed_route_goes_on_where_it_was() {
    let kafka = KafkaNode::shared();
    let topic = unique("reload");
    kafka.admin().create_topic(&topic, 1, &[]);
    let from = format!("topics = [\"{topic}\"], group = \"{topic}\", start = \"earliest\"");
    let bind = endpoint();
    let text = |more: &str| {
        let to = format!("bind = [\"{bind}\"], slow_peer = \"block\", min_peers = 1{more}");
        relay_toml(kafka.bootstrap(), &[RouteToml { name: "r", from: &from, to: &to }])
    };
    let mut relay = Zafka::run(ZAFKA, &text(""));
    let sub = LibzmqSub::connect(&bind, &[""]);
    let produce = |values: std::ops::Range<i32>| {
        let records: Vec<_> = values.map(|n| Record::new("k", n.to_string())).collect();
        kafka.admin().produce(&topic, &records);
    };
    produce(0..10);
    sub.wait_messages(10, DEADLINE);
    relay.reload(&text(", ring_bytes = \"1MiB\""));
    relay.wait_log("is reloaded: 1 of 1 routes differ", DEADLINE);
    produce(10..20);
    let received = decoded(&sub.wait_messages(20, DEADLINE));
    let offsets: Vec<_> = received.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (0..20).collect::<Vec<_>>(), "nothing is lost or repeated");
}
