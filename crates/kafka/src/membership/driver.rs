//! One client's life: poll, answer, and at last close.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::mpsc::error::TrySendError;
use tracing::subscriber::{NoSubscriber, with_default};
use tracing::{debug, error, info, warn};

use super::Command;
use super::group_check::GroupCheck;
use super::partitions::Partitions;
use super::renewal::Renewal;
use super::thread::MembershipThread;
use crate::assignment::{Assignment, Positions, SourceEvent};
use crate::client::{Client, Rebalance, plain};
use crate::commits::{self, CommitRequest};
use crate::config::{GroupProtocol, OnCorrupt};
use crate::fetcher::{CorruptHandler, Fast, Fetcher, FetcherParts, Librdkafka};
use crate::guard;
use crate::lookup::{Lookup, LookupRequest};
use crate::native;
use crate::topic_partition::TopicPartition;
use crate::topics::{InitialPartitions, Listing, Selection};

/// How long librdkafka is waited for before commands are looked at again.
const POLL: Duration = Duration::from_millis(20);
/// How long the last commit and the leaving of the group may take, each.
const CLOSE_WAIT: Duration = Duration::from_secs(3);
/// The same where no broker is connected.
const CLOSE_WAIT_ALONE: Duration = Duration::from_secs(1);

/// How a client's life ended.
pub(super) enum Outcome {
    /// As it was told.
    Closed,
    /// The group, or the cluster, wants the other protocol; why.
    OtherProtocol(String),
    /// The group still has another member by the name of this instance.
    InstanceHeld,
    /// The membership ended by what may pass, or be put right while this relay runs; why.
    Again(String),
    /// Another cluster answers; its id.
    OtherCluster(String),
    /// The files of TLS have changed, which this client has read.
    Renewed,
}

/// The state of a source that outlives one client.
pub(super) struct SourceState {
    /// What the cluster had when it was asked last.
    pub(super) listing: Listing,
    pub(super) first: InitialPartitions,
    /// What was committed of partitions that the group took away without being asked: should it
    /// have forgotten, they go on there.
    pub(super) kept: HashMap<TopicPartition, i64>,
    /// The cluster's id, once it is known.
    pub(super) cluster: Option<String>,
    /// The files of TLS that the client has read.
    pub(super) files: Renewal,
    /// Events that found no room yet.
    events: VecDeque<SourceEvent>,
    /// The last id that was given, so that an answer that comes late is none for a later client.
    last_id: u64,
}

impl SourceState {
    pub(super) fn new(listing: Listing) -> Self {
        let first = InitialPartitions::new(&listing.topics);
        let (kept, cluster) = (HashMap::new(), None);
        Self {
            listing,
            first,
            kept,
            cluster,
            files: Renewal::new(None),
            events: VecDeque::new(),
            last_id: 0,
        }
    }

    /// Begins in another cluster: nothing that was known is of use there.
    pub(super) fn move_to(&mut self, listing: Listing) {
        let Self { events, last_id, .. } = std::mem::replace(self, Self::new(listing));
        (self.events, self.last_id) = (events, last_id);
    }

    pub(super) fn listed(&mut self, listing: Listing) {
        self.first.listed(&listing);
        self.kept.retain(|of, _| !listing.lacks(&of.topic));
        self.listing = listing;
    }
}

/// One client with its threads, and their channels.
pub(super) struct Driver<'a> {
    pub(super) source: &'a MembershipThread,
    pub(super) state: &'a mut SourceState,
    pub(super) protocol: GroupProtocol,
    pub(super) client: Arc<Client>,
    pub(super) fetcher: Fetcher,
    pub(super) lookups: Sender<LookupRequest>,
    pub(super) commits: Sender<CommitRequest>,
}

