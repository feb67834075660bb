//! Handles the dead letters of a route's task.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::warn;
use zafka_kafka::produce::{OutboundRecord, Ticket, WriteError};

use super::Task;
use crate::zmq_to_kafka::OnError;
use crate::zmq_to_kafka::letters::{Letter, Outcome};
use crate::zmq_to_kafka::message::Message;

impl Task {
    pub(super) fn send_letter(&mut self, mut letter: Letter<Message>) {
        let shared = Arc::clone(&self.shared);
        let OnError::DeadLetter(topic) = &shared.config.on_error else { return };
        let Some(arrival) = self.arrivals.get(letter.message.arrival) else { return };
        // Ends: each turn has a smaller value.
        loop {
            let ticket = self.letters.ticket();
            let (value, whole) = letter.value(letter.message.frames());
            let received = arrival.received_ms.to_string();
            let whole = letter.message.discarded().or(whole.map(|bytes| bytes as u64));
            let whole = whole.map(|bytes| bytes.to_string());
            let header = |name, text: &str| (name, Some(text.as_bytes().to_vec()));
            let headers = [
                header("__connect.errors.connector.name", &shared.config.name),
                header("__connect.errors.exception.message", &letter.failure.message),
                header("zafka.error", letter.failure.code.name()),
                header("zafka.peer", arrival.sender.address()),
                header("zafka.timestamp", &received),
            ];
            let cut = whole.as_ref().map(|bytes| header("zafka.truncated", bytes));
            let headers: Vec<_> = headers.iter().chain(&cut).collect();
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| (*name, value.as_deref())).collect();
            let record = OutboundRecord {
                topic,
                partition: None,
                timestamp: arrival.received_ms,
                key: None,
                value: Some(&value),
                headers: &headers,
            };
            let Err(error) = self.writers.send_own(ticket, &record) else {
                self.letters.sent(ticket, letter);
                break;
            };
            let now = Instant::now().into_std();
            match self.letters.handle_error(letter, &error, value.len(), now) {
                Outcome::Cut(cut) => letter = cut,
                Outcome::Kept(reason) => {
                    self.hold(topic, &reason);
                    break;
                }
                Outcome::Written(_) => break,
            }
        }
    }

    pub(super) fn handle_letter(&mut self, ticket: Ticket, error: Option<WriteError>) {
        let shared = Arc::clone(&self.shared);
        let OnError::DeadLetter(topic) = &shared.config.on_error else { return };
        let size = |letter: &Letter<Message>| letter.value(letter.message.frames()).0.len();
        let now = Instant::now().into_std();
        match self.letters.handle_delivery(ticket, error, size, now) {
            Some(Outcome::Written(message)) => {
                self.counts.dead_lettered += 1;
                self.arrivals.settle(message.arrival, 1, message.size);
                if !self.letters.are_waiting() {
                    *self.shared.held_by.lock() = None;
                }
            }
            Some(Outcome::Cut(letter)) => self.send_letter(letter),
            Some(Outcome::Kept(reason)) => self.hold(topic, &reason),
            None => {}
        }
    }

    /// Logs and shows that dead letters wait.
    fn hold(&self, topic: &str, reason: &str) {
        let reason = format!("dead letters cannot be written to \"{topic}\": {reason}");
        if self.shared.held_by.lock().replace(reason.clone()).is_none() {
            warn!(route = self.shared.config.name, reason, "the route waits");
        }
    }

    pub(super) fn retry_letters(&mut self) {
        for letter in self.letters.due(Instant::now().into_std()) {
            self.send_letter(letter);
        }
    }
}
