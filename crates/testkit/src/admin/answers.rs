//! Answers of the helper, as types.

use serde_json::Value;

/// A topic as the cluster has it.
#[derive(Debug, Clone)]
pub struct TopicInfo {
    /// Kafka's topic id; a topic made again under the same name has another.
    pub topic_id: String,
    /// Partitions by number.
    pub partitions: Vec<PartitionInfo>,
}

/// A partition as the cluster has it.
#[derive(Debug, Clone)]
pub struct PartitionInfo {
    /// Its number.
    pub partition: i32,
    /// The leader's node id, -1 without one.
    pub leader: i64,
    /// Node ids of the replicas.
    pub replicas: Vec<usize>,
    /// Node ids of the replicas in sync.
    pub isr: Vec<usize>,
    /// The first offset.
    pub earliest: i64,
    /// The offset that the next record will get (high watermark).
    pub latest: i64,
    /// The last stable offset: the end for readers of committed records.
    pub stable: i64,
}

impl TopicInfo {
    /// The partition with a number; panics if there is none.
    pub fn partition(&self, number: i32) -> &PartitionInfo {
        self.partitions.iter().find(|p| p.partition == number).expect("the partition exists")
    }

    pub(crate) fn parse(value: &Value) -> Self {
        let nodes = |v: &Value| serde_json::from_value(v.clone()).unwrap();
        let mut partitions: Vec<PartitionInfo> = value["partitions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| PartitionInfo {
                partition: i32::try_from(p["partition"].as_i64().unwrap()).unwrap(),
                leader: p["leader"].as_i64().unwrap(),
                replicas: nodes(&p["replicas"]),
                isr: nodes(&p["isr"]),
                earliest: p["earliest"].as_i64().unwrap(),
                latest: p["latest"].as_i64().unwrap(),
                stable: p["stable"].as_i64().unwrap(),
            })
            .collect();
        partitions.sort_by_key(|p| p.partition);
        Self { topic_id: text(&value["topic_id"]), partitions }
    }
}

/// A consumer group.
#[derive(Debug, Clone)]
pub struct Group {
    /// "Consumer" (KIP-848) or "Classic".
    pub kind: String,
    /// "Stable", "Empty", ...
    pub state: String,
    /// The coordinating node's id.
    pub coordinator: usize,
    /// Its members.
    pub members: Vec<Member>,
}

/// A member of a group.
#[derive(Debug, Clone)]
pub struct Member {
    /// The member id.
    pub id: String,
    /// The client id.
    pub client: String,
    /// The static instance id, or empty.
    pub instance: String,
    /// Partitions it has, sorted.
    pub assignment: Vec<(String, i32)>,
}

impl Group {
    pub(crate) fn parse(value: &Value) -> Self {
        let member = |m: &Value| {
            let mut assignment: Vec<(String, i32)> =
                serde_json::from_value(m["assignment"].clone()).unwrap();
            assignment.sort();
            Member {
                id: text(&m["id"]),
                client: text(&m["client"]),
                instance: text(&m["instance"]),
                assignment,
            }
        };
        Self {
            kind: text(&value["type"]),
            state: text(&value["state"]),
            coordinator: value["coordinator"].as_u64().unwrap() as usize,
            members: value["members"].as_array().unwrap().iter().map(member).collect(),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
