//! The socket of a route from ZeroMQ: PULL, SUB or ROUTER.
//!
//! While there is no memory for a sender's next message it is not read, so that its own high-water
//! mark does its work.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use zafka_zmtp::Messages;

use crate::Endpoint;
use crate::gate::Gate;
use crate::intake::{
    Content, Grant, Inbound, InboundConfig, InboundKind, Permit, SenderSnapshot, Shared,
};
use crate::link::{BindError, Endpoints, Stage};
use crate::receive::Receive;
use crate::router::Router;

/// A socket with its listeners, connectors and senders.
#[derive(Debug)]
pub struct InboundSocket {
    shared: Arc<Shared>,
    endpoints: Vec<Endpoint>,
    tasks: Mutex<JoinSet<()>>,
}

/// Counts and memory of a socket at one moment.
#[derive(Clone, Debug)]
pub struct InboundSnapshot {
    /// Connections that became senders since the start.
    pub accepted: u64,
    /// Connections that ended or were refused since the start, by reason.
    pub closed: Vec<(&'static str, u64)>,
    /// Bytes of `in_flight_bytes` that are taken.
    pub bytes_in_flight: usize,
    /// Bytes that senders make the socket hold besides (`peer_memory`).
    pub peer_bytes: usize,
    /// Senders that are not read: their next message waits for memory, or they are on hold.
    pub senders_held: usize,
    /// The senders whose handshake is done.
    pub senders: Vec<SenderSnapshot>,
}

impl InboundSocket {
    /// Binds every `bind` endpoint and begins to connect to every `connect` endpoint. `name` is for
    /// the logs. The channel is bounded by `in_flight_bytes`.
    ///
    /// # Errors
    /// The first endpoint that cannot be bound; those bound before it are let go.
    pub async fn start(
        name: &str,
        config: InboundConfig,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Inbound>), BindError> {
        Self::start_with_gate(name, config, None).await
    }

    /// The same; a gate admits peers and decides what each sender may write.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with_gate(
        name: &str,
        config: InboundConfig,
        gate: Option<Arc<dyn Gate>>,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Inbound>), BindError> {
        let endpoints = Endpoints::bind(&config.bind, config.ipc_mode, &config.connect).await?;
        let (messages, received) = mpsc::unbounded_channel();
        let shared = Shared::new(name, config, messages, gate);
        let serving = match shared.config.kind {
            InboundKind::Pull | InboundKind::Sub(_) => {
                endpoints.serve(&Receive(Arc::clone(&shared)))
            }
            InboundKind::Router => endpoints.serve(&Router(Arc::clone(&shared))),
        };
        let (endpoints, tasks) = (serving.endpoints, Mutex::new(serving.tasks));
        Ok((Self { shared, endpoints, tasks }, received))
    }

    /// The endpoints it is bound to, wildcards resolved, and those it connects to.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Reads the socket's counts and senders now.
    pub fn snapshot(&self) -> InboundSnapshot {
        let senders = self.shared.senders();
        InboundSnapshot {
            accepted: self.shared.hub.accepted(),
            closed: self.shared.hub.closed(),
            bytes_in_flight: self.shared.bytes_in_flight(),
            peer_bytes: self.shared.peer_bytes(),
            senders_held: senders.iter().filter(|sender| sender.held_since.is_some()).count(),
            senders,
        }
    }

    /// Returns the number of senders that are not read for lack of memory, and since when the first
    /// of them is, in ms since the epoch.
    pub fn held(&self) -> Option<(usize, i64)> {
        self.shared.held()
    }

    /// Takes back messages that were read to their end: their memory is read into again.
    pub fn give_back(&self, messages: Messages) {
        self.shared.hub.blocks.keep(messages.into_memory());
    }

    /// Gives back the part of `in_flight_bytes` of messages that are not taken for now, and counts
    /// what they hold as memory of messages that wait. Their sender is to be on hold.
    pub fn set_aside(&self, content: &Content, permit: &mut Permit) {
        self.shared.set_aside(permit, content.memory());
    }

    /// Waits for memory for messages that were set aside, of which `message_weight` says that much
    /// in all; in turn with the senders. There is no deadline: it is there once Kafka keeps up.
    pub fn room(&self, weight: usize) -> impl Future<Output = Grant> + Send + use<> {
        self.shared.room(weight)
    }

    /// Accepts nothing more. PULL and SUB end their own direction and read what senders still have
    /// under way, until each sender has ended its own or `deadline` has passed; ROUTER takes no
    /// further message. What was handed over before this returns is in the channel.
    pub async fn finish(&self, deadline: Instant) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
        self.shared.hub.enter(Stage::Finishing);
        if self.shared.config.kind != InboundKind::Router {
            let _ = timeout_at(deadline, self.shared.hub.none_left()).await;
        }
    }

    /// Writes the answers that are left within `grace`, then ends every connection.
    pub async fn close(&self, grace: Duration) {
        self.shared.hub.enter(Stage::Closing);
        let _ = timeout_at(Instant::now() + grace, self.shared.hub.none_left()).await;
    }
}

impl Drop for InboundSocket {
    fn drop(&mut self) {
        self.shared.hub.enter(Stage::Closing);
    }
}
