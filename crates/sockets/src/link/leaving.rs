//! Closes peers whose access has ended: at once, or once they have their last answers.

use std::time::{Duration, Instant};

use super::{Farewell, Link, Parting, Session};
use crate::closed::Closed;

/// Time for the answers to what a peer had sent before its access ended. What it sends later is not
/// read.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

impl<S: Session> Link<'_, S> {
    /// Does what the end of the peer's access asks for.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub(super) fn follow_access(&mut self, now: Instant) -> Result<(), Closed> {
        let has_ended = self.wire.peer().standing().has_ended();
        if !has_ended || zafka_planted::is("ended-access-goes-on") {
            return Ok(());
        }
        let is_first = self.access_ended.is_none();
        let until = *self.access_ended.get_or_insert(now + LAST_ANSWERS);
        if now >= until {
            return Err(Closed::AccessEnded);
        }
        match self.session.parting_at_end() {
            Parting::Now => Err(Closed::AccessEnded),
            // Nothing is owed to it.
            Parting::Farewell(_) if is_first => Err(Closed::AccessEnded),
            Parting::Farewell(_) if self.farewell.is_none() => {
                // It may not have read its last answers yet, which an end of both directions could
                // throw away.
                self.farewell = Some(Farewell { until: Some(until) });
                let ended = self.wire.stream().shutdown_write();
                ended.map_err(|_| Closed::AccessEnded)
            }
            Parting::Farewell(_) | Parting::Stay => Ok(()),
        }
    }

    /// Returns true while the peer gets its last answers.
    pub(super) fn is_leaving(&self) -> bool {
        self.access_ended.is_some() && self.farewell.is_none()
    }

    /// The reason of the connection's end, where `reason` is what came last.
    pub(super) fn end_reason(&self, reason: Closed) -> Closed {
        if self.access_ended.is_some() { Closed::AccessEnded } else { reason }
    }
}
