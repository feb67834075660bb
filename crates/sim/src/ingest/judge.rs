//! Says whether what senders were told is so: what was acknowledged is in the log of all replicas
//! where its answer says, byte for byte, once, and in the order of its sender; what was refused is
//! nowhere.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::log::Stored;
use crate::cluster::Partition;
use crate::violations::Violations;

/// A record as one message carries it. Another sending of the same is another one.
#[derive(Debug)]
struct Sent {
    key: Vec<u8>,
    value: Vec<u8>,
    /// The places that it was committed at: partition, offset, and the branch of the log.
    places: Vec<(Partition, i64, u32)>,
    /// True if its log has not lost it.
    is_there: bool,
    /// True if it was refused: then it is nowhere.
    is_refused: bool,
}

/// A message, with its records.
#[derive(Debug)]
pub struct Message {
    /// Its connection.
    pub connection: u64,
    /// Its topic as the log has it.
    pub topic: String,
    /// Numbers of its records.
    pub records: Vec<u64>,
}

/// The knowledge of a run.
#[derive(Debug, Default)]
pub struct AnswerJudge {
    sent: Vec<Sent>,
    /// Records that are in a log, by place.
    there: BTreeMap<Partition, BTreeMap<i64, u64>>,
    /// The places that were told, for each connection, partition and branch: by the number of the
    /// record, so in the order of sending.
    told: BTreeMap<(u64, Partition, u32), BTreeMap<u64, i64>>,
    violations: Violations,
}

impl AnswerJudge {
    /// Takes note of something that is not as promised.
    pub fn violation(&mut self, what: String) {
        self.violations.add(what);
    }

    /// Returns what is not as promised.
    pub fn violations(&self) -> &[String] {
        self.violations.all()
    }

    /// Gives a number to a record that is about to be sent, and its value.
    pub fn send(&mut self, key: &[u8], text: &str, size: usize) -> (u64, Vec<u8>) {
        let number = self.sent.len() as u64;
        let value = format!("{:<size$}", format!("{number} {text}")).into_bytes();
        self.sent.push(Sent {
            key: key.to_vec(),
            value: value.clone(),
            places: Vec::new(),
            is_there: false,
            is_refused: false,
        });
        (number, value)
    }

    /// A batch was committed: all replicas have it.
    pub fn committed(&mut self, partition: &Partition, branch: u32, batch: &Stored) {
        for (offset, entry) in (batch.base..).zip(&batch.entries) {
            let value = entry.value.as_deref().unwrap_or_default();
            let text = String::from_utf8_lossy(value);
            let number = text.split(' ').next().and_then(|number| number.parse::<u64>().ok());
            let sent = number.and_then(|number| self.sent.get_mut(number as usize));
            let at = format!("{}/{}@{offset}", partition.0, partition.1);
            let (Some(number), Some(sent)) = (number, sent) else {
                self.violation(format!("bytes: {at} has what nobody sent: {text:?}"));
                continue;
            };
            if *sent.value != *value || entry.key.as_ref() != Some(&sent.key) {
                self.violation(format!("bytes: {at} is not record {number} as it was sent"));
            } else if sent.is_there {
                let places = format!("{:?}", sent.places);
                self.violation(format!("doubled: record {number} is at {at} and at {places}"));
            } else if sent.is_refused {
                self.violation(format!("refused: record {number} was refused, and is at {at}"));
            } else {
                sent.is_there = true;
                sent.places.push((partition.clone(), offset, branch));
            }
            self.there.entry(partition.clone()).or_default().insert(offset, number);
        }
    }

    /// A log has lost all from an offset on.
    pub fn lost(&mut self, partition: &Partition, from: i64) {
        let Some(there) = self.there.get_mut(partition) else { return };
        for number in there.split_off(&from).into_values() {
            self.sent[number as usize].is_there = false;
        }
    }

    /// A message was acknowledged, without an answer.
    pub fn acknowledged(&mut self, message: &Message) {
        for number in &message.records {
            if self.sent[*number as usize].places.is_empty() {
                self.violation(format!("place: record {number} was acknowledged, and is nowhere"));
            }
        }
    }

