//! Fetch requests of our own. librdkafka has the partitions in its assignment, paused, so that the
//! membership is its business and the fetching is ours.
//!
//! One task dispatches: it knows who leads what and sends each partition to the task of its broker;
//! those fetch and hand out. A partition is with one task at a time, so its records stay in order.

mod broker;
mod budget;
mod dispatcher;
mod metadata;
mod position;
mod share;
mod sizes;
#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::assignment::Assignment;
use crate::client::{Client, plain};
use crate::config::{ClusterConfig, SourceConfig};
use crate::connection::Connector;
use crate::fetcher::{Corrupt, Outlet};
use crate::generation::Generation;
use crate::guard;
use crate::membership::Command;
use crate::report::Reporter;
use crate::status::Board;
use budget::Budget;
pub(super) use budget::Hold;
use dispatcher::Dispatcher;
use position::{Position, Why};
use share::Terms;

/// Bytes of answers that are held at once, over all brokers.
const HELD_BYTES: usize = 8 << 20;
/// The largest answer that is believed; a record is at most about this large.
const ANSWER_LIMIT: usize = 512 << 20;

/// What the dispatcher is told. As many wait as there are partitions.
#[derive(Debug)]
enum Order {
    /// Fetch these from their positions.
    Take(Vec<Position>),
    /// Begin this generation, in place of the one before.
    Seek(Arc<Assignment>, Generation),
    /// Fetch these no more.
    Release(Vec<Arc<Assignment>>),
}

/// What the dispatcher hears from the brokers' tasks.
#[derive(Debug)]
enum Told {
    Connected(i32),
    Failed {
        broker: i32,
        reason: String,
    },
    /// The broker does not have the requests that are needed; what is missing.
    TooOld(String),
    /// A partition is not fetched there any more.
    Returned(Position, Why),
}

/// What all tasks share.
struct Wiring {
    connector: Arc<Connector>,
    bootstrap: Vec<String>,
    terms: Terms,
    refresh: Duration,
    budget: Budget,
    limit: usize,
    outlet: Outlet,
    commands: Sender<Command>,
    board: Arc<Board>,
    corrupt: Arc<Corrupt>,
    /// Whether the connections are all that there is of a broker: without a group, librdkafka's
    /// are idle.
    alone: bool,
    reporter: Reporter,
}

/// What a fast fetcher is made of.
pub(crate) struct Parts<'a> {
    pub(crate) cluster: &'a ClusterConfig,
    pub(crate) config: &'a SourceConfig,
    pub(crate) connector: Arc<Connector>,
    pub(crate) client: &'a Arc<Client>,
    pub(crate) outlet: Outlet,
    pub(crate) commands: Sender<Command>,
    pub(crate) board: Arc<Board>,
    pub(crate) reporter: Reporter,
}

/// The fetcher, as the membership thread sees it.
pub(crate) struct Fast {
    client: Arc<Client>,
    board: Arc<Board>,
    in_group: bool,
    orders: Option<UnboundedSender<Order>>,
    dispatcher: Option<JoinHandle<()>>,
    runtime: Handle,
}

impl Fast {
    /// Starts the dispatcher.
    pub(crate) fn start(runtime: &Handle, parts: Parts<'_>) -> Self {
        let Parts { cluster, config, connector, client, outlet, commands, board, reporter } = parts;
        let shown = Arc::clone(&board);
        let corrupt =
            Corrupt::new(config.on_corrupt, commands.clone(), Arc::clone(&board), reporter.clone());
        let wiring = Wiring {
            corrupt: Arc::new(corrupt),
            connector,
            bootstrap: cluster.bootstrap_servers.clone(),
            terms: Terms {
                isolation: config.isolation,
                rack: cluster.client_rack.clone().unwrap_or_default(),
            },
            refresh: config.topic_refresh,
            budget: Budget::new(HELD_BYTES),
            limit: ANSWER_LIMIT,
            outlet,
            commands,
            board,
            alone: config.group.is_none(),
            reporter,
        };
        let (orders, ordered) = unbounded_channel();
        let told = wiring.commands.clone();
        let dispatching = Dispatcher::new(Arc::new(wiring), ordered).run();
        let dispatcher = runtime.spawn(async move {
            // A task of its own, so that its panic comes back here.
            if let Err(failure) = tokio::spawn(dispatching).await
                && let Ok(panic) = failure.try_into_panic()
            {
                // Where the membership has ended, nothing is to be fetched.
                let _ =
                    told.send(Command::Broke(guard::reason("the dispatcher of fetches", &*panic)));
            }
        });
        Self {
            client: Arc::clone(client),
            board: shown,
            in_group: config.group.is_some(),
            orders: Some(orders),
            dispatcher: Some(dispatcher),
            runtime: runtime.clone(),
        }
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // The dispatcher lives as long as this sender.
            let _ = orders.send(order);
        }
    }

    pub(super) fn take(&mut self, assignments: &[Arc<Assignment>]) -> Result<(), String> {
        if !assignments.is_empty() {
            // Until the dispatcher has placed them: no moment in between looks as if all were well.
            self.board.set_unfetched(Some("partitions are about to be fetched".to_owned()));
        }
        self.order(Order::Take(assignments.iter().map(Position::of).collect()));
        if self.in_group { self.hold(assignments) } else { Ok(()) }
    }

    /// Has librdkafka hold partitions without fetching them. They are given to it at their end,
    /// since a pause alone comes too late for its first fetch.
    fn hold(&self, assignments: &[Arc<Assignment>]) -> Result<(), String> {
        let mut list = TopicPartitionList::with_capacity(assignments.len());
        for assignment in assignments {
            let added =
                list.add_partition_offset(&assignment.topic, assignment.partition, Offset::End);
            added.map_err(|error| plain(&error))?;
        }
        self.client.incremental_assign(&list).map_err(|error| plain(&error))?;
        if assignments.is_empty() {
            return Ok(());
        }
        self.client.pause(&list).map_err(|error| format!("pause: {}", plain(&error)))?;
        // The call succeeds also where it failed for some.
        match list.elements().iter().find_map(|element| element.error().err()) {
            Some(error) => Err(format!("pause: {}", plain(&error))),
            None => Ok(()),
        }
    }

    pub(super) fn release(&mut self, assignments: &[Arc<Assignment>]) {
        self.order(Order::Release(assignments.to_vec()));
        if self.in_group {
            super::unassign(&self.client, assignments);
        }
    }

    pub(super) fn seek(&mut self, assignment: &Arc<Assignment>, generation: Generation) {
        self.order(Order::Seek(Arc::clone(assignment), generation));
    }

    pub(super) fn stop(&mut self) {
        self.orders = None;
        if let Some(dispatcher) = self.dispatcher.take() {
            // Where the runtime is ending, so has the task.
            let _ = self.runtime.block_on(dispatcher);
        }
    }
}
