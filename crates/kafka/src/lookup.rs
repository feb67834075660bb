//! The thread that asks the cluster what may take time to answer: which topics there are, and where a partition
//! begins. A question that fails is asked again, later and later, until it is answered or nobody wants to know.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::assignment::Assignment;
use crate::client::{Client, Part, plain};
use crate::config::Start;
use crate::membership::{Command, Reset};
use crate::native;
use crate::topics::{Selection, TopicMap, list};

/// How long one request is waited for.
const WAIT: Duration = Duration::from_secs(5);
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A question.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Where these partitions begin.
    TakeUp { id: u64, parts: Vec<Part>, cancelled: Arc<AtomicBool> },
    /// The earliest offset of a partition that has lost its place.
    Earliest { assignment: Arc<Assignment>, from: i64, why: Reset },
    /// The ends of partitions, as a reader sees them. Asked once: who wants to know asks again.
    Ends(Vec<Arc<Assignment>>),
}

/// Where a partition begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    pub(crate) part: Part,
    pub(crate) start: i64,
    pub(crate) committed: Option<i64>,
}

/// The thread's own.
pub(crate) struct Lookup {
    pub(crate) client: Arc<Client>,
    pub(crate) selection: Selection,
    pub(crate) refresh: Duration,
    pub(crate) start: Start,
    pub(crate) in_group: bool,
    /// The topics there were when the route began; what is not among them starts at its earliest offset.
    pub(crate) first: TopicMap,
    pub(crate) commands: Sender<Command>,
}

struct Open {
    ask: Ask,
    due: Instant,
    backoff: Duration,
}

