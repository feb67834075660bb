//! Moves each partition to the task of the broker that leads it, and again when leadership
//! changes.
//!
//! A plain state machine: it knows no task, channel, connection or clock. Its task reports what
//! happens and executes its actions.

mod events;
mod placement;
mod replicas;
pub(super) mod task;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError as Code;
use uuid::Uuid;

use super::FetcherCommand;
use super::broker::BrokerCommand;
use super::position::FetchPosition;
use crate::assignment::Assignment;
use crate::connection::RequestError;
use crate::fetcher::FetchFault;
use crate::guard::Panicked;
use crate::metadata::{Leader, TopicMetadata};
use crate::topic_partition::TopicPartition;
use replicas::Replicas;

/// Time between two Metadata requests while something is not as it should be.
const ASK_AGAIN: Duration = Duration::from_millis(300);

/// A partition and its place.
struct PartitionState {
    assignment: Arc<Assignment>,
    /// Number of the generation that is fetched, or is to be.
    generation: u32,
    topic_id: Uuid,
    leader: Option<Leader>,
    /// The replica to fetch from instead of the leader, and until when.
    replica: Option<(i32, Instant)>,
    /// The replica in whose place the leader serves, asked without our rack, and until when.
    kept: Option<(i32, Instant)>,
    /// True if the broker that has it was chosen as a replica.
    at_replica: bool,
    /// The task that has it, or had it last.
    task: Option<TaskNumber>,
    place: Placement,
    placed: Instant,
    failures: u32,
    /// The last time when its log did not have its offset, and how many times that had happened in
    /// a row by then.
    reset: Option<Instant>,
    resets: u32,
    /// The leader that last said it was none.
    turned_away_by: Option<Leader>,
    /// Ids of the topic's earlier lives.
    past_ids: Vec<Uuid>,
    /// True if the topic is another one than the position is of, and this was not reported.
    topic_recreated: bool,
}

/// The reason why a partition is not with a broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum NotFetched {
    /// The broker that was taken for its leader says it is none.
    #[error("{topic_partition}: {error}")]
    NotLeader { topic_partition: TopicPartition, error: Code },
    /// Its log lacked its offset again and again.
    #[error("{topic_partition}: its log lacked the offset {times} times in a row")]
    OffsetLacks { topic_partition: TopicPartition, times: u32 },
    /// Its leader names a replica again that was asked already.
    #[error("broker {broker} gives no records and names replica {replica}")]
    NamesReplica { broker: i32, replica: i32 },
    /// A broker that is not its leader says that the log was truncated.
    #[error("broker {broker} does not lead and reports a truncated log")]
    TruncatedByAnother { broker: i32 },
    /// The task that fetched it panicked.
    #[error(transparent)]
    Panicked(Panicked),
}

enum Placement {
    /// A partition to be sent to a broker from then on; why it is not there, if that is a fault.
    Unassigned {
        position: FetchPosition,
        from: Instant,
        why: Option<NotFetched>,
    },
    OnBroker(i32),
    /// Another offset is being looked up.
    AwaitingReset,
}

/// The number of a broker's task. Each is started after the end of the one before it.
type TaskNumber = u64;

/// The task that fetches from a broker.
#[derive(Clone, Debug)]
struct BrokerTask {
    number: TaskNumber,
    address: String,
}

/// An action that the dispatcher's task is to execute, in their order.
#[derive(Debug)]
pub(super) enum DispatcherAction {
    /// Start a task that fetches from a broker.
    StartBroker { broker: i32, number: TaskNumber, address: String },
    /// End the task of a broker, which gives back the partitions that it has.
    StopBroker { number: TaskNumber },
    /// Send a command to a broker's task.
    Send { number: TaskNumber, command: BrokerCommand },
    /// Ask for metadata of these topics; not the server that was asked last if `leave` says so.
    FetchMetadata { topics: Vec<Arc<str>>, leave: bool },
    /// Report a fault to the membership.
    Fault(FetchFault),
    /// Report an error.
    Report(String),
}

