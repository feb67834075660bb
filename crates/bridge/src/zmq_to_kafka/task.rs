//! An ingest route's task: it takes messages, hands their records to the producer, and tells the
//! senders.
//!
//! A message holds its share of `in_flight_bytes` until it is settled. So the socket stops reading
//! its senders when Kafka does not keep up.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

mod dead_letters;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};
use zafka_envelope::InboundRecord;
use zafka_kafka::produce::{Deliveries, Delivery, OutboundRecord, Producer};
use zafka_sockets::{Content, Inbound, InboundKind};
use zafka_zmtp::{Discarded, SocketType};

use super::ages::Ages;
use super::counts::Counts;
use super::ledger::{Ledger, Order, Settled};
use super::letters::{Letter, Letters};
use super::mapping::{Mapping, MappingError, Target};
use super::message::{Message, now_ms, stamp};
use super::wire::{self, Code, Failure, Parted};
use super::{IngestShared, OnError};

/// Messages taken before deliveries get their turn.
const TURN: usize = 256;
/// Time for the last answers to be written.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Time between two warnings of messages that could not be written.
const QUIET: Duration = Duration::from_secs(10);
/// Records of one message at the most: a batch of empty ones would take much more memory than its
/// bytes. What a zafka sends has fewer.
const MAX_RECORDS: usize = 10_000;

struct Task {
    shared: Arc<IngestShared>,
    producer: Producer,
    ledger: Ledger<Message>,
    letters: Letters<Message>,
    settled: Vec<Settled<Message>>,
    warned: Option<Instant>,
    since_warned: u64,
    ages: Ages,
    counts: Counts,
    /// Its senders are answered.
    is_router: bool,
}

/// Runs until `stop` holds a deadline, or until the route cannot go on.
pub(crate) async fn run(
    shared: Arc<IngestShared>,
    producer: Producer,
    mut messages: mpsc::UnboundedReceiver<Inbound>,
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
        letters: Letters::default(),
        settled: Vec::new(),
        warned: None,
        since_warned: 0,
        ages: Ages::default(),
        counts: Counts::default(),
        is_router,
        shared: Arc::clone(&shared),
        producer,
    };
    let stopped = task.relay(&mut messages, &mut stop).await;
    let deadline = stop.borrow().unwrap_or_else(Instant::now);
    if stopped.is_continue() {
        task.drain(&mut messages, deadline).await;
    }
    task.abandon();
    task.close(&mut messages).await;
    task.producer.close().await;
    info!(route = shared.config.name, "route ended");
}

