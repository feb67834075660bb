//! The dispatcher without its task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::super::broker::BrokerCommand;
use super::super::dispatcher::{Dispatcher, DispatcherAction};
use super::super::position::{FetchPosition, ReturnReason};
use super::super::{BrokerEvent, FetcherCommand};
use crate::assignment::Assignment;
use crate::connection::ConnectionError;
use crate::fetcher::FetchFault;
use crate::generation::Generation;
use crate::guard::Panicked;
use crate::metadata::{Leader, Metadata, MetadataError, TopicMetadata};
use crate::reset::DueOffset;

/// A dispatcher, and the commands and events that it has not taken.
pub struct Dispatching {
    dispatcher: Dispatcher,
    commands: VecDeque<FetcherCommand>,
    events: VecDeque<BrokerEvent>,
}

impl std::fmt::Debug for Dispatching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatching").finish_non_exhaustive()
    }
}

/// A partition that left a broker, and why.
pub struct Returned(pub(super) FetchPosition, pub(super) ReturnReason);

/// A command to the task of a broker.
#[derive(Debug)]
pub struct SimCommand(pub(super) BrokerCommand);

/// Something that the membership has to decide about.
pub struct Fault(pub(crate) FetchFault);

/// An action of the dispatcher.
#[derive(Debug)]
pub enum DispatchAction {
    /// Start a task that fetches from a broker.
    StartBroker {
        /// The broker.
        broker: i32,
        /// The task.
        number: u64,
    },
    /// End a task, which gives back what it has.
    StopBroker {
        /// The task.
        number: u64,
    },
    /// Send a command to a task.
    Send {
        /// The task.
        number: u64,
        /// The command.
        command: SimCommand,
    },
    /// Ask for metadata; of another server than the one before if `leave`.
    FetchMetadata {
        /// True if the server before is not believed.
        leave: bool,
    },
    /// Send the membership a fault.
    Fault(Fault),
    /// Report an error.
    Report(String),
}

/// A server's word on the cluster.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// Brokers with their addresses.
    pub brokers: Vec<(i32, String)>,
    /// Topics.
    pub topics: Vec<TopicView>,
}

/// A server's word on a topic.
#[derive(Clone, Debug)]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: Uuid,
    /// Its partitions.
    pub partitions: Vec<PartitionView>,
}

/// A server's word on a partition.
#[derive(Clone, Copy, Debug)]
pub struct PartitionView {
    /// Its number.
    pub partition: i32,
    /// Its leader.
    pub leader: i32,
    /// The leader's epoch.
    pub epoch: i32,
}

impl std::fmt::Debug for Returned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(position, why) = self;
        let (generation, offset) = (position.generation.number, position.offset);
        let epochs = (position.last_epoch, position.leader_epoch);
        write!(f, "returned {}: ", position.topic_partition())?;
        write!(f, "generation {generation}, offset {offset}, epochs {epochs:?}: {why:?}")
    }
}

impl Fault {
    /// Returns the topic and the partition whose log does not have an offset, if it is that.
    pub fn out_of_range(&self) -> Option<(String, i32)> {
        let FetchFault::OutOfRange { due, .. } = &self.0 else { return None };
        Some((due.assignment.topic().to_string(), due.assignment.partition()))
    }
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let show = |due: &DueOffset| {
            let (generation, offset) = (due.generation, due.offset);
            format!("{}: generation {generation}, offset {offset}", due.assignment)
        };
        match &self.0 {
            FetchFault::OutOfRange { due, .. } => write!(f, "out of range: {}", show(due)),
            FetchFault::ResetNeeded { due, to, reason } => {
                write!(f, "{reason:?}: {}, to {to:?}", show(due))
            }
            other => write!(f, "{other:?}"),
        }
    }
}

impl SimCommand {
    /// Returns what is fetched from now on by it, if it is that: the assignment, the number of the
    /// generation, and the topic's id.
    pub fn added(&self) -> Option<(&Arc<Assignment>, u32, Uuid)> {
        match &self.0 {
            BrokerCommand::Add(position) => {
                Some((&position.assignment, position.generation.number, position.topic_id))
            }
            _ => None,
        }
    }
}

