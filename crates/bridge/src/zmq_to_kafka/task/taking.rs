//! Takes the messages that come to a route's task: their records go to the producer.

mod plain;

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use zafka_envelope::InboundRecord;
use zafka_kafka::produce::{OutboundRecord, PartitionIndex, Ticket, WriteError};
use zafka_sockets::{Content, Inbound, now_ms};
use zafka_zmtp::{Discarded, SocketType};

use super::Task;
use super::sharing::{Part, origin};
use super::writer::Writer;
use crate::zmq_to_kafka::arrivals::{Arrival, ArrivalId, Size};
use crate::zmq_to_kafka::mapping::{Mapping, MappingError, Target};
use crate::zmq_to_kafka::message::{Header, Message, stamp};
use crate::zmq_to_kafka::parked::Wait;
use crate::zmq_to_kafka::wire::{self, Code, Failure, Parted};
use crate::zmq_to_kafka::{IngestConfig, OnError};
pub(super) use plain::Plain;

/// The messages of one sender that were taken.
pub(super) struct Taken {
    /// Number of messages.
    pub(super) messages: usize,
    /// True if no message was set aside.
    pub(super) is_whole: bool,
}

/// The reason why no more is taken.
enum Halt {
    /// The route stops.
    Stopped,
    /// The partition takes no more for now.
    Full(Wait),
}

/// One message as it came.
struct Incoming<'f, 'a> {
    arrival: ArrivalId,
    /// Its number in the arrival.
    index: usize,
    frames: &'f [&'a [u8]],
    /// The number of its frames: more than there are if it was thrown away.
    count: usize,
    /// Its size if it was thrown away.
    discarded: Option<u64>,
    /// The reason why it must not be written, regardless of its content.
    refusal: Option<Failure>,
    /// True if its sender may not write anything.
    is_denied: bool,
    from_req: bool,
}

impl Task {
    /// Takes messages of one sender, unless they have to wait behind others of it. Returns their
    /// number.
    pub(super) fn handle_inbound(&mut self, inbound: Inbound) -> ControlFlow<(), usize> {
        let is_set_aside = inbound.permit.set_aside().is_some() && !self.is_closing;
        let mut part = Part { inbound, from: 0, received_ms: now_ms() };
        if !self.parked.is_empty() {
            let origin = origin(&part.inbound.sender);
            if self.parked.holds(&origin) {
                self.set_aside(&mut part);
                self.parked.put_behind(&origin, part);
                return ControlFlow::Continue(1);
            }
        }
        if is_set_aside {
            let now = part.received_ms;
            self.parked.park(&origin(&part.inbound.sender), part, None, now);
            return ControlFlow::Continue(1);
        }
        ControlFlow::Continue(self.take(part)?.messages)
    }

    /// Takes messages of one sender, up to the first that has to wait.
    pub(super) fn take(&mut self, mut part: Part) -> ControlFlow<(), Taken> {
        if self.is_stuck(&part) {
            self.set_aside(&mut part);
            let origin = origin(&part.inbound.sender);
            self.parked.park(&origin, part, Some(Wait::Answers), now_ms());
            return ControlFlow::Continue(Taken { messages: 1, is_whole: false });
        }
        let Part { inbound: Inbound { sender, content, permit }, from, received_ms } = part;
        let shared = Arc::clone(&self.shared);
        let config = &shared.config;
        let from_req = sender.socket_type() == Some(SocketType::Req);
        let is_denied = !sender.may_write_something();
        let (messages, mut is_late) = match content {
            Content::Messages(messages) => (messages, self.is_closing),
            Content::Late(messages) => (messages, true),
            Content::TooLarge(discarded) => {
                let arrival = self.arrivals.add(sender, permit, 1, received_ms);
                return self.take_discarded(config, arrival, &discarded, (is_denied, from_req));
            }
        };
        let mut plain = if is_late || from_req { None } else { self.plain_of(&sender) };
        let arrival = self.arrivals.add(sender, permit, messages.len() - from, received_ms);
        let mut flow = ControlFlow::Continue(());
        let (mut frames, mut records, mut full) = (Vec::new(), Vec::new(), None);
        let mut index = from;
        while index < messages.len() {
            let mut taken = match plain {
                Some(plain) => self.take_plain(plain, (arrival, from), &messages, &mut index),
                None => ControlFlow::Continue(()),
            };
            if taken.is_continue() && index < messages.len() {
                frames.clear();
                frames.extend(messages.frames(index));
                let incoming = Incoming {
                    arrival,
                    index: index - from,
                    frames: &frames,
                    count: frames.len(),
                    discarded: None,
                    refusal: is_late.then(|| if is_denied { ended() } else { late() }),
                    is_denied,
                    from_req,
                };
                taken = self.handle_message(config, incoming, &mut records);
                // It will come again if there is no room.
                index += usize::from(!matches!(taken, ControlFlow::Break(Halt::Full(_))));
            }
            match taken {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(Halt::Full(wait)) => {
                    full = Some((index, wait));
                    break;
                }
                // Messages that came with one that stops the route are not written either.
                ControlFlow::Break(Halt::Stopped) => {
                    (flow, is_late, plain) = (ControlFlow::Break(()), true, None);
                }
            }
        }
        drop((frames, records));
        flow?;
        let mut taken = Taken { messages: messages.len() - from, is_whole: full.is_none() };
        match full {
            Some((index, wait)) => {
                taken.messages = index + 1 - from;
                self.park(arrival, messages, index, received_ms, wait);
            }
            None => self.shared.socket.give_back(messages),
        }
        ControlFlow::Continue(taken)
    }

