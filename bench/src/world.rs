//! The parts that all measurements share: Kafka, filled topics, and the binaries.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use zafka_testkit::KafkaNode;
use zafka_testkit::kafka::KafkaOptions;
use zafka_testkit::paths::{RunDir, home};

use crate::case::{Sink, Subject, Topic};
use crate::cores::process_ns;
use crate::process::{Line, Process};
use crate::{Outcome, say};

/// Time that a fill has.
const FILL: Duration = Duration::from_secs(300);

/// The extent of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Interleaved runs of each case.
    pub rounds: usize,
    /// Steady flow that a run wants.
    pub flow: Duration,
    /// The same for the cases of a chart.
    pub chart_flow: Duration,
    /// Runs of each case of a chart.
    pub chart_rounds: usize,
    /// Runs of each contestant of latency, at 1,000 and at 50,000 records a second. The tail at
    /// the low rate is the broker's and differs from run to run, so that it takes more of
    /// them.
    pub latency_rounds: [usize; 2],
    /// Latency samples of each contestant in a run, at the same rates.
    pub samples: [u64; 2],
    /// Runs of each turn with stalled peers, and latency samples in each.
    pub stalled: (usize, u64),
    /// Idle peers with CURVE.
    pub crowd: usize,
    /// Records of 100 bytes, of 1 KB, and in each topic of the partitions chart.
    pub records: [u64; 3],
}

impl Scope {
    /// The scope of the published figures: about an hour.
    pub const FULL: Self = Self {
        rounds: 5,
        flow: Duration::from_secs(10),
        chart_flow: Duration::from_secs(4),
        chart_rounds: 3,
        latency_rounds: [12, 5],
        samples: [12_500, 150_000],
        stalled: (5, 8_000),
        crowd: 10_000,
        records: [16_000_000, 2_400_000, 3_000_000],
    };

    /// A scope that only shows that everything works: about eight minutes.
    pub const QUICK: Self = Self {
        rounds: 1,
        flow: Duration::from_millis(1500),
        chart_flow: Duration::from_secs(1),
        chart_rounds: 1,
        latency_rounds: [1, 1],
        samples: [4_000, 60_000],
        stalled: (1, 3_000),
        crowd: 1_000,
        records: [2_000_000, 300_000, 1_500_000],
    };
}

/// A running Kafka and the binary that is measured.
#[derive(Debug)]
pub struct World {
    node: KafkaNode,
    /// The broker's process.
    broker: u32,
    zafka: PathBuf,
    before: Option<PathBuf>,
    filled: RefCell<Vec<Topic>>,
}

impl World {
    /// Starts Kafka, and builds zafka unless there is another one to measure.
    ///
    /// # Errors
    /// The build, or a binary that is not there.
    pub fn start(zafka: Option<&Path>, before: Option<&Path>) -> Outcome<Self> {
        let before = before.map(binary).transpose()?;
        let zafka = match zafka {
            Some(path) => binary(path)?,
            None => built()?,
        };
        say("starting Kafka");
        // A server's compiler and heap; the rest is as Kafka comes.
        let mut options = KafkaOptions::default()
            .property("log.index.size.max.bytes", "1048576")
            // What is to be removed is removed soon (see `Self::scratch`).
            .property("log.initial.task.delay.ms", "500")
            .property("log.retention.check.interval.ms", "1000")
            .property("log.segment.delete.delay.ms", "500");
        options.jvm_args = ["-Xmx1g", "-XX:TieredStopAtLevel=4"].map(str::to_owned).to_vec();
        let mut node = KafkaNode::start_with(options);
        let broker = node.pid();
        Ok(Self { node, broker, zafka, before, filled: RefCell::default() })
    }

    /// Returns true if there is an older binary.
    pub fn has_before(&self) -> bool {
        self.before.is_some()
    }

    /// The binary that is measured, or the older one.
    ///
    /// # Errors
    /// There is no older one.
    pub fn binary(&self, is_before: bool) -> Outcome<&Path> {
        let binary = if is_before { self.before.as_ref() } else { Some(&self.zafka) };
        Ok(binary.ok_or("there is no older binary")?)
    }

    /// The cases, and after each of zafka's the same of the older one if there is one.
    pub fn with_before(&self, cases: &[(Subject, Sink)]) -> Vec<(Subject, Sink)> {
        let mut all = Vec::new();
        for &(subject, sink) in cases {
            all.push((subject, sink));
            if let (Subject::Zafka(preset), Some(_)) = (subject, &self.before) {
                all.push((Subject::Before(preset), sink));
            }
        }
        all
    }

    /// `host:port`.
    pub fn bootstrap(&self) -> &str {
        self.node.bootstrap()
    }

    /// CPU time of the broker so far, in ns.
    ///
    /// # Errors
    /// It has ended.
    pub fn broker_ns(&self) -> Outcome<u64> {
        process_ns(self.broker)
    }

    /// Makes a topic and fills it with `records` of `value_size` bytes, unless that was done
    /// before.
    ///
    /// # Errors
    /// The producer.
    pub fn filled(
        &self,
        name: &str,
        partitions: i32,
        value_size: usize,
        records: u64,
    ) -> Outcome<Topic> {
        if let Some(topic) = self.filled.borrow().iter().find(|topic| topic.name == name) {
            return Ok(topic.clone());
        }
        say(&format!(
            "filling {name}: {records} records of {value_size} bytes, {partitions} partitions"
        ));
        self.node.admin().create_topic(name, partitions, &[]);
        self.produce(name, partitions, value_size, records, 0)?
            .wait_line(FILL, |line| line == Line::Done)?;
        let topic = Topic { name: name.to_owned(), records };
        self.filled.borrow_mut().push(topic.clone());
        Ok(topic)
    }

