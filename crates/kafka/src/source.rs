//! A source: what one route reads from Kafka.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::warn;

use crate::assignment::Assignment;
use crate::cluster::Cluster;
use crate::config::{FetcherKind, SourceConfig};
use crate::ends::Ends;
use crate::error::StartError;
use crate::exchange::{RouteRequest, SourceEvent};
use crate::fetcher::Fetched;
use crate::generation::Generation;
use crate::health::{SourceHealth, SourceStatus};
use crate::mailbox::Mailbox;
use crate::membership::{Environment, start};

/// Events that wait to be received before they are kept back.
const EVENTS: usize = 256;
/// Record batches that wait to be received.
const RECORDS: usize = 2;
/// Longest time for closing, in all.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The channels of a source.
#[derive(Debug)]
pub struct SourceReceivers {
    /// Events of partitions.
    pub events: mpsc::Receiver<SourceEvent>,
    /// Records. While they are not received, fetching pauses and the membership lives on.
    pub records: mpsc::Receiver<Fetched>,
}

/// Reads what a route asks for. Owns the threads that do it; dropped, they end without a last
/// commit.
#[derive(Debug)]
pub struct Source {
    health: Arc<SourceHealth>,
    requests: Mailbox<RouteRequest>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Source {
    /// Begins. Waits for no broker: they are tried until they are there, which the log and the
    /// status show.
    ///
    /// # Errors
    /// If librdkafka refuses the settings, or there is no tokio runtime to fetch on.
    pub fn start(
        cluster: &Cluster,
        config: SourceConfig,
    ) -> Result<(Self, SourceReceivers), StartError> {
        let health = Arc::new(SourceHealth::default());
        let (events_in, events) = mpsc::channel(EVENTS);
        let (records_in, records) = mpsc::channel(RECORDS);
        let (inbox_tx, inbox) = channel();
        let requests = Mailbox::new(&inbox_tx);
        let (ended, end) = oneshot::channel();
        let connections = match config.fetcher {
            FetcherKind::Fast => Some(cluster.own_connections()?),
            // What they do not take is no mistake if librdkafka does everything.
            FetcherKind::Librdkafka => cluster.own_connections().ok(),
        };
        start(Environment {
            cluster: cluster.clone(),
            config,
            connections,
            runtime: Handle::try_current().map_err(|_| StartError::Runtime)?,
            health: Arc::clone(&health),
            log_limiter: Arc::default(),
            events: events_in,
            records: records_in,
            inbox: (inbox_tx, inbox),
            ended,
        })?;
        Ok((
            Self { health, requests, ended: Mutex::new(Some(end)) },
            SourceReceivers { events, records },
        ))
    }

    /// Returns its present status.
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
        self.requests.send(RouteRequest::Commit(positions));
    }

    /// Lets commits of a partition that come after this go below those before, once: the log was
    /// truncated, or is another one ([`SourceEvent::Reset`]). To be called when the route's own
    /// position is set back, so that no commit of what was before comes after it.
    pub fn allow_rewind(&self, assignment: Arc<Assignment>) {
        self.requests.send(RouteRequest::AllowRewind(assignment));
    }

    /// Begins a new generation of a partition: it is read again from `offset` on, and what was
    /// handed out of it before is to be thrown away by its generation. `known` is the number of the
    /// newest generation that the caller knows, by [`SourceEvent::Reset`] or by records. `None`,
    /// and nothing is done, if the source has begun another one meanwhile: that is to be received
    /// first, for the log may no longer have the offset.
    pub fn restart(
        &self,
        assignment: &Arc<Assignment>,
        known: u32,
        offset: i64,
    ) -> Option<Generation> {
        let (generation, request) = RouteRequest::restart(assignment, known, offset)?;
        self.requests.send(request);
        Some(generation)
    }

    /// Fetches a partition no more until it is restarted. It is held all the same, and what was
    /// handed out may still come.
    pub fn pause(&self, assignment: &Arc<Assignment>) {
        self.requests.send(RouteRequest::pause(assignment));
    }

    /// Commits the last positions, leaves the group (a static member keeps its place) and ends the
    /// threads. The receivers and all [`Fetched`] must be dropped before: they hold the client.
    pub async fn close(&self, last: Vec<(Arc<Assignment>, i64)>) {
        let Some(end) = self.ended.lock().take() else { return };
        self.requests.send(RouteRequest::Close(last));
        if timeout(CLOSE_TIMEOUT, end).await.is_err() {
            warn!("the Kafka client did not close in time");
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.requests.send(RouteRequest::Close(Vec::new()));
    }
}
