//! Takes the messages that come to a route's task: their records go to the producer.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use zafka_envelope::InboundRecord;
use zafka_kafka::produce::OutboundRecord;
use zafka_sockets::{Content, Inbound};
use zafka_zmtp::{Discarded, SocketType};

use super::Task;
use crate::zmq_to_kafka::arrivals::{ArrivalId, Size};
use crate::zmq_to_kafka::mapping::{Mapping, MappingError, Target};
use crate::zmq_to_kafka::message::{Header, Message, now_ms, stamp};
use crate::zmq_to_kafka::wire::{self, Code, Failure, Parted};
use crate::zmq_to_kafka::{IngestConfig, OnError};

/// Records of one message at the most: a batch of empty ones would take much more memory than its
/// bytes. What a zafka sends has fewer.
const MAX_RECORDS: usize = 10_000;

/// One message as it came.
struct Incoming<'f, 'a> {
    arrival: ArrivalId,
    /// Its number in the arrival.
    index: usize,
    frames: &'f [&'a [u8]],
    /// The number of its frames: more than there are if it was thrown away.
    count: usize,
    /// The memory that it takes.
    size: Size,
    /// Its size if it was thrown away.
    discarded: Option<u64>,
    /// The reason why it is not to be written, whatever it holds.
    refusal: Option<Failure>,
    /// True if its sender may not write anything.
    is_denied: bool,
    from_req: bool,
}

impl Task {
    /// Takes messages of one sender. Returns how many.
    pub(super) fn handle_inbound(&mut self, inbound: Inbound) -> ControlFlow<(), usize> {
        let Inbound { sender, content, permit } = inbound;
        let shared = Arc::clone(&self.shared);
        let config = &shared.config;
        let from_req = sender.socket_type() == Some(SocketType::Req);
        let is_denied = !sender.may_write_something();
        let (messages, mut is_late) = match content {
            Content::Messages(messages) => (messages, self.is_closing),
            Content::Late(messages) => (messages, true),
            Content::TooLarge(discarded) => {
                let arrival = self.arrivals.add(sender, permit, 1, now_ms());
                let Discarded { head, frames: count, size } = &discarded;
                let frames: Vec<&[u8]> = head.iter().map(|frame| &**frame).collect();
                let limit = config.socket.max_message;
                let incoming = Incoming {
                    arrival,
                    index: 0,
                    frames: &frames,
                    count: *count,
                    size: size_of(&frames),
                    discarded: Some(*size),
                    refusal: Some(if self.is_closing {
                        late()
                    } else {
                        too_large(&discarded, limit)
                    }),
                    is_denied,
                    from_req,
                };
                self.handle_message(config, incoming, &mut Vec::new())?;
                return ControlFlow::Continue(1);
            }
        };
        let arrival = self.arrivals.add(sender, permit, messages.len(), now_ms());
        let mut flow = ControlFlow::Continue(());
        let (mut frames, mut records) = (Vec::new(), Vec::new());
        for index in 0..messages.len() {
            frames.clear();
            frames.extend(messages.frames(index));
            let size = size_of(&frames);
            self.arrivals.measure(arrival, size);
            let incoming = Incoming {
                arrival,
                index,
                frames: &frames,
                count: frames.len(),
                size,
                discarded: None,
                refusal: is_late.then(late),
                is_denied,
                from_req,
            };
            let told = self.handle_message(config, incoming, &mut records);
            if told.is_break() {
                // What came with a message that stops the route is not written either.
                (flow, is_late) = (told, true);
            }
        }
        flow?;
        ControlFlow::Continue(messages.len())
    }

