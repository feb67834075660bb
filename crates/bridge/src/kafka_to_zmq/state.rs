//! The decisions of a route from Kafka to ZeroMQ. A plain state machine: it takes what happened
//! and when (`handle_*`), and says what is to be done (`poll_action`) and when it is to be asked
//! again (`poll_timeout`). It knows no tasks, no clocks and no Kafka client.
//!
//! The order of calls, after anything happened: events before records, for what was told before
//! records came is to be known before they are encoded; then `handle_timeout`, `handle_room`, all
//! of `poll_action`. If it [wants records](RouteState::wants_records) and there are some, they go
//! in at once; else the turn ends with [`RouteState::end_turn`].
//!
//! ```text
//!                records              a chunk           drained, or out of time
//!   Idle ----------------> Encoding <---------> WaitingForRoom
//!     ^                       |                                          |
//!     '----- all encoded -----'        (stop, or an end) --> Draining --> Closed
//! ```

mod ending;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::{info, warn};
use zafka_kafka::{Assignment, Fetched, Generation, SourceEvent};
use zafka_sockets::{Buffers, Demand};

use super::action::Action;
use super::gate::Act;
use super::partition::Records;
use super::partitions::Partitions;
use super::progress::{PendingChunk, Progress};
use super::report::RouteReport;
use super::revoking::Revoking;
use super::sink::Sink;
use crate::config::RouteConfig;

/// Time between two commits.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// Time a route that stopped by itself has to send what is in its ring.
const STOPPED_DRAIN: Duration = Duration::from_secs(5);
/// Size of a chunk in bytes, unless the ring is small or one record is larger.
const CHUNK_BYTES: usize = 128 * 1024;
/// Chunks that a ring holds at the least.
const CHUNKS_PER_RING: usize = 16;
/// Chunks made before others get their turn: what is written together. Then connections are looked
/// at, so that the next answer is read by another thread while these are written.
const STEPS_PER_TURN: usize = 4;

/// The state of a route. `F` are the records that it is handed.
#[derive(Debug)]
pub struct RouteState<S, F = Fetched> {
    config: Arc<RouteConfig>,
    report: Arc<RouteReport>,
    sink: S,
    stage: Stage<F>,
    partitions: Partitions,
    revoking: Revoking,
    buffers: Buffers,
    /// Steps taken in this turn.
    steps: usize,
    next_commit: Instant,
    actions: VecDeque<Action>,
    /// True if it was logged that no subscriber wants some records.
    told_of_unheard: bool,
}

/// The stage of a route with the records that it takes from Kafka.
#[derive(Debug, Default)]
enum Stage<F> {
    /// Records may come.
    #[default]
    Idle,
    /// These are being encoded.
    Encoding(F),
    /// A chunk waits for room in the ring, with the records that come after it.
    WaitingForRoom(PendingChunk, Option<F>),
    /// The end is near: nothing more is taken, and the peers have until then to take what is in the
    /// ring.
    Draining(Instant),
    /// The end: nothing more is done.
    Closed,
}

impl<S: Sink, F: Records> RouteState<S, F> {
    /// A route that holds no partition yet.
    pub fn new(config: Arc<RouteConfig>, report: Arc<RouteReport>, sink: S, now: Instant) -> Self {
        let ring_bytes = config.socket.ring_bytes;
        let chunk_bytes = CHUNK_BYTES.min(ring_bytes / CHUNKS_PER_RING).max(1);
        Self {
            partitions: Partitions::new(Arc::clone(&config), Arc::clone(&report)),
            config,
            report,
            sink,
            stage: Stage::Idle,
            revoking: Revoking::default(),
            buffers: Buffers::new(chunk_bytes, ring_bytes),
            steps: 0,
            next_commit: now,
            actions: VecDeque::new(),
            told_of_unheard: false,
        }
    }

    /// The socket.
    pub fn sink(&self) -> &S {
        &self.sink
    }

    /// The same, to be changed by a test that plays it.
    #[cfg(any(test, feature = "sim"))]
    pub fn sink_mut(&mut self) -> &mut S {
        &mut self.sink
    }

