//! The life of the membership thread: reach the cluster, run a client, begin another if the
//! group's protocol turns out to be the other one or the member's place is not free yet, end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use super::Command;
use super::driver::{Driver, Outcome, SourceState};
use super::renewal::Renewal;
use crate::assignment::SourceEvent;
use crate::client::{Client, SourceContext, create, plain};
use crate::cluster::{settings, source_settings};
use crate::config::{ClusterConfig, GroupProtocol, SourceConfig};
use crate::connection::Connector;
use crate::error::StartError;
use crate::fetcher::{Fetched, RecordSender};
use crate::guard;
use crate::health::SourceHealth;
use crate::log_limiter::LogLimiter;
use crate::native;
use crate::report::Reporter;
use crate::security::TokenProvider;
use crate::topics::{Listing, Selection, list};

/// How long the bootstrap client waits for an answer; closing waits as long.
const BOOTSTRAP_WAIT: Duration = Duration::from_secs(2);
const BOOTSTRAP_POLL: Duration = Duration::from_millis(20);
const BOOTSTRAP_PAUSE: Duration = Duration::from_millis(200);
/// How long the brokers are asked for the group's protocol. The cluster gives a dead one up in a
/// third of that.
const PROTOCOL_WAIT: Duration = Duration::from_secs(30);
/// Time between two tries to make a client.
const CLIENT_PAUSE: Duration = Duration::from_secs(1);
/// Time between two tries to join as an instance that the group still has.
const INSTANCE_PAUSE: Duration = Duration::from_secs(1);
/// The same after a membership that ended by something else; longer each time that it ends by that
/// again.
const REJOIN_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// What the thread is made of.
pub(crate) struct MembershipThread {
    pub(crate) cluster: ClusterConfig,
    pub(crate) config: SourceConfig,
    pub(crate) tokens: Option<Arc<TokenProvider>>,
    /// Makes connections for the fast fetcher, where that is wanted.
    pub(crate) connector: Option<Arc<Connector>>,
    /// Makes connections to the group's coordinator, where our own kind can be made.
    pub(crate) watcher: Option<Arc<Connector>>,
    /// Where the fast fetcher's tasks run.
    pub(crate) runtime: Handle,
    pub(crate) health: Arc<SourceHealth>,
    pub(crate) log_limiter: Arc<LogLimiter>,
    pub(crate) events: mpsc::Sender<SourceEvent>,
    pub(crate) records: mpsc::Sender<Fetched>,
    pub(crate) commands: (Sender<Command>, Receiver<Command>),
    pub(crate) ended: oneshot::Sender<()>,
}

/// Checks the settings, then starts the thread. Waits for no broker.
pub(crate) fn start(starting: MembershipThread) -> Result<(), StartError> {
    let bootstrap =
        create(&settings(&starting.cluster), starting.context(), starting.tokens.as_ref())?;
    // Settings that only a member has are refused now, not later.
    let member = starting.settings(GroupProtocol::Classic, 1).create_native_config();
    member.map_err(|error| StartError::Client(plain(&error)))?;
    let (health, events) = (Arc::clone(&starting.health), starting.events.clone());
    let run = move || {
        if let Err(reason) = guard::caught("kafka-membership", || starting.run(bootstrap)) {
            health.set_stopped(&reason);
            // Nobody may be listening any more.
            let _ = events.blocking_send(SourceEvent::Stopped(reason));
        }
    };
    thread::Builder::new().name("kafka-membership".to_owned()).spawn(run)?;
    Ok(())
}

impl MembershipThread {
    fn context(&self) -> SourceContext {
        SourceContext::new(&self.config.route, &self.health, &self.log_limiter)
    }

    pub(super) fn reporter(&self) -> Reporter {
        Reporter::new(&self.config.route, &self.health, &self.log_limiter)
    }

    pub(super) fn record_sender(&self) -> RecordSender {
        RecordSender::new(self.records.clone(), Arc::clone(&self.health))
    }

    fn settings(&self, protocol: GroupProtocol, partitions: usize) -> rdkafka::ClientConfig {
        source_settings(&self.cluster, &self.config, protocol, partitions)
    }

