//! The PUB socket of a route, as its state sees it.

use std::sync::Arc;

use zafka_sockets::{Chunk, Demand, Label, Origin, Publisher};

use super::shared::RouteShared;
use super::sink::Sink;

/// The publisher and its socket.
#[derive(Debug)]
pub(super) struct PubSink {
    pub(super) publisher: Publisher,
    pub(super) shared: Arc<RouteShared>,
}

impl Sink for PubSink {
    fn admits(&self, size: usize) -> bool {
        self.publisher.admits(size)
    }

    fn add(&mut self, chunk: Chunk) {
        self.publisher.add(chunk);
    }

    fn flush(&mut self) {
        self.publisher.flush();
    }

    fn withdraw(&mut self, origin: &Arc<Origin>) {
        self.shared.socket.withdraw(origin);
    }

    fn label(&mut self, topic: &str) -> Option<Label> {
        Some(self.shared.socket.label(topic))
    }

    fn demand(&mut self, frame: Option<Vec<u8>>, label: Option<&Label>) -> Arc<Demand> {
        self.shared.socket.demand(frame, label)
    }

    fn has_unheard(&self) -> bool {
        self.shared.socket.has_unheard()
    }
}
