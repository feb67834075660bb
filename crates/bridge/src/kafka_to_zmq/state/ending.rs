//! Gives partitions back, commits and ends.

use std::sync::Arc;
use std::time::Instant;

use tracing::{error, warn};

use super::{RouteState, STOPPED_DRAIN, Stage};
use crate::kafka_to_zmq::action::{Action, Positions};
use crate::kafka_to_zmq::broken::Broken;
use crate::kafka_to_zmq::partition::Records;
use crate::kafka_to_zmq::progress::Progress;
use crate::kafka_to_zmq::revoking::Revoked;
use crate::kafka_to_zmq::sink::Sink;

impl<S: Sink, F: Records> RouteState<S, F> {
    /// Takes nothing more: the peers have until `deadline` to take what is in the ring.
    pub fn handle_stop(&mut self, deadline: Instant) {
        if self.is_draining() {
            return;
        }
        let before = std::mem::replace(&mut self.stage, Stage::Draining(deadline));
        if let Stage::WaitingForRoom(pending, _) = before {
            pending.discard();
        }
        self.sink.flush();
    }

    /// Takes note that the peers have been written all that they are owed.
    pub fn handle_drained(&mut self, now: Instant) {
        if matches!(self.stage, Stage::Draining(_)) {
            self.close(now);
        }
    }

    /// Does the last things: what is revoked goes, and the rest is committed.
    pub(super) fn close(&mut self, now: Instant) {
        self.stage = Stage::Closed;
        for revoked in self.revoking.take_all() {
            self.release(revoked, now);
        }
        let held: Vec<_> = self.partitions.progress().cloned().collect();
        let positions = self.positions(&held, now);
        self.actions.push_back(Action::Stop(positions));
    }

    /// Withdraws the records that are still unsent, and gives the group the delivered position.
    pub(super) fn release(&mut self, revoked: Revoked, now: Instant) {
        let Revoked { partitions, done, .. } = revoked;
        for progress in &partitions {
            progress.withdraw(&mut self.sink);
        }
        let positions = self.positions(&partitions, now);
        self.actions.push_back(Action::Release { done, positions });
    }

    pub(super) fn commit(&mut self, now: Instant) {
        if self.config.source.group.is_none() {
            return;
        }
        let held: Vec<_> = self.partitions.progress().cloned().collect();
        let mut due = self.positions(&held, now);
        due.retain(|(assignment, delivered)| assignment.committed() != Some(*delivered));
        if !due.is_empty() {
            self.actions.push_back(Action::Commit(due));
        }
    }

    /// Returns what is to be committed. A partition of which a promise does not hold is left out,
    /// and ends the route.
    pub(super) fn positions(&mut self, of: &[Arc<Progress>], now: Instant) -> Positions {
        let mut positions = Vec::with_capacity(of.len());
        for progress in of {
            match progress.to_commit() {
                Ok(position) => positions.push(position),
                Err(broken) => self.fail(&broken, now),
            }
        }
        positions
    }

    pub(super) fn fail(&mut self, broken: &Broken, now: Instant) {
        self.end(broken.to_string(), now);
    }

    /// Ends the route by itself, for a reason.
    pub(super) fn end(&mut self, reason: String, now: Instant) {
        error!(route = self.config.name, reason, "route stopped");
        *self.report.stopped.lock() = Some(reason);
        self.handle_stop(now + STOPPED_DRAIN);
    }

    /// Logs once that records are let go which no subscriber wants, though subscribers are waited
    /// for.
    pub(super) fn warn_of_unheard(&mut self) {
        if !self.told_of_unheard && self.config.socket.min_peers > 0 && self.sink.has_unheard() {
            self.told_of_unheard = true;
            warn!(
                route = self.config.name,
                "records that no subscriber wants count as delivered (records_unheard): routing \
                 frames differ within partitions, so that min_peers cannot wait for those who \
                 want each"
            );
        }
    }
}
