//! Where a partition begins: at the group's committed offset, or else where the configuration says. A start that was
//! resolved is committed before the first record, so that a crash cannot turn "latest" into a skip.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::config::Start;
use crate::native::Client;
use crate::status::Monitor;

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before a failed request is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Whether the group keeps positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commits {
    ToGroup,
    Never,
}

/// Where one partition begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) committed: Option<i64>,
}

/// A partition to be taken up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// Where it begins without a committed offset.
    pub(crate) start: Start,
}

/// Resolves where partitions begin, trying for as long as `cancelled` is not set; `None` once it is.
pub(crate) fn resolve(
    client: &Client,
    monitor: &Monitor,
    wanted: &[Wanted],
    commits: Commits,
    cancelled: &AtomicBool,
) -> Option<Vec<Position>> {
    loop {
        if cancelled.load(Ordering::Acquire) {
            return None;
        }
        match try_resolve(client, wanted, commits) {
            Ok(positions) => return Some(positions),
            Err(error) => monitor.error(&format!("cannot find out where partitions begin: {error}")),
        }
        thread::sleep(RETRY_PAUSE);
    }
}

fn try_resolve(client: &Client, wanted: &[Wanted], commits: Commits) -> Result<Vec<Position>, KafkaError> {
    let mut positions = Vec::with_capacity(wanted.len());
    let mut missing = Vec::new();
    if commits == Commits::ToGroup {
        let mut list = TopicPartitionList::with_capacity(wanted.len());
        for w in wanted {
            list.add_partition(&w.topic, w.partition);
        }
        let list = client.committed_offsets(list, REQUEST_TIMEOUT)?;
        for w in wanted {
            let found = list.find_partition(&w.topic, w.partition);
            if let Some(element) = &found {
                element.error()?;
            }
            match found.map(|element| element.offset()) {
                Some(Offset::Offset(offset)) => positions.push(Position {
                    topic: w.topic.clone(),
                    partition: w.partition,
                    offset,
                    committed: Some(offset),
                }),
                _ => missing.push(w.clone()),
            }
        }
    } else {
        missing = wanted.to_vec();
    }
    if missing.is_empty() {
        return Ok(positions);
    }
    let mut resolved = look_up(client, &missing)?;
    if commits == Commits::ToGroup {
        let mut list = TopicPartitionList::with_capacity(resolved.len());
        for position in &resolved {
            list.add_partition_offset(&position.topic, position.partition, Offset::Offset(position.offset))?;
        }
        client.commit(&list, CommitMode::Sync)?;
        for position in &mut resolved {
            position.committed = Some(position.offset);
        }
    }
    positions.append(&mut resolved);
    Ok(positions)
}

/// Asks the leaders for the offsets that `start` means (ListOffsets).
pub(crate) fn look_up(client: &Client, wanted: &[Wanted]) -> Result<Vec<Position>, KafkaError> {
    let ask = |wanted: &[Wanted], offset: &dyn Fn(&Wanted) -> Offset| {
        let mut list = TopicPartitionList::with_capacity(wanted.len());
        for w in wanted {
            list.add_partition_offset(&w.topic, w.partition, offset(w))?;
        }
        client.offsets_for_times(list, REQUEST_TIMEOUT)
    };
    // The protocol's own numbers: -2 is the earliest offset, -1 the end, anything else a time.
    let answer = ask(wanted, &|w| match w.start {
        Start::Earliest => Offset::Beginning,
        Start::Latest => Offset::End,
        Start::Time(ms) => Offset::Offset(ms),
    })?;
    let mut positions = Vec::with_capacity(wanted.len());
    let mut at_end = Vec::new();
    for w in wanted {
        let element = answer.find_partition(&w.topic, w.partition);
        if let Some(element) = &element {
            element.error()?;
        }
        match element.map(|element| element.offset()) {
            Some(Offset::Offset(offset)) if offset >= 0 => positions.push(Position {
                topic: w.topic.clone(),
                partition: w.partition,
                offset,
                committed: None,
            }),
            // No record is as young as that time: the end.
            _ => at_end.push(Wanted { start: Start::Latest, ..w.clone() }),
        }
    }
    if at_end.is_empty() {
        return Ok(positions);
    }
    let answer = ask(&at_end, &|_| Offset::End)?;
    for w in &at_end {
        let element = answer.find_partition(&w.topic, w.partition);
        if let Some(element) = &element {
            element.error()?;
        }
        match element.map(|element| element.offset()) {
            Some(Offset::Offset(offset)) if offset >= 0 => positions.push(Position {
                topic: w.topic.clone(),
                partition: w.partition,
                offset,
                committed: None,
            }),
            other => {
                return Err(KafkaError::OffsetFetch(
                    other.map_or(rdkafka::error::RDKafkaErrorCode::UnknownPartition, |_| {
                        rdkafka::error::RDKafkaErrorCode::OffsetNotAvailable
                    }),
                ));
            }
        }
    }
    Ok(positions)
}

/// The partitions that were there when the route began. One that appears later begins at its earliest offset.
#[derive(Debug, Default)]
pub(crate) struct Known(Option<HashSet<(String, i32)>>);

impl Known {
    /// Takes note of what is there; only the first call counts.
    pub(crate) fn begin(&mut self, partitions: impl IntoIterator<Item = (String, i32)>) {
        self.0.get_or_insert_with(|| partitions.into_iter().collect());
    }

    pub(crate) fn start(&self, topic: &str, partition: i32, configured: Start) -> Start {
        match &self.0 {
            Some(known) if !known.contains(&(topic.to_owned(), partition)) => Start::Earliest,
            _ => configured,
        }
    }
}
