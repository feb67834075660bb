//! Asks the coordinator for the group while a client lives, and looks that the cluster is still
//! the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::Command;
use super::driver::{Driver, Outcome};
use super::monitor::{Facts, Membership, MembershipMonitor, MembershipVerdict};
use super::thread::MembershipThread;
use crate::client::Client;
use crate::coordinator::{self, Coordinator};
use crate::native;

/// Time between two looks.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

pub(super) struct GroupCheck {
    monitor: MembershipMonitor,
    /// `None` without a group, or where no connection of our own can be made.
    coordinator: Option<Arc<Mutex<Coordinator>>>,
    checked_at: Instant,
    /// Whether it has told what keeps the member out.
    has_reported: bool,
}

impl GroupCheck {
    pub(super) fn new(source: &MembershipThread) -> Self {
        let (now, servers) = (Instant::now(), source.cluster.bootstrap_servers.clone());
        let coordinator = source.watcher.as_ref().zip(source.config.group.clone());
        let coordinator = coordinator.map(|(connector, group)| {
            Arc::new(Mutex::new(Coordinator::new(Arc::clone(connector), servers, group)))
        });
        Self {
            monitor: MembershipMonitor::new(now, &counted(source)),
            coordinator,
            checked_at: now,
            has_reported: false,
        }
    }

    /// Asks where it is time to. Returns why the client is to end, if it is.
    pub(super) fn check(&mut self, driver: &Driver<'_>, is_assigned: bool) -> Option<Outcome> {
        let now = Instant::now();
        if now - self.checked_at < CHECK_INTERVAL {
            return None;
        }
        self.checked_at = now;
        if let Some(outcome) = driver.other_cluster() {
            return Some(outcome);
        }
        let coordinator = self.coordinator.as_ref()?;
        let facts = facts(driver.source, &driver.client, is_assigned);
        if self.monitor.asks(now, &facts) {
            let (coordinator, commands) =
                (Arc::clone(coordinator), driver.source.commands.0.clone());
            let (asked_as, protocol) = (facts.membership, Some(driver.protocol));
            driver.source.runtime.spawn(async move {
                let member = asked_as.as_ref().map(|(id, _)| id.as_str());
                let answer = coordinator.lock().await.ask(member, protocol).await;
                // Where the membership has ended, nobody wants to know.
                let _ = commands.send(Command::GroupAnswer { asked_as, answer });
            });
        }
        None
    }

    /// Takes an answer. Returns why the client is to end, if it is.
    pub(super) fn answered(
        &mut self,
        driver: &Driver<'_>,
        is_assigned: bool,
        asked_as: Option<Membership>,
        answer: Result<coordinator::GroupAnswer, String>,
    ) -> Option<Outcome> {
        let facts = facts(driver.source, &driver.client, is_assigned);
        match self.monitor.answered(Instant::now(), asked_as, answer, &facts) {
            MembershipVerdict::Unclear => {}
            MembershipVerdict::Fine => {
                if std::mem::take(&mut self.has_reported) {
                    driver.source.health.set_group_fault(None);
                }
            }
            MembershipVerdict::Fault(reason) => {
                self.has_reported = true;
                driver.source.tell_group_fault(&reason);
            }
            MembershipVerdict::Gone(reason) => return Some(Outcome::Again(reason)),
        }
        None
    }
}

fn facts(source: &MembershipThread, client: &Client, is_assigned: bool) -> Facts {
    Facts { membership: native::membership(client), is_assigned, ..counted(source) }
}

fn counted(source: &MembershipThread) -> Facts {
    let status = source.health.status();
    Facts { commits: status.commits, commits_failed: status.commits_failed, ..Facts::default() }
}
