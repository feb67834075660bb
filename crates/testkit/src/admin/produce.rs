//! Records written by Kafka's own Java producer.

use std::sync::Arc;
use std::thread::JoinHandle;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::Admin;
use crate::sequence::{Produced, Sequence};

/// A record to write; `Record::default()` has a null key and a null value.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The key; `None` is null.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is null, a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in order; names may repeat.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since the epoch; `None` is now.
    pub timestamp: Option<i64>,
    /// `None` lets the partitioner choose.
    pub partition: Option<i32>,
}

impl Record {
    /// A record with a key and a value.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), value: Some(value.into()), ..Self::default() }
    }

    /// Gives it a partition.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    fn json(&self) -> Value {
        let bytes = |b: &Option<Vec<u8>>| b.as_ref().map(|b| BASE64_STANDARD.encode(b));
        let headers: Vec<_> = self.headers.iter().map(|(n, v)| json!([n, bytes(v)])).collect();
        json!({
            "key": bytes(&self.key), "value": bytes(&self.value), "headers": headers,
            "timestamp": self.timestamp, "partition": self.partition,
        })
    }
}

/// Records being written on another thread.
#[derive(Debug)]
pub struct Background(JoinHandle<Vec<Produced>>);

impl Background {
    /// Waits until all are written; returns their places, in sequence order.
    pub fn join(self) -> Vec<Produced> {
        self.0.join().expect("the records were written")
    }

    /// Returns true if all records are written.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Admin {
    /// Writes records and waits for the cluster (acks=all); returns their places.
    pub fn produce(&self, topic: &str, records: &[Record]) -> Vec<Produced> {
        self.produce_as(topic, records, "none", None)
    }

    /// Produces as [`Self::produce`] does, compressed, or in a transaction that was begun.
    pub fn produce_as(
        &self,
        topic: &str,
        records: &[Record],
        compression: &str,
        transaction: Option<&str>,
    ) -> Vec<Produced> {
        let records: Vec<_> = records.iter().map(Record::json).collect();
        let request = json!({
            "topic": topic, "records": records, "compression": compression,
            "transaction": transaction,
        });
        let rows: Vec<(i32, i64, i64)> =
            serde_json::from_value(self.call("produce", request)).unwrap();
        rows.into_iter().map(|(partition, offset, _)| Produced { partition, offset }).collect()
    }

    /// Writes a sequence and waits; returns the place of each number, in order.
    pub fn produce_sequence(&self, sequence: &Sequence) -> Vec<Produced> {
        let request = json!({
            "topic": sequence.topic, "count": sequence.count, "first": sequence.first,
            "value_size": sequence.value_size, "partitions": sequence.partitions,
            "keys": sequence.keys, "compression": sequence.compression,
            "per_second": sequence.per_second, "transaction": sequence.transaction,
        });
        let rows: Vec<(i32, i64)> =
            serde_json::from_value(self.call("produce_sequence", request)).unwrap();
        rows.into_iter().map(|(partition, offset)| Produced { partition, offset }).collect()
    }

    /// Writes a sequence on another thread (at most three minutes long).
    pub fn produce_in_background(self: &Arc<Self>, sequence: Sequence) -> Background {
        let admin = Arc::clone(self);
        Background(std::thread::spawn(move || admin.produce_sequence(&sequence)))
    }

    /// Begins a transaction of the producer with this transactional id. Left alone, it stays open
    /// for ten minutes.
    pub fn begin(&self, transaction: &str) {
        self.call("begin", json!({ "transaction": transaction }));
    }

    /// Waits until the transaction's records are written.
    pub fn flush(&self, transaction: &str) {
        self.call("flush", json!({ "transaction": transaction }));
    }

    /// Commits it.
    pub fn commit(&self, transaction: &str) {
        self.call("commit", json!({ "transaction": transaction }));
    }

    /// Aborts it.
    pub fn abort(&self, transaction: &str) {
        self.call("abort", json!({ "transaction": transaction }));
    }
}
