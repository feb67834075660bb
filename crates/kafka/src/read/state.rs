//! Decides the next step of a range. A plain state machine: it knows no task, connection or clock.
//!
//! Leaders are looked up in metadata, and again when one says that it is none. A fetch session of
//! one partition, which keeps none at the broker, makes the requests and judges the answers as it
//! does for a route (truncation, fenced epochs, batches that do not fit); what it gives up is an
//! error here, where it is a reset there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::{ApiKey, FetchRequest, FetchResponse};
use uuid::Uuid;

use super::{Range, RangeFault, RangeRecords, ReadError};
use crate::assignment::Assignment;
use crate::backoff::Backoff;
use crate::cluster::MemoryPermit;
use crate::connection::RequestError;
use crate::fetcher::{
    CONFIRMED, FetchKind, FetchOptions, FetchPosition, FetchSession, FetchSizes, ReturnReason,
};
use crate::metadata::{Metadata, MetadataError};
use crate::reason::{Consequence, Reason};
use crate::records::{BatchError, Batches, ReadOptions};
use crate::topic_partition::TopicPartition;

/// Time before something that was of no use is tried again, more each time.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
/// Refusals in a row by those that the metadata name, before another server is asked for them.
const REFUSALS: u32 = 2;

/// The action to be done.
pub(super) enum RangeAction {
    /// Ask for the topic's metadata; not the server that answered last if `leave` says so.
    FetchMetadata { leave: bool },
    /// Send [`RangeState::request`] to the broker at this address.
    Fetch { address: String },
    /// Hand these out.
    HandOut(Box<RangeRecords>),
    /// The range ends here.
    End { position: i64 },
    /// The range cannot be read on.
    Fail(ReadError),
}

enum Step {
    /// The leader of the partition is to be found, from then on.
    FindLeader {
        from: Instant,
    },
    /// A request for records from the leader, from then on.
    Fetch {
        from: Instant,
    },
    /// An answer is waited for, of metadata or of a fetch.
    Waiting,
    /// Records are here.
    HandOut(Batches, Arc<MemoryPermit>),
    Ended,
}

pub(super) struct RangeState {
    topic_partition: TopicPartition,
    assignment: Arc<Assignment>,
    session: FetchSession,
    /// The partition while it is with no leader.
    position: Option<FetchPosition>,
    topic_id: Uuid,
    address: String,
    /// The offset after what was handed out.
    next: i64,
    to: Option<i64>,
    /// The offset to end before, once the log's end is known.
    end: Option<i64>,
    step: Step,
    failure: Option<ReadError>,
    /// Bytes that may be handed out in all, and that were.
    credit: u64,
    handed: u64,
    timeout: Duration,
    deadline: Instant,
    /// Tries in a row that were of no use.
    failures: u32,
    /// Refusals in a row since metadata were believed.
    refusals: u32,
    leave: bool,
    /// The time before which nothing is fetched: the client has used up its quota.
    throttled: Instant,
    /// The metadata named another topic of this name.
    doubted: bool,
    /// The last error.
    reason: RangeFault,
}

impl RangeState {
    pub(super) fn new(range: Range, credit: u64, now: Instant) -> Self {
        let Range { topic_partition, topic_id, from, to, isolation, timeout } = range;
        let assignment = Assignment::new(topic_partition.clone(), from, None);
        let options =
            FetchOptions { isolation, rack: String::new(), kind: FetchKind::WithoutSession };
        Self {
            position: Some(FetchPosition::of(&assignment)),
            topic_partition,
            assignment,
            session: FetchSession::new(options),
            topic_id: topic_id.unwrap_or_default(),
            address: String::new(),
            next: from,
            to,
            end: to.filter(|to| *to <= from),
            step: Step::FindLeader { from: now },
            failure: None,
            credit,
            handed: 0,
            timeout,
            deadline: now + timeout,
            failures: 0,
            refusals: 0,
            leave: false,
            throttled: now,
            doubted: false,
            reason: RangeFault::NoAnswer,
        }
    }

    /// Bytes that may be handed out in all.
    pub(super) fn set_credit(&mut self, bytes: u64, now: Instant) {
        if self.is_without_credit() && bytes > self.handed {
            self.deadline = now + self.timeout;
        }
        self.credit = bytes;
    }

    /// Handles that the item to be handed out is taken.
    pub(super) fn handle_taken(&mut self, now: Instant) {
        self.deadline = now + self.timeout;
    }