pub(super) struct Dispatcher {
    /// Its name in log lines.
    route: String,
    /// Time between two Metadata requests while all is well.
    refresh: Duration,
    actions: VecDeque<DispatcherAction>,
    /// The partitions in their order, so that the same events have the same actions.
    partitions: BTreeMap<TopicPartition, PartitionState>,
    topics: HashMap<Arc<str>, TopicMetadata>,
    addresses: HashMap<i32, String>,
    brokers: HashMap<i32, BrokerTask>,
    last_task: TaskNumber,
    /// Brokers that cannot be fetched from, and why.
    failing: HashMap<i32, RequestError>,
    replicas: Replicas,
    /// The time of the last metadata request, and whether the answer is still to come.
    asked: Option<Instant>,
    is_asking: bool,
    wants_metadata: bool,
    /// True if the server that is asked reports an older state: another one is asked next.
    distrusted: bool,
    /// Answers in a row, each of another server, that have the id of an earlier life of a topic.
    stale_answers: u32,
    /// The id of the cluster, once an answer has one.
    cluster: Option<String>,
    /// The number of commands to add partitions that were handled.
    adds: u64,
}

impl Dispatcher {
    pub(super) fn new(route: &str, refresh: Duration) -> Self {
        Self {
            route: route.to_owned(),
            refresh,
            actions: VecDeque::new(),
            partitions: BTreeMap::new(),
            topics: HashMap::new(),
            addresses: HashMap::new(),
            brokers: HashMap::new(),
            last_task: 0,
            failing: HashMap::new(),
            replicas: Replicas::default(),
            asked: None,
            is_asking: false,
            wants_metadata: false,
            distrusted: false,
            stale_answers: 0,
            cluster: None,
            adds: 0,
        }
    }

    /// The next action to be executed.
    #[must_use]
    pub(super) fn poll_action(&mut self) -> Option<DispatcherAction> {
        self.actions.pop_front()
    }

    /// The time for [`Self::handle_timeout`], and its reason.
    #[must_use]
    pub(super) fn poll_timeout(&self, now: Instant) -> (Instant, &'static str) {
        let waiting = self.partitions.values().filter_map(|state| match &state.place {
            // One without a broker wants metadata once its pause is over.
            Placement::Unassigned { from, .. }
                if *from > now || self.target(state, *from).is_some() =>
            {
                Some((*from, "a partition is to be placed"))
            }
            Placement::OnBroker(_) => {
                state.kept.map(|(_, until)| (until, "a replica may be tried again"))
            }
            _ => None,
        });
        let later = now + self.refresh;
        let ask =
            if self.is_asking || self.partitions.is_empty() { later } else { self.ask_due(now) };
        waiting.fold(
            (ask, "metadata are due"),
            |first, next| if next.0 < first.0 { next } else { first },
        )
    }

