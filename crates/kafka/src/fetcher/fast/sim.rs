//! The fetch session, and what is handed out of it, for a simulation that plays brokers, membership
//! and tasks. Not for anybody else.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use kafka_protocol::messages::{FetchRequest, FetchResponse};
use uuid::Uuid;

use super::ResponseContext;
use super::fetch_session::{FetchAnswer, FetchKind, FetchOptions, FetchSession, FetchedPartition};
use super::hand_out::{HandOut, due};
use super::position::{FetchPosition, ReturnReason};
use super::sizes::FetchSizes;
use crate::assignment::{Assignment, Positions};
use crate::cluster::MemoryPermit;
use crate::config::Isolation;
use crate::exchange::{RevokeDone, RouteRequest};
use crate::fetcher::{FetchFault, Fetched};
use crate::generation::Generation;
use crate::mailbox::Mailbox;
use crate::topic_partition::TopicPartition;

/// An assignment. `epoch` is that of the record before `start`; -1 if it is not known.
pub fn assignment(
    topic: &str,
    partition: i32,
    start: i64,
    committed: Option<i64>,
    epoch: i32,
) -> Arc<Assignment> {
    let assignment = Assignment::new(TopicPartition::new(topic, partition), start, committed);
    if epoch >= 0 {
        assignment.epochs().note(start - 1, start, epoch);
    }
    assignment
}

/// Nothing more of it is handed out.
pub fn set_revoking(assignment: &Assignment) {
    assignment.set_revoking();
}

/// It is another member's.
pub fn set_gone(assignment: &Assignment) {
    assignment.set_gone();
}

/// Returns true if a commit is still this relay's to make.
pub fn may_commit(assignment: &Assignment) -> bool {
    assignment.may_commit()
}

/// The coordinator has this offset.
pub fn set_committed(assignment: &Assignment, offset: i64) {
    assignment.set_committed(offset);
}

/// Commits may go below the last one.
pub fn allow_rewind(assignment: &Assignment) {
    assignment.forget_committed();
}

/// It is fetched no more until it is restarted.
pub fn pause(assignment: &Assignment) {
    assignment.pause();
}

/// It is read again from an offset on, if `known` is the generation that is read.
pub fn restart(assignment: &Assignment, known: u32, offset: i64) -> Option<Generation> {
    assignment.restart(known, offset)
}

/// It goes on elsewhere, for the log does not have what was due.
pub fn reset_to(assignment: &Assignment, to: i64, was_truncated: bool) -> Generation {
    assignment.reset_to(to, was_truncated)
}

/// The next offset to be handed out.
pub fn position(assignment: &Assignment) -> i64 {
    assignment.position()
}

/// The epoch of the record before an offset; -1 if it is not known.
pub fn epoch_before(assignment: &Assignment, offset: i64) -> i32 {
    assignment.epochs().before(offset)
}

/// The answer to a revocation, and what comes of it.
pub fn revoke_done() -> (RevokeDone, Drained) {
    let (answer, answers) = channel();
    (RevokeDone::new(0, Mailbox::new(&answer)), Drained { answers, is_done: false })
}

/// A route's answer to a revocation.
#[derive(Debug)]
pub struct Drained {
    answers: Receiver<RouteRequest>,
    is_done: bool,
}

impl Drained {
    /// Returns what the route has delivered, once it has answered.
    pub fn take(&mut self) -> Option<Positions> {
        match self.answers.try_recv() {
            Ok(RouteRequest::Drained { positions, .. }) => {
                self.is_done = true;
                Some(positions)
            }
            _ => None,
        }
    }

    /// Returns true if it has been taken.
    pub fn is_done(&self) -> bool {
        self.is_done
    }
}

/// The fetch position of a partition.
#[derive(Clone, Debug)]
pub struct Position(FetchPosition);

impl Position {
    /// An assignment at its position.
    pub fn of(assignment: &Arc<Assignment>) -> Self {
        Self(FetchPosition::of(assignment))
    }

    /// The beginning of a generation.
    pub fn start(assignment: &Arc<Assignment>, generation: Generation) -> Self {
        Self(FetchPosition::start(Arc::clone(assignment), generation))
    }

    /// The assignment that it is of.
    pub fn assignment(&self) -> &Arc<Assignment> {
        &self.0.assignment
    }

    /// The number of the generation that it is of.
    pub fn generation(&self) -> u32 {
        self.0.generation.number
    }

    /// It goes to a leader of this epoch, of a topic of this id.
    pub fn set_leader(&mut self, epoch: i32, topic_id: Uuid) {
        if std::mem::replace(&mut self.0.leader_epoch, epoch) != epoch {
            self.0.doubted = -1;
        }
        self.0.topic_id = topic_id;
    }
}

