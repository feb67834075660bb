//! A route's task: it takes records from Kafka, publishes chunks, and answers the group's events.
//!
//! Backpressure is in the order of things: no record is taken while a chunk waits for room, and the group's events
//! are answered all the while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{error, info, warn};
use zafka_kafka::{Assignment, Fetched, RevokeDone, SourceEvent, SourceReceivers};
use zafka_sockets::{Chunk, Publisher};

use crate::partition::{Partition, Progress};
use crate::shared::{PartitionKey, RouteShared};

/// Time between two commits.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two looks at whether a revoked partition, or the whole ring, has drained.
const DRAIN_LOOK: Duration = Duration::from_millis(2);
/// Time a route that stopped by itself has to send what is in its ring.
const STOPPED_DRAIN: Duration = Duration::from_secs(5);
/// Size of a chunk in bytes, unless the ring is small or one record is larger.
const CHUNK_BYTES: usize = 128 * 1024;
/// Chunks that a ring holds at the least.
const CHUNKS_PER_RING: usize = 16;
/// Chunks published before the group's events are looked at.
const CHUNKS_PER_TURN: usize = 16;

/// Partitions that the group takes back, while they drain.
struct Revoking {
    partitions: Vec<Arc<Progress>>,
    deadline: Instant,
    done: RevokeDone,
}

/// The task's own state.
pub(crate) struct Route {
    shared: Arc<RouteShared>,
    publisher: Publisher,
    partitions: BTreeMap<PartitionKey, Partition>,
    revoking: Vec<Revoking>,
    /// The records being encoded.
    fetched: Option<Fetched>,
    /// A chunk that waits for room.
    pending: Option<Chunk>,
    chunk_bytes: usize,
    /// Whether the Kafka side hands out no more records; its events tell why.
    records_ended: bool,
}

impl Route {
    pub(crate) fn new(shared: Arc<RouteShared>, publisher: Publisher) -> Self {
        let chunk_bytes = CHUNK_BYTES.min(shared.config.socket.ring_bytes / CHUNKS_PER_RING).max(1);
        Self {
            shared,
            publisher,
            partitions: BTreeMap::new(),
            revoking: Vec::new(),
            fetched: None,
            pending: None,
            chunk_bytes,
            records_ended: false,
        }
    }

    /// Runs until `stop` holds a deadline: then what is in the ring is sent until that moment, what was delivered is
    /// committed, and the group is left.
    pub(crate) async fn run(
        mut self,
        mut receivers: SourceReceivers,
        mut stop: watch::Receiver<Option<Instant>>,
    ) {
        self.relay(&mut receivers, &mut stop).await;
        let deadline = stop.borrow().unwrap_or_else(|| Instant::now() + STOPPED_DRAIN);
        let SourceReceivers { mut events, records } = receivers;
        // Nothing more is taken: the fetch thread ends where it waits.
        drop(records);
        self.drain(&mut events, deadline).await;
        for revoking in std::mem::take(&mut self.revoking) {
            self.release(revoking);
        }
        let positions = self.shared.partitions.lock().values().map(|progress| progress.position()).collect();
        self.shared.source.close(positions).await;
        self.shared.socket.close().await;
        info!(route = self.shared.config.name, "route ended");
    }