    /// The next thing to do. `None`: nothing before [`Self::poll_timeout`], or before there is
    /// credit, or an answer.
    pub(super) fn poll_action(&mut self, now: Instant) -> Option<RangeAction> {
        if matches!(self.step, Step::Ended) {
            return None;
        }
        if let Some(error) = self.failure.take() {
            self.step = Step::Ended;
            return Some(RangeAction::Fail(error));
        }
        if self.end.is_some_and(|end| self.next >= end) {
            self.step = Step::Ended;
            return Some(RangeAction::End { position: self.next });
        }
        if self.is_without_credit() {
            return None;
        }
        if let Step::HandOut(..) = self.step
            && let Some(records) = self.hand_out(now)
        {
            return Some(RangeAction::HandOut(Box::new(records)));
        }
        if let Some(error) = self.failure.take() {
            self.step = Step::Ended;
            return Some(RangeAction::Fail(error));
        }
        if now >= self.deadline {
            self.step = Step::Ended;
            return Some(RangeAction::Fail(self.unavailable()));
        }
        match self.step {
            Step::FindLeader { from } if from <= now => {
                self.step = Step::Waiting;
                Some(RangeAction::FetchMetadata { leave: std::mem::take(&mut self.leave) })
            }
            Step::Fetch { from } if from <= now => {
                self.step = Step::Waiting;
                Some(RangeAction::Fetch { address: self.address.clone() })
            }
            _ => None,
        }
    }

