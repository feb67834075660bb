//! An ingest route's task: it takes messages, hands their records to the producer, and tells the
//! senders.
//!
//! A message holds its share of `in_flight_bytes` until it is settled. So the socket stops reading
//! its senders when Kafka does not keep up.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};
use zafka_envelope::InboundRecord;
use zafka_kafka::produce::{Delivery, OutboundRecord, Producer, Ticket, WriteError};
use zafka_sockets::{Inbound, InboundKind, Permit, Sender};
use zafka_zmtp::SocketType;

use super::ages::Ages;
use super::ledger::{Ledger, Order, Settled};
use super::wire::{self, Code, Failure, Parted};
use super::{IngestShared, OnError};

/// Messages taken before deliveries get their turn.
const TURN: usize = 256;
/// Time until a dead letter that could not be written is sent again.
const DEAD_LETTER_RETRY: Duration = Duration::from_secs(1);
/// Time for the last answers to be written.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Time between two warnings of messages that could not be written.
const QUIET: Duration = Duration::from_secs(10);
/// Tickets from here on are of dead letters.
const DEAD_LETTERS: Ticket = Ticket::MAX / 2;

/// A message under way, with what its sender is to be told by.
#[derive(Debug)]
struct Message {
    sender: Arc<Sender>,
    envelope: Vec<Bytes>,
    id: Option<Bytes>,
    /// Its frames without the envelope, kept if it may become a dead letter.
    frames: Vec<Bytes>,
    received_ms: i64,
    _permit: Permit,
}

/// A dead letter that has to be written.
#[derive(Debug)]
struct DeadLetter {
    message: Message,
    failure: Failure,
}

struct Task {
    shared: Arc<IngestShared>,
    producer: Producer,
    ledger: Ledger<Message>,
    /// Dead letters under way by their ticket, and those that wait for another try.
    letters: HashMap<Ticket, DeadLetter>,
    next_letter: Ticket,
    retry: VecDeque<DeadLetter>,
    retry_at: Option<Instant>,
    settled: Vec<Settled<Message>>,
    warned: Option<Instant>,
    since_warned: u64,
    ages: Ages,
}

/// Runs until `stop` holds a deadline, or until the route cannot go on.
pub(crate) async fn run(
    shared: Arc<IngestShared>,
    producer: Producer,
    mut messages: mpsc::UnboundedReceiver<Inbound>,
    mut deliveries: mpsc::UnboundedReceiver<Delivery>,
    mut stop: watch::Receiver<Option<Instant>>,
) {
    let is_router = shared.config.socket.kind == InboundKind::Router;
    let order = if is_router && !shared.config.frames.has_id() {
        Order::OfMessages
    } else {
        Order::AsSettled
    };
    let mut task = Task {
        ledger: Ledger::new(order, shared.config.frames.is_batch()),
        letters: HashMap::new(),
        next_letter: DEAD_LETTERS,
        retry: VecDeque::new(),
        retry_at: None,
        settled: Vec::new(),
        warned: None,
        since_warned: 0,
        ages: Ages::default(),
        shared: Arc::clone(&shared),
        producer,
    };
    let stopped = task.relay(&mut messages, &mut deliveries, &mut stop).await;
    let deadline = stop.borrow().unwrap_or_else(Instant::now);
    if stopped.is_continue() {
        task.drain(&mut messages, &mut deliveries, deadline).await;
    }
    task.abandon();
    shared.socket.close(LAST_ANSWERS).await;
    task.producer.close().await;
    info!(route = shared.config.name, "route ended");
}

impl Task {
    async fn relay(
        &mut self,
        messages: &mut mpsc::UnboundedReceiver<Inbound>,
        deliveries: &mut mpsc::UnboundedReceiver<Delivery>,
        stop: &mut watch::Receiver<Option<Instant>>,
    ) -> ControlFlow<()> {
        loop {
            let retry_at = self.retry_at;
            tokio::select! {
                biased;
                _ = stop.wait_for(Option::is_some) => return ControlFlow::Continue(()),
                Some(delivery) = deliveries.recv() => {
                    self.handle_delivery(delivery)?;
                    self.handle_deliveries_at_hand(deliveries)?;
                }
                Some(message) = messages.recv() => {
                    self.handle_message(message)?;
                    for _ in 0..TURN {
                        let Ok(message) = messages.try_recv() else { break };
                        self.handle_message(message)?;
                    }
                }
                () = sleep_until(retry_at.unwrap_or_else(Instant::now)), if retry_at.is_some() => {
                    self.retry_letters();
                }
            }
        }
    }

