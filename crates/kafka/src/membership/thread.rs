//! The life of the membership thread: reach the cluster, run a client, begin another if the
//! group's protocol turns out to be the other one or the member's place is not free yet, end.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use tracing::{error, info};

use super::driver::{Driver, Lasting, Outcome};
use super::environment::Environment;
use super::memory::Memory;
use super::renewal::Renewal;
use super::stop::StopReason;
use crate::backoff::Backoff;
use crate::client::{Client, plain};
use crate::cluster::{settings, source_settings};
use crate::config::GroupProtocol;
use crate::consumer::create;
use crate::error::StartError;
use crate::exchange::SourceEvent;
use crate::guard;
use crate::native;
use crate::topics::{Listing, Selection, list};

/// Longest wait of the bootstrap client for an answer; closing waits as long.
const BOOTSTRAP_WAIT: Duration = Duration::from_secs(2);
const BOOTSTRAP_POLL: Duration = Duration::from_millis(20);
const BOOTSTRAP_PAUSE: Duration = Duration::from_millis(200);
/// Time for which the brokers are asked for the group's protocol. The cluster gives a dead one up
/// in a third of that.
const PROTOCOL_WAIT: Duration = Duration::from_secs(30);
/// Time between two tries to make a client.
const CLIENT_PAUSE: Duration = Duration::from_secs(1);
/// Time between two tries to join as an instance that the group still has.
const INSTANCE_PAUSE: Duration = Duration::from_secs(1);
/// The same after a membership that ended by something else; longer each time that it ends by that
/// again.
const REJOIN_PAUSE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));

/// Checks the settings, then starts the thread. Waits for no broker.
pub(crate) fn start(env: Environment) -> Result<(), StartError> {
    let bootstrap = create(&settings(env.cluster.config()), env.context(), env.cluster.tokens())?;
    // Settings that only a member has are refused now, not later.
    let member = source_settings(env.cluster.config(), &env.config, GroupProtocol::Classic, 1);
    let member = member.create_native_config();
    member.map_err(|error| StartError::Client(plain(&error)))?;
    let (health, events) = (Arc::clone(&env.health), env.events.clone());
    let run = move || {
        if let Err(panicked) =
            guard::caught("kafka-membership", || MembershipThread(env).run(bootstrap))
        {
            let reason = panicked.to_string();
            health.set_stopped(&reason);
            // The channel may be closed.
            let _ = events.blocking_send(SourceEvent::Stopped(reason));
        }
    };
    thread::Builder::new().name("kafka-membership".to_owned()).spawn(run)?;
    Ok(())
}

/// The thread's own.
struct MembershipThread(Environment);

impl MembershipThread {
    fn settings(&self, protocol: GroupProtocol, partitions: usize) -> rdkafka::ClientConfig {
        source_settings(self.0.cluster.config(), &self.0.config, protocol, partitions)
    }

    fn bootstrap_settings(&self) -> rdkafka::ClientConfig {
        settings(self.0.cluster.config())
    }

    fn run(self, bootstrap: Arc<Client>) {
        let route = self.0.config.route.clone();
        if let Err(stop) = self.run_members(bootstrap) {
            let reason = stop.to_string();
            error!(route, reason, "the Kafka side of the route stops");
            self.0.health.set_stopped(&reason);
            // The channel may be closed; if not, its reader may have much to read first.
            let _ = self.0.events.blocking_send(SourceEvent::Stopped(reason));
            self.0.wait_for_close();
        }
        // Closing may have been given up.
        let _ = self.0.ended.send(());
    }

    fn run_members(&self, bootstrap: Arc<Client>) -> Result<(), StopReason> {
        let Some((bootstrap, listing, cluster)) = self.reach(bootstrap) else { return Ok(()) };
        let Some(mut protocol) = self.protocol(&bootstrap) else { return Ok(()) };
        drop(bootstrap);
        let mut memory = Memory::new(listing);
        let mut lasting = Lasting::new(cluster);
        let mut ends = 0;
        loop {
            let member = self.settings(protocol, memory.listing.partitions());
            lasting.files = self.files();
            let Some(client) = self.client(&member)? else { return Ok(()) };
            match Driver::run(&self.0, &mut lasting, &mut memory, client, protocol)? {
                Outcome::Closed => return Ok(()),
                Outcome::OtherProtocol(reason) => {
                    info!(
                        route = self.0.config.route,
                        %reason, "joining by the classic group protocol"
                    );
                    protocol = GroupProtocol::Classic;
                    continue;
                }
                Outcome::Renewed => continue,
                Outcome::InstanceHeld => {
                    let instance =
                        self.0.config.group.as_ref().and_then(|group| group.instance.as_deref());
                    self.0.reporter().report(&format!(
                        "the group still has a member \"{}\": the last life of this one until its \
                         session times out, or another relay with the same instance",
                        instance.unwrap_or_default()
                    ));
                    if self.0.is_closed_within(INSTANCE_PAUSE) {
                        return Ok(());
                    }
                    continue;
                }
                Outcome::Again(end) => {
                    // A client that had its place begins the pauses again.
                    let fault = self.0.report_group_fault(&end.to_string());
                    let news = memory.set_group_fault(Some(fault));
                    self.0.health.set_membership(memory.health.clone());
                    ends = if news { 0 } else { ends + 1 };
                    if self.0.is_closed_within(REJOIN_PAUSE.after(ends)) {
                        return Ok(());
                    }
                }
                Outcome::OtherCluster(id) => {
                    let known = lasting.cluster.take().unwrap_or_default();
                    error!(
                        route = self.0.config.route,
                        id,
                        known,
                        "the brokers are those of another cluster now: the route starts again there"
                    );
                }
            }
            // Topics, the cluster and the group's protocol may have changed since.
            let Some(bootstrap) = self.client(&self.bootstrap_settings())? else { return Ok(()) };
            let Some((bootstrap, listing, cluster)) = self.reach(bootstrap) else { return Ok(()) };
            if lasting.cluster.is_some() && lasting.cluster == cluster {
                memory.listed(listing);
            } else {
                memory.move_to(listing);
                lasting.cluster = cluster;
            }
            let Some(found) = self.protocol(&bootstrap) else { return Ok(()) };
            protocol = found;
        }
    }

