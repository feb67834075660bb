//! Subscriptions of our side, in the form that the peer's version has.

use bytes::Bytes;

use super::{Connection, State};
use crate::frame::{self, Position};
use crate::{Minor, command};

/// A change of our subscriptions.
#[derive(Clone, Copy, Debug)]
pub(super) enum Interest {
    Subscribe,
    Cancel,
}

impl Connection {
    /// Subscribes to a prefix, in the form that the peer's version has; before the handshake is
    /// done it waits for that. Does nothing unless our side is SUB or XSUB.
    pub fn subscribe(&mut self, prefix: &[u8]) {
        self.announce(Interest::Subscribe, prefix);
    }

    /// Cancels one subscription to a prefix, as `subscribe` does.
    pub fn cancel(&mut self, prefix: &[u8]) {
        self.announce(Interest::Cancel, prefix);
    }

    fn announce(&mut self, interest: Interest, prefix: &[u8]) {
        if !self.config.socket_type.subscribes() {
            return;
        }
        match self.state {
            State::Ready(minor) => put_interest(&mut self.output, minor, interest, prefix),
            State::Failed(_) => {}
            _ => self.pending.push((interest, Bytes::copy_from_slice(prefix))),
        }
    }
}

pub(super) fn put_interest(out: &mut Vec<u8>, minor: Minor, interest: Interest, prefix: &[u8]) {
    let (name, first) = match interest {
        Interest::Subscribe => ("SUBSCRIBE", 1),
        Interest::Cancel => ("CANCEL", 0),
    };
    match minor {
        Minor::One => command::put(out, name, &[prefix]),
        Minor::Zero => {
            frame::put_header(out, Position::Last, 1 + prefix.len());
            out.push(first);
            out.extend_from_slice(prefix);
        }
    }
}