    fn handle_deliveries_at_hand(
        &mut self,
        deliveries: &mut mpsc::UnboundedReceiver<Delivery>,
    ) -> ControlFlow<()> {
        while let Ok(delivery) = deliveries.try_recv() {
            self.handle_delivery(delivery)?;
        }
        ControlFlow::Continue(())
    }

    /// Takes what senders still have under way, and waits until all of it is settled.
    async fn drain(
        &mut self,
        messages: &mut mpsc::UnboundedReceiver<Inbound>,
        deliveries: &mut mpsc::UnboundedReceiver<Delivery>,
        deadline: Instant,
    ) {
        let shared = Arc::clone(&self.shared);
        let finish = shared.socket.finish(deadline);
        tokio::pin!(finish);
        let mut finished = false;
        loop {
            let is_settled =
                self.ledger.in_flight() == 0 && self.letters.is_empty() && self.retry.is_empty();
            if finished && is_settled && messages.is_empty() {
                return;
            }
            let retry_at = self.retry_at;
            let flow = tokio::select! {
                biased;
                Some(delivery) = deliveries.recv() => self.handle_delivery(delivery),
                Some(message) = messages.recv() => self.handle_message(message),
                () = &mut finish, if !finished => {
                    finished = true;
                    ControlFlow::Continue(())
                }
                () = sleep_until(retry_at.unwrap_or_else(Instant::now)), if retry_at.is_some() => {
                    self.retry_letters();
                    ControlFlow::Continue(())
                }
                () = sleep_until(deadline) => ControlFlow::Break(()),
            };
            if flow.is_break() {
                return;
            }
        }
    }

    /// Tells the senders of what is left that nobody knows what became of it.
    fn abandon(&mut self) {
        let failure =
            Failure::new(Code::TimeoutUnknown, "the relay ended before the cluster had answered");
        let left = self.ledger.in_flight();
        if left > 0 {
            warn!(
                route = self.shared.config.name,
                messages = left,
                "messages are left whose outcome is unknown"
            );
        }
        let mut settled = Vec::new();
        self.ledger.abandon(&failure, &mut settled);
        for Settled { message, outcome } in settled {
            match outcome {
                Ok(place) => self.acknowledge(message, Ok(place)),
                Err(failure) => self.refuse(message, failure),
            }
        }
        for letter in self.letters.drain().map(|(_, letter)| letter).chain(self.retry.drain(..)) {
            self.shared.counts.unknown.fetch_add(1, Ordering::AcqRel);
            self.ages.remove(letter.message.received_ms);
        }
        self.publish_ages();
    }

    fn handle_message(&mut self, inbound: Inbound) -> ControlFlow<()> {
        let Inbound { sender, frames, permit } = inbound;
        let config = &self.shared.config;
        let is_router = config.socket.kind == InboundKind::Router;
        let expected = config.frames.frames();
        let from_req = sender.socket_type() == Some(SocketType::Req);
        let parted = if is_router {
            wire::part(&frames, expected, from_req)
        } else {
            Parted::Message { envelope: 0 }
        };
        if let Parted::Command { envelope } = parted {
            let answer = wire::refuse_command(&frames[..envelope], frames.get(envelope + 1));
            sender.answer(answer.iter().map(|frame| &**frame));
            return ControlFlow::Continue(());
        }
        let received_ms = now_ms();
        self.shared.counts.received.fetch_add(1, Ordering::AcqRel);
        self.ages.add(received_ms);
        let (envelope, body) = match parted {
            Parted::Message { envelope } => frames.split_at(envelope),
            // An answer needs an envelope to come back by: all that stands before an empty frame.
            _ => frames.split_at(
                frames.iter().position(|frame| frame.is_empty()).map_or(0, |empty| empty + 1),
            ),
        };
        let views: Vec<&[u8]> = body.iter().map(|frame| &**frame).collect();
        let id = config.frames.id(&views).map(|_| body[0].clone());
        let message = Message {
            sender,
            envelope: envelope.to_vec(),
            id,
            frames: if matches!(config.on_error, OnError::DeadLetter(_)) {
                body.to_vec()
            } else {
                Vec::new()
            },
            received_ms,
            _permit: permit,
        };
        let shared = Arc::clone(&self.shared);
        let mut records = Vec::new();
        match shared.config.frames.read(&views, &mut records) {
            Ok(()) => self.produce(message, &records),
            Err(error) => {
                self.settle_now(message, Failure::new(Code::BadMessage, error.to_string()))
            }
        }
        self.tell_settled()
    }