impl<'a> Driver<'a> {
    /// Runs until closed, or until the client is of no more use.
    pub(super) fn run(
        source: &'a MembershipThread,
        state: &'a mut SourceState,
        client: Arc<Client>,
        protocol: GroupProtocol,
    ) -> Result<Outcome, String> {
        let listing = state.listing.clone();
        let mut driver = Self::start(source, state, client, protocol)
            .map_err(|error| format!("no thread: {error}"))?;
        let mut partitions = Partitions::default();
        let mut group_check = GroupCheck::new(source);
        partitions.listed(&mut driver, listing);
        loop {
            // Errors come by the callbacks.
            let _ = driver.client.poll(POLL);
            let mut outcome = group_check.check(&driver, partitions.is_assigned());
            while let Some(rebalance) = driver.client.context().next_rebalance() {
                if let Some(moved) = driver.other_cluster() {
                    driver.decline(&rebalance);
                    outcome = Some(moved);
                    continue;
                }
                driver.source.health.rebalances.add(1);
                match rebalance {
                    // What is held is being given back, and goes with the client.
                    Rebalance::Assign(_) | Rebalance::Revoke(_) if partitions.is_leaving() => {
                        driver.decline(&rebalance)
                    }
                    Rebalance::Assign(assigned) => partitions.assign(&mut driver, assigned),
                    Rebalance::Revoke(revoked) => partitions.revoke(&mut driver, &revoked),
                    Rebalance::Lost(lost) => partitions.lost(&mut driver, &lost),
                }
            }
            while let Some(command) = driver.source.next_command() {
                match command {
                    Command::Close(last) => {
                        driver.close(&mut partitions, last);
                        return Ok(Outcome::Closed);
                    }
                    Command::GroupAnswer { asked_as, answer } => {
                        let assigned = partitions.is_assigned();
                        outcome =
                            outcome.or(group_check.answered(&driver, assigned, asked_as, answer));
                    }
                    Command::OtherCluster(id) => outcome = Some(Outcome::OtherCluster(id)),
                    // Another cluster does not have what this one had.
                    Command::OutOfRange { .. }
                    | Command::ResetNeeded { .. }
                    | Command::ResetTo { .. }
                        if driver.other_cluster().is_some() =>
                    {
                        outcome = driver.other_cluster();
                    }
                    command => {
                        if let Err(reason) = partitions.handle(&mut driver, command) {
                            driver.stop_route(&partitions, reason);
                        }
                    }
                }
            }
            driver.check_files(&mut partitions);
            partitions.check_revoking(&mut driver);
            partitions.check_membership(&driver);
            partitions.check_stalls(&driver);
            driver.flush_events();
            if let Some(outcome) = driver.fatal().or(outcome.map(Ok)) {
                if source.health.is_stopped() {
                    driver.end(&mut partitions);
                    source.wait_for_close();
                    return Ok(Outcome::Closed);
                }
                if outcome.is_ok() {
                    // The next client is assigned them anew.
                    partitions.all_lost(&mut driver);
                }
                driver.end(&mut partitions);
                return outcome;
            }
            if partitions.has_left() {
                driver.end(&mut partitions);
                return Ok(Outcome::Renewed);
            }
        }
    }

    fn start(
        source: &'a MembershipThread,
        state: &'a mut SourceState,
        client: Arc<Client>,
        protocol: GroupProtocol,
    ) -> std::io::Result<Self> {
        let (lookups, asked) = channel();
        let (commits, commit_requests) = channel();
        let config = &source.config;
        let lookup = Lookup {
            route: config.route.clone(),
            client: Arc::clone(&client),
            selection: Selection::new(&config.topics),
            refresh: config.topic_refresh,
            isolation: config.isolation,
            in_group: config.group.is_some(),
            known: match config.group {
                Some(_) => BTreeSet::new(),
                None => state.listing.names().map(str::to_owned).collect(),
            },
            commands: source.commands.0.clone(),
            found: HashMap::new(),
        };
        guard::spawn("kafka-lookup", &source.commands.0, move || lookup.run(&asked))?;
        let (committing, health, answers) =
            (Arc::clone(&client), Arc::clone(&source.health), source.commands.0.clone());
        let commit = move || commits::run(&committing, &health, &commit_requests, &answers);
        guard::spawn("kafka-commit", &source.commands.0, commit)?;
        let fetcher = match &source.connector {
            Some(connector) => Fetcher::Fast(Fast::start(
                &source.runtime,
                FetcherParts {
                    cluster: &source.cluster,
                    config,
                    connector: Arc::clone(connector),
                    client: &client,
                    records_tx: source.record_sender(),
                    commands: source.commands.0.clone(),
                    health: Arc::clone(&source.health),
                    reporter: source.reporter(),
                },
            )),
            None => Fetcher::Librdkafka(librdkafka(source, &client)?),
        };
        source.health.set_fetcher(fetcher.name());
        Ok(Self { source, state, protocol, client, fetcher, lookups, commits })
    }

