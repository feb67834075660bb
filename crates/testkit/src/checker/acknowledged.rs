//! Checks the answers to senders: what was acknowledged lies in the log at the place that its
//! answer named, byte for byte and in order, and what was reported as failed does not lie there.
//!
//! A message may be sent more than once, each time on a run: one connection of one sender. Values
//! tell messages apart, so each has its own.

use std::collections::{BTreeMap, HashMap};

use super::{Received, differs};

/// Kinds of violations that are told in full at the most.
const SHOWN: usize = 5;

/// The number of a message.
pub type Number = usize;

/// The place of a record as an answer tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The partition.
    pub partition: i32,
    /// The offset; `None` if the answer does not tell it.
    pub offset: Option<i64>,
}

/// The answer that a sender got for a message on one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Written(Place),
    Failed,
    Unknown,
}

/// Messages that were sent to one topic, and the answers to their senders.
#[derive(Debug, Clone, Default)]
pub struct Acknowledged {
    messages: Vec<(Option<Vec<u8>>, Vec<u8>)>,
    by_value: HashMap<Vec<u8>, Number>,
    /// The messages of each run in the order in which they were sent, and the answer to each.
    runs: BTreeMap<String, Vec<(Number, Told)>>,
}

impl Acknowledged {
    /// Takes note of a message with a new value; its number.
    pub fn message(&mut self, key: Option<&[u8]>, value: &[u8]) -> Number {
        let number = self.messages.len();
        self.messages.push((key.map(<[u8]>::to_vec), value.to_vec()));
        let before = self.by_value.insert(value.to_vec(), number);
        assert_eq!(before, None, "two messages with one value");
        number
    }

    /// A message was sent on a run.
    pub fn sent(&mut self, run: &str, number: Number) {
        self.runs.entry(run.to_owned()).or_default().push((number, Told::Nothing));
    }

    /// The run's sender was told where the message is.
    pub fn written(&mut self, run: &str, number: Number, place: Place) {
        self.told(run, number, Told::Written(place));
    }

    /// The run's sender was told that the message is not in the log.
    pub fn failed(&mut self, run: &str, number: Number) {
        self.told(run, number, Told::Failed);
    }

    /// The run's sender was told that it is not known.
    pub fn unknown(&mut self, run: &str, number: Number) {
        self.told(run, number, Told::Unknown);
    }

    fn told(&mut self, run: &str, number: Number, told: Told) {
        let mut sent = self.runs.get_mut(run).into_iter().flatten();
        // The first that has no answer yet: so a second answer to one message shows.
        let open = sent
            .find(|(of, before)| *of == number && *before == Told::Nothing)
            .unwrap_or_else(|| panic!("{run}: an answer to message {number}, which has none due"));
        open.1 = told;
    }

    /// Messages that were acknowledged.
    pub fn acknowledged(&self) -> usize {
        let all = self.runs.values().flatten();
        let mut numbers: Vec<_> =
            all.filter(|(_, told)| matches!(told, Told::Written(_))).map(|(of, _)| of).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.len()
    }

    /// Panics with every kind of violation that the log shows.
    pub fn assert(&self, log: &[Received]) {
        let violations = self.check(log);
        assert!(
            violations.is_empty(),
            "senders were not told the truth:\n{}",
            violations.join("\n")
        );
    }

    /// Panics also if a message that was sent is not in the log.
    pub fn assert_all(&self, log: &[Received]) {
        let mut violations = self.check(log);
        let found = self.found(log);
        let gone = (0..self.messages.len()).filter(|number| !found.contains_key(number));
        let gone: Vec<_> = gone.map(|number| i64::try_from(number).unwrap()).collect();
        if !gone.is_empty() {
            let ranges = super::ranges::show(&gone);
            violations.push(format!("missing: {} messages: {ranges}", gone.len()));
        }
        assert!(
            violations.is_empty(),
            "senders were not told the truth:\n{}",
            violations.join("\n")
        );
    }