    /// Returns what is to be done next.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Returns when `handle_timeout` is to be called, and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let stage = match self.stage {
            Stage::Closed => None,
            Stage::Draining(deadline) => Some((deadline, "the time to drain is over")),
            _ => Some((self.next_commit, "commit, and look at the demand")),
        };
        let revoking = self.revoking.poll_timeout();
        let revoking = revoking.map(|due| (due, "revoked partitions may have drained"));
        stage.into_iter().chain(revoking).min_by_key(|(due, _)| *due)
    }

    /// Returns true if it takes records now.
    pub fn wants_records(&self) -> bool {
        self.takes_records() && self.steps < STEPS_PER_TURN && self.sink.admits(0)
    }

    /// Returns true if it takes records once there is room for any.
    pub fn takes_records(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    /// Returns the room that it waits for before its next turn, in bytes, if it has something to
    /// publish.
    pub fn needs_room(&self) -> Option<usize> {
        match &self.stage {
            Stage::Encoding(_) => Some(0),
            Stage::WaitingForRoom(pending, _) => Some(pending.chunk.weight()),
            Stage::Idle | Stage::Draining(_) | Stage::Closed => None,
        }
    }

    /// Returns true if nothing more is taken from Kafka.
    pub fn is_draining(&self) -> bool {
        matches!(self.stage, Stage::Draining(_) | Stage::Closed)
    }

    /// Returns until when the peers have to take what is in the ring, once nothing more is taken.
    pub fn drains_until(&self) -> Option<Instant> {
        match self.stage {
            Stage::Draining(deadline) => Some(deadline),
            _ => None,
        }
    }

    /// Takes records, if it [wants](Self::wants_records) any.
    pub fn handle_fetched(&mut self, fetched: F) {
        if self.takes_records() {
            self.stage = Stage::Encoding(fetched);
        }
    }

    /// Encodes and publishes while there is something to encode and room for it, for one turn.
    pub fn handle_room(&mut self, now: Instant) {
        while self.steps < STEPS_PER_TURN {
            let (pending, fetched) = match std::mem::take(&mut self.stage) {
                Stage::WaitingForRoom(pending, fetched) => (Some(pending), fetched),
                Stage::Encoding(fetched) => (None, Some(fetched)),
                other => {
                    self.stage = other;
                    return;
                }
            };
            if let Some(pending) = pending {
                if !self.sink.admits(pending.chunk.weight()) {
                    self.stage = Stage::WaitingForRoom(pending, fetched);
                    return;
                }
                self.sink.add(pending.chunk);
            }
            self.steps += 1;
            if let Some(fetched) = fetched {
                self.encode(fetched, now);
            }
        }
    }

    /// Ends a turn: what was published is written.
    pub fn end_turn(&mut self) {
        self.sink.flush();
        self.steps = 0;
    }

    /// Makes the next chunk out of fetched records.
    fn encode(&mut self, mut fetched: F, now: Instant) {
        let assignment = Arc::clone(fetched.assignment());
        if !assignment.is_active() {
            return;
        }
        let generation = fetched.generation();
        let mut partition = self.partitions.of(&assignment, &mut self.sink, &mut self.actions);
        if !partition.gate.is_open() {
            // They come again once enough want them.
            partition.gate.miss();
            return;
        }
        let plays_old = zafka_planted::is("old-generation-is-encoded")
            && generation.number < partition.generation();
        if generation.number != partition.generation() && !plays_old {
            if generation.number < partition.generation() {
                // From before a restart: it comes again.
                return;
            }
            self.begin(&assignment, generation);
            partition = self.partitions.of(&assignment, &mut self.sink, &mut self.actions);
        }
        let step = match partition.encode(&mut fetched, &self.buffers) {
            Ok(step) => step,
            Err(broken) => return self.fail(&broken, now),
        };
        let progress = Arc::clone(&partition.progress);
        self.report.records_read.fetch_add(step.records, Ordering::Relaxed);
        self.report.headers_missing.fetch_add(step.headers_missing, Ordering::Relaxed);
        if let Some(chunk) = &step.chunk {
            self.report.bytes_encoded.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        let fetched = (!step.finished).then_some(fetched);
        self.stage = match (step.chunk, fetched) {
            (Some(chunk), fetched) => {
                Stage::WaitingForRoom(PendingChunk { chunk, progress, from: step.from }, fetched)
            }
            (None, Some(fetched)) => Stage::Encoding(fetched),
            (None, None) => Stage::Idle,
        };
    }

    /// Begins the generation of which these are the first records.
    fn begin(&mut self, assignment: &Arc<Assignment>, generation: Generation) {
        // Its event may have found no room, and come later than this.
        self.announce(assignment, generation);
        let partition = self.partitions.of(assignment, &mut self.sink, &mut self.actions);
        partition.begin(generation);
        self.report.show(&partition.progress);
    }

    /// Takes note of a generation of which records are to follow.
    fn announce(&mut self, assignment: &Arc<Assignment>, generation: Generation) {
        let partition = self.partitions.of(assignment, &mut self.sink, &mut self.actions);
        if partition.announce(generation) && !zafka_planted::is("no-rewind-after-a-reset") {
            self.actions.push_back(Action::AllowRewind(Arc::clone(assignment)));
        }
    }

    /// Takes what happened to the source's partitions.
    pub fn handle_event(&mut self, event: SourceEvent, now: Instant) {
        let route = &self.config.name;
        match event {
            SourceEvent::Assigned(assignments) => {
                info!(route, partitions = assignments.len(), "partitions assigned");
                for assignment in assignments.iter().filter(|assignment| assignment.is_active()) {
                    self.partitions.of(assignment, &mut self.sink, &mut self.actions);
                }
                self.handle_demand(now);
            }
            SourceEvent::Revoked { assignments, done } => {
                info!(route, partitions = assignments.len(), "partitions revoked");
                let deadline = now + self.config.source.revoke_timeout;
                let partitions = self.take_away(&assignments);
                self.revoking.add(partitions, done, deadline, now);
            }
            SourceEvent::Lost(assignments) => {
                warn!(
                    route,
                    partitions = assignments.len(),
                    "partitions lost: another member may hold them already"
                );
                for progress in self.take_away(&assignments) {
                    progress.withdraw(&mut self.sink);
                }
            }
            SourceEvent::Reset { assignment, generation, from } => {
                let (topic, partition, to) =
                    (assignment.topic(), assignment.partition(), generation.start);
                warn!(route, %topic, partition, from, to, "offset reset");
                self.announce(&assignment, generation);
                let partition = self.partitions.of(&assignment, &mut self.sink, &mut self.actions);
                if partition.skip(generation, from) {
                    self.report.show(&partition.progress);
                }
            }
            SourceEvent::Stopped(reason) => self.end(reason, now),
        }
    }

    /// Forgets partitions that are no longer the route's, with what of them was not published.
    fn take_away(&mut self, assignments: &[Arc<Assignment>]) -> Vec<Arc<Progress>> {
        let taken = self.partitions.remove(assignments);
        self.drop_unpublished(|assignment| {
            assignments.iter().any(|other| Arc::ptr_eq(other, assignment))
        });
        taken
    }

    /// Throws away what was fetched of some assignments and is not in the ring: it was not read.
    fn drop_unpublished(&mut self, of: impl Fn(&Arc<Assignment>) -> bool) {
        self.stage = match std::mem::take(&mut self.stage) {
            Stage::Encoding(fetched) if of(fetched.assignment()) => Stage::Idle,
            Stage::WaitingForRoom(pending, fetched) => {
                let fetched = fetched.filter(|fetched| !of(fetched.assignment()));
                if of(&pending.progress.assignment) {
                    pending.discard();
                    fetched.map_or(Stage::Idle, Stage::Encoding)
                } else {
                    Stage::WaitingForRoom(pending, fetched)
                }
            }
            other => other,
        };
    }

    /// Holds partitions that too few peers want, and opens those that enough want again.
    pub fn handle_demand(&mut self, now: Instant) {
        for (partition, act) in self.partitions.look_at_demand(now) {
            let assignment = Arc::clone(&partition.assignment);
            self.drop_unpublished(|other| Arc::ptr_eq(other, &assignment));
            let read = partition.read();
            partition.take_back(&mut self.sink);
            let mut delivered = partition.delivered();
            if zafka_planted::is("restart-where-it-was-read") {
                delivered = read;
            }
            match act {
                Act::Hold => {
                    let (topic, number) = (assignment.topic(), assignment.partition());
                    let demand = partition.audience.demand.as_deref();
                    let (peers, needed) = (demand.map(Demand::peers), demand.map(Demand::needed));
                    let route = &self.config.name;
                    info!(
                        route, %topic, partition = number, delivered, peers, needed,
                        "held: too few subscribers"
                    );
                    self.actions.push_back(Action::Pause(assignment));
                }
                Act::Open => {
                    let known = self.partitions.newest(&assignment);
                    self.actions.push_back(Action::Restart {
                        assignment,
                        known,
                        offset: delivered,
                    });
                }
            }
        }
    }

    /// Takes the answer to [`Action::Restart`]: the generation that has begun. If there is none, a
    /// reset is about to come, and this is done after it.
    pub fn handle_restarted(
        &mut self,
        assignment: &Arc<Assignment>,
        generation: Option<Generation>,
    ) {
        let Some(generation) = generation else { return };
        let (route, delivered) = (&self.config.name, generation.start);
        let (topic, partition) = (assignment.topic(), assignment.partition());
        info!(route, %topic, partition, delivered, "enough subscribers");
        self.partitions.restart(assignment, generation);
    }

    /// Takes what is due by its time: revoked partitions go, positions are committed, and demand is
    /// looked at.
    pub fn handle_timeout(&mut self, now: Instant) {
        for revoked in self.revoking.take_due(now) {
            self.release(revoked, now);
        }
        match self.stage {
            Stage::Draining(deadline) if now >= deadline => {
                warn!(
                    route = self.config.name,
                    "shutdown_timeout passed with messages still to be sent; they will be sent \
                     again after the next start"
                );
                self.close(now);
            }
            Stage::Draining(_) | Stage::Closed => {}
            _ if now >= self.next_commit => {
                self.next_commit = now + COMMIT_INTERVAL;
                self.handle_demand(now);
                self.warn_of_unheard();
                self.commit(now);
                self.buffers.trim();
            }
            _ => {}
        }
    }
}
