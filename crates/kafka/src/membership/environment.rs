//! The surroundings of a source's membership: its settings, and its ways in and out.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::event::MembershipEvent;
use crate::client::SourceContext;
use crate::cluster::{Cluster, OwnConnections};
use crate::config::SourceConfig;
use crate::exchange::{RouteRequest, SourceEvent};
use crate::fetcher::{Fetched, RecordSender};
use crate::health::SourceHealth;
use crate::log_limiter::LogLimiter;
use crate::mailbox::Mailbox;
use crate::report::Reporter;

pub(crate) struct Environment {
    pub(crate) cluster: Cluster,
    pub(crate) config: SourceConfig,
    /// Those of our own fetcher and to the group's coordinator. There are some if the fetcher is
    /// ours.
    pub(crate) connections: Option<OwnConnections>,
    /// The runtime of our own fetcher's tasks.
    pub(crate) runtime: Handle,
    pub(crate) health: Arc<SourceHealth>,
    pub(crate) log_limiter: Arc<LogLimiter>,
    pub(crate) events: mpsc::Sender<SourceEvent>,
    pub(crate) records: mpsc::Sender<Fetched>,
    pub(crate) inbox: (Sender<MembershipEvent>, Receiver<MembershipEvent>),
    pub(crate) ended: oneshot::Sender<()>,
}

impl Environment {
    pub(super) fn context(&self) -> SourceContext {
        SourceContext::new(&self.config.route, &self.health, &self.log_limiter)
    }

    pub(super) fn reporter(&self) -> Reporter {
        Reporter::new(&self.config.route, &self.health, &self.log_limiter)
    }

    pub(super) fn record_sender(&self) -> RecordSender {
        RecordSender::new(self.records.clone(), Arc::clone(&self.health))
    }

    /// A mailbox for one kind of what the membership thread receives.
    pub(super) fn mailbox<T: 'static>(&self) -> Mailbox<T>
    where
        MembershipEvent: From<T>,
    {
        Mailbox::new(&self.inbox.0)
    }

    /// Reports what keeps this relay out of its group. Returns the text to be shown.
    pub(super) fn report_group_fault(&self, reason: &str) -> String {
        let group = self.config.group.as_ref().map_or("", |group| &group.id);
        let fault = format!("group \"{group}\": {reason}");
        self.reporter().report(&fault);
        fault
    }

    /// The next event, if there is one.
    pub(super) fn next_event(&self) -> Option<MembershipEvent> {
        self.inbox.1.try_recv().ok()
    }

    /// Waits; returns true if the source is closed meanwhile. Other events are of no client that
    /// still runs.
    pub(super) fn is_closed_within(&self, pause: Duration) -> bool {
        let deadline = Instant::now() + pause;
        loop {
            match self.inbox.1.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(MembershipEvent::Route(RouteRequest::Close(_)))
                | Err(RecvTimeoutError::Disconnected) => {
                    return true;
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    /// Waits until the source is closed; the route does that once it has the order to stop.
    pub(super) fn wait_for_close(&self) {
        let is_close =
            |event| matches!(event, Ok(MembershipEvent::Route(RouteRequest::Close(_))) | Err(_));
        while !is_close(self.inbox.1.recv()) {}
    }
}
