//! The thread that asks the cluster what may take time to answer: which topics there are, and where
//! a partition begins. Each partition has an answer of its own, so that one does not keep the
//! others back.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

mod lives;
mod plan;
mod resolve;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::assignment::Assignment;
use crate::backoff::Backoff;
use crate::client::{Client, plain};
use crate::config::{Isolation, Start};
use crate::mailbox::Mailbox;
use crate::metadata::{MetadataError, MetadataHandle};
use crate::native;
use crate::reset::{DueOffset, ResetReason};
use crate::topic_partition::TopicPartition;
use crate::topics::{Listing, Selection, list};
#[cfg(feature = "sim")]
pub(crate) use lives::TopicIds;
pub(crate) use plan::TopicSnapshot;

/// Longest wait for one request.
const WAIT: Duration = Duration::from_secs(5);
/// Time between two tries.
pub(crate) const BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// A question.
#[derive(Debug)]
pub(crate) enum LookupRequest {
    /// Asks for the start offsets of these partitions. Asked once, when it is due: a caller that
    /// still wants to know asks again.
    Starts {
        id: u64,
        queries: Vec<PositionQuery>,
        due: Instant,
        known: Arc<TopicSnapshot>,
        pending: Arc<PendingQueries>,
    },
    /// The earliest offset of a partition that has lost its place. Asked until it is answered.
    Earliest { due: DueOffset, reason: ResetReason },
    /// The ids of topics. Asked once, as above.
    TopicIds(Vec<String>),
    /// The ends of partitions, as a reader sees them. Asked once, as above.
    Ends(Vec<Arc<Assignment>>),
}

/// An answer, or a listing that was due.
#[derive(Debug)]
pub(crate) enum LookupAnswer {
    /// Topics were listed.
    Listed(Listing),
    /// The starts of partitions, and those that are not known yet.
    Starts { id: u64, resolved: Vec<StartPosition>, unresolved: Vec<Unresolved> },
    /// The earliest offset of a partition that was to be reset.
    Earliest { due: DueOffset, to: i64, reason: ResetReason },
    /// The ids of topics.
    TopicIds(Vec<(String, Uuid)>),
    /// The ends of partitions.
    Ends(Vec<(Arc<Assignment>, i64)>),
}

/// Partitions whose begin is still to be found: the group may want them back while they are asked
/// for.
#[derive(Debug, Default)]
pub(crate) struct PendingQueries(Mutex<HashSet<TopicPartition>>);

impl PendingQueries {
    pub(crate) fn new(partitions: impl Iterator<Item = TopicPartition>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(partitions.collect())))
    }

    pub(crate) fn forget(&self, topic_partition: &TopicPartition) {
        self.0.lock().remove(topic_partition);
    }

    pub(crate) fn forget_all(&self) {
        self.0.lock().clear();
    }

    pub(crate) fn contains(&self, topic_partition: &TopicPartition) -> bool {
        self.0.lock().contains(topic_partition)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

/// A partition, and where it begins if it has no committed offset.
#[derive(Clone, Debug)]
pub(crate) struct PositionQuery {
    pub(crate) topic_partition: TopicPartition,
    pub(crate) rule: StartRule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartRule {
    At(Start),
    /// The offset as it was found for an answer that could not be used, or kept of an assignment
    /// before; of the topic with this id, nil if that is not known.
    Found {
        offset: i64,
        topic_id: Uuid,
    },
    /// The earliest offset, whatever is committed: the topic was recreated while it was looked up,
    /// and what is committed may be of its earlier life.
    Anew,
}

impl PositionQuery {
    /// One that came later than its topic began.
    fn late(topic_partition: TopicPartition) -> Self {
        Self { topic_partition, rule: StartRule::At(Start::Earliest) }
    }
}

impl StartRule {
    fn start(self) -> Option<Start> {
        match self {
            Self::At(start) => Some(start),
            Self::Found { .. } => None,
            Self::Anew => Some(Start::Earliest),
        }
    }

    /// Returns true if it is there unless its topic has begun.
    fn is_at_start(self) -> bool {
        self.start().is_some_and(|start| start != Start::Earliest)
    }
}

/// The start offset of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartPosition {
    pub(crate) topic_partition: TopicPartition,
    pub(crate) start: i64,
    pub(crate) committed: Option<i64>,
    /// Leader epoch of the record before it, which was committed with it; -1 if it is not known.
    pub(crate) epoch: i32,
    /// The id of the topic that it is a start of; nil if that is not known.
    pub(crate) topic_id: Uuid,
}

/// A partition whose begin is not known yet, and why. It is asked for again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {step}: {reason}", .query.topic_partition)]
pub(crate) struct Unresolved {
    pub(crate) query: PositionQuery,
    pub(crate) step: LookupStep,
    pub(crate) reason: LookupError,
}

/// The step on the way to a start that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupStep {
    #[error("the committed offset is not known")]
    Committed,
    #[error("the start is not known")]
    Start,
    #[error("the start was not committed")]
    Commit,
}

