//! A route's task: it takes records from Kafka, publishes chunks, and answers the group's events.
//!
//! Backpressure is in the order of things: no record is taken while a chunk waits for room, and the
//! group's events are answered all the while. What was told before records came is known before
//! they are encoded.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{error, info, warn};
use zafka_kafka::{Assignment, Fetched, Generation, SourceEvent, SourceReceivers, TopicPartition};
use zafka_sockets::{Buffers, Publisher};

use super::gate::Act;
use super::partition::Partition;
use super::progress::{Pending, Progress};
use super::revoking::Revoking;
use super::shared::RouteShared;

/// Time between two commits.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two looks at whether a revoked partition has drained, where nothing else happens.
const DRAIN_LOOK: Duration = Duration::from_millis(2);
/// Time a route that stopped by itself has to send what is in its ring.
const STOPPED_DRAIN: Duration = Duration::from_secs(5);
/// Size of a chunk in bytes, unless the ring is small or one record is larger.
const CHUNK_BYTES: usize = 128 * 1024;
/// Chunks that a ring holds at the least.
const CHUNKS_PER_RING: usize = 16;
/// Chunks made before others get their turn: what is written together. Then connections are looked
/// at, so that the next answer is read by another thread while these are written.
const STEPS_PER_TURN: usize = 4;

/// The task's own state.
pub(crate) struct Route {
    shared: Arc<RouteShared>,
    publisher: Publisher,
    partitions: BTreeMap<TopicPartition, Partition>,
    revoking: Revoking,
    /// The records being encoded.
    fetched: Option<Fetched>,
    pending: Option<Pending>,
    buffers: Buffers,
    /// Steps taken in this turn.
    steps: usize,
    /// Whether the Kafka side hands out no more records; its events tell why.
    records_ended: bool,
    told_of_unheard: bool,
}

impl Route {
    pub(crate) fn new(shared: Arc<RouteShared>, publisher: Publisher) -> Self {
        let ring_bytes = shared.config.socket.ring_bytes;
        let chunk_bytes = CHUNK_BYTES.min(ring_bytes / CHUNKS_PER_RING).max(1);
        Self {
            shared,
            publisher,
            partitions: BTreeMap::new(),
            revoking: Revoking::default(),
            fetched: None,
            pending: None,
            buffers: Buffers::new(chunk_bytes, ring_bytes),
            steps: 0,
            records_ended: false,
            told_of_unheard: false,
        }
    }

    /// Runs until `stop` holds a deadline: then what is in the ring is sent until that moment, what
    /// was delivered is committed, and the group is left.
    pub(crate) async fn run(
        mut self,
        mut receivers: SourceReceivers,
        mut stop: watch::Receiver<Option<Instant>>,
    ) {
        self.relay(&mut receivers, &mut stop).await;
        self.publisher.flush();
        let deadline = stop.borrow().unwrap_or_else(|| Instant::now() + STOPPED_DRAIN);
        let SourceReceivers { mut events, records } = receivers;
        // Nothing more is taken: the fetch thread ends where it waits.
        drop(records);
        self.drain(&mut events, deadline).await;
        // What is told by now may say that the log no longer goes as far as what was delivered.
        while let Ok(event) = events.try_recv() {
            let _ = self.handle_event(event);
        }
        self.revoking.release_all(&self.shared.socket);
        drop(events);
        let positions =
            self.shared.partitions.lock().values().map(|progress| progress.position()).collect();
        self.shared.source.close(positions).await;
        self.shared.socket.close().await;
        info!(route = self.shared.config.name, "route ended");
    }

    async fn relay(
        &mut self,
        receivers: &mut SourceReceivers,
        stop: &mut watch::Receiver<Option<Instant>>,
    ) {
        let mut commit = interval(COMMIT_INTERVAL);
        commit.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shared = Arc::clone(&self.shared);
        loop {
            while let Ok(event) = receivers.events.try_recv() {
                if self.handle_event(event).is_break() {
                    return;
                }
            }
            self.revoking.release_due(&self.shared.socket, Instant::now());
            self.publish_what_fits();
            let busy = self.pending.is_some() || self.fetched.is_some();
            // What else is at hand goes out with it; events come first for those records too.
            if !busy && self.has_turn() && self.publisher.admits(0) {
                self.fetched = receivers.records.try_recv().ok();
                if self.fetched.is_some() {
                    continue;
                }
            }
            self.publisher.flush();
            self.steps = 0;
            let size = self.pending.as_ref().map_or(0, |pending| pending.chunk.weight());
            tokio::select! {
                biased;
                _ = stop.wait_for(Option::is_some) => return,
                event = receivers.events.recv() => {
                    let event = event.unwrap_or_else(|| SourceEvent::Stopped("the Kafka side ended".to_owned()));
                    if self.handle_event(event).is_break() {
                        return;
                    }
                }
                () = sleep(DRAIN_LOOK), if !self.revoking.is_empty() => {}
                () = shared.socket.demand_changed() => self.look_at_demand(),
                _ = commit.tick() => {
                    self.look_at_demand();
                    self.tell_of_unheard();
                    self.commit();
                    self.buffers.trim();
                }
                () = next_turn(&self.publisher, size), if busy => {}
                fetched = next_fetched(&self.publisher, &mut receivers.records), if !busy && !self.records_ended => {
                    self.records_ended = fetched.is_none();
                    self.fetched = fetched;
                }
            }
        }
    }

