//! `zafka send`: lines as messages to an endpoint, and what it answers.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

mod answer;
mod compose;
mod input;
mod latency;
mod pace;
mod report;
mod window;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};
use zafka_sockets::config::EndpointConfig;
use zafka_sockets::{Endpoint, OutboundEvent, OutboundKind, OutboundSocket, Outlet, Slot, now_ms};

use crate::cli::CommandError;
pub(crate) use answer::retry_after;
pub(crate) use compose::Composer;
pub(crate) use input::Input;
use pace::Pace;
use report::Report;
use window::{Answers, Verdict, Window, WindowLimits};

/// Bytes of messages that may be under way, before the last one.
const WINDOW_BYTES: usize = 16 << 20;
/// Bytes that are handed to the socket at a time, before the last message.
const CHUNK_BYTES: usize = 64 * 1024;
/// Events that are taken before the output is written.
const TURN: usize = 256;
/// Time for answers to what is under way, once it was asked to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// Time for a PULL to read what the kernels hold and to close the connection.
const PARTING: Duration = Duration::from_secs(5);

/// Settings of `zafka send`.
#[derive(Debug)]
pub(crate) struct SendConfig {
    /// The endpoint to connect to.
    pub(crate) endpoint: EndpointConfig,
    /// DEALER, which is answered, or PUSH.
    pub(crate) kind: OutboundKind,
    /// The lines.
    pub(crate) input: Input,
    /// Makes a message of a line.
    pub(crate) composer: Composer,
    /// Messages under way at the most.
    pub(crate) window: usize,
    /// Messages a second at the most.
    pub(crate) rate: Option<f64>,
    /// Time without an answer after which all that is under way is given up; never if `None`.
    pub(crate) patience: Option<Duration>,
}

/// Messages that are not known to have arrived.
#[derive(Debug, thiserror::Error)]
#[error("{missing} of {messages} messages were not {arrived}")]
struct Missing {
    missing: u64,
    messages: u64,
    arrived: &'static str,
}

/// Sends all lines, and waits until each is answered; from when `stop` is done only what is under
/// way.
///
/// # Errors
/// A message was not acknowledged, the input cannot be read, standard output cannot be written to,
/// or the endpoint answers something else.
pub(crate) async fn run(
    config: SendConfig,
    stop: impl Future<Output = ()>,
) -> Result<(), CommandError> {
    let mut socket = OutboundSocket::new(config.kind, config.endpoint.clone());
    let mut sending = Sending::new(config);
    let result = sending.send_all(&mut socket, stop).await;
    sending.part(&mut socket).await;
    sending.finish()?;
    result?;
    sending.missing()
}

/// Messages on their way, and what has become of them.
struct Sending {
    endpoint: Endpoint,
    answers: Answers,
    input: Input,
    /// Nothing more is read.
    has_ended: bool,
    /// Bytes of the lines that were taken, line feeds included.
    taken: u64,
    /// Lines that were read and are not under way yet.
    lines: VecDeque<Vec<u8>>,
    composer: Composer,
    pace: Pace,
    window: Window,
    /// The way into the present connection.
    outlet: Option<Outlet>,
    report: Report,
    /// The time at which messages under way are given up, once it was asked to stop.
    stop_at: Option<Instant>,
}

impl Sending {
    fn new(config: SendConfig) -> Self {
        let answers = match config.kind {
            OutboundKind::Push => Answers::None,
            OutboundKind::Dealer if config.composer.has_id() => Answers::ById,
            OutboundKind::Dealer => Answers::InOrder,
        };
        let limits = WindowLimits {
            messages: config.window,
            bytes: WINDOW_BYTES,
            patience: config.patience,
        };
        Self {
            endpoint: config.endpoint.endpoint,
            answers,
            input: config.input,
            has_ended: false,
            taken: 0,
            lines: VecDeque::new(),
            composer: config.composer,
            pace: Pace::new(config.rate),
            window: Window::new(answers, limits),
            outlet: None,
            report: Report::new(answers),
            stop_at: None,
        }
    }

    /// Runs until everything is settled, or until it cannot continue.
    async fn send_all(
        &mut self,
        socket: &mut OutboundSocket,
        stop: impl Future<Output = ()>,
    ) -> Result<(), CommandError> {
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut unreadable = None;
        tokio::pin!(stop);
        while !self.is_done() {
            let now = Instant::now();
            self.fill(now);
            let timer = self.timer(now);
            let wants_lines = !self.has_ended && self.lines.is_empty() && self.window.has_room();
            tokio::select! {
                biased;
                () = &mut stop, if self.stop_at.is_none() => self.stop(now),
                _ = tick.tick() => self.show_status(),
                event = socket.next() => {
                    self.handle_event(event)?;
                    for _ in 0..TURN {
                        let Some(event) = socket.try_next() else { break };
                        self.handle_event(event)?;
                    }
                    self.report.flush()?;
                }
                slot = slot(self.outlet.as_ref()), if self.window.wants_to_send() => match slot {
                    Some(slot) => slot.send(self.window.poll_send(CHUNK_BYTES, Instant::now())),
                    // The connection is lost; why, comes as an event.
                    None => self.window.handle_disconnected(),
                },
                batch = self.input.next(), if wants_lines => match batch {
                    Some(Ok(batch)) => self.lines.extend(batch),
                    Some(Err(error)) => (unreadable, self.has_ended) = (Some(error), true),
                    None => self.has_ended = true,
                },
                () = until(timer) => if !self.handle_timer(Instant::now()) {
                    break;
                },
            }
        }
        unreadable.map_or(Ok(()), |error| Err(error.into()))
    }