impl Task {
    async fn relay(
        &mut self,
        messages: &mut mpsc::UnboundedReceiver<Inbound>,
        stop: &mut watch::Receiver<Option<Instant>>,
    ) -> ControlFlow<()> {
        loop {
            self.producer.flush();
            self.publish();
            let retry_at = self.letters.poll_timeout().map(Instant::from_std);
            tokio::select! {
                biased;
                _ = stop.wait_for(Option::is_some) => return ControlFlow::Continue(()),
                deliveries = self.producer.next() => self.handle_deliveries(deliveries)?,
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

    /// Takes what senders still have under way, and waits until all of it is settled.
    async fn drain(&mut self, messages: &mut mpsc::UnboundedReceiver<Inbound>, deadline: Instant) {
        let shared = Arc::clone(&self.shared);
        let finish = shared.socket.finish(deadline);
        tokio::pin!(finish);
        let mut finished = false;
        loop {
            self.publish();
            let is_settled = self.ledger.in_flight() == 0 && self.letters.len() == 0;
            if finished && is_settled && messages.is_empty() {
                return;
            }
            self.producer.flush();
            let retry_at = self.letters.poll_timeout().map(Instant::from_std);
            let flow = tokio::select! {
                // Senders that go on sending must not keep this from their end.
                biased;
                () = sleep_until(deadline) => ControlFlow::Break(()),
                () = &mut finish, if !finished => {
                    finished = true;
                    ControlFlow::Continue(())
                }
                deliveries = self.producer.next() => self.handle_deliveries(deliveries),
                Some(message) = messages.recv() => self.handle_message(message),
                () = sleep_until(retry_at.unwrap_or_else(Instant::now)), if retry_at.is_some() => {
                    self.retry_letters();
                    ControlFlow::Continue(())
                }
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
        for message in self.letters.abandon() {
            self.counts.unknown += 1;
            self.ages.remove(message.received_ms);
        }
    }

    /// Writes the last answers. What had been read meanwhile is told that it was not taken.
    async fn close(&mut self, messages: &mut mpsc::UnboundedReceiver<Inbound>) {
        let shared = Arc::clone(&self.shared);
        let close = shared.socket.close(LAST_ANSWERS);
        tokio::pin!(close);
        loop {
            self.publish();
            tokio::select! {
                biased;
                () = &mut close => return,
                Some(Inbound { sender, content, permit }) = messages.recv() => {
                    let content = match content {
                        Content::Message(frames) => Content::Late(frames),
                        content => content,
                    };
                    // The route ends in any case.
                    let _ = self.handle_message(Inbound { sender, content, permit });
                }
            }
        }
    }

    fn handle_message(&mut self, inbound: Inbound) -> ControlFlow<()> {
        let Inbound { sender, content, permit } = inbound;
        let shared = Arc::clone(&self.shared);
        let (config, is_router) = (&shared.config, self.is_router);
        let refusal = match &content {
            Content::Message(_) => None,
            Content::Late(_) => Some(late()),
            Content::TooLarge(discarded) => Some(too_large(discarded, config.socket.max_message)),
        };
        // Of one that was thrown away those that are needed to answer it.
        let (frames, count, discarded) = match content {
            Content::TooLarge(Discarded { head, frames, size }) => (head, frames, Some(size)),
            Content::Message(frames) | Content::Late(frames) => {
                let count = frames.len();
                (frames, count, None)
            }
        };
        if !is_router && wire::is_command(&frames) {
            // It may hold a token: never a record, a dead letter or a log line.
            self.counts.received += 1;
            self.counts.skipped += 1;
            return ControlFlow::Continue(());
        }
        let from_req = sender.socket_type() == Some(SocketType::Req);
        let parted = if is_router {
            wire::part(&frames, count, config.frames.frames(), from_req)
        } else {
            Parted::Message { envelope: 0 }
        };
        if let Parted::Command { envelope } = parted {
            let answer = wire::refuse_command(&frames[..envelope], frames.get(envelope + 1));
            sender.answer(answer.iter().map(|frame| &**frame));
            return ControlFlow::Continue(());
        }
        let misfit = || {
            let expected = config.frames.frames();
            let reason = match (count == expected, from_req) {
                (true, true) => "a REQ's message has an empty frame before it".to_owned(),
                _ => format!("{count} frames where {expected} are expected"),
            };
            Failure::new(Code::BadMessage, reason)
        };
        let refusal = refusal.or_else(|| (parted == Parted::Neither).then(misfit));
        let received_ms = now_ms();
        self.counts.received += 1;
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
        let keeps_frames = matches!(config.on_error, OnError::DeadLetter(_));
        let is_denied = !sender.may_write_something();
        let message = Message {
            sender,
            envelope: envelope.to_vec(),
            id,
            frames: if keeps_frames { body.to_vec() } else { Vec::new() },
            discarded,
            received_ms,
            is_denied,
            permit,
        };
        if let Some(failure) = refusal {
            self.settle_now(message, failure);
            return self.tell_settled();
        }
        let mut records = Vec::new();
        match config.frames.read(&views, &mut records) {
            Ok(()) => self.produce(message, &records),
            Err(error) => {
                self.settle_now(message, Failure::new(Code::BadMessage, error.to_string()))
            }
        }
        self.tell_settled()
    }

    /// Hands a message's records to the producer.
    fn produce(&mut self, mut message: Message, records: &[InboundRecord<'_>]) {
        let shared = Arc::clone(&self.shared);
        let mapping = &shared.config.mapping;
        let (targets, topic) = match targets(mapping, records) {
            Ok(targets) => targets,
            Err(failure) => return self.settle_now(message, failure),
        };
        let may_write = |target: &&Target| message.sender.may_write(&target.topic);
        if let Some(target) = targets.iter().find(|target| !may_write(target)) {
            // Answered as a topic that no route may write to.
            let error = MappingError::NotAllowed(target.topic.clone());
            message.is_denied = true;
            return self.settle_now(message, error.into());
        }
        let stamp = if mapping.stamp { stamp(&shared.config.name, &message) } else { Vec::new() };
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
    }

    fn settle_now(&mut self, message: Message, failure: Failure) {
        let sender = message.sender.id();
        self.ledger.settle_now(message, sender, failure, &mut self.settled);
    }

    fn handle_deliveries(&mut self, deliveries: Deliveries) -> ControlFlow<()> {
        for Delivery { ticket, outcome } in deliveries {
            if Letters::<Message>::is_letter(ticket) {
                self.handle_letter(ticket, outcome.err());
            } else {
                self.ledger.handle_delivery(ticket, outcome, &mut self.settled);
            }
        }
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
        flow
    }

    fn acknowledge(&mut self, message: Message, outcome: Result<wire::Place, Failure>) {
        self.counts.acknowledged += 1;
        self.ages.remove(message.received_ms);
        self.answer(message, &outcome);
    }

    /// Does with a message that is not written what its route says.
    fn fail(&mut self, message: Message, failure: Failure) -> ControlFlow<()> {
        // There is no time for anything else when the relay ends.
        if self.is_router || failure.code == Code::ShuttingDown {
            self.refuse(message, failure);
            return ControlFlow::Continue(());
        }
        self.warn_of(&message, &failure);
        if message.is_denied {
            self.refuse(message, failure);
            return ControlFlow::Continue(());
        }
        match &self.shared.config.on_error {
            OnError::Skip => self.refuse(message, failure),
            OnError::DeadLetter(_) => self.send_letter(Letter::new(message, failure)),
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
        let counts = &mut self.counts;
        *match failure.code {
            Code::TimeoutUnknown => &mut counts.unknown,
            _ if self.is_router => &mut counts.refused,
            _ => &mut counts.skipped,
        } += 1;
        debug!(
            route = self.shared.config.name,
            peer = message.sender.address(),
            code = failure.code.name(),
            reason = failure.message,
            "message refused"
        );
        self.ages.remove(message.received_ms);
        self.answer(message, &Err(failure));
    }

    fn answer(&self, message: Message, outcome: &Result<wire::Place, Failure>) {
        let Message { sender, envelope, id, permit, .. } = message;
        // First: a sender that is being let go has nothing under way once it is answered.
        drop(permit);
        if self.is_router {
            let frames = wire::answer(&envelope, id.as_ref(), outcome);
            sender.answer(frames.iter().map(|frame| &**frame));
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

    /// Shows the counts as they are now.
    fn publish(&mut self) {
        let in_flight = self.ledger.in_flight() + self.letters.len();
        self.counts.in_flight = in_flight as u64;
        *self.shared.counts.lock() = self.counts;
        self.shared.oldest.store(self.ages.oldest(), Ordering::Relaxed);
    }
}

fn late() -> Failure {
    Failure::new(Code::ShuttingDown, "the relay ends")
}

fn too_large(discarded: &Discarded, limit: usize) -> Failure {
    let size = discarded.size;
    let reason = format!("a message of {size} bytes is over the limit of {limit} (max_message)");
    Failure::new(Code::TooLarge, reason)
}

/// Where the records of a message go, all of them to one topic.
fn targets(
    mapping: &Mapping,
    records: &[InboundRecord<'_>],
) -> Result<(Vec<Target>, String), Failure> {
    if records.len() > MAX_RECORDS {
        let found = format!("{} records in one message; at most {MAX_RECORDS}", records.len());
        return Err(Failure::new(Code::TooLarge, found));
    }
    let targets = records.iter().map(|record| mapping.target(record));
    let targets: Vec<_> = targets.collect::<Result<_, _>>()?;
    let bad = |reason: String| Failure::new(Code::BadMessage, reason);
    let Some(first) = targets.first() else {
        return Err(bad("a message without records".to_owned()));
    };
    if let Some(other) = targets.iter().find(|target| target.topic != first.topic) {
        let (one, other) = (&first.topic, &other.topic);
        return Err(bad(format!("its records are for several topics, \"{one}\" and \"{other}\"")));
    }
    let topic = first.topic.clone();
    Ok((targets, topic))
}
