//! The decisions of an ingest route, for a simulation that plays senders and brokers. For nothing
//! else.
//!
//! The parting, reading and mapping of messages, the ledger, the counts and the answers' bytes are
//! the product's, and so are the shares of partitions and the order of messages that were set
//! aside. Permits, dead letters, rights and waits for answers are not here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use zafka_envelope::{InboundPlan, InboundRecord, Preset};
use zafka_kafka::config::TopicSelector;
use zafka_kafka::produce::{News, OutboundRecord, PartitionIndex, Ticket};
use zafka_kafka::sim::SimProducer;
use zafka_sockets::message_weight;
use zafka_zmtp::frame::split_first;

use super::arrivals::ArrivalId;
use super::counts::Counts;
use super::ledger::{self, Found, Ledger, Order, Run, Settled};
use super::mapping::{Mapping, Target};
use super::parked::{Origin, Parked, Wait};
use super::shares::Shares;
use super::spread::{Freed, Spread};
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
    weight: usize,
    /// The partitions of its records, if it has several.
    spread: Option<Spread>,
}

/// A message that was set aside.
#[derive(Debug)]
struct Aside {
    tag: u64,
    sender: u64,
    /// It came together with the one before it.
    joins: bool,
    frames: Vec<Vec<u8>>,
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
    /// Messages that were set aside, which do not count as received.
    pub parked: u64,
    /// Messages that are in none of the others.
    pub unaccounted: i64,
}

/// A route whose topics are `edge.` and the sender's, as far as they are allowed.
#[derive(Debug)]
pub struct Ingest {
    layout: Layout,
    frames: InboundPlan,
    mapping: Arc<Mapping>,
    ledger: Ledger<Underway>,
    settled: Vec<ledger::Told<Underway>>,
    counts: Counts,
    /// The sender of each arrival, with the callers' names for its messages.
    arrivals: Vec<(u64, Vec<u64>)>,
    /// The weight of each message by its name.
    weights: HashMap<u64, usize>,
    shares: Shares,
    parked: Parked<Aside>,
    waiting: u64,
    /// The topic of the last record.
    topic: Option<Arc<str>>,
}

impl Ingest {
    /// A route that may write to these topics, with so much memory. `None` if its own templates
    /// cannot be read.
    pub fn new(layout: Layout, topics: &[String], in_flight_bytes: usize) -> Option<Self> {
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
        Some(Self {
            layout,
            frames,
            mapping: Arc::new(mapping),
            ledger,
            settled: Vec::new(),
            counts: Counts::default(),
            arrivals: Vec::new(),
            weights: HashMap::new(),
            shares: Shares::new(in_flight_bytes),
            parked: Parked::new(),
            waiting: 0,
            topic: None,
        })
    }

    fn is_router(&self) -> bool {
        self.layout != Layout::Unanswered
    }

    /// Takes a message, and hands its records to the producer, or sets it aside. `joins`: whether
    /// it came together with the message before it, if that was of the same sender.
    pub fn handle_message(
        &mut self,
        (tag, sender): (u64, u64),
        joins: bool,
        frames: &[&[u8]],
        producer: &mut SimProducer,
        now: Instant,
    ) {
        let frames = frames.iter().map(|frame| frame.to_vec()).collect();
        let message = Aside { tag, sender, joins, frames };
        let origin = Origin { sender, name: None };
        if self.parked.holds(&origin) {
            self.waiting += 1;
            return self.parked.put_behind(&origin, message);
        }
        self.take(message, producer, now);
    }

    /// Takes what was set aside and may go on. Returns whether there was anything.
    pub fn go_on(&mut self, producer: &mut SimProducer, now: Instant) -> bool {
        let mut has_any = false;
        loop {
            let shares = &self.shares;
            if self.parked.next(|index| shares.is_full(index), 0).is_none() {
                return has_any;
            }
            let Some(message) = self.parked.take() else { return has_any };
            has_any = true;
            self.waiting -= 1;
            if self.take(message, producer, now) {
                self.parked.go_on();
            }
        }
    }

    /// Takes a message, unless it has to wait.
    fn take(&mut self, message: Aside, producer: &mut SimProducer, now: Instant) -> bool {
        match self.hand_over(&message, producer, now) {
            Ok(()) => true,
            Err(wait) => {
                let origin = Origin { sender: message.sender, name: None };
                self.waiting += 1;
                self.parked.park_for(&origin, message, wait, &self.shares, 0);
                false
            }
        }
    }