    /// Every violation that the topic's whole log shows: place, bytes, shared, order, failed,
    /// doubled, foreign.
    pub fn check(&self, log: &[Received]) -> Vec<String> {
        let mut report = ViolationsByKind::default();
        let at: HashMap<(i32, i64), &Received> =
            log.iter().map(|record| ((record.partition, record.offset), record)).collect();
        let found = self.found(log);
        let mut claimed: HashMap<Place, Number> = HashMap::new();
        for (run, sent) in &self.runs {
            self.check_run(run, sent, &at, &mut claimed, &mut report);
        }
        self.check_log(log, &found, &mut report);
        report.lines()
    }

    /// The places of each message in the log.
    fn found<'a>(&self, log: &'a [Received]) -> HashMap<Number, Vec<&'a Received>> {
        let mut found: HashMap<Number, Vec<&Received>> = HashMap::new();
        for record in log {
            let value = record.value.as_deref().unwrap_or_default();
            if let Some(number) = self.by_value.get(value) {
                found.entry(*number).or_default().push(record);
            }
        }
        found
    }

    fn check_run(
        &self,
        run: &str,
        sent: &[(Number, Told)],
        at: &HashMap<(i32, i64), &Received>,
        claimed: &mut HashMap<Place, Number>,
        report: &mut ViolationsByKind,
    ) {
        let mut last: HashMap<i32, (i64, Number)> = HashMap::new();
        for (number, told) in sent {
            let Told::Written(place) = told else { continue };
            let Some(offset) = place.offset else { continue };
            let (key, value) = &self.messages[*number];
            let shown = format!("{run}: message {number} at {}@{offset}", place.partition);
            match at.get(&(place.partition, offset)) {
                None => report.add("place", format!("{shown}: nothing is there")),
                Some(record) => {
                    let value = differs("value", Some(value), record.value.as_deref());
                    let key = differs("key", key.as_deref(), record.key.as_deref());
                    for what in value.into_iter().chain(key) {
                        report.add("bytes", format!("{shown}: {what}"));
                    }
                }
            }
            if let Some(other) = claimed.insert(*place, *number).filter(|other| other != number) {
                report.add("shared", format!("{shown}: message {other} is told to be there too"));
            }
            let before = last.insert(place.partition, (offset, *number));
            if let Some((before, earlier)) = before.filter(|(before, _)| *before >= offset) {
                report.add(
                    "order",
                    format!("{shown}: message {earlier}, sent before, is at {before}"),
                );
            }
        }
    }

    fn check_log(
        &self,
        log: &[Received],
        found: &HashMap<Number, Vec<&Received>>,
        report: &mut ViolationsByKind,
    ) {
        let mut sent = vec![(0, 0); self.messages.len()];
        for (number, told) in self.runs.values().flatten() {
            sent[*number].0 += 1;
            sent[*number].1 += usize::from(*told == Told::Failed);
        }
        for (number, (times, failed)) in sent.iter().enumerate() {
            let there = found.get(&number).map_or(0, Vec::len);
            if there > *times {
                let what =
                    format!("message {number}: sent {times} times, {there} times in the log");
                report.add("doubled", what);
            } else if there > times - failed {
                let what = format!("message {number}: told as failed, and in the log");
                report.add("failed", what);
            }
        }
        for record in log {
            let value = record.value.as_deref().unwrap_or_default();
            if !self.by_value.contains_key(value) {
                let Received { partition, offset, .. } = record;
                report.add("foreign", format!("{partition}@{offset} was never sent"));
            }
        }
    }
}

