//! Subscribers: the session of a SUB or XSUB on a PUB socket, and the ring as its feed.

use std::sync::Arc;
use std::time::Instant;

use tracing::debug;

use super::shared::PubShared;
use crate::closed::Closed;
use crate::config::Limits;
use crate::gate::Access;
use crate::link::{Hub, Input, Parting, Session, Socket, Stage, Wire};
use crate::outbox::{self, Feed};
use crate::ration::Ration;
use crate::ring::{LOOKS, RingBatch, Subscribed};
use crate::subscriptions::{Change, PeerId};

/// Changes of subscriptions after which others get their turn.
const CHANGES: usize = 256;
/// Changes of subscriptions that a peer may make in a second once its burst is used up.
const PEER_CHANGES: u32 = 5000;
/// Time that a peer has to answer the end of a connection with its own, while the kernel gives it
/// what it still holds.
const PARTING: std::time::Duration = std::time::Duration::from_secs(30);

/// A connection that is owed what it has subscribed to.
#[derive(Debug)]
pub(super) struct Subscriber {
    shared: Arc<PubShared>,
    wire: Arc<Wire>,
    ration: Ration,
}

/// The ring, as it feeds one peer.
#[derive(Debug)]
pub(super) struct RingFeed<'a> {
    pub(super) shared: &'a PubShared,
    pub(super) id: PeerId,
}

impl Socket for Arc<PubShared> {
    type Session = Subscriber;

    fn hub(&self) -> &Hub {
        &self.hub
    }

    fn join(&self, wire: &Arc<Wire>, now: Instant) -> Subscriber {
        self.ring().join(wire.peer().id(), Arc::clone(wire));
        Subscriber {
            shared: Arc::clone(self),
            wire: Arc::clone(wire),
            ration: ration(&self.config.limits, now),
        }
    }
}

/// The changes that a peer may make to its subscriptions: all of them at once, twice, and some more
/// in each second.
fn ration(limits: &Limits, now: Instant) -> Ration {
    let burst = u32::try_from(limits.max_subscriptions.saturating_mul(2)).unwrap_or(u32::MAX);
    Ration::new(burst.max(PEER_CHANGES), PEER_CHANGES, now)
}

impl Session for Subscriber {
    const READ_BYTES: usize = 8 * 1024;
    const READS: usize = 8;

    // A SUB has no messages for a PUB; libzmq drops them as well.

    fn handle_admitted(&mut self, access: &Arc<dyn Access>) {
        self.shared.change(|ring| ring.give_rights(self.wire.peer().id(), Arc::clone(access)));
    }

    /// Changes the peer's subscriptions: all that came in one read with one hold of the ring, or in
    /// parts if they are many.
    fn handle_changes(&mut self, changes: &[Change]) -> Result<(), Closed> {
        let (peer, max) = (self.wire.peer(), self.shared.config.limits.max_subscriptions);
        for change in changes {
            if let Change::Subscribe(prefix) = change {
                let (route, peer) = (&self.shared.hub.name, peer.address());
                debug!(route, peer, prefix = %prefix.escape_ascii(), "subscribed");
            }
        }
        for part in changes.chunks(LOOKS) {
            match self.shared.change(|ring| ring.apply(peer.id(), part, max)) {
                Subscribed::Counted => {}
                Subscribed::NoMemory => return Err(self.shared.hub.memory_exceeded()),
                Subscribed::TooMany => return Err(Closed::TooManySubscriptions(max)),
            }
        }
        Ok(())
    }

    fn handle_read(&mut self, bytes: usize, changes: usize, now: Instant) -> bool {
        let count = changes as u64;
        self.ration.take(bytes, count, &mut self.shared.changes.lock(), now);
        changes >= CHANGES || self.ration.waits_until(now).is_some()
    }

    fn poll_input(&mut self, _stage: Stage, ended: bool, now: Instant) -> Input {
        match self.ration.waits_until(now) {
            Some(until) if !ended => Input::Rationed(until),
            _ => Input::Open,
        }
    }

    fn feed(&mut self) -> impl Feed {
        RingFeed { shared: &self.shared, id: self.wire.peer().id() }
    }

    fn parting(&mut self, _stage: Stage) -> Parting {
        Parting::Farewell(Some(PARTING))
    }

    fn handle_closed(&mut self, reason: &Closed, now: Instant) {
        let peer = self.wire.peer();
        if reason.is_by_peer() {
            let message = self.shared.ring().half_written(peer.id());
            if let Some(message) = message {
                self.shared.note_refusal(peer, message, now);
            }
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.shared.change(|ring| ring.leave(self.wire.peer().id()));
    }
}

impl Feed for RingFeed<'_> {
    type Batch = RingBatch;

    fn next_batch(&mut self) -> Result<RingBatch, Closed> {
        let batch = self.shared.change(|ring| ring.gather(self.id));
        if batch.is_broken { Err(self.shared.hub.memory_exceeded()) } else { Ok(batch) }
    }

    fn advance(&mut self, batch: RingBatch, written: usize) -> bool {
        self.shared.change(|ring| ring.advance(self.id, &batch, written))
    }
}

impl outbox::Batch for RingBatch {
    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }

    fn has_more(&self) -> bool {
        self.more
    }

    fn half_written(&self) -> usize {
        Self::half_written(self)
    }

    fn slices(&self) -> impl Iterator<Item = &[u8]> {
        Self::slices(self)
    }
}
