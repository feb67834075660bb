//! The writing of one partition, as a state: which batch goes to which leader, under which
//! sequence, and what its answer means. Pure: no I/O, no clock.
//!
//! What it promises: a record that is reported as written is in the log exactly once, at the
//! reported offset; records that are reported as written stand in the order in which they came; one
//! that is reported as failed is not in the log; whatever may be there or not is reported as
//! unknown.
//!
//! How: each partition has a producer id of its own (KIP-98), so that a new epoch concerns no other
//! one. A batch gets its sequence when it is sealed, and keeps it with its bytes for as long as it
//! may be in the log: brokers recognize a repeat by them. Only what is known not to be there is
//! sealed again, under the next epoch.
//!
//! It does not know topics, connections or requests: `poll_*` returns what to do, `handle_*` takes
//! what happened.

mod answers;
mod batch;
mod facts;
mod rebuild;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Deliveries, Ticket, WriteError, Written};
use crate::backoff::Backoff;
pub(super) use crate::metadata::Leader;
use crate::records::{Codec, NewRecord, ProducerId};
pub(super) use batch::Buffers;
use batch::{Closed, Open, Sealed};
pub(super) use rebuild::each_record;
pub(super) use verdict::Answer;
use verdict::Trouble;

/// Requests in flight at the most. A broker recognizes repeats of the last five batches.
const WINDOW: usize = 4;
/// Requests in flight until the present leader has answered one: a log that does not know the
/// producer takes any first sequence, so that a second request could get before the first.
const PROBE: usize = 1;
/// Time without a request after which the leader may have forgotten the producer
/// (`producer.id.expiration.ms`, one day, but it can be set to less).
const QUIET: Duration = Duration::from_secs(60);
/// Pause after an error; doubled each time up to the second.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// The settings by which a partition is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) batch_bytes: usize,
    pub(super) linger: Duration,
    pub(super) delivery_timeout: Option<Duration>,
    pub(super) codec: Option<Codec>,
}

/// A request to be sent to a broker.
#[derive(Debug)]
pub(super) struct Request {
    /// The number that its answer refers to.
    pub(super) number: u64,
    pub(super) bytes: Bytes,
}

/// The batches that are worth a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    /// Any batch with a record.
    Any,
    /// Batches that take no more.
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No request for long, or ever.
    Idle,
    /// Waits for the present leader's first answer: one request at a time.
    Probing,
    /// The present leader has answered.
    Open,
    /// The state after an error or a change of leader: the requests that are under way end first,
    /// then the oldest batch is sent again.
    Draining,
    /// A sequence is missing in the log, or will be: the requests end first, then the rest is sent
    /// under a new epoch.
    Rebuilding(Cause),
}

/// The reason why the sequences begin again. If there are several, the last in this order counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    /// A batch of ours was given up.
    GivenUp,
    /// The log does not continue at our sequence.
    Sequence,
    /// The log has another epoch, or does not take this producer: its id can no longer be used.
    Producer,
}

/// The producer id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    None,
    Asked,
    Have(ProducerId),
}

/// One partition.
#[derive(Debug)]
pub(super) struct Partition {
    /// Its number in the topic.
    index: i32,
    settings: Settings,
    /// [`Settings::batch_bytes`], or less if the topic takes less.
    batch_bytes: usize,
    state: State,
    id: Id,
    next_sequence: i32,
    /// Batches that have a sequence, in its order.
    sealed: VecDeque<Sealed>,
    /// Batches that are to get a sequence, in their order; `open` comes behind them.
    closed: VecDeque<Closed>,
    open: Option<Open>,
    /// Batches that were opened.
    opened: u64,
    /// Size of the last batch, by which the next one is expected.
    expected: usize,
    leader: Option<Leader>,
    /// The leader that requests went to last.
    at: Option<Leader>,
    in_flight: usize,
    next_request: u64,
    /// The time before which no request is sent.
    retry_at: Option<Instant>,
    failures: u32,
    /// The last offset that was reported as written.
    acknowledged: Option<i64>,
    /// The last time when a request was under way.
    used: Option<Instant>,
    trouble: Option<Trouble>,
    /// The error of what no broker can have, once it is given up.
    over: Option<WriteError>,
    wants_leader: bool,
    deliveries: VecDeque<Deliveries>,
    reports: Vec<String>,
}

impl Partition {
    pub(super) fn new(index: i32, settings: Settings) -> Self {
        Self {
            index,
            settings,
            batch_bytes: settings.batch_bytes,
            state: State::Idle,
            id: Id::None,
            next_sequence: 0,
            sealed: VecDeque::new(),
            closed: VecDeque::new(),
            open: None,
            opened: 0,
            expected: 0,
            leader: None,
            at: None,
            in_flight: 0,
            next_request: 0,
            retry_at: None,
            failures: 0,
            acknowledged: None,
            used: None,
            trouble: None,
            over: None,
            wants_leader: false,
            deliveries: VecDeque::new(),
            reports: Vec::new(),
        }
    }

