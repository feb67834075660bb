//! Records as Kafka's own Java consumer reads them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::Admin;
use crate::checker::Received;

impl Admin {
    /// All records of a topic, up to the ends that it has now, sorted by partition and offset.
    pub fn read(&self, topic: &str) -> Vec<Received> {
        let rows = self.call("read", json!({ "topic": topic }));
        let rows = rows.as_array().unwrap().iter();
        let mut records: Vec<_> = rows.map(|row| record(topic, row)).collect();
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    }
}

fn record(topic: &str, row: &Value) -> Received {
    let header = |pair: &Value| (pair[0].as_str().unwrap().as_bytes().to_vec(), bytes(&pair[1]));
    Received {
        topic: topic.to_owned(),
        partition: i32::try_from(row[0].as_i64().unwrap()).unwrap(),
        offset: row[1].as_i64().unwrap(),
        prev: None,
        timestamp: row[2].as_i64().unwrap(),
        log_append: row[3].as_bool().unwrap(),
        key: bytes(&row[4]),
        value: bytes(&row[5]),
        headers: row[6].as_array().unwrap().iter().map(header).collect(),
    }
}

fn bytes(text: &Value) -> Option<Vec<u8>> {
    text.as_str().map(|text| BASE64_STANDARD.decode(text).unwrap())
}
