//! Partitions that the group takes back, while they drain.

use std::sync::Arc;

use tokio::time::Instant;
use zafka_kafka::RevokeDone;
use zafka_sockets::PubSocket;

use super::progress::Progress;

/// Partitions that were revoked at once.
struct Revoked {
    partitions: Vec<Arc<Progress>>,
    deadline: Instant,
    done: RevokeDone,
}

impl Revoked {
    /// What is still unsent goes; the group gets what was delivered.
    fn release(self, socket: &PubSocket) {
        for progress in &self.partitions {
            progress.withdraw(socket);
        }
        self.done.complete(self.partitions.iter().map(|progress| progress.position()).collect());
    }
}

/// All that drain now.
#[derive(Default)]
pub(crate) struct Revoking(Vec<Revoked>);

impl Revoking {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn add(
        &mut self,
        partitions: Vec<Arc<Progress>>,
        deadline: Instant,
        done: RevokeDone,
    ) {
        self.0.push(Revoked { partitions, deadline, done });
    }

    /// Gives back those that have drained or whose time is up.
    pub(crate) fn release_due(&mut self, socket: &PubSocket, now: Instant) {
        let due = |revoked: &mut Revoked| {
            now >= revoked.deadline
                || revoked.partitions.iter().all(|progress| progress.is_drained())
        };
        for revoked in self.0.extract_if(.., due) {
            revoked.release(socket);
        }
    }

    pub(crate) fn release_all(&mut self, socket: &PubSocket) {
        for revoked in self.0.drain(..) {
            revoked.release(socket);
        }
    }
}