    /// A message was answered.
    pub fn answered(&mut self, message: &Message, word: &[u8], json: &Value) {
        match word {
            b"OK" => self.written(message, json),
            b"ERROR" => {
                let code = json["code"].as_str().unwrap_or_default();
                if code != "timeout_unknown" {
                    self.refused(message, code);
                }
            }
            other => self.violation(format!("answer: the word {:?}", other.escape_ascii())),
        }
    }

    /// A message was refused: none of its records is anywhere.
    pub fn refused(&mut self, message: &Message, code: &str) {
        for number in &message.records {
            let sent = &mut self.sent[*number as usize];
            sent.is_refused = true;
            if let Some(place) = sent.places.last() {
                let what = format!("refused: record {number} ({code}) is at {place:?}");
                self.violation(what);
            }
        }
    }

    fn written(&mut self, message: &Message, json: &Value) {
        if json["topic"] != message.topic.as_str() {
            return self.violation(format!("answer: {json} to one for {}", message.topic));
        }
        self.acknowledged(message);
        let parts = match json["partitions"].as_array() {
            Some(parts) => parts.clone(),
            None => vec![json.clone()],
        };
        let mut open: BTreeSet<u64> = message.records.iter().copied().collect();
        for part in &parts {
            self.written_part(message, part, json.get("count").is_some(), &mut open);
        }
        if !open.is_empty() {
            self.violation(format!("place: {json} is of others than records {open:?}"));
        }
    }

    /// Takes the records of a message in one partition out of those that are open.
    fn written_part(
        &mut self,
        message: &Message,
        part: &Value,
        is_batch: bool,
        open: &mut BTreeSet<u64>,
    ) {
        let number = part["partition"].as_i64().and_then(|number| i32::try_from(number).ok());
        let Some(number) = number else {
            return self.violation(format!("answer: {part} tells no partition"));
        };
        let partition = (message.topic.clone(), number);
        // A log that has lost a record may have got it again, by a request that was late.
        let places_of = |record: &u64| {
            let places = self.sent[*record as usize].places.iter();
            let here = places.filter(|(of, ..)| *of == partition);
            here.map(|(_, offset, branch)| (*offset, *branch)).collect::<Vec<_>>()
        };
        let places: BTreeMap<u64, Vec<(i64, u32)>> = open
            .iter()
            .map(|record| (*record, places_of(record)))
            .filter(|(_, places)| !places.is_empty())
            .collect();
        open.retain(|record| !places.contains_key(record));
        let told = |name: &str| part[name].as_i64();
        let (first, last) = match is_batch {
            true => (told("first"), told("last")),
            false => (told("offset"), told("offset")),
        };
        let is_at = |wanted: i64| places.values().flatten().any(|(offset, _)| *offset == wanted);
        let (low, high) = (first.unwrap_or(i64::MIN), last.unwrap_or(i64::MAX));
        let is_between = |of: &Vec<(i64, u32)>| of.iter().any(|(at, _)| (low..=high).contains(at));
        let is_counted = part["count"].as_u64().is_none_or(|count| count == places.len() as u64);
        if !is_counted
            || !places.values().all(is_between)
            || first.is_some_and(|first| !is_at(first))
            || last.is_some_and(|last| !is_at(last))
        {
            let what = format!("place: records {:?} are at {places:?}: {part}", message.records);
            return self.violation(what);
        }
        for (record, places) in places {
            if let [(offset, branch)] = places[..] {
                let key = (message.connection, partition.clone(), branch);
                self.told.entry(key).or_default().insert(record, offset);
            }
        }
    }

    /// The end: the order of what was told.
    pub fn finish(&mut self) {
        let mut found = Vec::new();
        for ((connection, (topic, partition), branch), places) in &self.told {
            let pairs = places.iter().zip(places.iter().skip(1));
            for ((record, offset), (next, after)) in pairs {
                if after <= offset {
                    found.push(format!(
                        "order: connection {connection}: {topic}/{partition}, branch {branch}: \
                         record {record} is at {offset}, and {next}, sent later, at {after}"
                    ));
                }
            }
        }
        found.into_iter().for_each(|what| self.violation(what));
    }
}
