//! The interface between a link and its socket type.

use std::sync::Arc;
use std::time::Instant;

use zafka_zmtp::{Connection, Discarded, Messages};

use super::hub::{Hub, Stage};
use super::peer::Wire;
use crate::closed::Closed;
use crate::gate::Access;
use crate::outbox::Feed;
use crate::subscriptions::Change;

/// A socket of some type.
pub(crate) trait Socket: Clone + Send + Sync + 'static {
    type Session: Session;

    fn hub(&self) -> &Hub;

    /// Begins a session for a connection that is about to have its handshake.
    fn join(&self, wire: &Arc<Wire>, now: Instant) -> Self::Session;
}

/// The answer if a peer is to be read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Open,
    /// Read again at that time: it has asked for too much. Its silence still counts.
    Rationed(Instant),
    /// Read again after [`Session::input_changed`]: its silence does not count.
    Held,
}

/// The answer if our direction of a connection is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parting {
    Stay,
    /// The connection ends. The peer's end is waited for, at most that long if there is a limit:
    /// meanwhile the kernel gives the peer what it still holds.
    Farewell(Option<std::time::Duration>),
    /// The connection is ended at once.
    Now,
}

/// A socket type's side of one connection. Dropped when the connection ends.
pub(crate) trait Session: Send {
    /// Bytes read at a time, at most [`BLOCK_BYTES`](super::BLOCK_BYTES).
    const READ_BYTES: usize;
    /// Reads before others get their turn.
    const READS: usize;

    /// Takes a connection before its handshake, to subscribe to something.
    fn prepare(&self, _connection: &mut Connection) {}

    /// Takes what the peer may do, before anything else that it says.
    fn handle_admitted(&mut self, _access: &Arc<dyn Access>) {}

    /// Takes the changes of subscriptions that one read held.
    ///
    /// # Errors
    /// The reason to close the connection.
    fn handle_changes(&mut self, _changes: &[Change]) -> Result<(), Closed> {
        Ok(())
    }

    /// Takes messages that came together, if [`Connection::gather`] was asked for.
    fn handle_messages(&mut self, _messages: Messages) {}

    /// Takes note of a message that was thrown away as it came, if that was asked for before the
    /// handshake.
    fn handle_too_large(&mut self, _discarded: Discarded) {}

    /// Counts one read of so many bytes that held so many changes of subscriptions. Returns whether
    /// others should get their turn.
    fn handle_read(&mut self, _bytes: usize, _changes: usize, _now: Instant) -> bool {
        false
    }

    /// Decides whether the peer is to be read. `ended`: our direction was ended.
    fn poll_input(&mut self, stage: Stage, ended: bool, now: Instant) -> Input;

    /// Takes note of whether the peer is read.
    fn note_read(&mut self, _is_read: bool, _stage: Stage) {}

    /// Waits until a held peer may be read again. To be dropped at any time.
    fn input_changed(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Returns an error unless the peer may stay, also if it takes nothing.
    ///
    /// # Errors
    /// The reason to close the connection.
    fn check(&self) -> Result<(), Closed> {
        Ok(())
    }

    /// Returns the messages to be written to the peer.
    fn feed(&mut self) -> impl Feed;

    /// Bytes that the session holds on behalf of the peer.
    fn held_bytes(&self) -> usize {
        0
    }

    /// Decides whether our direction is to be ended.
    fn parting(&mut self, stage: Stage) -> Parting;

    /// Decides the same once the peer's access has ended. It gets nothing more, as a rule.
    fn parting_at_end(&mut self) -> Parting {
        Parting::Now
    }

    /// Takes note of why the connection ends.
    fn handle_closed(&mut self, _reason: &Closed, _now: Instant) {}
}
