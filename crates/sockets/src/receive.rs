//! PULL and SUB: messages are taken in, nothing is answered.

use std::sync::Arc;
use std::time::Instant;

use zafka_zmtp::{Connection, Discarded, Messages};

use crate::closed::Closed;
use crate::intake::{Content, InboundKind, Intake, Shared};
use crate::link::{BLOCK_BYTES, Hub, Input, Parting, Session, Socket, Stage, Wire};
use crate::outbox::{Feed, NoFeed};

/// A PULL or SUB socket.
#[derive(Clone, Debug)]
pub(crate) struct Receive(pub(crate) Arc<Shared>);

/// One of its connections.
pub(crate) struct Receiver(Intake);

impl Socket for Receive {
    type Session = Receiver;

    fn hub(&self) -> &Hub {
        &self.0.hub
    }

    fn join(&self, wire: &Arc<Wire>, _now: Instant) -> Receiver {
        Receiver(Intake::new(&self.0, wire.peer()))
    }
}

impl Session for Receiver {
    const READ_BYTES: usize = BLOCK_BYTES;
    const READS: usize = 2;

    fn prepare(&self, connection: &mut Connection) {
        self.0.prepare(connection);
        if let InboundKind::Sub(prefixes) = &self.0.shared().config.kind {
            for prefix in prefixes {
                connection.subscribe(prefix);
            }
        }
    }

    fn handle_messages(&mut self, messages: Messages) {
        self.0.push(Content::Messages(messages));
    }

    fn handle_too_large(&mut self, discarded: Discarded) {
        self.0.push(Content::TooLarge(discarded));
    }

    /// Takes messages also at the end: those that a sender still has under way.
    fn poll_input(&mut self, _stage: Stage, _ended: bool, _now: Instant) -> Input {
        if self.0.hand_over() { Input::Held } else { Input::Open }
    }

    fn note_read(&mut self, is_read: bool, _stage: Stage) {
        self.0.sender().set_held(!is_read);
    }

    async fn input_changed(&mut self) {
        self.0.permitted().await;
    }

    fn feed(&mut self) -> impl Feed {
        NoFeed
    }

    fn held_bytes(&self) -> usize {
        self.0.waiting_bytes()
    }

    /// Takes what came before the mistake that ends it.
    fn handle_closed(&mut self, _reason: &Closed, _now: Instant) {
        self.0.hand_over_rest();
    }

    /// The sender closes in turn; what its kernel still holds comes before that. How long that is
    /// waited for is the socket's matter.
    fn parting(&mut self, stage: Stage) -> Parting {
        match stage {
            Stage::Open => Parting::Stay,
            Stage::Finishing => Parting::Farewell(None),
            Stage::Closing => Parting::Now,
        }
    }
}