    /// Fetches by librdkafka from now on.
    pub(super) fn use_librdkafka(&mut self) -> std::io::Result<()> {
        let librdkafka = librdkafka(self.source, &self.client)?;
        self.fetcher.stop();
        self.fetcher = Fetcher::Librdkafka(librdkafka);
        self.source.health.set_fetcher(self.fetcher.name());
        self.source.health.set_unfetched(None);
        Ok(())
    }

    /// Ends the pause of partitions that librdkafka only held.
    pub(super) fn resume(&self, assignments: &[Arc<Assignment>]) -> Result<(), String> {
        let mut list = TopicPartitionList::with_capacity(assignments.len());
        for assignment in assignments {
            list.add_partition(assignment.topic(), assignment.partition());
        }
        self.client.resume(&list).map_err(|error| plain(&error))
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.state.last_id += 1;
        self.state.last_id
    }

    /// Tells the route, now or as soon as there is room.
    pub(super) fn publish(&mut self, event: SourceEvent) {
        self.state.events.push_back(event);
        self.flush_events();
    }

    fn flush_events(&mut self) {
        while let Some(event) = self.state.events.pop_front() {
            if let Err(TrySendError::Full(event)) = self.source.events.try_send(event) {
                self.state.events.push_front(event);
                return;
            }
        }
    }

    /// Reads nothing more. The route still commits what it delivers, and closes the source when it
    /// is done.
    fn stop_route(&mut self, partitions: &Partitions, reason: String) {
        error!(route = self.source.config.route, reason, "the Kafka side of the route stops");
        self.source.health.set_stopped(&reason);
        partitions.stop_reading();
        self.publish(SourceEvent::Stopped(reason));
    }

    /// Gives everything back once the client's files are no longer those that are there: another
    /// one takes over.
    fn check_files(&mut self, partitions: &mut Partitions) {
        // Without a group only this client knows how far the route is.
        if partitions.is_leaving() || self.source.config.group.is_none() {
            return;
        }
        let route = &self.source.config.route;
        if self.state.files.is_due(route) && !self.source.health.is_stopped() {
            info!(
                route,
                "the files of kafka.security.tls have changed: joining the group anew with them"
            );
            partitions.leave(self);
        }
    }

    /// Answers an assignment: without an answer the client could not be closed.
    pub(super) fn take_nothing(&self) {
        if let Err(error) = self.client.incremental_assign(&TopicPartitionList::new()) {
            debug!(route = self.source.config.route, %error, "an assignment that is not taken up");
        }
    }

    /// What a fatal error, if there was one, means.
    fn fatal(&self) -> Option<Result<Outcome, String>> {
        let (code, reason) = self.client.client().fatal_error()?;
        Some(match code {
            // A static member of the newer protocol that was killed has its place until its session
            // times out.
            RDKafkaErrorCode::UnreleasedInstanceId => Ok(Outcome::InstanceHeld),
            RDKafkaErrorCode::UnsupportedFeature
            | RDKafkaErrorCode::UnsupportedVersion
            | RDKafkaErrorCode::InconsistentGroupProtocol
            | RDKafkaErrorCode::InvalidRequest
                if self.may_fall_back() =>
            {
                Ok(Outcome::OtherProtocol(reason))
            }
            // Whoever joined by the name of this instance would be fenced in turn, again and again.
            RDKafkaErrorCode::FencedInstanceId => {
                Err(format!("{code}: another relay has the same `instance`"))
            }
            _ => {
                let (_, reason) = reason.rsplit_once(" fatal error: ").unwrap_or(("", &reason));
                Ok(Outcome::Again(reason.to_owned()))
            }
        })
    }

