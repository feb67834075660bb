//! One broker process: format, start, break, start again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::admin::Admin;
use crate::child::{Running, command};
use crate::jars;
use crate::paths::{RunDir, own};

/// A broker with its data, its ports fixed in its properties file.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) directory: RunDir,
    pub(crate) properties: PathBuf,
    pub(crate) jvm_args: Vec<String>,
    process: Option<Running>,
    /// The length of the log when it was last started.
    log_before: usize,
}

impl Broker {
    pub(crate) fn new(directory: RunDir, properties: PathBuf, jvm_args: Vec<String>) -> Self {
        Self { directory, properties, jvm_args, process: None, log_before: 0 }
    }

    pub(crate) fn format(&self, admin: &Admin, cluster_id: &str, added: &[String]) {
        let mut args = vec!["format", "-t", cluster_id, "-c", self.properties.to_str().unwrap()];
        args.extend(added.iter().map(String::as_str));
        admin.call("format", serde_json::json!({ "args": args }));
    }

    pub(crate) fn launch(&mut self) {
        let mut java = command("java");
        java.args(["-Xmx400m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .args(&self.jvm_args)
            .arg(format!("-Dlog4j2.configurationFile={}", own("kafka/log4j2.properties").display()))
            .args(["-cp", &jars::class_path(&jars::kafka()), "kafka.Kafka"])
            .arg(&self.properties);
        self.log_before = self.process.as_ref().map_or(0, |before| before.log().len());
        self.process = Some(Running::start(java, &self.directory.join("kafka.log")));
    }

    /// Waits until the cluster has `nodes` brokers and this is one of them; panics with the log's
    /// tail.
    pub(crate) fn wait_ready(&mut self, admin: &Admin, nodes: usize) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            // The cluster takes a broker that was killed for the one that was there before, for
            // some seconds.
            let has_joined =
                self.process().log()[self.log_before..].contains("The broker has been unfenced.");
            if has_joined && admin.nodes().is_some_and(|found| found.len() >= nodes) {
                return;
            }
            let running = self.process().is_running();
            if !running || Instant::now() >= end {
                let tail = self.process().log_tail();
                let file = self.properties.display();
                panic!("Kafka did not start (running: {running}); {file}:\n{tail}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn process(&mut self) -> &mut Running {
        self.process.as_mut().expect("the broker was started")
    }

    /// SIGTERM and wait; SIGKILL after 30 s.
    pub(crate) fn terminate(&mut self) {
        self.process().terminate();
        if self.process().wait_exit(Duration::from_secs(30)).is_none() {
            self.process().kill9();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Before the directory goes.
        self.process = None;
    }
}
