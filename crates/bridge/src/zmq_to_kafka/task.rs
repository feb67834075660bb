//! An ingest route's task: it takes messages, hands their records to the producer, and answers the
//! senders.
//!
//! A message holds its share of `in_flight_bytes` until it is settled. So the socket stops reading
//! its senders when Kafka does not keep up.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

mod dead_letters;
mod peers;
mod sharing;
mod taking;
mod telling;
mod writer;
mod writers;

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};
use zafka_kafka::Cluster;
use zafka_kafka::produce::{Delivered, Deliveries, News, PartitionIndex, Producer};
use zafka_sockets::{Grant, Inbound, InboundKind};

use super::IngestShared;
use super::arrivals::Arrivals;
use super::counts::Counts;
use super::ledger::{Ledger, Order, Settled, Told};
use super::letters::Letters;
use super::message::Message;
use super::parked::Parked;
use super::shares::Shares;
use super::wire::{Code, Failure};
use crate::principals::Principals;
use peers::Peers;
use sharing::{Part, room};
use taking::Plain;
use writer::{Event, Writer};
use writers::Writers;

/// Messages taken before deliveries get their turn.
const TURN: usize = 2_048;
/// Time for the last answers to be written.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// The place of messages that were set aside in the queue for memory.
type Turn = Pin<Box<dyn Future<Output = Grant> + Send>>;

struct Task {
    shared: Arc<IngestShared>,
    writers: Writers,
    ledger: Ledger<Message>,
    letters: Letters<Message>,
    settled: Vec<Told<Message>>,
    warned: Option<Instant>,
    since_warned: u64,
    arrivals: Arrivals,
    counts: Counts,
    shares: Shares,
    /// Bytes that were counted out of one partition, and the other one that they count in now.
    moved: Vec<(PartitionIndex, usize)>,
    /// Bytes of each sender's messages that are settled and not answered, if answers have an order.
    untold: HashMap<u64, usize>,
    /// Messages that were set aside, since their partition takes no more for now.
    parked: Parked<Part>,
    /// The number of them that kept their share of `in_flight_bytes`.
    kept: usize,
    /// The turn of the first of them that may continue.
    turn: Option<Turn>,
    /// The topic of the last record.
    topic: Option<Arc<str>>,
    /// The form of messages of which nothing but the value is needed, if they have it.
    plain: Option<Plain>,
    /// A buffer for answers.
    json: Vec<u8>,
    /// True if its senders are answered.
    is_router: bool,
    order: Order,
    /// True once nothing more is written.
    is_closing: bool,
}

/// Runs until `stop` holds a deadline, or until the route cannot continue. `names`: those in which
/// its records are written, at which cluster, if they are not the relay's own.
pub(crate) async fn run(
    shared: Arc<IngestShared>,
    producer: Producer,
    names: Option<(Arc<dyn Principals>, Cluster)>,
    mut messages: mpsc::UnboundedReceiver<Inbound>,
    mut stop: watch::Receiver<Option<Instant>>,
) {
    let is_router = shared.config.socket.kind == InboundKind::Router;
    let order = Order::of(is_router, &shared.config.frames);
    let config = &shared.config.producer;
    let peers = names.map(|(principals, cluster)| Peers::new(principals, &cluster, config));
    let mut task = Task {
        ledger: Ledger::new(order, shared.config.frames.is_batch()),
        letters: Letters::default(),
        settled: Vec::new(),
        warned: None,
        since_warned: 0,
        arrivals: Arrivals::default(),
        counts: Counts::default(),
        shares: Shares::new(shared.config.socket.in_flight_bytes),
        moved: Vec::new(),
        untold: HashMap::new(),
        parked: Parked::new(),
        kept: 0,
        turn: None,
        topic: None,
        plain: Plain::of(&shared.config),
        json: Vec::new(),
        is_router,
        order,
        is_closing: false,
        shared: Arc::clone(&shared),
        writers: Writers::new(producer, peers),
    };
    let stopped = task.relay(&mut messages, &mut stop).await;
    let deadline = stop.borrow().unwrap_or_else(Instant::now);
    if stopped.is_continue() {
        task.drain(&mut messages, deadline).await;
    }
    task.abandon();
    task.close(&mut messages).await;
    task.writers.close().await;
    info!(route = shared.config.name, "route ended");
}