/// Violations by kind: the first ones in full, the rest counted.
#[derive(Default)]
struct ViolationsByKind(BTreeMap<&'static str, (usize, Vec<String>)>);

impl ViolationsByKind {
    fn add(&mut self, kind: &'static str, what: String) {
        let (count, lines) = self.0.entry(kind).or_default();
        *count += 1;
        if *count <= SHOWN {
            lines.push(format!("{kind}: {what}"));
        }
    }

    fn lines(self) -> Vec<String> {
        let of_kind = |(kind, (count, mut lines)): (&str, (usize, Vec<String>))| {
            if count > SHOWN {
                lines.push(format!("{kind}: {count} in all"));
            }
            lines
        };
        self.0.into_iter().flat_map(of_kind).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "dealer";

    fn value(number: Number) -> Vec<u8> {
        format!("value {number}").into_bytes()
    }

    fn record(offset: i64, number: Number) -> Received {
        let (key, value) = (Some(b"k".to_vec()), Some(value(number)));
        Received { topic: "t".to_owned(), offset, key, value, ..Received::default() }
    }

    fn at(offset: i64) -> Place {
        Place { partition: 0, offset: Some(offset) }
    }

    /// Four messages, sent in their order on one run.
    fn four() -> Acknowledged {
        let mut all = Acknowledged::default();
        for number in 0..4 {
            let number = all.message(Some(b"k"), &value(number));
            all.sent(RUN, number);
        }
        all
    }

    #[test]
    fn a_faultless_relay_passes() {
        let mut all = four();
        all.written(RUN, 0, at(0));
        all.unknown(RUN, 1);
        all.failed(RUN, 2);
        // Sent again, as a sender does that was told nothing: both are there.
        all.sent("again", 2);
        all.written("again", 2, at(5));
        all.sent("again", 3);
        all.written("again", 3, at(6));
        let log = [record(0, 0), record(4, 3), record(5, 2), record(6, 3)];
        assert_eq!(all.check(&log), [""; 0]);
        assert_eq!(all.acknowledged(), 3);
        let mut whole = log.to_vec();
        whole.push(record(7, 1));
        all.assert_all(&whole);
    }

    #[test]
    fn every_violation_is_found() {
        type Tell = fn(&mut Acknowledged);
        let cases: [(&str, Tell, Vec<Received>, &str); 9] = [
            (
                "acknowledged before the cluster has it",
                |all| all.written(RUN, 0, at(0)),
                vec![],
                "place: dealer: message 0 at 0@0: nothing is there",
            ),
            (
                "another one's offset",
                |all| all.written(RUN, 0, at(1)),
                vec![record(0, 0), record(1, 1)],
                "bytes: dealer: message 0 at 0@1: value differs at byte 6",
            ),
            (
                "another partition",
                |all| all.written(RUN, 0, Place { partition: 1, offset: Some(0) }),
                vec![record(0, 0)],
                "at 1@0: nothing is there",
            ),
            (
                "another key",
                |all| all.written(RUN, 0, at(0)),
                vec![Received { key: None, ..record(0, 0) }],
                "key is null",
            ),
            (
                "one place for two",
                |all| {
                    all.written(RUN, 0, at(0));
                    all.written(RUN, 1, at(0));
                },
                vec![record(0, 0), record(1, 1)],
                "shared: dealer: message 1 at 0@0: message 0 is told to be there too",
            ),
            (
                "out of order",
                |all| {
                    all.written(RUN, 0, at(1));
                    all.written(RUN, 1, at(0));
                },
                vec![record(0, 1), record(1, 0)],
                "order: dealer: message 1 at 0@0: message 0, sent before, is at 1",
            ),
            (
                "told as failed",
                |all| all.failed(RUN, 0),
                vec![record(0, 0)],
                "failed: message 0: told as failed, and in the log",
            ),
            (
                "doubled",
                |all| all.written(RUN, 0, at(0)),
                vec![record(0, 0), record(1, 0)],
                "doubled: message 0: sent 1 times, 2 times in the log",
            ),
            ("foreign", |_| {}, vec![record(3, 9)], "foreign: 0@3 was never sent"),
        ];
        for (name, tell, log, expected) in cases {
            let mut all = four();
            tell(&mut all);
            let found = all.check(&log).join("\n");
            assert!(found.contains(expected), "{name}: {expected:?} is not in:\n{found}");
        }
    }

    #[test]
    #[should_panic(expected = "missing: 3 messages: 0-2")]
    fn what_should_all_be_there_is_missed() {
        four().assert_all(&[record(0, 3)]);
    }

    #[test]
    #[should_panic(expected = "which has none due")]
    fn a_second_answer_is_none() {
        let mut all = four();
        all.written(RUN, 0, at(0));
        all.written(RUN, 0, at(0));
    }

    #[test]
    fn a_flood_is_summed_up() {
        let log: Vec<_> = (0..100).map(|offset| record(offset, 9)).collect();
        let found = four().check(&log);
        assert_eq!(found.last().unwrap(), "foreign: 100 in all");
        assert_eq!(found.len(), SHOWN + 1);
    }
}
