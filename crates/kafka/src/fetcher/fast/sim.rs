//! The dispatcher, the fetch sessions and what is handed out of them, for a simulation that plays
//! brokers, membership and tasks. Not for anybody else.

mod dispatching;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{FetchRequest, FetchResponse};

use super::ResponseContext;
use super::broker::BrokerCommand;
use super::fetch_session::{FetchAnswer, FetchKind, FetchOptions, FetchSession, FetchedPartition};
use super::hand_out::{HandOut, due};
use super::position::ReturnReason;
use super::sizes::FetchSizes;
use crate::assignment::Assignment;
use crate::cluster::MemoryPermit;
use crate::config::Isolation;
use crate::fetcher::{FetchFault, Fetched};
use crate::mailbox::Mailbox;
pub use dispatching::{
    ClusterView, DispatchAction, Dispatching, Fault, PartitionView, Returned, SimCommand, TopicView,
};

/// Returns true if a commit is still this relay's to make.
pub fn may_commit(assignment: &Assignment) -> bool {
    assignment.may_commit()
}

/// The coordinator has this offset.
pub fn set_committed(assignment: &Assignment, offset: i64) {
    assignment.set_committed(offset);
}

/// The next offset to be handed out.
pub fn position(assignment: &Assignment) -> i64 {
    assignment.position()
}

/// Returns true if the route wants nothing of it for now.
pub fn is_paused(assignment: &Assignment) -> bool {
    assignment.is_paused()
}

/// The fetching from one broker.
pub struct BrokerFetch {
    session: FetchSession,
    response: Arc<ResponseContext>,
    /// Partitions of the last answer, until it is known what became of the next request.
    answered: Vec<FetchedPartition>,
    out: VecDeque<HandOut>,
    returned: Vec<Returned>,
    /// True if it is to connect though there is nothing to fetch.
    is_probing: bool,
}

impl std::fmt::Debug for BrokerFetch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerFetch").finish_non_exhaustive()
    }
}

impl BrokerFetch {
    /// Makes a fetcher that has nothing yet.
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
            is_probing: false,
        }
    }

    /// Returns true if a connection is of use.
    pub fn wants_connection(&self) -> bool {
        self.is_probing || !self.session.is_empty()
    }

    /// The connection is another one.
    pub fn connected(&mut self) {
        self.is_probing = false;
        self.session.connected(FetchSizes::for_round_trip(Duration::ZERO));
    }

    /// Takes a command of the dispatcher.
    pub fn handle(&mut self, command: SimCommand) {
        match command.0 {
            BrokerCommand::Add(position) => self.session.insert(position),
            BrokerCommand::Return(assignment) => {
                let position = self.session.remove(&assignment);
                let why = ReturnReason::Requested;
                self.returned.extend(position.map(|position| Returned(position, why)));
            }
            BrokerCommand::Drop(assignment) => drop(self.session.remove(&assignment)),
            BrokerCommand::Probe => self.is_probing = true,
        }
    }

    /// Ends: gives back what it has.
    pub fn end(mut self) -> Vec<Returned> {
        let mut returned = self.take_returned();
        let rest = self.session.drain().into_iter();
        returned.extend(rest.map(|position| Returned(position, ReturnReason::Requested)));
        returned
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
    pub fn answer(&mut self, response: FetchResponse, now: Instant) -> Result<(), ResponseError> {
        let FetchAnswer { partitions, removed, .. } = self.session.answer(response, now)?;
        self.answered.extend(partitions);
        let returned = removed.into_iter().map(|(position, why)| Returned(position, why));
        self.returned.extend(returned);
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
    pub fn take_returned(&mut self) -> Vec<Returned> {
        std::mem::take(&mut self.returned)
    }
}

impl Default for BrokerFetch {
    fn default() -> Self {
        Self::new()
    }
}
