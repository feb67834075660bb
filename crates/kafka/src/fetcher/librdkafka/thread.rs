//! The fetch thread: it takes librdkafka's messages off one queue and hands them on, partition by
//! partition.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::watch;
use zafka_envelope::Record;

use crate::assignment::Assignment;
use crate::client::Client;
use crate::fetcher::record_sender::{RecordSender, TrySend};
use crate::fetcher::{CorruptBatch, FetchFailure, FetchFault, Fetched, Records};
use crate::generation::Generation;
use crate::mailbox::Mailbox;
use crate::native::{Message, Messages, Queue};
use crate::reset::DueOffset;

/// About as many bytes are taken at once.
const TAKE_BYTES: usize = 1 << 20;
/// The most messages that are taken at once.
const TAKE_MESSAGES: usize = 4096;
/// Longest wait for the first message, and longest time that the membership waits for the table.
const WAIT: Duration = Duration::from_millis(50);

/// Messages of one partition.
pub(crate) struct FetchedMessages {
    taken: usize,
    messages: Messages,
}

impl FetchedMessages {
    pub(crate) fn walk(&mut self, mut f: impl FnMut(&Record<'_>) -> ControlFlow<()>) -> bool {
        let mut headers = Vec::new();
        let messages = self.messages.as_slice();
        while let Some(message) = messages.get(self.taken) {
            self.taken += 1;
            if message.error().is_some() {
                continue;
            }
            headers.clear();
            message.headers(&mut headers);
            let record = Record {
                offset: message.offset(),
                prev: None,
                timestamp: message.timestamp(),
                key: message.key(),
                value: message.value(),
                headers: &headers,
            };
            if f(&record).is_break() {
                break;
            }
        }
        self.taken == messages.len()
    }
}

/// A partition that is held, and the generation that is fetched.
type ActiveRead = (Arc<Assignment>, Generation);

/// The assignments that are held. The fetch thread has it locked while it takes messages and looks
/// up whose they are, so that a message never counts for a later assignment of its partition than
/// the one it was fetched for.
#[derive(Debug, Default)]
pub(super) struct ActiveReads(HashMap<String, HashMap<i32, ActiveRead>>);

impl ActiveReads {
    pub(super) fn insert(&mut self, assignment: &Arc<Assignment>, generation: Generation) {
        let partitions = self.0.entry(assignment.topic().to_string()).or_default();
        partitions.insert(assignment.partition(), (Arc::clone(assignment), generation));
    }

    pub(super) fn remove(&mut self, assignments: &[Arc<Assignment>]) {
        for assignment in assignments {
            if let Some(partitions) = self.0.get_mut(&**assignment.topic()) {
                partitions.remove(&assignment.partition());
                if partitions.is_empty() {
                    self.0.remove(&**assignment.topic());
                }
            }
        }
    }

    /// Returns true if this generation of an assignment is the one that is fetched.
    pub(super) fn is_read_as(&self, assignment: &Arc<Assignment>, generation: Generation) -> bool {
        let read = self.get(assignment.topic(), assignment.partition());
        read.is_some_and(|(held, read)| Arc::ptr_eq(held, assignment) && *read == generation)
    }

    fn get(&self, topic: &str, partition: i32) -> Option<&ActiveRead> {
        self.0.get(topic)?.get(&partition)
    }
}

/// An item of the queue, in its order.
enum Polled {
    Fetched(Fetched),
    /// A batch that cannot be read, and why.
    Corrupt(Arc<Assignment>, Generation, FetchFailure),
}

/// Returns true if librdkafka cannot read a batch, and continues behind it.
fn is_corruption(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(code, C::BadMessage | C::BadCompression | C::NotImplemented)
}

/// The fetch thread's own.
pub(super) struct FetchThread {
    pub(super) client: Arc<Client>,
    pub(super) queue: Arc<Queue>,
    pub(super) reads: Arc<Mutex<ActiveReads>>,
    pub(super) records_tx: RecordSender,
    pub(super) faults: Mailbox<FetchFault>,
    pub(super) stop: watch::Receiver<bool>,
}

impl FetchThread {
    /// Runs until it is to stop, or the channel is closed.
    pub(super) fn run(mut self, runtime: &tokio::runtime::Runtime) {
        while !*self.stop.borrow() {
            for taken in self.take() {
                match taken {
                    Polled::Fetched(fetched) => {
                        if self.hand_out(fetched, runtime).is_break() {
                            return;
                        }
                    }
                    Polled::Corrupt(assignment, generation, reason) => {
                        self.handle_corrupt(assignment, generation.number, reason);
                    }
                }
            }
        }
    }

