//! The program as a user runs it: `relay`, `check`, mistakes, signals.

use std::fs::File;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::process::ExitStatus;

use zafka_testkit::child::{Running, command, spawn};
use zafka_testkit::{
    KafkaNode, Kind, LibzmqSub, Peer, Record, Sequence, Zafka, ports, unique, wait_until,
};

use crate::common::{OneRoute, RouteToml, endpoint, relay_toml};
use crate::flow::wait_subscribed;
use crate::{DEADLINE, ZAFKA, decoded};

/// A command run to its end: exit, standard output, standard error.
pub fn run(arguments: &[&str]) -> (ExitStatus, String, String) {
    run_with(arguments, &[])
}

/// Runs as [`run`] does, with environment variables.
pub fn run_with(arguments: &[&str], environment: &[(&str, &str)]) -> (ExitStatus, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let [out, err] = ["out", "err"].map(|name| directory.path().join(name));
    let mut zafka = command(ZAFKA);
    zafka.args(arguments).envs(environment.iter().copied());
    zafka.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let mut process = Running::adopt(spawn(zafka), &err);
    let read = |path| std::fs::read_to_string(path).unwrap();
    match process.wait_exit(DEADLINE) {
        Some(exit) => (exit, read(&out), read(&err)),
        None => panic!("zafka {arguments:?} does not end:\n{}{}", read(&out), read(&err)),
    }
}

/// `zafka check` of a text: exit code, and standard output followed by standard error.
pub fn check(text: &str, options: &[&str]) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("zafka.toml");
    std::fs::write(&file, text).unwrap();
    let (exit, out, err) = run(&[&["check", "-c", file.to_str().unwrap()], options].concat());
    assert_eq!(
        err.is_empty(),
        exit.success(),
        "what is wrong is told on standard error: {out}{err}"
    );
    (exit.code(), out + &err)
}

#[test]
#[ignore = "needs Java and Maven"]
fn relay_by_urls() {
    let admin = KafkaNode::shared().admin();
    let topic = unique("urls");
    for name in [&topic, &format!("{topic}.eu")] {
        admin.create_topic(name, 1, &[]);
        admin.produce(name, &[Record::new("k", "one"), Record::new("k", "two")]);
    }
    // Two topics, one by a pattern; a group and templates that need every kind of encoding; `+` is
    // itself.
    let bootstrap = KafkaNode::shared().bootstrap();
    let source = format!(
        "kafka://{bootstrap},{bootstrap}/{},%2F%5E{topic}%5C.%2F?group={topic}%20a+b%26\
         &start=earliest",
        topic.replace('-', "%2d")
    );
    let endpoint = endpoint();
    let destination = format!(
        "pub+{endpoint}?frames=%7Btopic%7D&frames=%26%C3%A9+{{offset}}&frames={{value}}\
         &slow_peer=block&min_peers=1"
    );
    let port = ports::free_port();
    let mut relay = Zafka::spawn(
        ZAFKA,
        &["relay", &source, &destination, "--admin", &format!("127.0.0.1:{port}")],
    );
    let sub = LibzmqSub::connect(&endpoint, &[&topic]);
    let mut messages = sub.wait_messages(4, DEADLINE);
    messages.sort();
    let expected = |topic: &str, offset: i64, value: &str| -> Vec<Vec<u8>> {
        vec![topic.into(), format!("&é+{offset}").into(), value.into()]
    };
    let eu = format!("{topic}.eu");
    let all = [(&topic, 0, "one"), (&topic, 1, "two"), (&eu, 0, "one"), (&eu, 1, "two")];
    assert_eq!(messages, all.map(|(topic, offset, value)| expected(topic, offset, value)));
    let admin_address = format!("127.0.0.1:{port}");
    wait_until("it to be ready", DEADLINE, || {
        zafka_testkit::http::get(&admin_address, "/readyz").is_ok_and(|(code, _)| code == 200)
    });
    relay.terminate();
    assert!(relay.wait_exit(DEADLINE).success(), "{}", relay.log());
    let committed = admin.committed(&format!("{topic} a+b&"));
    assert_eq!(committed.into_values().collect::<Vec<_>>(), [2, 2]);
}

