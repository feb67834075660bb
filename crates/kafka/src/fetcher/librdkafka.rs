//! Fetching by librdkafka: every partition delivers to one queue, which a thread of ours empties.

mod thread;

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::watch;

use crate::assignment::{Assignment, Positions};
use crate::client::{Client, ClientError};
use crate::fetcher::{FetchFault, RecordSender};
use crate::generation::Generation;
use crate::guard::{self, Panicked};
use crate::mailbox::Mailbox;
use crate::native::{Queue, SimpleTopic};
pub(crate) use thread::FetchedMessages;
use thread::{ActiveReads, FetchThread};

/// librdkafka as the fetcher.
pub(crate) struct LibrdkafkaFetcher {
    client: Arc<Client>,
    in_group: bool,
    queue: Arc<Queue>,
    reads: Arc<Mutex<ActiveReads>>,
    /// The topics that are read, if there is no group.
    simple: HashMap<String, SimpleTopic>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl LibrdkafkaFetcher {
    /// Starts the thread.
    pub(crate) fn start(
        client: &Arc<Client>,
        in_group: bool,
        records_tx: RecordSender,
        faults: Mailbox<FetchFault>,
        panics: &Mailbox<Panicked>,
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::new(client).ok_or(std::io::ErrorKind::OutOfMemory)?);
        let reads = Arc::new(Mutex::new(ActiveReads::default()));
        let (stop, stopped) = watch::channel(false);
        let thread = FetchThread {
            client: Arc::clone(client),
            queue: Arc::clone(&queue),
            reads: Arc::clone(&reads),
            records_tx,
            faults,
            stop: stopped,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let thread = guard::spawn("kafka-fetch", panics, move || thread.run(&runtime))?;
        let client = Arc::clone(client);
        Ok(Self {
            client,
            in_group,
            queue,
            reads,
            simple: HashMap::new(),
            stop,
            thread: Some(thread),
        })
    }

    pub(super) fn add(&mut self, assignments: &[Arc<Assignment>]) -> Result<(), ClientError> {
        let mut positions = Vec::with_capacity(assignments.len());
        let mut reads = self.reads.lock();
        for assignment in assignments {
            let (generation, position) = assignment.reading().place();
            reads.insert(assignment, generation);
            positions.push((Arc::clone(assignment), position));
        }
        drop(reads);
        self.read_from(&positions)?;
        assignments
            .iter()
            .filter(|assignment| assignment.is_paused())
            .try_for_each(|held| self.pause(held))
    }

    /// Makes librdkafka fetch from these offsets into our queue.
    fn read_from(&mut self, positions: &Positions) -> Result<(), ClientError> {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for (assignment, offset) in positions {
            if !self.in_group {
                let topic = match self.simple.get(&**assignment.topic()) {
                    Some(topic) => topic,
                    None => {
                        let topic = SimpleTopic::new(&self.client, assignment.topic());
                        let topic = topic
                            .ok_or_else(|| ClientError::Topic(Arc::clone(assignment.topic())))?;
                        self.simple.entry(assignment.topic().to_string()).or_insert(topic)
                    }
                };
                topic.start(assignment.partition(), *offset, &self.queue)?;
                continue;
            }
            self.queue.forward(assignment.topic(), assignment.partition());
            list.add_partition_offset(
                assignment.topic(),
                assignment.partition(),
                Offset::Offset(*offset),
            )?;
        }
        if !self.in_group {
            return Ok(());
        }
        self.client.incremental_assign(&list)?;
        // librdkafka ends the forwarding of a partition that was let go
        // (`rd_kafka_toppar_fetch_stop`), and that may come as late as just before the
        // partition is taken again. It is over by now, and what was fetched meanwhile
        // is forwarded too.
        for (assignment, _) in positions {
            self.queue.forward(assignment.topic(), assignment.partition());
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, assignments: &[Arc<Assignment>]) {
        self.reads.lock().remove(assignments);
        if !self.in_group {
            self.stop_reading(assignments);
        }
    }

    fn stop_reading(&self, assignments: &[Arc<Assignment>]) {
        for assignment in assignments {
            if let Some(topic) = self.simple.get(&**assignment.topic()) {
                topic.stop(assignment.partition());
            }
        }
    }

    /// librdkafka seeks no partition whose offset was out of range: let it go and take it again.
    /// Once that call is over it gives out nothing more of what it fetched before (its version
    /// barrier), and the table is locked meanwhile: so no message counts for another generation
    /// than the one it was fetched in.
    pub(super) fn seek(
        &mut self,
        assignment: &Arc<Assignment>,
        generation: Generation,
    ) -> Result<(), ClientError> {
        let reads = Arc::clone(&self.reads);
        let mut reads = reads.lock();
        if reads.is_read_as(assignment, generation) {
            return Ok(());
        }
        let mut let_go = Ok(());
        if self.in_group {
            let_go = self.client.incremental_unassign(&only(assignment));
        } else {
            self.stop_reading(std::slice::from_ref(assignment));
        }
        reads.insert(assignment, generation);
        drop(reads);
        self.read_from(&vec![(Arc::clone(assignment), generation.start)])?;
        if assignment.is_paused() {
            return self.pause(assignment);
        }
        if self.in_group {
            // Whether a pause outlives the partition's place in the assignment is librdkafka's
            // affair.
            self.client.resume(&only(assignment))?;
        }
        // It is read all the same.
        Ok(let_go?)
    }

    /// Pauses a partition; it stays among those that are held.
    pub(super) fn pause(&mut self, assignment: &Arc<Assignment>) -> Result<(), ClientError> {
        if !self.in_group {
            self.stop_reading(std::slice::from_ref(assignment));
            return Ok(());
        }
        Ok(self.client.pause(&only(assignment))?)
    }

    pub(super) fn stop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic of it was told.
            let _ = thread.join();
        }
    }
}

fn only(assignment: &Assignment) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition(assignment.topic(), assignment.partition());
    list
}
