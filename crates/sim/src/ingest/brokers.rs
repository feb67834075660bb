//! Brokers, and the connections of a producer to them: requests are worked on one after the other,
//! answers come in their order or never.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::Decodable;
use uuid::Uuid;
use zafka_kafka::sim::{BrokerOrder, IdRequest, SimRequest};

use super::log::{Produced, ReplicaLog};
use super::{IngestEvent, Ingesting, batch};

/// A task of the producer: its relay's life, its broker, and its number.
pub type Task = (u64, i32, u64);

/// A topic.
#[derive(Debug)]
pub struct Topic {
    /// Its id; another one after it was deleted and created again.
    pub id: Uuid,
    /// Its partitions.
    pub partitions: Vec<ReplicaLog>,
    /// True while it is deleted.
    pub is_absent: bool,
}

/// A request on a connection.
#[derive(Debug)]
enum Exchange {
    Produce { request: SimRequest, version: i16, body: Bytes },
    Id(IdRequest),
}

/// An answer on its way.
#[derive(Debug)]
pub(super) enum Answer {
    /// The answer to a Produce request of a version.
    Produce(ProduceResponse, i16),
    /// A producer id.
    Id(Result<(i64, i16), Option<Code>>),
}

/// The connection of a task.
#[derive(Debug, Default)]
pub struct Link {
    /// Counts connections: what comes of an earlier one is nothing.
    number: u64,
    /// Those that the broker has not worked on.
    requests: VecDeque<Exchange>,
    /// Those that it has, and whose answers have not come.
    waited: VecDeque<Exchange>,
    /// The time of the last answer: none overtakes another.
    last: Duration,
    is_working: bool,
    is_connected: bool,
    /// The address at which the task looks for its broker.
    address: String,
}

impl Ingesting {
    /// Carries out what the producer says.
    pub(super) fn obey(&mut self) {
        let (life, version) = (self.life, self.settings.produce_version);
        while let Some((broker, serial, order)) = self.producer.poll_command() {
            let task = (life, broker, serial);
            let asked = match order {
                BrokerOrder::Produce(request) => {
                    let (version, body) = request.encode(version);
                    Exchange::Produce { request, version, body }
                }
                BrokerOrder::ProducerId(request) => Exchange::Id(request),
                BrokerOrder::Begin(address) => {
                    self.links.entry(task).or_default().address = address;
                    continue;
                }
                BrokerOrder::End => {
                    self.end_link(task);
                    continue;
                }
                BrokerOrder::Leave => {
                    let number = self.links.entry(task).or_default().number;
                    self.after(1000, 2000, IngestEvent::Left { task, number });
                    continue;
                }
            };
            self.links.entry(task).or_default().requests.push_back(asked);
            self.work_later(task);
        }
    }

    fn work_later(&mut self, task: Task) {
        let Some(link) = self.links.get_mut(&task) else { return };
        if !link.requests.is_empty() && !std::mem::replace(&mut link.is_working, true) {
            let number = link.number;
            self.after(0, 6, IngestEvent::Work { task, number });
        }
    }

    /// The broker works on the oldest request of a connection.
    pub(super) fn work(&mut self, task: Task, number: u64) {
        let (is_reachable, address) = (!self.unreachable.contains(&task.1), self.address(task.1));
        let Some(link) = self.links.get_mut(&task).filter(|link| link.number == number) else {
            return;
        };
        link.is_working = false;
        if !is_reachable || link.address != address {
            return self.break_link(task);
        }
        if !std::mem::replace(&mut link.is_connected, true) && task.0 == self.life {
            self.producer.handle_connected(task.1, self.clock.instant());
        }
        let Some(link) = self.links.get_mut(&task) else { return };
        let Some(asked) = link.requests.pop_front() else { return };
        let answer = match &asked {
            Exchange::Produce { version, body, .. } => {
                let (version, body) = (*version, body.clone());
                Answer::Produce(self.produce(task.1, body, version), version)
            }
            Exchange::Id(_) => Answer::Id(self.producer_id()),
        };
        let now = self.clock.now();
        let wait = Duration::from_micros(self.random.below(8_000));
        let Some(link) = self.links.get_mut(&task) else { return };
        link.waited.push_back(asked);
        link.last = link.last.max(now + wait);
        let wait = link.last - now;
        self.clock.after(wait, IngestEvent::Answer { task, number, answer });
        self.work_later(task);
    }

