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
use super::group_watch::GroupWatch;
use super::partitions::Partitions;
use super::renewal::Renewal;
use super::thread::Starting;
use crate::assignment::{Assignment, Positions, SourceEvent};
use crate::client::Part;
use crate::client::{Client, Rebalance, plain};
use crate::commits::{self, Order};
use crate::config::{GroupProtocol, OnCorrupt};
use crate::fetcher::{Corrupt, Fast, Fetcher, Librdkafka, Parts};
use crate::guard;
use crate::lookup::{Ask, Lookup};
use crate::native;
use crate::topics::{First, Listing, Selection};

/// How long librdkafka is waited for before commands are looked at again.
const POLL: Duration = Duration::from_millis(20);
/// How long the last commit and the leaving of the group may take, each.
const CLOSE_WAIT: Duration = Duration::from_secs(3);
/// The same where no broker is connected.
const CLOSE_WAIT_ALONE: Duration = Duration::from_secs(1);

/// How a session ended.
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

/// What goes on from one session of a source to the next.
pub(super) struct Lasting {
    /// What the cluster had when it was asked last.
    pub(super) listing: Listing,
    pub(super) first: First,
    /// What was committed of partitions that the group took away without being asked: should it
    /// have forgotten, they go on there.
    pub(super) kept: HashMap<Part, i64>,
    /// The cluster's id, once it is known.
    pub(super) cluster: Option<String>,
    /// The files of TLS that the client has read.
    pub(super) files: Renewal,
    /// Events that found no room yet.
    events: VecDeque<SourceEvent>,
    /// The last id that was given, so that an answer that comes late is none for a later session.
    last_id: u64,
}

impl Lasting {
    pub(super) fn new(listing: Listing) -> Self {
        let first = First::new(&listing.topics);
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
        self.kept.retain(|(topic, _), _| !listing.lacks(topic));
        self.listing = listing;
    }
}

/// The session's threads and what they are told by.
pub(super) struct Session<'a> {
    pub(super) source: &'a Starting,
    pub(super) lasting: &'a mut Lasting,
    pub(super) protocol: GroupProtocol,
    pub(super) client: Arc<Client>,
    pub(super) fetcher: Fetcher,
    pub(super) questions: Sender<Ask>,
    pub(super) orders: Sender<Order>,
}

impl<'a> Session<'a> {
    /// Runs until closed, or until the client is of no more use.
    pub(super) fn run(
        source: &'a Starting,
        lasting: &'a mut Lasting,
        client: Arc<Client>,
        protocol: GroupProtocol,
    ) -> Result<Outcome, String> {
        let listing = lasting.listing.clone();
        let mut session = Self::start(source, lasting, client, protocol)
            .map_err(|error| format!("no thread: {error}"))?;
        let mut partitions = Partitions::default();
        let mut watch = GroupWatch::new(source);
        partitions.listed(&mut session, listing);
        loop {
            // Errors come by the callbacks.
            let _ = session.client.poll(POLL);
            let mut outcome = watch.look(&session, partitions.is_assigned());
            while let Some(rebalance) = session.client.context().next_rebalance() {
                if let Some(moved) = session.other_cluster() {
                    session.decline(&rebalance);
                    outcome = Some(moved);
                    continue;
                }
                session.source.board.rebalances.add(1);
                match rebalance {
                    // What is held is being given back, and goes with the client.
                    Rebalance::Assign(_) | Rebalance::Revoke(_) if partitions.is_leaving() => {
                        session.decline(&rebalance)
                    }
                    Rebalance::Assign(parts) => partitions.assign(&mut session, parts),
                    Rebalance::Revoke(parts) => partitions.revoke(&mut session, &parts),
                    Rebalance::Lost(parts) => partitions.lost(&mut session, &parts),
                }
            }
            while let Some(command) = session.source.next_command() {
                match command {
                    Command::Close(last) => {
                        session.close(&mut partitions, last);
                        return Ok(Outcome::Closed);
                    }
                    Command::Standing { asked_as, answer } => {
                        let assigned = partitions.is_assigned();
                        outcome = outcome.or(watch.answered(&session, assigned, asked_as, answer));
                    }
                    Command::OtherCluster(id) => outcome = Some(Outcome::OtherCluster(id)),
                    // Another cluster does not have what this one had.
                    Command::OutOfRange { .. }
                    | Command::Elsewhere { .. }
                    | Command::ResetTo { .. }
                        if session.other_cluster().is_some() =>
                    {
                        outcome = session.other_cluster();
                    }
                    command => {
                        if let Err(reason) = partitions.handle(&mut session, command) {
                            session.stop_route(&partitions, reason);
                        }
                    }
                }
            }
            session.look_at_files(&mut partitions);
            partitions.look_at_revoking(&mut session);
            partitions.look_for_membership(&session);
            partitions.look_for_stalls(&session);
            session.flush_events();
            if let Some(outcome) = session.fatal().or(outcome.map(Ok)) {
                if source.board.is_stopped() {
                    session.end(&mut partitions);
                    source.wait_for_close();
                    return Ok(Outcome::Closed);
                }
                if outcome.is_ok() {
                    // The next session takes them up anew.
                    partitions.all_lost(&mut session);
                }
                session.end(&mut partitions);
                return outcome;
            }
            if partitions.has_left() {
                session.end(&mut partitions);
                return Ok(Outcome::Renewed);
            }
        }
    }

