//! The thread that asks the cluster what may take time to answer: which topics there are, and where
//! a partition begins. Each partition has an answer of its own, so that one does not keep the
//! others back.

mod begins;
mod starts;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::assignment::Assignment;
use crate::client::{Client, Part, plain};
use crate::config::{Isolation, Start};
use crate::generation::Due;
use crate::membership::{Command, Reset};
use crate::native;
use crate::topics::{Selection, list};
pub(crate) use starts::Known;

/// How long one request is waited for.
const WAIT: Duration = Duration::from_secs(5);
/// Time between two tries.
pub(crate) const BACKOFF: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(5));

/// A question.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Where these partitions begin. Asked once, when it is due: who still wants to know asks
    /// again.
    TakeUp {
        id: u64,
        wanted: Vec<Wanted>,
        due: Instant,
        known: Arc<Known>,
        still: Arc<StillWanted>,
    },
    /// The earliest offset of a partition that has lost its place. Asked until it is answered.
    Earliest { due: Due, why: Reset },
    /// The ids of topics. Asked once, as above.
    TopicIds(Vec<String>),
    /// The ends of partitions, as a reader sees them. Asked once, as above.
    Ends(Vec<Arc<Assignment>>),
}

/// Partitions whose begin is still to be found: the group may want them back while they are asked
/// for.
#[derive(Debug, Default)]
pub(crate) struct StillWanted(Mutex<HashSet<Part>>);

impl StillWanted {
    pub(crate) fn new(parts: impl Iterator<Item = Part>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(parts.collect())))
    }

    pub(crate) fn forget(&self, part: &Part) {
        self.0.lock().remove(part);
    }

    pub(crate) fn forget_all(&self) {
        self.0.lock().clear();
    }

    pub(crate) fn contains(&self, part: &Part) -> bool {
        self.0.lock().contains(part)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

/// A partition, and where it begins if it has no committed offset.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) part: Part,
    pub(crate) beginning: Beginning,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    At(Start),
    /// As it was found for an answer that could not be used.
    Found(i64),
}

impl Wanted {
    /// One that came later than its topic began.
    fn late(part: Part) -> Self {
        Self { part, beginning: Beginning::At(Start::Earliest) }
    }
}

impl Beginning {
    fn start(self) -> Option<Start> {
        match self {
            Self::At(start) => Some(start),
            Self::Found(_) => None,
        }
    }

    /// Whether it is there unless its topic has begun.
    fn is_at_start(self) -> bool {
        self.start().is_some_and(|start| start != Start::Earliest)
    }
}

/// Where a partition begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    pub(crate) part: Part,
    pub(crate) start: i64,
    pub(crate) committed: Option<i64>,
    /// Leader epoch of the record before it, which was committed with it; -1 where it is not
    /// known.
    pub(crate) epoch: i32,
}

/// A partition whose begin is not known yet, and why.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) wanted: Wanted,
    what: &'static str,
    reason: String,
}

impl Open {
    pub(crate) fn new(wanted: Wanted, what: &'static str, reason: String) -> Self {
        Self { wanted, what, reason }
    }
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (topic, partition) = &self.wanted.part;
        write!(f, "{topic}/{partition}: {}: {}", self.what, self.reason)
    }
}

/// What is known of partitions, and what is open.
#[derive(Default)]
struct TakenUp {
    begins: Vec<Begin>,
    open: Vec<Open>,
}

impl TakenUp {
    fn leave_open(&mut self, wanted: Wanted, what: &'static str, reason: String) {
        self.open.push(Open::new(wanted, what, reason));
    }
}

/// Offsets that were asked for, `None` where there is none.
struct Offsets<T = i64> {
    found: HashMap<Part, Result<Option<T>, String>>,
    /// Why there is no answer for the others.
    otherwise: String,
}

impl<T> Offsets<T> {
    fn take(&mut self, part: &Part) -> Result<Option<T>, String> {
        self.found.remove(part).unwrap_or_else(|| Err(self.otherwise.clone()))
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
    /// Without a group: topics that are held, though a listing may not show them.
    pub(crate) known: BTreeSet<String>,
    pub(crate) commands: Sender<Command>,
    /// Where partitions begin at `start`, found and not committed yet.
    pub(crate) found: HashMap<Part, i64>,
}

struct Question {
    ask: Ask,
    due: Instant,
    backoff: Duration,
}

impl Lookup {
    /// Runs until no question can come any more.
    pub(crate) fn run(mut self, questions: &Receiver<Ask>) {
        let mut open: Vec<Question> = Vec::new();
        let mut next_listing = Instant::now() + self.refresh;
        loop {
            let due = open.iter().map(|question| question.due).fold(next_listing, Instant::min);
            match questions.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(ask) => {
                    let due =
                        if let Ask::TakeUp { due, .. } = &ask { *due } else { Instant::now() };
                    open.push(Question { ask, due, backoff: BACKOFF.0 });
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            open.retain_mut(|question| question.due > Instant::now() || !self.answer(question));
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
                    self.known = listing.names().cloned().collect();
                }
                // Where the membership has ended, nobody wants to know.
                let _ = self.commands.send(Command::Listed(listing));
            }
            Err(error) => {
                self.client.context().report(&format!("listing topics: {}", plain(&error)))
            }
        }
    }