impl ClusterView {
    pub(crate) fn metadata(self) -> Metadata {
        let topic = |TopicView { name, id, partitions }: TopicView| {
            let leaders =
                partitions.into_iter().map(|PartitionView { partition, leader, epoch }| {
                    (partition, Leader { broker: leader, epoch })
                });
            (Arc::from(name), TopicMetadata { id, error: None, leaders: leaders.collect() })
        };
        Metadata {
            brokers: self.brokers.into_iter().collect(),
            cluster: None,
            topics: self.topics.into_iter().map(topic).collect(),
        }
    }
}

impl Dispatching {
    /// A dispatcher without partitions. `refresh`: time between two requests for metadata.
    pub fn new(refresh: Duration) -> Self {
        Self {
            dispatcher: Dispatcher::new("sim", refresh),
            commands: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Partitions are to be fetched from where they stand.
    pub fn add(&mut self, assignments: &[Arc<Assignment>]) {
        let positions = assignments.iter().map(FetchPosition::of).collect();
        self.commands.push_back(FetcherCommand::Add(positions));
    }

    /// A generation is to be fetched in place of the one before.
    pub fn seek(&mut self, assignment: Arc<Assignment>, generation: Generation) {
        self.commands.push_back(FetcherCommand::Seek(assignment, generation));
    }

    /// Partitions are to be fetched no more.
    pub fn remove(&mut self, assignments: Vec<Arc<Assignment>>) {
        self.commands.push_back(FetcherCommand::Remove(assignments));
    }

    /// A broker answers.
    pub fn connected(&mut self, broker: i32) {
        self.events.push_back(BrokerEvent::Connected(broker));
    }

    /// A broker cannot be reached.
    pub fn failed(&mut self, broker: i32) {
        let error = ConnectionError::new("broker:9092", "out of reach").into();
        self.events.push_back(BrokerEvent::Failed { broker, error });
    }

    /// A partition left its broker.
    pub fn returned(&mut self, returned: Returned) {
        self.events.push_back(BrokerEvent::Returned(returned.0, returned.1));
    }

    /// The task of a broker panicked.
    pub fn panicked(&mut self, number: u64, now: Instant) {
        let panicked = Panicked::new("the task of a broker", &"a mistake");
        self.dispatcher.handle_panic(number, &panicked, now);
    }

    /// Metadata have come; none if no server answers.
    pub fn handle_metadata(&mut self, view: Option<ClusterView>) {
        let failed = || MetadataError::NoBroker;
        self.dispatcher.handle_metadata(view.map(ClusterView::metadata).ok_or_else(failed));
    }

    /// Takes what it has not taken, then does what is due.
    pub fn turn(&mut self, now: Instant) {
        while let Some(command) = self.commands.pop_front() {
            self.dispatcher.handle_command(command, now);
        }
        while let Some(event) = self.events.pop_front() {
            self.dispatcher.handle_broker_event(event, now);
        }
        self.dispatcher.handle_timeout(now);
    }

    /// Returns when something is due.
    pub fn poll_timeout(&self, now: Instant) -> Instant {
        self.dispatcher.poll_timeout(now).0
    }

    /// Returns what is to be done next.
    pub fn poll_action(&mut self) -> Option<DispatchAction> {
        Some(match self.dispatcher.poll_action()? {
            DispatcherAction::StartBroker { broker, number, .. } => {
                DispatchAction::StartBroker { broker, number }
            }
            DispatcherAction::StopBroker { number } => DispatchAction::StopBroker { number },
            DispatcherAction::Send { number, command } => {
                DispatchAction::Send { number, command: SimCommand(command) }
            }
            DispatcherAction::FetchMetadata { leave, .. } => {
                DispatchAction::FetchMetadata { leave }
            }
            DispatcherAction::Fault(fault) => DispatchAction::Fault(Fault(fault)),
            DispatcherAction::Report(reason) => DispatchAction::Report(reason),
        })
    }
}
