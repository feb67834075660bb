//! Checks whether a subscriber got what it was owed: nothing missing, in order, byte for byte, and
//! repeated only if it was not committed.
//!
//! A subscriber's messages come in sessions, one for each connection, partition and assignment.
//! Offsets rise strictly within a session; a later one may fall back, but not below the offset
//! committed when it began.

mod acknowledged;
mod envelope;
mod ranges;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::sequence::{Produced, Sequence, sequence_value};

pub use acknowledged::{Acknowledged, Number, Place};
pub use envelope::{Received, decode_json};

/// A topic and a partition.
pub type Partition = (String, i32);

/// Key and value of an expected record, if a test wants them compared.
type Payload = (Option<Vec<u8>>, Option<Vec<u8>>);

/// The records that were written, to check sessions against.
#[derive(Debug, Clone, Default)]
pub struct Checker {
    expected: BTreeMap<Partition, BTreeMap<i64, Option<Payload>>>,
}

/// The records that one subscriber received in one session, in order.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// Messages in the order of arrival.
    pub messages: Vec<Received>,
    /// The committed offset of each partition when the session began: nothing below it may be
    /// sent. A partition that is not named has no floor.
    pub floor: BTreeMap<Partition, i64>,
}

impl Session {
    /// A session without a floor.
    pub fn new(messages: Vec<Received>) -> Self {
        Self { messages, floor: BTreeMap::new() }
    }

    /// A session that began with these committed offsets ([`crate::Admin::committed`]).
    pub fn above(messages: Vec<Received>, floor: BTreeMap<Partition, i64>) -> Self {
        Self { messages, floor }
    }
}

impl Checker {
    /// A checker that expects nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Expects a record by its position alone.
    pub fn expect(&mut self, topic: &str, at: Produced) -> &mut Self {
        self.insert(topic, at, None)
    }

    /// Expects a record with these bytes; `None` is null.
    pub fn expect_payload(
        &mut self,
        topic: &str,
        at: Produced,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> &mut Self {
        self.insert(topic, at, Some((key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec))))
    }

    /// Expects all records of a sequence, byte for byte.
    pub fn expect_sequence(&mut self, sequence: &Sequence, produced: &[Produced]) -> &mut Self {
        for (number, at) in (sequence.first..).zip(produced) {
            let key = (sequence.keys > 0)
                .then(|| format!("k{}", number % sequence.keys as u64).into_bytes());
            let value = sequence_value(number, sequence.value_size);
            self.insert(&sequence.topic, *at, Some((key, Some(value))));
        }
        self
    }

    fn insert(&mut self, topic: &str, at: Produced, payload: Option<Payload>) -> &mut Self {
        let partition = self.expected.entry((topic.to_owned(), at.partition)).or_default();
        partition.insert(at.offset, payload);
        self
    }

    /// The number of records that are expected.
    pub fn len(&self) -> usize {
        self.expected.values().map(BTreeMap::len).sum()
    }

    /// Returns true if nothing is expected.
    pub fn is_empty(&self) -> bool {
        self.expected.is_empty()
    }

    /// Checks all that can be checked of one subscriber; panics with every kind of violation.
    pub fn assert(&self, sessions: &[Session]) {
        let violations = self.check(sessions);
        assert!(violations.is_empty(), "delivery is not as promised:\n{}", violations.join("\n"));
    }

    /// Every violation: missing, order, floor, foreign, payload and prev.
    pub fn check(&self, sessions: &[Session]) -> Vec<String> {
        let mut violations = self.missing(sessions);
        for (number, session) in sessions.iter().enumerate() {
            self.in_session(number, session, &mut violations);
        }
        violations
    }

