//! ROUTER: messages are taken in, and each sender gets answers in a bounded queue of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zafka_zmtp::{Connection, Discarded, Messages};

use crate::closed::Closed;
use crate::intake::{Content, Intake, Shared};
use crate::link::{BLOCK_BYTES, Hub, Input, Parting, Session, Socket, Stage, Wire};
use crate::outbox::{Batch, Feed, QueueFeed, Taken};

/// Time for a sender to end its direction after ours; meanwhile it can read its last answers.
const PARTING: Duration = Duration::from_secs(1);

/// A ROUTER socket.
#[derive(Clone, Debug)]
pub(crate) struct Router(pub(crate) Arc<Shared>);

/// One of its connections.
pub(crate) struct Correspondent {
    intake: Intake,
    /// Answers that are being written.
    taken: Taken,
    /// True if our direction has ended: nothing more is taken.
    is_done: bool,
}

impl Socket for Router {
    type Session = Correspondent;

    fn hub(&self) -> &Hub {
        &self.0.hub
    }

    fn join(&self, wire: &Arc<Wire>, _now: Instant) -> Correspondent {
        let intake = Intake::new(&self.0, wire.peer());
        Correspondent { intake, taken: Taken::default(), is_done: false }
    }
}

impl Correspondent {
    fn push(&mut self, content: Content) {
        if !self.is_done {
            self.intake.push(content);
        }
    }
}

impl Session for Correspondent {
    const READ_BYTES: usize = BLOCK_BYTES;
    const READS: usize = 2;

    fn prepare(&self, connection: &mut Connection) {
        self.intake.prepare(connection);
    }

    fn handle_messages(&mut self, messages: Messages) {
        self.push(Content::Messages(messages));
    }

    fn handle_too_large(&mut self, discarded: Discarded) {
        self.push(Content::TooLarge(discarded));
    }

    /// Takes no message from the first stage of its end on: it could not answer.
    fn poll_input(&mut self, stage: Stage, ended: bool, now: Instant) -> Input {
        if ended {
            // The sender's own end is waited for.
            self.is_done = true;
            return Input::Open;
        }
        let takes = stage == Stage::Open;
        if takes && let Some(until) = self.intake.sender().answers().poll_unread(now) {
            self.intake.let_others_first();
            return Input::Rationed(until);
        }
        if takes && !self.intake.hand_over() { Input::Open } else { Input::Held }
    }

    fn note_read(&mut self, is_read: bool, stage: Stage) {
        self.intake.sender().set_held(!is_read && stage == Stage::Open);
    }

    async fn input_changed(&mut self) {
        self.intake.permitted().await;
    }

    fn check(&self) -> Result<(), Closed> {
        self.intake.sender().answers().check()
    }

    fn feed(&mut self) -> impl Feed {
        QueueFeed { queue: self.intake.sender().answers(), taken: &mut self.taken }
    }

    fn held_bytes(&self) -> usize {
        self.intake.waiting_bytes()
    }

    /// Takes what came before the mistake that ends it.
    fn handle_closed(&mut self, _reason: &Closed, _now: Instant) {
        self.intake.hand_over_rest();
    }

    fn parting(&mut self, stage: Stage) -> Parting {
        if stage != Stage::Open {
            self.intake.hand_over_late();
        }
        let is_answered = || self.taken.is_empty() && self.intake.sender().is_answered();
        if stage == Stage::Closing && is_answered() {
            Parting::Farewell(Some(PARTING))
        } else {
            Parting::Stay
        }
    }

    /// Answers first, to messages that it had sent.
    fn parting_at_end(&mut self) -> Parting {
        self.parting(Stage::Closing)
    }
}