    async fn relay(&mut self, receivers: &mut SourceReceivers, stop: &mut watch::Receiver<Option<Instant>>) {
        let mut commit = interval(COMMIT_INTERVAL);
        commit.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.publish_what_fits();
            let size = self.pending.as_ref().map_or(0, Chunk::len);
            let busy = self.pending.is_some() || self.fetched.is_some();
            let room = self.publisher.room(size);
            tokio::select! {
                biased;
                _ = stop.wait_for(Option::is_some) => return,
                event = receivers.events.recv() => match event {
                    Some(SourceEvent::Stopped(reason)) => return self.stopped(reason),
                    Some(event) => self.handle_event(event),
                    None => return self.stopped("the Kafka side ended".to_owned()),
                },
                () = sleep_until(Instant::now() + DRAIN_LOOK), if !self.revoking.is_empty() => self.look_at_revoking(),
                _ = commit.tick() => self.commit(),
                () = room, if busy => {}
                fetched = next_fetched(&self.publisher, &mut receivers.records), if !busy && !self.records_ended => {
                    self.records_ended = fetched.is_none();
                    self.fetched = fetched;
                }
            }
        }
    }

    /// Encodes and publishes while there is something to encode and room for it, for one turn.
    fn publish_what_fits(&mut self) {
        for _ in 0..CHUNKS_PER_TURN {
            if let Some(chunk) = self.pending.take() {
                if !self.publisher.admits(chunk.len()) {
                    self.pending = Some(chunk);
                    return;
                }
                self.publisher.publish(chunk);
            }
            if !self.encode_next() {
                return;
            }
        }
    }

    /// Makes the next chunk out of the fetched records. False where there are none.
    fn encode_next(&mut self) -> bool {
        let Some(mut fetched) = self.fetched.take() else { return false };
        let assignment = Arc::clone(&fetched.assignment);
        if !assignment.is_active() {
            return false;
        }
        let chunk_bytes = self.chunk_bytes;
        let step = self.partition(&assignment).encode(&mut fetched, chunk_bytes);
        self.shared.records_read.fetch_add(step.records, Ordering::Relaxed);
        self.shared.headers_missing.fetch_add(step.headers_missing, Ordering::Relaxed);
        if let Some(chunk) = &step.chunk {
            self.shared.bytes_encoded.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        self.pending = step.chunk;
        if !step.finished {
            self.fetched = Some(fetched);
        }
        true
    }

    /// The partition of an assignment, taken up now if its records came before the news of it.
    fn partition(&mut self, assignment: &Arc<Assignment>) -> &mut Partition {
        let key = (Arc::clone(&assignment.topic), assignment.partition);
        let shared = &self.shared;
        let take_up = || {
            let partition =
                Partition::new(Arc::clone(assignment), &shared.config.frames, &shared.config.name);
            shared.partitions.lock().insert(
                (Arc::clone(&assignment.topic), assignment.partition),
                Arc::clone(&partition.progress),
            );
            partition
        };
        let partition = self.partitions.entry(key).or_insert_with(take_up);
        if !Arc::ptr_eq(&partition.progress.assignment, assignment) {
            *partition = take_up();
        }
        partition
    }

    fn handle_event(&mut self, event: SourceEvent) {
        let route = &self.shared.config.name;
        match event {
            SourceEvent::Assigned(assignments) => {
                info!(route, partitions = assignments.len(), "partitions assigned");
                for assignment in assignments.iter().filter(|assignment| assignment.is_active()) {
                    self.partition(assignment);
                }
            }
            SourceEvent::Revoked { assignments, done } => {
                info!(route, partitions = assignments.len(), "partitions revoked");
                let deadline = Instant::now() + self.shared.config.source.revoke_timeout;
                let partitions = self.take_away(&assignments);
                self.revoking.push(Revoking { partitions, deadline, done });
                self.look_at_revoking();
            }
            SourceEvent::Lost(assignments) => {
                warn!(
                    route,
                    partitions = assignments.len(),
                    "partitions lost: another member may hold them already"
                );
                for progress in self.take_away(&assignments) {
                    self.shared.socket.withdraw(&progress.origin);
                }
            }
            SourceEvent::Reset { assignment, from, to } => {
                warn!(route, topic = %assignment.topic, partition = assignment.partition, from, to, "offset reset");
                self.partition(&assignment).reset(to);
            }
            SourceEvent::Stopped(reason) => self.stopped(reason),
        }
    }

    /// Forgets partitions that are no longer the route's, with what of them was not published.
    fn take_away(&mut self, assignments: &[Arc<Assignment>]) -> Vec<Arc<Progress>> {
        let gone =
            |assignment: &Arc<Assignment>| assignments.iter().any(|other| Arc::ptr_eq(other, assignment));
        let mut taken = Vec::new();
        let mut shown = self.shared.partitions.lock();
        self.partitions.retain(|key, partition| {
            let gone = gone(&partition.progress.assignment);
            if gone {
                shown.remove(key);
                taken.push(Arc::clone(&partition.progress));
            }
            !gone
        });
        drop(shown);
        self.fetched.take_if(|fetched| gone(&fetched.assignment));
        if let Some(chunk) = &self.pending
            && taken.iter().any(|progress| chunk.is_of(&progress.origin))
        {
            self.pending = None;
        }
        taken
    }

    /// Gives revoked partitions back once they have drained or their time is up.
    fn look_at_revoking(&mut self) {
        let now = Instant::now();
        let (over, waiting) =
            std::mem::take(&mut self.revoking).into_iter().partition(|revoking: &Revoking| {
                now >= revoking.deadline || revoking.partitions.iter().all(|progress| progress.is_drained())
            });
        self.revoking = waiting;
        for revoking in over {
            self.release(revoking);
        }
    }

    fn release(&self, revoking: Revoking) {
        for progress in &revoking.partitions {
            self.shared.socket.withdraw(&progress.origin);
        }
        revoking.done.complete(revoking.partitions.iter().map(|progress| progress.position()).collect());
    }

    fn commit(&self) {
        if self.shared.config.source.group.is_none() {
            return;
        }
        let due: Vec<_> = (self.shared.partitions.lock().values())
            .map(|progress| progress.position())
            .filter(|(assignment, delivered)| assignment.committed() != Some(*delivered))
            .collect();
        if !due.is_empty() {
            self.shared.source.commit(due);
        }
    }

    fn stopped(&self, reason: String) {
        error!(route = self.shared.config.name, reason, "route stopped");
        *self.shared.stopped.lock() = Some(reason);
    }

    /// Lets the peers have what is in the ring, answering the group meanwhile.
    async fn drain(&mut self, events: &mut mpsc::Receiver<SourceEvent>, deadline: Instant) {
        self.fetched = None;
        self.pending = None;
        let shared = Arc::clone(&self.shared);
        let drained = shared.socket.drained(deadline);
        tokio::pin!(drained);
        loop {
            tokio::select! {
                complete = &mut drained => {
                    if !complete {
                        warn!(route = shared.config.name, "shutdown_timeout passed with messages still to be sent; \
                            they will be sent again after the next start");
                    }
                    return;
                }
                Some(event) = events.recv() => self.handle_event(event),
                () = sleep_until(Instant::now() + DRAIN_LOOK), if !self.revoking.is_empty() => self.look_at_revoking(),
            }
        }
    }
}

/// The next fetched records, taken only while the socket would admit something.
async fn next_fetched(publisher: &Publisher, records: &mut mpsc::Receiver<Fetched>) -> Option<Fetched> {
    publisher.room(0).await;
    records.recv().await
}
