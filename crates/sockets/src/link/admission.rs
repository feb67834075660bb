//! Lets peers in: the gate's verdict, a place among the peers, and the end of a connection whose
//! peer was not let in.

use std::time::{Duration, Instant};

use tracing::warn;
use zafka_zmtp::PeerInfo;

use super::seats::Seat;
use super::{Link, Session};
use crate::closed::Closed;
use crate::gate::{Access, Presented, Verdict};

/// Time that a peer which may be let in later is kept waiting, at the least and at the most: it
/// would be back ten times a second otherwise.
const PUT_OFF: std::ops::Range<u64> = 1000..2000;
/// Time that a refused peer has to receive the refusal, in ms: if its connection is closed before,
/// it may not, and try again for ever.
const REFUSED: u64 = 1000;
/// The reason after which libzmq does not try again (RFC 27, status code 400).
const REFUSAL: &str = "400";

/// A connection that is kept for a while without a word, and then ends.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) until: Instant,
    pub(super) reason: Closed,
    /// Its place among those that are kept so; none of one that we made.
    _place: Option<Seat>,
}

impl<S: Session> Link<'_, S> {
    pub(super) fn on_ready(&mut self, info: &PeerInfo, now: Instant) -> Result<(), Closed> {
        let peer = self.wire.peer();
        if info.token.is_some() && info.key.is_none() {
            if self.wire.stream().process().is_none() {
                self.connection.refuse(REFUSAL);
                return self.end_told(Closed::TokenInClear, now);
            }
            let (route, peer) = (&self.hub.name, peer.address());
            warn!(route, peer, "a token on an ipc endpoint is not looked at");
        }
        if peer.standing().access().is_none() && !self.ask_gate(info, now)? {
            return Ok(());
        }
        self.become_peer(info)?;
        self.handshake = None;
        if let Some(access) = peer.standing().access() {
            self.session.handle_admitted(access);
        }
        let mut outbox = self.wire.outbox();
        // The end of the handshake goes out as it is; what follows is boxed.
        while let Some(output) = self.connection.poll_output() {
            outbox.queue(&output);
        }
        if let Some(sealer) = self.connection.take_sealer() {
            outbox.seal_with(sealer);
        }
        drop(outbox);
        self.hub.count_ready(peer, info, now);
        peer.set_routing_id(info.identity.clone());
        peer.set_socket_type(info.socket_type);
        Ok(())
    }

    /// Decides on a client that has proven its key.
    pub(super) fn authenticate(&mut self, info: &PeerInfo, now: Instant) -> Result<(), Closed> {
        if !self.ask_gate(info, now)? {
            return Ok(());
        }
        self.become_peer(info)?;
        let access = self.wire.peer().standing().access();
        let properties = access.map(|access| access.properties()).unwrap_or_default();
        let properties: Vec<_> = properties.iter().map(|(name, value)| (*name, &**value)).collect();
        self.connection.admit(&properties, now);
        Ok(())
    }

    /// Asks the gate, if there is one. Returns whether the peer is let in; if not, the connection
    /// is about to end.
    fn ask_gate(&mut self, info: &PeerInfo, now: Instant) -> Result<bool, Closed> {
        let Some(gate) = &self.hub.gate else { return Ok(true) };
        let (peer, places) = (self.wire.peer(), &self.hub.places);
        let process = self.wire.stream().process();
        let (route, address) = (&*self.hub.name, peer.address());
        let mut place = None;
        let mut take_place =
            |access: &dyn Access| place.insert(places.take(info.key, access.bounded_as())).is_ok();
        let presented = Presented { route, address, peer: info, process };
        match gate.admit(&presented, &mut take_place) {
            Verdict::Admitted(access) => {
                // First: then it is notified that it is let in.
                self.peer_place = place.and_then(Result::ok);
                peer.set_access(access);
                return Ok(true);
            }
            Verdict::NoPlace => match place {
                Some(Err(reason @ (Closed::KeyLimit(_) | Closed::SubjectLimit(_)))) => {
                    self.end_later(rand::random_range(PUT_OFF), reason, now)?;
                }
                Some(Err(reason)) => return Err(reason),
                _ => return Err(Closed::PeerLimit(self.hub.config.max_peers)),
            },
            Verdict::Later(reason) => {
                self.end_later(rand::random_range(PUT_OFF), Closed::PutOff(reason), now)?;
            }
            Verdict::Refused(_) => {
                let refused = self.connection.refuse(REFUSAL);
                self.end_told(refused.into(), now)?;
            }
        }
        Ok(false)
    }

    /// Takes a place among the peers, unless it has one.
    fn become_peer(&mut self, info: &PeerInfo) -> Result<(), Closed> {
        if self.peer_place.is_none() {
            self.peer_place = Some(self.hub.places.take(info.key, None)?);
        }
        Ok(())
    }

    /// Ends a connection after the refusal that was sent to its peer, so that it arrives.
    fn end_told(&mut self, reason: Closed, now: Instant) -> Result<(), Closed> {
        self.flush(now)?;
        if self.wire.stream().shutdown_write().is_err() {
            return Err(reason);
        }
        self.end_later(REFUSED, reason, now)
    }

    /// Keeps a connection that was not let in for so many ms, and closes it then; at once if too
    /// many are kept.
    fn end_later(&mut self, wait: u64, reason: Closed, now: Instant) -> Result<(), Closed> {
        // Its place is for another one's handshake from now on.
        let source = self.handshake.take().and_then(|handshake| handshake.source());
        let place = match source {
            None => None,
            Some(source) => match self.hub.endings.try_take(source) {
                Some(place) => Some(place),
                None => return Err(reason),
            },
        };
        let until = now + Duration::from_millis(wait);
        self.ending = Some(Ending { until, reason, _place: place });
        Ok(())
    }
}
