//! The state of a route as its reports see it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use zafka_kafka::TopicPartition;
use zafka_sockets::now_ms;

use super::progress::Progress;

/// A route's partitions and counts, written by its state and read by its reports.
#[derive(Debug, Default)]
pub struct RouteReport {
    pub(crate) partitions: Mutex<BTreeMap<TopicPartition, Arc<Progress>>>,
    /// The partitions that too few peers want, and since when, in ms since the epoch.
    pub(crate) short: Mutex<BTreeMap<TopicPartition, i64>>,
    pub(crate) records_read: AtomicU64,
    pub(crate) bytes_encoded: AtomicU64,
    pub(crate) headers_missing: AtomicU64,
    /// The reason why the route stopped for good, once it did.
    pub(crate) stopped: Mutex<Option<String>>,
}

impl RouteReport {
    /// Takes note of whether too few peers want a partition. Since when is shown, and decides
    /// nothing.
    pub(super) fn note_short(&self, key: &TopicPartition, is_short: bool) {
        let mut short = self.short.lock();
        if !is_short {
            short.remove(key);
        } else if !short.contains_key(key) {
            short.insert(key.clone(), now_ms());
        }
    }

    /// Shows a partition from now on, in place of what was shown of it before.
    pub(super) fn show(&self, progress: &Arc<Progress>) {
        let key = progress.assignment.topic_partition.clone();
        self.partitions.lock().insert(key, Arc::clone(progress));
    }

    /// Forgets a partition.
    pub(super) fn hide(&self, key: &TopicPartition) {
        self.partitions.lock().remove(key);
        self.short.lock().remove(key);
    }

    /// Returns why the route stopped for good, once it did.
    pub fn stopped(&self) -> Option<String> {
        self.stopped.lock().clone()
    }

    /// Returns the progress of every partition that the route holds.
    #[cfg(any(test, feature = "sim"))]
    pub fn progress(&self) -> Vec<Arc<Progress>> {
        self.partitions.lock().values().cloned().collect()
    }
}