    fn producer_id(&mut self) -> Result<(i64, i16), Option<Code>> {
        if !self.is_mended && self.random.percent(10) {
            return Err(Some(Code::CoordinatorLoadInProgress));
        }
        self.producers += 1;
        // Close to the last epoch, so that ids run out.
        Ok((self.producers, i16::MAX - self.random.below(3) as i16))
    }

    /// An answer has come.
    pub(super) fn answer(&mut self, task: Task, number: u64, answer: Answer) {
        let now = self.clock.instant();
        let Some(link) = self.links.get_mut(&task).filter(|link| link.number == number) else {
            return;
        };
        let asked = link.waited.pop_front();
        if task.0 != self.life {
            return;
        }
        let of = (task.1, task.2);
        match (asked, answer) {
            (Some(Exchange::Produce { request, .. }), Answer::Produce(response, version)) => {
                self.producer.handle_answer(of, &request, &response, version, now);
            }
            (Some(Exchange::Id(request)), Answer::Id(answer)) => {
                self.producer.handle_id(request, answer, now);
            }
            _ => self.judge.violation("the simulation mixes up its answers".to_owned()),
        }
        self.turn_soon();
    }

    /// The connection of a task breaks. Some of what it had may be worked on all the same.
    pub(super) fn break_link(&mut self, task: Task) {
        if self.lose_link(task) {
            self.producer.handle_failed(task.1, self.clock.instant());
        }
    }

    /// A task ends, and its connection with it.
    fn end_link(&mut self, task: Task) {
        self.lose_link(task);
    }

    /// Reports what was under way on a connection. Returns whether the relay hears of it.
    fn lose_link(&mut self, task: Task) -> bool {
        let now = self.clock.instant();
        let Some(link) = self.links.get_mut(&task) else { return false };
        let (number, address) = (link.number + 1, link.address.clone());
        let before = std::mem::replace(link, Link { number, address, ..Link::default() });
        let mut requests = before.requests;
        let never_sent = requests.split_off(self.random.below(requests.len() as u64 + 1) as usize);
        for asked in &requests {
            if let Exchange::Produce { version, body, .. } = asked {
                let (broker, version, body) = (task.1, *version, body.clone());
                self.after(0, 400, IngestEvent::Late { broker, version, body });
            }
        }
        let sent = before.waited.into_iter().chain(requests).map(|asked| (asked, true));
        let lost: Vec<(Exchange, bool)> = sent.collect();
        let lost = lost.into_iter().chain(never_sent.into_iter().map(|asked| (asked, false)));
        if task.0 != self.life {
            return false;
        }
        let mut is_heard = false;
        for (asked, was_sent) in lost {
            is_heard = true;
            match asked {
                Exchange::Produce { request, .. } => {
                    let of = (task.1, task.2);
                    self.producer.handle_lost(of, &request, was_sent, now);
                }
                Exchange::Id(request) => self.producer.handle_id(request, Err(None), now),
            }
        }
        self.turn_soon();
        is_heard
    }

    /// The address of a broker.
    pub(super) fn address(&self, broker: i32) -> String {
        let moves = self.moves.get(&broker).copied().unwrap_or(0);
        format!("broker-{broker}.{moves}")
    }

    /// A connection with what is led elsewhere is not waited for, if it still stands.
    pub(super) fn left(&mut self, task: Task, number: u64) {
        let stands = |link: &Link| link.number == number && !link.waited.is_empty();
        if self.links.get(&task).is_some_and(stands) {
            self.break_link(task);
        }
    }

