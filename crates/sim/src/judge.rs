//! Says whether what was promised was kept: what each peer is sent, what is committed, and what
//! has arrived in the end. The delivery checker of the testkit has the last word.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use zafka_testkit::Produced;
use zafka_testkit::{Checker, Received, Session};

use crate::cluster::Partition;
use crate::log::Log;
use crate::violations::Violations;

/// A judge that everybody tells.
pub type SharedJudge = std::rc::Rc<std::cell::RefCell<Judge>>;

/// A record that was written.
#[derive(Clone, Debug)]
struct Written {
    partition: Partition,
    offset: i64,
    branch: u32,
    value: Vec<u8>,
    was_visible: bool,
    was_published: bool,
}

/// A message that was published to a connection and has not been written to it.
#[derive(Clone, Copy, Debug)]
struct Owed {
    number: u64,
    origin: u64,
    /// True if a commit waits for it: it was not published again, and its partition is still the
    /// member's.
    is_due: bool,
}

/// One connection of a subscriber.
#[derive(Debug, Default)]
struct Stream {
    subscriber: usize,
    member: usize,
    is_open: bool,
    /// Its subscriptions: a peer that is behind gets also what is in the ring of a later one.
    subscriptions: usize,
    owed: VecDeque<Owed>,
    /// Messages that were written to it, by origin.
    sessions: BTreeMap<u64, Vec<Received>>,
}

/// The knowledge of a run.
#[derive(Debug, Default)]
pub struct Judge {
    written: Vec<Written>,
    streams: BTreeMap<u64, Stream>,
    withdrawn: BTreeSet<u64>,
    /// The origins of which something was published.
    begun: BTreeSet<u64>,
    /// True if records that a slow peer does not take may be skipped.
    pub may_drop: bool,
    /// True if records were compacted away, or a transaction ended a second time in another way.
    /// Then a record may name another one as the one before it than the checker knows.
    pub was_rewritten: bool,
    violations: Violations,
}

impl Judge {
    /// Takes note of something that is not as promised.
    pub fn violation(&mut self, what: String) {
        self.violations.add(what);
    }

    /// Returns what is not as promised.
    pub fn violations(&self) -> &[String] {
        self.violations.all()
    }

    /// Gives a number to a record that is about to be written.
    pub fn write(
        &mut self,
        partition: &Partition,
        branch: u32,
        at: i64,
        size: usize,
    ) -> (u64, Vec<u8>) {
        let number = self.written.len() as u64;
        let value = format!("{number:<size$}").into_bytes();
        self.written.push(Written {
            partition: partition.clone(),
            offset: at,
            branch,
            value: value.clone(),
            was_visible: false,
            was_published: false,
        });
        (number, value)
    }

    /// Takes note of what a reader of a log sees now.
    pub fn see(&mut self, log: &Log) {
        for number in log.visible().values() {
            self.written[*number as usize].was_visible = true;
        }
    }

    /// A connection of a subscriber was made.
    pub fn connected(&mut self, connection: u64, subscriber: usize, member: usize) {
        let stream = Stream { subscriber, member, is_open: true, ..Stream::default() };
        self.streams.insert(connection, stream);
    }

    /// A subscription of a connection arrived.
    pub fn subscribed(&mut self, connection: u64) {
        if let Some(stream) = self.streams.get_mut(&connection) {
            stream.subscriptions += 1;
        }
    }

    /// A connection has ended. It is owed nothing more.
    pub fn disconnected(&mut self, connection: u64) {
        if let Some(stream) = self.streams.get_mut(&connection) {
            stream.is_open = false;
            stream.owed.clear();
        }
    }

    /// A record was published, to these connections.
    pub fn published(&mut self, record: &Received, origin: u64, to: impl IntoIterator<Item = u64>) {
        let Some(number) = self.number(record) else { return };
        let written = &mut self.written[number as usize];
        written.was_published = true;
        if !written.was_visible {
            return self.violation(format!("stream: {} is not to be seen", at_of(record)));
        }
        if self.begun.insert(origin) && record.prev.is_some() {
            // What came between, if anything did, is not known.
            let what = format!("prev: {} is the first of its reading and has one", at_of(record));
            return self.violation(what);
        }
        for connection in to {
            if let Some(stream) = self.streams.get_mut(&connection) {
                let again = stream.owed.iter_mut().filter(|owed| owed.number == number);
                again.for_each(|owed| owed.is_due = false);
                stream.owed.push_back(Owed { number, origin, is_due: true });
            }
        }
    }

    /// Forgets what is unsent of an origin: it is not sent any more.
    pub fn withdrawn(&mut self, origin: u64) {
        self.withdrawn.insert(origin);
    }

