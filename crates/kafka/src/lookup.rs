//! The thread that asks the cluster what may take time to answer: which topics there are, and where a partition
//! begins. Each partition has an answer of its own, so that one does not keep the others back.

use std::collections::{HashMap, HashSet};
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
use crate::membership::{Command, Reset};
use crate::native;
use crate::topics::{Selection, list};

/// How long one request is waited for.
const WAIT: Duration = Duration::from_secs(5);
/// Time between two tries.
pub(crate) const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A question.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Where these partitions begin. Asked once, when it is due: who still wants to know asks again.
    TakeUp { id: u64, wanted: Vec<Wanted>, due: Instant, still: Arc<StillWanted> },
    /// The earliest offset of a partition that has lost its place. Asked until it is answered.
    Earliest { assignment: Arc<Assignment>, from: i64, why: Reset },
    /// The ends of partitions, as a reader sees them. Asked once, as above.
    Ends(Vec<Arc<Assignment>>),
}

/// Partitions whose begin is still to be found: the group may want them back while they are asked for.
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
    /// As it was found before it could not be committed: "latest" is not asked for twice.
    Found(i64),
}

/// Where a partition begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    pub(crate) part: Part,
    pub(crate) start: i64,
    pub(crate) committed: Option<i64>,
    /// Leader epoch of the record before it, which was committed with it; -1 where it is not known.
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
    pub(crate) client: Arc<Client>,
    pub(crate) selection: Selection,
    pub(crate) refresh: Duration,
    pub(crate) isolation: Isolation,
    pub(crate) in_group: bool,
    pub(crate) commands: Sender<Command>,
}

struct Question {
    ask: Ask,
    due: Instant,
    backoff: Duration,
}