    /// The records that no session has, as ranges.
    pub fn missing(&self, sessions: &[Session]) -> Vec<String> {
        let mut got: BTreeMap<(&str, i32), BTreeSet<i64>> = BTreeMap::new();
        for message in sessions.iter().flat_map(|session| &session.messages) {
            let partition = (message.topic.as_str(), message.partition);
            got.entry(partition).or_default().insert(message.offset);
        }
        let mut violations = Vec::new();
        for ((topic, partition), offsets) in &self.expected {
            let seen = got.get(&(topic.as_str(), *partition));
            let gone: Vec<i64> = offsets
                .keys()
                .filter(|offset| !seen.is_some_and(|seen| seen.contains(offset)))
                .copied()
                .collect();
            if !gone.is_empty() {
                violations.push(format!(
                    "missing: {topic}/{partition}: {} of {} records: {}",
                    gone.len(),
                    offsets.len(),
                    ranges::show(&gone)
                ));
            }
        }
        violations
    }

    fn in_session(&self, number: usize, session: &Session, violations: &mut Vec<String>) {
        let mut last: BTreeMap<(&str, i32), i64> = BTreeMap::new();
        let mut report = Report { session: number, violations, counts: BTreeMap::new() };
        for message in &session.messages {
            let partition = (message.topic.clone(), message.partition);
            let before = last.insert((&message.topic, message.partition), message.offset);
            if let Some(before) = before.filter(|before| message.offset <= *before) {
                report.add("order", message, &format!("came after {before}"));
            }
            if let Some(floor) = session.floor.get(&partition)
                && message.offset < *floor
            {
                report.add(
                    "floor",
                    message,
                    &format!("was committed: the session began at {floor}"),
                );
            }
            self.prev(message, before, &mut report);
            match self.expected.get(&partition).and_then(|offsets| offsets.get(&message.offset)) {
                None => report.add("foreign", message, "was never written, or not to be seen"),
                Some(Some((key, value))) => {
                    if let Some(what) = differs("key", key.as_deref(), message.key.as_deref()) {
                        report.add("payload", message, &what);
                    }
                    if let Some(what) = differs("value", value.as_deref(), message.value.as_deref())
                    {
                        report.add("payload", message, &what);
                    }
                }
                Some(None) => {}
            }
        }
        report.finish();
    }

    /// `prev` names the record before this one in the partition: the one that came before in this
    /// session, and in any case the one that was written before.
    fn prev(&self, message: &Received, before: Option<i64>, report: &mut Report<'_>) {
        let Some(prev) = message.prev else { return };
        if let Some(before) = before.filter(|before| *before != prev && *before < message.offset) {
            report.add("prev", message, &format!("names {prev}, but {before} came before it"));
        }
        let written = self
            .expected
            .get(&(message.topic.clone(), message.partition))
            .and_then(|offsets| offsets.range(..message.offset).next_back());
        if let Some((written, _)) = written.filter(|(written, _)| **written != prev) {
            report.add(
                "prev",
                message,
                &format!("names {prev}, but {written} was written before it"),
            );
        }
    }
}

/// Compares bytes and reports the first difference.
fn differs(what: &str, expected: Option<&[u8]>, found: Option<&[u8]>) -> Option<String> {
    match (expected, found) {
        (a, b) if a == b => None,
        (None, Some(found)) => Some(format!("{what} has {} bytes and should be null", found.len())),
        (Some(expected), None) => Some(format!("{what} is null, not {} bytes", expected.len())),
        (Some(a), Some(b)) => {
            let at = a.iter().zip(b).take_while(|(a, b)| a == b).count();
            Some(format!(
                "{what} differs at byte {at} ({} bytes written, {} got)",
                a.len(),
                b.len()
            ))
        }
        (None, None) => None,
    }
}

/// Collects violations of one session: the first five of each kind in full, the rest counted.
struct Report<'a> {
    session: usize,
    violations: &'a mut Vec<String>,
    counts: BTreeMap<&'static str, usize>,
}

impl Report<'_> {
    fn add(&mut self, kind: &'static str, message: &Received, what: &str) {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        if *count <= 5 {
            let Received { topic, partition, offset, .. } = message;
            self.violations.push(format!(
                "{kind}: session {}: {topic}/{partition}@{offset} {what}",
                self.session
            ));
        }
    }

    fn finish(self) {
        for (kind, count) in self.counts.iter().filter(|(_, count)| **count > 5) {
            self.violations.push(format!("{kind}: session {}: {count} in all", self.session));
        }
    }
}