    /// Hands a message's records to the producer.
    fn produce(&mut self, message: Message, records: &[InboundRecord<'_>]) {
        let shared = Arc::clone(&self.shared);
        let mapping = &shared.config.mapping;
        let targets: Result<Vec<_>, _> =
            records.iter().map(|record| mapping.target(record)).collect();
        let targets = match targets {
            Ok(targets) => targets,
            Err(error) => return self.settle_now(message, error.into()),
        };
        let Some(topic) = targets.first().map(|target| target.topic.clone()) else {
            return self
                .settle_now(message, Failure::new(Code::BadMessage, "a message without records"));
        };
        let stamp = if mapping.stamp { stamp(&shared, &message) } else { Vec::new() };
        let received_ms = message.received_ms;
        let sender = message.sender.id();
        let timestamp_of = |record: &InboundRecord<'_>| {
            record.timestamp.filter(|ms| *ms >= 0).unwrap_or(received_ms)
        };
        let timestamp = records.last().map_or(received_ms, timestamp_of);
        let first = self.ledger.enter(message, sender, topic, timestamp, records.len());
        for (index, (record, target)) in records.iter().zip(&targets).enumerate() {
            let added = mapping.added_headers(record);
            // Names were checked to be UTF-8.
            let own = record.headers.iter().filter_map(|header| {
                Some((std::str::from_utf8(&header.name).ok()?, header.value.as_deref()))
            });
            let added =
                added.iter().chain(&stamp).map(|(name, value)| (name.as_str(), value.as_deref()));
            let headers: Vec<_> = own.chain(added).collect();
            let outbound = OutboundRecord {
                topic: &target.topic,
                partition: target.partition,
                timestamp: timestamp_of(record),
                key: target.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
            };
            if let Err(error) = self.producer.send(first + index, &outbound) {
                self.ledger.handle_delivery(first + index, Err(error), &mut self.settled);
            }
        }
        self.publish_in_flight();
    }

    fn settle_now(&mut self, message: Message, failure: Failure) {
        let sender = message.sender.id();
        self.ledger.settle_now(message, sender, failure, &mut self.settled);
    }

    fn handle_delivery(&mut self, delivery: Delivery) -> ControlFlow<()> {
        if delivery.ticket >= DEAD_LETTERS {
            self.handle_letter(delivery.ticket, delivery.outcome.err());
            return ControlFlow::Continue(());
        }
        self.ledger.handle_delivery(delivery.ticket, delivery.outcome, &mut self.settled);
        self.tell_settled()
    }

    fn tell_settled(&mut self) -> ControlFlow<()> {
        let mut settled = std::mem::take(&mut self.settled);
        let mut flow = ControlFlow::Continue(());
        for Settled { message, outcome } in settled.drain(..) {
            let told = match outcome {
                Ok(place) => {
                    self.acknowledge(message, Ok(place));
                    ControlFlow::Continue(())
                }
                Err(failure) => self.fail(message, failure),
            };
            if told.is_break() {
                flow = told;
            }
        }
        self.settled = settled;
        self.publish_in_flight();
        flow
    }

    fn acknowledge(&mut self, message: Message, outcome: Result<wire::Place, Failure>) {
        self.shared.counts.acknowledged.fetch_add(1, Ordering::AcqRel);
        self.answer(&message, &outcome);
        self.ages.remove(message.received_ms);
    }

