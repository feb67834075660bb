//! The model of a partition that is written to: replicas, and what a leader knows of producers
//! (KIP-98, KIP-360).

use kafka_protocol::ResponseError as Code;

use super::batch::{Header, LogRecord};
use crate::random::Random;

/// Batches of a producer whose repeats a broker tells.
const REMEMBERED: usize = 5;

/// A batch in a log.
#[derive(Clone, Debug)]
pub struct Stored {
    header: Header,
    /// The offset of its first record.
    pub base: i64,
    /// Its records.
    pub entries: Vec<LogRecord>,
}

impl Stored {
    fn end(&self) -> i64 {
        self.base + i64::from(self.header.count)
    }

    fn last_sequence(&self) -> i32 {
        self.header.sequence + self.header.count - 1
    }
}

#[derive(Clone, Debug, Default)]
struct Replica {
    log: Vec<Stored>,
    /// The place before which only the last batch of a producer is remembered.
    restarted_at: usize,
}

/// A partition.
#[derive(Debug)]
pub struct ReplicaLog {
    replicas: Vec<Replica>,
    /// The broker that leads it, if one does.
    pub leader: Option<i32>,
    /// The leader's epoch.
    pub epoch: i32,
    /// Batches that all replicas have.
    committed: usize,
    /// The first offset that it has.
    pub start: i64,
    /// The number of times that it lost what was committed.
    pub branch: u32,
    /// There are fewer replicas in sync than it takes.
    pub few_replicas: bool,
    /// Replicas do not follow in time.
    pub slow_replicas: bool,
    /// The largest batch that it takes, in bytes.
    pub limit: usize,
    /// Batches that were committed since somebody looked.
    news: Vec<Stored>,
}

/// The outcome of a request for a partition.
#[derive(Clone, Copy, Debug)]
pub struct Produced {
    /// The error, if there is one.
    pub error: Option<Code>,
    /// The offset of the first record; -1 if it is not told.
    pub base: i64,
}

impl Produced {
    fn failed(code: Code) -> Self {
        Self { error: Some(code), base: -1 }
    }
}

impl ReplicaLog {
    /// An empty one.
    pub fn new(brokers: i32, leader: i32) -> Self {
        Self {
            replicas: vec![Replica::default(); brokers as usize],
            leader: Some(leader),
            epoch: 0,
            committed: 0,
            start: 0,
            branch: 0,
            few_replicas: false,
            slow_replicas: false,
            limit: usize::MAX,
            news: Vec::new(),
        }
    }

    /// Returns batches that were committed since the last time.
    pub fn take_news(&mut self) -> Vec<Stored> {
        std::mem::take(&mut self.news)
    }

    /// Returns the end of what is committed.
    pub fn end(&self) -> i64 {
        let log = self.replicas.first().map_or(&[][..], |replica| &replica.log);
        log.get(..self.committed).and_then(<[_]>::last).map_or(self.start, Stored::end)
    }

    /// All replicas catch up with the leader.
    pub fn replicate(&mut self) {
        let Some(leader) = self.leader else { return };
        let log = self.replicas[leader as usize].log.clone();
        self.news.extend(log[self.committed..].iter().cloned());
        self.committed = log.len();
        for replica in &mut self.replicas {
            replica.log.clone_from(&log);
            replica.restarted_at = replica.restarted_at.min(log.len());
        }
    }

    /// Another leader, which may have any part of what was not replicated; or none.
    pub fn elect(&mut self, leader: Option<i32>, random: &mut Random) {
        let of = self.leader.unwrap_or(0) as usize;
        let more = (self.replicas[of].log.len() - self.committed) as u64;
        let has = self.committed + random.below(more + 1) as usize;
        self.cut(has);
        self.news.extend(self.replicas[0].log[self.committed..].iter().cloned());
        self.committed = has;
        self.epoch += 1;
        self.leader = leader;
    }

