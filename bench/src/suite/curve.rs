//! CURVE beside NULL, for zafka and for an XPUB of libzmq; handshakes; the memory of idle peers.
//!
//! The XPUB publishes from memory and reads no Kafka: CURVE's cost is the difference between its
//! two lines, as between zafka's. It is compiled here, against the system's libzmq.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;
use zafka_testkit::paths::RunDir;
use zafka_testkit::ports::free_port;
use zafka_testkit::{Issuer, unique};
use zafka_zmtp::curve::KeyPair;

use crate::case::{Preset, Topic};
use crate::figure::Figure;
use crate::flow::{Party, Run, measure_party};
use crate::keys::{ANY_KEY, identity, relay_key};
use crate::process::{Line, Process};
use crate::world::{Scope, World};
use crate::{Outcome, say};

/// SUBs that get everything.
pub const PEERS: [usize; 2] = [1, 16];
/// The most peers of a case.
const MAX_PEERS: usize = 10_200;
/// Tokens, more than there are handshakes in a run. A relay keeps 65,536 leases.
const TOKENS: usize = 60_000;
/// Time for ten thousand handshakes.
const PATIENCE: Duration = Duration::from_secs(240);
/// Time until what was for the handshakes only is given back.
const SETTLE: Duration = Duration::from_secs(2);

/// The results of the group.
#[derive(Debug, Serialize, Deserialize)]
pub struct Curve {
    /// Each publisher with each number of SUBs.
    pub rows: Vec<CurveRow>,
    /// Handshakes a second and one core of zafka, of clients with known keys.
    pub handshakes: Figure,
    /// The same of clients that each show a token of their own. Older results have none.
    #[serde(default)]
    pub token_handshakes: Option<Figure>,
    /// Idle peers at a time.
    pub idle_peers: usize,
    /// Resident memory of zafka for each of them, in KiB.
    pub idle_peer_kib: Figure,
}

/// One publisher with one number of SUBs.
#[derive(Debug, Serialize, Deserialize)]
pub struct CurveRow {
    /// The publisher.
    pub publisher: Publisher,
    /// True with CURVE, false with NULL.
    pub is_secured: bool,
    /// SUBs.
    pub peers: usize,
    /// CPU for a record, ns.
    pub cpu_ns: Figure,
    /// Records a second.
    pub rate: Figure,
}

/// The program that publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Publisher {
    /// zafka, from Kafka.
    Zafka(Preset),
    /// libzmq, from memory.
    Xpub,
}

/// Proof that a relay asks of its peers.
enum Access<'a> {
    /// Nothing.
    Null,
    /// Any key.
    Keys,
    /// A token of this issuer.
    Tokens(&'a Issuer),
}

impl Access<'_> {
    /// The part of the configuration.
    fn toml(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Keys => identity(ANY_KEY, None),
            Self::Tokens(issuer) => {
                identity(&format!("{{ iss = \"{}\" }}", issuer.name()), Some(issuer))
            }
        }
    }
}

/// The things that all cases share.
struct Stage<'a> {
    world: &'a World,
    topic: Topic,
    keys: KeyPair,
    folder: RunDir,
    xpub: PathBuf,
}

/// Measures all of it.
///
/// # Errors
/// A process that did not do its part, or a system without libzmq's headers.
pub fn run(world: &World, scope: &Scope) -> Outcome<Curve> {
    let topic = world.filled("bench-100", 4, 100, scope.records[0])?;
    let stage = Stage::new(world, topic)?;
    let publishers =
        [Publisher::Zafka(Preset::Json), Publisher::Zafka(Preset::Batch), Publisher::Xpub];
    let mut cases = Vec::new();
    for publisher in publishers {
        for peers in PEERS {
            cases.extend([false, true].map(|is_secured| (publisher, peers, is_secured)));
        }
    }
    let mut runs: Vec<Vec<Run>> = cases.iter().map(|_| Vec::new()).collect();
    let (mut handshakes, mut token_handshakes) = (Vec::new(), Vec::new());
    let mut memory = Vec::new();
    for round in 1..=scope.chart_rounds {
        for ((publisher, peers, is_secured), runs) in cases.iter().zip(&mut runs) {
            let run = stage.measure(*publisher, *peers, *is_secured, scope.chart_flow)?;
            let mechanism = if *is_secured { "CURVE" } else { "NULL" };
            say(&format!(
                "curve {round}/{}: {publisher:?} {mechanism} to {peers}: {:.0} ns a record",
                scope.chart_rounds, run.cpu_ns
            ));
            runs.push(run);
        }
        handshakes.push(stage.handshakes(&Access::Keys, scope.flow)?);
        let issuer = Issuer::start();
        token_handshakes.push(stage.handshakes(&Access::Tokens(&issuer), scope.flow)?);
        memory.push(stage.idle_peer_kib(scope.crowd)?);
    }
    say(&format!(
        "handshakes a second and core: {handshakes:.0?}, with a token: {token_handshakes:.0?}; \
         KiB a peer: {memory:.1?}"
    ));
    let row = |((publisher, peers, is_secured), runs): (&(Publisher, usize, bool), &Vec<Run>)| {
        Some(CurveRow {
            publisher: *publisher,
            is_secured: *is_secured,
            peers: *peers,
            cpu_ns: Figure::of(runs.iter().map(|run| run.cpu_ns))?,
            rate: Figure::of(runs.iter().map(|run| run.rate))?,
        })
    };
    Ok(Curve {
        rows: cases.iter().zip(&runs).filter_map(row).collect(),
        handshakes: Figure::of(handshakes).ok_or("no rounds")?,
        token_handshakes: Figure::of(token_handshakes),
        idle_peers: scope.crowd,
        idle_peer_kib: Figure::of(memory).ok_or("no rounds")?,
    })
}