    /// Answers an assignment that is declined. What is taken away is let go with everything
    /// else.
    fn decline(&self, rebalance: &Rebalance) {
        if matches!(rebalance, Rebalance::Assign(_)) {
            self.take_nothing();
        }
    }

    /// Whether the brokers are those of another cluster now.
    pub(super) fn other_cluster(&self) -> Option<Outcome> {
        let now = native::cluster_id(&self.client)?;
        (self.state.cluster.as_ref()? != &now).then_some(Outcome::OtherCluster(now))
    }

    /// Whether the protocol was tried, and not asked for.
    fn may_fall_back(&self) -> bool {
        let asked_for = self.source.config.group.as_ref().and_then(|group| group.protocol);
        asked_for.is_none() && self.protocol == GroupProtocol::Consumer
    }

    /// Commits, leaves the group, ends the threads.
    fn close(mut self, partitions: &mut Partitions, last: Positions) {
        partitions.stop_reading();
        if self.source.config.group.is_some() && !last.is_empty() {
            self.commit_last(last);
        }
        self.end(partitions);
    }

    fn close_wait(&self) -> Duration {
        if self.source.health.is_connected() { CLOSE_WAIT } else { CLOSE_WAIT_ALONE }
    }

    fn commit_last(&mut self, last: Positions) {
        let (id, deadline) = (self.next_id(), Instant::now() + self.close_wait());
        if self.commits.send(CommitRequest::Final { id, positions: last, deadline }).is_err() {
            // Its thread panicked, which was told.
            return;
        }
        let slack = Duration::from_millis(500);
        while Instant::now() < deadline + slack {
            let _ = self.client.poll(POLL);
            while let Some(command) = self.source.next_command() {
                if matches!(command, Command::Committed { id: done } if done == id) {
                    return;
                }
            }
        }
        warn!(route = self.source.config.route, "the last commit was not answered in time");
    }

    /// Lets every partition go, leaves the group (a static member keeps its place), ends the
    /// threads.
    fn end(mut self, partitions: &mut Partitions) {
        self.fetcher.stop();
        self.client.context().set_closing();
        partitions.release_all(&mut self);
        let (wait, route) = (self.close_wait(), &self.source.config.route);
        let Self { client, lookups, commits, fetcher, .. } = self;
        // Their threads end, and let go of the client.
        drop((lookups, commits, fetcher));
        let (closed, done) = channel();
        let closer = Builder::new().name("kafka-close".to_owned()).spawn(move || {
            drop_last(client);
            // It may have taken too long for anyone to wait.
            let _ = closed.send(());
        });
        if closer.is_err() || done.recv_timeout(wait).is_err() {
            warn!(route, "the client was not closed in time");
        } else {
            debug!(route, "client closed");
        }
    }
}

fn librdkafka(source: &MembershipThread, client: &Arc<Client>) -> std::io::Result<Librdkafka> {
    let in_group = source.config.group.is_some();
    let commands = source.commands.0.clone();
    // It tells of a batch that it cannot read, and not where that ends.
    let corrupt = CorruptHandler::new(
        OnCorrupt::Stop,
        commands.clone(),
        Arc::clone(&source.health),
        source.reporter(),
    );
    Librdkafka::start(client, in_group, source.record_sender(), commands, corrupt)
}

/// Drops the client once nobody else holds it. That closes it, which leaves the group.
///
/// Closing it before would make `rdkafka` close it twice and log an error.
fn drop_last(mut client: Arc<Client>) {
    loop {
        match Arc::try_unwrap(client) {
            // `rdkafka` logs an error where a client that has met a fatal one, told before, is
            // closed.
            Ok(client) => return with_default(NoSubscriber::new(), || drop(client)),
            Err(shared) => client = shared,
        }
        sleep(Duration::from_millis(2));
    }
}