    /// `records`: where they are put.
    fn handle_message<'a>(
        &mut self,
        config: &IngestConfig,
        incoming: Incoming<'_, 'a>,
        records: &mut Vec<InboundRecord<'a>>,
    ) -> ControlFlow<()> {
        let is_router = self.is_router;
        let Incoming { arrival, index, frames, count, size, from_req, .. } = incoming;
        if !is_router && wire::is_command(frames) {
            // It may hold a token: never a record, a dead letter or a log line.
            self.counts.received += 1;
            self.counts.skipped += 1;
            self.arrivals.settle(arrival, 1, size);
            return ControlFlow::Continue(());
        }
        let parted = if is_router {
            wire::part(frames, count, config.frames.frames(), from_req)
        } else {
            Parted::Message { envelope: 0 }
        };
        if let Parted::Command { envelope } = parted {
            let mut answer = frames[..envelope].to_vec();
            let verb = frames.get(envelope + 1).copied();
            wire::refuse_command(verb, &mut self.json, &mut answer);
            if let Some(arrival) = self.arrivals.get(arrival) {
                arrival.sender.answer(answer.into_iter());
            }
            self.arrivals.settle(arrival, 1, size);
            return ControlFlow::Continue(());
        }
        self.counts.received += 1;
        let (envelope, body) = match parted {
            Parted::Message { envelope } => frames.split_at(envelope),
            // An answer needs an envelope to come back by: all that stands before an empty frame.
            _ => frames.split_at(wire::envelope(frames)),
        };
        let id = config.frames.id(body);
        let mut message = Message { arrival, size, kept: None };
        if id.is_some() || !envelope.is_empty() {
            let kept = message.kept_mut();
            kept.envelope = owned(envelope);
            kept.id = id.map(Bytes::copy_from_slice);
        }
        if let OnError::DeadLetter(_) = config.on_error {
            message.kept_mut().frames = owned(body);
        }
        if let Some(size) = incoming.discarded {
            message.kept_mut().discarded = Some(size);
        }
        if incoming.is_denied {
            message.kept_mut().is_denied = true;
        }
        let misfit = (parted == Parted::Neither).then(|| misfit(config.frames.frames(), &incoming));
        if let Some(failure) = incoming.refusal.or(misfit) {
            self.settle_now(message, failure);
            return self.tell_settled();
        }
        records.clear();
        match config.frames.read(body, records) {
            Ok(()) => self.produce(config, (message, index), id, records),
            Err(error) => {
                self.settle_now(message, Failure::new(Code::BadMessage, error.to_string()))
            }
        }
        if self.settled.is_empty() { ControlFlow::Continue(()) } else { self.tell_settled() }
    }

    /// Finds where a message's records go, and hands them to the producer. The message comes with
    /// its number in its arrival.
    fn produce(
        &mut self,
        config: &IngestConfig,
        message: (Message, usize),
        id: Option<&[u8]>,
        records: &[InboundRecord<'_>],
    ) {
        let (mapping, known) = (&config.mapping, self.topic.as_deref());
        let failure = match records {
            // Nothing is allocated for one.
            [record] => match mapping.target(record, known) {
                Ok(target) => return self.write(config, message, id, records, &[target]),
                Err(error) => error.into(),
            },
            records => match targets(mapping, records, known) {
                Ok(targets) => return self.write(config, message, id, records, &targets),
                Err(failure) => failure,
            },
        };
        self.settle_now(message.0, failure);
    }

    /// Hands a message's records to the producer.
    fn write(
        &mut self,
        config: &IngestConfig,
        (mut message, index): (Message, usize),
        id: Option<&[u8]>,
        records: &[InboundRecord<'_>],
        targets: &[Target<'_>],
    ) {
        let mapping = &config.mapping;
        let (Some(target), Some(arrival)) = (targets.first(), self.arrivals.get(message.arrival))
        else {
            return;
        };
        let sender = &arrival.sender;
        if !sender.may_write(&target.topic) {
            // Answered as a topic that no route may write to.
            let error = MappingError::NotAllowed(target.topic.to_string());
            message.kept_mut().is_denied = true;
            return self.settle_now(message, error.into());
        }
        if self.topic.as_deref() != Some(&*target.topic) {
            self.topic = Some(Arc::from(&*target.topic));
        }
        let Some(topic) = &self.topic else { return };
        let stamp = if mapping.stamp { stamp(&config.name, sender, id) } else { Vec::new() };
        let received_ms = arrival.received_ms;
        let timestamp_of = |record: &InboundRecord<'_>| {
            record.timestamp.filter(|ms| *ms >= 0).unwrap_or(received_ms)
        };
        let timestamp = records.last().map_or(received_ms, timestamp_of);
        // Only an answer names it.
        let named = Some(topic).filter(|_| self.is_router);
        let (ledger, sender) = (&mut self.ledger, sender.id());
        let is_alone = records.len() == 1 && !config.frames.is_batch();
        let ticket = match message {
            Message { arrival, kept: None, .. } if is_alone => {
                ledger.enter_next((arrival, index), sender, named, timestamp)
            }
            message => ledger.enter(message, sender, named.cloned(), timestamp, records.len()),
        };
        for (record, target) in records.iter().zip(targets) {
            let added = mapping.added_headers(record);
            let headers = headers(record, &added, &stamp);
            let outbound = OutboundRecord {
                topic,
                partition: target.partition,
                timestamp: timestamp_of(record),
                key: target.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
            };
            if let Err(error) = self.producer.send(ticket, &outbound) {
                self.ledger.handle_delivery(ticket, Err(error), &mut self.settled);
            }
        }
    }

    fn settle_now(&mut self, message: Message, failure: Failure) {
        let Some(arrival) = self.arrivals.get(message.arrival) else { return };
        self.ledger.settle_now(message, arrival.sender.id(), failure, &mut self.settled);
    }
}

/// The headers of a record: its own, and those that are added.
fn headers<'a>(
    record: &'a InboundRecord<'_>,
    added: &'a [Header],
    stamp: &'a [Header],
) -> Vec<(&'a str, Option<&'a [u8]>)> {
    if record.headers.is_empty() && added.is_empty() && stamp.is_empty() {
        return Vec::new();
    }
    // Names were checked to be UTF-8.
    let own = record.headers.iter().filter_map(|header| {
        Some((std::str::from_utf8(&header.name).ok()?, header.value.as_deref()))
    });
    let more = added.iter().chain(stamp);
    own.chain(more.map(|(name, value)| (name.as_str(), value.as_deref()))).collect()
}

