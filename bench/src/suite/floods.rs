//! Floods of strangers at a relay with CURVE: what they cost it, and what good peers notice of
//! them. And good peers, all of which come back after a restart.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;
use zafka_testkit::paths::RunDir;
use zafka_testkit::ports::free_port;
use zafka_testkit::{Issuer, unique};
use zafka_zmtp::curve::KeyPair;

use super::latency::samples_in;
use super::metrics::Metrics;
use crate::figure::percentile;
use crate::keys::{ANY_KEY, identity, relay_key};
use crate::process::{Line, Process};
use crate::world::{Scope, World};
use crate::{Outcome, say};

/// Records a second, and the size of a value in bytes.
const RATE: u64 = 1_000;
const VALUE: usize = 100;
/// Addresses of a flood from many.
const SOURCES: u32 = 200;
/// Time for a step, on a slow machine too.
const PATIENCE: Duration = Duration::from_secs(240);
/// Time that a flood has to get as far as it gets.
const SETTLE: Duration = Duration::from_secs(5);
/// The shares of a delay's percentiles.
const SHARES: [f64; 2] = [0.5, 0.99];

/// The results of the group.
#[derive(Debug, Serialize, Deserialize)]
pub struct Floods {
    /// Connections of a flood that are there, or tried, at a time.
    pub connections: usize,
    /// No flood, then each of them.
    pub rows: Vec<FloodRow>,
    /// Time until as many good peers are all let in, in s: at first, and after a restart.
    pub all_in: [f64; 2],
}

/// One flood.
#[derive(Debug, Serialize, Deserialize)]
pub struct FloodRow {
    /// The way of its connections.
    pub flood: Flood,
    /// Addresses that it comes from.
    pub sources: u32,
    /// Connections that it began, in a second.
    pub begun: f64,
    /// CPU of the relay, in cores.
    pub cores: f64,
    /// Most resident memory of the relay, in MiB.
    pub peak_mib: f64,
    /// Delay of records to a peer that is there, in ms: percentiles 50 and 99.
    pub records_ms: [f64; 2],
    /// Time until a newcomer is let in, in ms, likewise.
    pub newcomers_ms: [f64; 2],
    /// The newcomers that were let in.
    pub newcomers: usize,
    /// Connections that the relay ended, by reason.
    pub closed: Vec<(String, u64)>,
}

/// The way of strangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flood {
    /// There are none.
    None,
    /// They connect and send nothing.
    Silent,
    /// They send a HELLO that is wrong, and nothing more.
    ForgedHello,
    /// They send a HELLO that is right, and nothing more.
    Hello,
    /// They shake hands, and show a token that is wrong.
    BadToken,
}

impl Flood {
    /// Returns its name in the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::None => "no flood",
            Self::Silent => "silent connections",
            Self::ForgedHello => "forged HELLOs",
            Self::Hello => "valid HELLOs, no INITIATE",
            Self::BadToken => "valid handshakes, bad tokens",
        }
    }

    /// Returns its name for the tool `crowd`; `None` if there are no strangers.
    fn way(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Silent => Some("silent"),
            Self::ForgedHello => Some("forged"),
            Self::Hello => Some("halfway"),
            Self::BadToken => Some("whole"),
        }
    }
}

/// The things that all floods share.
struct FloodStage<'a> {
    world: &'a World,
    keys: KeyPair,
    issuer: Issuer,
    folder: RunDir,
    connections: usize,
    /// Time for which each flood is looked at.
    lasts: Duration,
}

/// Measures all of it.
///
/// # Errors
/// A process that did not do its part.
pub fn run(world: &World, scope: &Scope) -> Outcome<Floods> {
    let stage = FloodStage::new(world, scope)?;
    let mut rows = Vec::new();
    for (flood, sources) in [
        (Flood::None, 1),
        (Flood::Silent, 1),
        (Flood::Silent, SOURCES),
        (Flood::ForgedHello, 1),
        (Flood::Hello, 1),
        (Flood::BadToken, 1),
        (Flood::BadToken, SOURCES),
    ] {
        let row = stage.measure(flood, sources)?;
        say(&format!("floods: {row:?}"));
        rows.push(row);
    }
    let all_in = stage.restart()?;
    say(&format!("floods: {} peers are let in after {all_in:.1?} s", stage.connections));
    Ok(Floods { connections: stage.connections, rows, all_in })
}

impl<'a> FloodStage<'a> {
    fn new(world: &'a World, scope: &Scope) -> Outcome<Self> {
        let folder = RunDir::new("floods");
        let keys = relay_key(&folder)?;
        let (issuer, connections) = (Issuer::start(), scope.crowd);
        Ok(Self { world, keys, issuer, folder, connections, lasts: scope.flow })
    }

    /// Starts zafka: every key may read, and a token has to be good.
    fn zafka(&self, topic: &str, address: &str, admin: &str) -> Outcome<Process> {
        let identity = identity(ANY_KEY, Some(&self.issuer));
        let text = format!(
            "[kafka]\nbootstrap_servers = [\"{}\"]\n[admin]\nbind = \"{admin}\"\n\
             {identity}[[route]]\nname = \"bench\"\n\
             from.kafka = {{ topics = [\"{topic}\"], start = \"earliest\" }}\n\
             to.zmq = {{ socket = \"pub\", bind = [\"tcp://{address}\"] }}\n",
            self.world.bootstrap(),
        );
        self.world.zafka_by_text(&self.folder, &text)
    }

