//! Reports of the results: a table, a file, charts.

mod axis;
mod charts;
pub mod goals;
mod svg;
pub mod table;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::suite::curve::Curve;
use crate::suite::curve_stalled::CurveStalled;
use crate::suite::floods::Floods;
use crate::suite::ingest::Ingest;
use crate::suite::latency;
use crate::suite::relay::Relay;
use crate::suite::scale::Scale;
use crate::suite::stalled;
use crate::{Outcome, native};

/// Everything that was measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    /// True if the runs were short: then the figures say little.
    pub quick: bool,
    /// The machine that it was measured on.
    pub machine: Machine,
    /// The duration of all of it, in minutes.
    pub minutes: f64,
    /// The whole relay at full speed.
    pub relay: Option<Relay>,
    /// The time from the producer's stamp to the subscriber.
    pub latency: Option<Vec<latency::LatencyRow>>,
    /// The cost as peers and partitions go up.
    pub scale: Option<Scale>,
    /// One healthy peer beside stalled and hostile ones.
    pub stalled: Option<Vec<stalled::StalledRow>>,
    /// ZeroMQ to Kafka.
    #[serde(default)]
    pub ingest: Option<Ingest>,
    /// CURVE beside NULL, and beside libzmq's.
    #[serde(default)]
    pub curve: Option<Curve>,
    /// Peers with CURVE that stop within records of 1 MB.
    #[serde(default)]
    pub curve_stalled: Option<CurveStalled>,
    /// Strangers in numbers at a relay with CURVE.
    #[serde(default)]
    pub floods: Option<Floods>,
    /// The figures that were to be reached, and whether they were.
    pub goals: Vec<goals::Goal>,
}

/// The machine and the tools of a measurement.
#[derive(Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Name of the processor.
    pub cpu: String,
    /// Its cores that we may use.
    pub cores: usize,
    /// Memory in GiB.
    pub memory_gib: u64,
    /// Version of Linux.
    pub kernel: String,
    /// The commit of this repository.
    pub commit: String,
    /// Version of librdkafka, for all.
    pub librdkafka: String,
    /// Version of libzmq in the C programs.
    pub libzmq: String,
    /// Version of Kafka.
    pub kafka: String,
}

impl Results {
    /// Makes a report with nothing measured yet.
    pub fn new(quick: bool) -> Self {
        Self {
            quick,
            machine: Machine::this(),
            minutes: 0.0,
            relay: None,
            latency: None,
            scale: None,
            stalled: None,
            ingest: None,
            curve: None,
            curve_stalled: None,
            floods: None,
            goals: Vec::new(),
        }
    }

    /// Reads `results.json` of an earlier run in `out`.
    ///
    /// # Errors
    /// The file is not there, or another version of this program wrote it.
    pub fn read(out: &Path) -> Outcome<Self> {
        Ok(serde_json::from_str(&fs::read_to_string(out.join("results.json"))?)?)
    }

    /// Writes `results.json`, `results.txt` and the charts into `out`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, out: &Path) -> Outcome<()> {
        fs::create_dir_all(out)?;
        fs::write(out.join("results.json"), serde_json::to_string_pretty(self)? + "\n")?;
        fs::write(out.join("results.txt"), table::text(self))?;
        for (name, chart) in charts::all(self) {
            fs::write(out.join(name), chart)?;
        }
        Ok(())
    }
}

impl Machine {
    fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory_kib = field(&read("/proc/meminfo"), "MemTotal");
        let memory_kib: u64 = memory_kib.trim_end_matches(" kB").parse().unwrap_or(0);
        let commit = Command::new("git")
            .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"])
            .output()
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: memory_kib.div_ceil(1024 * 1024),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            commit: commit.unwrap_or_default(),
            librdkafka: rdkafka::util::get_rdkafka_version().1,
            libzmq: native::libzmq_version(),
            kafka: "4.3.1".to_owned(),
        }
    }
}