impl Lookup {
    /// Runs until no question can come any more.
    pub(crate) fn run(&self, questions: &Receiver<Ask>) {
        let mut open: Vec<Question> = Vec::new();
        let mut next_listing = Instant::now() + self.refresh;
        loop {
            let due = open.iter().map(|question| question.due).fold(next_listing, Instant::min);
            match questions.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(ask) => {
                    let due = if let Ask::TakeUp { due, .. } = &ask { *due } else { Instant::now() };
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

    fn list(&self) {
        match list(&self.client, &self.selection, WAIT) {
            // Where the membership has ended, nobody wants to know.
            Ok(listing) => drop(self.commands.send(Command::Listed(listing))),
            Err(error) => self.client.context().report(&format!("listing topics: {}", plain(&error))),
        }
    }

    /// Tries once. True where the question is settled.
    fn answer(&self, question: &mut Question) -> bool {
        let command = match &mut question.ask {
            Ask::TakeUp { still, .. } if still.is_empty() => return true,
            Ask::Earliest { assignment, .. } if !assignment.is_active() => return true,
            Ask::TakeUp { id, wanted, still, .. } => {
                let TakenUp { begins, open } = self.take_up(std::mem::take(wanted), still);
                Command::TakenUp { id: *id, begins, open }
            }
            Ask::Earliest { assignment, from, why } => match self.earliest(assignment) {
                Some(to) => {
                    Command::ResetTo { assignment: Arc::clone(assignment), from: *from, to, why: *why }
                }
                None => {
                    question.due = Instant::now() + question.backoff;
                    question.backoff = (question.backoff * 2).min(BACKOFF.1);
                    return false;
                }
            },
            Ask::Ends(assignments) => Command::Ends(self.ends(assignments)),
        };
        // As above.
        let _ = self.commands.send(command);
        true
    }

    fn take_up(&self, wanted: Vec<Wanted>, still: &StillWanted) -> TakenUp {
        let mut taken_up = TakenUp::default();
        let new = if self.in_group { self.committed(wanted, &mut taken_up) } else { wanted };
        let mut found = self.resolve(new, &mut taken_up);
        if self.in_group {
            // That may have taken seconds. What the group has given to another member meanwhile is that one's to commit.
            found.retain(|begin| still.contains(&begin.part));
            // Before anything is read: a crash must not turn "latest" into a skip.
            self.commit(found, &mut taken_up);
        } else {
            taken_up.begins.extend(found);
        }
        for what in [NO_COMMITTED, NO_START, NOT_COMMITTED] {
            self.report(what, taken_up.open.iter().filter(|open| open.what == what));
        }
        taken_up
    }

    fn report<'a>(&self, what: &str, open: impl Iterator<Item = &'a Open>) {
        let failed = open.map(|Open { wanted, reason, .. }| (&*wanted.part.0, wanted.part.1, reason.clone()));
        self.client.context().report_partitions(what, failed);
    }

    /// Those without a committed offset.
    fn committed(&self, wanted: Vec<Wanted>, taken_up: &mut TakenUp) -> Vec<Wanted> {
        let mut committed = self.committed_offsets(&wanted);
        let mut new = Vec::new();
        for wanted in wanted {
            match committed.take(&wanted.part) {
                Ok(Some((start, epoch))) => {
                    let (part, committed) = (wanted.part, Some(start));
                    taken_up.begins.push(Begin { part, start, committed, epoch });
                }
                Ok(None) => new.push(wanted),
                Err(reason) => taken_up.leave_open(wanted, NO_COMMITTED, reason),
            }
        }
        new
    }

    /// With the leader epochs that were committed with them.
    fn committed_offsets(&self, wanted: &[Wanted]) -> Offsets<(i64, i32)> {
        let mut list = TopicPartitionList::with_capacity(wanted.len());
        for Wanted { part: (topic, partition), .. } in wanted {
            list.add_partition(topic, *partition);
        }
        let list = match self.client.committed_offsets(list, WAIT) {
            Ok(list) => list,
            Err(error) => return Offsets { found: HashMap::new(), otherwise: plain(&error) },
        };
        let epochs = native::leader_epochs(&list);
        let found = list.elements().into_iter().zip(epochs).map(|(element, epoch)| {
            let offset = match (element.error(), element.offset()) {
                (Err(error), _) => Err(plain(&error)),
                (Ok(()), Offset::Offset(offset)) => Ok(Some((offset, epoch))),
                (Ok(()), _) => Ok(None),
            };
            ((element.topic().to_owned(), element.partition()), offset)
        });
        Offsets { found: found.collect(), otherwise: NO_ANSWER.to_owned() }
    }

    /// Where partitions begin that have no committed offset.
    fn resolve(&self, wanted: Vec<Wanted>, taken_up: &mut TakenUp) -> Vec<Begin> {
        let asked = wanted.iter().filter_map(|Wanted { part, beginning }| match beginning {
            Beginning::At(start) => Some((part, time(*start))),
            Beginning::Found(_) => None,
        });
        let mut found = self.offsets(asked);
        // No record at that time or after it: the end.
        let late = wanted.iter().filter(|wanted| matches!(found.found.get(&wanted.part), Some(Ok(None))));
        let mut ends = self.offsets(late.map(|wanted| (&wanted.part, Offset::End)));
        let mut begins = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let start = match wanted.beginning {
                Beginning::Found(start) => Ok(Some(start)),
                Beginning::At(_) => match found.take(&wanted.part) {
                    Ok(None) => ends.take(&wanted.part),
                    answer => answer,
                },
            };
            match start {
                Ok(Some(start)) => {
                    begins.push(Begin { part: wanted.part, start, committed: None, epoch: -1 });
                }
                Ok(None) => taken_up.leave_open(wanted, NO_START, "the broker tells none".to_owned()),
                Err(reason) => taken_up.leave_open(wanted, NO_START, reason),
            }
        }
        begins
    }

    /// The offsets for times, `Offset::Beginning` and `Offset::End` among them. Under read_committed the end is the
    /// last stable offset.
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
                    answers.into_iter().map(|(part, answer)| (part, answer.map_err(|code| code.to_string()))),
                ),
                Err(code) => {
                    otherwise = code.to_string();
                    self.refresh_leaders(code);
                }
            }
        }
        Offsets { found, otherwise }
    }

    /// Where no partition has a leader, librdkafka goes on believing so for a while: it asks anew only where some have
    /// one (`rd_kafka_ListOffsets_handle_result`).
    fn refresh_leaders(&self, code: RDKafkaErrorCode) {
        if code == RDKafkaErrorCode::LeaderNotAvailable {
            // The next try tells whether it helped.
            let _ = self.client.fetch_metadata(None, WAIT);
        }
    }

    fn commit(&self, begins: Vec<Begin>, taken_up: &mut TakenUp) {
        if begins.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::with_capacity(begins.len());
        let mut refused = HashMap::new();
        for Begin { part, start, .. } in &begins {
            if let Err(error) = list.add_partition_offset(&part.0, part.1, Offset::Offset(*start)) {
                refused.insert(part.clone(), plain(&error));
            }
        }
        let everything = match native::commit(&self.client, &list, WAIT) {
            Ok(failed) => {
                let failed = failed.into_iter();
                refused.extend(failed.map(|(topic, number, code)| ((topic, number), code.to_string())));
                None
            }
            Err(code) => Some(code.to_string()),
        };
        for Begin { part, start, .. } in begins {
            match everything.clone().or_else(|| refused.remove(&part)) {
                None => {
                    taken_up.begins.push(Begin { part, start, committed: Some(start), epoch: -1 });
                }
                Some(reason) => {
                    let wanted = Wanted { part, beginning: Beginning::Found(start) };
                    taken_up.leave_open(wanted, NOT_COMMITTED, reason);
                }
            }
        }
    }

    /// Where a partition's end is not to be had, its position stands for it: nothing is known to be wrong.
    fn ends(&self, assignments: &[Arc<Assignment>]) -> Vec<(Arc<Assignment>, i64)> {
        let part = |assignment: &Arc<Assignment>| (assignment.topic.to_string(), assignment.partition);
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

/// Why a partition is left open.
const NO_COMMITTED: &str = "the committed offset is not known";
const NO_START: &str = "the start is not known";
const NOT_COMMITTED: &str = "the start was not committed";

const NO_ANSWER: &str = "no answer";

/// As ListOffsets asks for it; a time before the epoch would mean something else.
fn time(start: Start) -> Offset {
    match start {
        Start::Earliest => Offset::Beginning,
        Start::Latest => Offset::End,
        Start::Time(time) => Offset::Offset(time.max(0)),
    }
}