    fn start(
        source: &'a Starting,
        lasting: &'a mut Lasting,
        client: Arc<Client>,
        protocol: GroupProtocol,
    ) -> std::io::Result<Self> {
        let (questions, asked) = channel();
        let (orders, ordered) = channel();
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
                None => lasting.listing.names().cloned().collect(),
            },
            commands: source.commands.0.clone(),
            found: HashMap::new(),
        };
        guard::spawn("kafka-lookup", &source.commands.0, move || lookup.run(&asked))?;
        let (committing, board, answers) =
            (Arc::clone(&client), Arc::clone(&source.board), source.commands.0.clone());
        let commit = move || commits::run(&committing, &board, &ordered, &answers);
        guard::spawn("kafka-commit", &source.commands.0, commit)?;
        let fetcher = match &source.connector {
            Some(connector) => Fetcher::Fast(Fast::start(
                &source.runtime,
                Parts {
                    cluster: &source.cluster,
                    config,
                    connector: Arc::clone(connector),
                    client: &client,
                    outlet: source.outlet(),
                    commands: source.commands.0.clone(),
                    board: Arc::clone(&source.board),
                    reporter: source.reporter(),
                },
            )),
            None => Fetcher::Librdkafka(librdkafka(source, &client)?),
        };
        source.board.set_fetcher(fetcher.name());
        Ok(Self { source, lasting, protocol, client, fetcher, questions, orders })
    }

    /// Fetches by librdkafka from now on.
    pub(super) fn use_librdkafka(&mut self) -> std::io::Result<()> {
        let librdkafka = librdkafka(self.source, &self.client)?;
        self.fetcher.stop();
        self.fetcher = Fetcher::Librdkafka(librdkafka);
        self.source.board.set_fetcher(self.fetcher.name());
        self.source.board.set_unfetched(None);
        Ok(())
    }

    /// Ends the pause of partitions that librdkafka only held.
    pub(super) fn resume(&self, assignments: &[Arc<Assignment>]) -> Result<(), String> {
        let mut list = TopicPartitionList::with_capacity(assignments.len());
        for assignment in assignments {
            list.add_partition(&assignment.topic, assignment.partition);
        }
        self.client.resume(&list).map_err(|error| plain(&error))
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.lasting.last_id += 1;
        self.lasting.last_id
    }

    /// Tells the route, now or as soon as there is room.
    pub(super) fn tell(&mut self, event: SourceEvent) {
        self.lasting.events.push_back(event);
        self.flush_events();
    }

    fn flush_events(&mut self) {
        while let Some(event) = self.lasting.events.pop_front() {
            if let Err(TrySendError::Full(event)) = self.source.events.try_send(event) {
                self.lasting.events.push_front(event);
                return;
            }
        }
    }

    /// Reads nothing more. The route still commits what it delivers, and closes the session when it
    /// is done.
    fn stop_route(&mut self, partitions: &Partitions, reason: String) {
        error!(route = self.source.config.route, reason, "the Kafka side of the route stops");
        self.source.board.set_stopped(&reason);
        partitions.stop_reading();
        self.tell(SourceEvent::Stopped(reason));
    }

    /// Gives everything back once the client's files are no longer those that are there: another
    /// one takes over.
    fn look_at_files(&mut self, partitions: &mut Partitions) {
        // Without a group only this session knows how far the route is.
        if partitions.is_leaving() || self.source.config.group.is_none() {
            return;
        }
        let route = &self.source.config.route;
        if self.lasting.files.is_due(route) && !self.source.board.is_stopped() {
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

    /// Answers an assignment that is not taken up. What is taken away is let go with everything
    /// else.
    fn decline(&self, rebalance: &Rebalance) {
        if matches!(rebalance, Rebalance::Assign(_)) {
            self.take_nothing();
        }
    }

    /// Whether the brokers are those of another cluster now.
    pub(super) fn other_cluster(&self) -> Option<Outcome> {
        let now = native::cluster_id(&self.client)?;
        (self.lasting.cluster.as_ref()? != &now).then_some(Outcome::OtherCluster(now))
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
        if self.source.board.is_connected() { CLOSE_WAIT } else { CLOSE_WAIT_ALONE }
    }

    fn commit_last(&mut self, last: Positions) {
        let (id, deadline) = (self.next_id(), Instant::now() + self.close_wait());
        if self.orders.send(Order::Final { id, positions: last, deadline }).is_err() {
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
        let Self { client, questions, orders, fetcher, .. } = self;
        // Their threads end, and let go of the client.
        drop((questions, orders, fetcher));
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

fn librdkafka(source: &Starting, client: &Arc<Client>) -> std::io::Result<Librdkafka> {
    let in_group = source.config.group.is_some();
    let commands = source.commands.0.clone();
    // It tells of a batch that it cannot read, and not where that ends.
    let corrupt = Corrupt::new(
        OnCorrupt::Stop,
        commands.clone(),
        Arc::clone(&source.board),
        source.reporter(),
    );
    Librdkafka::start(client, in_group, source.outlet(), commands, corrupt)
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
