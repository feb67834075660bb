//! Three brokers and the log of one partition, as far as an idempotent producer sees them.

use kafka_protocol::ResponseError as Code;

use super::{Answer, Leader, ProducerId, Random};
use crate::produce::Ticket;
use crate::produce::partition::rebuild::each_record;

/// Batches of a producer whose repeats a broker recognizes.
const REMEMBERED: usize = 5;

/// The header of a sealed batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) producer: ProducerId,
    pub(super) sequence: i32,
    count: i32,
}

pub(super) fn header(bytes: &[u8]) -> Header {
    let at = |at: usize, size: usize| &bytes[at..at + size];
    let i32_at = |place| i32::from_be_bytes(at(place, 4).try_into().unwrap());
    Header {
        producer: ProducerId {
            id: i64::from_be_bytes(at(43, 8).try_into().unwrap()),
            epoch: i16::from_be_bytes(at(51, 2).try_into().unwrap()),
        },
        sequence: i32_at(53),
        count: i32_at(57),
    }
}

#[derive(Clone, Debug)]
struct Batch {
    header: Header,
    offset: i64,
    tickets: Vec<Ticket>,
}

impl Batch {
    fn last(&self) -> i32 {
        self.header.sequence + self.header.count - 1
    }

    fn end(&self) -> i64 {
        self.offset + i64::from(self.header.count)
    }
}

#[derive(Clone, Debug, Default)]
struct Replica {
    log: Vec<Batch>,
    /// The batch before which only the last one of each producer is remembered.
    restarted_at: usize,
}

pub(super) struct Cluster {
    replicas: Vec<Replica>,
    leader: Option<usize>,
    epoch: i32,
    /// Batches that all replicas have.
    committed: usize,
    start: i64,
    few_replicas: bool,
    slow_replicas: bool,
    limit: usize,
    healed: bool,
}

impl Cluster {
    pub(super) fn new() -> Self {
        Self {
            replicas: vec![Replica::default(); 3],
            leader: Some(0),
            epoch: 1,
            committed: 0,
            start: 0,
            few_replicas: false,
            slow_replicas: false,
            limit: usize::MAX,
            healed: false,
        }
    }

    pub(super) fn leader(&self) -> Option<Leader> {
        self.leader.map(|broker| Leader { broker: broker as i32, epoch: self.epoch })
    }

    /// The tickets of the log, by offset.
    pub(super) fn tickets(&self) -> impl Iterator<Item = (i64, Ticket)> {
        let log = &self.replicas[self.leader.unwrap_or(0)].log;
        log.iter().flat_map(|batch| (batch.offset..).zip(batch.tickets.iter().copied()))
    }

    /// Lets all replicas catch up with the leader.
    pub(super) fn replicate(&mut self) {
        let Some(leader) = self.leader else { return };
        let log = self.replicas[leader].log.clone();
        self.committed = log.len();
        for replica in &mut self.replicas {
            replica.log.clone_from(&log);
            replica.restarted_at = replica.restarted_at.min(log.len());
        }
    }

    /// Changes the leader to one that may have any part of what was not replicated, or to none.
    pub(super) fn change_leader(&mut self, random: &mut Random) {
        let before = self.leader.unwrap_or(0);
        let log = self.replicas[before].log.clone();
        let has = self.committed + random.below(log.len() - self.committed + 1);
        for replica in &mut self.replicas {
            replica.log = log[..has].to_vec();
            replica.restarted_at = replica.restarted_at.min(has);
        }
        self.epoch += 1;
        self.leader = (!random.one_in(4)).then(|| random.below(3));
        self.committed = has;
    }

    /// Restarts a broker, which forgets all but the last batch of each producer.
    pub(super) fn restart(&mut self, random: &mut Random) {
        let replica = &mut self.replicas[random.below(3)];
        replica.restarted_at = replica.log.len();
    }

    pub(super) fn change_limits(&mut self, random: &mut Random) {
        self.few_replicas = random.one_in(3);
        self.slow_replicas = random.one_in(3);
        self.limit = if random.one_in(3) { 90 + random.below(200) } else { usize::MAX };
    }

    /// Deletes all records: the log begins behind them, and forgets its producers.
    pub(super) fn delete_records(&mut self) {
        self.replicate();
        let Some(leader) = self.leader else { return };
        self.start = self.replicas[leader].log.last().map_or(0, Batch::end);
    }

