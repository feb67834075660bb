//! Drives one client's life: polls it, reports what happens to the partitions' decisions, executes
//! their actions, and at last closes it.

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

use super::action::Action;
use super::environment::Environment;
use super::event::Event;
use super::group_check::GroupCheck;
use super::memory::Memory;
use super::monitor::MembershipVerdict;
use super::partitions::{Partitions, Settings};
use super::renewal::Renewal;
use super::stop::StopReason;
use crate::assignment::{Assignment, Positions};
use crate::client::{Client, plain};
use crate::commits::{self, CommitDone, CommitRequest};
use crate::config::GroupProtocol;
use crate::fetcher::{Fast, FetchFault, Fetcher, FetcherParts, Librdkafka};
use crate::guard;
use crate::lookup::{Lookup, LookupAnswer, LookupRequest};
use crate::native;
use crate::source::{RevokeDone, RouteRequest, SourceEvent};
use crate::topics::{Listing, Selection};

/// How long librdkafka is waited for before events are looked at again.
const POLL: Duration = Duration::from_millis(20);
/// How long the last commit and the leaving of the group may take, each.
const CLOSE_WAIT: Duration = Duration::from_secs(3);
/// The same where no broker is connected.
const CLOSE_WAIT_ALONE: Duration = Duration::from_secs(1);
/// How much longer than its deadline the last commit is waited for.
const COMMIT_SLACK: Duration = Duration::from_millis(500);

/// How a client's life ended.
pub(super) enum Outcome {
    /// The source was closed.
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

/// The state of the driver that outlives one client.
pub(super) struct Lasting {
    /// The cluster's id, once it is known.
    pub(super) cluster: Option<String>,
    /// The files of TLS that the client has read.
    pub(super) files: Renewal,
    /// Events that found no room yet.
    events: VecDeque<SourceEvent>,
}

impl Lasting {
    pub(super) fn new(cluster: Option<String>) -> Self {
        Self { cluster, files: Renewal::new(None), events: VecDeque::new() }
    }
}

/// One client with its threads and their channels.
pub(super) struct Driver<'a> {
    env: &'a Environment,
    lasting: &'a mut Lasting,
    protocol: GroupProtocol,
    client: Arc<Client>,
    fetcher: Fetcher,
    lookups: Sender<LookupRequest>,
    commits: Sender<CommitRequest>,
    group_check: GroupCheck,
    /// Whether a fault of the group was reported that the coordinator told.
    has_reported: bool,
}