    /// librdkafka goes on behind a batch that it cannot read. What comes of the partition after it
    /// is not handed out: that would skip records.
    fn handle_corrupt(&self, assignment: Arc<Assignment>, generation: u32, error: FetchFailure) {
        if assignment.is_wanted() && assignment.is_read_as(generation) {
            let offset = assignment.position();
            assignment.set_corrupt_at(generation, offset);
            let due = DueOffset { assignment, generation, offset };
            // It reports a batch that it cannot read, and not where that ends.
            let batch = CorruptBatch { due, next: None, error };
            self.faults.send(FetchFault::Corrupt(batch));
        }
    }

    fn take(&self) -> Vec<Polled> {
        let held = self.reads.lock();
        let mut fetched = Vec::new();
        for run in self.queue.take(TAKE_MESSAGES, TAKE_BYTES, WAIT).into_runs() {
            let Some(message) = run.as_slice().first() else { continue };
            let read = message.topic().and_then(|topic| held.get(topic, message.partition()));
            match (message.error(), read) {
                (None, Some(read)) => {
                    let last = run.as_slice().last().unwrap_or(message);
                    let next_offset = last.offset() + 1;
                    fetched.push(Polled::Fetched(fetched_by_librdkafka(read, next_offset, run)));
                }
                (Some(RDKafkaErrorCode::PartitionEOF), Some(read)) => {
                    let next_offset = message.offset();
                    fetched.push(Polled::Fetched(fetched_by_librdkafka(read, next_offset, run)));
                }
                (Some(RDKafkaErrorCode::AutoOffsetReset), Some((assignment, generation))) => {
                    let (assignment, offset) = (Arc::clone(assignment), message.offset());
                    let due = DueOffset { assignment, generation: generation.number, offset };
                    self.faults.send(FetchFault::OutOfRange { due, error: failure(message) });
                }
                (Some(code), Some((assignment, generation))) if is_corruption(code) => {
                    let reason = failure(message);
                    fetched.push(Polled::Corrupt(Arc::clone(assignment), *generation, reason));
                }
                (Some(code), _) => {
                    let text = failure(message);
                    let place =
                        message.topic().map(|topic| format!("{topic}/{}: ", message.partition()));
                    self.client
                        .context()
                        .report(&format!("{}{code}: {text}", place.unwrap_or_default()));
                }
                (None, None) => {}
            }
        }
        fetched
    }

    /// Waits for room among the records; the place where backpressure stops the fetching.
    fn hand_out(&mut self, fetched: Fetched, runtime: &tokio::runtime::Runtime) -> ControlFlow<()> {
        let (records_tx, stop) = (&self.records_tx, &mut self.stop);
        match records_tx.try_send(fetched) {
            TrySend::Sent => ControlFlow::Continue(()),
            TrySend::Closed => ControlFlow::Break(()),
            TrySend::Full(fetched) => runtime.block_on(async {
                tokio::select! {
                    biased;
                    _ = stop.wait_for(|stop| *stop) => ControlFlow::Break(()),
                    handed = records_tx.send(fetched) => handed,
                }
            }),
        }
    }
}

/// The text that librdkafka puts in the place of a value.
fn failure(message: &Message) -> FetchFailure {
    let text = String::from_utf8_lossy(message.value().unwrap_or_default());
    FetchFailure::Librdkafka(text.into_owned())
}

fn fetched_by_librdkafka(read: &ActiveRead, next_offset: i64, messages: Messages) -> Fetched {
    let (assignment, generation) = (Arc::clone(&read.0), read.1);
    let records = Records::Librdkafka(FetchedMessages { taken: 0, messages });
    Fetched { assignment, generation, next_offset, records }
}
