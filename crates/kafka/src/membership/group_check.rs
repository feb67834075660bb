//! Asks the group's coordinator whether it still has this member, when the monitor says so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::environment::Environment;
use super::monitor::{Facts, GroupReply, MembershipMonitor, MembershipVerdict};
use crate::client::Client;
use crate::config::GroupProtocol;
use crate::coordinator::Coordinator;
use crate::native;

/// Time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

pub(super) struct GroupCheck {
    monitor: MembershipMonitor,
    /// `None` without a group, or if no connection of our own can be made.
    coordinator: Option<Arc<Mutex<Coordinator>>>,
    checked: Instant,
}

impl GroupCheck {
    pub(super) fn new(env: &Environment, now: Instant) -> Self {
        let servers = env.cluster.config().bootstrap_servers.clone();
        let coordinator = env.connections.as_ref().zip(env.config.group.clone());
        let coordinator = coordinator.map(|(own, group)| {
            Arc::new(Mutex::new(Coordinator::new(Arc::clone(&own.connector), servers, group)))
        });
        Self { monitor: MembershipMonitor::new(now, &counted(env)), coordinator, checked: now }
    }

    /// Returns true if it is time for the next check, which counts as made then.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = now - self.checked >= CHECK_INTERVAL;
        if is_due {
            self.checked = now;
        }
        is_due
    }

    /// Asks the coordinator, if the monitor wants to know. Its reply is an event.
    pub(super) fn check(
        &mut self,
        env: &Environment,
        client: &Client,
        protocol: GroupProtocol,
        is_assigned: bool,
        now: Instant,
    ) {
        let Some(coordinator) = &self.coordinator else { return };
        let facts = facts(env, client, is_assigned);
        if self.monitor.asks(now, &facts) {
            let (coordinator, replies) = (Arc::clone(coordinator), env.mailbox());
            let asked_as = facts.membership;
            env.runtime.spawn(async move {
                let member = asked_as.as_ref().map(|(id, _)| id.as_str());
                let answer = coordinator.lock().await.ask(member, Some(protocol)).await;
                replies.send(GroupReply { asked_as, answer });
            });
        }
    }

    /// Takes a reply. Returns its meaning.
    pub(super) fn answered(
        &mut self,
        env: &Environment,
        client: &Client,
        is_assigned: bool,
        reply: GroupReply,
        now: Instant,
    ) -> MembershipVerdict {
        let facts = facts(env, client, is_assigned);
        self.monitor.answered(now, reply.asked_as, reply.answer, &facts)
    }
}

fn facts(env: &Environment, client: &Client, is_assigned: bool) -> Facts {
    Facts { membership: native::membership(client), is_assigned, ..counted(env) }
}

fn counted(env: &Environment) -> Facts {
    let status = env.health.status();
    Facts { commits: status.commits, commits_failed: status.commits_failed, ..Facts::default() }
}
