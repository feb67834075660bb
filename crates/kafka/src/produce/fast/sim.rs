//! The producer without its tasks, for a simulation that plays brokers and their connections. For
//! nothing else.
//!
//! All decisions are made by the product's [`Writer`]. This module translates commands to brokers'
//! tasks, and the reports of such tasks.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::ResponseError as Code;
use kafka_protocol::messages::{ApiKey, ProduceResponse};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::TryRecvError;
use uuid::Uuid;

use super::super::{News, OutboundRecord, PartitionIndex, ProducerConfig, Ticket, WriteError};
use super::Key;
use super::broker::Command;
use super::events::Event;
use super::request::{self, Item};
use super::writer::{NewBroker, Writer};
use crate::connection::RequestError;
use crate::fetcher::sim::ClusterView;
use crate::metadata::{MetadataError, TopicMetadata};
use crate::records::ProducerId;

/// A producer.
pub struct SimProducer {
    writer: Writer,
    /// Commands to the tasks of brokers, by broker and number.
    tasks: BTreeMap<(i32, u64), UnboundedReceiver<Command>>,
    /// Tasks that are to begin, each with its address.
    new: VecDeque<((i32, u64), String)>,
}

impl std::fmt::Debug for SimProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimProducer").finish_non_exhaustive()
    }
}

/// A command to the task of a broker.
#[derive(Debug)]
pub enum BrokerOrder {
    /// Send a Produce request.
    Produce(SimRequest),
    /// Ask for a producer id.
    ProducerId(IdRequest),
    /// Wait no longer: another broker leads some of the rest.
    Leave,
    /// Begin, at this address.
    Begin(String),
    /// End: the broker is at another address now.
    End,
}

/// A Produce request.
#[derive(Clone, Debug)]
pub struct SimRequest(Vec<Item>);

/// A request for a producer id.
#[derive(Clone, Copy, Debug)]
pub struct IdRequest(Key);

/// A request for metadata.
#[derive(Clone, Debug)]
pub struct MetadataRequest {
    /// The topics that are asked for.
    pub topics: Vec<String>,
    /// True if it goes to another server than the one before.
    pub leaves: bool,
}

impl SimRequest {
    /// Returns the version that it has if the broker's newest is `newest`, and its body.
    pub fn encode(&self, newest: i16) -> (i16, Bytes) {
        let version = request::version(&self.0, newest);
        (version, request::encode(&self.0, version, 15_000).concat().into())
    }
}

impl SimProducer {
    /// A producer that knows nothing of its cluster.
    pub fn new(config: &ProducerConfig, seed: u64, now: Instant) -> Self {
        Self {
            writer: Writer::new(config, seed, now),
            tasks: BTreeMap::new(),
            new: VecDeque::new(),
        }
    }

    /// Finds the partition that a record goes to, for [`Self::send_to`] at once.
    pub fn locate(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
    ) -> Option<PartitionIndex> {
        self.writer.locate(topic, partition, key)
    }

    /// Takes a record for the partition that was found, which may wait for [`Self::flush`].
    ///
    /// # Errors
    /// The record cannot be sent at all.
    pub fn send_to(
        &mut self,
        index: Option<PartitionIndex>,
        ticket: Ticket,
        record: &OutboundRecord<'_>,
        now: Instant,
    ) -> Result<(), WriteError> {
        match index {
            Some(index) => self.writer.send_to(index, ticket, record, now),
            None => self.writer.send(ticket, record, now),
        }
    }

    /// Takes note of whether a partition has as much under way as it may.
    pub fn set_full(&mut self, index: PartitionIndex, is_full: bool) {
        self.writer.set_full(index, is_full);
    }

    /// Sends the requests that may be sent, and handles timeouts that are due.
    pub fn flush(&mut self, now: Instant) {
        self.writer.flush(now);
        while let Some(new) = self.writer.poll_new_broker() {
            let NewBroker { id, serial, address, commands } = new;
            self.new.push_back(((id, serial), address));
            self.tasks.insert((id, serial), commands);
        }
    }

    /// Returns when something is due.
    pub fn poll_timeout(&self) -> Instant {
        self.writer.poll_timeout()
    }