    /// A token that another issuer has signed in our issuer's name.
    fn bad_token(&self) -> String {
        Issuer::start().token("mallory", 3600, &json!({ "iss": self.issuer.name() }))
    }

    /// Starts strangers, or good peers.
    fn crowd(
        &self,
        way: &str,
        sources: u32,
        address: &str,
        token: Option<&str>,
    ) -> Outcome<Process> {
        let (count, sources) = (self.connections.to_string(), sources.to_string());
        let server = self.keys.public().to_string();
        let mut arguments = vec![address, &count, way, &sources, &server];
        arguments.extend(token);
        Process::tool("crowd", &arguments)
    }

    fn measure(&self, flood: Flood, sources: u32) -> Outcome<FloodRow> {
        let topic = unique("floods");
        self.world.empty(&topic);
        let [address, admin] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
        let mut relay = self.zafka(&topic, &address, &admin)?;
        let [file, go] = [self.folder.join(&topic), self.folder.join(&format!("{topic}.go"))];
        let [file, go] = [&file, &go].map(|path| path.to_str().ok_or("a path is not UTF-8"));
        let (file, go, server) = (file?, go?, self.keys.public().to_string());
        let seconds = self.lasts.as_secs().max(1);
        let mut good = Process::tool(
            "good-peers",
            &[&address, &topic, &server, file, go, &seconds.to_string()],
        )?;
        good.wait_line(PATIENCE, |line| line == Line::Ready)?;
        let records = RATE * (seconds + PATIENCE.as_secs());
        let _producer = self.world.produce(&topic, 1, VALUE, records, RATE)?;
        let token = (flood == Flood::BadToken).then(|| self.bad_token());
        let strangers = flood.way().map(|way| self.crowd(way, sources, &address, token.as_deref()));
        let mut strangers = strangers.transpose()?;
        sleep(SETTLE);
        let (began, cpu) = (Instant::now(), relay.cpu_ns()?);
        fs::write(go, "")?;
        good.wait_line(PATIENCE + self.lasts, |line| line == Line::Done)?;
        let (took, cpu) = (began.elapsed(), relay.cpu_ns()? - cpu);
        relay.check()?;
        let begun = match &mut strangers {
            Some(strangers) => begun(strangers, began)?,
            None => 0,
        };
        let delays = |name: &str| -> Outcome<(Vec<i64>, [f64; 2])> {
            let mut samples = samples_in(&format!("{file}.{name}"))?;
            samples.sort_unstable();
            let of = |share| percentile(&samples, share).map(|ns| ns as f64 / 1e6);
            let [p50, p99] = SHARES.map(|share| of(share).ok_or("no samples"));
            let delays = [p50?, p99?];
            Ok((samples, delays))
        };
        let ((_, records_ms), (newcomers, newcomers_ms)) =
            (delays("records")?, delays("newcomers")?);
        let row = FloodRow {
            flood,
            sources,
            begun: begun as f64 / took.as_secs_f64(),
            cores: cpu as f64 / took.as_nanos() as f64,
            peak_mib: relay.memory_kib()?.peak as f64 / 1024.0,
            records_ms,
            newcomers_ms,
            newcomers: newcomers.len(),
            closed: Metrics::read(&admin)?.closed(),
        };
        drop((good, strangers, relay));
        self.world.remove(&topic);
        Ok(row)
    }

    /// The time until all good peers are in, at first and after a restart of the relay.
    fn restart(&self) -> Outcome<[f64; 2]> {
        let topic = unique("floods");
        self.world.empty(&topic);
        let [address, admin] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
        let mut began = Instant::now();
        let mut relay = self.zafka(&topic, &address, &admin)?;
        let mut peers = self.crowd("whole", 1, &address, None)?;
        let wanted = self.connections as u64;
        let mut all_in = [0.0; 2];
        for time in &mut all_in {
            peers.wait_line(
                PATIENCE,
                |line| matches!(line, Line::Counts { records, .. } if records == wanted),
            )?;
            *time = began.elapsed().as_secs_f64();
            relay.check()?;
            drop(relay);
            peers.wait_line(PATIENCE, |line| matches!(line, Line::Counts { records: 0, .. }))?;
            began = Instant::now();
            relay = self.zafka(&topic, &address, &admin)?;
        }
        Ok(all_in)
    }
}

/// The connections that strangers have begun since then, by their lines.
fn begun(strangers: &mut Process, since: Instant) -> Outcome<u64> {
    let mut begun = Vec::new();
    while let Some(line) = strangers.line(Duration::ZERO)? {
        if let Line::Counts { at, bytes, .. } = line
            && at >= since
        {
            begun.push(bytes);
        }
    }
    Ok(begun.last().zip(begun.first()).map_or(0, |(last, first)| last - first))
}
