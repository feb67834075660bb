//! Several Kafka nodes as one cluster.

use std::sync::Arc;

use super::broker::Broker;
use super::config::write;
use super::{CLUSTER_ID, KafkaOptions};
use crate::admin::Admin;
use crate::paths::{RunDir, own};
use crate::ports::free_port;
use crate::proxy::Proxy;

/// Nodes 1 to n, each broker and controller, node 1 in the rack "rack-1" and so on; topics have up
/// to three replicas, two must be in sync. Dropping it kills all.
#[derive(Debug)]
pub struct KafkaCluster {
    brokers: Vec<Broker>,
    addresses: Vec<String>,
    admin: Arc<Admin>,
}

impl KafkaCluster {
    /// Starts `nodes` nodes and waits until all are there.
    pub fn start(nodes: usize) -> Self {
        Self::start_with(nodes, KafkaOptions::default())
    }

    /// Starts nodes with added settings; an advertised port is not for clusters.
    pub fn start_with(nodes: usize, options: KafkaOptions) -> Self {
        assert!(
            options.advertised_port.is_none(),
            "one advertised port cannot serve {nodes} nodes"
        );
        Self::launch(nodes, options, |_| None)
    }

    /// Starts nodes of which the clients of node `id` come through a proxy; other nodes do not.
    pub fn start_behind_proxy(nodes: usize, id: usize) -> (Self, Proxy) {
        let proxy = Proxy::start("127.0.0.1:0");
        let advertised = |node| (node == id).then_some(proxy.port());
        let cluster = Self::launch(nodes, KafkaOptions::default(), advertised);
        proxy.set_upstream(cluster.node(id));
        (cluster, proxy)
    }

    fn launch(
        nodes: usize,
        options: KafkaOptions,
        advertised: impl Fn(usize) -> Option<u16>,
    ) -> Self {
        let ports: Vec<[u16; 3]> =
            (0..nodes).map(|_| [free_port(), free_port(), free_port()]).collect();
        let voters: Vec<String> = (1..)
            .zip(&ports)
            .map(|(id, [_, _, controller])| format!("{id}@127.0.0.1:{controller}"))
            .collect();
        let direct: Vec<String> = ports.iter().map(|p| format!("127.0.0.1:{}", p[1])).collect();
        let admin = Arc::new(Admin::connect(&direct.join(",")));
        let mut brokers = Vec::new();
        for (id, [client, direct, controller]) in (1..).zip(&ports) {
            let directory = RunDir::new(&format!("kafka-{id}"));
            let properties = directory.join("node.properties");
            write(
                &own("kafka/node.properties"),
                &properties,
                &[
                    ("NODE_ID", id.to_string()),
                    ("VOTERS", voters.join(",")),
                    ("CLIENT_PORT", client.to_string()),
                    ("DIRECT_PORT", direct.to_string()),
                    ("CONTROLLER_PORT", controller.to_string()),
                    ("ADVERTISED_PORT", advertised(id).unwrap_or(*client).to_string()),
                    ("DATA_DIR", directory.join("data").display().to_string()),
                    ("REPLICAS", nodes.min(3).to_string()),
                    ("MIN_ISR", nodes.min(2).to_string()),
                ],
                &options.properties,
            );
            let mut broker = Broker::new(directory, properties, options.jvm_args.clone());
            broker.format(&admin, CLUSTER_ID, &options.format_args);
            broker.launch();
            brokers.push(broker);
        }
        for broker in &mut brokers {
            broker.wait_ready(&admin, nodes);
        }
        let addresses = ports.iter().map(|p| format!("127.0.0.1:{}", p[0])).collect();
        Self { brokers, addresses, admin }
    }

    /// All nodes, `host:port,host:port,...`.
    pub fn bootstrap(&self) -> String {
        self.addresses.join(",")
    }

    /// The address of node `id` (from 1).
    pub fn node(&self, id: usize) -> &str {
        &self.addresses[id - 1]
    }

    /// Topics, groups and records.
    pub fn admin(&self) -> &Arc<Admin> {
        &self.admin
    }

    /// The node that leads a partition, if one does.
    pub fn leader_of(&self, topic: &str, partition: i32) -> Option<usize> {
        self.admin.leader(topic, partition)
    }

    /// The node that coordinates a group.
    pub fn coordinator_of(&self, group: &str) -> usize {
        self.admin.coordinator(group)
    }

    /// Bytes of a topic that node `id` has sent to consumers since it started; 0 if it does not
    /// run.
    pub fn bytes_out(&mut self, id: usize, topic: &str) -> u64 {
        if !self.brokers[id - 1].process().is_running() {
            return 0;
        }
        let pid = self.brokers[id - 1].process().pid();
        let mbean =
            format!("kafka.server:type=BrokerTopicMetrics,name=BytesOutPerSec,topic={topic}");
        let request = serde_json::json!({ "pid": pid, "mbean": mbean, "attribute": "Count" });
        self.admin.call("measure", request).as_u64().unwrap_or_default()
    }

    /// Starts every node again that does not run, lets those go on that were stopped, and waits
    /// until all are in the cluster.
    pub fn revive(&mut self) {
        let nodes = self.brokers.len();
        for broker in &mut self.brokers {
            if broker.process().is_running() {
                broker.process().cont();
            } else {
                broker.launch();
            }
        }
        for broker in &mut self.brokers {
            broker.wait_ready(&self.admin, nodes);
        }
    }

    /// SIGKILL to node `id`.
    pub fn kill9(&mut self, id: usize) {
        self.brokers[id - 1].process().kill9();
    }

    /// SIGTERM to node `id`, and waits for the end.
    pub fn terminate(&mut self, id: usize) {
        self.brokers[id - 1].terminate();
    }

    /// SIGSTOP to node `id`.
    pub fn stop_process(&mut self, id: usize) {
        self.brokers[id - 1].process().stop();
    }

    /// SIGCONT to node `id`.
    pub fn cont(&mut self, id: usize) {
        self.brokers[id - 1].process().cont();
    }

    /// Starts node `id` again and waits until all nodes that run are in the cluster.
    pub fn restart(&mut self, id: usize) {
        self.brokers[id - 1].terminate();
        self.brokers[id - 1].launch();
        let running = self.brokers.iter_mut().map(|b| usize::from(b.process().is_running())).sum();
        self.brokers[id - 1].wait_ready(&self.admin, running);
    }
}