    /// Returns the news of records.
    pub fn poll_news(&mut self) -> Option<News> {
        self.writer.poll_news()
    }

    /// Returns the next command: to which broker, and to which of its tasks.
    pub fn poll_command(&mut self) -> Option<(i32, u64, BrokerOrder)> {
        if let Some(((id, serial), address)) = self.new.pop_front() {
            return Some((id, serial, BrokerOrder::Begin(address)));
        }
        let (task, order) = self.tasks.iter_mut().find_map(|(task, commands)| {
            let order = match commands.try_recv() {
                Ok(Command::Produce(items)) => BrokerOrder::Produce(SimRequest(items)),
                Ok(Command::ProducerId(key)) => BrokerOrder::ProducerId(IdRequest(key)),
                Ok(Command::Leave) => BrokerOrder::Leave,
                Err(TryRecvError::Disconnected) => BrokerOrder::End,
                Err(TryRecvError::Empty) => return None,
            };
            Some((*task, order))
        })?;
        if matches!(order, BrokerOrder::End) {
            self.tasks.remove(&task);
        }
        Some((task.0, task.1, order))
    }

    /// Returns the request for metadata that is to be sent now, if there is one.
    pub fn poll_metadata(&mut self, now: Instant) -> Option<MetadataRequest> {
        let question = self.writer.poll_question(now)?;
        let mut topics: Vec<String> = question.topics.iter().map(ToString::to_string).collect();
        topics.sort_unstable();
        Some(MetadataRequest { topics, leaves: question.leaves })
    }

    /// Returns the reports since the last time.
    pub fn take_reports(&mut self) -> Vec<String> {
        self.writer.reports.drain(..).collect()
    }

    /// Returns why records are not written, if they are not.
    pub fn trouble(&self) -> Option<String> {
        self.writer.trouble()
    }

    /// Takes a server's answer about these topics; none if no server answers.
    pub fn handle_metadata(&mut self, asked: &[String], view: Option<ClusterView>, now: Instant) {
        let Some(view) = view else {
            return self.writer.handle_metadata(Err(MetadataError::NoBroker), now);
        };
        let mut metadata = view.metadata();
        metadata.topics.retain(|name, _| asked.iter().any(|topic| **topic == **name));
        for topic in asked {
            metadata.topics.entry(topic.as_str().into()).or_insert_with(|| TopicMetadata {
                id: Uuid::nil(),
                error: Some(Code::UnknownTopicOrPartition),
                leaders: HashMap::new(),
            });
        }
        self.writer.handle_metadata(Ok(metadata), now);
    }

    /// Takes note that a task has connected to its broker.
    pub fn handle_connected(&mut self, broker: i32, now: Instant) {
        self.writer.handle(Event::Connected(broker), now);
    }

    /// Takes note that the connection to a broker could not be made, or ended. Requests that were
    /// under way on it have to be reported before.
    pub fn handle_failed(&mut self, broker: i32, now: Instant) {
        let error = RequestError::Silent { broker: broker.to_string(), api: ApiKey::Produce };
        self.writer.handle(Event::Failed { broker, error }, now);
    }

    /// Takes the answer to a request.
    pub fn handle_answer(
        &mut self,
        (broker, serial): (i32, u64),
        request: &SimRequest,
        response: &ProduceResponse,
        version: i16,
        now: Instant,
    ) {
        let answers = request::read(response, &request.0, version);
        self.writer.handle(Event::Produced { broker, serial, answers }, now);
    }

    /// Handles the end of a request without an answer. `was_sent`: true if the broker may have it.
    pub fn handle_lost(
        &mut self,
        (broker, serial): (i32, u64),
        request: &SimRequest,
        was_sent: bool,
        now: Instant,
    ) {
        let requests = request.0.iter().map(|item| (item.key, item.number)).collect();
        self.writer.handle(Event::Lost { broker, serial, requests, was_sent }, now);
    }

    /// Takes a producer id and its epoch, or why there is none.
    pub fn handle_id(
        &mut self,
        request: IdRequest,
        answer: Result<(i64, i16), Option<Code>>,
        now: Instant,
    ) {
        let answer = answer.map(|(id, epoch)| ProducerId { id, epoch });
        self.writer.handle(Event::ProducerId(request.0, answer), now);
    }
}