    fn is_done(&self) -> bool {
        self.has_ended && self.lines.is_empty() && self.window.under_way() == 0
    }

    /// Takes lines while there is room and the rate allows.
    fn fill(&mut self, now: Instant) {
        while self.window.has_room()
            && self.pace.due(now).is_none()
            && let Some(line) = self.lines.pop_front()
        {
            self.taken += line.len() as u64 + 1;
            let number = self.window.next_number();
            self.window.take(self.composer.compose(number, &line, now_ms()), now);
            self.pace.handle_sent(now);
        }
    }

    /// Returns the time at which something is to be done without an event.
    fn timer(&self, now: Instant) -> Option<Instant> {
        let waits = !self.lines.is_empty() && self.window.has_room();
        let pace = self.pace.due(now).filter(|_| waits);
        [self.window.poll_timeout(), pace, self.stop_at].into_iter().flatten().min()
    }

    /// Returns true if it continues.
    fn handle_timer(&mut self, now: Instant) -> bool {
        if self.window.handle_timeout(now) {
            self.report.note(&format!("{}: no answer came in time", self.endpoint));
            return false;
        }
        self.stop_at.is_none_or(|at| now < at)
    }

    /// Reads nothing more, and waits a little for what is under way.
    fn stop(&mut self, now: Instant) {
        self.lines.clear();
        self.has_ended = true;
        self.stop_at = Some(now + STOP_PATIENCE);
    }

    fn handle_event(&mut self, event: OutboundEvent) -> Result<(), CommandError> {
        let now = Instant::now();
        match event {
            OutboundEvent::Connected(outlet) => {
                self.outlet = Some(outlet);
                self.window.handle_connected();
                self.report.connected(&self.endpoint.to_string());
            }
            OutboundEvent::Disconnected(reason) => {
                self.outlet = None;
                self.window.handle_disconnected();
                self.report.note(&format!("{}: {reason}", self.endpoint));
            }
            OutboundEvent::Written => {
                let mut settled = Vec::new();
                self.window.handle_written(now, &mut settled);
                settled.iter().for_each(|settled| self.report.settled(settled));
            }
            OutboundEvent::Message(frames) => {
                let wrong = |why: String| format!("{}: {why}", self.endpoint);
                let answer = self.composer.ids().read(&frames).map_err(wrong)?;
                let told = self.window.handle_answer(answer, now);
                match told.map_err(|mismatch| wrong(mismatch.to_string()))? {
                    Verdict::Settled(settled) => self.report.settled(&settled),
                    Verdict::Later(failure) => self.report.later(&failure),
                }
            }
            OutboundEvent::Finished => {}
        }
        Ok(())
    }

    fn show_status(&mut self) {
        let size = self.input.size().filter(|size| *size > 0);
        let done = size.map(|size| self.taken as f64 / size as f64);
        self.report.show_status(self.window.counts(), self.window.under_way(), done);
    }

    /// Ends a connection to a PULL in order: without answers nothing else shows that it has read
    /// everything.
    async fn part(&mut self, socket: &mut OutboundSocket) {
        let outlet = self.outlet.take().filter(|_| self.answers == Answers::None);
        if outlet.is_none() {
            return;
        }
        drop(outlet);
        let closed = async {
            loop {
                match socket.next().await {
                    OutboundEvent::Finished => return true,
                    OutboundEvent::Disconnected(_) => return false,
                    _ => {}
                }
            }
        };
        let patience = if self.stop_at.is_some() { STOP_PATIENCE } else { PARTING };
        if !timeout(patience, closed).await.unwrap_or(false) {
            let endpoint = &self.endpoint;
            self.report.note(&format!(
                "{endpoint}: it has not closed the connection yet, and may not have read everything"
            ));
        }
    }

    /// Prints what is left, and sums up.
    fn finish(&mut self) -> Result<(), CommandError> {
        for number in self.window.unsettled() {
            self.report.unsettled(number);
        }
        Ok(self.report.finish(self.window.counts(), self.window.under_way())?)
    }

    /// An error if a message has not arrived.
    fn missing(&self) -> Result<(), CommandError> {
        let counts = self.window.counts();
        let missing = counts.taken - counts.acknowledged;
        if missing == 0 {
            return Ok(());
        }
        let arrived = self.report.arrived();
        Err(Missing { missing, messages: counts.taken, arrived }.into())
    }
}

/// Room for a chunk; `None` once the connection is lost.
async fn slot(outlet: Option<&Outlet>) -> Option<Slot> {
    match outlet {
        Some(outlet) => outlet.reserve().await,
        None => None,
    }
}

/// Waits until then; for ever without a time.
pub(crate) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        // There is nothing to be done: an event, a line or a signal ends the wait.
        None => std::future::pending().await,
    }
}