    /// Makes an empty topic of one partition.
    pub fn empty(&self, name: &str) {
        self.node.admin().create_topic(name, 1, &[]);
    }

    /// Makes an empty topic that keeps the end of what is written to it. Kafka writes to memory,
    /// and memory that was not used before costs a virtual machine more than all else that the
    /// broker does: so it is used again before long, instead of some gigabytes in each run.
    pub fn scratch(&self, name: &str, partitions: i32) {
        let kept = [("segment.bytes", "67108864"), ("retention.bytes", "134217728")];
        self.node.admin().create_topic(name, partitions, &kept);
    }

    /// Removes a topic.
    pub fn remove(&self, name: &str) {
        self.node.admin().delete_topic(name);
    }

    /// Starts a producer; `per_second` 0 is as fast as it can.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn produce(
        &self,
        topic: &str,
        partitions: i32,
        value_size: usize,
        records: u64,
        per_second: u64,
    ) -> Outcome<Process> {
        let [partitions, size, records, rate] = [
            partitions.to_string(),
            value_size.to_string(),
            records.to_string(),
            per_second.to_string(),
        ];
        Process::tool("produce", &[self.bootstrap(), topic, &partitions, &size, &records, &rate])
    }

    /// Starts zafka as a relay of `topic` to a PUB socket on `address`, held back until `peers`
    /// have subscribed.
    ///
    /// # Errors
    /// Another subject, or a program that cannot be started.
    pub fn zafka(
        &self,
        subject: Subject,
        topic: &str,
        group: &str,
        address: &str,
        peers: usize,
    ) -> Outcome<Process> {
        let (program, preset) = match subject {
            Subject::Zafka(preset) => (Some(&self.zafka), preset),
            Subject::Before(preset) => (self.before.as_ref(), preset),
            Subject::CRelay(_) | Subject::Consumer => return Err("this is no zafka".into()),
        };
        let program = program.ok_or("no older zafka was named")?;
        let options = format!("frames={}&slow_peer=block&min_peers={peers}", preset.name());
        self.relay(program, topic, group, address, &options, &[])
    }

    /// Starts zafka likewise, but as it is by default: `json` and `drop`. Its admin server is on
    /// `admin`, and one peer is waited for.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn dropping(&self, topic: &str, address: &str, admin: &str) -> Outcome<Process> {
        let options = "frames=json&slow_peer=drop&min_peers=1";
        self.relay(&self.zafka, topic, topic, address, options, &["--admin", admin])
    }

    /// Starts zafka with a configuration, which is written to a folder.
    ///
    /// # Errors
    /// The file, or a program that cannot be started.
    pub fn zafka_by_text(&self, folder: &RunDir, text: &str) -> Outcome<Process> {
        let file = folder.join("zafka.toml");
        fs::write(&file, text)?;
        let file = file.to_str().ok_or("the folder's name is not UTF-8")?;
        Process::start("zafka", &self.zafka, &["run", "-c", file])
    }

    fn relay(
        &self,
        program: &Path,
        topic: &str,
        group: &str,
        address: &str,
        options: &str,
        more: &[&str],
    ) -> Outcome<Process> {
        let source = format!("kafka://{}/{topic}?group={group}&start=earliest", self.bootstrap());
        let target = format!("pub+tcp://{address}?{options}");
        Process::start("zafka", program, &[&["relay", &source, &target], more].concat())
    }

    /// Starts the C relay, likewise; `parts` is 1 (the value) or 4.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn c_relay(
        &self,
        topic: &str,
        group: &str,
        address: &str,
        parts: u8,
        peers: usize,
    ) -> Outcome<Process> {
        let endpoint = format!("tcp://{address}");
        let [parts, peers] = [parts.to_string(), peers.to_string()];
        Process::tool("c-relay", &[self.bootstrap(), topic, group, &endpoint, &parts, &peers])
    }

    /// Starts zafka as a relay of a socket on `address` to `topic`; `frames` is a part of its URL.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn zafka_ingest(
        &self,
        zafka: &Path,
        socket: &str,
        frames: &str,
        topic: &str,
        address: &str,
        admin: &str,
    ) -> Outcome<Process> {
        let source = format!("{socket}+tcp://{address}?{frames}");
        let target = format!("kafka://{}/{topic}", self.bootstrap());
        Process::start("zafka", zafka, &["relay", &source, &target, "--admin", admin])
    }

    /// Starts the C relay of that direction.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn c_ingest(&self, topic: &str, address: &str) -> Outcome<Process> {
        Process::tool("c-ingest", &[self.bootstrap(), topic, &format!("tcp://{address}")])
    }

    /// Starts the plain consumer; without latency samples if `samples` is 0.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn consumer(
        &self,
        topic: &str,
        group: &str,
        file: &str,
        skip: u64,
        samples: u64,
    ) -> Outcome<Process> {
        let [skip, samples] = [skip.to_string(), samples.to_string()];
        Process::tool("consumer", &[self.bootstrap(), topic, group, file, &skip, &samples])
    }
}

/// A binary that is there.
fn binary(path: &Path) -> Outcome<PathBuf> {
    path.canonicalize().map_err(|error| format!("{}: {error}", path.display()).into())
}

/// The release binary of zafka.
fn built() -> Outcome<PathBuf> {
    say("building zafka");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--package", "zafka", "--manifest-path", manifest])
        .status()?;
    if !status.success() {
        return Err("zafka cannot be built".into());
    }
    Ok(home().with_file_name("release").join("zafka"))
}
