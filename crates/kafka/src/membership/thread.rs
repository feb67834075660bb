//! The life of the membership thread: reach the cluster, run a session, begin another where the group's protocol
//! turns out to be the other one, end.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, info};

use super::Command;
use super::session::{Outcome, Session};
use crate::assignment::SourceEvent;
use crate::client::{Client, Context, create, plain};
use crate::cluster::{settings, source_settings};
use crate::config::{ClusterConfig, GroupProtocol, SourceConfig};
use crate::connection::Connector;
use crate::error::StartError;
use crate::fetcher::{Fetched, Outlet};
use crate::noise::Noise;
use crate::report::Reporter;
use crate::security::TokenProvider;
use crate::status::Board;
use crate::topics::{Listing, Selection, list};

/// How long the scout waits for an answer; closing waits as long.
const SCOUT_WAIT: Duration = Duration::from_secs(2);
const SCOUT_POLL: Duration = Duration::from_millis(20);
const SCOUT_PAUSE: Duration = Duration::from_millis(200);

/// What the thread is made of.
pub(crate) struct Starting {
    pub(crate) cluster: ClusterConfig,
    pub(crate) config: SourceConfig,
    pub(crate) tokens: Option<Arc<TokenProvider>>,
    /// Makes connections for the fast fetcher, where that is wanted.
    pub(crate) connector: Option<Arc<Connector>>,
    /// Where the fast fetcher's tasks run.
    pub(crate) runtime: Handle,
    pub(crate) board: Arc<Board>,
    pub(crate) noise: Arc<Noise>,
    pub(crate) events: mpsc::Sender<SourceEvent>,
    pub(crate) records: mpsc::Sender<Fetched>,
    pub(crate) commands: (Sender<Command>, Receiver<Command>),
    pub(crate) ended: oneshot::Sender<()>,
}

/// Checks the settings, then starts the thread. Waits for no broker.
pub(crate) fn start(starting: Starting) -> Result<(), StartError> {
    let scout = create(&settings(&starting.cluster), starting.context(), starting.tokens.as_ref())?;
    // Settings that only a member has are refused now, not later.
    let member = starting.settings(GroupProtocol::Classic, 1).create_native_config();
    member.map_err(|error| StartError::Client(plain(&error)))?;
    thread::Builder::new().name("kafka-membership".to_owned()).spawn(move || starting.run(scout))?;
    Ok(())
}

impl Starting {
    fn context(&self) -> Context {
        Context::new(&self.config.route, &self.board, &self.noise)
    }

    pub(super) fn reporter(&self) -> Reporter {
        Reporter::new(&self.config.route, &self.board, &self.noise)
    }

    pub(super) fn outlet(&self) -> Outlet {
        Outlet::new(self.records.clone(), Arc::clone(&self.board))
    }

    fn settings(&self, protocol: GroupProtocol, partitions: usize) -> rdkafka::ClientConfig {
        source_settings(&self.cluster, &self.config, protocol, partitions)
    }

    fn run(self, scout: Arc<Client>) {
        let route = self.config.route.clone();
        if let Err(reason) = self.sessions(scout) {
            error!(route, reason, "the Kafka side of the route stops");
            self.board.set_stopped(&reason);
            // Nobody may be listening any more; whoever is may have much to read first.
            let _ = self.events.blocking_send(SourceEvent::Stopped(reason));
            self.wait_for_close();
        }
        // Closing may have been given up.
        let _ = self.ended.send(());
    }

    fn sessions(&self, scout: Arc<Client>) -> Result<(), String> {
        let Some(first) = self.reach(&scout) else { return Ok(()) };
        let preferred = self.config.group.as_ref().and_then(|group| group.protocol);
        let mut protocol = preferred.unwrap_or_else(|| self.existing_protocol(&scout));
        drop(scout);
        loop {
            let settings = self.settings(protocol, first.partitions());
            let client =
                create(&settings, self.context(), self.tokens.as_ref()).map_err(|error| error.to_string())?;
            let may_fall_back = preferred.is_none() && protocol == GroupProtocol::Consumer;
            match Session::run(self, client, first.clone(), may_fall_back)? {
                Outcome::Closed => return Ok(()),
                Outcome::OtherProtocol(reason) => {
                    info!(route = self.config.route, reason, "joining by the classic group protocol");
                    protocol = GroupProtocol::Classic;
                }
            }
        }
    }

    /// Waits until the cluster tells its topics. `None` where the source is closed before.
    fn reach(&self, scout: &Client) -> Option<Listing> {
        let selection = Selection::new(&self.config.topics);
        loop {
            let listing = list(scout, &selection, SCOUT_WAIT);
            // Errors come by the callbacks; a poll without time ends at the first log line.
            while scout.poll(SCOUT_POLL).is_some() {}
            match listing {
                Ok(listing) => {
                    self.board.set_connected(true);
                    return Some(listing);
                }
                // What its connections met says more.
                Err(error) if self.board.status().last_error.is_none() => {
                    scout.context().report(&format!("no answer from the cluster: {}", plain(&error)));
                }
                Err(_) => {}
            }
            match self.commands.1.recv_timeout(SCOUT_PAUSE) {
                Ok(Command::Close(_)) | Err(RecvTimeoutError::Disconnected) => return None,
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// The protocol of the group's members, if it has any; else the newer one, which the first request to the
    /// coordinator refuses where the cluster does not offer it.
    ///
    /// A group with members of the classic protocol answers DescribeGroups; one of the newer protocol is not found by
    /// it, and neither is one that does not exist.
    fn existing_protocol(&self, scout: &Client) -> GroupProtocol {
        let Some(group) = &self.config.group else { return GroupProtocol::Consumer };
        match scout.fetch_group_list(Some(&group.id), SCOUT_WAIT) {
            Ok(found) if found.groups().iter().any(|found| !found.members().is_empty()) => {
                info!(
                    route = self.config.route,
                    group = group.id,
                    "the group has members of the classic protocol"
                );
                GroupProtocol::Classic
            }
            Ok(_) => GroupProtocol::Consumer,
            Err(error) => {
                debug!(route = self.config.route, %error, "the group could not be described");
                GroupProtocol::Consumer
            }
        }
    }

    fn wait_for_close(&self) {
        while !matches!(self.commands.1.recv(), Ok(Command::Close(_)) | Err(_)) {}
    }

    /// The commands that have come.
    pub(super) fn next_command(&self) -> Option<Command> {
        self.commands.1.try_recv().ok()
    }
}