/// The reason why an offset is not known, or not committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    /// librdkafka refuses to ask.
    #[error("{}", plain(.0))]
    Client(#[from] KafkaError),
    /// The error of a broker, or of the way to it.
    #[error("{0}")]
    Broker(#[from] RDKafkaErrorCode),
    /// The answer is about others.
    #[error("no answer")]
    NoAnswer,
    /// The answer has no offset in it.
    #[error("the broker tells none")]
    NoOffset,
    /// The id of the topic that there is by the name is not known.
    #[error("asking for the ids of topics: {0}")]
    TopicIds(MetadataError),
    /// Offsets that were found may be of an earlier life of the topic.
    #[error("the topic was deleted or created while its start was looked up")]
    Recreated,
}

/// Partitions that are resolved, and partitions that are still open.
#[derive(Default)]
pub(crate) struct Resolution {
    pub(crate) resolved: Vec<StartPosition>,
    pub(crate) unresolved: Vec<Unresolved>,
}

impl Resolution {
    fn leave_unresolved(&mut self, query: PositionQuery, step: LookupStep, reason: LookupError) {
        self.unresolved.push(Unresolved { query, step, reason });
    }
}

/// Offsets that were asked for; `None` if there is none.
struct Offsets<T = i64> {
    found: HashMap<TopicPartition, Result<Option<T>, LookupError>>,
    /// The reason why there is no answer for the others.
    otherwise: LookupError,
}

impl<T> Offsets<T> {
    fn take(&mut self, topic_partition: &TopicPartition) -> Result<Option<T>, LookupError> {
        self.found.remove(topic_partition).unwrap_or_else(|| Err(self.otherwise.clone()))
    }
}

/// The thread's own.
pub(crate) struct Lookup {
    pub(crate) route: String,
    pub(crate) client: Arc<Client>,
    pub(crate) selection: Selection,
    pub(crate) refresh: Duration,
    pub(crate) isolation: Isolation,
    pub(crate) in_group: bool,
    /// The topics that are held without a group, though a listing may not show them.
    pub(crate) known: BTreeSet<String>,
    pub(crate) answers: Mailbox<LookupAnswer>,
    /// Asks for the ids of topics; none if librdkafka fetches.
    pub(crate) metadata: Option<(Handle, MetadataHandle)>,
    /// Start offsets by `start`, found and not committed yet.
    pub(crate) found: HashMap<TopicPartition, i64>,
}

struct PendingRequest {
    request: LookupRequest,
    due: Instant,
    failures: u32,
}

impl Lookup {
    /// Runs until no question can come any more.
    pub(crate) fn run(mut self, lookups: &Receiver<LookupRequest>) {
        let mut pending: Vec<PendingRequest> = Vec::new();
        let mut next_listing = Instant::now() + self.refresh;
        loop {
            let due = pending.iter().map(|request| request.due).fold(next_listing, Instant::min);
            match lookups.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(request) => {
                    let due = if let LookupRequest::Starts { due, .. } = &request {
                        *due
                    } else {
                        Instant::now()
                    };
                    pending.push(PendingRequest { request, due, failures: 0 });
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            pending.retain_mut(|request| request.due > Instant::now() || !self.answer(request));
            if next_listing <= Instant::now() {
                self.list();
                next_listing = Instant::now() + self.refresh;
            }
        }
    }

    fn list(&mut self) {
        match list(&self.client, &self.selection, &self.known, WAIT) {
            Ok(listing) => {
                if !self.in_group {
                    self.known = listing.names().map(str::to_owned).collect();
                }
                self.answers.send(LookupAnswer::Listed(listing));
            }
            Err(error) => {
                self.client.context().report(&format!("listing topics: {}", plain(&error)))
            }
        }
    }

    /// Tries once. True if the question is settled.
    fn answer(&mut self, request: &mut PendingRequest) -> bool {
        let answer = match &mut request.request {
            LookupRequest::Starts { pending, .. } if pending.is_empty() => return true,
            LookupRequest::Earliest { due, .. } if !due.is_now() => return true,
            LookupRequest::Starts { id, queries, known, pending, .. } => {
                let queries = std::mem::take(queries);
                let Resolution { resolved, unresolved } =
                    self.resolve_of_one_life(queries, known, pending);
                LookupAnswer::Starts { id: *id, resolved, unresolved }
            }
            LookupRequest::Earliest { due, reason } => match self.earliest(&due.assignment) {
                Some(to) => LookupAnswer::Earliest { due: due.clone(), to, reason: *reason },
                None => {
                    request.due = Instant::now() + BACKOFF.after(request.failures);
                    request.failures += 1;
                    return false;
                }
            },
            LookupRequest::TopicIds(topics) => {
                match native::topic_ids(&self.client, topics, WAIT) {
                    Ok(ids) => LookupAnswer::TopicIds(ids),
                    Err(code) => {
                        self.client
                            .context()
                            .report(&format!("asking for the ids of topics: {code}"));
                        return true;
                    }
                }
            }
            LookupRequest::Ends(assignments) => LookupAnswer::Ends(self.ends(assignments)),
        };
        self.answers.send(answer);
        true
    }

    /// The offsets for times, `Offset::Beginning` and `Offset::End` among them. Under
    /// read_committed the end is the last stable offset.
    fn offsets<'a>(&self, times: impl Iterator<Item = (&'a TopicPartition, Offset)>) -> Offsets {
        let mut list = TopicPartitionList::new();
        let mut found = HashMap::new();
        for (at, time) in times {
            if let Err(error) = list.add_partition_offset(&at.topic, at.partition, time) {
                found.insert(at.clone(), Err(error.into()));
            }
        }
        let mut otherwise = LookupError::NoAnswer;
        if list.count() > 0 {
            match native::offsets(&self.client, &list, self.isolation, WAIT) {
                Ok(answers) => found.extend(
                    answers.into_iter().map(|(at, answer)| (at, answer.map_err(Into::into))),
                ),
                Err(code) => {
                    otherwise = code.into();
                    self.refresh_leaders(code);
                }
            }
        }
        Offsets { found, otherwise }
    }

    /// Makes librdkafka ask for leaders again. If no partition has one it goes on believing so for
    /// a while: it asks again only if some have one (`rd_kafka_ListOffsets_handle_result`).
    fn refresh_leaders(&self, code: RDKafkaErrorCode) {
        if code == RDKafkaErrorCode::LeaderNotAvailable {
            // The next try shows if it helped.
            let _ = self.client.fetch_metadata(None, WAIT);
        }
    }

    /// Returns the ends of partitions. If an end is not to be had, the position stands for it:
    /// nothing is known to be wrong.
    fn ends(&self, assignments: &[Arc<Assignment>]) -> Vec<(Arc<Assignment>, i64)> {
        let of = assignments.iter().map(|assignment| &assignment.topic_partition);
        let mut ends = self.offsets(of.map(|topic_partition| (topic_partition, Offset::End)));
        let mut failed = Vec::new();
        let mut known = Vec::with_capacity(assignments.len());
        for assignment in assignments {
            let end = ends.take(&assignment.topic_partition).unwrap_or_else(|reason| {
                failed.push((&assignment.topic_partition, reason));
                None
            });
            known.push((Arc::clone(assignment), end.unwrap_or_else(|| assignment.position())));
        }
        self.client.context().report_partitions("the end is not known", failed);
        known
    }

    fn earliest(&self, assignment: &Assignment) -> Option<i64> {
        let of = &assignment.topic_partition;
        let reason = match self.offsets(std::iter::once((of, Offset::Beginning))).take(of) {
            Ok(Some(offset)) => return Some(offset),
            Ok(None) => LookupError::NoOffset,
            Err(reason) => reason,
        };
        let failed = [(of, reason)];
        self.client.context().report_partitions("the earliest offset is not known", failed);
        None
    }
}
