//! Brokers that answer fetch requests from the model logs, with fetch sessions (KIP-227), leader
//! epochs (KIP-320), diverging epochs (KIP-595) and topic ids (KIP-516).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData,
};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, ProducerId, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::log::Log;

/// A topic and a partition.
pub type Partition = (String, i32);

/// The version from which on requests name topics by their ids.
const BY_ID: i16 = 13;

/// All brokers, and the logs that they share.
#[derive(Debug, Default)]
pub struct Cluster {
    /// The logs, by topic and partition.
    pub logs: BTreeMap<Partition, Log>,
    /// Partitions of which no request gets anything, for no reason that anybody tells.
    pub muted: BTreeSet<Partition>,
    sessions: BTreeMap<i32, Session>,
    last_session: i32,
}

#[derive(Debug, Default)]
struct Session {
    broker: i32,
    /// The number that the next request has to have.
    epoch: i32,
    partitions: BTreeMap<Partition, Fetching>,
}

/// A partition as a fetch session has it.
#[derive(Clone, Debug)]
struct Fetching {
    topic_id: Uuid,
    offset: i64,
    last_epoch: i32,
    leader_epoch: i32,
    max_bytes: i32,
    /// The ends that were told last: high watermark, last stable offset and log start.
    told: Option<(i64, i64, i64)>,
}

/// A request that a broker works on.
#[derive(Clone, Debug)]
pub struct Asked {
    broker: i32,
    version: i16,
    max_bytes: i32,
    session: i32,
    refused: Option<Code>,
    /// True if every partition is answered for, also those without records.
    is_full: bool,
}

impl Cluster {
    /// Takes a request.
    pub fn ask(&mut self, broker: i32, request: &FetchRequest, version: i16) -> Asked {
        let mut asked = Asked {
            broker,
            version,
            max_bytes: request.max_bytes,
            session: request.session_id,
            refused: None,
            is_full: request.session_epoch == 0,
        };
        if request.session_epoch == 0 {
            self.sessions.remove(&request.session_id);
            self.last_session += 1;
            asked.session = self.last_session;
            self.sessions.insert(asked.session, Session { broker, epoch: 1, ..Session::default() });
        } else {
            match self.sessions.get_mut(&request.session_id) {
                Some(session) if session.broker != broker => {
                    asked.refused = Some(Code::FetchSessionIdNotFound);
                }
                Some(session) if session.epoch == request.session_epoch => session.epoch += 1,
                Some(_) => asked.refused = Some(Code::InvalidFetchSessionEpoch),
                None => asked.refused = Some(Code::FetchSessionIdNotFound),
            }
        }
        if asked.refused.is_some() {
            return asked;
        }
        let names: Vec<(String, Uuid)> =
            self.logs.iter().map(|((topic, _), log)| (topic.clone(), log.topic_id)).collect();
        let Some(session) = self.sessions.get_mut(&asked.session) else { return asked };
        for topic in &request.forgotten_topics_data {
            session.partitions.retain(|(name, partition), fetching| {
                let is_topic = if version >= BY_ID {
                    fetching.topic_id == topic.topic_id
                } else {
                    *name == *topic.topic.0
                };
                !(is_topic && topic.partitions.contains(partition))
            });
        }
        for topic in &request.topics {
            let name = if version >= BY_ID {
                let of_id = names.iter().find(|(_, id)| *id == topic.topic_id);
                // One that is not known has its id for a name.
                of_id.map_or_else(|| topic.topic_id.to_string(), |(name, _)| name.clone())
            } else {
                topic.topic.0.to_string()
            };
            for partition in &topic.partitions {
                let key = (name.clone(), partition.partition);
                let told = session.partitions.get(&key).and_then(|known| known.told);
                let fetching = Fetching {
                    topic_id: topic.topic_id,
                    offset: partition.fetch_offset,
                    last_epoch: partition.last_fetched_epoch,
                    leader_epoch: partition.current_leader_epoch,
                    max_bytes: partition.partition_max_bytes,
                    told,
                };
                session.partitions.insert(key, fetching);
            }
        }
        asked
    }

