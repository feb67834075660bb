//! Parts that the modules share: configurations, and a relay with one route.

use std::fmt;

use serde_json::Value;
use zafka_testkit::{LibzmqSub, Zafka, ports};

use crate::ZAFKA;

/// The fetcher, in tests that are run with both; as text its key of `from.kafka`.
#[derive(Clone, Copy, Debug)]
pub enum Fetcher {
    Fast,
    Librdkafka,
}

impl fmt::Display for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Fast => "fast",
            Self::Librdkafka => "librdkafka",
        };
        write!(f, "fetcher = {name:?}")
    }
}

/// A route with the keys of its two sides, as inline TOML without the braces.
pub struct RouteToml<'a> {
    pub name: &'a str,
    pub from: &'a str,
    pub to: &'a str,
}

/// A configuration with these routes.
pub fn relay_toml(bootstrap: &str, routes: &[RouteToml<'_>]) -> String {
    let mut text = format!("[kafka]\nbootstrap_servers = [\"{bootstrap}\"]\n");
    for RouteToml { name, from, to } in routes {
        text.push_str(&format!(
            "[[route]]\nname = \"{name}\"\nfrom.kafka = {{ {from} }}\n\
             to.zmq = {{ socket = \"pub\", {to} }}\n"
        ));
    }
    text
}

/// A free endpoint to bind.
pub fn endpoint() -> String {
    format!("tcp://127.0.0.1:{}", ports::free_port())
}

/// A relay with one route, which binds one endpoint.
pub struct OneRoute {
    pub relay: Zafka,
    endpoint: String,
    toml: String,
}

impl OneRoute {
    /// The keys of `from.kafka`, and those of `to.zmq` but socket and bind.
    pub fn start(bootstrap: &str, from: &str, to: &str) -> Self {
        Self::start_with("", bootstrap, from, to)
    }

    /// Starts as [`Self::start`] does, with lines that come before the tables.
    pub fn start_with(top: &str, bootstrap: &str, from: &str, to: &str) -> Self {
        let endpoint = endpoint();
        let to = format!("bind = [\"{endpoint}\"], {to}");
        let toml =
            top.to_owned() + &relay_toml(bootstrap, &[RouteToml { name: "orders", from, to: &to }]);
        Self { relay: Zafka::run(ZAFKA, &toml), endpoint, toml }
    }

    /// Starts as [`Self::start`] does, but nothing is fetched without a subscriber and none is
    /// skipped.
    pub fn lossless(bootstrap: &str, from: &str) -> Self {
        Self::start(bootstrap, from, "slow_peer = \"block\", min_peers = 1")
    }

    /// Starts it again on the same endpoint; one that still runs is killed.
    pub fn start_again(&mut self) {
        self.relay.kill9();
        self.relay = Zafka::run(ZAFKA, &self.toml);
    }

    /// The endpoint it binds.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A SUB with these subscriptions.
    pub fn subscribe(&self, prefixes: &[&str]) -> LibzmqSub {
        LibzmqSub::connect(&self.endpoint, prefixes)
    }
}

/// A counter of the first route in `/status`.
pub fn counter(status: &Value, name: &str) -> u64 {
    let counters = &status["routes"][0]["counters"];
    counters[name].as_u64().unwrap_or_else(|| panic!("no counter {name} in {counters}"))
}

/// A partition of the first route in `/status`; null if the route does not hold it.
pub fn partition<'a>(status: &'a Value, topic: &str, number: i32) -> &'a Value {
    let partitions = status["routes"][0]["partitions"].as_array();
    let mut partitions = partitions.into_iter().flatten();
    partitions
        .find(|found| found["topic"] == topic && found["partition"] == number)
        .unwrap_or(&Value::Null)
}

/// Returns true if everything up to `end` is delivered, and nothing is left behind it.
pub fn is_at(status: &Value, topic: &str, number: i32, end: i64) -> bool {
    let found = partition(status, topic, number);
    found["delivered"] == end && found["lag"] == 0
}