    /// Whether it may go on before the peers get their turn.
    fn has_turn(&self) -> bool {
        self.steps < STEPS_PER_TURN
    }

    /// Encodes and publishes while there is something to encode and room for it, for one turn.
    fn publish_what_fits(&mut self) {
        while self.has_turn() {
            if self
                .pending
                .as_ref()
                .is_some_and(|pending| !self.publisher.admits(pending.chunk.weight()))
            {
                break;
            }
            if let Some(pending) = self.pending.take() {
                self.publisher.add(pending.chunk);
            }
            self.steps += 1;
            if !self.encode_next() {
                break;
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
        let (buffers, generation) = (self.buffers.clone(), fetched.generation);
        let mut partition = self.partition(&assignment);
        if !partition.gate.is_open() {
            // They come again once enough want them.
            partition.gate.miss();
            return false;
        }
        if generation.number != partition.generation() {
            if generation.number < partition.generation() {
                // From before a restart: it comes again.
                return false;
            }
            self.begin(&assignment, generation);
            partition = self.partition(&assignment);
        }
        let step = partition.encode(&mut fetched, &buffers);
        let progress = Arc::clone(&partition.progress);
        self.shared.records_read.fetch_add(step.records, Ordering::Relaxed);
        self.shared.headers_missing.fetch_add(step.headers_missing, Ordering::Relaxed);
        if let Some(chunk) = &step.chunk {
            self.shared.bytes_encoded.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        self.pending = step.chunk.map(|chunk| Pending { chunk, progress, from: step.from });
        if !step.finished {
            self.fetched = Some(fetched);
        }
        true
    }

    /// Begins the generation of which these are the first records.
    fn begin(&mut self, assignment: &Arc<Assignment>, generation: Generation) {
        // Its event may have found no room, and come later than this.
        self.announce(assignment, generation);
        let partition = self.partition(assignment);
        partition.begin(generation);
        let progress = Arc::clone(&partition.progress);
        self.shared.show(&progress);
    }

    /// Hears of a generation of which records are to follow.
    fn announce(&mut self, assignment: &Arc<Assignment>, generation: Generation) {
        if self.partition(assignment).announce(generation) {
            self.shared.source.allow_rewind(Arc::clone(assignment));
        }
    }

    /// The partition of an assignment, added now if it is new.
    fn partition(&mut self, assignment: &Arc<Assignment>) -> &mut Partition {
        let key = assignment.topic_partition.clone();
        let shared = &self.shared;
        let take_up = || {
            let (encoder, demand) = (shared.encoder(assignment), shared.demand(assignment));
            let partition = Partition::new(Arc::clone(assignment), encoder, demand);
            if !partition.gate.is_open() {
                shared.source.pause(assignment);
            }
            shared.show(&partition.progress);
            partition
        };
        let partition = self.partitions.entry(key).or_insert_with(take_up);
        if !Arc::ptr_eq(&partition.progress.assignment, assignment) {
            partition.progress.withdraw(&shared.socket);
            *partition = take_up();
        }
        partition
    }

    /// Holds partitions that too few want, and opens those that enough want again.
    fn look_at_demand(&mut self) {
        let (shared, now) = (&self.shared, Instant::now());
        for (key, partition) in &mut self.partitions {
            let Some(demand) = &partition.progress.demand else { continue };
            shared.note_short(key, !demand.is_enough());
            let act = partition.gate.look(demand.is_enough(), partition.progress.is_short(), now);
            let Some(act) = act else { continue };
            let progress = Arc::clone(&partition.progress);
            if let Some(pending) =
                self.pending.take_if(|pending| Arc::ptr_eq(&pending.progress, &progress))
            {
                pending.discard();
            }
            self.fetched.take_if(|fetched| Arc::ptr_eq(&fetched.assignment, &progress.assignment));
            progress.take_back(&shared.socket);
            let (route, assignment) = (&shared.config.name, &progress.assignment);
            let (topic, number, delivered) =
                (assignment.topic(), assignment.partition(), progress.delivered());
            match act {
                Act::Hold => {
                    let (peers, needed) = (demand.peers(), demand.needed());
                    info!(route, %topic, partition = number, delivered, peers, needed, "held: too few subscribers");
                    shared.source.pause(assignment);
                }
                // Where there is none, a reset is about to be told, and this is done after it.
                Act::Open => {
                    if let Some(generation) =
                        shared.source.restart(assignment, partition.newest(), delivered)
                    {
                        info!(route, %topic, partition = number, delivered, "enough subscribers");
                        partition.restart(generation);
                        shared.show(&partition.progress);
                    }
                }
            }
        }
    }

    /// Breaks where nothing more is to be expected.
    fn handle_event(&mut self, event: SourceEvent) -> ControlFlow<()> {
        let route = &self.shared.config.name;
        match event {
            SourceEvent::Assigned(assignments) => {
                info!(route, partitions = assignments.len(), "partitions assigned");
                for assignment in assignments.iter().filter(|assignment| assignment.is_active()) {
                    self.partition(assignment);
                }
                self.look_at_demand();
            }
            SourceEvent::Revoked { assignments, done } => {
                info!(route, partitions = assignments.len(), "partitions revoked");
                let deadline = Instant::now() + self.shared.config.source.revoke_timeout;
                let partitions = self.take_away(&assignments);
                self.revoking.add(partitions, deadline, done);
            }
            SourceEvent::Lost(assignments) => {
                warn!(
                    route,
                    partitions = assignments.len(),
                    "partitions lost: another member may hold them already"
                );
                for progress in self.take_away(&assignments) {
                    progress.withdraw(&self.shared.socket);
                }
            }
            SourceEvent::Reset { assignment, generation, from } => {
                let (topic, partition, to) =
                    (assignment.topic(), assignment.partition(), generation.start);
                warn!(route, %topic, partition, from, to, "offset reset");
                self.announce(&assignment, generation);
            }
            SourceEvent::Stopped(reason) => {
                error!(route, reason, "route stopped");
                *self.shared.stopped.lock() = Some(reason);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// Forgets partitions that are no longer the route's, with what of them was not published.
    fn take_away(&mut self, assignments: &[Arc<Assignment>]) -> Vec<Arc<Progress>> {
        let gone = |assignment: &Arc<Assignment>| {
            assignments.iter().any(|other| Arc::ptr_eq(other, assignment))
        };
        let mut taken = Vec::new();
        let mut shown = self.shared.partitions.lock();
        self.partitions.retain(|key, partition| {
            let gone = gone(&partition.progress.assignment);
            if gone {
                shown.remove(key);
                self.shared.note_short(key, false);
                taken.push(Arc::clone(&partition.progress));
            }
            !gone
        });
        drop(shown);
        self.fetched.take_if(|fetched| gone(&fetched.assignment));
        if let Some(pending) = self.pending.take_if(|pending| gone(&pending.progress.assignment)) {
            pending.discard();
        }
        taken
    }

    /// Says once that records are let go which nobody wants, though subscribers are waited for.
    fn tell_of_unheard(&mut self) {
        if !self.told_of_unheard
            && self.shared.config.socket.min_peers > 0
            && self.shared.socket.has_unheard()
        {
            self.told_of_unheard = true;
            warn!(
                route = self.shared.config.name,
                "records that no subscriber wants count as delivered (records_unheard): routing frames differ within \
                partitions, so that min_peers cannot wait for those who want each"
            );
        }
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

    /// Lets the peers have what is in the ring, answering the group meanwhile.
    async fn drain(&mut self, events: &mut mpsc::Receiver<SourceEvent>, deadline: Instant) {
        self.fetched = None;
        if let Some(pending) = self.pending.take() {
            pending.discard();
        }
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
                Some(event) = events.recv() => {
                    let _ = self.handle_event(event);
                }
                () = sleep(DRAIN_LOOK), if !self.revoking.is_empty() => {}
            }
            self.revoking.release_due(&shared.socket, Instant::now());
        }
    }
}

/// Waits for room, and lets the peers' tasks have a turn.
async fn next_turn(publisher: &Publisher, size: usize) {
    publisher.room(size).await;
    yield_now().await;
}

/// The next fetched records, taken only while the socket would admit something.
async fn next_fetched(
    publisher: &Publisher,
    records: &mut mpsc::Receiver<Fetched>,
) -> Option<Fetched> {
    publisher.room(0).await;
    records.recv().await
}
