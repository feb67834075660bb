//! A source: what one route reads from Kafka.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::warn;

use crate::assignment::{Assignment, SourceReceivers};
use crate::config::{ClusterConfig, FetcherKind, SourceConfig};
use crate::connection::Connector;
use crate::error::StartError;
use crate::generation::Generation;
use crate::health::{Ends, SourceHealth, SourceStatus};
use crate::membership::{Command, MembershipThread, start};
use crate::security::prepare;

/// Events that wait to be received before they are kept back.
const EVENTS: usize = 256;
/// Record batches that wait to be received.
const RECORDS: usize = 2;
/// How long closing may take in all.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads what a route asks for. Owns the threads that do it; dropped, they end without a last
/// commit.
#[derive(Debug)]
pub struct Source {
    health: Arc<SourceHealth>,
    commands: Sender<Command>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Source {
    /// Begins. Waits for no broker: they are tried until they are there, which the log and the
    /// status tell.
    ///
    /// # Errors
    /// Where librdkafka refuses the settings, or there is no tokio runtime to fetch on.
    pub fn start(
        cluster: &ClusterConfig,
        config: SourceConfig,
    ) -> Result<(Self, SourceReceivers), StartError> {
        let health = Arc::new(SourceHealth::default());
        let (events_in, events) = mpsc::channel(EVENTS);
        let (records_in, records) = mpsc::channel(RECORDS);
        let (commands, commanded) = channel();
        let (ended, end) = oneshot::channel();
        let tokens = prepare(&cluster.security)?;
        let connector = Connector::new(cluster, tokens.clone());
        // What our own connections do not take is no mistake where librdkafka does everything.
        let (connector, watcher) = match config.fetcher {
            FetcherKind::Fast => {
                connector.map(|connector| (Some(Arc::clone(&connector)), Some(connector)))?
            }
            FetcherKind::Librdkafka => (None, connector.ok()),
        };
        start(MembershipThread {
            cluster: cluster.clone(),
            config,
            tokens,
            connector,
            watcher,
            runtime: Handle::try_current().map_err(|_| StartError::Runtime)?,
            health: Arc::clone(&health),
            log_limiter: Arc::default(),
            events: events_in,
            records: records_in,
            commands: (commands.clone(), commanded),
            ended,
        })?;
        Ok((
            Self { health, commands, ended: Mutex::new(Some(end)) },
            SourceReceivers { events, records },
        ))
    }

    /// How it is now.
    pub fn status(&self) -> SourceStatus {
        self.health.status()
    }

    /// The ends of a partition's log, a second old at most. `None` until they are known.
    pub fn ends(&self, assignment: &Assignment) -> Option<Ends> {
        assignment.ends().or_else(|| self.health.ends(&assignment.topic_partition))
    }

    /// Commits positions (next offsets) in the background, with retries. The newest of a partition
    /// wins; none goes back. Nothing happens without a group.
    pub fn commit(&self, positions: Vec<(Arc<Assignment>, i64)>) {
        // Where the source has ended, so has its right to commit.
        let _ = self.commands.send(Command::Commit(positions));
    }

    /// Lets commits of a partition that come after this go below those before, once: the log was
    /// truncated, or is another one ([`SourceEvent::Reset`](crate::SourceEvent::Reset)). To be
    /// called when the route's own position is set back, so that no commit of what was before comes
    /// after it.
    pub fn allow_rewind(&self, assignment: Arc<Assignment>) {
        // As above.
        let _ = self.commands.send(Command::AllowRewind(assignment));
    }

    /// Begins a new generation of a partition: it is read again from `offset` on, and what was
    /// handed out of it before is to be thrown away by its generation. `known` is the number of
    /// the newest generation that the caller has heard
    /// of, by [`SourceEvent::Reset`](crate::SourceEvent::Reset) or by records. `None`, and nothing
    /// is done, where the source has begun another one meanwhile: that is to be heard first,
    /// for the log may no longer have the offset.
    pub fn restart(
        &self,
        assignment: &Arc<Assignment>,
        known: u32,
        offset: i64,
    ) -> Option<Generation> {
        let generation = assignment.restart(known, offset)?;
        // As above.
        let _ = self.commands.send(Command::Restart(Arc::clone(assignment), generation));
        Some(generation)
    }

    /// Fetches a partition no more until it is restarted. It is held all the same, and what was
    /// handed out may still come.
    pub fn pause(&self, assignment: &Arc<Assignment>) {
        assignment.pause();
        // As above.
        let _ = self.commands.send(Command::Pause(Arc::clone(assignment)));
    }

    /// Commits the last positions, leaves the group (a static member keeps its place) and ends the
    /// threads. The receivers and all [`Fetched`](crate::Fetched) must be dropped before: they
    /// hold the client.
    pub async fn close(&self, last: Vec<(Arc<Assignment>, i64)>) {
        let Some(end) = self.ended.lock().take() else { return };
        // A thread that has ended by itself has told so by `end`.
        let _ = self.commands.send(Command::Close(last));
        if timeout(CLOSE_TIMEOUT, end).await.is_err() {
            warn!("the Kafka client did not close in time");
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // As above.
        let _ = self.commands.send(Command::Close(Vec::new()));
    }
}
