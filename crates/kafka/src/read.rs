//! A range of a partition, without a group: from an offset, up to another one or to
//! the end of the log, as many bytes at a time as there is credit for.
//!
//! It commits nothing and keeps no place at the broker: its fetches have no session, and the
//! connections that carry them are lent from one reader to the next. What a range cannot go on
//! from (an offset that is gone, a log that was truncated, a topic that is another one now) is an
//! error that says so; it never continues elsewhere. New records are not waited for.
//!
//! `state` decides, without connections and clock; `task` carries out.

mod error;
mod state;
mod task;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;
use zafka_envelope::Record;

use crate::cluster::{Cluster, MemoryPermit};
use crate::config::Isolation;
use crate::error::StartError;
use crate::records::Run;
use crate::topic_partition::TopicPartition;
use error::RangeFault;
pub use error::{ReadError, ReadFault};
use task::RangeTask;

/// Runs of records that wait to be received.
const WAITING: usize = 1;

/// A range to be read.
#[derive(Clone, Debug)]
pub struct Range {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// The topic that is meant: one that was recreated has another id. Whichever there is if
    /// `None`.
    pub topic_id: Option<Uuid>,
    /// The first offset. It need not have a record, but the log has to reach down to it.
    pub from: i64,
    /// The offset to end before; the end of the log as it is at the first answer if `None`, or if
    /// the log ends before. Under `read_committed` it ends at the last stable offset, else at the
    /// high watermark.
    pub to: Option<i64>,
    /// True if records of open and of aborted transactions are left out.
    pub isolation: Isolation,
    /// Time without progress after which the range is given up. Waiting for credit, or to be
    /// received, does not count.
    pub timeout: Duration,
}

/// Reads a range. Dropped, it ends at once.
///
/// ```
/// use std::ops::ControlFlow;
/// use std::time::Duration;
///
/// use zafka_kafka::config::{ClusterConfig, Isolation};
/// use zafka_kafka::embedded::{EmbeddedBroker, EmbeddedRecord};
/// use zafka_kafka::read::{Range, RangeReader};
/// use zafka_kafka::{Cluster, TopicPartition};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broker = EmbeddedBroker::start()?;
/// broker.create_topic("orders", 1)?;
/// let producer = broker.producer()?;
/// for value in ["a", "b", "c", "d"] {
///     producer.send(&EmbeddedRecord {
///         topic: "orders",
///         value: Some(value.as_bytes()),
///         ..EmbeddedRecord::default()
///     })?;
/// }
/// producer.flush(Duration::from_secs(60))?;
///
/// let cluster = Cluster::new(&ClusterConfig::new(vec![broker.bootstrap()]))?;
/// let range = Range {
///     topic_partition: TopicPartition::new("orders", 0),
///     topic_id: None,
///     from: 1,
///     to: Some(3),
///     isolation: Isolation::ReadCommitted,
///     timeout: Duration::from_secs(60),
/// };
/// let mut reader = RangeReader::start(&cluster, range, 1 << 20)?;
/// let mut offsets = Vec::new();
/// while let Some(mut records) = reader.next().await? {
///     records.walk(|record| {
///         offsets.push(record.offset);
///         ControlFlow::Continue(())
///     })?;
/// }
/// assert_eq!((offsets, reader.position()), (vec![1, 2], 3));
/// # Ok(())
/// # }
/// ```
pub struct RangeReader {
    topic_partition: TopicPartition,
    topic_id: Option<Uuid>,
    position: i64,
    credit: watch::Sender<u64>,
    items: mpsc::Receiver<RangeItem>,
    task: JoinHandle<()>,
    is_over: bool,
}

/// An item that the task hands over. Nothing follows an end or an error.
enum RangeItem {
    Records(Box<RangeRecords>),
    End { position: i64 },
    Failed(ReadError),
}