    /// A replica leads that lacks some of what was committed. Returns the first offset that it does
    /// not have, if it lacks any.
    pub fn lose(&mut self, leader: i32, random: &mut Random) -> Option<i64> {
        let end = self.end();
        let has = self.committed - random.below(self.committed.min(4) as u64 + 1) as usize;
        self.cut(has);
        self.committed = has;
        self.epoch += 1;
        self.leader = Some(leader);
        let cut = self.replicas[0].log.last().map_or(0, Stored::end);
        self.start = self.start.min(cut);
        if cut >= end {
            return None;
        }
        self.branch += 1;
        Some(cut)
    }

    /// Every replica has so many batches of the leader's.
    fn cut(&mut self, has: usize) {
        let of = self.leader.unwrap_or(0) as usize;
        let log = self.replicas[of].log[..has].to_vec();
        for replica in &mut self.replicas {
            replica.log.clone_from(&log);
            replica.restarted_at = replica.restarted_at.min(has);
        }
    }

    /// The topic is created again.
    pub fn recreate(&mut self, leader: i32) {
        let branch = self.branch + 1;
        *self = Self { branch, ..Self::new(self.replicas.len() as i32, leader) };
    }

    /// Retention takes what is before an offset that is committed. Producers are still known.
    pub fn expire(&mut self, random: &mut Random) {
        self.start += random.below((self.end() - self.start) as u64 + 1) as i64;
    }

    /// A broker forgets all but the last batch of each producer.
    pub fn restart(&mut self, broker: i32) {
        let replica = &mut self.replicas[broker as usize];
        replica.restarted_at = replica.log.len();
    }

    /// A broker works on a batch of so many bytes.
    pub fn produce(
        &mut self,
        broker: i32,
        (header, entries): (Header, Vec<LogRecord>),
        size: usize,
        random: &mut Random,
    ) -> Produced {
        if self.leader != Some(broker) {
            return Produced::failed(Code::NotLeaderOrFollower);
        }
        if size > self.limit {
            return Produced::failed(Code::MessageTooLarge);
        }
        if self.few_replicas {
            return Produced::failed(Code::NotEnoughReplicas);
        }
        let (base, is_repeat) = match self.known(broker, &header) {
            Ok(Some(base)) => (base, true),
            Ok(None) => (self.append(broker, header, entries), false),
            Err(code) => return Produced::failed(code),
        };
        if self.slow_replicas {
            let codes = [
                Code::RequestTimedOut,
                Code::NotEnoughReplicasAfterAppend,
                Code::UnknownServerError,
            ];
            return Produced::failed(*random.pick(&codes));
        }
        self.replicate();
        if is_repeat && random.percent(25) {
            // As brokers of earlier versions tell it.
            return Produced::failed(Code::DuplicateSequenceNumber);
        }
        Produced { error: None, base }
    }

    /// Decides, as a leader does, if a batch may be appended, or is there already.
    fn known(&self, broker: i32, header: &Header) -> Result<Option<i64>, Code> {
        let replica = &self.replicas[broker as usize];
        let of_producer = |(_, batch): &(usize, &Stored)| batch.header.producer == header.producer;
        let of_producer: Vec<(usize, &Stored)> =
            replica.log.iter().enumerate().filter(of_producer).collect();
        let Some((last_at, last)) = of_producer.last().copied() else { return Ok(None) };
        if header.epoch < last.header.epoch {
            return Err(Code::InvalidProducerEpoch);
        }
        if header.epoch > last.header.epoch {
            return match header.sequence {
                0 => Ok(None),
                _ => Err(Code::OutOfOrderSequenceNumber),
            };
        }
        let is_remembered =
            |(at, _): &&(usize, &Stored)| *at >= replica.restarted_at || *at == last_at;
        let remembered = of_producer.iter().filter(is_remembered).rev().take(REMEMBERED);
        if let Some((_, batch)) = remembered.into_iter().find(|(_, batch)| batch.header == *header)
        {
            return Ok(Some(batch.base));
        }
        match header.sequence == last.last_sequence() + 1 {
            true => Ok(None),
            false => Err(Code::OutOfOrderSequenceNumber),
        }
    }

    fn append(&mut self, broker: i32, header: Header, entries: Vec<LogRecord>) -> i64 {
        let start = self.start;
        let log = &mut self.replicas[broker as usize].log;
        let base = log.last().map_or(start, Stored::end).max(start);
        log.push(Stored { header, base, entries });
        base
    }
}
