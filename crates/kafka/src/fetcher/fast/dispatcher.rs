//! Moves each partition to the task of the broker that leads it, and again when leadership
//! changes.

mod events;
mod placement;
mod replicas;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{Id, JoinHandle, JoinSet};
use tokio::time::sleep_until;
use uuid::Uuid;

use super::broker::BrokerCommand;
use super::metadata::{Leader, Metadata, MetadataClient, MetadataError, TopicMetadata};
use super::position::FetchPosition;
use super::{BrokerEvent, FetcherCommand, FetcherContext};
use crate::assignment::Assignment;
use crate::topic_partition::TopicPartition;
use replicas::Replicas;

/// Time between two Metadata requests while something is not as it should be.
const ASK_AGAIN: Duration = Duration::from_millis(300);

/// A partition and where it is.
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
    /// Whether the broker that has it was chosen as a replica.
    at_replica: bool,
    /// The task that has it, or had it last.
    task: Option<Id>,
    place: Placement,
    placed: Instant,
    failures: u32,
    /// When its log last did not have its offset, and how many times that had happened in a row by
    /// then.
    reset: Option<Instant>,
    resets: u32,
    /// The leader that last said it was none.
    turned_away_by: Option<Leader>,
    /// Ids of the topic's earlier lives.
    past_ids: Vec<Uuid>,
    /// Whether the topic is another one than the position is of, and nobody was told.
    topic_recreated: bool,
}

enum Placement {
    /// To be sent to a broker from then on; why it is not there, if that is a fault.
    Unassigned {
        position: FetchPosition,
        from: Instant,
        why: Option<String>,
    },
    OnBroker(i32),
    /// Another offset is being looked up.
    AwaitingReset,
}

struct BrokerHandle {
    /// None in tests that play it.
    task: Option<Id>,
    address: String,
    commands: UnboundedSender<BrokerCommand>,
}

/// The task's own.
pub(super) struct Dispatcher {
    context: Arc<FetcherContext>,
    commands: UnboundedReceiver<FetcherCommand>,
    events: UnboundedReceiver<BrokerEvent>,
    events_tx: UnboundedSender<BrokerEvent>,
    partitions: HashMap<TopicPartition, PartitionState>,
    topics: HashMap<Arc<str>, TopicMetadata>,
    addresses: HashMap<i32, String>,
    brokers: HashMap<i32, BrokerHandle>,
    /// Brokers that cannot be fetched from, and why.
    failing: HashMap<i32, String>,
    replicas: Replicas,
    tasks: JoinSet<()>,
    asked: Option<Instant>,
    wants_metadata: bool,
    /// Whether the server that is asked tells what was true before: another one is asked next.
    distrusted: bool,
    /// The id of the cluster, once one was told.
    cluster: Option<String>,
}

type PendingMetadata = JoinHandle<(MetadataClient, Result<Metadata, MetadataError>)>;

impl Dispatcher {
    pub(super) fn new(
        context: Arc<FetcherContext>,
        commands: UnboundedReceiver<FetcherCommand>,
    ) -> Self {
        let (events_tx, events) = unbounded_channel();
        Self {
            context,
            commands,
            events,
            events_tx,
            partitions: HashMap::new(),
            topics: HashMap::new(),
            addresses: HashMap::new(),
            brokers: HashMap::new(),
            failing: HashMap::new(),
            replicas: Replicas::default(),
            tasks: JoinSet::new(),
            asked: None,
            wants_metadata: false,
            distrusted: false,
            cluster: None,
        }
    }