    /// Takes a message that was thrown away as it came.
    fn take_discarded(
        &mut self,
        config: &IngestConfig,
        arrival: ArrivalId,
        discarded: &Discarded,
        (is_denied, from_req): (bool, bool),
    ) -> ControlFlow<(), Taken> {
        let Discarded { head, frames: count, size } = discarded;
        let frames: Vec<&[u8]> = head.iter().map(|frame| &**frame).collect();
        let limit = config.socket.max_message;
        let refusal = if self.is_closing { late() } else { too_large(discarded, limit) };
        let incoming = Incoming {
            arrival,
            index: 0,
            frames: &frames,
            count: *count,
            discarded: Some(*size),
            refusal: Some(refusal),
            is_denied,
            from_req,
        };
        match self.handle_message(config, incoming, &mut Vec::new()) {
            ControlFlow::Break(_) => ControlFlow::Break(()),
            ControlFlow::Continue(()) => {
                ControlFlow::Continue(Taken { messages: 1, is_whole: true })
            }
        }
    }

    /// Takes a message. `records`: the buffer for its records.
    fn handle_message<'a>(
        &mut self,
        config: &IngestConfig,
        incoming: Incoming<'_, 'a>,
        records: &mut Vec<InboundRecord<'a>>,
    ) -> ControlFlow<Halt> {
        let is_router = self.is_router;
        let Incoming { arrival, index, frames, count, from_req, .. } = incoming;
        let size = size_of(frames);
        self.arrivals.measure(arrival, size);
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
            // An answer needs an envelope to come back by: all frames before an empty one.
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
            return self.tell();
        }
        records.clear();
        match config.frames.read(body, records) {
            Ok(()) => {
                if let Err(wait) = self.produce(config, (message, index), id, records) {
                    // It will come again.
                    self.counts.received -= 1;
                    return ControlFlow::Break(Halt::Full(wait));
                }
            }
            Err(error) => self.settle_now(message, error.into()),
        }
        if self.settled.is_empty() { ControlFlow::Continue(()) } else { self.tell() }
    }

    fn tell(&mut self) -> ControlFlow<Halt> {
        match self.tell_settled() {
            ControlFlow::Continue(()) => ControlFlow::Continue(()),
            ControlFlow::Break(()) => ControlFlow::Break(Halt::Stopped),
        }
    }

    /// Finds the partitions of a message's records, and hands them to the producer. The message
    /// comes with its number in its arrival.
    ///
    /// # Errors
    /// A partition takes no more for now. Nothing was done.
    fn produce(
        &mut self,
        config: &IngestConfig,
        message: (Message, usize),
        id: Option<&[u8]>,
        records: &[InboundRecord<'_>],
    ) -> Result<(), Wait> {
        let (mapping, known) = (&config.mapping, self.topic.as_deref());
        let failure = match records {
            // Nothing is allocated for one, nor moved.
            [record] => match &mapping.target(record, known) {
                Ok(target) => {
                    let targets = std::slice::from_ref(target);
                    return self.write(config, message, id, records, targets);
                }
                Err(error) => error.clone().into(),
            },
            records => match targets(mapping, records, known) {
                Ok(targets) => return self.write(config, message, id, records, &targets),
                Err(failure) => failure,
            },
        };
        self.settle_now(message.0, failure);
        Ok(())
    }

    /// Hands a message's records to the producer.
    ///
    /// # Errors
    /// The same as for [`Self::produce`].
    fn write(
        &mut self,
        config: &IngestConfig,
        (mut message, index): (Message, usize),
        id: Option<&[u8]>,
        records: &[InboundRecord<'_>],
        targets: &[Target<'_>],
    ) -> Result<(), Wait> {
        let mapping = &config.mapping;
        let Some(target) = targets.first() else { return Ok(()) };
        let may_write = |arrival: &Arrival| arrival.sender.may_write(&target.topic);
        if !self.arrivals.get(message.arrival).is_some_and(may_write) {
            // Answered as a topic that no route may write to.
            let error = MappingError::NotAllowed(target.topic.to_string());
            message.kept_mut().is_denied = true;
            self.settle_now(message, error.into());
            return Ok(());
        }
        let writer = match self.writer_of(message.arrival) {
            Ok(writer) => writer,
            Err(failure) => {
                self.settle_now(message, failure);
                return Ok(());
            }
        };
        let places = self.places(writer, targets)?;
        self.count_in(&places, &mut message);
        let Some(arrival) = self.arrivals.get(message.arrival) else { return Ok(()) };
        let sender = &arrival.sender;
        if self.topic.as_deref() != Some(&*target.topic) {
            self.topic = Some(Arc::from(&*target.topic));
        }
        let Some(topic) = &self.topic else { return Ok(()) };
        let stamp = if mapping.stamp { stamp(&config.name, sender, id) } else { Vec::new() };
        let received_ms = arrival.received_ms;
        let timestamp_of = |record: &InboundRecord<'_>| {
            record.timestamp.filter(|ms| *ms >= 0).unwrap_or(received_ms)
        };
        let timestamp = records.last().map_or(received_ms, timestamp_of);
        // Only an answer names it.
        let named = Some(topic).filter(|_| self.is_router);
        let (ledger, sender) = (&mut self.ledger, sender.id());
        let mut unsent = Vec::new();
        let is_alone = records.len() == 1 && !config.frames.is_batch();
        let ticket = match message {
            Message { arrival, kept: None, .. } if is_alone => {
                ledger.enter_next((arrival, index), sender, named, timestamp)
            }
            message => ledger.enter(message, sender, named.cloned(), timestamp, records.len()),
        };
        for (number, (record, target)) in records.iter().zip(targets).enumerate() {
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
            let place = places.get(number);
            if let Err(error) = self.writers.send_to(writer, place, ticket, &outbound) {
                unsent.push((place, error));
            }
        }
        for (place, error) in unsent {
            self.handle_unsent(place, ticket, error);
        }
        Ok(())
    }

    /// Takes note of a record that cannot be sent at all.
    fn handle_unsent(&mut self, place: Option<PartitionIndex>, ticket: Ticket, error: WriteError) {
        let weight = self.count_delivered(place, ticket, 1);
        if let Some(place) = place {
            self.count_out(place, weight);
            self.count_moved();
        }
        self.ledger.handle_delivery(ticket, Err(error), &mut self.settled);
    }

    /// The producer of an arrival's records.
    ///
    /// # Errors
    /// Its sender may not write, or not now.
    fn writer_of(&mut self, arrival: ArrivalId) -> Result<Writer, Failure> {
        let Self { arrivals, writers, .. } = self;
        arrivals.get(arrival).map_or(Ok(Writer::Own), |one| writers.writer_of(&one.sender))
    }

    fn settle_now(&mut self, message: Message, failure: Failure) {
        self.count_settled(message.arrival, message.size.weight);
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

/// Its sender had sent it before its rights ended.
fn ended() -> Failure {
    Failure::new(Code::NotAllowed, "its sender may not write any more")
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