    /// Tries once. True where the question is settled.
    fn answer(&mut self, question: &mut Question) -> bool {
        let command = match &mut question.ask {
            Ask::TakeUp { still, .. } if still.is_empty() => return true,
            Ask::Earliest { due, .. } if !due.is_now() => return true,
            Ask::TakeUp { id, wanted, known, still, .. } => {
                let wanted = std::mem::take(wanted);
                let TakenUp { begins, open } = match self.in_group {
                    true => self.take_up_in_group(wanted, known, still),
                    false => self.take_up(wanted),
                };
                Command::TakenUp { id: *id, begins, open }
            }
            Ask::Earliest { due, why } => match self.earliest(&due.assignment) {
                Some(to) => Command::ResetTo { due: due.clone(), to, why: *why },
                None => {
                    question.due = Instant::now() + question.backoff;
                    question.backoff = (question.backoff * 2).min(BACKOFF.1);
                    return false;
                }
            },
            Ask::TopicIds(topics) => match native::topic_ids(&self.client, topics, WAIT) {
                Ok(ids) => Command::TopicIds(ids),
                Err(code) => {
                    self.client.context().report(&format!("asking for the ids of topics: {code}"));
                    return true;
                }
            },
            Ask::Ends(assignments) => Command::Ends(self.ends(assignments)),
        };
        // As above.
        let _ = self.commands.send(command);
        true
    }

    /// The offsets for times, `Offset::Beginning` and `Offset::End` among them. Under
    /// read_committed the end is the last stable offset.
    fn offsets<'a>(&self, times: impl Iterator<Item = (&'a Part, Offset)>) -> Offsets {
        let mut list = TopicPartitionList::new();
        let mut found = HashMap::new();
        for (part, time) in times {
            if let Err(error) = list.add_partition_offset(&part.0, part.1, time) {
                found.insert(part.clone(), Err(plain(&error)));
            }
        }
        let mut otherwise = NO_ANSWER.to_owned();
        if list.count() > 0 {
            match native::offsets(&self.client, &list, self.isolation, WAIT) {
                Ok(answers) => found.extend(
                    answers
                        .into_iter()
                        .map(|(part, answer)| (part, answer.map_err(|code| code.to_string()))),
                ),
                Err(code) => {
                    otherwise = code.to_string();
                    self.refresh_leaders(code);
                }
            }
        }
        Offsets { found, otherwise }
    }

    /// Where no partition has a leader, librdkafka goes on believing so for a while: it asks anew
    /// only where some have one (`rd_kafka_ListOffsets_handle_result`).
    fn refresh_leaders(&self, code: RDKafkaErrorCode) {
        if code == RDKafkaErrorCode::LeaderNotAvailable {
            // The next try tells whether it helped.
            let _ = self.client.fetch_metadata(None, WAIT);
        }
    }

    /// Where a partition's end is not to be had, its position stands for it: nothing is known to be
    /// wrong.
    fn ends(&self, assignments: &[Arc<Assignment>]) -> Vec<(Arc<Assignment>, i64)> {
        let part =
            |assignment: &Arc<Assignment>| (assignment.topic.to_string(), assignment.partition);
        let parts: Vec<Part> = assignments.iter().map(part).collect();
        let mut ends = self.offsets(parts.iter().map(|part| (part, Offset::End)));
        let mut failed = Vec::new();
        let mut known = Vec::with_capacity(assignments.len());
        for (assignment, part) in assignments.iter().zip(&parts) {
            let end = ends.take(part).unwrap_or_else(|reason| {
                failed.push((&*part.0, part.1, reason));
                None
            });
            known.push((Arc::clone(assignment), end.unwrap_or_else(|| assignment.position())));
        }
        self.client.context().report_partitions("the end is not known", failed);
        known
    }

    fn earliest(&self, assignment: &Assignment) -> Option<i64> {
        let part = (assignment.topic.to_string(), assignment.partition);
        let reason = match self.offsets(std::iter::once((&part, Offset::Beginning))).take(&part) {
            Ok(Some(offset)) => return Some(offset),
            Ok(None) => "the broker tells none".to_owned(),
            Err(reason) => reason,
        };
        let failed = [(&*part.0, part.1, reason)];
        self.client.context().report_partitions("the earliest offset is not known", failed);
        None
    }
}

const NO_ANSWER: &str = "no answer";
