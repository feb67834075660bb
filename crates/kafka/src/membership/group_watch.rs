//! Asks the coordinator for the group while a session lasts, and looks that the cluster is still
//! the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::Command;
use super::session::{Outcome, Session};
use super::standing::{Facts, Membership, Standing, Verdict};
use super::thread::Starting;
use crate::client::Client;
use crate::coordinator::{self, Coordinator};
use crate::native;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);

pub(super) struct GroupWatch {
    standing: Standing,
    /// `None` without a group, or where no connection of our own can be made.
    coordinator: Option<Arc<Mutex<Coordinator>>>,
    looked: Instant,
    /// Whether it has told what keeps the member out.
    has_told: bool,
}

impl GroupWatch {
    pub(super) fn new(source: &Starting) -> Self {
        let (now, servers) = (Instant::now(), source.cluster.bootstrap_servers.clone());
        let coordinator = source.watcher.as_ref().zip(source.config.group.clone());
        let coordinator = coordinator.map(|(connector, group)| {
            Arc::new(Mutex::new(Coordinator::new(Arc::clone(connector), servers, group)))
        });
        Self {
            standing: Standing::new(now, &counted(source)),
            coordinator,
            looked: now,
            has_told: false,
        }
    }

    /// Asks where it is time to. Gives why the session is to end, if it is.
    pub(super) fn look(&mut self, session: &Session<'_>, is_assigned: bool) -> Option<Outcome> {
        let now = Instant::now();
        if now - self.looked < LOOK {
            return None;
        }
        self.looked = now;
        if let Some(outcome) = session.other_cluster() {
            return Some(outcome);
        }
        let coordinator = self.coordinator.as_ref()?;
        let facts = facts(session.source, &session.client, is_assigned);
        if self.standing.asks(now, &facts) {
            let (coordinator, commands) =
                (Arc::clone(coordinator), session.source.commands.0.clone());
            let (asked_as, protocol) = (facts.membership, Some(session.protocol));
            session.source.runtime.spawn(async move {
                let member = asked_as.as_ref().map(|(id, _)| id.as_str());
                let answer = coordinator.lock().await.ask(member, protocol).await;
                // Where the membership has ended, nobody wants to know.
                let _ = commands.send(Command::Standing { asked_as, answer });
            });
        }
        None
    }

    /// Takes an answer. Gives why the session is to end, if it is.
    pub(super) fn answered(
        &mut self,
        session: &Session<'_>,
        is_assigned: bool,
        asked_as: Option<Membership>,
        answer: Result<coordinator::Standing, String>,
    ) -> Option<Outcome> {
        let facts = facts(session.source, &session.client, is_assigned);
        match self.standing.answered(Instant::now(), asked_as, answer, &facts) {
            Verdict::Unclear => {}
            Verdict::Fine => {
                if std::mem::take(&mut self.has_told) {
                    session.source.board.set_group_fault(None);
                }
            }
            Verdict::Fault(reason) => {
                self.has_told = true;
                session.source.tell_group_fault(&reason);
            }
            Verdict::Gone(reason) => return Some(Outcome::Again(reason)),
        }
        None
    }
}

fn facts(source: &Starting, client: &Client, is_assigned: bool) -> Facts {
    Facts { membership: native::membership(client), is_assigned, ..counted(source) }
}

fn counted(source: &Starting) -> Facts {
    let status = source.board.status();
    Facts { commits: status.commits, commits_failed: status.commits_failed, ..Facts::default() }
}
