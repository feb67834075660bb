//! The decisions of an ingest route, for a simulation that plays senders and brokers. For nothing
//! else.
//!
//! The parting, reading and mapping of messages, the ledger, the counts and the answers' bytes are
//! the product's. Permits, dead letters and rights are not here.

use bytes::Bytes;
use zafka_envelope::{InboundPlan, InboundRecord, Preset};
use zafka_kafka::config::TopicSelector;
use zafka_kafka::produce::{Deliveries, OutboundRecord};
use zafka_kafka::sim::SimProducer;

use super::arrivals::ArrivalId;
use super::counts::Counts;
use super::ledger::{self, Ledger, Order, Run, Settled};
use super::mapping::Mapping;
use super::wire::{self, Code, Failure, Parted, RecordAnswers};
use crate::template::{Fields, Template};

/// The layout of messages and the order of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// ROUTER: id, topic, key, value. Answers come as messages settle.
    WithId,
    /// ROUTER: topic, key, value. Answers come in the order of messages.
    InOrder,
    /// ROUTER: topic, and records as `batch` has them.
    Batch,
    /// PULL: topic, key, value. No sender is answered.
    Unanswered,
}

/// A message that is not settled. `tag` is the caller's name for it.
#[derive(Debug)]
struct Underway {
    tag: u64,
    sender: u64,
    envelope: Vec<Bytes>,
    id: Option<Bytes>,
}

/// A message that is settled.
#[derive(Debug)]
pub struct ToldMessage {
    /// The caller's name for it.
    pub tag: u64,
    /// Its sender.
    pub sender: u64,
    /// True if its records are in the log.
    pub is_acknowledged: bool,
    /// The frames of its answer; none if its sender gets no answer.
    pub answer: Vec<Vec<u8>>,
}

/// Counts of a route, as its status shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteCounts {
    /// Messages.
    pub received: u64,
    /// Messages whose records are in the log.
    pub acknowledged: u64,
    /// Messages that are not in the log: refused, or skipped.
    pub refused: u64,
    /// Messages whose outcome is unknown.
    pub unknown: u64,
    /// Messages that are not settled.
    pub in_flight: u64,
    /// Messages that are in none of the others.
    pub unaccounted: i64,
}

/// A route whose topics are `edge.` and the sender's, as far as they are allowed.
#[derive(Debug)]
pub struct Ingest {
    layout: Layout,
    frames: InboundPlan,
    mapping: Mapping,
    ledger: Ledger<Underway>,
    settled: Vec<ledger::Told<Underway>>,
    counts: Counts,
    /// The sender of each arrival, with the callers' names for its messages.
    arrivals: Vec<(u64, Vec<u64>)>,
    /// The topic of the last record.
    topic: Option<std::sync::Arc<str>>,
}

impl Ingest {
    /// A route that may write to these topics. `None` if its own templates cannot be read.
    pub fn new(layout: Layout, topics: &[String]) -> Option<Self> {
        let frames = ["{id}", "{topic}", "{key}", "{value}"];
        let frames = match layout {
            Layout::WithId => InboundPlan::parse(&frames).ok()?,
            Layout::InOrder | Layout::Unanswered => InboundPlan::parse(&frames[1..]).ok()?,
            Layout::Batch => InboundPlan::preset(Preset::Batch),
        };
        let mapping = Mapping {
            topic: Template::parse("edge.{topic}", Fields::OfMessage).ok()?,
            rename: Vec::new(),
            allowed: topics.iter().cloned().map(TopicSelector::Name).collect(),
            key: Some(Template::key()),
            partition: None,
            headers: Vec::new(),
            stamp: false,
        };
        let order = Order::of(layout != Layout::Unanswered, &frames);
        let ledger = Ledger::new(order, frames.is_batch());
        let (settled, counts, arrivals) = (Vec::new(), Counts::default(), Vec::new());
        Some(Self { layout, frames, mapping, ledger, settled, counts, arrivals, topic: None })
    }

    fn is_router(&self) -> bool {
        self.layout != Layout::Unanswered
    }

    /// Takes a message, and hands its records to the producer. `joins`: whether it came together
    /// with the message before it, if that was of the same sender.
    pub fn handle_message(
        &mut self,
        (tag, sender): (u64, u64),
        joins: bool,
        frames: &[&[u8]],
        producer: &mut SimProducer,
        now: std::time::Instant,
    ) {
        self.counts.received += 1;
        match self.arrivals.last_mut() {
            Some((of, tags)) if joins && *of == sender => tags.push(tag),
            _ => self.arrivals.push((sender, vec![tag])),
        }
        let parted = match self.is_router() {
            true => wire::part(frames, frames.len(), self.frames.frames(), false),
            false => Parted::Message { envelope: 0 },
        };
        let message = |envelope: &[&[u8]], id: Option<&[u8]>| Underway {
            tag,
            sender,
            envelope: envelope.iter().map(|frame| Bytes::copy_from_slice(frame)).collect(),
            id: id.map(Bytes::copy_from_slice),
        };
        let Parted::Message { envelope } = parted else {
            let failure = Failure::new(Code::BadMessage, "frames");
            let envelope = wire::envelope(frames);
            return self.refuse(message(&frames[..envelope], None), failure);
        };
        let (envelope, body) = frames.split_at(envelope);
        let message = message(envelope, self.frames.id(body));
        let mut records = Vec::new();
        match self.frames.read(body, &mut records) {
            Ok(()) => self.write(message, &records, producer, now),
            Err(error) => self.refuse(message, error.into()),
        }
    }

