//! One Kafka node.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use super::CLUSTER_ID;
use super::broker::Broker;
use super::config::{KafkaOptions, write};
use crate::admin::Admin;
use crate::paths::{RunDir, own};
use crate::ports::free_port;
use crate::proxy::Proxy;

/// A broker and controller in one process, on free ports of 127.0.0.1. Dropping it kills it and
/// removes its data (kept when the test panics).
#[derive(Debug)]
pub struct KafkaNode {
    broker: Broker,
    admin: Arc<Admin>,
    listener: String,
    advertised: String,
}

impl KafkaNode {
    /// Starts a node and waits until it answers (60 s).
    pub fn start() -> Self {
        Self::start_with(KafkaOptions::default())
    }

    /// Starts a node with other settings.
    pub fn start_with(options: KafkaOptions) -> Self {
        let [client, direct, controller] = [free_port(), free_port(), free_port()];
        let advertised = options.advertised_port.unwrap_or(client);
        let directory = RunDir::new("kafka");
        let properties = directory.join("node.properties");
        write(
            &own("kafka/node.properties"),
            &properties,
            &[
                ("NODE_ID", "1".to_owned()),
                ("VOTERS", format!("1@127.0.0.1:{controller}")),
                ("CLIENT_PORT", client.to_string()),
                ("DIRECT_PORT", direct.to_string()),
                ("CONTROLLER_PORT", controller.to_string()),
                ("ADVERTISED_PORT", advertised.to_string()),
                ("DATA_DIR", directory.join("data").display().to_string()),
                ("REPLICAS", "1".to_owned()),
                ("MIN_ISR", "1".to_owned()),
            ],
            &options.properties,
        );
        let admin = Arc::new(Admin::connect(&format!("127.0.0.1:{direct}")));
        let mut broker = Broker::new(directory, properties, options.jvm_args);
        let cluster_id = options.cluster_id.as_deref().unwrap_or(CLUSTER_ID);
        broker.format(&admin, cluster_id, &options.format_args);
        broker.launch();
        broker.wait_ready(&admin, 1);
        Self {
            broker,
            admin,
            listener: format!("127.0.0.1:{client}"),
            advertised: format!("127.0.0.1:{advertised}"),
        }
    }

    /// Starts a node whose clients all come through a proxy; [`Self::admin`] does not.
    pub fn start_behind_proxy() -> (Self, Proxy) {
        let proxy = Proxy::start("127.0.0.1:0");
        let node = Self::start_with(KafkaOptions::default().advertise(proxy.port()));
        proxy.set_upstream(node.listener());
        (node, proxy)
    }

    /// A node for tests that do not break it: one a test binary, started when first asked for.
    /// Name topics and groups with [`crate::unique`].
    pub fn shared() -> &'static KafkaNode {
        static NODE: LazyLock<KafkaNode> = LazyLock::new(KafkaNode::start);
        &NODE
    }

    /// The address that clients connect to, `host:port`: the proxy's port if one is advertised.
    pub fn bootstrap(&self) -> &str {
        &self.advertised
    }

    /// The folder of its logs, with a folder for each partition.
    pub fn data(&self) -> PathBuf {
        self.broker.directory.join("data")
    }

    /// The address at which the node itself listens, `host:port`: a proxy's upstream.
    pub fn listener(&self) -> &str {
        &self.listener
    }

    /// Topics, groups and records, past any proxy.
    pub fn admin(&self) -> &Arc<Admin> {
        &self.admin
    }

    /// The broker's process id.
    pub fn pid(&mut self) -> u32 {
        self.broker.process().pid()
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        self.broker.process().kill9();
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&mut self) {
        self.broker.terminate();
    }

    /// Starts it again on the same ports and data, and waits until it answers; a node that still
    /// runs is terminated first.
    pub fn restart(&mut self) {
        self.start_again();
        self.wait_ready();
    }

    /// Restarts as [`Self::restart`] does, without waiting.
    pub fn start_again(&mut self) {
        self.terminate();
        self.broker.launch();
    }

    /// Waits until the node answers.
    pub fn wait_ready(&mut self) {
        self.broker.wait_ready(&self.admin, 1);
    }

    /// SIGSTOP: connections stay open and nothing answers.
    pub fn stop_process(&mut self) {
        self.broker.process().stop();
    }

    /// SIGCONT.
    pub fn cont(&mut self) {
        self.broker.process().cont();
    }

    /// The end of the broker's log.
    pub fn log_tail(&mut self) -> String {
        self.broker.process().log_tail()
    }
}