    /// Answers a request; `None` if there is nothing to be told yet, and the broker waits.
    pub fn answer(&mut self, asked: &Asked, is_late: bool) -> Option<FetchResponse> {
        if let Some(code) = asked.refused {
            return Some(FetchResponse::default().with_error_code(code.code()));
        }
        let Some(session) = self.sessions.get_mut(&asked.session) else {
            let code = Code::FetchSessionIdNotFound.code();
            return Some(FetchResponse::default().with_error_code(code));
        };
        let mut left = asked.max_bytes.max(1) as usize;
        let mut topics: BTreeMap<Partition, PartitionData> = BTreeMap::new();
        let mut is_worth = asked.is_full || is_late;
        for (key, fetching) in &mut session.partitions {
            let log = self.logs.get(key);
            let id_matters = asked.version >= BY_ID;
            let mut data = answer_for(log, fetching, asked.broker, id_matters, left);
            if self.muted.contains(key) && data.error_code == 0 {
                data.records = None;
            }
            let ends = (data.high_watermark, data.last_stable_offset, data.log_start_offset);
            let bytes = data.records.as_ref().map_or(0, Bytes::len);
            left = left.saturating_sub(bytes);
            let is_news = bytes > 0 || data.error_code != 0 || data.diverging_epoch.end_offset >= 0;
            is_worth |= is_news;
            if asked.is_full || is_news || fetching.told != Some(ends) {
                topics.insert(key.clone(), data.with_partition_index(key.1));
            }
        }
        if !is_worth {
            return None;
        }
        let mut responses = Vec::new();
        for (key, data) in topics {
            let Some(fetching) = session.partitions.get_mut(&key) else { continue };
            fetching.told =
                Some((data.high_watermark, data.last_stable_offset, data.log_start_offset));
            let response = FetchableTopicResponse::default().with_partitions(vec![data]);
            responses.push(if asked.version >= BY_ID {
                response.with_topic_id(fetching.topic_id)
            } else {
                response.with_topic(TopicName(StrBytes::from_string(key.0.clone())))
            });
        }
        Some(FetchResponse::default().with_session_id(asked.session).with_responses(responses))
    }

    /// The broker forgets a session, as one does whose cache is full.
    pub fn evict_session(&mut self) {
        self.sessions.pop_first();
    }
}

fn answer_for(
    log: Option<&Log>,
    fetching: &Fetching,
    broker: i32,
    id_matters: bool,
    max_bytes: usize,
) -> PartitionData {
    let failed = |code: Code| {
        PartitionData::default()
            .with_error_code(code.code())
            .with_high_watermark(-1)
            .with_last_stable_offset(-1)
            .with_log_start_offset(-1)
    };
    let Some(log) = log.filter(|log| !id_matters || log.topic_id == fetching.topic_id) else {
        return failed(if id_matters {
            Code::UnknownTopicId
        } else {
            Code::UnknownTopicOrPartition
        });
    };
    let leader = LeaderIdAndEpoch::default()
        .with_leader_id(BrokerId(log.leader))
        .with_leader_epoch(log.epoch);
    if log.leader != broker {
        return failed(Code::NotLeaderOrFollower).with_current_leader(leader);
    }
    if fetching.leader_epoch >= 0 && fetching.leader_epoch < log.epoch {
        return failed(Code::FencedLeaderEpoch);
    }
    if fetching.leader_epoch > log.epoch {
        return failed(Code::UnknownLeaderEpoch);
    }
    let ends = PartitionData::default()
        .with_high_watermark(log.end)
        .with_last_stable_offset(log.last_stable())
        .with_log_start_offset(log.start);
    if fetching.last_epoch >= 0 {
        match log.end_of_epoch(fetching.last_epoch) {
            Some((epoch, end)) if epoch < fetching.last_epoch || end < fetching.offset => {
                let parted = EpochEndOffset::default().with_epoch(epoch).with_end_offset(end);
                return ends.with_diverging_epoch(parted);
            }
            Some(_) => {}
            None => return failed(Code::OffsetOutOfRange),
        }
    }
    if fetching.offset < log.start || fetching.offset > log.end {
        return failed(Code::OffsetOutOfRange);
    }
    let records = log.read(fetching.offset, max_bytes.min(fetching.max_bytes.max(1) as usize));
    let aborted = log.aborted_from(fetching.offset).map(|aborted| {
        AbortedTransaction::default()
            .with_producer_id(ProducerId(aborted.producer))
            .with_first_offset(aborted.first)
    });
    let aborted = aborted.collect();
    ends.with_records(Some(records.into())).with_aborted_transactions(Some(aborted))
}