    fn files(&self) -> Renewal {
        Renewal::new(self.0.cluster.config().security.tls.as_ref())
    }

    /// A client as settings that were taken before. `None` if the source is closed before there is
    /// one: files of TLS that were there may not be now.
    fn client(&self, settings: &rdkafka::ClientConfig) -> Result<Option<Arc<Client>>, StopReason> {
        loop {
            match create(settings, self.0.context(), self.0.cluster.tokens()) {
                Ok(client) => return Ok(Some(client)),
                Err(error) if self.0.cluster.config().security.tls.is_some() => {
                    self.0.reporter().report(&format!("no client: {error}"));
                }
                Err(error) => return Err(StopReason::Client(error)),
            }
            if self.0.is_closed_within(CLIENT_PAUSE) {
                return Ok(None);
            }
        }
    }

    /// Waits until the cluster reports its topics and its id; by another bootstrap client, if the
    /// files of TLS that the first one has read are renewed meanwhile. `None` if the source is
    /// closed before.
    fn reach(&self, mut bootstrap: Arc<Client>) -> Option<(Arc<Client>, Listing, Option<String>)> {
        let selection = Selection::new(&self.0.config.topics);
        let mut files = self.files();
        loop {
            let listing = list(&bootstrap, &selection, &BTreeSet::new(), BOOTSTRAP_WAIT);
            // Errors come by the callbacks; a poll without time ends at the first log line.
            while bootstrap.poll(BOOTSTRAP_POLL).is_some() {}
            match listing {
                Ok(listing) => {
                    self.0.health.set_connected(true);
                    let cluster = native::cluster_id(&bootstrap);
                    return Some((bootstrap, listing, cluster));
                }
                // What its connections met says more.
                Err(error) if self.0.health.status().last_error.is_none() => {
                    bootstrap
                        .context()
                        .report(&format!("no answer from the cluster: {}", plain(&error)));
                }
                Err(_) => {}
            }
            if self.0.is_closed_within(BOOTSTRAP_PAUSE) {
                return None;
            }
            if files.is_due(&self.0.config.route) {
                let read = self.files();
                // If they cannot be used after all, they are looked at again.
                if let Ok(renewed) =
                    create(&self.bootstrap_settings(), self.0.context(), self.0.cluster.tokens())
                {
                    (bootstrap, files) = (renewed, read);
                }
            }
        }
    }

    /// The protocol to join by: as configured; else that of the group's members, if it has any;
    /// else the newer one, which the first request to the coordinator refuses if the cluster does
    /// not offer it. `None` if the source is closed before.
    ///
    /// A group with members of the classic protocol answers DescribeGroups; one of the newer
    /// protocol is not found by it, and neither is one that does not exist. Every broker has to
    /// answer, for the one that does not may have the group. (To ask the group's coordinator alone,
    /// librdkafka's admin client would do, but its `rd_kafka_admin_coord_request` ends the process
    /// if the coordinator comes too late.) A broker that the cluster has and this relay does not
    /// reach must not keep it from starting, so in the end the newer protocol is tried: a group of
    /// the other one either refuses it or takes members of both.
    fn protocol(&self, bootstrap: &Client) -> Option<GroupProtocol> {
        let Some(group) = &self.0.config.group else { return Some(GroupProtocol::Consumer) };
        if group.protocol.is_some() {
            return group.protocol;
        }
        let (route, deadline) = (&self.0.config.route, Instant::now() + PROTOCOL_WAIT);
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
                info!(
                    route, group = group.id, %error,
                    "not known whether the group has classic members"
                );
                return Some(GroupProtocol::Consumer);
            }
            bootstrap.context().report(&format!("ListGroups incomplete: {}", plain(&error)));
            if self.0.is_closed_within(BOOTSTRAP_PAUSE) {
                return None;
            }
            // Brokers that the cluster has given up are not asked again; the next try shows if it
            // helped.
            let _ = bootstrap.fetch_metadata(None, BOOTSTRAP_WAIT);
        }
    }
}
