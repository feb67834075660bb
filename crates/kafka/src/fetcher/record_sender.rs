//! The way out of a fetcher. Backpressure begins here.

use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::fetcher::Fetched;
use crate::health::SourceHealth;

/// Hands records to the route, and notes in the health while the route takes none.
#[derive(Clone, Debug)]
pub(crate) struct RecordSender {
    records: mpsc::Sender<Fetched>,
    health: Arc<SourceHealth>,
}

/// The outcome of an attempt to send records.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(super) enum TrySend {
    Sent,
    /// No room.
    Full(Fetched),
    /// The channel is closed.
    Closed,
}

impl RecordSender {
    pub(crate) fn new(records: mpsc::Sender<Fetched>, health: Arc<SourceHealth>) -> Self {
        Self { records, health }
    }

    /// Hands out what is still wanted, if there is room.
    pub(super) fn try_send(&self, fetched: Fetched) -> TrySend {
        if !fetched.assignment.is_wanted() {
            return TrySend::Sent;
        }
        let (assignment, next_offset) = (Arc::clone(&fetched.assignment), fetched.next_offset);
        let generation = fetched.generation.number;
        match self.records.try_send(fetched) {
            Ok(()) => {
                assignment.reading().set_position(generation, next_offset);
                TrySend::Sent
            }
            Err(TrySendError::Full(fetched)) => TrySend::Full(fetched),
            Err(TrySendError::Closed(_)) => TrySend::Closed,
        }
    }

    /// Waits until the route has received all that was handed out, by all senders.
    pub(super) async fn wait_until_received(&self) {
        let _waiting = self.health.route_busy();
        // A closed channel is detected by the next send.
        let _ = self.records.reserve_many(self.records.max_capacity()).await;
    }

    /// Waits for room as long as the route likes: while the ring is full, Kafka is the buffer.
    /// `None` if the channel is closed.
    pub(super) async fn reserve(&self) -> Option<SendPermit<'_>> {
        if let Ok(permit) = self.records.try_reserve() {
            return Some(SendPermit(permit));
        }
        let _waiting = self.health.route_busy();
        self.records.reserve().await.ok().map(SendPermit)
    }

    /// Hands out what is still wanted, once there is room.
    pub(super) async fn send(&self, fetched: Fetched) -> ControlFlow<()> {
        let Some(permit) = self.reserve().await else { return ControlFlow::Break(()) };
        permit.send(fetched);
        ControlFlow::Continue(())
    }
}

/// Room for one that is handed out.
pub(super) struct SendPermit<'a>(mpsc::Permit<'a, Fetched>);

impl SendPermit<'_> {
    /// Hands out what is still wanted.
    pub(super) fn send(self, fetched: Fetched) {
        if fetched.assignment.is_wanted() {
            fetched
                .assignment
                .reading()
                .set_position(fetched.generation.number, fetched.next_offset);
            self.0.send(fetched);
        }
    }
}