#[test]
#[ignore = "needs Java and Maven"]
fn relay_by_urls_that_connect_and_that_are_local() {
    let kafka = KafkaNode::shared();
    let topic = unique("urls-local");
    kafka.admin().create_topic(&topic, 1, &[]);
    kafka.admin().produce(&topic, &[Record::new("k", "v")]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pub").display().to_string();
    let tcp = endpoint();
    let connecting = LibzmqSub::bind(&tcp, &[""]);
    // Without a group and without a policy: each relay reads the topic from its beginning, for one
    // peer.
    let source = format!("kafka://{}/{topic}?start=earliest", kafka.bootstrap());
    let _one = Zafka::spawn(ZAFKA, &["relay", &source, &format!("pub+connect+{tcp}?min_peers=1")]);
    let _other = Zafka::spawn(ZAFKA, &["relay", &source, &format!("pub+ipc://{path}?min_peers=1")]);
    let local = LibzmqSub::connect(&format!("ipc://{path}"), &[""]);
    for sub in [connecting, local] {
        let received = decoded(&sub.wait_messages(1, DEADLINE)).remove(0);
        assert_eq!((received.offset, received.value), (0, Some(b"v".to_vec())));
    }
}

#[test]
fn wrong_arguments_are_told_and_end_with_2() {
    for (arguments, told) in [
        (&["run", "--bogus"][..], "unexpected argument '--bogus'"),
        (&["bogus"], "unrecognized subcommand 'bogus'"),
        (&["run", "-c", "/nowhere/zafka.toml"], "cannot read /nowhere/zafka.toml"),
        (&["relay", "kafka://h:1/t"], "<DESTINATION>"),
        (&["relay", "kafka://h:1/t?grup=g", "pub+tcp://127.0.0.1:1"], "found the key \"grup\""),
        (&["relay", "kafka://h:1/t", "pub+udp://127.0.0.1:1"], "allowed: pub+tcp://"),
        (&["tap", "tcp://*:1"], "a wildcard can only be bound"),
        (&["tap", "tcp://127.0.0.1:1", "--frames", "xml"], "json, packed, batch, value"),
        (
            &["tap", "tcp://127.0.0.1:1", "--frames", "{topic}", "--frames", "{x}"],
            "unknown field `x`",
        ),
        (&["tap", "tcp://lo:0;127.0.0.1:1"], "SOURCE;DESTINATION"),
        (&["check", "-c", "/nowhere/zafka.toml"], "cannot read /nowhere/zafka.toml"),
        (&["check", "--log-level", "loud"], "error, warn, info"),
        (&["run", "-v", "--log-level", "info"], "cannot be used with"),
        (&["demo", "--bind", "127.0.0.1:1"], "tcp://HOST:PORT"),
    ] {
        let (exit, out, err) = run(arguments);
        assert_eq!((exit.code(), out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        assert!(err.contains(told), "{arguments:?}: {err}");
    }
}

#[test]
fn credentials_on_the_command_line_are_not_told() {
    for arguments in [
        &["kafka://id:s3cret@h:1/t", "pub+tcp://127.0.0.1:1"][..],
        &["relay", "kafka://id:s3cret@h:1/t", "pub+tcp://127.0.0.1:1"],
        &["relay", "kafka://h:1/t", "pub+tcp://id:s3cret@127.0.0.1:1"],
        &["relay", "kafka://h:1/t", "pub+tcp://127.0.0.1:1", "kafka://id:s3cret@h:1/t"],
        &["relay", "kafka://h:1/t", "pub+tcp://127.0.0.1:1", "--admin", "id:s3cret@127.0.0.1:1"],
        &["tap", "tcp://id:s3cret@127.0.0.1:1"],
        &["demo", "--bind", "tcp://id:s3cret@127.0.0.1:1"],
    ] {
        let (exit, out, err) = run(arguments);
        assert_eq!((exit.code(), out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        assert!(err.contains("***@") && !err.contains("s3cret"), "{arguments:?}: {err}");
    }
}

#[test]
fn check_tells_all_mistakes_at_once() {
    let mut wrong = relay_toml(
        "127.0.0.1",
        &[RouteToml {
            name: "r",
            from: "topics = [], strat = \"latest\"",
            to: "bind = [\"tcp://127.0.0.1\"], slow_peer = \"replay\"",
        }],
    );
    wrong.push_str("[admin]\nbind = \"${ZAFKA_TEST_IS_NOT_SET}\"\n");
    let (code, out) = check(&wrong, &[]);
    let lines: Vec<_> = out.lines().collect();
    let expected = [
        ("line 2,", "kafka.bootstrap_servers", "HOST:PORT"),
        ("line 5,", "topics", "at least"),
        ("line 5,", "strat", "start"),
        ("line 6,", "bind", "no port"),
        ("line 6,", "slow_peer", "not available in this version; allowed: \"drop\", \"block\""),
        ("line 8,", "admin.bind", "ZAFKA_TEST_IS_NOT_SET is not set"),
    ];
    assert_eq!((code, lines.len()), (Some(2), expected.len() + 1), "{out}");
    for (line, (place, key, told)) in lines.iter().zip(expected) {
        assert!(line.contains(place) && line.contains(key) && line.contains(told), "{key}: {out}");
    }
    assert!(out.ends_with(": 6 mistakes\n"), "{out}");
    // `run` tells the same, and does not start.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("zafka.toml");
    std::fs::write(&file, &wrong).unwrap();
    let (exit, _, err) = run(&["run", "-c", file.to_str().unwrap()]);
    assert!(
        exit.code() == Some(2) && expected.iter().all(|(_, _, told)| err.contains(told)),
        "{err}"
    );
}

#[test]
fn check_reaches_no_broker() {
    let bootstrap = format!("127.0.0.1:{}", ports::free_port());
    let to = "bind = [\"tcp://127.0.0.1:*\"]";
    let text = relay_toml(
        &bootstrap,
        &[RouteToml { name: "r", from: "topics = [\"t\"], group = \"g\"", to }],
    );
    assert_eq!(check(&text, &[]).0, Some(0), "without --connect nobody is asked");
    let (code, out) = check(&text, &["--connect"]);
    assert_eq!((code, out.lines().count()), (Some(1), 1), "{out}");
    assert!(out.contains(&bootstrap) && out.contains("Connection refused"), "{out}");
}

#[test]
#[ignore = "needs Java and Maven"]
fn check_lists_the_topics_of_each_route() {
    let kafka = KafkaNode::shared();
    let topic = unique("check");
    for (name, partitions) in [("", 3), (".eu", 1), (".eu.west", 2)] {
        kafka.admin().create_topic(&format!("{topic}{name}"), partitions, &[]);
    }
    let named = format!("topics = [\"{topic}\", \"{topic}-later\"], group = \"{topic}\"");
    let pattern = format!("topics = ['/^{topic}\\./']");
    let none = format!("topics = ['/^no-{topic}/']");
    let to =
        [endpoint(), endpoint(), endpoint()].map(|endpoint| format!("bind = [\"{endpoint}\"]"));
    let text = relay_toml(
        kafka.bootstrap(),
        &[
            RouteToml { name: "named", from: &named, to: &to[0] },
            RouteToml { name: "pattern", from: &pattern, to: &to[1] },
            RouteToml { name: "none", from: &none, to: &to[2] },
        ],
    );
    let (code, out) = check(&text, &["--connect"]);
    assert_eq!(code, Some(0), "{out}");
    let route = |name| {
        let part = out
            .split(&format!("route \"{name}\""))
            .nth(1)
            .unwrap_or_else(|| panic!("{name}: {out}"));
        part.split("\nroute").next().unwrap_or(part)
    };
    assert!(route("named").contains(&format!("\n  {topic}: 3 partitions\n")), "{out}");
    assert!(
        route("named").contains(&format!("warning: topic \"{topic}-later\": it does not exist")),
        "{out}"
    );
    assert!(
        route("pattern").contains(&format!("\n  {topic}.eu: 1 partition\n  {topic}.eu.west: 2")),
        "{out}"
    );
    let prefix = format!("a subscription to \"{topic}.eu\" receives \"{topic}.eu.west\" too");
    assert!(route("pattern").contains(&prefix), "{out}");
    assert!(route("none").contains("warning: no topic matches now"), "{out}");
    assert!(!kafka.admin().groups().contains_key(&topic), "the group was not joined");
}

#[test]
fn a_taken_port_is_told_and_ends_the_program() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let source = "kafka://127.0.0.1:1/t";
    let (exit, _, err) = run(&["relay", source, &format!("pub+tcp://{address}")]);
    assert_eq!(exit.code(), Some(1), "{err}");
    assert!(
        err.contains("route \"relay\"") && err.contains(&address) && err.contains("in use"),
        "{err}"
    );
}

#[test]
fn a_taken_admin_port_is_told_before_a_broker_is_asked() {
    let [taken, broker] = [(), ()].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let address = taken.local_addr().unwrap().to_string();
    let source = format!("kafka://{}/t?group=g", broker.local_addr().unwrap());
    let (exit, _, err) = run(&["relay", &source, "pub+tcp://127.0.0.1:*", "--admin", &address]);
    assert_eq!(exit.code(), Some(1), "{err}");
    assert!(err.contains(&format!("admin server: cannot listen on {address}")), "{err}");
    broker.set_nonblocking(true).unwrap();
    let asked = broker.accept().map(|(_, peer)| peer);
    assert!(asked.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "{asked:?}");
}

#[test]
fn a_malformed_rust_log_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let destination = format!("pub+tcp://{}", taken.local_addr().unwrap());
    for (text, told) in [("zafka=loud", true), ("loud", true), ("", false), ("zafka=warn", false)] {
        let arguments = ["relay", "kafka://127.0.0.1:1/t", &destination];
        let (exit, _, err) = run_with(&arguments, &[("RUST_LOG", text)]);
        assert_eq!(exit.code(), Some(1), "{err}");
        assert_eq!(err.contains("RUST_LOG is ignored"), told, "{text}: {err}");
    }
}

/// A relay that finds no broker, under a program that runs it with SIGHUP set in this way.
fn with_hangup(disposition: &str) -> Zafka {
    let source = format!("kafka://127.0.0.1:{}/t", ports::free_port());
    let arguments = [disposition, ZAFKA, "relay", &source, "pub+tcp://127.0.0.1:*"];
    let mut relay = Zafka::spawn("/usr/bin/env", &arguments);
    relay.wait_log("bound", DEADLINE);
    relay
}

#[test]
fn the_end_of_its_terminal_ends_it_unless_it_is_to_outlive_that() {
    let mut relay = with_hangup("--default-signal=HUP");
    relay.process().hang_up();
    assert_eq!(relay.wait_exit(DEADLINE).code(), Some(0), "{}", relay.log());
    assert!(relay.log().contains("SIGHUP: sending what is left"), "{}", relay.log());

    let mut relay = with_hangup("--ignore-signal=HUP");
    relay.process().hang_up();
    relay.terminate();
    assert_eq!(relay.wait_exit(DEADLINE).code(), Some(0), "{}", relay.log());
    assert!(relay.log().contains("SIGTERM: sending what is left"), "{}", relay.log());
    assert!(!relay.log().contains("SIGHUP"), "{}", relay.log());
}

#[test]
#[ignore = "needs script (util-linux)"]
fn the_log_is_colored_if_the_terminal_takes_it() {
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let admin = taken.local_addr().unwrap();
    // It warns of the address, and ends because it is taken.
    let line = format!("{ZAFKA} relay kafka://127.0.0.1:1/t pub+tcp://127.0.0.1:* --admin {admin}");
    for (variables, colored) in [
        (&[("TERM", "xterm")][..], true),
        (&[("TERM", "xterm"), ("NO_COLOR", "")], true),
        (&[("TERM", "xterm"), ("NO_COLOR", "1")], false),
        (&[("TERM", "dumb")], false),
    ] {
        let mut script = command("script");
        script.args(["-qec", &line, "/dev/null"]).env_remove("NO_COLOR").env_remove("RUST_LOG");
        let output = script.envs(variables.iter().copied()).output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(shown.contains("no authentication"), "{variables:?}: {output:?}");
        assert_eq!(shown.contains('\u{1b}'), colored, "{variables:?}: {shown}");
    }
}

#[test]
fn an_admin_server_that_others_reach_is_told_once() {
    let (broker, admin) = (ports::free_port(), format!("0.0.0.0:{}", ports::free_port()));
    let bootstrap = format!("127.0.0.1:{broker}");
    let to = "bind = [\"tcp://127.0.0.1:*\"]";
    let routes = relay_toml(&bootstrap, &[RouteToml { name: "r", from: "topics = [\"t\"]", to }]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("zafka.toml");
    std::fs::write(&file, format!("{routes}[admin]\nbind = \"{admin}\"\n")).unwrap();
    let source = format!("kafka://{bootstrap}/t");
    for arguments in [
        &["run", "-c", file.to_str().unwrap()][..],
        &["relay", &source, "pub+tcp://127.0.0.1:*", "--admin", &admin],
    ] {
        let mut relay = Zafka::spawn(ZAFKA, arguments);
        relay.wait_log("admin server listens", DEADLINE);
        assert_eq!(relay.log().matches("no authentication").count(), 1, "{}", relay.log());
    }
}

#[test]
#[ignore = "needs Java and Maven"]
fn a_wildcard_port_is_told() {
    let kafka = KafkaNode::shared();
    let topic = unique("wildcard");
    kafka.admin().create_topic(&topic, 1, &[]);
    let from = format!("topics = [\"{topic}\"], start = \"earliest\"");
    let to = "bind = [\"tcp://127.0.0.1:*\", \"tcp://127.0.0.1:0\"], min_peers = 1";
    let text = relay_toml(kafka.bootstrap(), &[RouteToml { name: "r", from: &from, to }]);
    let mut relay = Zafka::run(ZAFKA, &text);
    let status = relay
        .wait_status("the route", DEADLINE, |status| status["routes"][0]["endpoints"].is_array());
    let endpoints: Vec<String> =
        serde_json::from_value(status["routes"][0]["endpoints"].clone()).unwrap();
    let port =
        |endpoint: &str| endpoint.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
    assert!(matches!(&endpoints[..], [one, other] if one != other), "{endpoints:?}");
    kafka.admin().produce(&topic, &[Record::new("k", "v")]);
    for endpoint in &endpoints {
        assert!(port(endpoint).is_some_and(|port| port > 0), "{endpoint}");
        assert!(relay.log().contains(&format!("endpoint={endpoint}")), "{}", relay.log());
    }
    LibzmqSub::connect(&endpoints[1], &[""]).wait_messages(1, DEADLINE);
}

#[test]
#[ignore = "needs Java and Maven"]
fn either_signal_ends_it_with_0() {
    let kafka = KafkaNode::shared();
    let topic = unique("signals");
    kafka.admin().create_topic(&topic, 1, &[]);
    let from = format!("topics = [\"{topic}\"], group = \"{topic}\"");
    for signal in [Running::terminate, Running::interrupt] {
        let mut relay = OneRoute::lossless(kafka.bootstrap(), &from).relay;
        relay.wait_ready();
        signal(relay.process());
        assert!(relay.wait_exit(DEADLINE).success(), "{}", relay.log());
    }
    wait_until("the group to be left", DEADLINE, || {
        kafka.admin().group(&topic).is_ok_and(|group| group.members.is_empty())
    });
}

#[test]
#[ignore = "needs Java and Maven, and Python"]
fn a_second_signal_ends_it_at_once() {
    let kafka = KafkaNode::shared();
    let topic = unique("second-signal");
    kafka.admin().create_topic(&topic, 1, &[]);
    let endpoint = endpoint();
    let from = format!("topics = [\"{topic}\"], group = \"{topic}\", start = \"earliest\"");
    let to = format!("bind = [\"{endpoint}\"], slow_peer = \"block\", min_peers = 1");
    let text = relay_toml(kafka.bootstrap(), &[RouteToml { name: "r", from: &from, to: &to }]);
    // So long that nothing but the second signal can be what ends it.
    let mut relay = Zafka::run(ZAFKA, &format!("shutdown_timeout = \"1h\"\n{text}"));
    let mut peer = Peer::spawn(Kind::Python, &endpoint, &[""], 0);
    wait_subscribed(&mut relay, 0, 1);
    peer.stop();
    kafka.admin().produce_sequence(&Sequence { value_size: 1000, ..Sequence::new(&topic, 40_000) });
    relay.wait_status("a ring that does not drain", DEADLINE, |status| {
        status["routes"][0]["ring_bytes"].as_u64() > Some(8 << 20)
    });
    relay.terminate();
    relay.wait_log("a second signal ends at once", DEADLINE);
    assert!(relay.process().is_running());
    relay.terminate();
    assert_eq!(relay.wait_exit(DEADLINE).code(), Some(1), "{}", relay.log());
}