    fn hand_over(
        &mut self,
        aside: &Aside,
        producer: &mut SimProducer,
        now: Instant,
    ) -> Result<(), Wait> {
        let Aside { tag, sender, joins, frames } = aside;
        let frames: Vec<&[u8]> = frames.iter().map(|frame| &**frame).collect();
        let parted = match self.is_router() {
            true => wire::part(&frames, frames.len(), self.frames.frames(), false),
            false => Parted::Message { envelope: 0 },
        };
        let weight = message_weight(frames.iter().map(|frame| frame.len()).sum(), frames.len());
        let message = |envelope: &[&[u8]], id: Option<&[u8]>| Underway {
            tag: *tag,
            sender: *sender,
            envelope: envelope.iter().map(|frame| Bytes::copy_from_slice(frame)).collect(),
            id: id.map(Bytes::copy_from_slice),
            weight,
            spread: None,
        };
        let Parted::Message { envelope } = parted else {
            let failure = Failure::new(Code::BadMessage, "frames");
            let envelope = wire::envelope(&frames);
            self.count_received((*tag, *sender), *joins, weight);
            self.refuse(message(&frames[..envelope], None), failure);
            return Ok(());
        };
        let (envelope, body) = frames.split_at(envelope);
        let message = message(envelope, self.frames.id(body));
        let mut records = Vec::new();
        match self.frames.read(body, &mut records) {
            Ok(()) => self.write(message, *joins, &records, producer, now),
            Err(error) => {
                self.count_received((*tag, *sender), *joins, weight);
                self.refuse(message, error.into());
                Ok(())
            }
        }
    }

    fn count_received(&mut self, (tag, sender): (u64, u64), joins: bool, weight: usize) {
        self.counts.received += 1;
        self.weights.insert(tag, weight);
        match self.arrivals.last_mut() {
            Some((of, tags)) if joins && *of == sender => tags.push(tag),
            _ => self.arrivals.push((sender, vec![tag])),
        }
    }

