//! The Python client with keys and tokens, at a route of ours.

use std::fs;

use serde_json::json;
use zafka_testkit::child::{Running, command};
use zafka_testkit::issuer::AUDIENCE;
use zafka_testkit::paths::RunDir;
use zafka_testkit::peers::python_with_client;
use zafka_testkit::{Issuer, KafkaNode, Zafka, unique, wait_until};

use super::{Keys, renewals};
use crate::common::endpoint;
use crate::ingest::log;
use crate::{DEADLINE, ZAFKA};

/// Sends numbers until the file STOP is there, by threads or on asyncio, and prints of each NUMBER
/// PARTITION OFFSET. Tokens are those of the issuer, each time a new one, or a forged one.
const NUMBERS: &str = r#"
import asyncio, json, logging, os, sys, time, urllib.request
from zafka import AsyncProducer, Producer, Refused

logging.basicConfig(level=logging.DEBUG)
kind, endpoint, topic, server_key, token_url, stop = sys.argv[1:]

def fetch():
    with urllib.request.urlopen(token_url, b"grant_type=client_credentials", timeout=30) as answer:
        token = json.load(answer)["access_token"]
    return token.rsplit(".", 1)[0] + "." + "A" * 86 if kind == "forger" else token

async def fetch_async():
    return await asyncio.to_thread(fetch)

def tell(number, ack):
    print(number, ack.partition, ack.offset, flush=True)

def threads():
    with Producer(endpoint, topic=topic, server_key=server_key, token=fetch) as producer:
        print(producer, producer._sender._connection._identity, flush=True)
        number = 0
        while not os.path.exists(stop):
            tell(number, producer.send(b"%d" % number).result())
            number += 1
            time.sleep(0.05)

async def loop():
    async with AsyncProducer(
        endpoint, topic=topic, server_key=server_key, token=fetch_async
    ) as producer:
        number = 0
        while not os.path.exists(stop):
            tell(number, await producer.send_and_wait(b"%d" % number))
            number += 1
            await asyncio.sleep(0.05)

try:
    asyncio.run(loop()) if kind == "asyncio" else threads()
except Refused as error:
    print("Refused:", error)
"#;

/// A relay with a route to one topic, for those with a token of its issuer.
struct Stage {
    relay: Zafka,
    keys: Keys,
    issuer: Issuer,
    topic: String,
    endpoint: String,
    logs: RunDir,
}

impl Stage {
    /// Leases last for `max_lease`, and tokens for ten minutes.
    fn new(max_lease: &str) -> Self {
        let (kafka, topic) = (KafkaNode::shared(), unique("python"));
        kafka.admin().create_topic(&topic, 1, &[]);
        let (issuer, keys, endpoint) = (Issuer::start(), Keys::make(&["relay"], &[]), endpoint());
        issuer.grant("alice", 600, &json!({ "role": "edge" }));
        let rules = format!(
            "max_lease = {max_lease:?}\n[[identity.issuer]]\nissuer = {:?}\n\
             audience = [{AUDIENCE:?}]\n\
             [[identity.access]]\nwho = {{ role = \"edge\" }}\nwrite = [{topic:?}]",
            issuer.name()
        );
        let toml = format!(
            "[kafka]\nbootstrap_servers = [\"{}\"]\n{}[[route]]\nname = \"in\"\n\
             from.zmq = {{ socket = \"router\", bind = [\"{endpoint}\"], \
             frames = [\"{{id}}\", \"{{topic}}\", \"{{key}}\", \"{{value}}\"] }}\n\
             to.kafka = {{ topics = [{topic:?}] }}\n",
            kafka.bootstrap(),
            keys.toml(&rules)
        );
        let relay = Zafka::run_with(ZAFKA, &toml, &[("RUST_LOG", "trace")]);
        Self { relay, keys, issuer, topic, endpoint, logs: RunDir::new("python-identity") }
    }

    fn stop_file(&self) -> String {
        self.logs.join("stop").display().to_string()
    }

    fn start(&self, kind: &str) -> Running {
        let mut python = command(python_with_client());
        let (server, url) = (self.keys.public("relay"), self.issuer.token_url());
        python.args(["-c", NUMBERS, kind, &self.endpoint, &self.topic]).arg(server);
        python.args([url, self.stop_file()]);
        Running::start(python, &self.logs.join(kind))
    }
}

/// The text with which each token of the issuer begins: `{"alg` in base64.
const TOKEN: &str = "eyJhbGci";

fn numbers(python: &Running) -> Vec<[i64; 3]> {
    let log = python.log();
    let lines = log.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    lines
        .map(|line| {
            let parts: Vec<i64> = line.split(' ').map(|part| part.parse().unwrap()).collect();
            <[i64; 3]>::try_from(parts).unwrap()
        })
        .collect()
}

#[test]
#[ignore = "needs Java, Maven and Python"]
fn the_python_client_keeps_its_lease() {
    let stage = Stage::new("6s");
    let mut clients = ["threads", "asyncio"].map(|kind| stage.start(kind));
    let mut forger = stage.start("forger");
    // Each has a key of its own. What is renewed is a lease that lives.
    wait_until("each lease to be renewed twice", DEADLINE, || {
        for client in &mut clients {
            assert!(client.is_running(), "{}", client.log());
        }
        let times = renewals(&stage.relay);
        times.len() == clients.len() && times.values().all(|&times| times >= 2)
    });
    fs::write(stage.stop_file(), "").unwrap();
    let mut told = Vec::new();
    for client in &mut clients {
        let exit = client.wait_exit(DEADLINE);
        assert!(exit.is_some_and(|exit| exit.success()), "{}", client.log());
        assert!(!client.log().contains(TOKEN), "a token is in the client's log: {}", client.log());
        told.extend(numbers(client));
    }
    let exit = forger.wait_exit(DEADLINE);
    let text = forger.log();
    assert!(exit.is_some_and(|exit| exit.success()), "{text}");
    assert!(text.contains("Refused: the relay refuses the key or the token"), "{text}");
    assert!(numbers(&forger).is_empty() && !text.contains(TOKEN), "{text}");
    assert!(!stage.relay.log().contains(TOKEN), "a token is in the relay's log");
    let log = log(KafkaNode::shared().bootstrap(), &stage.topic, told.len());
    for [number, partition, offset] in told {
        assert_eq!(log.get(&(partition, offset)), Some(&number.to_string().into_bytes()));
    }
}