    /// A message of an origin was written to a connection, whole.
    pub fn accepted(&mut self, connection: u64, mut record: Received, origin: u64) {
        let Some(number) = self.number(&record) else { return };
        let (may_drop, withdrawn) = (self.may_drop, &self.withdrawn);
        let branch = self.written[number as usize].branch;
        let Some(stream) = self.streams.get_mut(&connection) else { return };
        let at = stream.owed.iter().position(|owed| (owed.number, owed.origin) == (number, origin));
        let Some(at) = at else {
            if stream.subscriptions > 1 {
                return;
            }
            let what = format!("stream: connection {connection} was not owed {}", at_of(&record));
            return self.violation(what);
        };
        let skipped: Vec<Owed> = stream.owed.drain(..=at).take(at).collect();
        record.topic = branch_of(&record.topic, branch);
        stream.sessions.entry(origin).or_default().push(record);
        for owed in skipped {
            if may_drop || withdrawn.contains(&owed.origin) {
                continue;
            }
            let skipped = &self.written[owed.number as usize];
            let (topic, partition) = &skipped.partition;
            let what = format!(
                "stream: connection {connection} was not sent {topic}/{partition}@{} in its turn",
                skipped.offset
            );
            return self.violation(what);
        }
    }

    /// The partition has left a member: what of it was not sent there is not committed there.
    pub fn released(&mut self, member: usize, partition: &Partition) {
        let written = &self.written;
        for stream in self.streams.values_mut().filter(|stream| stream.member == member) {
            for owed in &mut stream.owed {
                owed.is_due &= written[owed.number as usize].partition != *partition;
            }
        }
    }

    /// A member commits: all before has been published, and written to each of its peers that were
    /// owed it.
    pub fn committed(
        &mut self,
        member: usize,
        partition: &Partition,
        log: &Log,
        from: i64,
        to: i64,
    ) {
        let (topic, number_of) = (&partition.0, partition.1);
        let mut missing = Vec::new();
        for (offset, number) in log.visible().range(from..to) {
            if !self.written[*number as usize].was_published {
                missing.push(format!(
                    "commit: {topic}/{number_of}@{offset} was never published, and committed up \
                     to {to}"
                ));
            }
        }
        let is_due = |owed: &&Owed| {
            let written = &self.written[owed.number as usize];
            owed.is_due
                && written.partition == *partition
                && written.offset < to
                && log.visible().get(&written.offset) == Some(&owed.number)
        };
        let open = self.streams.iter().filter(|(_, stream)| stream.member == member);
        for (connection, stream) in open.filter(|(_, stream)| stream.is_open && !self.may_drop) {
            missing.extend(stream.owed.iter().filter(is_due).map(|owed| {
                let offset = self.written[owed.number as usize].offset;
                format!(
                    "commit: {topic}/{number_of}@{offset} was not written to connection \
                     {connection}, and committed up to {to}"
                )
            }));
        }
        missing.into_iter().take(3).for_each(|what| self.violation(what));
    }

    /// The end: what each subscriber has to have, and the last word on what it got.
    pub fn finish(&mut self, logs: &BTreeMap<Partition, Log>, steady: &BTreeSet<usize>) {
        let (mut known, mut owed) = (Checker::new(), Checker::new());
        for written in self.written.iter().filter(|written| written.was_visible) {
            let at = Produced { partition: written.partition.1, offset: written.offset };
            let topic = branch_of(&written.partition.0, written.branch);
            known.expect_payload(&topic, at, None, Some(&written.value));
        }
        for (partition, log) in logs {
            for (offset, number) in log.visible() {
                let topic = branch_of(&partition.0, self.written[*number as usize].branch);
                owed.expect(&topic, Produced { partition: partition.1, offset: *offset });
            }
        }
        let mut sessions: BTreeMap<usize, Vec<Session>> = BTreeMap::new();
        for stream in self.streams.values_mut() {
            let of = std::mem::take(&mut stream.sessions).into_values().map(Session::new);
            sessions.entry(stream.subscriber).or_default().extend(of);
        }
        let mut found = Vec::new();
        for (subscriber, sessions) in &sessions {
            // What is missing is another question.
            let missing = known.missing(sessions);
            let all = known.check(sessions).into_iter().filter(|what| !missing.contains(what));
            let all = all.filter(|what| {
                let is_of_session = !self.was_rewritten || what.ends_with("came before it");
                !what.starts_with("prev") || !self.may_drop && is_of_session
            });
            found.extend(all.map(|what| format!("subscriber {subscriber}: {what}")));
        }
        for subscriber in steady {
            let none = Vec::new();
            let sessions = sessions.get(subscriber).unwrap_or(&none);
            found.extend(
                owed.missing(sessions)
                    .into_iter()
                    .map(|what| format!("subscriber {subscriber}: {what}")),
            );
        }
        found.into_iter().for_each(|what| self.violation(what));
    }

    /// The number of a record, if it is one that was written.
    fn number(&mut self, record: &Received) -> Option<u64> {
        let text = record.value.as_deref().and_then(|value| std::str::from_utf8(value).ok());
        let number = text.and_then(|text| text.trim_end().parse::<u64>().ok());
        let known = number.filter(|number| {
            self.written.get(*number as usize).is_some_and(|written| {
                written.offset == record.offset && written.partition.1 == record.partition
            })
        });
        if known.is_none() {
            self.violation(format!("stream: {} was never written", at_of(record)));
        }
        known
    }
}

fn at_of(record: &Received) -> String {
    format!("{}/{}@{}", record.topic, record.partition, record.offset)
}

/// A topic's name as the checker knows it: offsets are their own in each branch of its log.
fn branch_of(topic: &str, branch: u32) -> String {
    format!("{topic}~{branch}")
}