impl Lookup {
    /// Runs until no question can come any more.
    pub(crate) fn run(&self, questions: &Receiver<Ask>) {
        let mut open: Vec<Open> = Vec::new();
        let mut next_listing = Instant::now() + self.refresh;
        loop {
            let due = open.iter().map(|open| open.due).fold(next_listing, Instant::min);
            match questions.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(ask) => open.push(Open { ask, due: Instant::now(), backoff: BACKOFF.0 }),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            open.retain_mut(|open| open.due > Instant::now() || !self.answer(open));
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
    fn answer(&self, open: &mut Open) -> bool {
        let result = match &open.ask {
            Ask::TakeUp { cancelled, .. } if cancelled.load(Ordering::Acquire) => return true,
            Ask::Earliest { assignment, .. } if !assignment.is_active() => return true,
            Ask::TakeUp { id, parts, .. } => {
                self.take_up(parts).map(|begins| Command::TakenUp { id: *id, begins })
            }
            Ask::Earliest { assignment, from, why } => self.earliest(assignment).map(|to| {
                let assignment = Arc::clone(assignment);
                Command::ResetTo { assignment, from: *from, to, why: *why }
            }),
            Ask::Ends(assignments) => Ok(Command::Ends(self.ends(assignments))),
        };
        match result {
            Ok(command) => {
                // As above.
                let _ = self.commands.send(command);
                true
            }
            Err(reason) => {
                self.client.context().report(&reason);
                open.due = Instant::now() + open.backoff;
                open.backoff = (open.backoff * 2).min(BACKOFF.1);
                false
            }
        }
    }

    fn take_up(&self, parts: &[Part]) -> Result<Vec<Begin>, String> {
        let mut begins = if self.in_group { self.committed(parts)? } else { Vec::new() };
        let is_known = |begins: &[Begin], part: &Part| begins.iter().any(|begin| begin.part == *part);
        let new: Vec<Part> = parts.iter().filter(|part| !is_known(&begins, part)).cloned().collect();
        if new.is_empty() {
            return Ok(begins);
        }
        let mut resolved = self.resolve(&new)?;
        if self.in_group {
            // Before anything is read: a crash must not turn "latest" into a skip.
            self.commit(&resolved)?;
            for begin in &mut resolved {
                begin.committed = Some(begin.start);
            }
        }
        begins.append(&mut resolved);
        Ok(begins)
    }

    fn committed(&self, parts: &[Part]) -> Result<Vec<Begin>, String> {
        let mut list = TopicPartitionList::with_capacity(parts.len());
        for (topic, partition) in parts {
            list.add_partition(topic, *partition);
        }
        let committed = self.client.committed_offsets(list, WAIT);
        let committed = committed.map_err(|error| format!("committed offsets: {}", plain(&error)))?;
        let mut begins = Vec::new();
        for element in committed.elements() {
            element
                .error()
                .map_err(|error| at("committed offset", element.topic(), element.partition(), &error))?;
            if let Offset::Offset(start) = element.offset() {
                let part = (element.topic().to_owned(), element.partition());
                begins.push(Begin { part, start, committed: Some(start) });
            }
        }
        Ok(begins)
    }

    /// Where partitions begin that have no committed offset.
    fn resolve(&self, parts: &[Part]) -> Result<Vec<Begin>, String> {
        let wanted = |(topic, partition): &Part| {
            let late = self.first.get(topic).is_none_or(|count| partition >= count);
            match self.start {
                _ if late => Offset::Beginning,
                Start::Earliest => Offset::Beginning,
                Start::Latest => Offset::End,
                Start::Time(time) => Offset::Offset(time),
            }
        };
        let mut found = self.offsets(parts.iter().map(|part| (part, wanted(part))))?;
        // No record at that time or after it: the end.
        let none: Vec<Part> =
            found.iter().filter(|(_, offset)| offset.is_none()).map(|(part, _)| part.clone()).collect();
        if !none.is_empty() {
            found.retain(|(_, offset)| offset.is_some());
            found.extend(self.offsets(none.iter().map(|part| (part, Offset::End)))?);
        }
        let begin = |(part, start): (Part, Option<i64>)| match start {
            Some(start) => Ok(Begin { part, start, committed: None }),
            None => Err(format!("start of {}/{}: the broker tells no offset", part.0, part.1)),
        };
        found.into_iter().map(begin).collect()
    }

    /// ListOffsets, one request for each leader: `Offset::Beginning` and `Offset::End` are its special times -2, -1.
    /// Under read_committed the end is the last stable offset.
    fn offsets<'a>(
        &self,
        parts: impl Iterator<Item = (&'a Part, Offset)>,
    ) -> Result<Vec<(Part, Option<i64>)>, String> {
        let mut list = TopicPartitionList::new();
        for ((topic, partition), time) in parts {
            list.add_partition_offset(topic, *partition, time)
                .map_err(|error| at("start", topic, *partition, &error))?;
        }
        let found = self.client.offsets_for_times(list, WAIT);
        let found = found.map_err(|error| format!("offsets by time: {}", plain(&error)))?;
        let mut offsets = Vec::new();
        for element in found.elements() {
            element.error().map_err(|error| at("start", element.topic(), element.partition(), &error))?;
            let offset = match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            offsets.push(((element.topic().to_owned(), element.partition()), offset));
        }
        Ok(offsets)
    }

    fn commit(&self, begins: &[Begin]) -> Result<(), String> {
        let mut list = TopicPartitionList::with_capacity(begins.len());
        for Begin { part: (topic, partition), start, .. } in begins {
            let added = list.add_partition_offset(topic, *partition, Offset::Offset(*start));
            added.map_err(|error| at("start", topic, *partition, &error))?;
        }
        match native::commit(&self.client, &list, WAIT) {
            Ok(failed) => match failed.first() {
                None => Ok(()),
                Some((topic, partition, code)) => {
                    Err(format!("commit of the start of {topic}/{partition}: {code}"))
                }
            },
            Err(code) => Err(format!("commit of the start of {} partitions: {code}", begins.len())),
        }
    }

    /// Where a partition's end is not to be had, its position stands for it: nothing is known to be wrong.
    fn ends(&self, assignments: &[Arc<Assignment>]) -> Vec<(Arc<Assignment>, i64)> {
        let parts: Vec<Part> = assignments
            .iter()
            .map(|assignment| (assignment.topic.to_string(), assignment.partition))
            .collect();
        let ends = self.offsets(parts.iter().map(|part| (part, Offset::End))).unwrap_or_else(|reason| {
            self.client.context().report(&reason);
            Vec::new()
        });
        let ends: HashMap<Part, Option<i64>> = ends.into_iter().collect();
        let end = |(assignment, part): (&Arc<Assignment>, &Part)| {
            let end = ends.get(part).copied().flatten();
            (Arc::clone(assignment), end.unwrap_or_else(|| assignment.position()))
        };
        assignments.iter().zip(&parts).map(end).collect()
    }

    fn earliest(&self, assignment: &Assignment) -> Result<i64, String> {
        let part = (assignment.topic.to_string(), assignment.partition);
        let found = self.offsets(std::iter::once((&part, Offset::Beginning)))?;
        let offset = found.first().and_then(|(_, offset)| *offset);
        offset.ok_or_else(|| format!("earliest offset of {}/{}: the broker tells none", part.0, part.1))
    }
}

fn at(what: &str, topic: &str, partition: i32, error: &KafkaError) -> String {
    format!("{what} of {topic}/{partition}: {}", plain(error))
}