impl Task {
    async fn relay(
        &mut self,
        messages: &mut mpsc::UnboundedReceiver<Inbound>,
        stop: &mut watch::Receiver<Option<Instant>>,
    ) -> ControlFlow<()> {
        loop {
            self.writers.flush();
            self.publish();
            self.queue_for_room();
            let retry_at = self.letters.poll_timeout().map(Instant::from_std);
            tokio::select! {
                biased;
                _ = stop.wait_for(Option::is_some) => return ControlFlow::Continue(()),
                event = self.writers.next() => self.handle_event(event)?,
                room = room(&mut self.turn), if self.turn.is_some() => self.handle_room(room)?,
                Some(inbound) = messages.recv() => {
                    let mut taken = self.handle_inbound(inbound)?;
                    while taken < TURN && let Ok(inbound) = messages.try_recv() {
                        taken += self.handle_inbound(inbound)?;
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
            if finished && is_settled && self.parked.is_empty() && messages.is_empty() {
                return;
            }
            self.writers.flush();
            self.queue_for_room();
            let retry_at = self.letters.poll_timeout().map(Instant::from_std);
            let flow = tokio::select! {
                // Senders that never stop must not delay the end.
                biased;
                () = sleep_until(deadline) => ControlFlow::Break(()),
                () = &mut finish, if !finished => {
                    finished = true;
                    ControlFlow::Continue(())
                }
                event = self.writers.next() => self.handle_event(event),
                room = room(&mut self.turn), if self.turn.is_some() => self.handle_room(room),
                Some(inbound) = messages.recv() => match self.handle_inbound(inbound) {
                    ControlFlow::Continue(_) => ControlFlow::Continue(()),
                    ControlFlow::Break(()) => ControlFlow::Break(()),
                },
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

    /// Answers the senders of the remaining messages that their outcome is unknown.
    fn abandon(&mut self) {
        self.is_closing = true;
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
        for told in settled {
            match told {
                Told::Message(Settled { message, outcome: Ok(place) }) => {
                    self.acknowledge(message, place);
                }
                Told::Message(Settled { message, outcome: Err(failure) }) => {
                    self.refuse(message, failure);
                }
                Told::Run(run) => match &run.outcome {
                    Ok(written) => self.acknowledge_run(&run, written, &mut BTreeMap::new()),
                    Err(failure) => {
                        for message in self.each_of(&run) {
                            self.refuse(message, failure.clone());
                        }
                    }
                },
            }
        }
        let Self { letters, arrivals, counts, .. } = self;
        for message in letters.abandon() {
            counts.unknown += 1;
            arrivals.settle(message.arrival, 1, message.size);
        }
        self.refuse_parked();
    }

    /// Writes the last answers. Messages that were read meanwhile are answered as not taken.
    async fn close(&mut self, messages: &mut mpsc::UnboundedReceiver<Inbound>) {
        let shared = Arc::clone(&self.shared);
        let close = shared.socket.close(LAST_ANSWERS);
        tokio::pin!(close);
        loop {
            self.publish();
            tokio::select! {
                biased;
                () = &mut close => return,
                Some(inbound) = messages.recv() => {
                    // The route ends in any case.
                    let _ = self.handle_inbound(inbound);
                }
            }
        }
    }

    fn handle_event(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::News(writer, News::Deliveries(deliveries)) => {
                return self.handle_deliveries(writer, deliveries);
            }
            Event::News(_, News::Anew) => self.forget_shares(),
            Event::News(writer, News::Placed(placed)) => self.move_shares(writer, placed),
            Event::Peers(event) => self.writers.handle_peers(event),
        }
        ControlFlow::Continue(())
    }

    fn handle_deliveries(&mut self, writer: Writer, mut deliveries: Deliveries) -> ControlFlow<()> {
        let (place, mut weight) = (deliveries.place(), 0);
        let place = place.map(|place| self.writers.outer(writer, place));
        self.writers.handle_settled(writer, deliveries.len());
        while let Some(delivered) = deliveries.next_run() {
            if !Letters::<Message>::is_letter(delivered.first) {
                weight += self.count_delivered(place, delivered.first, delivered.count);
                self.ledger.handle_delivered(delivered, &mut self.settled);
                continue;
            }
            // Letters alone have such tickets.
            let Delivered { first, count, outcome } = delivered;
            for ticket in first..first + count {
                self.handle_letter(ticket, outcome.clone().err());
            }
        }
        if let Some(place) = place {
            self.count_out(place, weight);
            self.count_moved();
        }
        self.tell_settled()
    }

    /// Shows the counts as they are now, and gives back the memory of settled messages.
    fn publish(&mut self) {
        self.arrivals.release();
        let in_flight = self.ledger.in_flight() + self.letters.len();
        self.counts.in_flight = in_flight as u64;
        *self.shared.counts.lock() = self.counts;
        if let Some(waits) = self.parked.poll_waits() {
            self.shared.full.lock().clone_from(waits);
        }
        self.shared.oldest.store(self.arrivals.oldest(), Ordering::Relaxed);
    }
}