    fn run(self, bootstrap: Arc<Client>) {
        let route = self.config.route.clone();
        if let Err(reason) = self.run_members(bootstrap) {
            error!(route, reason, "the Kafka side of the route stops");
            self.health.set_stopped(&reason);
            // Nobody may be listening any more; whoever is may have much to read first.
            let _ = self.events.blocking_send(SourceEvent::Stopped(reason));
            self.wait_for_close();
        }
        // Closing may have been given up.
        let _ = self.ended.send(());
    }

    fn run_members(&self, bootstrap: Arc<Client>) -> Result<(), String> {
        let Some((bootstrap, listing, cluster)) = self.reach(bootstrap) else { return Ok(()) };
        let Some(mut protocol) = self.protocol(&bootstrap) else { return Ok(()) };
        drop(bootstrap);
        let mut state = SourceState::new(listing);
        state.cluster = cluster;
        let mut pause = REJOIN_PAUSE.0;
        loop {
            let member = self.settings(protocol, state.listing.partitions());
            state.files = self.files();
            let Some(client) = self.client(&member)? else { return Ok(()) };
            match Driver::run(self, &mut state, client, protocol)? {
                Outcome::Closed => return Ok(()),
                Outcome::OtherProtocol(reason) => {
                    info!(
                        route = self.config.route,
                        reason, "joining by the classic group protocol"
                    );
                    protocol = GroupProtocol::Classic;
                    continue;
                }
                Outcome::Renewed => continue,
                Outcome::InstanceHeld => {
                    let instance =
                        self.config.group.as_ref().and_then(|group| group.instance.as_deref());
                    self.reporter().report(&format!(
                        "the group still has a member \"{}\": the last life of this one until its session times \
                         out, or another relay with the same instance",
                        instance.unwrap_or_default()
                    ));
                    if self.is_closed_within(INSTANCE_PAUSE) {
                        return Ok(());
                    }
                    continue;
                }
                Outcome::Again(reason) => {
                    // A client that had its place begins the pauses anew.
                    let news = self.tell_group_fault(&reason);
                    pause = if news { REJOIN_PAUSE.0 } else { (pause * 2).min(REJOIN_PAUSE.1) };
                    if self.is_closed_within(pause) {
                        return Ok(());
                    }
                }
                Outcome::OtherCluster(id) => {
                    let known = state.cluster.take().unwrap_or_default();
                    error!(
                        route = self.config.route,
                        id,
                        known,
                        "the brokers are those of another cluster now: the route begins anew there"
                    );
                }
            }
            // Topics, the cluster and the group's protocol may have changed since.
            let Some(bootstrap) = self.client(&settings(&self.cluster))? else { return Ok(()) };
            let Some((bootstrap, listing, cluster)) = self.reach(bootstrap) else { return Ok(()) };
            if state.cluster.is_some() && state.cluster == cluster {
                state.listed(listing);
            } else {
                state.move_to(listing);
                state.cluster = cluster;
            }
            let Some(found) = self.protocol(&bootstrap) else { return Ok(()) };
            protocol = found;
        }
    }

    /// Shows and reports what keeps this relay out of its group. Gives whether that is news.
    pub(super) fn tell_group_fault(&self, reason: &str) -> bool {
        let fault = self.group_fault(reason);
        self.reporter().report(&fault);
        self.health.set_group_fault(Some(fault))
    }

    fn group_fault(&self, reason: &str) -> String {
        let group = self.config.group.as_ref().map_or("", |group| &group.id);
        format!("group \"{group}\": {reason}")
    }

    fn files(&self) -> Renewal {
        Renewal::new(self.cluster.security.tls.as_ref())
    }

    /// A client as settings that were taken before. `None` where the source is closed before there
    /// is one: files of TLS that were there may not be now.
    fn client(&self, settings: &rdkafka::ClientConfig) -> Result<Option<Arc<Client>>, String> {
        loop {
            match create(settings, self.context(), self.tokens.as_ref()) {
                Ok(client) => return Ok(Some(client)),
                Err(error) if self.cluster.security.tls.is_some() => {
                    self.reporter().report(&format!("no client: {error}"));
                }
                Err(error) => return Err(error.to_string()),
            }
            if self.is_closed_within(CLIENT_PAUSE) {
                return Ok(None);
            }
        }
    }

