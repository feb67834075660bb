//! Handles the messages of a route's task whose outcome is known: their senders get answers.
#![allow(clippy::disallowed_methods, reason = "a driver: it reads the clock for its warnings")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, error, warn};
use zafka_kafka::produce::Written;

use super::Task;
use crate::zmq_to_kafka::OnError;
use crate::zmq_to_kafka::ledger::{Order, Run, Settled, Told};
use crate::zmq_to_kafka::letters::Letter;
use crate::zmq_to_kafka::message::Message;
use crate::zmq_to_kafka::wire::{self, Code, Failure, Place, RecordAnswers};

/// Time between two warnings of messages that could not be written.
const QUIET: Duration = Duration::from_secs(10);

impl Task {
    pub(super) fn tell_settled(&mut self) -> ControlFlow<()> {
        let mut settled = std::mem::take(&mut self.settled);
        let mut flow = ControlFlow::Continue(());
        let mut expected = self.answers_expected(&settled);
        for told in settled.drain(..) {
            if self.order == Order::OfMessages {
                let (arrival, weight) = match &told {
                    Told::Message(Settled { message, .. }) => {
                        (message.arrival, message.size.weight)
                    }
                    Told::Run(run) => {
                        (run.arrival, self.arrivals.size(run.arrival, &run.messages).weight)
                    }
                };
                self.count_told(arrival, weight);
            }
            let told = match told {
                Told::Message(Settled { message, outcome: Ok(place) }) => {
                    self.acknowledge(message, place);
                    ControlFlow::Continue(())
                }
                Told::Message(Settled { message, outcome: Err(failure) }) => {
                    self.fail(message, failure)
                }
                Told::Run(run) => self.tell_run(run, &mut expected),
            };
            if told.is_break() {
                flow = told;
            }
        }
        self.settled = settled;
        flow
    }

    /// Counts the answers that each sender gets to runs of its messages.
    fn answers_expected(&self, settled: &[Told<Message>]) -> BTreeMap<u64, usize> {
        let mut expected = BTreeMap::new();
        if self.is_router {
            for told in settled {
                if let Told::Run(run) = told
                    && let Some(arrival) = self.arrivals.get(run.arrival)
                {
                    *expected.entry(arrival.sender.id()).or_default() += run.messages.len();
                }
            }
        }
        expected
    }

    /// Answers neighbors that were settled alike. `expected`: the answers that each sender gets.
    fn tell_run(&mut self, run: Run, expected: &mut BTreeMap<u64, usize>) -> ControlFlow<()> {
        match &run.outcome {
            Ok(written) => {
                self.acknowledge_run(&run, written, expected);
                ControlFlow::Continue(())
            }
            Err(failure) => {
                let mut flow = ControlFlow::Continue(());
                for message in self.each_of(&run) {
                    let told = self.fail(message, failure.clone());
                    if told.is_break() {
                        flow = told;
                    }
                }
                flow
            }
        }
    }

    /// Acknowledges neighbors. `expected`: the answers that each sender gets to these and to others
    /// that follow, for room at once.
    pub(super) fn acknowledge_run(
        &mut self,
        run: &Run,
        written: &Written,
        expected: &mut BTreeMap<u64, usize>,
    ) {
        self.counts.acknowledged += run.messages.len() as u64;
        if self.is_router
            && let Some(arrival) = self.arrivals.get(run.arrival)
        {
            let topic = run.topic.as_deref().unwrap_or_default();
            let mut answers = RecordAnswers::new(topic, run.timestamp, written, &mut self.json);
            let left = expected.entry(arrival.sender.id()).or_default();
            let bytes = *left * answers.size();
            *left = left.saturating_sub(run.messages.len());
            arrival.sender.answer_all(bytes, |out| {
                for _ in run.messages.clone() {
                    out.put_framed(answers.next_message());
                }
            });
        }
        let size = self.arrivals.size(run.arrival, &run.messages);
        self.arrivals.settle(run.arrival, run.messages.len(), size);
    }

    /// Returns the messages of a run, each by itself.
    pub(super) fn each_of(&self, run: &Run) -> Vec<Message> {
        let message = |index| Message {
            arrival: run.arrival,
            size: self.arrivals.size(run.arrival, &(index..index + 1)),
            kept: None,
        };
        run.messages.clone().map(message).collect()
    }

    pub(super) fn acknowledge(&mut self, message: Message, place: Place) {
        self.counts.acknowledged += 1;
        self.answer(&message, &Ok(place));
    }

    /// Handles a message that is not written as its route is configured.
    fn fail(&mut self, message: Message, failure: Failure) -> ControlFlow<()> {
        if let Some(arrival) = self.arrivals.get(message.arrival) {
            arrival.sender.count_failed();
        }
        // There is no time for anything else when the relay ends.
        if self.is_router || failure.code == Code::ShuttingDown {
            self.refuse(message, failure);
            return ControlFlow::Continue(());
        }
        self.warn_of(&message, &failure);
        if message.is_denied() {
            self.refuse(message, failure);
            return ControlFlow::Continue(());
        }
        match &self.shared.config.on_error {
            OnError::Skip => self.refuse(message, failure),
            OnError::DeadLetter(_) => self.send_letter(Letter::new(message, failure)),
            OnError::Stop => {
                let peer = self.peer(&message);
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
    pub(super) fn refuse(&mut self, message: Message, failure: Failure) {
        let counts = &mut self.counts;
        *match failure.code {
            Code::TimeoutUnknown => &mut counts.unknown,
            _ if self.is_router => &mut counts.refused,
            _ => &mut counts.skipped,
        } += 1;
        debug!(
            route = self.shared.config.name,
            peer = self.peer(&message),
            code = failure.code.name(),
            reason = failure.message,
            "message refused"
        );
        self.answer(&message, &Err(failure));
    }

    /// Answers the sender of a settled message, if it gets answers.
    fn answer(&mut self, message: &Message, outcome: &Result<Place, Failure>) {
        if self.is_router
            && let Some(arrival) = self.arrivals.get(message.arrival)
        {
            let mut frames: Vec<&[u8]> = message.reply().collect();
            wire::answer(outcome, &mut self.json, &mut frames);
            arrival.sender.answer(frames.into_iter());
        }
        self.arrivals.settle(message.arrival, 1, message.size);
    }

    /// Its sender's address.
    fn peer(&self, message: &Message) -> &str {
        self.arrivals.get(message.arrival).map_or("", |arrival| arrival.sender.address())
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
            peer = self.peer(message),
            code = failure.code.name(),
            reason = failure.message,
            since_last_warning,
            "a message cannot be written"
        );
    }
}