    /// Returns the time at which there is something to do though nothing happens, and the reason.
    /// `None`: while there is no credit, only more of it changes anything.
    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.is_without_credit() {
            return None;
        }
        let next = match self.step {
            Step::FindLeader { from } => (from, "metadata are due"),
            Step::Fetch { from } => (from, "a fetch is due"),
            _ => return Some((self.deadline, "the range is given up")),
        };
        Some(if next.0 < self.deadline { next } else { (self.deadline, "the range is given up") })
    }

    /// The request for the leader, and its version, at most `newest`.
    pub(super) fn request(
        &mut self,
        newest: i16,
        round_trip: Duration,
        now: Instant,
    ) -> Option<(FetchRequest, i16)> {
        let sizes = FetchSizes::for_round_trip(round_trip);
        let left = self.credit.saturating_sub(self.handed);
        self.session.connected(sizes.at_most(i32::try_from(left).unwrap_or(i32::MAX)));
        let request = self.session.request(newest, now);
        if request.is_none() {
            let from = self.session.next_due().unwrap_or(now + BACKOFF.first);
            self.step = Step::Fetch { from };
        }
        request
    }

    pub(super) fn handle_metadata(
        &mut self,
        answer: Result<Metadata, MetadataError>,
        now: Instant,
    ) {
        let metadata = match answer {
            Ok(metadata) => metadata,
            Err(MetadataError::Request(error)) => return self.handle_lost(error, now),
            Err(error) => return self.find_leader(error.into(), now),
        };
        let Some(topic) = metadata.topics.get(&self.topic_partition.topic) else {
            return self.find_leader(RangeFault::NoTopic, now);
        };
        if let Some(error) = topic.error {
            return self.find_leader(RangeFault::Refused(error), now);
        }
        if !self.topic_id.is_nil() && !topic.id.is_nil() && topic.id != self.topic_id {
            // A broker that has lost touch with the cluster tells what was true before.
            if std::mem::replace(&mut self.doubted, true) {
                let topic_partition = self.topic_partition.clone();
                self.failure = Some(ReadError::Recreated { topic_partition, topic_id: topic.id });
                return;
            }
            self.leave = true;
            return self.find_leader(RangeFault::OtherTopic, now);
        }
        self.doubted = false;
        let leader = topic.leaders.get(&self.topic_partition.partition);
        let Some(leader) = leader else {
            return self.find_leader(RangeFault::NoPartition, now);
        };
        let Some(address) = metadata.brokers.get(&leader.broker) else {
            return self.find_leader(RangeFault::NoLeader, now);
        };
        self.topic_id = topic.id;
        self.address.clone_from(address);
        if let Some(position) = self.position.take() {
            let (topic_id, leader_epoch) = (topic.id, leader.epoch);
            self.session.insert(FetchPosition { topic_id, leader_epoch, ..position });
        }
        self.step = self.fetch(now);
    }

    /// The answer to the last request. `memory` is what it takes.
    pub(super) fn handle_answer(
        &mut self,
        response: FetchResponse,
        memory: Arc<MemoryPermit>,
        now: Instant,
    ) {
        if let Ok(throttle @ 1..) = u64::try_from(response.throttle_time_ms) {
            self.throttled = now + Duration::from_millis(throttle);
        }
        let answer = match self.session.answer(response, now) {
            Ok(answer) => answer,
            Err(error) => {
                let (broker, api) = (self.address.clone(), ApiKey::Fetch);
                return self.handle_lost(RequestError::Refused { broker, api, error }, now);
            }
        };
        if self.end.is_none()
            && let Some(ends) = self.assignment.ends()
        {
            self.end = Some(self.to.map_or(ends.readable(), |to| to.min(ends.readable())));
        }
        if let Some((position, why)) = answer.removed.into_iter().next() {
            self.position = Some(position);
            return self.handle_returned(why, now);
        }
        if let Some(batch) = answer.corrupt.into_iter().next() {
            self.handle_corrupt(batch.error, batch.failures);
        }
        if let Some(error) = answer.errors.into_iter().next_back() {
            self.reason = error.into();
        }
        self.step = match answer.partitions.into_iter().next() {
            Some(partition) => {
                (self.failures, self.refusals) = (0, 0);
                let reading = ReadOptions { from: partition.from, aborted: partition.aborted };
                Step::HandOut(Batches::new(partition.records, reading), memory)
            }
            // It may rest in the session, for longer.
            None => {
                let from = now + self.pause();
                self.fetch(from)
            }
        };
    }

    /// The broker could not be reached, or the request has no answer.
    pub(super) fn handle_lost(&mut self, error: RequestError, now: Instant) {
        if error.consequence() == Consequence::Stop {
            let (topic_partition, reason) = (self.topic_partition.clone(), RangeFault::from(error));
            self.failure = Some(ReadError::TooOld { topic_partition, reason: reason.into() });
        } else {
            self.find_leader(error.into(), now);
        }
    }

    fn handle_returned(&mut self, why: ReturnReason, now: Instant) {
        let topic_partition = self.topic_partition.clone();
        let offset = self.next;
        match why {
            ReturnReason::OutOfRange => {
                self.failure = Some(ReadError::OutOfRange { topic_partition, offset });
            }
            ReturnReason::Diverged(offset) => {
                self.failure = Some(ReadError::Truncated { topic_partition, offset });
            }
            ReturnReason::NotLeader { error, .. } => {
                self.refusals += 1;
                self.leave = self.refusals >= REFUSALS;
                self.find_leader(RangeFault::Refused(error), now);
            }
            // It was told no rack, and so has no reason to name one.
            ReturnReason::PreferredReplica(_) | ReturnReason::Requested => {
                self.find_leader(RangeFault::NoRecords, now);
            }
        }
    }

    fn handle_corrupt(&mut self, error: BatchError, failures: u32) {
        let reason = RangeFault::from(error);
        if failures >= CONFIRMED {
            let (topic_partition, offset) = (self.topic_partition.clone(), self.next);
            let reason = reason.into();
            self.failure = Some(ReadError::Corrupt { topic_partition, offset, reason });
        } else {
            self.reason = reason;
        }
    }

    /// The next records of the answer that is here.
    fn hand_out(&mut self, now: Instant) -> Option<RangeRecords> {
        let Step::HandOut(batches, memory) = &mut self.step else { return None };
        match batches.next() {
            Ok(Some(run)) => {
                let end = self.end.unwrap_or(i64::MAX);
                self.next = run.next_offset().min(end).max(self.next);
                self.handed = self.handed.saturating_add(run.size() as u64);
                self.deadline = now + self.timeout;
                Some(RangeRecords {
                    topic_partition: self.topic_partition.clone(),
                    topic_id: Some(self.topic_id).filter(|id| !id.is_nil()),
                    run,
                    end,
                    is_over: false,
                    _memory: Arc::clone(memory),
                })
            }
            Ok(None) => {
                self.step = self.fetch(now);
                None
            }
            Err(error) => {
                let generation = self.assignment.generation().number;
                let failures = self.session.go_on_at(&self.assignment, generation, self.next, now);
                self.step = self.fetch(now);
                self.handle_corrupt(error, failures);
                None
            }
        }
    }

    /// Fetches from then on, or once that is allowed.
    fn fetch(&self, from: Instant) -> Step {
        Step::Fetch { from: from.max(self.throttled) }
    }

    fn take_back(&mut self) {
        if let Some(position) = self.session.remove(&self.assignment) {
            self.position = Some(position);
        }
    }

    fn find_leader(&mut self, reason: RangeFault, now: Instant) {
        self.take_back();
        self.reason = reason;
        self.step = Step::FindLeader { from: now + self.pause() };
    }

    /// Returns the wait after an answer that brought nothing.
    fn pause(&mut self) -> Duration {
        let pause = BACKOFF.after(self.failures);
        self.failures += 1;
        pause
    }

    fn is_without_credit(&self) -> bool {
        self.handed >= self.credit
    }

    fn unavailable(&self) -> ReadError {
        let topic_partition = self.topic_partition.clone();
        ReadError::Unavailable { topic_partition, reason: self.reason.clone().into() }
    }
}
