//! The end of a client's life.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use tracing::subscriber::{NoSubscriber, with_default};
use tracing::{debug, warn};

use super::{Driver, POLL};
use crate::assignment::Positions;
use crate::client::Client;
use crate::commits::CommitDone;
use crate::membership::event::MembershipEvent;
use crate::membership::partitions::Partitions;

/// Longest time for the last commit, and again for the leaving of the group.
const CLOSE_WAIT: Duration = Duration::from_secs(3);
/// The same if no broker is connected.
const CLOSE_WAIT_ALONE: Duration = Duration::from_secs(1);
/// Wait for the last commit beyond its deadline.
const COMMIT_SLACK: Duration = Duration::from_millis(500);

impl Driver<'_> {
    /// Commits, leaves the group, ends the threads.
    pub(super) fn close(mut self, partitions: &mut Partitions<'_>, last: Positions) {
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
                    MembershipEvent::Commit(CommitDone { id: done }) if done == id => return,
                    // It was to answer.
                    MembershipEvent::Panicked(_) => return,
                    _ => {}
                }
            }
        }
        warn!(route = self.env.config.route, "the last commit was not answered in time");
    }

    /// Lets every partition go, leaves the group (a static member keeps its place), ends the
    /// threads.
    pub(super) fn end(mut self, partitions: &mut Partitions<'_>) {
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

/// Drops the client once it is held nowhere else. That closes it, which leaves the group.
///
/// Closing it before would make `rdkafka` close it twice and log an error.
fn drop_last(mut client: Arc<Client>) {
    loop {
        match Arc::try_unwrap(client) {
            // `rdkafka` logs an error when a client is closed that has met a fatal one, which was
            // reported before.
            Ok(client) => return with_default(NoSubscriber::new(), || drop(client)),
            Err(shared) => client = shared,
        }
        sleep(Duration::from_millis(2));
    }
}