    /// Asks for metadata and places partitions, as far as it is time to. To be called after all
    /// events at hand are handled: many may come back at once, and are placed together.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if !self.is_asking && !self.partitions.is_empty() && now >= self.ask_due(now) {
            self.ask(now);
        }
        self.place(now);
    }

    fn ask(&mut self, now: Instant) {
        let mut topics: Vec<Arc<str>> =
            self.partitions.keys().map(|key| Arc::clone(&key.topic)).collect();
        // They are in order.
        topics.dedup();
        (self.asked, self.is_asking, self.wants_metadata) = (Some(now), true, false);
        let leave = std::mem::take(&mut self.distrusted);
        self.actions.push_back(DispatcherAction::FetchMetadata { topics, leave });
    }

    fn is_failing(&self) -> bool {
        let at = |state: &PartitionState| match state.place {
            Placement::OnBroker(broker) => self.failing.contains_key(&broker),
            _ => false,
        };
        self.wants_metadata || (!self.failing.is_empty() && self.partitions.values().any(at))
    }

    fn ask_due(&self, now: Instant) -> Instant {
        let wait = if self.is_failing() { ASK_AGAIN } else { self.refresh };
        self.asked.map_or(now, |asked| asked + wait)
    }

    pub(super) fn handle_command(&mut self, command: FetcherCommand, now: Instant) {
        match command {
            FetcherCommand::Add(positions) => {
                self.adds += 1;
                for position in positions {
                    self.add(position, now);
                }
            }
            FetcherCommand::Seek(assignment, generation) => {
                self.seek(FetchPosition::start(assignment, generation), now)
            }
            FetcherCommand::Remove(assignments) => {
                for assignment in assignments {
                    self.remove(&assignment);
                }
            }
        }
    }

    fn add(&mut self, position: FetchPosition, now: Instant) {
        let assignment = Arc::clone(&position.assignment);
        let generation = position.generation.number;
        let place = Placement::Unassigned { position, from: now, why: None };
        // The topic that its offset is of, if that is known: any other is not the one meant.
        let expected = assignment.topic_id();
        let known = self.topics.get(assignment.topic());
        let known = known.filter(|topic| expected.is_nil() || topic.id == expected);
        let leader = known.and_then(|topic| topic.leaders.get(&assignment.partition()).copied());
        let topic_id = known.map_or(expected, |topic| topic.id);
        self.wants_metadata |= leader.is_none();
        let key = assignment.topic_partition.clone();
        let state = PartitionState {
            assignment,
            generation,
            topic_id,
            leader,
            replica: None,
            kept: None,
            at_replica: false,
            task: None,
            place,
            placed: now,
            failures: 0,
            reset: None,
            resets: 0,
            turned_away_by: None,
            past_ids: Vec::new(),
            topic_recreated: false,
        };
        self.partitions.insert(key, state);
    }

    /// Begins the next generation, wherever the one before it is.
    fn seek(&mut self, position: FetchPosition, now: Instant) {
        let Some(state) = self.partitions.get_mut(position.topic_partition()) else { return };
        if !Arc::ptr_eq(&state.assignment, &position.assignment)
            || state.generation == position.generation.number
        {
            return;
        }
        state.generation = position.generation.number;
        let assignment = Arc::clone(&position.assignment);
        // The route may have it read again while its reset is looked up, which ends with that: its
        // offset is still one of the topic that is no more. A reset has no id.
        let of = assignment.topic_id();
        let is_of_past = !of.is_nil() && !state.topic_id.is_nil() && of != state.topic_id;
        let is_anew = state.topic_recreated || is_of_past;
        // By a restart it goes on at once.
        let parked = matches!(state.place, Placement::AwaitingReset);
        let (pause, why) = if parked { state.reset_pause() } else { Default::default() };
        let waiting = Placement::Unassigned { position: position.clone(), from: now + pause, why };
        if let Placement::OnBroker(broker) = std::mem::replace(&mut state.place, waiting) {
            self.send(broker, BrokerCommand::Drop(assignment));
        }
        if is_anew {
            // Noticed while the offset was looked up, which may be one of the topic that is no
            // more.
            self.topic_recreated(&position);
        }
    }

    fn remove(&mut self, assignment: &Arc<Assignment>) {
        let key = &assignment.topic_partition;
        let Some(state) = self.partitions.get(key) else { return };
        if !Arc::ptr_eq(&state.assignment, assignment) {
            return;
        }
        if let Placement::OnBroker(broker) = state.place {
            self.send(broker, BrokerCommand::Drop(Arc::clone(assignment)));
        }
        self.partitions.remove(key);
        if !self.partitions.keys().any(|other| other.topic == key.topic) {
            // The next assignment of it learns its id again.
            self.topics.remove(&key.topic);
        }
    }

    fn send(&mut self, broker: i32, command: BrokerCommand) {
        if let Some(task) = self.brokers.get(&broker) {
            self.actions.push_back(DispatcherAction::Send { number: task.number, command });
        }
    }

    fn fault(&mut self, fault: FetchFault) {
        self.actions.push_back(DispatcherAction::Fault(fault));
    }
}
