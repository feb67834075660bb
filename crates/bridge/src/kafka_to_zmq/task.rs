//! A route's task: it carries out what the route's state decides.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::info;
use zafka_kafka::{Fetched, SourceEvent, SourceReceivers};
use zafka_sockets::Publisher;

use super::action::{Action, Positions};
use super::pub_sink::PubSink;
use super::shared::RouteShared;
use super::state::RouteState;

/// The task's own.
pub(crate) struct RouteTask {
    shared: Arc<RouteShared>,
    state: RouteState<PubSink>,
    /// Positions left to be committed, once the state is done.
    last: Option<Positions>,
}

impl RouteTask {
    pub(crate) fn new(shared: Arc<RouteShared>, publisher: Publisher) -> Self {
        let sink = PubSink { publisher, shared: Arc::clone(&shared) };
        let (config, report) = (Arc::clone(&shared.config), Arc::clone(&shared.report));
        let state = RouteState::new(config, report, sink, now());
        Self { shared, state, last: None }
    }

    /// Runs until `stop` holds a deadline: then what is in the ring is sent until that moment, what
    /// was delivered is committed, and the group is left.
    pub(crate) async fn run(
        mut self,
        mut receivers: SourceReceivers,
        mut stop: watch::Receiver<Option<Instant>>,
    ) {
        self.relay(&mut receivers, &mut stop).await;
        let SourceReceivers { mut events, records } = receivers;
        // Nothing more is taken: the fetch thread ends at its wait.
        drop(records);
        let last = self.drain(&mut events).await;
        drop(events);
        self.shared.source.close(last).await;
        self.shared.socket.close().await;
        info!(route = self.shared.config.name, "route ended");
    }

    async fn relay(
        &mut self,
        receivers: &mut SourceReceivers,
        stop: &mut watch::Receiver<Option<Instant>>,
    ) {
        let SourceReceivers { events, records } = receivers;
        let shared = Arc::clone(&self.shared);
        // The Kafka side may hand out no more records; its events tell why.
        let mut records_ended = false;
        let timeout = sleep_until(Instant::now());
        tokio::pin!(timeout);
        loop {
            while let Ok(event) = events.try_recv() {
                self.state.handle_event(event, now());
            }
            self.state.handle_timeout(now());
            self.state.handle_room(now());
            self.carry_out();
            if self.state.is_draining() {
                return;
            }
            // What else is at hand goes out with it; events come first for those records too.
            if self.state.wants_records()
                && let Ok(fetched) = records.try_recv()
            {
                self.state.handle_fetched(fetched);
                continue;
            }
            self.state.end_turn();
            self.set(timeout.as_mut());
            let (room, takes_records) = (self.state.needs_room(), self.state.takes_records());
            let publisher = &self.state.sink().publisher;
            tokio::select! {
                biased;
                deadline = stopped(stop) => self.state.handle_stop(deadline),
                event = events.recv() => self.state.handle_event(or_ended(event), now()),
                () = timeout.as_mut() => {}
                () = shared.socket.demand_changed() => self.state.handle_demand(now()),
                () = next_turn(publisher, room.unwrap_or(0)), if room.is_some() => {}
                fetched = next_fetched(publisher, records), if takes_records && !records_ended => {
                    match fetched {
                        Some(fetched) => self.state.handle_fetched(fetched),
                        None => records_ended = true,
                    }
                }
            }
        }
    }

    /// Lets the peers have what is in the ring, answering the group meanwhile. Returns what is left
    /// to be committed.
    async fn drain(&mut self, events: &mut mpsc::Receiver<SourceEvent>) -> Positions {
        let shared = Arc::clone(&self.shared);
        let deadline = self.state.drains_until().map_or_else(Instant::now, Instant::from_std);
        let drained = shared.socket.drained(deadline);
        let timeout = sleep_until(Instant::now());
        tokio::pin!(drained, timeout);
        let mut is_over = false;
        while self.last.is_none() {
            self.set(timeout.as_mut());
            let mut is_drained = false;
            tokio::select! {
                complete = &mut drained, if !is_over => (is_over, is_drained) = (true, complete),
                Some(event) = events.recv() => self.state.handle_event(event, now()),
                () = timeout.as_mut() => {}
            }
            // What is told by now may say that the log no longer goes as far as what was delivered.
            while let Ok(event) = events.try_recv() {
                self.state.handle_event(event, now());
            }
            if is_drained {
                self.state.handle_drained(now());
            }
            self.state.handle_timeout(now());
            self.carry_out();
        }
        self.last.take().unwrap_or_default()
    }

    fn carry_out(&mut self) {
        let source = &self.shared.source;
        while let Some(action) = self.state.poll_action() {
            match action {
                Action::Commit(positions) => source.commit(positions),
                Action::AllowRewind(assignment) => source.allow_rewind(assignment),
                Action::Pause(assignment) => source.pause(&assignment),
                Action::Restart { assignment, known, offset } => {
                    let generation = source.restart(&assignment, known, offset);
                    self.state.handle_restarted(&assignment, generation);
                }
                Action::Release { done, positions } => done.complete(positions),
                Action::Stop(positions) => self.last = Some(positions),
            }
        }
    }

    /// Sets the timer to what the state waits for, if that is another moment.
    fn set(&self, timeout: std::pin::Pin<&mut Sleep>) {
        if let Some((due, _)) = self.state.poll_timeout()
            && timeout.deadline() != Instant::from_std(due)
        {
            timeout.reset(Instant::from_std(due));
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

async fn stopped(stop: &mut watch::Receiver<Option<Instant>>) -> std::time::Instant {
    let deadline = stop.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline);
    // A relay that is gone waits for nothing.
    deadline.unwrap_or_else(Instant::now).into_std()
}

fn or_ended(event: Option<SourceEvent>) -> SourceEvent {
    event.unwrap_or_else(|| SourceEvent::Stopped("the Kafka side ended".to_owned()))
}

/// Waits for room, and lets the peers' tasks have a turn.
async fn next_turn(publisher: &Publisher, size: usize) {
    publisher.room(size).await;
    yield_now().await;
}

/// The next fetched records, taken only while the socket would admit something.
async fn next_fetched(
    publisher: &Publisher,
    records: &mut mpsc::Receiver<Fetched>,
) -> Option<Fetched> {
    publisher.room(0).await;
    records.recv().await
}