    /// Does with a message that is not written what its route says.
    fn fail(&mut self, message: Message, failure: Failure) -> ControlFlow<()> {
        if self.shared.config.socket.kind == InboundKind::Router {
            self.refuse(message, failure);
            return ControlFlow::Continue(());
        }
        self.warn_of(&message, &failure);
        match &self.shared.config.on_error {
            OnError::Skip => self.refuse(message, failure),
            OnError::DeadLetter(_) => self.send_letter(DeadLetter { message, failure }),
            OnError::Stop => {
                let peer = message.sender.address();
                let reason = format!("a message of {peer} cannot be written: {}", failure.message);
                error!(route = self.shared.config.name, reason, "route stopped");
                *self.shared.stopped.lock() = Some(reason);
                self.refuse(message, failure);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// Counts a message that is not written, and answers it if its sender gets answers.
    fn refuse(&mut self, message: Message, failure: Failure) {
        let counts = &self.shared.counts;
        let is_router = self.shared.config.socket.kind == InboundKind::Router;
        let counter = match failure.code {
            Code::TimeoutUnknown => &counts.unknown,
            _ if is_router => &counts.refused,
            _ => &counts.skipped,
        };
        counter.fetch_add(1, Ordering::AcqRel);
        debug!(
            route = self.shared.config.name,
            peer = message.sender.address(),
            code = failure.code.name(),
            reason = failure.message,
            "message refused"
        );
        self.answer(&message, &Err(failure));
        self.ages.remove(message.received_ms);
    }

    fn answer(&self, message: &Message, outcome: &Result<wire::Place, Failure>) {
        if self.shared.config.socket.kind == InboundKind::Router {
            let frames = wire::answer(&message.envelope, message.id.as_ref(), outcome);
            message.sender.answer(frames.iter().map(|frame| &**frame));
        }
    }

    fn warn_of(&mut self, message: &Message, failure: &Failure) {
        let now = Instant::now();
        if self.warned.is_some_and(|warned| now.duration_since(warned) < QUIET) {
            self.since_warned += 1;
            return;
        }
        self.warned = Some(now);
        let since_last_warning = std::mem::take(&mut self.since_warned);
        warn!(
            route = self.shared.config.name,
            peer = message.sender.address(),
            code = failure.code.name(),
            reason = failure.message,
            since_last_warning,
            "a message cannot be written"
        );
    }

    fn send_letter(&mut self, letter: DeadLetter) {
        let shared = Arc::clone(&self.shared);
        let OnError::DeadLetter(topic) = &shared.config.on_error else { return };
        let ticket = self.next_letter;
        self.next_letter = self.next_letter.checked_add(1).unwrap_or(DEAD_LETTERS);
        let value = letter_value(&letter.message.frames);
        let peer = letter.message.sender.address().to_owned();
        let received = letter.message.received_ms.to_string();
        let headers = [
            ("__connect.errors.connector.name", Some(shared.config.name.as_bytes())),
            ("__connect.errors.exception.message", Some(letter.failure.message.as_bytes())),
            ("zafka.error", Some(letter.failure.code.name().as_bytes())),
            ("zafka.peer", Some(peer.as_bytes())),
            ("zafka.timestamp", Some(received.as_bytes())),
        ];
        let record = OutboundRecord {
            topic,
            partition: None,
            timestamp: letter.message.received_ms,
            key: None,
            value: Some(&value),
            headers: &headers,
        };
        match self.producer.send(ticket, &record) {
            Ok(()) => {
                self.letters.insert(ticket, letter);
            }
            Err(error) => self.keep_letter(letter, &error),
        }
        self.publish_in_flight();
    }

    fn handle_letter(&mut self, ticket: Ticket, error: Option<WriteError>) {
        let Some(letter) = self.letters.remove(&ticket) else { return };
        match error {
            None => {
                self.shared.counts.dead_lettered.fetch_add(1, Ordering::AcqRel);
                self.ages.remove(letter.message.received_ms);
                if self.retry.is_empty() {
                    *self.shared.held_by.lock() = None;
                }
            }
            Some(error) => self.keep_letter(letter, &error),
        }
        self.publish_in_flight();
    }

    /// Keeps a dead letter for another try: nothing is dropped because its topic is away.
    fn keep_letter(&mut self, letter: DeadLetter, error: &WriteError) {
        let OnError::DeadLetter(topic) = &self.shared.config.on_error else { return };
        let reason = format!("dead letters cannot be written to \"{topic}\": {error}");
        if self.shared.held_by.lock().replace(reason.clone()).is_none() {
            warn!(route = self.shared.config.name, reason, "the route waits");
        }
        self.retry.push_back(letter);
        self.retry_at.get_or_insert_with(|| Instant::now() + DEAD_LETTER_RETRY);
    }

    fn retry_letters(&mut self) {
        self.retry_at = None;
        for letter in std::mem::take(&mut self.retry) {
            self.send_letter(letter);
        }
    }

    fn publish_in_flight(&self) {
        let in_flight = self.ledger.in_flight() + self.letters.len() + self.retry.len();
        self.shared.in_flight.store(in_flight, Ordering::Release);
        self.publish_ages();
    }

    fn publish_ages(&self) {
        self.shared.oldest.store(self.ages.oldest(), Ordering::Relaxed);
    }
}

/// The headers that tell where a record came from.
fn stamp(shared: &IngestShared, message: &Message) -> Vec<(String, Option<Vec<u8>>)> {
    let header = |name: &str, value: Vec<u8>| (name.to_owned(), Some(value));
    let sender = &message.sender;
    let mut headers = vec![
        header("zafka.route", shared.config.name.clone().into_bytes()),
        header("zafka.peer", sender.address().as_bytes().to_vec()),
        header("zafka.connection", format!("{:016x}", sender.token()).into_bytes()),
        header("zafka.sequence", sender.next_sequence().to_string().into_bytes()),
    ];
    headers.extend(message.id.as_ref().map(|id| header("zafka.id", id.to_vec())));
    headers
}

/// The frames of a message in one value: u32le count, then u32le length and bytes of each.
fn letter_value(frames: &[Bytes]) -> Vec<u8> {
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes();
    let mut value = size(frames.len()).to_vec();
    for frame in frames {
        value.extend_from_slice(&size(frame.len()));
        value.extend_from_slice(frame);
    }
    value
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