    fn write(
        &mut self,
        mut message: Underway,
        joins: bool,
        records: &[InboundRecord<'_>],
        producer: &mut SimProducer,
        now: Instant,
    ) -> Result<(), Wait> {
        let (of, weight) = ((message.tag, message.sender), message.weight);
        let mapping = Arc::clone(&self.mapping);
        let targets: Result<Vec<_>, _> =
            records.iter().map(|record| mapping.target(record, None)).collect();
        let targets = match targets {
            Ok(targets) => targets,
            Err(error) => {
                self.count_received(of, joins, weight);
                self.refuse(message, error.into());
                return Ok(());
            }
        };
        let Some(first) = targets.first() else { return Ok(()) };
        let mut places = Vec::new();
        for Target { topic, partition, key } in &targets {
            let place = producer.locate(topic, *partition, key.as_deref());
            let wait = |index| self.parked.wait_for(index, topic, false, &self.shares);
            if let Some(wait) = place.and_then(wait) {
                return Err(wait);
            }
            places.extend(place);
        }
        self.count_received(of, joins, weight);
        let spread = Spread::new(&places, weight);
        for (place, weight) in spread.parts() {
            if self.shares.add(place, weight) {
                producer.set_full(place, true);
            }
        }
        if records.len() > 1 {
            message.spread = Some(spread);
        }
        let known = self.topic.take_if(|known| **known == *first.topic);
        let topic = known.unwrap_or_else(|| first.topic.as_ref().into());
        self.topic = Some(Arc::clone(&topic));
        let topic = self.is_router().then_some(topic);
        let sender = message.sender;
        let is_alone = records.len() == 1 && !self.frames.is_batch();
        let ticket = match message.id.is_none() && message.envelope.is_empty() && is_alone {
            // Nothing is kept of it.
            true => self.ledger.enter_next(self.last(), sender, topic.as_ref(), 5),
            false => self.ledger.enter(message, sender, topic, 5, records.len()),
        };
        for (number, (record, target)) in records.iter().zip(&targets).enumerate() {
            let outbound = OutboundRecord {
                topic: &target.topic,
                partition: target.partition,
                timestamp: 5,
                key: target.key.as_deref(),
                value: record.value.as_deref(),
                headers: &[],
            };
            let place = places.get(number).copied();
            if let Err(error) = producer.send_to(place, ticket, &outbound, now) {
                self.count_delivered(place, ticket, 1, producer);
                self.ledger.handle_delivery(ticket, Err(error), &mut self.settled);
            }
        }
        Ok(())
    }

    /// Counts deliveries as the route's task does.
    fn count_delivered(
        &mut self,
        place: Option<PartitionIndex>,
        first: Ticket,
        count: usize,
        producer: &mut SimProducer,
    ) {
        let Some(place) = place else { return };
        let (weight, to) = match self.ledger.message(first) {
            Some(Underway { spread: Some(spread), .. }) => match spread.settle(place, count) {
                Some(Freed { weight, to }) => (weight, to),
                None => return,
            },
            Some(message) => (message.weight, None),
            None => (self.weight_of_neighbors(first, count), None),
        };
        self.count_out(place, weight, producer);
        if let Some(to) = to
            && self.shares.add(to, weight)
        {
            producer.set_full(to, true);
        }
    }

    fn weight_of_neighbors(&self, first: Ticket, count: usize) -> usize {
        let Some(Found::Neighbor((arrival, number))) = self.ledger.find(first) else { return 0 };
        let Some((_, tags)) = self.arrivals.get(arrival) else { return 0 };
        let tags = tags.get(number..number + count).unwrap_or_default();
        tags.iter().filter_map(|tag| self.weights.get(tag)).sum()
    }

    fn count_out(&mut self, place: PartitionIndex, weight: usize, producer: &mut SimProducer) {
        if self.shares.remove(place, weight) {
            producer.set_full(place, false);
            self.parked.open(place);
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

    /// Takes news of records, as the route's task does.
    pub fn handle_news(&mut self, news: News, producer: &mut SimProducer) -> Vec<ToldMessage> {
        match news {
            News::Deliveries(mut deliveries) => {
                let place = deliveries.place();
                while let Some(delivered) = deliveries.next_run() {
                    self.count_delivered(place, delivered.first, delivered.count, producer);
                    self.ledger.handle_delivered(delivered, &mut self.settled);
                }
            }
            // librdkafka is no part of this.
            News::Anew => {}
            News::Placed(placed) => {
                for (ticket, place) in placed {
                    let weight = match self.ledger.message(ticket) {
                        Some(Underway { spread: Some(spread), .. }) => spread.place(place),
                        Some(message) => message.weight,
                        None => self.weight_of_neighbors(ticket, 1),
                    };
                    let unknown = PartitionIndex { partition: None, ..place };
                    self.count_out(unknown, weight, producer);
                    if self.shares.add(place, weight) {
                        producer.set_full(place, true);
                    }
                }
                self.parked.topics_known();
            }
        }
        self.take_told()
    }

    /// Settles all that is under way, as at the relay's end.
    pub fn abandon(&mut self) -> Vec<ToldMessage> {
        let failure = Failure::new(Code::TimeoutUnknown, "the relay ended");
        self.ledger.abandon(&failure, &mut self.settled);
        let failure = Failure::new(Code::ShuttingDown, "the relay ends");
        self.waiting = 0;
        for Aside { tag, sender, joins, frames } in self.parked.take_all() {
            let frames: Vec<&[u8]> = frames.iter().map(|frame| &**frame).collect();
            self.count_received((tag, sender), joins, 0);
            // No envelope, as senders of this world have none.
            let id = self.frames.id(&frames).map(Bytes::copy_from_slice);
            let (envelope, spread) = (Vec::new(), None);
            let message = Underway { tag, sender, envelope, id, weight: 0, spread };
            self.refuse(message, failure.clone());
        }
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
        let Settled { message, outcome } = settled;
        let Underway { tag, sender, envelope, id, .. } = message;
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
                (_, Some(written)) => frames_of(written.next_message()),
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
            parked: self.waiting,
            unaccounted: self.counts.unaccounted(),
        }
    }
}

/// The frames of a message as it goes over the wire.
fn frames_of(mut wire: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((_, body, rest)) = split_first(wire) {
        frames.push(body.to_vec());
        wire = rest;
    }
    frames
}
