//! Drives one client's life: polls it, reports what happens to the partitions' decisions, executes
//! their actions, and at last closes it.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

mod assign;
mod close;
mod execute;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use tracing::info;

use super::environment::Environment;
use super::event::MembershipEvent;
use super::group_check::GroupCheck;
use super::memory::Memory;
use super::monitor::{FatalError, MembershipEnd, MembershipVerdict};
use super::partitions::{MembershipSettings, Partitions};
use super::renewal::Renewal;
use super::stop::StopReason;
use crate::client::Client;
use crate::commits::{self, CommitRequest};
use crate::config::{FetcherKind, GroupProtocol};
use crate::exchange::{RouteRequest, SourceEvent};
use crate::fetcher::{FastFetcher, FetchFault, Fetcher, FetcherParts, LibrdkafkaFetcher};
use crate::guard;
use crate::lookup::{Lookup, LookupAnswer, LookupRequest};
use crate::native;
use crate::topics::{Listing, Selection};

/// Longest wait for librdkafka before events are looked at again.
const POLL: Duration = Duration::from_millis(20);
/// The end of a client's life.
pub(super) enum Outcome {
    /// The source was closed.
    Closed,
    /// The group, or the cluster, wants the other protocol; why.
    OtherProtocol(FatalError),
    /// The group still has another member by the name of this instance.
    InstanceHeld,
    /// The membership ended by what may pass, or be put right while this relay runs.
    Again(MembershipEnd),
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
    /// True if a fault of the group that the coordinator named was reported.
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
        let settings = MembershipSettings::new(&env.config, protocol, driver.fetcher.kind());
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
                    MembershipEvent::Route(RouteRequest::Close(last)) => {
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
                    // The next client is assigned them again.
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
            metadata: env
                .connections
                .as_ref()
                .map(|own| (env.runtime.clone(), own.metadata.clone())),
            found: HashMap::new(),
        };
        let panics = env.mailbox();
        guard::spawn("kafka-lookup", &panics, move || lookup.run(&lookup_requests))?;
        let (committing, health) = (Arc::clone(&client), Arc::clone(&env.health));
        let done = env.mailbox();
        let commit = move || commits::run(&committing, &health, &commit_requests, &done);
        guard::spawn("kafka-commit", &panics, commit)?;
        let fetcher = match &env.connections {
            Some(connections) if config.fetcher == FetcherKind::Fast => {
                Fetcher::Fast(FastFetcher::start(
                    &env.runtime,
                    FetcherParts {
                        cluster: &env.cluster,
                        connections: connections.clone(),
                        config,
                        records_tx: env.record_sender(),
                        faults: env.mailbox(),
                        panics,
                        health: Arc::clone(&env.health),
                        reporter: env.reporter(),
                    },
                ))
            }
            _ => Fetcher::Librdkafka(librdkafka(env, &client)?),
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
    fn handle(
        &mut self,
        partitions: &mut Partitions<'_>,
        event: MembershipEvent,
    ) -> Option<Outcome> {
        let now = Instant::now();
        match event {
            MembershipEvent::Route(request) => partitions.handle_request(request, now),
            MembershipEvent::Commit(done) => partitions.handle_commit(&done),
            MembershipEvent::Panicked(panicked) => partitions.stop(StopReason::Panicked(panicked)),
            MembershipEvent::Group(reply) => {
                let is_assigned = partitions.is_assigned();
                let verdict =
                    self.group_check.answered(self.env, &self.client, is_assigned, reply, now);
                return self.judged(partitions, verdict);
            }
            MembershipEvent::Fetch(FetchFault::OtherCluster(id)) => {
                return Some(Outcome::OtherCluster(id));
            }
            MembershipEvent::Fetch(fault) => {
                // Another cluster does not have what this one had.
                let is_reset =
                    matches!(fault, FetchFault::OutOfRange { .. } | FetchFault::ResetNeeded { .. });
                match self.other_cluster() {
                    Some(moved) if is_reset => return Some(moved),
                    _ => partitions.handle_fault(fault),
                }
            }
            MembershipEvent::Lookup(answer) => match self.other_cluster() {
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
            MembershipVerdict::Fault(refusal) => {
                self.has_reported = true;
                let fault = self.env.report_group_fault(&refusal.to_string());
                partitions.set_group_fault(Some(fault));
            }
            MembershipVerdict::Gone(end) => return Some(Outcome::Again(end)),
        }
        None
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
                "the files of kafka.security.tls have changed: joining the group again with them"
            );
            partitions.leave(Instant::now());
        }
    }

    /// The meaning of a fatal error, if there was one.
    fn fatal(&self) -> Option<Result<Outcome, StopReason>> {
        let (code, text) = self.client.client().fatal_error()?;
        let error = FatalError { code, text };
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
                Ok(Outcome::OtherProtocol(error))
            }
            RDKafkaErrorCode::FencedInstanceId => Err(StopReason::Fenced(code)),
            _ => Ok(Outcome::Again(MembershipEnd::Fatal(error))),
        })
    }

    /// Returns an outcome if the brokers are those of another cluster now.
    fn other_cluster(&self) -> Option<Outcome> {
        let now = native::cluster_id(&self.client)?;
        (self.lasting.cluster.as_ref()? != &now).then_some(Outcome::OtherCluster(now))
    }

    /// Returns true if the protocol was tried, and not asked for.
    fn may_fall_back(&self) -> bool {
        let asked_for = self.env.config.group.as_ref().and_then(|group| group.protocol);
        asked_for.is_none() && self.protocol == GroupProtocol::Consumer
    }
}

fn librdkafka(env: &Environment, client: &Arc<Client>) -> std::io::Result<LibrdkafkaFetcher> {
    let in_group = env.config.group.is_some();
    LibrdkafkaFetcher::start(client, in_group, env.record_sender(), env.mailbox(), &env.mailbox())
}