impl<'a> Stage<'a> {
    fn new(world: &'a World, topic: Topic) -> Outcome<Self> {
        let folder = RunDir::new("curve");
        let keys = relay_key(&folder)?;
        let xpub = folder.join("xpub");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline/curve/xpub.c");
        let compiled = Command::new("sh")
            .args(["-c", "cc -O2 -o \"$0\" \"$1\" $(pkg-config --cflags --libs libzmq)"])
            .arg(&xpub)
            .arg(source)
            .status()?;
        if !compiled.success() {
            return Err("a C compiler, pkg-config and libzmq3-dev are needed".into());
        }
        Ok(Self { world, topic, keys, folder, xpub })
    }

    /// Starts zafka so that it waits for so many peers.
    fn zafka(
        &self,
        preset: Preset,
        address: &str,
        peers: usize,
        access: &Access<'_>,
    ) -> Outcome<Process> {
        let group = unique("curve");
        let identity = access.toml();
        let text = format!(
            "[kafka]\nbootstrap_servers = [\"{}\"]\n{identity}[[route]]\nname = \"bench\"\n\
             from.kafka = {{ topics = [\"{}\"], group = \"{group}\", start = \"earliest\" }}\n\
             to.zmq = {{ socket = \"pub\", bind = [\"tcp://{address}\"], frames = \"{}\", \
             slow_peer = \"block\", min_peers = {peers}, max_peers = {} }}\n",
            self.world.bootstrap(),
            self.topic.name,
            preset.name(),
            MAX_PEERS,
        );
        self.world.zafka_by_text(&self.folder, &text)
    }

    fn server(&self) -> String {
        self.keys.public().to_string()
    }

    fn measure(
        &self,
        publisher: Publisher,
        peers: usize,
        is_secured: bool,
        flow: Duration,
    ) -> Outcome<Run> {
        let start = || {
            let address = format!("127.0.0.1:{}", free_port());
            let subject = match publisher {
                Publisher::Zafka(preset) => {
                    let access = if is_secured { Access::Keys } else { Access::Null };
                    self.zafka(preset, &address, peers, &access)?
                }
                Publisher::Xpub => {
                    let secret = self.keys.secret().expose_z85();
                    let secret = if is_secured { secret } else { "-".to_owned() };
                    let (endpoint, peers) = (format!("tcp://{address}"), peers.to_string());
                    let arguments = [&*endpoint, &*secret, &*self.topic.name, &*peers];
                    Process::start("xpub", &self.xpub, &arguments)?
                }
            };
            let kind = match publisher {
                Publisher::Zafka(Preset::Batch) => "batch",
                _ => "message",
            };
            let (count, server) = (peers.to_string(), self.server());
            let sink = [&*address, &*self.topic.name, kind, &*count];
            let sink = match is_secured {
                true => Process::tool("curve-sink", &[&sink[..], &[&*server]].concat())?,
                false => Process::tool("counting-sink", &sink)?,
            };
            Ok(Party::of(subject, sink))
        };
        let name = format!("{publisher:?} to {peers}");
        let records = if publisher == Publisher::Xpub { u64::MAX } else { self.topic.records };
        measure_party(&name, records, flow, start)
    }

    /// Handshakes of clients with new keys for each second of the relay's CPU.
    fn handshakes(&self, access: &Access<'_>, time: Duration) -> Outcome<f64> {
        let address = format!("127.0.0.1:{}", free_port());
        let relay = self.zafka(Preset::Json, &address, MAX_PEERS, access)?;
        let server = self.server();
        let mut arguments = vec![address, server];
        if let Access::Tokens(issuer) = access {
            // One token goes with one key.
            let token = |number| issuer.token(&format!("client-{number}"), 3_600, &json!({}));
            let tokens: Vec<String> = (0..TOKENS).map(token).collect();
            let file = self.folder.join("tokens");
            fs::write(&file, tokens.join("\n"))?;
            arguments.push(file.display().to_string());
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut clients = Process::tool("curve-handshakes", &arguments)?;
        let mut next = || loop {
            match clients.line(PATIENCE)? {
                Some(Line::Counts { at, records, .. }) => break Ok((at, records)),
                Some(_) => {}
                None => break Outcome::Err("no handshake was done".into()),
            }
        };
        let ((began, first), before) = (next()?, relay.cpu_ns()?);
        let mut last = first;
        while began + time > Instant::now() {
            (_, last) = next()?;
        }
        Ok((last - first) as f64 * 1e9 / (relay.cpu_ns()? - before).max(1) as f64)
    }

    /// Resident memory that zafka needs for each of the idle peers, in KiB.
    fn idle_peer_kib(&self, crowd: usize) -> Outcome<f64> {
        let address = format!("127.0.0.1:{}", free_port());
        let server = self.server();
        let mut relay = self.zafka(Preset::Json, &address, MAX_PEERS, &Access::Keys)?;
        // One peer first: the relay is up and has done a handshake.
        let mut one = Process::tool("curve-idle", &[&address, "1", &server])?;
        one.wait_line(PATIENCE, |line| line == Line::Ready)?;
        sleep(SETTLE);
        let before = relay.memory_kib()?.resident;
        let mut peers = Process::tool("curve-idle", &[&address, &crowd.to_string(), &server])?;
        peers.wait_line(PATIENCE, |line| line == Line::Ready)?;
        sleep(SETTLE);
        relay.check()?;
        Ok(relay.memory_kib()?.resident.saturating_sub(before) as f64 / crowd as f64)
    }
}