/// The reason why a partition left a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returned {
    /// It was asked back.
    Requested,
    /// Another broker leads it, or this one does not know it.
    NotLeader,
    /// The log does not have the offset.
    OutOfRange,
    /// The log was truncated to this offset.
    Diverged(i64),
}

/// The fetching from one broker.
pub struct BrokerFetch {
    session: FetchSession,
    response: Arc<ResponseContext>,
    /// Partitions of the last answer, until it is known what became of the next request.
    answered: Vec<FetchedPartition>,
    out: VecDeque<HandOut>,
    returned: Vec<(Position, Returned)>,
}

impl std::fmt::Debug for BrokerFetch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerFetch").finish_non_exhaustive()
    }
}

impl BrokerFetch {
    /// Nothing yet.
    pub fn new() -> Self {
        // Batches that cannot be read are not handled here.
        let faults = Mailbox::new(&channel::<FetchFault>().0);
        let options = FetchOptions {
            isolation: Isolation::ReadCommitted,
            rack: String::new(),
            kind: FetchKind::Session,
        };
        Self {
            session: FetchSession::new(options),
            response: Arc::new(ResponseContext { _memory: MemoryPermit::unbounded(), faults }),
            answered: Vec::new(),
            out: VecDeque::new(),
            returned: Vec::new(),
        }
    }

    /// The connection is another one.
    pub fn connected(&mut self) {
        self.session.connected(FetchSizes::for_round_trip(Duration::ZERO));
    }

    /// Fetches a partition from now on.
    pub fn add(&mut self, position: Position) {
        self.session.insert(position.0);
    }

    /// Fetches a partition no more.
    pub fn remove(&mut self, assignment: &Arc<Assignment>) {
        drop(self.session.remove(assignment));
    }

    /// Returns the next request and its version, if there is anything to be asked.
    pub fn request(&mut self, newest: i16, now: Instant) -> Option<(FetchRequest, i16)> {
        self.session.request(newest, now)
    }

    /// Returns when something is to be asked again that rests.
    pub fn next_due(&self) -> Option<Instant> {
        self.session.next_due()
    }

    /// Takes an answer. It is handed out once [`Self::asked_next`] tells of the next request, or
    /// if none is to be sent before.
    ///
    /// # Errors
    /// If it is an error of the whole request: the connection is to be left.
    pub fn answer(&mut self, response: FetchResponse, now: Instant) -> Result<(), String> {
        let answer = self.session.answer(response, now).map_err(|error| error.to_string())?;
        let FetchAnswer { partitions, removed, .. } = answer;
        self.answered.extend(partitions);
        self.returned.extend(removed.into_iter().map(|(position, why)| {
            let why = match why {
                ReturnReason::Requested => Returned::Requested,
                ReturnReason::OutOfRange => Returned::OutOfRange,
                ReturnReason::Diverged(to) => Returned::Diverged(to),
                ReturnReason::NotLeader { .. } | ReturnReason::PreferredReplica(_) => {
                    Returned::NotLeader
                }
            };
            (Position(position), why)
        }));
        Ok(())
    }

    /// The next request was sent, or could not be.
    pub fn asked_next(&mut self, is_sent: bool) {
        let partitions = due(std::mem::take(&mut self.answered), !is_sent);
        self.out.extend(partitions.into_iter().map(HandOut::new));
    }

    /// Returns the next records for the route, if there are any.
    pub fn hand_out(&mut self, now: Instant) -> Option<Fetched> {
        self.asked_next(true);
        loop {
            let out = self.out.front_mut()?;
            let next = if out.is_over() {
                None
            } else {
                // One that cannot be read is fetched again.
                out.next(&mut self.session, &self.response, now).unwrap_or_default()
            };
            let Some(fetched) = next else {
                self.out.pop_front();
                continue;
            };
            if fetched.assignment.is_wanted() {
                let reading = fetched.assignment.reading();
                reading.set_position(fetched.generation.number, fetched.next_offset);
                return Some(fetched);
            }
        }
    }

    /// Returns true if there is something to be handed out before anything else is done.
    pub fn is_handing_out(&self) -> bool {
        !self.out.is_empty() || !self.answered.is_empty()
    }

    /// Returns the partitions that are not fetched here any more.
    pub fn take_returned(&mut self) -> Vec<(Position, Returned)> {
        std::mem::take(&mut self.returned)
    }
}

impl Default for BrokerFetch {
    fn default() -> Self {
        Self::new()
    }
}
