//! The way out of a fetcher, where backpressure meets it.

use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::fetcher::Fetched;
use crate::status::Board;

/// Hands records to the route, and tells the board while the route takes none.
#[derive(Clone, Debug)]
pub(crate) struct Outlet {
    records: mpsc::Sender<Fetched>,
    board: Arc<Board>,
}

/// What became of records.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(super) enum Handed {
    Out,
    /// There is no room.
    Full(Fetched),
    /// Nobody receives any more.
    Closed,
}

impl Outlet {
    pub(crate) fn new(records: mpsc::Sender<Fetched>, board: Arc<Board>) -> Self {
        Self { records, board }
    }

    /// Hands out what is still wanted, if there is room.
    pub(super) fn try_hand_out(&self, fetched: Fetched) -> Handed {
        if !fetched.assignment.is_wanted() {
            return Handed::Out;
        }
        let (assignment, next_offset) = (Arc::clone(&fetched.assignment), fetched.next_offset);
        let generation = fetched.generation.number;
        match self.records.try_send(fetched) {
            Ok(()) => {
                assignment.reading().set_position(generation, next_offset);
                Handed::Out
            }
            Err(TrySendError::Full(fetched)) => Handed::Full(fetched),
            Err(TrySendError::Closed(_)) => Handed::Closed,
        }
    }

    /// Waits until the route has taken all that was handed out, by whomever.
    pub(super) async fn taken(&self) {
        let _waiting = self.board.waiting();
        // Where nobody receives any more, the next one to be handed out tells.
        let _ = self.records.reserve_many(self.records.max_capacity()).await;
    }

    /// Waits for room as long as the route likes: while the ring is full, Kafka is the buffer. None
    /// where nobody receives any more.
    pub(super) async fn room(&self) -> Option<Room<'_>> {
        if let Ok(permit) = self.records.try_reserve() {
            return Some(Room(permit));
        }
        let _waiting = self.board.waiting();
        self.records.reserve().await.ok().map(Room)
    }

    /// Hands out what is still wanted, once there is room.
    pub(super) async fn hand_out(&self, fetched: Fetched) -> ControlFlow<()> {
        let Some(room) = self.room().await else { return ControlFlow::Break(()) };
        room.hand_out(fetched);
        ControlFlow::Continue(())
    }
}

/// Room for one that is handed out.
pub(super) struct Room<'a>(mpsc::Permit<'a, Fetched>);

impl Room<'_> {
    /// Hands out what is still wanted.
    pub(super) fn hand_out(self, fetched: Fetched) {
        if fetched.assignment.is_wanted() {
            fetched
                .assignment
                .reading()
                .set_position(fetched.generation.number, fetched.next_offset);
            self.0.send(fetched);
        }
    }
}
