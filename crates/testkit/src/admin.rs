//! Kafka's Java clients at a test's hand: topics, groups, ACLs, records, transactions.
//!
//! One long-lived JVM (`java/Helper.java`) for each [`Admin`] takes requests as JSON lines, so
//! that a request costs milliseconds and not the start of a JVM. Requests from several threads
//! run side by side.

mod answers;
mod pipe;
mod produce;
mod read;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

pub use answers::{Group, Member, PartitionInfo, TopicInfo};
pub use produce::{Background, Record};

use pipe::Pipe;

const DEADLINE: Duration = Duration::from_secs(180);

/// An admin client and producers of one cluster.
#[derive(Debug)]
pub struct Admin {
    pipe: Pipe,
}

impl Admin {
    /// Starts a helper for `bootstrap`; nothing is connected before the first request.
    pub fn connect(bootstrap: &str) -> Self {
        Self::connect_with(bootstrap, &[])
    }

    /// Connects as [`Self::connect`] does, with more of the Java clients' settings; a name that
    /// begins with `-D` is a system property of the JVM.
    pub fn connect_with(bootstrap: &str, settings: &[(&str, &str)]) -> Self {
        let mut all = vec![("bootstrap.servers", bootstrap)];
        all.extend(settings);
        Self { pipe: Pipe::start(&all) }
    }

    /// One request; panics with Kafka's error.
    pub(crate) fn call(&self, op: &str, request: Value) -> Value {
        self.try_call(op, request).unwrap_or_else(|error| panic!("{error}"))
    }

    /// One request; the error is Kafka's, as text (`UnknownTopicOrPartitionException: ...`).
    pub fn try_call(&self, op: &str, request: Value) -> Result<Value, String> {
        self.pipe.ask(op, request, DEADLINE)
    }

    /// Ids of the brokers in the cluster, or `None` while it does not answer.
    pub fn nodes(&self) -> Option<Vec<usize>> {
        let answer = self.try_call("cluster", json!({})).ok()?;
        serde_json::from_value(answer["nodes"].clone()).ok()
    }

    /// Makes a topic with the cluster's default replication, and waits until it has leaders.
    pub fn create_topic(&self, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
        let configs: BTreeMap<_, _> = configs.iter().copied().collect();
        self.call(
            "create_topic",
            json!({ "topic": topic, "partitions": partitions, "configs": configs }),
        );
        self.wait_leaders(topic);
    }

    /// Makes a topic with the replicas of each partition given by node id, leader first.
    pub fn create_topic_on(
        &self,
        topic: &str,
        assignment: &[Vec<usize>],
        configs: &[(&str, &str)],
    ) {
        let configs: BTreeMap<_, _> = configs.iter().copied().collect();
        self.call(
            "create_topic",
            json!({ "topic": topic, "assignment": assignment, "configs": configs }),
        );
        self.wait_leaders(topic);
    }

    fn wait_leaders(&self, topic: &str) {
        crate::wait_until(&format!("leaders of {topic}"), Duration::from_secs(30), || {
            self.try_describe(topic).is_ok_and(|info| info.partitions.iter().all(|p| p.leader >= 0))
        });
    }

    /// Deletes a topic and waits until it is no longer listed.
    pub fn delete_topic(&self, topic: &str) {
        self.call("delete_topic", json!({ "topic": topic }));
        crate::wait_until(&format!("{topic} to go"), Duration::from_secs(30), || {
            !self.topics().iter().any(|name| name == topic)
        });
    }

    /// Raises a topic to `count` partitions.
    pub fn add_partitions(&self, topic: &str, count: i32) {
        self.call("add_partitions", json!({ "topic": topic, "count": count }));
        self.wait_leaders(topic);
    }