impl<'a> Driver<'a> {
    /// Runs until closed, or until the client is of no more use.
    pub(super) fn run(
        env: &'a Environment,
        lasting: &'a mut Lasting,
        memory: &mut Memory,
        client: Arc<Client>,
        protocol: GroupProtocol,
    ) -> Result<Outcome, StopReason> {
        let listing = memory.listing.clone();
        let mut driver = Self::start(env, lasting, client, protocol, &listing)?;
        let settings = Settings::new(&env.config, protocol, driver.fetcher.kind());
        let mut partitions = Partitions::new(settings, memory);
        partitions.handle_listing(listing, Instant::now());
        driver.execute_all(&mut partitions);
        loop {
            let wait = partitions.poll_timeout(Instant::now()).0 - Instant::now();
            // Errors come by the callbacks.
            let _ = driver.client.poll(wait.min(POLL));
            let mut outcome = driver.check_group(&partitions);
            outcome = driver.handle_rebalances(&mut partitions).or(outcome);
            while let Some(event) = env.next_event() {
                match event {
                    Event::Route(RouteRequest::Close(last)) => {
                        driver.close(&mut partitions, last);
                        return Ok(Outcome::Closed);
                    }
                    event => outcome = driver.handle(&mut partitions, event).or(outcome),
                }
                driver.execute_all(&mut partitions);
            }
            driver.check_files(&mut partitions);
            let now = Instant::now();
            if now >= partitions.poll_timeout(now).0 {
                partitions.handle_timeout(now);
            }
            driver.execute_all(&mut partitions);
            driver.flush_events();
            if let Some(outcome) = driver.fatal().or(outcome.map(Ok)) {
                if env.health.is_stopped() {
                    driver.end(&mut partitions);
                    env.wait_for_close();
                    return Ok(Outcome::Closed);
                }
                if outcome.is_ok() {
                    // The next client is assigned them anew.
                    partitions.all_lost();
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
        env: &'a Environment,
        lasting: &'a mut Lasting,
        client: Arc<Client>,
        protocol: GroupProtocol,
        listing: &Listing,
    ) -> std::io::Result<Self> {
        let (lookups, lookup_requests) = channel();
        let (commits, commit_requests) = channel();
        let config = &env.config;
        let lookup = Lookup {
            route: config.route.clone(),
            client: Arc::clone(&client),
            selection: Selection::new(&config.topics),
            refresh: config.topic_refresh,
            isolation: config.isolation,
            in_group: config.group.is_some(),
            known: match config.group {
                Some(_) => BTreeSet::new(),
                None => listing.names().map(str::to_owned).collect(),
            },
            answers: env.mailbox(),
            found: HashMap::new(),
        };
        let panics = env.mailbox();
        guard::spawn("kafka-lookup", &panics, move || lookup.run(&lookup_requests))?;
        let (committing, health) = (Arc::clone(&client), Arc::clone(&env.health));
        let done = env.mailbox();
        let commit = move || commits::run(&committing, &health, &commit_requests, &done);
        guard::spawn("kafka-commit", &panics, commit)?;
        let fetcher = match &env.connector {
            Some(connector) => Fetcher::Fast(Fast::start(
                &env.runtime,
                FetcherParts {
                    cluster: &env.cluster,
                    config,
                    connector: Arc::clone(connector),
                    client: &client,
                    records_tx: env.record_sender(),
                    faults: env.mailbox(),
                    panics,
                    health: Arc::clone(&env.health),
                    reporter: env.reporter(),
                },
            )),
            None => Fetcher::Librdkafka(librdkafka(env, &client)?),
        };
        let group_check = GroupCheck::new(env, Instant::now());
        let has_reported = false;
        Ok(Self {
            env,
            lasting,
            protocol,
            client,
            fetcher,
            lookups,
            commits,
            group_check,
            has_reported,
        })
    }

    fn handle_rebalances(&mut self, partitions: &mut Partitions<'_>) -> Option<Outcome> {
        let mut outcome = None;
        while let Some(rebalance) = self.client.context().next_rebalance() {
            if let Some(moved) = self.other_cluster() {
                partitions.decline(&rebalance);
                outcome = Some(moved);
            } else {
                partitions.handle_rebalance(rebalance, Instant::now());
            }
            self.execute_all(partitions);
        }
        outcome
    }

    /// Hands an event on. Returns why the client is to end, if it is.
    fn handle(&mut self, partitions: &mut Partitions<'_>, event: Event) -> Option<Outcome> {
        let now = Instant::now();
        match event {
            Event::Route(request) => partitions.handle_request(request, now),
            Event::Commit(done) => partitions.handle_commit(&done),
            Event::Panicked(panicked) => partitions.stop(StopReason::Panicked(panicked)),
            Event::Group(reply) => {
                let is_assigned = partitions.is_assigned();
                let verdict =
                    self.group_check.answered(self.env, &self.client, is_assigned, reply, now);
                return self.judged(partitions, verdict);
            }
            Event::Fetch(FetchFault::OtherCluster(id)) => return Some(Outcome::OtherCluster(id)),
            Event::Fetch(fault) => {
                // Another cluster does not have what this one had.
                let is_reset =
                    matches!(fault, FetchFault::OutOfRange { .. } | FetchFault::ResetNeeded { .. });
                match self.other_cluster() {
                    Some(moved) if is_reset => return Some(moved),
                    _ => partitions.handle_fault(fault),
                }
            }
            Event::Lookup(answer) => match self.other_cluster() {
                Some(moved) if matches!(answer, LookupAnswer::Earliest { .. }) => {
                    return Some(moved);
                }
                _ => partitions.handle_lookup(answer, self.client.assignment_lost(), now),
            },
        }
        None
    }

    /// Asks the coordinator from time to time. Returns why the client is to end, if it is.
    fn check_group(&mut self, partitions: &Partitions<'_>) -> Option<Outcome> {
        let now = Instant::now();
        if !self.group_check.is_due(now) {
            return None;
        }
        let moved = self.other_cluster();
        if moved.is_none() {
            let is_assigned = partitions.is_assigned();
            self.group_check.check(self.env, &self.client, self.protocol, is_assigned, now);
        }
        moved
    }

    fn judged(
        &mut self,
        partitions: &mut Partitions<'_>,
        verdict: MembershipVerdict,
    ) -> Option<Outcome> {
        match verdict {
            MembershipVerdict::Unclear => {}
            MembershipVerdict::Fine => {
                if std::mem::take(&mut self.has_reported) {
                    partitions.set_group_fault(None);
                }
            }
            MembershipVerdict::Fault(reason) => {
                self.has_reported = true;
                partitions.set_group_fault(Some(self.env.report_group_fault(&reason)));
            }
            MembershipVerdict::Gone(reason) => return Some(Outcome::Again(reason)),
        }
        None
    }

    /// Executes the actions that are called for, then shows the health.
    fn execute_all(&mut self, partitions: &mut Partitions<'_>) {
        while let Some(action) = partitions.poll_action() {
            self.execute(partitions, action);
        }
        if let Some(health) = partitions.poll_health() {
            self.env.health.set_membership(health);
        }
    }

    fn execute(&mut self, partitions: &mut Partitions<'_>, action: Action) {
        match action {
            Action::Subscribe(topics) => self.subscribe(&topics),
            Action::Add(assignments) => {
                let added = self.fetcher.add(&assignments);
                self.report("adding partitions", added);
            }
            Action::Remove(assignments) => self.fetcher.remove(&assignments),
            Action::AssignNothing => {
                if let Err(error) = self.client.incremental_assign(&TopicPartitionList::new()) {
                    debug!(route = self.env.config.route, %error, "an assignment that is declined");
                }
            }
            Action::Seek(assignment, generation) => {
                let sought = self.fetcher.seek(&assignment, generation);
                let what = format!("{assignment}: resuming at {}", generation.start);
                self.report(&what, sought);
            }
            Action::Pause(assignment) => {
                let paused = self.fetcher.pause(&assignment);
                self.report(&format!("{assignment}: pausing"), paused);
            }
            Action::UseLibrdkafka(assignments) => {
                if let Err(reason) = self.use_librdkafka(&assignments) {
                    partitions.stop(StopReason::Fetcher(reason));
                }
            }
            // The thread ends before its sender only by a panic, which stops the route.
            Action::Lookup(request) => drop(self.lookups.send(request)),
            // As above.
            Action::Commit(request) => drop(self.commits.send(request)),
            Action::Publish(event) => self.publish(event),
            Action::Revoke { id, assignments } => {
                let done = RevokeDone::new(id, self.env.mailbox());
                self.publish(SourceEvent::Revoked { assignments, done });
            }
            Action::Report(reason) => self.client.context().report(&reason),
            Action::CheckMember => {
                let is_member = native::membership(&self.client).is_some();
                partitions.handle_member(is_member, Instant::now());
            }
            Action::CheckBackpressure => {
                let was_backpressured = self.env.health.was_backpressured();
                partitions.handle_backpressure(was_backpressured, Instant::now());
            }
            Action::Stop(reason) => {
                let reason = reason.to_string();
                error!(route = self.env.config.route, reason, "the Kafka side of the route stops");
                self.env.health.set_stopped(&reason);
                self.publish(SourceEvent::Stopped(reason));
            }
        }
    }

    fn subscribe(&self, topics: &[Arc<str>]) {
        if topics.is_empty() {
            return self.client.unsubscribe();
        }
        let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
        self.report("subscribing", self.client.subscribe(&topics).map_err(|error| plain(&error)));
    }

    fn report(&self, what: &str, outcome: Result<(), String>) {
        if let Err(reason) = outcome {
            self.client.context().report(&format!("{what}: {reason}"));
        }
    }

    /// Lets librdkafka fetch from now on.
    fn use_librdkafka(&mut self, assignments: &[Arc<Assignment>]) -> Result<(), String> {
        if !assignments.is_empty() {
            self.fetcher.remove(assignments);
        }
        let librdkafka = librdkafka(self.env, &self.client).map_err(|error| error.to_string())?;
        self.fetcher.stop();
        self.fetcher = Fetcher::Librdkafka(librdkafka);
        self.fetcher.add(assignments)?;
        // They were paused.
        let mut list = TopicPartitionList::with_capacity(assignments.len());
        for assignment in assignments {
            list.add_partition(assignment.topic(), assignment.partition());
        }
        self.client.resume(&list).map_err(|error| plain(&error))
    }

    /// Tells the route, now or as soon as there is room.
    fn publish(&mut self, event: SourceEvent) {
        self.lasting.events.push_back(event);
        self.flush_events();
    }

    fn flush_events(&mut self) {
        while let Some(event) = self.lasting.events.pop_front() {
            if let Err(TrySendError::Full(event)) = self.env.events.try_send(event) {
                self.lasting.events.push_front(event);
                return;
            }
        }
    }

    /// Gives everything back once the client's files are no longer those that are there: another
    /// one takes over.
    fn check_files(&mut self, partitions: &mut Partitions<'_>) {
        // Without a group only this client knows how far the route is.
        if partitions.is_leaving() || self.env.config.group.is_none() {
            return;
        }
        let route = &self.env.config.route;
        if self.lasting.files.is_due(route) && !self.env.health.is_stopped() {
            info!(
                route,
                "the files of kafka.security.tls have changed: joining the group anew with them"
            );
            partitions.leave(Instant::now());
        }
    }

    /// The meaning of a fatal error, if there was one.
    fn fatal(&self) -> Option<Result<Outcome, StopReason>> {
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
            RDKafkaErrorCode::FencedInstanceId => Err(StopReason::Fenced(code.to_string())),
            _ => {
                let (_, reason) = reason.rsplit_once(" fatal error: ").unwrap_or(("", &reason));
                Ok(Outcome::Again(reason.to_owned()))
            }
        })
    }

    /// Whether the brokers are those of another cluster now.
    fn other_cluster(&self) -> Option<Outcome> {
        let now = native::cluster_id(&self.client)?;
        (self.lasting.cluster.as_ref()? != &now).then_some(Outcome::OtherCluster(now))
    }

    /// Whether the protocol was tried, and not asked for.
    fn may_fall_back(&self) -> bool {
        let asked_for = self.env.config.group.as_ref().and_then(|group| group.protocol);
        asked_for.is_none() && self.protocol == GroupProtocol::Consumer
    }

    /// Commits, leaves the group, ends the threads.
    fn close(mut self, partitions: &mut Partitions<'_>, last: Positions) {
        let deadline = Instant::now() + self.close_wait();
        let commit = partitions.close(last, deadline);
        self.execute_all(partitions);
        if let Some(id) = commit {
            self.wait_for_commit(id, deadline + COMMIT_SLACK);
        }
        self.end(partitions);
    }

    fn close_wait(&self) -> Duration {
        if self.env.health.is_connected() { CLOSE_WAIT } else { CLOSE_WAIT_ALONE }
    }

    fn wait_for_commit(&self, id: u64, deadline: Instant) {
        while Instant::now() < deadline {
            let _ = self.client.poll(POLL);
            while let Some(event) = self.env.next_event() {
                match event {
                    Event::Commit(CommitDone { id: done }) if done == id => return,
                    // It was to answer.
                    Event::Panicked(_) => return,
                    _ => {}
                }
            }
        }
        warn!(route = self.env.config.route, "the last commit was not answered in time");
    }

    /// Lets every partition go, leaves the group (a static member keeps its place), ends the
    /// threads.
    fn end(mut self, partitions: &mut Partitions<'_>) {
        self.fetcher.stop();
        self.client.context().set_closing();
        partitions.end();
        self.execute_all(partitions);
        let (wait, route) = (self.close_wait(), &self.env.config.route);
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

fn librdkafka(env: &Environment, client: &Arc<Client>) -> std::io::Result<Librdkafka> {
    let in_group = env.config.group.is_some();
    Librdkafka::start(client, in_group, env.record_sender(), env.mailbox(), &env.mailbox())
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