impl RangeReader {
    /// Begins. Waits for no broker. `credit` is as for [`Self::set_credit`].
    ///
    /// # Errors
    /// A certificate or a key cannot be used, or there is no tokio runtime to read on.
    pub fn start(cluster: &Cluster, range: Range, credit: u64) -> Result<Self, StartError> {
        let connections = cluster.own_connections()?;
        let runtime = Handle::try_current().map_err(|_| StartError::Runtime)?;
        let (credit, credited) = watch::channel(credit);
        let (items_tx, items) = mpsc::channel(WAITING);
        let (topic_partition, position) = (range.topic_partition.clone(), range.from);
        let task = RangeTask {
            connections,
            memory: cluster.reader_budget(),
            credit: credited,
            items: items_tx,
        };
        let task = runtime.spawn(task.run(range));
        let (topic_id, is_over) = (None, false);
        Ok(Self { topic_partition, topic_id, position, credit, items, task, is_over })
    }

    /// Sets how many bytes of records may be handed out in all since the beginning, those included
    /// that were. Setting it again to the same is nothing. A run that has begun is handed out
    /// whole: up to one batch, or 1 MiB of small ones, may go beyond.
    pub fn set_credit(&self, bytes: u64) {
        self.credit.send_replace(bytes);
    }

    /// The next records; `None` at the end of the range, and ever after. Waits for credit, and for
    /// memory that all readers of the cluster share: what it gave before is to be dropped first.
    /// Can be dropped and called again.
    ///
    /// # Errors
    /// Why the range cannot be read on. Nothing follows.
    pub async fn next(&mut self) -> Result<Option<RangeRecords>, ReadError> {
        if self.is_over {
            return Ok(None);
        }
        let item = self.items.recv().await;
        let end = match item {
            Some(RangeItem::Records(records)) => {
                (self.topic_id, self.position) = (records.topic_id, records.next_offset());
                return Ok(Some(*records));
            }
            Some(RangeItem::End { position }) => {
                self.position = position;
                Ok(None)
            }
            Some(RangeItem::Failed(error)) => Err(error),
            None => Err(self.broke_off()),
        };
        self.is_over = true;
        end
    }

    /// The offset after all that was handed out, past offsets that hold no record; after the end,
    /// that of the end.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// The id of the topic that was read; `None` before the first records, and if brokers have
    /// none.
    pub fn topic_id(&self) -> Option<Uuid> {
        self.topic_id
    }

    /// The task has panicked, or its runtime has ended.
    fn broke_off(&self) -> ReadError {
        let topic_partition = self.topic_partition.clone();
        ReadError::Unavailable { topic_partition, reason: RangeFault::Internal.into() }
    }
}

impl Drop for RangeReader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for RangeReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RangeReader")
            .field("topic_partition", &self.topic_partition)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

/// Records of a range, in their order. May hold none and only move the position.
pub struct RangeRecords {
    topic_partition: TopicPartition,
    topic_id: Option<Uuid>,
    run: Run,
    /// The offset that the range ends before.
    end: i64,
    /// True if all within the range were handed out.
    is_over: bool,
    /// The memory of the answer that they came in.
    _memory: Arc<MemoryPermit>,
}

impl RangeRecords {
    /// Hands each record to `f` until it breaks; the next call goes on after the last one handed
    /// out. True once all were handed out. `prev` is left to the caller.
    ///
    /// # Errors
    /// A batch breaks the format, though its checksum is right. What stands before it was handed
    /// out, and [`Self::next_offset`] is that of the fault.
    pub fn walk(
        &mut self,
        mut f: impl FnMut(&Record<'_>) -> ControlFlow<()>,
    ) -> Result<bool, ReadError> {
        if self.is_over {
            return Ok(true);
        }
        let (end, mut is_past) = (self.end, false);
        let walked = self.run.walk(|record| {
            is_past = record.offset >= end;
            if is_past { ControlFlow::Break(()) } else { f(record) }
        });
        let walked = walked.map_err(|error| ReadError::Corrupt {
            topic_partition: self.topic_partition.clone(),
            offset: self.run.next_offset(),
            reason: RangeFault::from(error).into(),
        })?;
        self.is_over = walked || is_past;
        Ok(self.is_over)
    }

    /// The offset to go on from after all of them, past offsets that hold no record a reader sees.
    pub fn next_offset(&self) -> i64 {
        self.run.next_offset().min(self.end)
    }
}

impl fmt::Debug for RangeRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RangeRecords")
            .field("topic_partition", &self.topic_partition)
            .field("next_offset", &self.next_offset())
            .finish_non_exhaustive()
    }
}
