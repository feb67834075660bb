//! A relay that connects to CURVE servers of libzmq (pyzmq): it hears an XPUB, and serves a SUB.

use zafka_kafka::embedded::EmbeddedBroker;
use zafka_testkit::Zafka;

use super::{Curve, Keys};
use crate::common::endpoint;
use crate::{DEADLINE, ZAFKA};

#[test]
#[ignore = "needs Python"]
fn servers_of_libzmq_are_known_by_their_keys() {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic("t", 1).unwrap();
    let keys = Keys::make(&["relay", "hub", "sink", "other"], &["relay"]);
    let known = keys.path("keys.d");
    // They let in the relay by its key.
    let server = |kind: &str, endpoint: &str, name: &str, word: &str| {
        let ours = keys.secret(name);
        let [ours, known] = [&ours, &known].map(|path| path.to_str().unwrap());
        Curve::start(kind, endpoint, &["--ours", ours, "--known", known, word])
    };
    let [hub_endpoint, sink_endpoint] = [endpoint(), endpoint()];
    let hub = server("XPUB", &hub_endpoint, "hub", "t|value");
    let sink = server("SUB", &sink_endpoint, "sink", "");
    [&hub, &sink].iter().for_each(|server| server.wait_event("LISTENING"));
    let known_as = |endpoint: &str, name: &str| {
        let file = keys.public(name).display().to_string();
        format!("connect = [{{ endpoint = {endpoint:?}, server_key_file = {file:?} }}]")
    };
    let hears = |route: &str, name: &str| {
        format!(
            "[[route]]\nname = {route:?}\n\
             from.zmq = {{ socket = \"sub\", {}, subscribe = [\"\"], \
             frames = [\"{{topic}}\", \"{{value}}\"] }}\nto.kafka = {{ topics = [\"t\"] }}\n",
            known_as(&hub_endpoint, name)
        )
    };
    let rules = "[[identity.access]]\nwho = { iss = \"keys\", sub = [\"hub\", \"other\"] }\n\
                 write = [\"t\"]\n\
                 [[identity.access]]\nwho = { iss = \"keys\", sub = \"sink\" }\nread = [\"t\"]\n";
    let toml = format!(
        "[kafka]\nbootstrap_servers = [{:?}]\n{}{}{}[[route]]\nname = \"out\"\n\
         from.kafka = {{ topics = [\"t\"], start = \"earliest\" }}\n\
         to.zmq = {{ socket = \"pub\", {}, slow_peer = \"block\", min_peers = 1 }}\n",
        broker.bootstrap(),
        keys.toml(rules),
        hears("in", "hub"),
        // Who has another key than the file says is not talked to.
        hears("misled", "other"),
        known_as(&sink_endpoint, "sink"),
    );
    let mut relay = Zafka::run(ZAFKA, &toml);
    let frames = &sink.wait_messages(1)[0];
    assert_eq!((&*frames[0], &*frames[3]), ("t", "value"));
    let status = relay.wait_status("it is told", DEADLINE, |status| {
        status["ingest"][0]["counters"]["acknowledged"] == 1
    });
    assert_eq!(status["ingest"][1]["senders_total"], 0, "{status}");
    assert_eq!((hub.times_in(), sink.times_in()), (1, 1));
}