fn size_of(frames: &[&[u8]]) -> Size {
    Size::new(frames.iter().map(|frame| frame.len()).sum(), frames.len())
}

fn owned(frames: &[&[u8]]) -> Vec<Bytes> {
    frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect()
}

fn late() -> Failure {
    Failure::new(Code::ShuttingDown, "the relay ends")
}

fn misfit(expected: usize, incoming: &Incoming<'_, '_>) -> Failure {
    let count = incoming.count;
    let reason = match (count == expected, incoming.from_req) {
        (true, true) => "a REQ's message has an empty frame before it".to_owned(),
        _ => format!("{count} frames where {expected} are expected"),
    };
    Failure::new(Code::BadMessage, reason)
}

fn too_large(discarded: &Discarded, limit: usize) -> Failure {
    let size = discarded.size;
    let reason = format!("a message of {size} bytes is over the limit of {limit} (max_message)");
    Failure::new(Code::TooLarge, reason)
}

/// Returns the targets of the records of a message, all of them in one topic. `known` is a topic
/// that was found before.
fn targets<'a>(
    mapping: &'a Mapping,
    records: &'a [InboundRecord<'_>],
    known: Option<&str>,
) -> Result<Vec<Target<'a>>, Failure> {
    if records.len() > MAX_RECORDS {
        let found = format!("{} records in one message; at most {MAX_RECORDS}", records.len());
        return Err(Failure::new(Code::TooLarge, found));
    }
    let targets = records.iter().map(|record| mapping.target(record, known));
    let targets: Vec<_> = targets.collect::<Result<_, _>>()?;
    let bad = |reason: String| Failure::new(Code::BadMessage, reason);
    let Some(first) = targets.first() else {
        return Err(bad("a message without records".to_owned()));
    };
    if let Some(other) = targets.iter().find(|target| target.topic != first.topic) {
        let (one, other) = (&first.topic, &other.topic);
        return Err(bad(format!("its records are for several topics, \"{one}\" and \"{other}\"")));
    }
    Ok(targets)
}