    /// All connections of the relay break.
    pub(super) fn break_all(&mut self, broker: Option<i32>) {
        let of = |task: &&Task| broker.is_none_or(|broker| task.1 == broker);
        let tasks: Vec<Task> = self.links.keys().filter(of).copied().collect();
        for task in tasks {
            self.break_link(task);
        }
    }

    /// A broker works on a request.
    pub(super) fn produce(&mut self, broker: i32, body: Bytes, version: i16) -> ProduceResponse {
        let mut rest = body;
        let request = match ProduceRequest::decode(&mut rest, version) {
            Ok(request) if rest.is_empty() => request,
            other => {
                self.judge.violation(format!("request: it cannot be read: {other:?}"));
                return ProduceResponse::default();
            }
        };
        let by_id = version > 12;
        let mut responses = Vec::new();
        for topic in request.topic_data {
            let named = |(name, known): &(&String, &Topic)| match by_id {
                true => known.id == topic.topic_id,
                false => **name == **topic.name,
            };
            let name = self.topics.iter().find(named).map(|(name, _)| name.clone());
            let mut answers = Vec::new();
            for data in topic.partition_data {
                let produced = match &name {
                    Some(name) if !self.topics[name].is_absent => {
                        let records = data.records.unwrap_or_default();
                        self.produce_to(broker, (name.clone(), data.index), &records)
                    }
                    _ if by_id => (Some(Code::UnknownTopicId), -1, 0),
                    _ => (Some(Code::UnknownTopicOrPartition), -1, 0),
                };
                let (error, base, start) = produced;
                answers.push(
                    PartitionProduceResponse::default()
                        .with_index(data.index)
                        .with_error_code(error.map_or(0, |code| code.code()))
                        .with_base_offset(base)
                        .with_log_start_offset(start),
                );
            }
            let response = TopicProduceResponse::default().with_partition_responses(answers);
            responses.push(match by_id {
                true => response.with_topic_id(topic.topic_id),
                false => response.with_name(topic.name),
            });
        }
        self.see_logs();
        ProduceResponse::default().with_responses(responses)
    }

    fn produce_to(
        &mut self,
        broker: i32,
        (topic, partition): (String, i32),
        records: &[u8],
    ) -> (Option<Code>, i64, i64) {
        if !self.is_mended && self.random.percent(3) {
            let codes = [Code::UnknownServerError, Code::KafkaStorageError, Code::InvalidRecord];
            return (Some(*self.random.pick(&codes)), -1, -1);
        }
        let read = match batch::read(records) {
            Ok(read) => read,
            Err(error) => {
                self.judge.violation(format!("request: a batch that cannot be read: {error}"));
                return (Some(Code::CorruptMessage), -1, -1);
            }
        };
        let log = self
            .topics
            .get_mut(&topic)
            .and_then(|topic| topic.partitions.get_mut(usize::try_from(partition).ok()?));
        let Some(log) = log else { return (Some(Code::UnknownTopicOrPartition), -1, -1) };
        let header = read.0;
        let Produced { error, base } = log.produce(broker, read, records.len(), &mut self.random);
        let start = log.start;
        self.tell(|| {
            format!("broker {broker}: {topic}/{partition}: {header:?}: {error:?}, at {base}")
        });
        (error, base, start)
    }

    /// The judge sees what was committed.
    pub(super) fn see_logs(&mut self) {
        for (name, topic) in &mut self.topics {
            for (partition, log) in (0..).zip(&mut topic.partitions) {
                let branch = log.branch;
                for batch in log.take_news() {
                    self.judge.committed(&(name.clone(), partition), branch, &batch);
                }
            }
        }
    }
}

/// The brokers' connections.
pub type Links = BTreeMap<Task, Link>;