    /// Runs until the command channel closes, then stops the broker tasks.
    pub(super) async fn run(mut self) {
        let mut metadata_client = Some(MetadataClient::new(
            Arc::clone(&self.context.connector),
            self.context.bootstrap.clone(),
        ));
        let mut pending: Option<PendingMetadata> = None;
        loop {
            let due = self.next_due(pending.is_some(), Instant::now());
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.handle_command(command),
                    None => break,
                },
                Some(event) = self.events.recv() => self.handle_broker_event(event),
                Some(Err(failure)) = self.tasks.join_next() => self.handle_panic(failure),
                answer = wait(&mut pending), if pending.is_some() => {
                    pending = None;
                    let (back, answer) = answer;
                    metadata_client = Some(back.unwrap_or_else(|| {
                        MetadataClient::new(Arc::clone(&self.context.connector), self.context.bootstrap.clone())
                    }));
                    self.handle_metadata(answer);
                }
                () = sleep_until(due.into()) => {}
            }
            // Many may come back at once: they are placed and shown together.
            while let Ok(command) = self.commands.try_recv() {
                self.handle_command(command);
            }
            while let Ok(event) = self.events.try_recv() {
                self.handle_broker_event(event);
            }
            let now = Instant::now();
            if pending.is_none() && !self.partitions.is_empty() && now >= self.ask_due(now) {
                self.asked = Some(now);
                self.wants_metadata = false;
                pending = metadata_client.take().map(|metadata_client| self.ask(metadata_client));
                self.distrusted = false;
            }
            self.place(now);
            self.report();
        }
        if let Some(pending) = pending {
            pending.abort();
        }
        self.tasks.shutdown().await;
        self.context.health.set_fetching(false);
    }

    fn ask(&self, mut metadata_client: MetadataClient) -> PendingMetadata {
        let mut topics: Vec<Arc<str>> =
            self.partitions.keys().map(|key| Arc::clone(&key.topic)).collect();
        topics.sort_unstable();
        topics.dedup();
        let mut known: Vec<String> = self.addresses.values().cloned().collect();
        known.sort_unstable();
        if self.distrusted {
            metadata_client.leave();
        }
        tokio::spawn(async move {
            let answer = metadata_client.ask(&topics, &known).await;
            (metadata_client, answer)
        })
    }

    fn is_failing(&self) -> bool {
        let at = |state: &PartitionState| matches!(state.place, Placement::OnBroker(broker) if self.failing.contains_key(&broker));
        self.wants_metadata || (!self.failing.is_empty() && self.partitions.values().any(at))
    }

    fn ask_due(&self, now: Instant) -> Instant {
        let wait = if self.is_failing() { ASK_AGAIN } else { self.context.refresh };
        self.asked.map_or(now, |asked| asked + wait)
    }

    /// When there is something to do by itself; later than that where there is nothing.
    fn next_due(&self, pending: bool, now: Instant) -> Instant {
        let waiting = self.partitions.values().filter_map(|state| match &state.place {
            // One without a broker wants metadata once its pause is over.
            Placement::Unassigned { from, .. }
                if *from > now || self.target(state, *from).is_some() =>
            {
                Some(*from)
            }
            Placement::OnBroker(_) => state.kept.map(|(_, until)| until),
            _ => None,
        });
        let later = now + self.context.refresh;
        let ask = if pending || self.partitions.is_empty() { later } else { self.ask_due(now) };
        waiting.fold(ask, Instant::min)
    }

    fn handle_command(&mut self, command: FetcherCommand) {
        match command {
            FetcherCommand::Add(positions) => {
                for position in positions {
                    self.add(position);
                }
            }
            FetcherCommand::Seek(assignment, generation) => {
                self.seek(FetchPosition::start(assignment, generation))
            }
            FetcherCommand::Remove(assignments) => {
                for assignment in assignments {
                    self.remove(&assignment);
                }
            }
        }
    }

    fn add(&mut self, position: FetchPosition) {
        let (assignment, now) = (Arc::clone(&position.assignment), Instant::now());
        let generation = position.generation.number;
        let place = Placement::Unassigned { position, from: now, why: None };
        let known = self.topics.get(assignment.topic());
        let leader = known.and_then(|topic| topic.leaders.get(&assignment.partition()).copied());
        let topic_id = known.map_or(Uuid::nil(), |topic| topic.id);
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

    /// Goes on with the next generation, wherever the one before it is.
    fn seek(&mut self, position: FetchPosition) {
        let Some(state) = self.partitions.get_mut(position.topic_partition()) else { return };
        if !Arc::ptr_eq(&state.assignment, &position.assignment)
            || state.generation == position.generation.number
        {
            return;
        }
        state.generation = position.generation.number;
        let (assignment, is_anew) = (Arc::clone(&position.assignment), state.topic_recreated);
        // By a restart it goes on at once.
        let parked = matches!(state.place, Placement::AwaitingReset);
        let (pause, why) = if parked { state.reset_pause() } else { Default::default() };
        let waiting =
            Placement::Unassigned { position: position.clone(), from: Instant::now() + pause, why };
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
            // Whoever takes it next learns its id anew.
            self.topics.remove(&key.topic);
        }
    }

    fn send(&self, broker: i32, command: BrokerCommand) {
        if let Some(handle) = self.brokers.get(&broker) {
            // The task lives as long as this sender.
            let _ = handle.commands.send(command);
        }
    }
}

async fn wait(
    pending: &mut Option<PendingMetadata>,
) -> (Option<MetadataClient>, Result<Metadata, MetadataError>) {
    match pending {
        Some(pending) => match pending.await {
            Ok((metadata_client, answer)) => (Some(metadata_client), answer),
            Err(error) => {
                (None, Err(MetadataError::Failed(format!("asking for metadata: {error}"))))
            }
        },
        // Guarded against by whoever calls it.
        None => std::future::pending().await,
    }
}