    /// Waits until the cluster reports its topics and its id; by another bootstrap client, if the
    /// files of TLS that the first one has read are renewed meanwhile. `None` if the source is
    /// closed before.
    fn reach(&self, mut bootstrap: Arc<Client>) -> Option<(Arc<Client>, Listing, Option<String>)> {
        let selection = Selection::new(&self.config.topics);
        let mut files = self.files();
        loop {
            let listing = list(&bootstrap, &selection, &BTreeSet::new(), BOOTSTRAP_WAIT);
            // Errors come by the callbacks; a poll without time ends at the first log line.
            while bootstrap.poll(BOOTSTRAP_POLL).is_some() {}
            match listing {
                Ok(listing) => {
                    self.health.set_connected(true);
                    let cluster = native::cluster_id(&bootstrap);
                    return Some((bootstrap, listing, cluster));
                }
                // What its connections met says more.
                Err(error) if self.health.status().last_error.is_none() => {
                    bootstrap
                        .context()
                        .report(&format!("no answer from the cluster: {}", plain(&error)));
                }
                Err(_) => {}
            }
            if self.is_closed_within(BOOTSTRAP_PAUSE) {
                return None;
            }
            if files.is_due(&self.config.route) {
                let read = self.files();
                // If they cannot be used after all, they are looked at again.
                if let Ok(renewed) =
                    create(&settings(&self.cluster), self.context(), self.tokens.as_ref())
                {
                    (bootstrap, files) = (renewed, read);
                }
            }
        }
    }

    /// The protocol to join by: as configured; else that of the group's members, if it has any;
    /// else the newer one, which the first request to the coordinator refuses where the cluster
    /// does not offer it. `None` where the source is closed before.
    ///
    /// A group with members of the classic protocol answers DescribeGroups; one of the newer
    /// protocol is not found by it, and neither is one that does not exist. Every broker has to
    /// answer, for the one that does not may have the group. (To ask the group's coordinator
    /// alone, librdkafka's admin client would do, but its `rd_kafka_admin_coord_request` ends
    /// the process where the coordinator comes too late.) A broker that the cluster
    /// has and this relay does not reach must not keep it from starting, so in the end the newer
    /// protocol is tried: a group of the other one either refuses it or takes members of both.
    fn protocol(&self, bootstrap: &Client) -> Option<GroupProtocol> {
        let Some(group) = &self.config.group else { return Some(GroupProtocol::Consumer) };
        if group.protocol.is_some() {
            return group.protocol;
        }
        let (route, deadline) = (&self.config.route, Instant::now() + PROTOCOL_WAIT);
        loop {
            let error = match bootstrap.fetch_group_list(Some(&group.id), BOOTSTRAP_WAIT) {
                Ok(found) if found.groups().iter().any(|found| !found.members().is_empty()) => {
                    info!(route, group = group.id, "the group has members of the classic protocol");
                    return Some(GroupProtocol::Classic);
                }
                Ok(_) => return Some(GroupProtocol::Consumer),
                Err(error) => error,
            };
            while bootstrap.poll(BOOTSTRAP_POLL).is_some() {}
            // A cluster that cannot be asked has no answer either.
            let unsupported =
                error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnsupportedFeature);
            if unsupported || Instant::now() >= deadline {
                info!(route, group = group.id, %error, "not known whether the group has classic members");
                return Some(GroupProtocol::Consumer);
            }
            bootstrap.context().report(&format!("ListGroups incomplete: {}", plain(&error)));
            if self.is_closed_within(BOOTSTRAP_PAUSE) {
                return None;
            }
            // Brokers that the cluster has given up are not asked again; the next try tells whether
            // it helped.
            let _ = bootstrap.fetch_metadata(None, BOOTSTRAP_WAIT);
        }
    }

    /// Waits; true where the source is closed meanwhile. Other commands are of no client that
    /// still runs.
    fn is_closed_within(&self, pause: Duration) -> bool {
        let deadline = Instant::now() + pause;
        loop {
            match self.commands.1.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Command::Close(_)) | Err(RecvTimeoutError::Disconnected) => return true,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    pub(super) fn wait_for_close(&self) {
        while !matches!(self.commands.1.recv(), Ok(Command::Close(_)) | Err(_)) {}
    }

    /// The commands that have come.
    pub(super) fn next_command(&self) -> Option<Command> {
        self.commands.1.try_recv().ok()
    }
}