    pub(super) fn heal(&mut self) {
        self.leader = Some(self.leader.unwrap_or(0));
        self.epoch += 1;
        self.few_replicas = false;
        self.slow_replicas = false;
        self.limit = usize::MAX;
        self.healed = true;
    }

    pub(super) fn produce(&mut self, broker: i32, bytes: &[u8], random: &mut Random) -> Answer {
        let log_start = self.start;
        let answer = |error, base_offset| Answer {
            error,
            message: None,
            base_offset,
            log_append_time: -1,
            log_start,
        };
        if self.leader != Some(broker as usize) {
            return answer(Some(Code::NotLeaderOrFollower), -1);
        }
        if !self.healed && random.one_in(40) {
            let any = [Code::UnknownServerError, Code::KafkaStorageError, Code::InvalidRecord];
            return answer(Some(any[random.below(3)]), -1);
        }
        if bytes.len() > self.limit {
            return answer(Some(Code::MessageTooLarge), -1);
        }
        if self.few_replicas {
            return answer(Some(Code::NotEnoughReplicas), -1);
        }
        let header = header(bytes);
        let appended = match self.known(broker as usize, &header) {
            // As brokers of earlier versions report it.
            Ok(Some(_)) if !self.slow_replicas && random.one_in(4) => {
                self.replicate();
                return answer(Some(Code::DuplicateSequenceNumber), -1);
            }
            Ok(Some(offset)) => Ok(offset),
            Ok(None) => Ok(self.append(broker as usize, header, bytes)),
            Err(code) => Err(code),
        };
        match appended {
            Err(code) => answer(Some(code), -1),
            Ok(offset) => {
                if self.slow_replicas && !self.healed {
                    let codes = [
                        Code::RequestTimedOut,
                        Code::NotEnoughReplicasAfterAppend,
                        Code::UnknownServerError,
                    ];
                    return answer(Some(codes[random.below(3)]), -1);
                }
                self.replicate();
                answer(None, offset)
            }
        }
    }

    /// Decides, as a leader does, if a batch may be appended, or is there already.
    fn known(&self, broker: usize, header: &Header) -> Result<Option<i64>, Code> {
        let replica = &self.replicas[broker];
        let of_producer = |batch: &&Batch| {
            batch.header.producer.id == header.producer.id && batch.offset >= self.start
        };
        let mut of_producer: Vec<&Batch> = replica.log.iter().filter(of_producer).collect();
        let Some(last) = of_producer.last().copied() else { return Ok(None) };
        if header.producer.epoch < last.header.producer.epoch {
            return Err(Code::InvalidProducerEpoch);
        }
        if header.producer.epoch > last.header.producer.epoch {
            return match header.sequence {
                0 => Ok(None),
                _ => Err(Code::OutOfOrderSequenceNumber),
            };
        }
        let end_at_restart = replica.log.get(..replica.restarted_at).and_then(<[_]>::last);
        let end_at_restart = end_at_restart.map_or(0, Batch::end);
        let is_remembered =
            |batch: &&Batch| batch.offset >= end_at_restart || std::ptr::eq(*batch, last);
        of_producer.retain(is_remembered);
        let same = |batch: &&&Batch| batch.header == *header;
        if let Some(batch) = of_producer.iter().rev().take(REMEMBERED).find(same) {
            return Ok(Some(batch.offset));
        }
        match header.sequence == last.last() + 1 {
            true => Ok(None),
            false => Err(Code::OutOfOrderSequenceNumber),
        }
    }

    fn append(&mut self, broker: usize, header: Header, bytes: &[u8]) -> i64 {
        let mut tickets = Vec::new();
        each_record(bytes.to_vec().into(), |record| {
            tickets.push(Ticket::from_be_bytes(record.value.unwrap().try_into().unwrap()));
        });
        assert_eq!(tickets.len(), header.count as usize, "a batch that cannot be read");
        let log = &mut self.replicas[broker].log;
        let offset = log.last().map_or(0, Batch::end);
        log.push(Batch { header, offset, tickets });
        offset
    }

    pub(super) fn start(&self) -> i64 {
        self.start
    }
}