    fn write(
        &mut self,
        message: Underway,
        records: &[InboundRecord<'_>],
        producer: &mut SimProducer,
        now: std::time::Instant,
    ) {
        let targets: Result<Vec<_>, _> =
            records.iter().map(|record| self.mapping.target(record, None)).collect();
        let targets = match targets {
            Ok(targets) => targets,
            Err(error) => return self.refuse(message, error.into()),
        };
        let Some(first) = targets.first() else { return };
        let known = self.topic.take_if(|known| **known == *first.topic);
        let topic = known.unwrap_or_else(|| first.topic.as_ref().into());
        self.topic = Some(std::sync::Arc::clone(&topic));
        let topic = self.is_router().then_some(topic);
        let sender = message.sender;
        let is_alone = records.len() == 1 && !self.frames.is_batch();
        let ticket = match message.id.is_none() && message.envelope.is_empty() && is_alone {
            // Nothing is kept of it.
            true => self.ledger.enter_next(self.last(), sender, topic.as_ref(), 5),
            false => self.ledger.enter(message, sender, topic, 5, records.len()),
        };
        for (record, target) in records.iter().zip(&targets) {
            let outbound = OutboundRecord {
                topic: &target.topic,
                partition: target.partition,
                timestamp: 5,
                key: target.key.as_deref(),
                value: record.value.as_deref(),
                headers: &[],
            };
            if let Err(error) = producer.send(ticket, &outbound, now) {
                self.ledger.handle_delivery(ticket, Err(error), &mut self.settled);
            }
        }
    }

    /// The last message: its arrival, and its number in it.
    fn last(&self) -> (ArrivalId, usize) {
        let index = self.arrivals.last().map_or(0, |(_, tags)| tags.len() - 1);
        (self.arrivals.len() - 1, index)
    }

    fn refuse(&mut self, message: Underway, failure: Failure) {
        let sender = message.sender;
        self.ledger.settle_now(message, sender, failure, &mut self.settled);
    }

    /// Takes the outcomes of records, as the route's task does.
    pub fn handle_deliveries(&mut self, mut deliveries: Deliveries) -> Vec<ToldMessage> {
        while let Some(delivered) = deliveries.next_run() {
            self.ledger.handle_delivered(delivered, &mut self.settled);
        }
        self.take_told()
    }

    /// Settles all that is under way, as at the relay's end.
    pub fn abandon(&mut self) -> Vec<ToldMessage> {
        let failure = Failure::new(Code::TimeoutUnknown, "the relay ended");
        self.ledger.abandon(&failure, &mut self.settled);
        self.take_told()
    }

    /// Returns the messages that are settled.
    pub fn take_told(&mut self) -> Vec<ToldMessage> {
        let mut told = Vec::new();
        for settled in std::mem::take(&mut self.settled) {
            match settled {
                ledger::Told::Message(settled) => told.push(self.tell(settled)),
                ledger::Told::Run(run) => self.tell_run(&run, &mut told),
            }
        }
        told
    }

    fn tell(&mut self, settled: Settled<Underway>) -> ToldMessage {
        let Settled { message: Underway { tag, sender, envelope, id }, outcome } = settled;
        self.count(1, outcome.as_ref().err());
        let mut answer = Vec::new();
        if self.is_router() {
            let mut json = Vec::new();
            let mut frames: Vec<&[u8]> = envelope.iter().chain(&id).map(|frame| &**frame).collect();
            wire::answer(&outcome, &mut json, &mut frames);
            answer.extend(frames.iter().map(|frame| frame.to_vec()));
        }
        ToldMessage { tag, sender, is_acknowledged: outcome.is_ok(), answer }
    }

    fn tell_run(&mut self, run: &Run, told: &mut Vec<ToldMessage>) {
        self.count(run.messages.len() as u64, run.outcome.as_ref().err());
        let Some((sender, tags)) = self.arrivals.get(run.arrival) else { return };
        let tags = tags.get(run.messages.clone()).unwrap_or_default();
        let topic = run.topic.as_deref().unwrap_or_default();
        let mut json = Vec::new();
        let mut written = match &run.outcome {
            Ok(written) => Some(RecordAnswers::new(topic, run.timestamp, written, &mut json)),
            Err(_) => None,
        };
        for tag in tags {
            let answer: Vec<Vec<u8>> = match (&run.outcome, &mut written) {
                _ if !self.is_router() => Vec::new(),
                (_, Some(written)) => {
                    written.next_frames().into_iter().map(<[u8]>::to_vec).collect()
                }
                (Err(failure), None) => {
                    let (mut json, mut frames) = (Vec::new(), Vec::new());
                    wire::answer(&Err(failure.clone()), &mut json, &mut frames);
                    frames.iter().map(|frame| frame.to_vec()).collect()
                }
                (Ok(_), None) => Vec::new(),
            };
            let is_acknowledged = run.outcome.is_ok();
            told.push(ToldMessage { tag: *tag, sender: *sender, is_acknowledged, answer });
        }
    }

    fn count(&mut self, messages: u64, failure: Option<&Failure>) {
        let counts = &mut self.counts;
        *match failure {
            None => &mut counts.acknowledged,
            Some(failure) if failure.code == Code::TimeoutUnknown => &mut counts.unknown,
            Some(_) if self.layout == Layout::Unanswered => &mut counts.skipped,
            Some(_) => &mut counts.refused,
        } += messages;
    }

    /// Returns the counts as they are now.
    pub fn counts(&mut self) -> RouteCounts {
        self.counts.in_flight = self.ledger.in_flight() as u64;
        let Counts { received, acknowledged, refused, skipped, unknown, in_flight, .. } =
            self.counts;
        RouteCounts {
            received,
            acknowledged,
            refused: refused + skipped,
            unknown,
            in_flight,
            unaccounted: self.counts.unaccounted(),
        }
    }
}