    /// Takes a record.
    #[inline]
    pub(super) fn push(
        &mut self,
        ticket: Ticket,
        record: &NewRecord<'_>,
        buffers: &mut Buffers,
        now: Instant,
    ) {
        let size = record.size_limit();
        let (timed, most) = (self.settings.delivery_timeout.is_some(), self.batch_bytes);
        let is_full = |open: &mut Open| open.size() + size > most || (timed && open.is_over(now));
        if let Some(full) = self.open.take_if(is_full) {
            self.expected = full.size();
            self.closed.push_back(full.close(self.settings.codec, buffers));
        }
        let expected = self.expected;
        let opened = &mut self.opened;
        let open = self.open.get_or_insert_with(|| {
            *opened += 1;
            Open::new(expected, buffers, now)
        });
        open.push(ticket, record, now);
        open.sum_up(self.settings.codec);
    }

    /// Takes records that are their value alone, as many as the batch takes that is filled now;
    /// their tickets follow one another. `next` returns the next value if there is one of at most
    /// as many bytes as it is told. Returns the number of records.
    #[inline]
    pub(super) fn push_values<'a>(
        &mut self,
        first: Ticket,
        timestamp: i64,
        now: Instant,
        next: impl FnMut(usize) -> Option<&'a [u8]>,
    ) -> usize {
        let timed = self.settings.delivery_timeout.is_some();
        let Some(open) = &mut self.open else { return 0 };
        if timed && open.is_over(now) {
            return 0;
        }
        let count = open.push_values(first, timestamp, self.batch_bytes, now, next);
        open.sum_up(self.settings.codec);
        count
    }

    /// Takes its present leader; `None` if there is none. An older epoch is ignored.
    pub(super) fn handle_leader(&mut self, leader: Option<Leader>) {
        if let (Some(new), Some(known)) = (leader, self.leader)
            && new.epoch < known.epoch
        {
            return;
        }
        if leader.is_some() && leader != self.leader {
            // It is tried at once.
            self.retry_at = None;
            self.wants_leader = false;
        }
        self.leader = leader;
        self.look_at_leader();
    }

    /// Handles a recreated topic: nothing that is known of the log holds.
    pub(super) fn handle_recreated(&mut self, leader: Option<Leader>) {
        self.leader = None;
        self.at = None;
        self.acknowledged = None;
        if !matches!(self.state, State::Rebuilding(_) | State::Idle) {
            self.state = State::Draining;
        }
        self.handle_leader(leader);
        self.settle();
    }

    /// Leaves the leader that requests went to, if it no longer leads. A topic that is away may
    /// come back recreated, with a log that has no sequence: then one request is sent alone again.
    fn look_at_leader(&mut self) {
        let moved = self.at.is_some() && self.leader != self.at;
        if moved && matches!(self.state, State::Probing | State::Open) {
            self.state = State::Draining;
            self.settle();
        }
    }

    /// Returns true if a producer id is to be asked for. The caller asks then.
    pub(super) fn poll_id(&mut self, now: Instant) -> bool {
        let wanted = self.id == Id::None
            && self.in_flight == 0
            && self.leader.is_some()
            && self.is_due(now)
            && (!self.closed.is_empty() || self.open.is_some());
        if wanted {
            self.id = Id::Asked;
        }
        wanted
    }

    /// Returns the next request to the leader, if one may be sent.
    pub(super) fn poll_request(
        &mut self,
        now: Instant,
        fill: Fill,
        buffers: &mut Buffers,
    ) -> Option<Request> {
        let Id::Have(id) = self.id else { return None };
        let leader = self.leader?;
        if !self.is_due(now) {
            return None;
        }
        let is_forgotten = self.used.is_none_or(|used| now.duration_since(used) >= QUIET);
        if self.state == State::Open && self.sealed.is_empty() && is_forgotten {
            self.state = State::Probing;
        }
        let window = match self.state {
            State::Idle | State::Probing if zafka_planted::is("second-request-too-early") => WINDOW,
            State::Idle | State::Probing => PROBE,
            State::Open => WINDOW,
            State::Draining | State::Rebuilding(_) => return None,
        };
        if self.in_flight >= window {
            return None;
        }
        let index = match self.sealed.iter().position(|sealed| sealed.request.is_none()) {
            Some(index) => index,
            None => {
                let closed = self.next_closed(now, fill, buffers)?;
                let sequence = self.next_sequence;
                let early = i32::from(zafka_planted::is("sequence-before-the-seal"));
                self.next_sequence = advanced(sequence, closed.count() - early);
                self.sealed.push_back(closed.seal(id, sequence));
                self.sealed.len() - 1
            }
        };
        let number = self.next_request;
        let batch = self.sealed.get_mut(index)?;
        batch.request = Some(number);
        self.next_request += 1;
        self.in_flight += 1;
        self.at = Some(leader);
        self.used = Some(now);
        if self.state == State::Idle {
            self.state = State::Probing;
        }
        let mut bytes = batch.bytes.clone();
        if zafka_planted::is("buffer-used-again-in-flight")
            && let Some(last) = self.sealed.back()
        {
            bytes = last.bytes.clone();
        }
        Some(Request { number, bytes })
    }

    /// Returns the next batch that may get a sequence.
    fn next_closed(&mut self, now: Instant, fill: Fill, buffers: &mut Buffers) -> Option<Closed> {
        if let Some(closed) = self.closed.pop_front() {
            return Some(closed);
        }
        if fill == Fill::Full {
            return None;
        }
        let linger = self.settings.linger;
        let is_due = |open: &mut Open| linger.is_zero() || now.duration_since(open.since) >= linger;
        let open = self.open.take_if(is_due)?;
        self.expected = open.size();
        Some(open.close(self.settings.codec, buffers))
    }

    fn is_due(&self, now: Instant) -> bool {
        self.retry_at.is_none_or(|at| now >= at)
    }

    /// Continues once the requests that were under way have ended.
    fn settle(&mut self) {
        if self.in_flight > 0 {
            return;
        }
        match self.state {
            State::Draining => {
                if zafka_planted::is("resent-in-another-order") {
                    self.sealed.make_contiguous().reverse();
                }
                self.state = State::Probing;
            }
            State::Rebuilding(cause) => {
                self.rebuild(cause);
                self.state = State::Probing;
            }
            State::Idle | State::Probing | State::Open => {}
        }
    }

    /// Returns true if the leader is to be asked for. The caller asks then.
    pub(super) fn poll_wants_leader(&mut self) -> bool {
        std::mem::take(&mut self.wants_leader) || (self.leader.is_none() && !self.is_empty())
    }

    /// Returns the next outcomes to be delivered.
    pub(super) fn poll_delivery(&mut self) -> Option<Deliveries> {
        self.deliveries.pop_front()
    }

    /// Returns the next line to be logged about it.
    pub(super) fn poll_report(&mut self) -> Option<String> {
        self.reports.pop()
    }

    /// Returns the time at which there is something to do by itself, and the reason.
    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let retry = self.retry_at.filter(|_| self.has_unsent()).map(|at| (at, "retry"));
        let linger = self.settings.linger;
        let linger = self.open.as_ref().filter(|_| !linger.is_zero() && self.closed.is_empty());
        let linger = linger.map(|open| (open.since + self.settings.linger, "linger"));
        let expiry = self.settings.delivery_timeout.and_then(|timeout| {
            let sealed = self.sealed.iter().find(|sealed| !sealed.was_told());
            let oldest = sealed.map(|sealed| sealed.last);
            let oldest = oldest.or(self.closed.front().map(|closed| closed.last));
            let oldest = oldest.or(self.open.as_ref().map(|open| open.last));
            oldest.map(|last| (last + timeout, "delivery timeout"))
        });
        [retry, linger, expiry].into_iter().flatten().min()
    }

    /// Gives up what is too old. To be called at [`Self::poll_timeout`].
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
        }
        if let Some(timeout) = self.settings.delivery_timeout {
            self.expire(now, timeout);
        }
    }

    /// Reports a batch as written.
    fn acknowledge(&mut self, batch: &mut Sealed, offset: Option<i64>, log_append: Option<i64>) {
        if let Some(offset) = offset {
            let last = offset + i64::from(batch.count) - 1;
            self.acknowledged = self.acknowledged.max(Some(last));
        }
        let partition = self.index;
        let before = i64::from(zafka_planted::is("offset-of-the-record-before"));
        let offset = offset.map(|offset| offset - before);
        if zafka_planted::is("never-told") && offset.is_some_and(|offset| offset % 16 == 15) {
            return;
        }
        self.tell(batch, Ok(Written { partition, offset, log_append_time: log_append }));
    }

    fn tell(&mut self, batch: &mut Sealed, outcome: Result<Written, WriteError>) {
        if !batch.was_told() {
            let tickets = std::mem::take(&mut batch.tickets);
            self.deliveries.push_back(Deliveries::new(tickets, outcome));
        }
    }

    fn tell_closed(&mut self, closed: Closed, error: WriteError) {
        self.deliveries.push_back(Deliveries::new(closed.tickets, Err(error)));
    }
}

/// Advances a sequence by a number of records, or back; it wraps to 0.
fn advanced(sequence: i32, records: i32) -> i32 {
    const POSITIVE: i64 = 0x7fff_ffff;
    i32::try_from((i64::from(sequence) + i64::from(records)) & POSITIVE).unwrap_or(0)
}