    /// Deletes the records before an offset.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let request = json!({ "topic": topic, "partition": partition, "before": before });
        self.call("delete_records", request);
    }

    /// All topics, internal ones too.
    pub fn topics(&self) -> Vec<String> {
        serde_json::from_value(self.call("topics", json!({}))).unwrap()
    }

    /// Leaders, replicas and offsets of a topic.
    pub fn describe(&self, topic: &str) -> TopicInfo {
        self.try_describe(topic).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Describes as [`Self::describe`] does, with Kafka's error as text.
    pub fn try_describe(&self, topic: &str) -> Result<TopicInfo, String> {
        let answer = self.try_call("describe", json!({ "topic": topic }))?;
        Ok(TopicInfo::parse(&answer))
    }

    /// Committed offsets of a group by (topic, partition).
    pub fn committed(&self, group: &str) -> BTreeMap<(String, i32), i64> {
        let answer = self.call("committed", json!({ "group": group }));
        let rows: Vec<(String, i32, i64)> = serde_json::from_value(answer).unwrap();
        rows.into_iter().map(|(topic, partition, offset)| ((topic, partition), offset)).collect()
    }

    /// All groups with their type ("Consumer", "Classic", ...).
    pub fn groups(&self) -> BTreeMap<String, String> {
        serde_json::from_value(self.call("groups", json!({}))).unwrap()
    }

    /// Type, state and members of a group; an error if there is none.
    pub fn group(&self, group: &str) -> Result<Group, String> {
        Ok(Group::parse(&self.try_call("group", json!({ "group": group }))?))
    }

    /// The node that coordinates a group.
    pub fn coordinator(&self, group: &str) -> usize {
        self.call("coordinator", json!({ "group": group })).as_u64().unwrap() as usize
    }

    /// Sets a committed offset; the group must have no members, or not this partition's.
    pub fn alter_offset(&self, group: &str, topic: &str, partition: i32, offset: i64) {
        self.call(
            "alter_offsets",
            json!({ "group": group, "topic": topic, "partition": partition, "offset": offset }),
        );
    }

    /// Removes a committed offset.
    pub fn delete_offset(&self, group: &str, topic: &str, partition: i32) {
        let request = json!({ "group": group, "topic": topic, "partition": partition });
        self.call("delete_offsets", request);
    }

    /// Deletes an empty group.
    pub fn delete_group(&self, group: &str) {
        self.call("delete_group", json!({ "group": group }));
    }

    /// Makes a share group (KIP-932) that reads a topic; it has no members afterward.
    pub fn make_share_group(&self, group: &str, topic: &str) {
        self.call("make_share_group", json!({ "group": group, "topic": topic }));
    }

    /// Allows `user` an operation ("read", "describe", "all", ...) on a resource ("topic",
    /// "group", ...) by name; "*" is any.
    pub fn allow(&self, user: &str, operation: &str, resource: &str, name: &str) {
        self.call("allow", acl(user, operation, resource, name));
    }

    /// Takes back what [`Self::allow`] gave.
    pub fn revoke(&self, user: &str, operation: &str, resource: &str, name: &str) {
        self.call("revoke", acl(user, operation, resource, name));
    }

    /// Sets a dynamic setting of a "topic", "broker" or "group".
    pub fn set_config(&self, kind: &str, name: &str, key: &str, value: &str) {
        self.call("set_config", json!({ "type": kind, "name": name, "key": key, "value": value }));
    }

    /// The time for which a group of the consumer protocol keeps the place of a silent member:
    /// 6 to 60 seconds.
    pub fn set_session_timeout(&self, group: &str, seconds: u32) {
        self.set_config(
            "group",
            group,
            "consumer.session.timeout.ms",
            &(1000 * seconds).to_string(),
        );
    }

    /// The node that leads a partition, if one does.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<usize> {
        let leader = self.call("leader", json!({ "topic": topic, "partition": partition }));
        leader.as_u64().and_then(|id| usize::try_from(id).ok())
    }

    /// Makes node `id` the leader of a partition.
    pub fn move_leader(&self, topic: &str, partition: i32, id: usize) {
        self.call("move_leader", json!({ "topic": topic, "partition": partition, "node": id }));
    }

    /// Lets each client fetch so many bytes a second from each broker; without a limit if `None`.
    pub fn limit_consumers(&self, bytes_per_second: Option<u64>) {
        self.limit("consumer_byte_rate", bytes_per_second);
    }

    /// The same of what each client writes.
    pub fn limit_producers(&self, bytes_per_second: Option<u64>) {
        self.limit("producer_byte_rate", bytes_per_second);
    }

    fn limit(&self, kind: &str, bytes_per_second: Option<u64>) {
        self.call("limit", json!({ "kind": kind, "bytes_per_second": bytes_per_second }));
    }

    /// Adds or replaces a SCRAM user ("SCRAM-SHA-256", "SCRAM-SHA-512").
    pub fn add_scram(&self, mechanism: &str, user: &str, password: &str) {
        let request = json!({ "mechanism": mechanism, "user": user, "password": password });
        self.call("add_scram", request);
    }
}

fn acl(user: &str, operation: &str, resource: &str, name: &str) -> Value {
    json!({ "user": user, "operation": operation, "resource": resource, "name": name })
}
