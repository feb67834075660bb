//! Fetch requests of our own. librdkafka has the partitions in its assignment, paused, so that the
//! membership is its business and the fetching is ours.
//!
//! One task dispatches: it knows the leaders and sends each partition to the task of its broker;
//! those fetch and hand out. A partition is with one task at a time, so its records stay in order.

mod broker;
mod dispatcher;
mod fetch_session;
mod hand_out;
mod position;
#[cfg(feature = "sim")]
pub(crate) mod sim;
mod sizes;
#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::assignment::Assignment;
use crate::cluster::{Budget, Cluster, MemoryPermit, OwnConnections};
use crate::config::SourceConfig;
use crate::connection::RequestError;
use crate::fetcher::{FetchFault, RecordSender};
use crate::generation::Generation;
use crate::guard::Panicked;
use crate::health::SourceHealth;
use crate::mailbox::Mailbox;
use crate::report::Reporter;
pub(crate) use broker::{CONFIRMED, VERSIONS};
use dispatcher::task::DispatcherTask;
pub(crate) use fetch_session::{FetchKind, FetchOptions, FetchSession, PartitionError};
pub(crate) use position::{FetchPosition, ReturnReason};
pub(crate) use sizes::FetchSizes;

/// The largest answer that is believed; a record is at most about this large.
pub(crate) const ANSWER_LIMIT: usize = 512 << 20;

/// Commands to the dispatcher. As many wait as there are partitions.
#[derive(Debug)]
enum FetcherCommand {
    /// Fetch these from their positions.
    Add(Vec<FetchPosition>),
    /// Begin this generation, in place of the one before.
    Seek(Arc<Assignment>, Generation),
    /// Fetch these no more.
    Remove(Vec<Arc<Assignment>>),
}

/// Events from the brokers' tasks.
#[derive(Debug)]
enum BrokerEvent {
    Connected(i32),
    /// Its requests are of no use, or it lets them wait.
    Failed {
        broker: i32,
        error: RequestError,
    },
    /// A partition is not fetched there any more.
    Returned(FetchPosition, ReturnReason),
}

/// State that all tasks share.
struct FetcherContext {
    connections: OwnConnections,
    options: FetchOptions,
    refresh: Duration,
    budget: Budget,
    limit: usize,
    records_tx: RecordSender,
    faults: Mailbox<FetchFault>,
    health: Arc<SourceHealth>,
    /// True if there are no other connections to a broker: without a group, librdkafka's are idle.
    alone: bool,
    reporter: Reporter,
}

/// State that all records of one fetch response share.
pub(super) struct ResponseContext {
    _memory: MemoryPermit,
    /// Receives the batches in it that cannot be read.
    pub(super) faults: Mailbox<FetchFault>,
}

/// The parts of a fast fetcher.
pub(crate) struct FetcherParts<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) connections: OwnConnections,
    pub(crate) config: &'a SourceConfig,
    pub(crate) records_tx: RecordSender,
    pub(crate) faults: Mailbox<FetchFault>,
    pub(crate) panics: Mailbox<Panicked>,
    pub(crate) health: Arc<SourceHealth>,
    pub(crate) reporter: Reporter,
}

/// The fetcher, as the membership thread sees it.
pub(crate) struct FastFetcher {
    commands_tx: Option<UnboundedSender<FetcherCommand>>,
    dispatcher: Option<JoinHandle<()>>,
    runtime: Handle,
}

impl FastFetcher {
    /// Starts the dispatcher.
    pub(crate) fn start(runtime: &Handle, parts: FetcherParts<'_>) -> Self {
        let FetcherParts {
            cluster,
            connections,
            config,
            records_tx,
            faults,
            panics,
            health,
            reporter,
        } = parts;
        let context = FetcherContext {
            connections,
            options: FetchOptions {
                isolation: config.isolation,
                rack: cluster.config().client_rack.clone().unwrap_or_default(),
                kind: FetchKind::Session,
            },
            refresh: config.topic_refresh,
            budget: cluster.budget(),
            limit: ANSWER_LIMIT,
            records_tx,
            faults,
            health,
            alone: config.group.is_none(),
            reporter,
        };
        let (commands_tx, commands_rx) = unbounded_channel();
        let dispatching = DispatcherTask::new(Arc::new(context), commands_rx).run();
        let dispatcher = runtime.spawn(async move {
            // A task of its own, so that its panic comes back here.
            if let Err(ended) = tokio::spawn(dispatching).await
                && let Some(panicked) = Panicked::of_task("the dispatcher of fetches", ended)
            {
                panics.send(panicked);
            }
        });
        Self {
            commands_tx: Some(commands_tx),
            dispatcher: Some(dispatcher),
            runtime: runtime.clone(),
        }
    }

    fn send(&self, command: FetcherCommand) {
        if let Some(commands_tx) = &self.commands_tx {
            // The dispatcher lives as long as this sender.
            let _ = commands_tx.send(command);
        }
    }

    pub(super) fn add(&self, assignments: &[Arc<Assignment>]) {
        self.send(FetcherCommand::Add(assignments.iter().map(FetchPosition::of).collect()));
    }

    pub(super) fn remove(&self, assignments: &[Arc<Assignment>]) {
        self.send(FetcherCommand::Remove(assignments.to_vec()));
    }

    pub(super) fn seek(&self, assignment: &Arc<Assignment>, generation: Generation) {
        self.send(FetcherCommand::Seek(Arc::clone(assignment), generation));
    }

    pub(super) fn stop(&mut self) {
        self.commands_tx = None;
        if let Some(dispatcher) = self.dispatcher.take() {
            // If the runtime is ending, so has the task.
            let _ = self.runtime.block_on(dispatcher);
        }
    }
}
